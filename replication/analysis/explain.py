"""A violation explained: what the history tells of its causes, and a picture of the operations."""

from collections.abc import Iterator, Sequence

from replication.analysis import event_words, words
from replication.analysis.findings import Verdict, Witness
from replication.analysis.pictures import WitnessBand, WitnessBar, WitnessPicture
from replication.analysis.registers import registers, version_read
from replication.analysis.roles import roles, window_end_ns
from replication.analysis.search import Budget, search
from replication.analysis.versions import steps_of
from replication.analysis.view import View
from replication.history import FaultRecord, NodeEvent, Operation, OperationKind, Outcome

BARS_MAX = 14
_CAUSES_MAX = 10
_EVENTS_MAX = 4
_ORDERED_MAX = 2_000  # operations of a key up to which points are looked for
_STEPS_MAX = 20_000
_WORDS_CHARACTERS_MAX = 24


def explain(view: View, witness: Witness) -> None:
    """Give ``witness`` its causes and its picture, as far as the history tells them."""
    shown = [view.by_index[each] for each in witness.operations if each in view.by_index]
    if shown:
        witness.causes = list(_causes(view, shown))[:_CAUSES_MAX]
        witness.picture = _picture(view, witness, shown)


def _causes(view: View, shown: Sequence[Operation]) -> Iterator[str]:
    """Yield sentences: who answered, what it had not heard, which faults and events lie between."""
    last = max(shown, key=lambda each: (each.complete_ns or each.invoke_ns, each.index))
    returned = {version.write_id for version in last.seen}
    start_ns = min(each.invoke_ns for each in shown)
    end_ns = last.invoke_ns if last.complete_ns is None else last.complete_ns
    yield from _who_answered(view, last)
    answered = _nodes(last)
    for write in shown:
        if write.kind.is_write and write is not last and write.write_id not in returned:
            yield from _not_among(view, write, answered)
    for fault in view.history.faults:
        yield from _fault(view, fault, _nodes(last, *shown), start_ns, end_ns)
    yield from _events(view, shown, start_ns)


def _nodes(*operations: Operation) -> list[str]:
    found: dict[str, None] = {}
    for each in operations:
        for node in (*each.replicas, each.node):
            if node is not None:
                found.setdefault(node)
    return list(found)


def _who_answered(view: View, last: Operation) -> Iterator[str]:
    if last.node is None:
        return
    what = "served the read" if last.kind is OperationKind.GET else "answered"
    turn = view.once(roles).at(last.node, last.invoke_ns)
    as_what = f", {turn.role} in term {turn.term}," if turn is not None and turn.term else ""
    others = [each for each in last.replicas if each != last.node]
    counted = f" and counted the answers of {words.listed(last.replicas)}" if others else ""
    yield f"{last.node}{as_what} {what}{counted}."


def _not_among(view: View, write: Operation, answered: Sequence[str]) -> Iterator[str]:
    """Say that nobody asked by the read had acknowledged the write."""
    holders = _nodes(write)
    if not holders or not answered or set(holders) & set(answered) or write.complete_ns is None:
        return
    verb = "was" if len(answered) == 1 else "were"
    yield (
        f"{words.listed(list(answered))} {verb} not among the nodes that had taken "
        f"{write.write_id} by {words.moment(view, write.complete_ns)}: {words.listed(holders)}."
    )


def _fault(
    view: View, fault: FaultRecord, nodes: Sequence[str], start_ns: int, end_ns: int
) -> Iterator[str]:
    fault_end_ns = window_end_ns(view, fault)
    if fault.injected_ns is None or fault.injected_ns > end_ns or fault_end_ns < start_ns:
        return
    for node in nodes:
        sentence = words.fault_on(view, node, fault, fault_end_ns)
        if sentence is not None:
            yield f"{sentence} (fault {fault.number})."
            if fault.sides:
                return  # the other side says the same


def _events(view: View, shown: Sequence[Operation], start_ns: int) -> Iterator[str]:
    """Yield what nodes told of the writes in question."""
    ids = {each.write_id for each in shown if each.write_id is not None}
    told = 0
    for event in view.history.events:
        if event.time_ns >= start_ns and told < _EVENTS_MAX and _speaks_of(event, ids):
            told += 1
            yield f"At {words.moment(view, event.time_ns)} {event.node} {event_words.told(event)}."


