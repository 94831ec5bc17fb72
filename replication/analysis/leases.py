"""Who held which lease when: from when to when a leader might answer reads by its clock alone.

As the nodes told it: a leader that slept comes to notice the end of its lease only when it wakes,
so an end may be late, never early. Two that overlap are not yet a violation: what a lease must
never do is let a read miss a write, and that is for ``linearizability`` to judge.
"""

from replication.analysis.findings import LeasePeriod
from replication.analysis.roles import DOWN, roles
from replication.analysis.view import View
from replication.history import NodeEvent


def leases(view: View) -> list[LeasePeriod]:
    """Return every lease in order of its begin."""
    found: list[LeasePeriod] = []
    held: dict[str, LeasePeriod] = {}
    # What comes after the end is the cluster being stopped.
    told = (
        event
        for event in view.history.events
        if event.name == "lease_changed" and event.time_ns <= view.history.settle_end_ns
    )
    for event in sorted(told, key=lambda each: each.time_ns):
        before = held.get(event.node)
        if before is not None:
            _end(view, before, event)
            del held[event.node]
        if event.fields.get("held"):
            term = int(event.fields.get("term") or 0)
            held[event.node] = LeasePeriod(event.node, term, event.time_ns)
            found.append(held[event.node])
    for each in held.values():
        _end(view, each, None)
    return found


def _end(view: View, lease: LeasePeriod, event: NodeEvent | None) -> None:
    """Say how a lease ended: with its node, by what the node told next, or not at all."""
    for turn in view.once(roles).turns.get(lease.node, []):
        until_ns = view.history.settle_end_ns if event is None else event.time_ns
        if turn.role == DOWN and lease.start_ns < turn.at_ns <= until_ns:
            lease.end_ns, lease.why = turn.at_ns, "the node ended"
            return
    if event is None:
        return
    lease.end_ns = event.time_ns
    renewed = "a new one" if event.fields.get("held") else ""
    lease.why = str(event.fields.get("reason") or renewed)
