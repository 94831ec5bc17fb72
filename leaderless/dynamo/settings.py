"""What a user may set, and what does not fit together."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

from leaderless.dynamo.resolve import Resolve
from leaderless.dynamo.versions import Versions
from replication.protocol import SETTINGS_CONFIG

MILLISECOND_NS = 1_000_000
SECOND_NS = 1000 * MILLISECOND_NS
HOUR_NS = 3600 * SECOND_NS
PARTITIONS_MAX = 4096


class ReadRepair(StrEnum):
    """What a coordinator does with replicas that answered a read with less than others."""

    OFF = "off"
    ASYNC = "async"  # it sends them what they lack, after the client has its answer
    BLOCKING = "blocking"  # before: the client's answer waits until R replicas have it


class Fanout(StrEnum):
    """What a read asks for, and whom."""

    ALL = "all"  # all N for everything
    DIGEST = "digest"  # R of them, the others of this node for a digest


class Quorum(StrEnum):
    """Who may count."""

    STRICT = "strict"  # primaries only: the N nodes that hold the key
    SLOPPY = "sloppy"  # the first N healthy nodes: others stand in for dead primaries


class Hints(StrEnum):
    """What is kept of a write for a primary that has missed it."""

    OFF = "off"
    BUFFERED = "buffered"  # written to the disk now and then: a crash forgets the latest
    DURABLE = "durable"


class Detection(StrEnum):
    """How a node comes to believe that a peer is dead."""

    SILENCE = "silence"  # it was not heard of for `suspect_after`
    PHI = "phi"  # its silence is improbable, given the gaps between its heartbeats so far
    SWIM = "swim"  # the nodes find out together: probes, suspicion, refutation


class CompareAndSet(StrEnum):
    """Whether there are conditional writes, and reads that see them in order."""

    PAXOS = "paxos"  # the replicas of a key agree on each by Paxos
    REFUSED = "refused"


class Purge(StrEnum):
    """When a deleted key is forgotten."""

    NEVER = "never"
    TIME = "time"  # after the grace, wherever else copies of what was deleted may be
    AFTER_REPAIR = "after_repair"  # after it, and when all members hold the delete and nothing else


class RingChanges(StrEnum):
    """How partitions change hands when nodes come and go."""

    JOINT = "joint"  # one change at a time; old and new owners count until the data has moved
    EAGER = "eager"  # at once: the new owners answer while their data is still on its way


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamoSettings:
    """The settings of a cluster; all its nodes must have the same."""

    __pydantic_config__: ClassVar[dict[str, Any]] = SETTINGS_CONFIG

    n: int = 3  # replicas of each key, 1 to the number of members
    r: int = 2  # replicas whose answers a read waits for, unless the request says otherwise
    w: int = 2  # replicas that must hold a write before it is acknowledged, likewise
    pr: int = 0  # of these R, so many must be primaries; 0 asks for none
    pw: int = 0  # of these W, likewise
    quorum: Quorum = Quorum.STRICT
    partitions: int = 64  # of the ring; at least one per member
    versions: Versions = Versions.DVV
    read_repair: ReadRepair = ReadRepair.ASYNC
    repairs_max: int = 1_000  # read repairs of a node that are under way, blocking ones not counted
    read_fanout: Fanout = Fanout.ALL
    hedge_after_ns: int | None = None  # digest: after so long one more replica is asked
    hedge_percentile: float | None = None  # the same after this percentile of the reads lately
    heartbeat_ns: int = 100 * MILLISECOND_NS
    suspect_after_ns: int = 500 * MILLISECOND_NS  # of silence; at least 3 heartbeats
    detector: Detection = Detection.SILENCE
    phi_threshold: float = 8.0  # 8: a silence that has a probability of 10**-8
    probe_ns: int = 200 * MILLISECOND_NS  # swim: one peer is probed in each of these
    probe_timeout_ns: int = 100 * MILLISECOND_NS  # until others are asked to probe it
    indirect_probes: int = 3  # how many others; 0: none
    suspicion_multiplier: int = 4  # a suspicion lasts so many probe intervals or up to six times
    local_health: bool = True  # whoever is slow itself judges slowly
    gossip_ns: int = 40 * MILLISECOND_NS  # between messages of news alone; 0: it rides on probes
    push_pull_ns: int = 6_000 * MILLISECOND_NS  # between exchanges of everything
    read_timeout_ns: int = 500 * MILLISECOND_NS  # or the request's own deadline, if that is sooner
    write_timeout_ns: int = 500 * MILLISECOND_NS
    compare_and_set: CompareAndSet = CompareAndSet.PAXOS
    ring_changes: RingChanges = RingChanges.JOINT
    transfer_bytes_per_s: int = 8 * 1024 * 1024  # what a node takes in when partitions move
    anti_entropy_ns: int = 2_000 * MILLISECOND_NS  # between exchanges with one peer each; 0: none
    anti_entropy_bytes_per_s: int = 1024 * 1024  # what a node may send for it
    hints: Hints = Hints.DURABLE
    hint_flush_ns: int = 10 * SECOND_NS  # buffered: how often they are written (Cassandra: 10 s)
    hint_window_ns: int = 3 * HOUR_NS  # no new hint while an older one has waited for longer
    hint_expiry_ns: int = 24 * HOUR_NS  # a hint that waited for so long is dropped
    hints_max: int = 100_000  # per target: keys that wait
    hint_bytes_per_s: int = 1024 * 1024  # to one target from all nodes together; 0: no limit
    pending_max: int = 10_000  # open questions; background work stops at a quarter of it
    purge: Purge = Purge.NEVER
    tombstone_grace_ns: int = 240 * HOUR_NS  # since the delete, by the wall clock (Cassandra: 10 d)
    resolve: Resolve = Resolve.SIBLINGS
    siblings_warn: int = 25  # a key that gets more is told of (Riak: 25)
    siblings_max: int = 100  # a write that would leave more of a key is refused (Riak: 100)

    def problems(self, members: int) -> Iterator[str]:
        """Yield what does not fit together, or does not fit a cluster of ``members`` nodes."""
        if not 1 <= self.n <= members:
            yield f"n is {self.n}, expected 1 to {members}, the number of members"
        for name, count, least in (
            ("r", self.r, 1),
            ("w", self.w, 1),
            ("pr", self.pr, 0),
            ("pw", self.pw, 0),
        ):
            if not least <= count <= self.n:
                yield f"{name} is {count}, expected {least} to n = {self.n}"
        if not members <= self.partitions <= PARTITIONS_MAX:
            yield (
                f"partitions is {self.partitions}, expected {members}, the number of members, "
                f"to {PARTITIONS_MAX}"
            )
        for name, word, words in (
            ("versions", self.versions, list(Versions)),
            ("read_repair", self.read_repair, list(ReadRepair)),
            ("purge", self.purge, list(Purge)),
            ("resolve", self.resolve, list(Resolve)),
            ("read_fanout", self.read_fanout, list(Fanout)),
            ("quorum", self.quorum, list(Quorum)),
            ("hints", self.hints, list(Hints)),
            ("detector", self.detector, list(Detection)),
            ("ring_changes", self.ring_changes, list(RingChanges)),
            ("compare_and_set", self.compare_and_set, list(CompareAndSet)),
        ):
            if word not in words:
                yield f"{name} is {word!r}, expected one of {', '.join(words)}"
        if self.quorum == Quorum.SLOPPY and self.hints == Hints.OFF:
            yield "quorum is sloppy and hints are off, expected hints for who stands in to keep"
        for name, count, least in (
            ("hints_max", self.hints_max, 1),
            ("repairs_max", self.repairs_max, 1),
            ("transfer_bytes_per_s", self.transfer_bytes_per_s, 1),
            ("hint_bytes_per_s", self.hint_bytes_per_s, 0),
            ("pending_max", self.pending_max, 100),
        ):
            if count < least:
                yield f"{name} is {count}, expected at least {least}"
        for name in (
            *("heartbeat", "read_timeout", "write_timeout"),
            "tombstone_grace",
            *("hint_flush", "hint_window", "hint_expiry"),
            *("probe", "probe_timeout", "push_pull"),
        ):
            value_ns = getattr(self, f"{name}_ns")
            if value_ns < MILLISECOND_NS:
                yield f"{name} is {value_ns} ns, expected at least 1 ms"
        if self.suspect_after_ns < 3 * self.heartbeat_ns:
            yield (
                f"suspect_after is {self.suspect_after_ns} ns, "
                f"expected at least 3 heartbeats of {self.heartbeat_ns} ns"
            )
        if self.probe_timeout_ns >= self.probe_ns:
            yield (
                f"probe_timeout is {self.probe_timeout_ns} ns, "
                f"expected less than probe, which is {self.probe_ns} ns"
            )
        if not 1 <= self.phi_threshold <= 16:
            yield f"phi_threshold is {self.phi_threshold}, expected 1 to 16"
        if self.indirect_probes < 0:
            yield f"indirect_probes is {self.indirect_probes}, expected at least 0"
        if self.suspicion_multiplier < 1:
            yield f"suspicion_multiplier is {self.suspicion_multiplier}, expected at least 1"
        for name in ("gossip", "anti_entropy"):
            value_ns = getattr(self, f"{name}_ns")
            if value_ns and value_ns < MILLISECOND_NS:
                yield f"{name} is {value_ns} ns, expected 0 or at least 1 ms"
        if self.anti_entropy_bytes_per_s < 1:
            yield (
                f"anti_entropy_bytes_per_s is {self.anti_entropy_bytes_per_s}, expected at least 1"
            )
        yield from self._hedge_problems()
        if self.resolve != Resolve.SIBLINGS and self.versions in (Versions.LWW, Versions.HLC):
            yield (
                f"resolve is {self.resolve} and versions is {self.versions}, "
                "expected dvv or version_vector: the others keep one version"
            )
        if self.siblings_warn < 1:
            yield f"siblings_warn is {self.siblings_warn}, expected at least 1"
        if self.siblings_max < 2:
            yield f"siblings_max is {self.siblings_max}, expected at least 2"

    def _hedge_problems(self) -> Iterator[str]:
        hedges = [
            name
            for name, value in (
                ("hedge_after", self.hedge_after_ns),
                ("hedge_percentile", self.hedge_percentile),
            )
            if value is not None
        ]
        if len(hedges) == 2:
            yield "hedge_after and hedge_percentile are both set, expected one of them"
        if hedges and self.read_fanout is not Fanout.DIGEST:
            yield f"{hedges[0]} is set, expected read_fanout = digest with it: all are asked anyway"
        if self.hedge_after_ns is not None and self.hedge_after_ns < MILLISECOND_NS:
            yield f"hedge_after is {self.hedge_after_ns} ns, expected at least 1 ms"
        if self.hedge_percentile is not None and not 50 <= self.hedge_percentile < 100:
            yield f"hedge_percentile is {self.hedge_percentile}, expected 50 to less than 100"


def promise(settings: DynamoSettings) -> str:
    """Return one sentence: what a cluster with these settings guarantees, and what it does not."""
    n, r, w = settings.n, settings.r, settings.w
    conflict = _conflict_words(settings)
    overlap, counted = r + w, f"R={r} + W={w}"
    if settings.quorum == Quorum.SLOPPY:
        conflict += ", those that stand in for dead primaries included"
        overlap = settings.pr + settings.pw
        counted = f"PR={settings.pr} + PW={settings.pw}"
    if overlap > n:
        keeps_all = settings.versions.keeps_siblings and settings.resolve in _SHOW_ALL
        seen = "or a successor" if keeps_all else "or one that wins over it"
        unseen = ", but a write that failed or is under way may be seen and then unseen"
        strict = settings.quorum == Quorum.STRICT
        if settings.read_repair == ReadRepair.BLOCKING and strict and n < 2 * r:
            unseen = ", and what a read at the default level has shown no later one unsees"
        if settings.ring_changes == RingChanges.EAGER:
            unseen += (
                ", and while nodes come and go it may ask new ones that have fetched nothing yet"
            )
        return (
            f"A read sees every write acknowledged before it {seen} ({counted} > N={n}){unseen}; "
            f"{conflict}."
        )
    if settings.quorum == Quorum.SLOPPY:
        return (
            f"A read may return stale values: of the R={r} and W={w} nodes that answer some may "
            f"stand in for primaries; {conflict}."
        )
    return f"A read may return stale values (R={r} + W={w} <= N={n}); {conflict}."


_SHOW_ALL = (Resolve.SIBLINGS, Resolve.UNION)


def _conflict_words(settings: DynamoSettings) -> str:
    if settings.versions == Versions.LWW:
        return (
            "of concurrent writes the greatest wall clock wins and the others vanish, "
            "acknowledged or not"
        )
    if settings.versions == Versions.HLC:
        return (
            "of concurrent writes the greatest hybrid clock wins and the others vanish, "
            "acknowledged or not; a write wins over what its writer or its coordinator had read"
        )
    kept = (
        "concurrent writes are kept as siblings, so no acknowledged write is lost while fewer "
        f"than W={settings.w} disks are"
    )
    if settings.versions == Versions.VERSION_VECTOR:
        kept += ", but versions that were superseded are kept beside them"
    if settings.purge == Purge.TIME:
        kept += (
            ", except that deletes are undone by copies that were away for longer than their grace"
        )
    if settings.resolve not in _SHOW_ALL:
        kept += (
            f"; a read shows one of them ({settings.resolve}) and its next write buries the others"
        )
    return kept
