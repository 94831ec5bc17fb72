"""The measures of both sides, row by row: failover, availability, latency, conflicts, cost."""

from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter

from replication.analysis.findings import (
    Availability,
    ConvergenceReport,
    RunFindings,
    SideFindings,
)
from replication.analysis.gossip_findings import Gossip
from replication.analysis.meanwhile import Handoff, MemberChange
from replication.report import failover_rows, formats
from replication.report.failover_rows import LONGER, MANY, note, whole
from replication.report.leader_rows import election_rows, longest_rows, snapshot_rows
from replication.report.model import Cell, Row, Section

Sides = Mapping[str, SideFindings]


def sections(run: RunFindings) -> list[Section]:
    """Return the sections with measures, those without a row left out."""
    found = [
        Section(
            "failover",
            "Failover",
            [
                *failover_rows.rows(run.sides),
                *election_rows(run.sides),
                *snapshot_rows(run.sides),
            ],
            "Times count from the moment the fault was injected.",
        ),
        Section(
            "availability",
            "Availability and latency",
            [
                *_availability_rows(run.sides),
                *_latency_rows(run.sides),
                *_member_rows(run.sides),
            ],
            "Latency counts from the intended start, so waiting for a slow cluster is included.",
        ),
        Section(
            "conflicts",
            "Conflicts and convergence",
            [
                *_conflict_rows(run.sides),
                *_repair_rows(run.sides),
                *_staleness_rows(run.sides),
                *_convergence_rows(run.sides),
                *_gossip_rows(run.sides),
            ],
            "A vanished write was acknowledged, no later writer saw it, and nobody can read it.",
        ),
        Section("cost", "Cost", _cost_rows(run.sides), "Per acknowledged operation."),
    ]
    return [section for section in found if section.rows]


def _measured(
    label: str,
    sides: Sides,
    measure: Callable[[SideFindings], float | None],
    form: Callable[[float | None], str],
    words: tuple[str, str] | None = None,
    headline: bool = True,
) -> Row:
    """Return the row of one measure; ``words`` are "more" and "less" of it for the comparison."""
    values = {name: measure(side) for name, side in sides.items()}
    return Row(
        label=label,
        cells={name: Cell(form(value)) for name, value in values.items()},
        note=note(list(values.values()), words),
        headline=headline,
    )


_MORE = ("more", "less")


def _availability_rows(sides: Sides) -> Iterable[Row]:
    yield _measured(
        "Acknowledged operations",
        sides,
        lambda side: side.throughput_per_s if any(side.operations.values()) else None,
        formats.rate,
        _MORE,
    )
    for name in _groups(sides):
        yield Row(
            f"Acknowledged {formats.sentence(name)}",
            {
                side: Cell(formats.share(found.availability[name].ok_share))
                for side, found in sides.items()
                if name in found.availability
            },
        )
    for name in _groups(sides):
        yield _outage_row(name, sides)
    yield Row(
        "ok / fail / unknown",
        {
            name: Cell(
                " / ".join(
                    formats.count(side.operations.get(each, 0))
                    for each in ("ok", "fail", "unknown")
                )
            )
            for name, side in sides.items()
        },
    )


def _groups(sides: Sides) -> list[str]:
    names: list[str] = []
    for side in sides.values():
        names.extend(name for name in side.availability if name not in names)
    return names


def _outage_row(name: str, sides: Sides) -> Row:
    found = {
        side: (findings, findings.availability[name])
        for side, findings in sides.items()
        if name in findings.availability
    }
    return Row(
        label=f"Longest outage, {formats.sentence(name)}",
        cells={
            side: Cell(_outage(availability, findings.load_start_ns))
            for side, (findings, availability) in found.items()
        },
        note=note([each.longest_outage_ns for _, each in found.values()], LONGER),
        headline=name in ("reads", "writes"),
    )


def _outage(availability: Availability, origin_ns: int) -> str:
    if not availability.ok + availability.fail + availability.unknown:
        return formats.DASH  # nothing was asked, so nothing was out
    text = formats.duration_ns(availability.longest_outage_ns)
    if availability.outage_start_ns is None:
        return text
    return f"{text} from {formats.moment(availability.outage_start_ns, origin_ns)}"


def _latency_rows(sides: Sides) -> Iterable[Row]:
    for label, group in (("Read", "reads"), ("Write", "writes")):
        for words, field, headline in (
            ("p50", "p50_ms", True),
            ("p90", "p90_ms", False),
            ("p99", "p99_ms", True),
            ("p99.9", "p999_ms", False),
            ("maximum", "max_ms", False),
        ):
            yield _measured(
                f"{label} latency {words}",
                sides,
                attrgetter(f"{group}.{field}"),
                formats.duration_ms,
                LONGER,
                headline,
            )


def _conflict_rows(sides: Sides) -> Iterable[Row]:
    for label, field, headline in (
        ("Vanished writes", "vanished_count", True),
        ("Sibling sets made", "sibling_sets", True),
        ("Siblings left at the end", "siblings_at_end", True),
        ("Most siblings of one key", "sibling_count_max", False),
        ("Sibling sets resolved", "resolved", False),
        ("Pairs of concurrent writes", "pair_count", False),
        ("Concurrent acknowledged writes", "concurrent_writes", False),
        ("Versions dropped by timestamp", "dropped_by_timestamp", False),
        ("Failed writes that became visible", "failed_visible", False),
        ("Unknown writes that took effect", "unknown_visible", False),
        ("Read repairs", "read_repairs", False),
    ):
        yield _measured(
            label,
            sides,
            _of_conflicts(field),
            whole,
            MANY,
            headline,
        )


