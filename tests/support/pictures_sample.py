"""Large pictures for tests of the report: a failover as the leader crash of the sample has it."""

from dataclasses import replace

from replication.analysis.findings import FailoverPrediction, RunFindings, SplitBrain
from replication.analysis.pictures import FailoverPicture, NodeMark, OperationMark
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
        335 * MS, 270 * MS, 435 * MS, 354 * MS, 4, 300 * MS, 600 * MS, 50 * MS, 2, 9 * MS
    )
    failover.pre_votes = 1
    side.split_brains = [
        SplitBrain("n3", 3, "n1", 4, FAULT_AT, FAULT_AT + 100 * MS, 12, 30, 2, ["c1:7", "c2:9"])
    ]
    return run
