"""Two leaders at once: writes that an old leader acknowledged after a newer one had begun to.

An answer of the old leader may travel while the new one is elected, so it counts only if the write
was also *invoked* after the new leader's first acknowledgement: then two nodes took writes in the
same interval, whatever the network did. A term with two leaders counts as well (of the two, the one
that acknowledged first is the old one).
"""

from dataclasses import dataclass, field

from replication.analysis.durability import lost_writes
from replication.analysis.findings import SplitBrain
from replication.analysis.view import View
from replication.history import Operation, Outcome

LOST_MAX = 1_000


@dataclass(slots=True)
class _Reign:
    """The writes that one node acknowledged in one term."""

    node: str
    term: int
    first_ns: int
    writes: list[Operation] = field(default_factory=list)


def split_brains(view: View) -> list[SplitBrain]:
    """Return every pair of leaders that acknowledged at once, in order of time."""
    if view.history.family != "leader":
        return []
    reigns = _reigns(view)
    found = []
    for old in reigns:
        for new in reigns:
            later = (new.term, new.first_ns) > (old.term, old.first_ns)
            if new.node != old.node and later:
                late = [each for each in old.writes if each.invoke_ns > new.first_ns]
                if late:
                    found.append(_told(view, old, new, late))
    return sorted(found, key=lambda each: each.start_ns)


def _reigns(view: View) -> list[_Reign]:
    reigns: dict[tuple[str, int], _Reign] = {}
    for write in view.writes.values():
        if write.outcome is not Outcome.OK or write.node is None or write.complete_ns is None:
            continue
        name = (write.node, write.term or 0)
        reign = reigns.setdefault(name, _Reign(*name, write.complete_ns))
        reign.first_ns = min(reign.first_ns, write.complete_ns)
        reign.writes.append(write)
    return list(reigns.values())


def _told(view: View, old: _Reign, new: _Reign, late: list[Operation]) -> SplitBrain:
    end_ns = max(each.complete_ns or 0 for each in late)
    gone = {each.write_id for each in view.once(lost_writes)}
    for event in view.history.events:
        if event.name == "log_truncated" and event.node == old.node:
            gone.update(event.fields.get("write_ids", ()))
    lost = sorted(
        (each for each in late if each.write_id in gone), key=lambda each: each.complete_ns or 0
    )
    return SplitBrain(
        old=old.node,
        old_term=old.term,
        new=new.node,
        new_term=new.term,
        start_ns=new.first_ns,
        end_ns=end_ns,
        old_writes=len(late),
        new_writes=sum((each.complete_ns or 0) <= end_ns for each in new.writes),
        lost_count=len(lost),
        lost=[each.write_id or "" for each in lost[:LOST_MAX]],
    )
