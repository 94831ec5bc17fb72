"""What the analysis says: verdicts with their coverage and witnesses, and measures.

Computed from a History alone. Everything here is plain data with a JSON form, so that a report
renders it without computing anything and a stored run can be analysed again. Times are
nanoseconds since the start of the run, durations nanoseconds, unless a name says ``_ms``.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from replication.analysis.conflict_findings import ConflictLedger
from replication.analysis.gossip_findings import Gossip
from replication.analysis.meanwhile import Handoff, MemberChange, Percentiles, SnapshotInstall
from replication.analysis.pictures import FailoverPicture, WitnessPicture
from replication.analysis.staleness_findings import KeyAtomicity, Pbs
from replication.history import DriverReport, FaultRecord


class Verdict(StrEnum):
    """In ascending order of gravity."""

    VALID = "valid"
    UNKNOWN = "unknown"
    VIOLATED = "violated"


def combine(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the gravest verdict. No verdict at all is UNKNOWN: nothing was shown."""
    return max(verdicts, key=list(Verdict).index, default=Verdict.UNKNOWN)


@dataclass(slots=True)
class Witness:
    """The few operations that prove a violation."""

    words: str  # the story in one or a few sentences, for a person
    key: str | None = None
    operations: list[int] = field(default_factory=list)  # indexes into the history
    at_ns: int | None = None
    causes: list[str] = field(default_factory=list)  # sentences: what the history tells of why
    picture: WitnessPicture | None = None


@dataclass(slots=True)
class Coverage:
    """What a verdict rests on."""

    judged: int = 0
    by_outcome: dict[str, int] = field(default_factory=dict)  # "ok" | "fail" | "unknown"
    by_kind: dict[str, int] = field(default_factory=dict)
    keys: int = 0
    by_fault: dict[int, int] = field(default_factory=dict)  # fault number -> acknowledged in window
    by_side: dict[str, int] = field(default_factory=dict)  # the same, of the clients of each side
    smallest: str = ""  # the smallest violation that a pass could not have missed
    notes: list[str] = field(default_factory=list)  # why it is inconclusive, if it is


@dataclass(slots=True)
class Finding:
    """The result of one check."""

    check: str  # "linearizability"
    title: str  # "Linearizable"
    verdict: Verdict
    summary: str  # one sentence with numbers
    coverage: Coverage = field(default_factory=Coverage)
    witnesses: list[Witness] = field(default_factory=list)  # the first few
    violations: int = 0  # how many in all
    promised: bool = True  # whether this side promises it: a broken promise fails a run
    counts: dict[str, int] = field(default_factory=dict)  # further numbers, for expectations
    seconds: float = 0.0  # left out of comparisons between analyses


@dataclass(slots=True)
class Availability:
    """Outcomes over time for one group of operations ("reads", "writes", "writes of side A")."""

    name: str
    ok: int = 0
    fail: int = 0
    unknown: int = 0
    ok_share: float | None = None  # of those that were invoked while measuring
    longest_outage_ns: int = 0  # longest stretch without an acknowledged operation
    outage_start_ns: int | None = None
    unavailable_buckets: int = 0  # of 100 ms, with operations due and none acknowledged
    buckets: list[tuple[int, int, int]] = field(default_factory=list)  # (ok, fail, unknown)


@dataclass(slots=True)
class FailoverStep:
    """One line of the failover ledger: what happened, when, how long after the fault."""

    name: str  # "detected", "elected", "first acknowledged write", "back to 95 %"
    at_ns: int | None  # None: it was not seen
    after_fault_ns: int | None
    detail: str = ""


@dataclass(slots=True)
class FailoverPrediction:
    """What the timeouts let expect of a failover (``replication.analysis.prediction``)."""

    detected_ns: int  # the mean
    detected_low_ns: int  # one in twenty is noticed sooner
    detected_high_ns: int  # one in twenty is noticed later
    elected_ns: int | None  # None: no write before the fault tells how long a round of votes takes
    followers: int  # whose timeouts race: those that come first by priority
    timeout_min_ns: int  # theirs
    timeout_max_ns: int
    heartbeat_ns: int
    rounds: int  # of votes; 0: no vote decides, so no election is predicted
    round_ns: int | None  # the median write before the fault
    heard_ns: int = 0  # the mean time since they last heard of the leader
    write_gap_ns: int | None = None  # between writes before the fault: each a word of the leader
    resigned_ns: int = 0  # when a leader that hears nobody gives up


