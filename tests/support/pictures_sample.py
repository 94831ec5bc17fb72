"""Large pictures for tests of the report: a failover, and a conflicting key."""

from dataclasses import replace

from replication.analysis.conflict_findings import (
    ConcurrentPair,
    ConflictingKey,
    PairedWrite,
)
from replication.analysis.findings import FailoverPrediction, RunFindings, SplitBrain, StandbyNote
from replication.analysis.pictures import FailoverPicture, NodeMark, OperationMark, SpaceTime
from replication.analysis.staleness_findings import Pbs, VisibilityBin
from tests.support import findings_sample as sample
from tests.support.findings_sample import FAULT_AT, MS


def operation(
    client: str, start_ms: float, end_ms: float, outcome: str = "ok", **changes: object
) -> OperationMark:
    """Return an operation of the picture; times count from the fault."""
    made = OperationMark(
        operation=round(start_ms),
        client=client,
        kind="put",
        outcome=outcome,
        start_ns=FAULT_AT + round(start_ms * MS),
        end_ns=FAULT_AT + round(end_ms * MS),
        turned_ns=None,
        node="n1",
        attempts=1,
        redirects=0,
        words=f"{client}: put k7 by n1: {outcome}",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def mark(kind: str, node: str, at_ms: float, **changes: object) -> NodeMark:
    """Return what a node told ``at_ms`` after the fault."""
    made = NodeMark(FAULT_AT + round(at_ms * MS), node, kind, f"{kind} in words")
    return replace(made, **changes)  # type: ignore[arg-type]


def leader_crash(words: str = "put k7 by n1") -> RunFindings:
    """Return the leader crash with its picture on the leader's side, and with a split brain."""
    run = sample.leader_crash()
    side = run.sides["leader"]
    failover = side.failovers[0]
    asked_ns = FAULT_AT + 171 * MS
    failover.picture = FailoverPicture(
        FAULT_AT - 50 * MS,
        FAULT_AT + 800 * MS,
        asked_ns,
        FAULT_AT + 201 * MS,
        nodes=[
            mark("pre-vote", "n1", 171),
            mark("pre-granted", "n2", 174, sender="n1", sent_ns=asked_ns),
            mark("stood", "n1", 180),
            mark("granted", "n2", 184, sender="n1", sent_ns=FAULT_AT + 180 * MS, words=words),
            mark("refused", "n4", 185, sender="n1", sent_ns=FAULT_AT + 180 * MS),
            mark("leads", "n1", 198),
            mark("told by nobody yet", "n5", 300),
        ],
        operations=[
            operation("c1", -20, 347, attempts=2, redirects=1, turned_ns=FAULT_AT + 340 * MS),
            operation("c2", 10, 190, "unknown", words=words),
            operation("c3", 30, 190, "fail", kind="get"),
            *(operation(f"c{number}", 400, 402) for number in range(4, 30)),
        ],
        left_out="the first 29 of 900 operations",
    )
    failover.prediction = FailoverPrediction(
        335 * MS, 270 * MS, 435 * MS, 354 * MS, 4, 300 * MS, 600 * MS, 50 * MS, 2, 9 * MS, 25 * MS
    )
    failover.pre_votes = 1
    side.standbys = [StandbyNote("n1", FAULT_AT, f"finds n2 {words}")]
    side.split_brains = [
        SplitBrain("n3", 3, "n1", 4, FAULT_AT, FAULT_AT + 100 * MS, 12, 30, 2, ["c1:7", "c2:9"])
    ]
    return run


def conflicting_key(value: str = "v1") -> RunFindings:
    """Return the split writers with a picture of their worst key, pairs, and repairs."""
    run = sample.split_writers()
    side = run.sides["leaderless"]
    side.convergence.converged_ns = side.heal_ns
    side.convergence.watched = [(FAULT_AT, 4), (FAULT_AT + 100 * MS, 9), (side.heal_ns, 0)]
    first, second = (
        PairedWrite(
            each, each[:2], "n1", FAULT_AT, FAULT_AT + 5 * MS, "ok", value, None, ["c0:1"] * 9
        )
        for each in ("c1:1", "c2:1")
    )
    ledger = side.conflicts
    ledger.pair_count, ledger.pairs = 4_321, [ConcurrentPair("k7", first, second, None, "siblings")]
    ledger.worst_keys = [ConflictingKey("k7", pairs=3, stale_reads=2, differs=True)]
    ledger.open_sets = [(FAULT_AT, 0), (FAULT_AT + 50 * MS, 3)]
    ledger.repairs = {"hints_stored": 5, "hints_delivered": 4, "hints_expired": 1}
    ledger.vanished_by_cause = {"clock skew": 2}
    ledger.space_time = SpaceTime(
        "k7",
        FAULT_AT - MS,
        FAULT_AT + 90 * MS,
        "here c1 read a version that had been replaced",
        {"c1:1": f"c1:1 (put '{value}'), dot n1:1", "c2:1": "c2:1 (put 'v2')"},
        [mark("siblings", "n2", 30, versions=["c1:1", "c2:1"])],
        [
            operation("c1", 0, 10, versions=["c1:1"], context=["c0:1"], replicas=["n1", "n2"]),
            operation("c2", 5, 12, versions=["c2:1"], context=["c1:1"]),
            operation("c1", 60, 61, kind="get", versions=["c1:1", "c2:1"]),
        ],
        "3 operations on this key",
    )
    return run


def partial_quorums() -> RunFindings:
    """Return the split writers with reads of one replica, measured and predicted."""
    run = sample.split_writers()
    run.sides["leaderless"].pbs = Pbs(
        3,
        1,
        1,
        [1 / 3, 5 / 9, *[1.0] * 8],
        [0.9, 0.97, *[1.0] * 8],
        [
            VisibilityBin(0, 4, 400, 280, 0.69),
            VisibilityBin(4, 8, 400, 360, 0.88),
            VisibilityBin(8, 900, 700, 700, 1.0),
        ],
        0.0084,
        0.006,
        {"write": 4_000},
    )
    return run
