"""Witnesses of broken linearizability in words."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from replication.analysis import words
from replication.analysis.findings import Witness
from replication.analysis.registers import read_words, refused, version_read
from replication.analysis.search import Budget, Model, Step, Turn, first_inexplicable
from replication.analysis.view import View
from replication.analysis.why import reasons
from replication.history import Operation, OperationKind, Outcome

named = words.listed
_STORY_STEPS_MAX = 200_000
_UNDER_WAY_MAX = 4


@dataclass(slots=True)
class Value:
    """A value of a key and the operations that show it: its write and its reads."""

    write_id: str | None  # None: the key before anything was written
    operations: list[Operation]

    @property
    def first(self) -> Operation:
        """The operation that ended first: from then on the value is known to have been there."""
        ended = [each for each in self.operations if _acknowledged(each)]
        return min(ended, key=lambda each: (each.complete_ns or 0, each.index))

    @property
    def write(self) -> Operation | None:
        """The write, if it was acknowledged: it makes the simplest story."""
        return next(
            (each for each in self.operations if each.kind.is_write and _acknowledged(each)), None
        )

    @property
    def last(self) -> Operation:
        """The operation that began last: the value is known to have been there after that."""
        return max(self.operations, key=lambda each: (each.invoke_ns, each.index))


def _acknowledged(operation: Operation) -> bool:
    return operation.complete_ns is not None and operation.outcome is Outcome.OK


def back_and_forth(view: View, one: Value, other: Value) -> Witness:
    """Tell of two values that exclude each other: at most four operations.

    ``one`` is a forward zone. If both are, each was read after the other was there; then the one
    that was written first is the old one, and its last reader saw the past.
    """
    old, new = one, other
    assert new.write_id is not None, "the initial value is the oldest"
    if (
        old.write_id is not None
        and _ended_before(new.first, new.last)
        and view.writes[new.write_id].invoke_ns < view.writes[old.write_id].invoke_ns
    ):
        old, new = other, one
    bad = old.last
    proof = _ended_before(new.write, bad) or new.first
    shown = {each.index: each for each in (bad, proof)}
    assert new.write_id is not None, "the initial value is the oldest"
    text = (
        f"{read_words(view, bad)}, although {words.write(view, new.write_id)} had been "
        f"{words.effect(view, proof)}."
    )
    if old.write_id is not None:
        write = view.writes[new.write_id]
        later = write if _ended_before(old.first, write) else new.last
        earlier = _ended_before(old.write, later) or old.first
        shown |= {each.index: each for each in (earlier, later)}
        text += " " + _order_words(view, old.write_id, new.write_id, earlier, later)
    ordered = sorted(shown.values(), key=lambda each: (each.invoke_ns, each.index))
    text += reasons(view, bad, ordered)
    return Witness(text, bad.key, [each.index for each in ordered], bad.complete_ns)


def _ended_before(one: Operation | None, other: Operation) -> Operation | None:
    """Return ``one`` if it had ended when ``other`` began."""
    ended = one is not None and one.complete_ns is not None and one.complete_ns < other.invoke_ns
    return one if ended else None


def _order_words(view: View, old_id: str, new_id: str, earlier: Operation, later: Operation) -> str:
    """Say why ``new`` is the newer one: something showed ``old`` before ``later`` began."""
    begun = words.moment(view, later.invoke_ns)
    if later.kind is OperationKind.GET:
        return (
            f"But {old_id} had been {words.effect(view, earlier)}, before {later.client} began to "
            f"read {new_id} at {begun}: the key went from one to the other and back."
        )
    return (
        f"{new_id} is newer: {old_id} had been {words.effect(view, earlier)}, before "
        f"{later.client} began to write {new_id} at {begun}."
    )


def read_before_write(view: View, write: Operation, read: Operation) -> Witness:
    """Tell of a read that returned a value before anybody began to write it."""
    return Witness(
        f"{read_words(view, read)}, before {write.client} began to write it at "
        f"{words.moment(view, write.invoke_ns)}.",
        read.key,
        [read.index, write.index],
        read.complete_ns,
    )


def no_order(
    view: View,
    key: str,
    ordered: Sequence[Operation],
    steps: Sequence[Step],
    model: Model,
) -> Witness:
    """Tell where the search failed: the first completion that no order explains.

    See ``search.first_inexplicable``.
    """
    turn = first_inexplicable(steps, model, Budget(_STORY_STEPS_MAX))
    at_ns = turn.at_ns
    culprit = ordered[turn.steps[0]]
    under_way = [
        each
        for index, each in enumerate(ordered)
        if index != turn.steps[0]
        and each.invoke_ns <= at_ns
        and (steps[index].complete_ns or at_ns) >= culprit.invoke_ns
    ][:_UNDER_WAY_MAX]
    text = (
        f"{_told(view, culprit)}, and no order of the operations on {key} until then explains it."
        f"{_before(view, ordered, steps, model, turn)}"
    )
    if under_way:
        text += f" Under way meanwhile: {words.listed([_short(view, each) for each in under_way])}."
    shown = sorted([culprit, *under_way], key=lambda each: (each.invoke_ns, each.index))
    text += reasons(view, replace(culprit, complete_ns=at_ns), shown)
    return Witness(text, key, [each.index for each in shown], at_ns)


def _before(
    view: View, ordered: Sequence[Operation], steps: Sequence[Step], model: Model, turn: Turn
) -> str:
    """Say what the key held at the end of an order that explains everything before."""
    if turn.order is None or turn.before_ns is None:
        return ""
    writes = [ordered[placed] for placed in turn.order if model.changes(steps[placed].action)]
    held = "nothing" if not writes else words.write(view, writes[-1].write_id or "")
    return (
        f" Up to {words.moment(view, turn.before_ns)} there is such an order; it ends with {held}."
    )


def _told(view: View, operation: Operation) -> str:
    if operation.kind is OperationKind.GET:
        return read_words(view, operation)
    end = words.moment(view, operation.complete_ns or operation.invoke_ns)
    if refused(operation):
        return (
            f"{operation.client} was refused{words.served(operation)} at {end} to change "
            f"{operation.key} from {words.quoted(operation.expected)} to "
            f"{words.quoted(operation.value)}"
        )
    return f"{_short(view, operation)} was acknowledged{words.served(operation)} at {end}"


def _short(view: View, operation: Operation) -> str:
    if operation.kind is OperationKind.GET:
        seen = version_read(operation)
        return f"{operation.client}'s read of {'nothing' if seen is None else seen}"
    if operation.kind is OperationKind.COMPARE_AND_SET:
        return (
            f"{operation.write_id} (compare-and-set from {words.quoted(operation.expected)} to "
            f"{words.quoted(operation.value)})"
        )
    return words.write(view, operation.write_id or "")