@dataclass(slots=True)
class PartitionSide:
    """What became of the operations of the clients on one side of a partition."""

    name: str  # "n1, n2 and c1"
    ok: int = 0
    failed: int = 0
    unknown: int = 0
    redirected: int = 0


@dataclass(slots=True)
class SplitBrain:
    """Two leaders that acknowledged writes in the same interval."""

    old: str
    old_term: int
    new: str
    new_term: int
    start_ns: int
    end_ns: int
    old_writes: int  # acknowledged by the old leader although the new one had acknowledged already
    new_writes: int  # acknowledged by the new leader in the interval
    lost_count: int = 0  # of the old leader's
    lost: list[str] = field(default_factory=list)  # their write ids, the first 1,000


@dataclass(slots=True)
class LeasePeriod:
    """A stretch in which a leader might answer reads by its clock alone, as it told itself."""

    node: str
    term: int
    start_ns: int
    end_ns: int | None = None  # when the node noticed; None: held to the end
    why: str = ""  # it ended


@dataclass(slots=True)
class StandbyNote:
    """What a primary said of its standbys at a moment."""

    node: str
    at_ns: int
    words: str


@dataclass(slots=True)
class Leadership:
    """The elections of a whole load, whatever brought them about."""

    elections: int = 0  # that entered a term
    needless: int = 0  # of them although no fault kept the last leader from going on
    pre_votes: int = 0  # rounds in which a node only asked whether it could win
    split_votes: int = 0
    terms: int = 0  # burnt
    changes: int = 0  # how often a node came to lead


@dataclass(slots=True)
class Failover:
    """The ledger of one fault (design §8)."""

    fault: int  # number
    words: str
    steps: list[FailoverStep] = field(default_factory=list)
    write_outage_ns: int = 0  # longest stretch without an acknowledged write that began with it
    read_outage_ns: int = 0
    failed: int = 0
    unknown: int = 0
    redirected: int = 0
    elections: int = 0
    terms: int = 0
    truncated_entries: int = 0  # dropped by a returning leader
    truncated_acknowledged: int = 0  # of them acknowledged to a client: must be 0 for Raft
    old_leader_returned_ns: int | None = None  # when it was a follower of the new one
    old_leader_returned_after_ns: int | None = None  # the fault
    left_the_leader_alone: bool = False  # the fault did not touch a leader: no failover was due
    dropped_acknowledged: list[str] = field(default_factory=list)  # ids, the first 1,000
    old_leader: str | None = None
    pre_votes: int = 0  # rounds in which a node only asked whether it could win
    split_votes: int = 0  # terms that somebody stood for and nobody won
    by_side: list[PartitionSide] = field(default_factory=list)
    prediction: FailoverPrediction | None = None
    took_the_majority: bool = False  # the leader itself was well, and had too few to lead
    handed_over: bool = False  # the leader asked another to stand: no timeout had to pass
    picture: FailoverPicture | None = None


@dataclass(slots=True)
class StaleRead:
    """One read that missed a newer version."""

    operation: int
    client: str
    key: str
    node: str | None
    at_ns: int  # begun
    age_ns: int
    returned: list[str]  # write ids


@dataclass(slots=True)
class Staleness:
    """Reads that returned a version although a newer one had been acknowledged before they began.

    Of the reads while measuring. The age of a stale read is how long the first newer version had
    been acknowledged when the read began.
    """

    judged: int = 0
    stale: int = 0
    share: float | None = None
    p50_age_ms: float | None = None  # of the stale ones
    p99_age_ms: float | None = None
    max_age_ms: float | None = None
    oldest_read: int | None = None  # the operation that returned the oldest version
    worst: list[StaleRead] = field(default_factory=list)  # the oldest ten
    inconsistent_keys: int = 0  # that were not like one copy; siblings and compare-and-set apart
    max_delta_ms: float | None = None  # the greatest D of Delta-atomicity that any key needs
    k_at_least: int = 1  # no smaller k of k-atomicity fits every key
    keys: list[KeyAtomicity] = field(default_factory=list)  # the worst ten


