"""Nodes that joined, left or were replaced: how long it took, and what it cost the clients.

The cluster says when a change is done. Where new owners answer before they have fetched anything
(``ring_changes = "eager"``) it lasts until the last of them has.
"""

from itertools import pairwise

from replication.analysis.latency import percentiles_within
from replication.analysis.meanwhile import MemberChange
from replication.analysis.view import View
from replication.history import FaultRecord

_CHANGES = ("join", "leave", "replace")


def member_changes(view: View) -> list[MemberChange]:
    """Return every change that was done, in order of time."""
    history = view.history
    done = [
        (fault.injected_ns, fault)
        for fault in history.faults
        if fault.kind in _CHANGES and fault.effective and fault.injected_ns is not None
    ]
    done.sort(key=lambda each: each[0])
    ends = [*(start_ns for start_ns, _ in done), max(history.settle_end_ns, history.load_end_ns)]
    return [
        _of(view, fault, start_ns, until_ns)
        for (_, fault), (start_ns, until_ns) in zip(done, pairwise(ends), strict=True)
    ]


def _of(view: View, fault: FaultRecord, start_ns: int, until_ns: int) -> MemberChange:
    history = view.history
    moved = [
        event
        for event in history.events
        if event.name == "partitions_moved" and start_ns <= event.time_ns < until_ns
    ]
    told_ns = start_ns if fault.healed_ns is None else fault.healed_ns
    end_ns = max(told_ns, *(event.time_ns for event in moved)) if moved else told_ns
    struck = [each.injected_ns for each in history.faults if each.injected_ns is not None]
    return MemberChange(
        words=fault.words,
        start_ns=start_ns,
        end_ns=end_ns,
        duration_ns=end_ns - start_ns,
        keys=sum(int(event.fields.get("keys") or 0) for event in moved) if moved else None,
        bytes=sum(int(event.fields.get("bytes") or 0) for event in moved) if moved else None,
        during=percentiles_within(view, start_ns, min(end_ns, history.load_end_ns)),
        before=percentiles_within(view, history.measure_start_ns, min(struck)),
    )