def _speaks_of(event: NodeEvent, ids: set[str]) -> bool:
    waiting = list(event.fields.values())
    while waiting:
        each = waiting.pop()
        if isinstance(each, str):
            if each in ids:
                return True
        elif isinstance(each, dict):
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each
    return False


def _picture(view: View, witness: Witness, shown: Sequence[Operation]) -> WitnessPicture:
    ends = [each.complete_ns for each in shown if each.complete_ns is not None]
    start_ns = min(each.invoke_ns for each in shown)
    end_ns = max([each.invoke_ns for each in shown] + ends)
    margin_ns = max((end_ns - start_ns) // 12, 1_000)
    proof = {each.index for each in shown}
    keys = {each.key for each in shown}
    around = [
        each
        for key in keys
        for each in view.by_key[key]
        if each.index not in proof
        and each.outcome is not Outcome.FAIL
        and each.invoke_ns <= end_ns
        and (each.complete_ns or end_ns) >= start_ns
    ]
    kept = sorted(around, key=lambda each: (_distance(each, shown), each.index))
    room = max(BARS_MAX - len(shown), 0)
    found = WitnessPicture(start_ns - margin_ns, end_ns + margin_ns)
    points = _points(view, shown, end_ns) if len(keys) == 1 else {}
    bars = sorted([*shown, *kept[:room]], key=lambda each: (each.invoke_ns, each.index))
    found.bars = [_bar(view, each, proof, points, found.end_ns) for each in bars]
    if len(kept) > room:
        found.left_out = f"{words.plural(len(kept) - room, 'further operation')} not drawn"
    for fault in view.history.faults:
        fault_end_ns = window_end_ns(view, fault)
        if fault.injected_ns is not None and (
            fault.injected_ns <= found.end_ns and fault_end_ns >= found.start_ns
        ):
            found.bands.append(
                WitnessBand(fault.number, fault.words, fault.injected_ns, fault_end_ns)
            )
    return found


def _distance(each: Operation, shown: Sequence[Operation]) -> int:
    return min(abs(each.invoke_ns - other.invoke_ns) for other in shown)


def _bar(
    view: View, each: Operation, proof: set[int], points: dict[int, int], end_ns: int
) -> WitnessBar:
    unknown = each.outcome is Outcome.UNKNOWN or each.complete_ns is None
    return WitnessBar(
        each.index,
        each.client,
        each.kind.value,
        each.outcome.value,
        each.invoke_ns,
        end_ns if unknown or each.complete_ns is None else each.complete_ns,
        unknown,
        _did(each),
        each.node,
        each.index in proof,
        points.get(each.index),
    )


def _did(each: Operation) -> str:
    if each.kind is OperationKind.GET:
        live = [version for version in each.seen if not version.tombstone]
        if len(live) > 1:
            return f"read {len(live)} values"
        seen = version_read(each)
        return f"read {seen}" if seen is not None else "read nothing"
    text = f"{each.kind.value} {each.write_id}"
    return text[:_WORDS_CHARACTERS_MAX]


def _points(view: View, shown: Sequence[Operation], end_ns: int) -> dict[int, int]:
    """Return when each operation up to the violation may have taken effect, but for the last read.

    Without the read that came too late, or that saw the past, the rest often fits one order; where
    it does, the order shows what that read would have had to see.
    """
    last = max(shown, key=lambda each: (each.complete_ns or each.invoke_ns, each.index))
    found = view.once(registers).operations.get(last.key, [])
    ordered = sorted(
        (each for each in found if each.invoke_ns <= end_ns and each.outcome is not Outcome.FAIL),
        key=lambda each: (each.invoke_ns, each.index),
    )
    there = {each.write_id for each in ordered if each.kind.is_write} | {None}
    ordered = [
        each
        for each in ordered
        if each.kind.is_write or (each is not last and version_read(each) in there)
    ]
    if not ordered or len(ordered) > _ORDERED_MAX:
        return {}
    written = {each.write_id for each in ordered if each.kind is not OperationKind.GET}
    reads = [each for each in ordered if each.kind is OperationKind.GET]
    if any(version_read(each) not in (None, *written) for each in reads):
        return {}  # they saw what the last operation wrote, and nothing fits without it
    steps, model = steps_of(view, ordered)
    order = search(steps, model, Budget(_STEPS_MAX))
    if order.verdict is not Verdict.VALID:
        return {}
    points: dict[int, int] = {}
    at_ns = 0
    for placed in order.placed:
        at_ns = max(at_ns, steps[placed].invoke_ns)
        points[ordered[placed].index] = at_ns
    return points
