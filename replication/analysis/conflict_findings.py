"""What the analysis says of concurrency: the conflict ledger of one side.

Plain data like ``replication.analysis.findings``, of which it is a part.
"""

from dataclasses import dataclass, field
from typing import Any

from replication.analysis.pictures import SpaceTime


@dataclass(slots=True)
class Conflict:
    """Concurrent versions of one key, and how they ended."""

    key: str
    at_ns: int
    node: str | None
    versions: list[dict[str, Any]]  # write_id, dot, client, value, node that coordinated
    ended: str  # "left as siblings" | "resolved by <write id>" | "merged on read" | "dropped"
    ended_at_ns: int | None = None


@dataclass(slots=True)
class VanishedWrite:
    """An acknowledged write that no later writer had seen and nobody can read any more."""

    write_id: str
    key: str
    value: str | None
    client: str
    acknowledged_ns: int
    acknowledged_by: str | None
    why: str  # in words
    winner: str | None = None  # write id that stands in its place
    cause: str = ""  # "clock skew", "tie", ... (``replication.analysis.causes``)


@dataclass(slots=True)
class PairedWrite:
    """One of two concurrent writes: who, where, when, and what it knew."""

    write_id: str
    client: str
    node: str | None
    begun_ns: int
    ended_ns: int | None
    outcome: str
    value: str | None
    dot: str | None
    context: list[str]  # write ids that its writer had read


@dataclass(slots=True)
class ConcurrentPair:
    """Two writes of a key that had not seen each other."""

    key: str
    first: PairedWrite
    second: PairedWrite  # began later
    apart_ns: int | None  # from the end of the first to the begin of the second; None: overlapped
    became: str


@dataclass(slots=True)
class AppearedWrite:
    """A write that took effect although its client was told that it failed, or nothing at all."""

    write_id: str
    key: str
    client: str
    outcome: str  # "fail" or "unknown"
    error: str | None
    told_ns: int | None  # when the client gave up
    seen_ns: int | None  # end of the first read that returned it; None: only a replica held it


@dataclass(slots=True)
class ConflictingKey:
    """What concurrency did to one key."""

    key: str
    pairs: int = 0
    sibling_sets: int = 0
    sibling_count_max: int = 0
    vanished: int = 0
    undone: int = 0  # deletes that an old copy undid after they were purged, as nodes tell
    appeared: int = 0
    stale_reads: int = 0
    differs: bool = False  # its replicas were not equal when the run stopped watching


@dataclass(slots=True)
class ConflictLedger:
    """What concurrency did to the data."""

    concurrent_writes: int = (
        0  # acknowledged writes that overlap another of the key, unseen by each
    )
    sibling_sets: int = 0
    siblings_at_end: int = 0  # keys that still hold more than one version
    sibling_count_max: int = 0
    resolved: int = 0
    dropped_by_timestamp: int = 0
    read_repairs: int = 0
    vanished: list[VanishedWrite] = field(default_factory=list)  # the first 100
    vanished_count: int = 0
    conflicts: list[Conflict] = field(default_factory=list)  # the first 100
    pair_count: int = 0
    pairs: list[ConcurrentPair] = field(default_factory=list)  # the first 100
    ended: dict[str, int] = field(default_factory=dict)  # how sibling sets ended -> how many
    resolvers: dict[str, int] = field(default_factory=dict)  # client -> sets that it resolved
    vanished_by_cause: dict[str, int] = field(default_factory=dict)
    failed_visible: int = 0
    unknown_visible: int = 0
    appeared: list[AppearedWrite] = field(default_factory=list)  # the first 100
    worst_keys: list[ConflictingKey] = field(default_factory=list)  # ten
    open_sets: list[tuple[int, int]] = field(default_factory=list)  # (from when on, sibling sets)
    repairs: dict[str, int] = field(default_factory=dict)  # (``replication.analysis.repairs``)
    space_time: SpaceTime | None = None  # of the worst key
