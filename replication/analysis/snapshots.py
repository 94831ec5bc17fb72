"""Followers that were too far behind for the log: what it took to bring them a snapshot.

Seconds as the follower counts them, from its first chunk on, and beside them how long operations
took while it lasted: sending a snapshot shares the leader, its disk and its links with them.
"""

from replication.analysis.latency import percentiles_within
from replication.analysis.meanwhile import SnapshotInstall
from replication.analysis.view import View
from replication.history import NodeEvent


def snapshots(view: View) -> list[SnapshotInstall]:
    """Return every snapshot that was installed since the load began, in order of time."""
    installed = [
        event
        for event in view.history.events
        if event.name == "snapshot_installed" and event.time_ns >= view.history.load_start_ns
    ]
    return [_install(view, event) for event in sorted(installed, key=lambda each: each.time_ns)]


def _install(view: View, event: NodeEvent) -> SnapshotInstall:
    history, fields = view.history, event.fields
    duration_ns = int(fields.get("duration_ns") or 0)
    start_ns = event.time_ns - duration_ns
    struck = [each.injected_ns for each in history.faults if each.injected_ns is not None]
    return SnapshotInstall(
        node=event.node,
        sender=str(fields.get("sender") or ""),
        index=int(fields.get("index") or 0),
        start_ns=start_ns,
        end_ns=event.time_ns,
        duration_ns=duration_ns,
        bytes=int(fields.get("bytes") or 0),
        bytes_sent=_bytes_sent(view, event),
        during=percentiles_within(view, start_ns, event.time_ns),
        before=percentiles_within(
            view, history.measure_start_ns, min(struck, default=history.load_end_ns)
        ),
    )


def _bytes_sent(view: View, installed: NodeEvent) -> int | None:
    """Return what went out for it, as its sender told once it was installed."""
    told = [
        int(event.fields.get("bytes") or 0)
        for event in view.history.events
        if event.name == "snapshot_sent"
        and event.node == installed.fields.get("sender")
        and event.fields.get("to") == installed.node
        and event.fields.get("index") == installed.fields.get("index")
        and event.time_ns >= installed.time_ns
    ]
    return told[0] if told else None
