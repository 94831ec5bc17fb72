"""What took a while on one side, and what clients saw meanwhile, beside what they saw before."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Percentiles:
    """Latencies from the intended start, milliseconds; None where nothing completed."""

    count: int = 0
    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    p999_ms: float | None = None
    max_ms: float | None = None


@dataclass(slots=True)
class SnapshotInstall:
    """A follower that was brought up to date by a snapshot, and what clients saw meanwhile."""

    node: str
    sender: str
    index: int
    start_ns: int  # its first chunk came
    end_ns: int  # installed
    duration_ns: int
    bytes: int  # of the snapshot
    bytes_sent: int | None = None  # repetitions included; None: its sender did not tell
    during: Percentiles = field(default_factory=Percentiles)  # of all acknowledged operations
    before: Percentiles = field(default_factory=Percentiles)  # while measuring, before any fault


@dataclass(slots=True)
class Handoff:
    """A node that was away and came back, what hints brought it, and what clients saw meanwhile."""

    node: str
    start_ns: int  # it was started again
    end_ns: int  # the last hint was acknowledged
    duration_ns: int
    hints: int
    bytes: int
    senders: int  # nodes that had kept them
    refused: dict[str, int] = field(default_factory=dict)  # reason -> hints that were not kept
    refused_count: int = 0
    during: Percentiles = field(default_factory=Percentiles)  # of all acknowledged operations
    before: Percentiles = field(default_factory=Percentiles)  # while measuring, before any fault


@dataclass(slots=True)
class MemberChange:
    """A node that joined, left or was replaced, and what clients saw until it was done."""

    words: str
    start_ns: int  # it was asked for; who is replaced had just died
    end_ns: int  # the cluster said that it is done: what was to move had moved
    duration_ns: int
    keys: int | None = None  # that moved, as far as nodes tell
    bytes: int | None = None
    during: Percentiles = field(default_factory=Percentiles)  # of all acknowledged operations
    before: Percentiles = field(default_factory=Percentiles)  # while measuring, before any fault
