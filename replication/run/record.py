"""What a history holds besides operations: counters and events of the nodes, the disk's speed."""

import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from replication.cluster.control import Control, ControlFailed
from replication.history import LinkTotals, NodeEvent
from replication.host.config import EVENTS_FILE
from replication.legs import Thinned
from replication.protocol import NodeId
from replication.v1 import control_pb2

SYNC_COUNT = 100
SYNC_BYTES = 200
SYNC_SECONDS_MAX = 0.5


class Ledger:
    """The last status seen of every life of every node: counters start anew with each process.

    A node that is killed takes along what it counted since it was last asked.
    """

    def __init__(self) -> None:
        self._lives: dict[tuple[NodeId, int], control_pb2.StatusResponse] = {}

    def note(self, found: Mapping[NodeId, control_pb2.StatusResponse]) -> None:
        """Keep what nodes have just said of themselves."""
        for node, answer in found.items():
            self._lives[node, answer.host.pid] = answer

    def links(self) -> dict[NodeId, list[control_pb2.LinkStatus]]:
        """Return the link counters of all lives of each node."""
        found: dict[NodeId, list[control_pb2.LinkStatus]] = {}
        for (node, _), answer in self._lives.items():
            found.setdefault(node, []).extend(answer.host.links)
        return found

    def link_totals(self) -> LinkTotals:
        """Return the traffic between nodes."""
        totals = LinkTotals()
        for links in self.links().values():
            for link in links:
                totals.messages += link.messages_sent
                totals.bytes += link.bytes_sent
                totals.frames += link.frames_sent
                totals.dropped += link.outbound_dropped + link.inbound_dropped + link.queue_dropped
        return totals

    def cpu_seconds(self) -> dict[NodeId, float]:
        """Return the CPU time of each node, all its lives together."""
        seconds: dict[NodeId, float] = {}
        for (node, _), answer in self._lives.items():
            seconds[node] = round(seconds.get(node, 0.0) + answer.host.cpu_seconds, 3)
        return dict(sorted(seconds.items()))

    def counters(self) -> dict[NodeId, dict[str, int]]:
        """Return the counters of each node's core, all its lives together, and of its disk."""
        totals: dict[NodeId, dict[str, int]] = {}
        for (node, _), answer in sorted(self._lives.items()):
            counts = totals.setdefault(node, {})
            host = {
                "host.inbox_refused": answer.host.inbox_refused,
                "host.persists": answer.host.persists,
                "host.syncs": answer.host.syncs,
            }
            for name, count in sorted({**answer.status.counters, **host}.items()):
                counts[name] = counts.get(name, 0) + count
        return totals


async def read_delays(
    control: Control, nodes: Iterable[NodeId], zero_ns: int
) -> list[dict[str, Thinned]]:
    """Return what each node has measured of messages since it was started.

    What a node had measured before it was killed is lost: enough others have measured the same.
    """
    found = []
    for node in nodes:
        try:
            answer = await control.delays(node)
        except ControlFailed:
            continue
        legs = {}
        for each in answer.legs:
            ends = (arrived_ns - zero_ns for arrived_ns in each.arrived_ns)
            legs[each.leg] = Thinned(
                [(end - delay, end) for end, delay in zip(ends, each.delay_ns, strict=True)],
                each.stride,
            )
        found.append(legs)
    return found


def measure_fdatasync(folder: Path) -> tuple[int, int]:
    """Return p50 and p99 of an append of 200 bytes and its fdatasync in ``folder``, nanoseconds.

    A report must say how fast the disk was: some flush in 0.1 ms, some in 10.
    """
    path = folder / "fdatasync.tmp"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    taken: list[int] = []
    data = bytes(SYNC_BYTES)
    try:
        begin = time.monotonic()
        while len(taken) < SYNC_COUNT and time.monotonic() - begin < SYNC_SECONDS_MAX:
            start = time.monotonic_ns()
            os.write(descriptor, data)
            os.fdatasync(descriptor)
            taken.append(time.monotonic_ns() - start)
    finally:
        os.close(descriptor)
        path.unlink()
    taken.sort()
    return taken[len(taken) // 2], taken[int(len(taken) * 0.99)]


def read_events(folder: Path, nodes: Iterable[NodeId], zero_ns: int) -> list[NodeEvent]:
    """Return the events that all nodes have left, in order of time.

    Their clock is the kernel's monotonic one, as ours: ``zero_ns`` of it is time 0. A line that a
    kill cut short is left out.
    """
    events: list[NodeEvent] = []
    for node in nodes:
        path = folder / node / EVENTS_FILE
        if not path.exists():
            continue
        for line in path.read_bytes().splitlines():
            try:
                fields = json.loads(line)
            except ValueError:
                continue
            time_ns = fields.pop("t") - zero_ns
            events.append(NodeEvent(time_ns, fields.pop("node"), fields.pop("event"), fields))
    events.sort(key=lambda event: event.time_ns)
    return events
