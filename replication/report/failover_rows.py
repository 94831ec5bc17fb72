"""The rows of failovers: steps, predictions, outages, counts, split brains."""

from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter

from replication.analysis.findings import Failover, SideFindings
from replication.report import formats
from replication.report.model import Cell, Row

Sides = Mapping[str, SideFindings]
LONGER = ("longer", "shorter")
MANY = ("more", "fewer")


def rows(sides: Sides) -> list[Row]:
    """Return the rows of every fault, in order of their numbers, then those of split brains."""
    return [*_failover_rows(sides), *_split_brain_rows(sides)]


def _failover_rows(sides: Sides) -> list[Row]:
    numbers: list[int] = []
    for side in sides.values():
        numbers.extend(each.fault for each in side.failovers if each.fault not in numbers)
    return [row for number in sorted(numbers) for row in _rows_of_fault(sides, number)]


def _rows_of_fault(sides: Sides, number: int) -> Iterable[Row]:
    found = {
        name: failover
        for name, side in sides.items()
        for failover in side.failovers
        if failover.fault == number
    }
    prefix = "" if all(len(side.failovers) < 2 for side in sides.values()) else f"fault {number}: "
    yield Row(
        _capital(f"{prefix}what was done"),
        {name: Cell(_fault_words(each)) for name, each in found.items()},
    )
    yield from _step_rows(found, prefix)
    yield from _predicted_rows(found, prefix)
    yield _of_failover(f"{prefix}write outage", found, lambda each: each.write_outage_ns)
    yield _of_failover(f"{prefix}read outage", found, lambda each: each.read_outage_ns)
    for label, field in _FAILOVER_COUNTS:
        yield _of_failover(prefix + label, found, attrgetter(field), whole, MANY, headline=False)
    yield from _return_rows(found, prefix)


_FAILOVER_COUNTS = (
    ("operations failed", "failed"),
    ("operations unknown", "unknown"),
    ("operations redirected", "redirected"),
    ("elections", "elections"),
    ("terms burnt", "terms"),
    ("split votes", "split_votes"),
    ("rounds of pre-votes", "pre_votes"),
)


def _return_rows(found: Mapping[str, Failover], prefix: str) -> Iterable[Row]:
    """Yield what became of the leader that the fault found: when it followed, what it dropped."""
    led = {name: failover for name, failover in found.items() if failover.old_leader is not None}
    if not led:
        return
    back = attrgetter("old_leader_returned_after_ns")
    yield _of_failover(f"{prefix}old leader back as a follower", led, back)
    dropped = any(each.truncated_entries for each in led.values())
    for label, field in (
        ("log entries dropped by the old leader", "truncated_entries"),
        ("of them acknowledged to a client", "truncated_acknowledged"),
    ):
        yield _of_failover(prefix + label, led, attrgetter(field), whole, MANY, headline=dropped)


def _predicted_rows(found: Mapping[str, Failover], prefix: str) -> Iterable[Row]:
    expected = {
        name: failover.prediction
        for name, failover in found.items()
        if failover.prediction is not None
    }
    if expected:
        yield Row(
            _capital(f"{prefix}predicted detection"),
            {
                name: Cell(
                    f"{formats.duration_ns(each.detected_ns)} "
                    f"({formats.duration_ns(each.detected_low_ns)} to "
                    f"{formats.duration_ns(each.detected_high_ns)})"
                )
                for name, each in expected.items()
            },
        )
        elected = {name: each.elected_ns for name, each in expected.items()}
        if any(each is not None for each in elected.values()):
            yield Row(
                _capital(f"{prefix}predicted election"),
                {name: Cell(formats.duration_ns(each)) for name, each in elected.items()},
                headline=False,
            )


def _split_brain_rows(sides: Sides) -> Iterable[Row]:
    if not any(side.split_brains for side in sides.values()):
        return
    for label, measure in (
        ("Writes acknowledged by an old leader beside the new one", "old_writes"),
        ("Acknowledged writes lost in a split brain", "lost_count"),
    ):
        yield Row(
            label,
            {
                name: Cell(formats.count(sum(getattr(each, measure) for each in side.split_brains)))
                for name, side in sides.items()
                if side.family == "leader"
            },
        )


def _fault_words(failover: Failover) -> str:
    words = formats.sentence(failover.words)
    if failover.took_the_majority:
        return f"{words}; no majority was left"
    return f"{words}; the leader was left alone" if failover.left_the_leader_alone else words


def _step_rows(found: Mapping[str, Failover], prefix: str) -> Iterable[Row]:
    names: list[str] = []
    for failover in found.values():
        names.extend(step.name for step in failover.steps if step.name not in names)
    for step_name in names:
        yield _of_failover(prefix + formats.sentence(step_name), found, _after_fault(step_name))


def _after_fault(step_name: str) -> Callable[[Failover], float | None]:
    def measure(failover: Failover) -> float | None:
        steps = (step.after_fault_ns for step in failover.steps if step.name == step_name)
        return next(steps, None)

    return measure


def _of_failover(
    label: str,
    found: Mapping[str, Failover],
    measure: Callable[[Failover], float | None],
    form: Callable[[float | None], str] = formats.duration_ns,
    words: tuple[str, str] = LONGER,
    headline: bool = True,
) -> Row:
    values = {name: measure(failover) for name, failover in found.items()}
    return Row(
        label=_capital(label),
        cells={name: Cell(form(value)) for name, value in values.items()},
        note=note(list(values.values()), words),
        headline=headline,
    )


def note(values: list[float | None], words: tuple[str, str] | None) -> str:
    """Return what the second value is next to the first, nothing unless there are two."""
    if words is None or len(values) != 2:
        return ""
    return formats.comparison(values[0], values[1], *words)


def whole(value: float | None) -> str:
    """Return a count."""
    return formats.count(None if value is None else round(value))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
