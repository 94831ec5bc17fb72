"""When a node takes a snapshot and how much of its log it drops then (dissertation §5.1).

Everything is done in small steps some milliseconds apart, so that neither a large state nor a long
log holds up what clients and peers wait for.
"""

from collections.abc import Iterable

from leader.raft.installing import needed_from
from leader.raft.log import Index
from leader.raft.progress import Progress
from leader.raft.replica import Replica
from leader.raft.snapshots import CHUNK_GAP_NS
from leader.v1 import raft_pb2
from replication.protocol import Persist
from replication.v1 import event_pb2

ENTRIES_DROPPED_PER_STEP = 1024
# What followers that answer still lack is kept although a snapshot stands for it, up to this many
# times ``snapshot_entries`` and ``snapshot_bytes``. Else one that catches up over a slow link, or
# has just been brought a snapshot, would be sent the next one, and so on for ever.
KEPT_FACTOR = 4


class Compaction:
    """Keeps the log of one node bounded."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._to_index: Index = 0  # the log is dropped up to here, by and by
        self._step_due_ns = 0

    @property
    def due_ns(self) -> int | None:
        """Return when ``tend`` has something to do next, None when not before more is applied."""
        if self._replica.log.start_index < self._to_index:
            return self._step_due_ns
        return self._replica.snapshots.due_ns

    def tend(self, now_ns: int, followers: Iterable[Progress]) -> None:
        """Do the next small step, if one is due, with a view to what a leader's followers need."""
        replica = self._replica
        if replica.log.start_index < self._to_index:
            if now_ns >= self._step_due_ns:
                self._drop_some(now_ns)
            return
        snapshots = replica.snapshots
        if snapshots.due_ns is None:
            if not replica.snapshot_due:
                return
            self._begin(now_ns)
        if snapshots.due_ns is None or now_ns < snapshots.due_ns:
            return
        writes = snapshots.next_chunk(now_ns)
        if writes is not None:
            replica.effects.append(Persist(writes))
            return
        self._finish(now_ns, followers)

    def _begin(self, now_ns: int) -> None:
        replica = self._replica
        index = replica.machine.applied_index
        header = raft_pb2.Snapshot(
            index=index,
            term=replica.log.term_at(index),
            configuration=replica.configurations.at(index).message(),
            cluster_time_ms=replica.machine.time_ms,
        )
        replica.snapshots.begin(header, replica.machine, now_ns)
        replica.applied_bytes = 0

    def _finish(self, now_ns: int, followers: Iterable[Progress]) -> None:
        replica, settings = self._replica, self._replica.settings
        header, began_ns, writes = replica.snapshots.finish()
        replica.effects.append(Persist(writes))
        to_index = replica.log.trailing_index(
            header.index, settings.snapshot_trailing_entries, settings.snapshot_bytes // 2
        )
        lacked_from = needed_from(replica, followers)
        if lacked_from is not None and lacked_from < to_index:
            kept_index = replica.log.trailing_index(
                header.index,
                min(header.index - lacked_from, KEPT_FACTOR * settings.snapshot_entries),
                KEPT_FACTOR * settings.snapshot_bytes,
            )
            to_index = min(to_index, kept_index)
        self._to_index = max(to_index, replica.log.start_index)
        self._step_due_ns = now_ns + CHUNK_GAP_NS
        replica.counters.snapshots_taken += 1
        event = event_pb2.SnapshotTaken(
            index=header.index,
            bytes=header.bytes,
            duration_ns=now_ns - began_ns,
            entries_dropped=self._to_index - replica.log.start_index,
        )
        replica.observe(event_pb2.Event(snapshot_taken=event))

    def _drop_some(self, now_ns: int) -> None:
        log = self._replica.log
        to_index = min(self._to_index, log.start_index + ENTRIES_DROPPED_PER_STEP)
        self._replica.effects.append(Persist(log.compact(to_index)))
        self._step_due_ns = now_ns + CHUNK_GAP_NS
