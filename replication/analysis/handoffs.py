"""Nodes that came back: what hints brought them, and what clients saw meanwhile.

Everybody has kept hints for a node that was away, and everybody replays them when it is heard
again: that shares its links, its disk and its one thread with the clients (Dynamo §4.6; how a storm
of them looks: scylladb#7976). What was not kept for it is counted by the reason.
"""

from collections import Counter
from collections.abc import Iterator

from replication.analysis.latency import percentiles_within
from replication.analysis.meanwhile import Handoff
from replication.analysis.view import View
from replication.history import FaultRecord, NodeEvent

_STOOD_STILL = "pause"
_FOR_GOOD = "replace"


def handoffs(view: View) -> list[Handoff]:
    """Return every return of a node that hints waited or were refused for, in order of time."""
    found = [
        handoff
        for fault in view.history.faults
        if (fault.takes_down and fault.kind != _FOR_GOOD) or fault.kind == _STOOD_STILL
        for node in fault.nodes
        for handoff in _of(view, fault, node)
    ]
    return sorted(found, key=lambda each: each.start_ns)


def _of(view: View, fault: FaultRecord, node: str) -> Iterator[Handoff]:
    history = view.history
    if fault.injected_ns is None or fault.healed_ns is None:
        return
    struck = [each.injected_ns for each in history.faults if each.injected_ns is not None]
    until_ns = min(
        (
            each.injected_ns
            for each in history.faults
            if node in each.nodes
            and each.injected_ns is not None
            and each.injected_ns > fault.healed_ns
        ),
        default=None,
    )
    pages, refused = [], Counter[str]()
    for event in history.events:
        if event.fields.get("target") != node or event.time_ns < fault.injected_ns:
            continue
        if until_ns is not None and event.time_ns >= until_ns:
            continue
        if event.name == "hint_refused":
            refused[str(event.fields.get("reason") or "")] += 1
        elif event.name == "hints_delivered" and event.time_ns >= fault.healed_ns:
            pages.append(event)
    if not pages and not refused:
        return
    end_ns = max((page.time_ns for page in pages), default=fault.healed_ns)
    yield Handoff(
        node=node,
        start_ns=fault.healed_ns,
        end_ns=end_ns,
        duration_ns=end_ns - fault.healed_ns,
        hints=sum(_count(page, "hints") for page in pages),
        bytes=sum(_count(page, "bytes") for page in pages),
        senders=len({page.node for page in pages}),
        refused=dict(refused),
        refused_count=refused.total(),
        during=percentiles_within(view, fault.healed_ns, min(end_ns, history.load_end_ns)),
        before=percentiles_within(view, history.measure_start_ns, min(struck)),
    )


def _count(event: NodeEvent, name: str) -> int:
    return int(event.fields.get(name) or 0)
