"""Why an acknowledged write vanished: one word for each, and a sentence (``conflicts``)."""

from replication.analysis.promised import keeps_siblings
from replication.analysis.roles import window_end_ns
from replication.analysis.siblings import episodes
from replication.analysis.view import View
from replication.history import NodeEvent, Operation, OperationKind

CLOCK_SKEW = "clock skew"  # the winner was older in real time, or dated later by a wrong clock
TIE = "tie"  # both carry the same timestamp
RESURRECTED = "resurrected delete"  # a version is back that the delete had covered
LOST_SIBLING = "lost sibling"  # siblings are kept here, and this one was not
APART = "written across a partition"  # the two coordinators could not hear of each other
UNREAD = "overwritten unread"  # the winner began later and had not read it
CONCURRENT = "concurrent"  # both were under way at once, and one had to go
UNEXPLAINED = "unexplained"


def cause(view: View, write: Operation, winner: str | None) -> str:
    """Return what made ``write`` vanish; ``winner`` is what stands in its place."""
    finals = {each.write_id for each in view.final_versions(write.key) or ()}
    if write.kind is OperationKind.DELETE and finals & set(write.based_on):
        return RESURRECTED
    if keeps_siblings(view):
        return LOST_SIBLING
    stamps = view.once(dropped_timestamps).get(write.write_id or "")
    if stamps is not None and stamps[0] == stamps[1]:
        return TIE
    other = view.writes.get(winner or "")
    if other is None or write.complete_ns is None:
        return UNEXPLAINED
    if other.complete_ns is not None and other.complete_ns < write.invoke_ns:
        return CLOCK_SKEW
    if _cut_off(view, write, other):
        return APART
    return UNREAD if other.invoke_ns > write.complete_ns else CONCURRENT


def _cut_off(view: View, write: Operation, other: Operation) -> bool:
    """Return whether a partition lay between the two coordinators while both were written."""
    for fault in view.history.faults:
        if fault.injected_ns is None or not fault.sides:
            continue
        sides = [{number for number, side in enumerate(fault.sides) if each.node in side}
                 for each in (write, other)]  # fmt: skip
        lasted = all(
            fault.injected_ns <= each.invoke_ns <= window_end_ns(view, fault)
            for each in (write, other)
        )
        if lasted and all(sides) and not sides[0] & sides[1]:
            return True
    return False


def dropped_timestamps(view: View) -> dict[str, tuple[int, int]]:
    """Return write id -> its timestamp and the winner's, as nodes told; through ``View.once``."""
    found: dict[str, tuple[int, int]] = {}
    known = view.once(episodes).dropped
    for event in view.history.events:
        stamps = _stamps(event)
        if stamps is not None and stamps[0] in known:
            found.setdefault(stamps[0], stamps[1:])
    return found


def _stamps(event: NodeEvent) -> tuple[str, int, int] | None:
    dropped, winner = event.fields.get("dropped"), event.fields.get("winner")
    if event.name != "version_dropped" or not dropped or not winner:
        return None
    one, other = dropped.get("timestamp_ns"), winner.get("timestamp_ns")
    return None if not one or not other else (dropped["write_id"], int(one), int(other))
