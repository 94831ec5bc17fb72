"""What a user may set about a Raft cluster, with the bounds and the reasons."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

from replication.protocol import SETTINGS_CONFIG

# An election timeout below this many heartbeats takes one or two lost messages for a dead leader.
HEARTBEATS_PER_ELECTION_TIMEOUT_MIN = 3


class DefaultRead(StrEnum):
    """The consistency of a read that does not ask for one."""

    LINEARIZABLE = "linearizable"
    LEASE = "lease"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class RaftSettings:
    """The settings of a Raft cluster; all nodes of a cluster have the same ones.

    An election timeout is drawn anew for every wait, uniformly from
    ``[election_timeout_min, election_timeout_max)`` (Raft §5.2). A leader that has not heard from a
    majority for ``election_timeout_min`` steps down (``check_quorum``, dissertation §6.2), and a
    node that has heard from its leader within it refuses to vote (§4.2.3). ``pre_vote`` asks for
    support before it burns a term (§9.6).

    A lease (CONSISTENCY_LEASE, §6.4.1) lasts ``election_timeout_min / (1 + clock_drift_max)``: so
    much faster may the clock of a follower run than the leader's. Without ``check_quorum`` there is
    none, and such a read is confirmed by a majority as any other. ``follower_reads`` lets followers
    and learners answer linearizable reads (§6.4) instead of redirecting them. ``priority`` names
    nodes that are to lead, the preferred one first, separated by commas: each place further back,
    and once more for those not named, a node waits longer before it stands for election, by
    ``election_timeout_max - election_timeout_min``. A new cluster begins in the same order.

    ``append_entries_max`` and ``append_bytes_max`` bound one AppendEntries message (a single larger
    entry still goes, alone), ``inflight_appends_max`` how many of them with entries may be
    unanswered per follower, and ``inflight_bytes_max`` of what size. ``uncommitted_entries_max``
    and ``uncommitted_bytes_max`` bound what a leader takes in without having it committed; past
    either, writes are refused with Overloaded.

    A node takes a snapshot (dissertation §5) when it has applied ``snapshot_entries`` entries or
    ``snapshot_bytes`` of them since the last one, but not before they add up to the size of that
    (§5.1.3): so writing snapshots costs no more than writing the log did. It writes it in chunks of
    ``snapshot_chunk_bytes`` and then drops its log, save the last ``snapshot_trailing_entries``:
    followers that lag by less need no snapshot. What a follower that answers still lacks is kept
    longer: up to four times ``snapshot_entries`` and ``snapshot_bytes``.

    ``sessions`` makes a write that is sent again take effect once. Off, duplicates show. A session
    ends ``session_timeout`` after its last write, or when there are more than ``sessions_max``.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = SETTINGS_CONFIG

    heartbeat_ns: int = 50_000_000
    election_timeout_min_ns: int = 300_000_000
    election_timeout_max_ns: int = 600_000_000
    pre_vote: bool = True
    check_quorum: bool = True
    default_read: DefaultRead = DefaultRead.LINEARIZABLE
    clock_drift_max: float = 0.1
    follower_reads: bool = False
    priority: str = ""
    append_entries_max: int = 1024
    append_bytes_max: int = 1024 * 1024
    inflight_appends_max: int = 16
    inflight_bytes_max: int = 8 * 1024 * 1024
    uncommitted_entries_max: int = 65_536
    uncommitted_bytes_max: int = 64 * 1024 * 1024
    snapshot_entries: int = 10_000
    snapshot_bytes: int = 16 * 1024 * 1024
    snapshot_chunk_bytes: int = 64 * 1024
    snapshot_trailing_entries: int = 5_000
    sessions: bool = True
    session_timeout_ns: int = 3_600_000_000_000
    sessions_max: int = 100_000

    def problems(self, members: int) -> Iterable[str]:
        """Yield what does not fit together, both values named."""
        for name in (
            "heartbeat_ns",
            "append_entries_max",
            "append_bytes_max",
            "inflight_appends_max",
            "inflight_bytes_max",
            "uncommitted_entries_max",
            "uncommitted_bytes_max",
            "snapshot_entries",
            "snapshot_bytes",
            "snapshot_chunk_bytes",
            "session_timeout_ns",
            "sessions_max",
        ):
            value = getattr(self, name)
            if value < 1:
                yield f"{name.removesuffix('_ns')} is {value}, expected at least 1"
        if self.snapshot_trailing_entries < 0:
            kept = self.snapshot_trailing_entries
            yield f"snapshot_trailing_entries is {kept}, expected at least 0"
        if not 0 <= self.clock_drift_max < 1:
            yield f"clock_drift_max is {self.clock_drift_max:g}, expected 0 to less than 1"
        if self.default_read is DefaultRead.LEASE and not self.check_quorum:
            yield "default_read is lease and check_quorum is false: without it nobody keeps a lease"
        needed_ns = HEARTBEATS_PER_ELECTION_TIMEOUT_MIN * self.heartbeat_ns
        if self.election_timeout_min_ns < needed_ns:
            yield (
                f"election_timeout_min is {_ms(self.election_timeout_min_ns)}, expected at least "
                f"{HEARTBEATS_PER_ELECTION_TIMEOUT_MIN} x heartbeat = {_ms(needed_ns)}"
            )
        if self.election_timeout_max_ns <= self.election_timeout_min_ns:
            yield (
                f"election_timeout_max is {_ms(self.election_timeout_max_ns)}, expected more than "
                f"election_timeout_min = {_ms(self.election_timeout_min_ns)}"
            )

    def rank(self, node: str) -> int:
        """Return how many of ``priority`` stand before ``node``; without any, 0."""
        names = [each.strip() for each in self.priority.split(",") if each.strip()]
        return names.index(node) if node in names else len(names)


def promise(settings: Any) -> str:
    """Return in one sentence what a cluster with these settings guarantees."""
    writes = "an acknowledged write survives the loss of any minority of the nodes"
    if not settings.sessions:
        writes += "; one that its client sends again may take effect twice"
    if settings.default_read is DefaultRead.LEASE:
        bound = f"as long as no clock runs {settings.clock_drift_max:.0%} faster than another"
        return f"Reads and writes are linearizable, {bound}, and {writes}."
    if settings.default_read is DefaultRead.LINEARIZABLE:
        return f"Reads and writes are linearizable, and {writes}."
    return f"Writes are linearizable, reads may be stale, and {writes}."


def _ms(duration_ns: int) -> str:
    return f"{duration_ns / 1e6:g}ms"