def _member_rows(sides: Sides) -> Iterable[Row]:
    changes = {name: side.member_changes for name, side in sides.items()}
    yield from longest_rows("Change of members that took longest", changes, _changed)


def _changed(each: MemberChange) -> str:
    moved = "" if each.keys is None else f", {formats.plural(each.keys, 'key')} moved"
    size = "" if each.bytes is None else f" ({formats.byte_count(each.bytes)})"
    return f"{each.words}: {formats.duration_ns(each.duration_ns)}{moved}{size}"


_REPAIRS = (
    ("Hints stored", "hints_stored"),
    ("Hints delivered", "hints_delivered"),
    ("Hints expired", "hints_expired"),
    ("Hints refused", "hints_refused"),
    ("Merkle ranges compared", "merkle_ranges_compared"),
    ("Merkle ranges that differed", "merkle_ranges_differing"),
    ("Keys brought up to date by Merkle trees", "merkle_keys_synced"),
)


def _repair_rows(sides: Sides) -> Iterable[Row]:
    for label, name in _REPAIRS:
        if any(name in side.conflicts.repairs for side in sides.values()):
            yield _measured(label, sides, _of_repairs(name), whole, MANY, headline=False)
    handoffs = {name: side.handoffs for name, side in sides.items()}
    yield from longest_rows("Hints brought to a node that came back", handoffs, _handed_off)


def _handed_off(each: Handoff) -> str:
    took = formats.duration_ns(each.duration_ns)
    refused = f", {formats.count(each.refused_count)} refused" if each.refused_count else ""
    return f"{formats.count(each.hints)} to {formats.value_text(each.node)} in {took}{refused}"


def _of_repairs(name: str) -> Callable[[SideFindings], float | None]:
    return lambda side: side.conflicts.repairs.get(name)


def _of_conflicts(field: str) -> Callable[[SideFindings], float | None]:
    """Return a measure of the conflict ledger; without operations nothing was there to conflict."""
    read = attrgetter(f"conflicts.{field}")
    return lambda side: read(side) if any(side.operations.values()) else None


def _staleness_rows(sides: Sides) -> Iterable[Row]:
    yield _measured("Stale reads", sides, attrgetter("staleness.share"), formats.share)
    for label, field in (
        ("Age of stale reads p50", "p50_age_ms"),
        ("Age of stale reads p99", "p99_age_ms"),
        ("Age of stale reads maximum", "max_age_ms"),
    ):
        measure = attrgetter(f"staleness.{field}")
        yield _measured(label, sides, measure, formats.duration_ms, LONGER, headline=False)
    delta = attrgetter("staleness.max_delta_ms")
    yield _measured(
        "Delta that the worst key needs", sides, delta, formats.duration_ms, headline=False
    )
    yield Row(
        label="k of the worst key, at least",
        cells={
            name: Cell(formats.count(side.staleness.k_at_least)) for name, side in sides.items()
        },
        headline=False,
    )


def _convergence_rows(sides: Sides) -> Iterable[Row]:
    cells = {name: Cell(_converged(side.convergence)) for name, side in sides.items()}
    after = [side.convergence.after_heal_ns for side in sides.values()]
    yield Row("Converged after healing", cells, note(list(after), LONGER))
    yield _measured(
        "Keys that differed when healed",
        sides,
        lambda side: side.convergence.differing_at_heal,
        whole,
        MANY,
        headline=False,
    )
    yield _measured(
        "Keys that differ at the end",
        sides,
        lambda side: len(side.convergence.differing_at_end) if side.convergence.keys else None,
        whole,
        MANY,
        headline=False,
    )


def _gossip_rows(sides: Sides) -> Iterable[Row]:
    cells = {
        name: Cell(_went_round(side.gossip))
        for name, side in sides.items()
        if side.gossip is not None
    }
    if cells:
        yield Row("Rounds of gossip until all knew", cells)


def _went_round(found: Gossip) -> str:
    return (
        f"{formats.number(found.rounds_mean)} on average, at most "
        f"{formats.count(found.rounds_worst)}; push-pull "
        f"{formats.number(found.push_pull_rounds)}, log2 N {formats.number(found.log2_nodes)}"
    )


def _converged(report: ConvergenceReport) -> str:
    if not report.keys:
        return formats.DASH
    if report.converged_ns is None:
        return "not while the run watched"
    return formats.duration_ns(report.after_heal_ns)


def _cost_rows(sides: Sides) -> list[Row]:
    return [
        _measured(
            "Messages between nodes",
            sides,
            lambda side: side.messages_per_operation,
            formats.number,
            MANY,
        ),
        _measured(
            "Bytes between nodes",
            sides,
            lambda side: side.bytes_per_operation,
            formats.byte_count,
            _MORE,
            headline=False,
        ),
        _measured(
            "CPU time of all nodes",
            sides,
            lambda side: (
                None if side.cpu_us_per_operation is None else side.cpu_us_per_operation * 1000
            ),
            formats.duration_ns,
            _MORE,
            headline=False,
        ),
        _measured("fdatasync p50", sides, lambda side: side.fdatasync_ms_p50, formats.duration_ms),
        _measured("fdatasync p99", sides, lambda side: side.fdatasync_ms_p99, formats.duration_ms),
    ]
