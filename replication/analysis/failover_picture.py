"""The failover window, magnified: what every node told and what every client did."""

from collections.abc import Iterable

from replication.analysis import event_words, words
from replication.analysis.findings import FailoverStep
from replication.analysis.pictures import FailoverPicture, NodeMark, OperationMark
from replication.analysis.view import View, columns
from replication.history import NodeEvent, Operation, OperationKind

OPERATIONS_MAX = 800
MARKS_MAX = 300
BEFORE_SHARE = 0.15  # of what follows the fault
AFTER_SHARE = 1.5  # enough for an axis that both sides share
SPAN_NS_MIN = 200_000_000
SPAN_NS_MAX = 5_000_000_000
# "Back to 95 %" may come long after; what it takes is not seen on single operations.
_SHOWN_STEPS = ("detected", "elected", "clients redirected", "first acknowledged write")


def picture(
    view: View, at_ns: int, until_ns: int, steps: Iterable[FailoverStep]
) -> FailoverPicture | None:
    """Return the picture of the fault at ``at_ns``; None when nobody had anything to recover from.

    It reaches beyond the last step that was seen; ``until_ns`` is when the next fault comes.
    """
    seen = [step.at_ns for step in steps if step.name in _SHOWN_STEPS and step.at_ns is not None]
    if not seen:
        return None
    span_ns = min(max(max(seen) - at_ns, SPAN_NS_MIN), SPAN_NS_MAX)
    start_ns = at_ns - round(span_ns * BEFORE_SHARE)
    end_ns = min(at_ns + round(span_ns * (1 + AFTER_SHARE)), until_ns)
    marks = list(_marks(view, start_ns, end_ns))
    operations = _operations(view, start_ns, end_ns)
    stood_ns, followed_ns = _election(view, at_ns, end_ns) or (None, None)
    left_out = []
    if len(marks) > MARKS_MAX:
        left_out.append(f"the first {MARKS_MAX:,} of {len(marks):,} node events")
    if len(operations) > OPERATIONS_MAX:
        left_out.append(f"the first {OPERATIONS_MAX:,} of {len(operations):,} operations")
    return FailoverPicture(
        start_ns,
        end_ns,
        stood_ns,
        followed_ns,
        marks[:MARKS_MAX],
        [operation_mark(view, each) for each in operations[:OPERATIONS_MAX]],
        " and ".join(left_out),
    )


def _election(view: View, at_ns: int, end_ns: int) -> tuple[int, int] | None:
    """Return the stretch from the first candidate to the last node that follows somebody new."""
    inside = [each for each in view.history.events if at_ns < each.time_ns < end_ns]
    stood = [each.time_ns for each in inside if each.name == "election_started"]
    led = [
        each.time_ns
        for each in inside
        if each.name == "role_changed" and each.fields.get("role") == "leader"
    ]
    if not stood or not led or led[-1] <= stood[0]:
        return None
    # Followers hear of it within as long again; more would only make the messages smaller.
    until_ns = led[0] + (led[0] - stood[0])
    last = [each.time_ns for each in inside if each.name == "role_changed" and
            each.time_ns <= until_ns]  # fmt: skip
    return stood[0], max(last, default=led[0])


def _marks(view: View, start_ns: int, end_ns: int) -> Iterable[NodeMark]:
    asked: dict[tuple[str, int, bool], int] = {}  # candidate, term, pre-vote -> when
    for event in sorted(view.history.events, key=lambda each: each.time_ns):
        fields = event.fields
        if event.name == "election_started":
            term, pre_vote = int(fields.get("term") or 0), bool(fields.get("pre_vote"))
            asked[event.node, term, pre_vote] = event.time_ns
        if not start_ns <= event.time_ns <= end_ns:
            continue
        kind = _kind(event)
        if kind is None:
            continue
        mark = NodeMark(event.time_ns, event.node, kind, event_words.told(event))
        if event.name == "vote_cast":
            mark.sender = str(fields.get("candidate"))
            ballot = (mark.sender, int(fields.get("term") or 0), bool(fields.get("pre_vote")))
            mark.sent_ns = asked.get(ballot)
        yield mark


_KINDS = {
    "log_truncated": "truncated",
    "peer_suspected": "suspects",
    "peer_trusted": "trusts",
    "node_started": "starts",
    "lease_changed": "lease",
    "leadership_transfer": "transfer",
}


def _kind(event: NodeEvent) -> str | None:
    """Return the shape of an event; None for what the role strip shows already."""
    if event.name == "election_started":
        return "pre-vote" if event.fields.get("pre_vote") else "stood"
    if event.name == "vote_cast":
        vote = "granted" if event.fields.get("granted") else "refused"
        return f"pre-{vote}" if event.fields.get("pre_vote") else vote
    if event.name == "role_changed":
        return "leads" if event.fields.get("role") == "leader" else None
    return _KINDS.get(event.name)


def _operations(view: View, start_ns: int, end_ns: int) -> list[Operation]:
    return [
        each
        for each in view.once(columns).operations
        if each.invoke_ns <= end_ns and (each.complete_ns is None or each.complete_ns >= start_ns)
    ]


def operation_mark(view: View, operation: Operation) -> OperationMark:
    """Return an operation as a stretch on its client's lane; one without an end lasts."""
    ended_ns = operation.complete_ns
    end_ns = view.history.settle_end_ns if ended_ns is None else ended_ns
    tries = f", {operation.attempts} attempts" if operation.attempts > 1 else ""
    tries += f", {words.plural(operation.redirects, 'redirect')}" if operation.redirects else ""
    error = f" ({operation.error})" if operation.error else ""
    took = words.milliseconds(end_ns - operation.invoke_ns)
    seen = [each.write_id for each in operation.seen]
    is_read = operation.kind is OperationKind.GET
    return OperationMark(
        operation=operation.index,
        client=operation.client,
        kind=operation.kind.value,
        outcome=operation.outcome.value,
        start_ns=operation.invoke_ns,
        end_ns=end_ns,
        turned_ns=operation.turned_ns,
        node=operation.node,
        attempts=operation.attempts,
        redirects=operation.redirects,
        words=(
            f"{operation.client}: {operation.kind.value} {operation.key}"
            f"{words.served(operation)}: {operation.outcome.value}{error} after {took}{tries}"
        ),
        replicas=list(operation.replicas),
        versions=seen if is_read else [operation.write_id or ""],
        context=list(operation.based_on),
    )
