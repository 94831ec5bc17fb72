"""What a leader knows of one follower, and when it may send to it.

Three states, as in etcd's raft (``tracker/progress.go``):

    PROBE      The leader does not know where the logs part. One message at a time; each refusal
               moves ``next_index`` back by at least one entry, usually by a whole term.
    REPLICATE  The logs match at ``match_index``. ``next_index`` runs ahead of the answers: up to
               ``inflight_max`` appends, or ``inflight_bytes_max``, are under way. A refusal (a lost
               or overtaken message) leads back to PROBE at ``match_index + 1``.
    SNAPSHOT   What the follower lacks is in the leader's log no more. A snapshot is sent instead
               (``Install``); when it is installed, PROBE right behind it.

A heartbeat is an AppendEntries without entries at ``next_index``: it probes a silent follower
again, and finds out that the last append of a burst was lost. In SNAPSHOT it is an InstallSnapshot
without data, which asks how far the follower is.
"""

from collections import deque
from dataclasses import dataclass
from enum import Enum

from leader.raft.log import Index
from leader.raft.snapshots import Complete
from leader.v1 import raft_pb2
from replication.protocol import NodeId

CHUNKS_INFLIGHT_MAX = 4


class State(Enum):
    """See the module's docstring."""

    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


@dataclass(slots=True)
class Install:
    """A snapshot on its way to one follower: go-back-N over its chunks."""

    snapshot: Complete
    began_ns: int
    answered: bool = False  # the follower has said how much of it it has
    received: int = 0  # chunks that the follower has
    position: int = 0  # chunks that it has when all that is under way arrives
    bytes_sent: int = 0
    _gone_back_to: int = -1

    def next_chunk(self) -> bytes | None:
        """Return the chunk at ``position`` and advance, None when nothing may leave now."""
        chunks = self.snapshot.chunks
        end = min(self.received + CHUNKS_INFLIGHT_MAX, len(chunks))
        if not self.answered or self.position >= end:
            return None
        data = chunks[self.position]
        self.position += 1
        self.bytes_sent += len(data)
        return data

    def take(self, result: raft_pb2.InstallSnapshotResult) -> bool:
        """Take an answer; return whether the snapshot is installed."""
        if not self.answered or result.received > self.received:
            self.answered = True
            self.received = result.received
            self.position = max(self.position, result.received)
        # A chunk was lost on the way. Every chunk behind it says so: going back once is enough, and
        # if what is sent again is lost too, the answer to a heartbeat tells.
        lost = result.received < result.position and result.received == self.received
        if lost and (result.heartbeat or self._gone_back_to != result.received):
            self._gone_back_to = self.position = result.received
        return self.received >= len(self.snapshot.chunks)


class Progress:
    """One follower. ``match_index < next_index`` always holds; ``match_index`` never falls."""

    def __init__(
        self,
        node: NodeId,
        next_index: Index,
        inflight_max: int,
        inflight_bytes_max: int,
        now_ns: int,
    ) -> None:
        self.node = node
        self.state = State.PROBE
        self.match_index: Index = 0
        self.next_index = next_index
        self.round_confirmed = 0
        self.heard_ns = now_ns  # when it last answered this leader
        self._probing = False
        self.install: Install | None = None  # in SNAPSHOT
        # Of each append not yet answered: its last index and its size.
        self._inflight: deque[tuple[Index, int]] = deque()
        self._inflight_bytes = 0
        self._inflight_max = inflight_max
        self._inflight_bytes_max = inflight_bytes_max

    @property
    def needed_from(self) -> Index:
        """The index behind which the follower lacks the log, once it has what is being sent."""
        return self.match_index if self.install is None else self.install.snapshot.header.index

    def may_send(self) -> bool:
        """Return whether an append with entries may leave now."""
        if self.state is State.PROBE:
            return not self._probing
        if self.state is State.SNAPSHOT:
            return False
        return (
            len(self._inflight) < self._inflight_max
            and self._inflight_bytes < self._inflight_bytes_max
        )

    def sent(self, last_index: Index, size: int) -> None:
        """Note that entries ``next_index`` to ``last_index`` are on their way."""
        if self.state is State.PROBE:
            self._probing = True
            return
        self._inflight.append((last_index, size))
        self._inflight_bytes += size
        self.next_index = last_index + 1

    def accepted(self, match_index: Index) -> bool:
        """Note that the follower's log equals ours up to ``match_index``; True if that is news."""
        while self._inflight and self._inflight[0][0] <= match_index:
            self._inflight_bytes -= self._inflight.popleft()[1]
        if self.state is not State.SNAPSHOT:
            self.next_index = max(self.next_index, match_index + 1)
        # Also without news: a follower that answers a probe with success is no longer probed.
        if self.state is State.PROBE and match_index + 1 >= self.next_index:
            self.state = State.REPLICATE
            self._probing = False
        if match_index <= self.match_index:
            return False
        self.match_index = match_index
        return True

    def refused(self, prev_index: Index, next_index: Index) -> bool:
        """Note that the follower has no such entry at ``prev_index``; False if the answer is stale.

        ``next_index`` is where the logs can match at best; see ``Log.last_not_above``.
        """
        if self.state is State.REPLICATE:
            if prev_index <= self.match_index:
                return False
            self._probe()
            self.next_index = self.match_index + 1
        elif self.state is State.SNAPSHOT:
            return False
        else:
            if prev_index != self.next_index - 1 or prev_index <= self.match_index:
                return False
            self.next_index = max(min(prev_index, next_index), self.match_index + 1)
        self._probing = False
        return True

    def begin_install(self, snapshot: Complete, now_ns: int) -> Install:
        """The log does not go back far enough: bring ``snapshot``."""
        self._probe()
        self.state = State.SNAPSHOT
        self.next_index = snapshot.header.index + 1
        self.install = Install(snapshot, now_ns)
        return self.install

    def end_install(self, match_index: Index) -> None:
        """The log goes on from ``match_index``: installed, or not needed any more."""
        self._probe()
        self.install = None
        self.match_index = max(self.match_index, match_index)
        self.next_index = self.match_index + 1

    def _probe(self) -> None:
        self.state = State.PROBE
        self._probing = False
        self._inflight.clear()
        self._inflight_bytes = 0