@dataclass(slots=True)
class ConvergenceReport:
    """When all replicas were equal after healing."""

    heal_ns: int
    converged_ns: int | None  # None: not while the run watched
    after_heal_ns: int | None
    keys: int = 0
    differing_at_heal: int | None = None
    differing_at_end: list[str] = field(default_factory=list)
    watched: list[tuple[int, int]] = field(default_factory=list)  # (when, keys that differed)


@dataclass(slots=True)
class Rung:
    """One level of consistency and whether it held."""

    name: str  # of a check, or "sessions"
    title: str
    verdict: Verdict


@dataclass(slots=True)
class Ladder:
    """How consistent a side was, whatever it promises."""

    rungs: list[Rung] = field(default_factory=list)  # the weakest first
    strongest: str | None = None  # title of the strongest that held
    broke: str | None = None  # title of the weakest that broke
    why: str = ""  # the first violation of that


@dataclass(slots=True)
class RolePeriod:
    """What one node was during a stretch of time, for the strip in the page."""

    node: str
    start_ns: int
    end_ns: int
    role: str  # follower, candidate, leader, replica, down, paused
    term: int = 0


@dataclass(slots=True)
class LatencyPoint:
    """One operation in the latency plot; thinned out evenly above a limit, said in ``thinned``."""

    at_ns: int
    latency_ms: float
    outcome: str
    kind: str
    operation: int


@dataclass(slots=True)
class SideFindings:
    """Everything the analysis says of one side."""

    family: str
    backend: str
    title: str
    promise: str
    simulated: bool
    seed: int
    nodes: list[str]
    load_start_ns: int
    measure_start_ns: int
    load_end_ns: int
    heal_ns: int
    settle_end_ns: int
    verdict: Verdict  # of the promised checks, combined
    findings: dict[str, Finding]
    reads: Percentiles
    writes: Percentiles
    availability: dict[str, Availability]  # "reads", "writes", and per side of a partition
    failovers: list[Failover]
    conflicts: ConflictLedger
    convergence: ConvergenceReport
    faults: list[FaultRecord]
    roles: list[RolePeriod]
    latency_points: list[LatencyPoint]
    split_brains: list[SplitBrain] = field(default_factory=list)
    leases: list[LeasePeriod] = field(default_factory=list)
    standbys: list[StandbyNote] = field(default_factory=list)
    leadership: Leadership | None = None
    snapshots: list[SnapshotInstall] = field(default_factory=list)
    handoffs: list[Handoff] = field(default_factory=list)
    member_changes: list[MemberChange] = field(default_factory=list)
    gossip: Gossip | None = None
    staleness: Staleness = field(default_factory=Staleness)
    ladder: Ladder = field(default_factory=Ladder)
    pbs: Pbs | None = None
    throughput_per_s: float = 0.0  # acknowledged operations while measuring
    operations: dict[str, int] = field(default_factory=dict)  # outcome -> count
    messages_per_operation: float | None = None  # between nodes, per acknowledged operation
    bytes_per_operation: float | None = None
    cpu_us_per_operation: float | None = None  # of all nodes
    fdatasync_ms_p50: float | None = None
    fdatasync_ms_p99: float | None = None
    thinned: str | None = None
    generator_bound: bool = False
    driver: DriverReport = field(default_factory=DriverReport)
    lag_share: float | None = None  # of the driver in the latencies, the worse of p50 and p99
    interrupted: bool = False
    problems: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class ExpectationResult:
    """One expectation and what became of it."""

    place: str  # "expect[2]"
    side: str
    words: str  # "linearizability is valid"
    verdict: Verdict  # VALID: met
    observed: str  # in words or numbers
    measure: str | None = None  # its path, where it is about one


@dataclass(slots=True)
class RunFindings:
    """Everything that a report of a run shows."""

    name: str
    title: str
    question: str
    seed: int
    started_unix_ns: int
    versions: dict[str, str]  # replication, python, grpcio, platform
    sides: dict[str, SideFindings]  # "leader", "leaderless"; one or both, in this order
    expectations: list[ExpectationResult]
    verdict: Verdict
    again: str  # the command that repeats the run
    folder: str | None = None
