"""After healing every key is read back, and asked for again where nobody answered. Pure."""

from collections.abc import Collection, Container, Iterable, Sequence

from replication.client.requests import level
from replication.client.session import Session
from replication.history import Operation, OperationKind, Outcome, Phase
from replication.plan.model import PlannedClient, PlannedOperation, Route
from replication.plan.plan import Plan
from replication.protocol import Family, NodeId
from replication.v1 import storage_pb2

READERS = 8
TURNS = 3  # of asking for a key until somebody answers

Work = list[tuple[Session, list[PlannedOperation]]]


def unanswered(keys: Iterable[str], operations: Iterable[Operation]) -> list[str]:
    """Return those of ``keys`` that nobody has read back yet.

    Who asks all replicas is refused while a detector errs, and it may at any moment.
    """
    answered = {
        operation.key
        for operation in operations
        if operation.phase is Phase.FINAL and operation.outcome is Outcome.OK
    }
    return [key for key in keys if key not in answered]


def readers(
    plan: Plan,
    family: Family,
    nodes: Sequence[NodeId],
    offered: Collection[storage_pb2.Consistency.ValueType],
    keys: Sequence[str],
    turn: int,
) -> Work:
    """Return readers that share ``keys`` and begin at different nodes, in the ``turn`` from 0."""
    everything = len(plan.keys())
    work = []
    for number in range(min(READERS, len(keys))):
        home = nodes[number % len(nodes)]
        client = PlannedClient(f"final-{number + 1}", home, Route.FOLLOW)
        session = Session(client, family, nodes, plan.timing.operation_timeout_ns)
        mine = keys[number::READERS]
        work.append((session, reads(client.name, mine, offered, 1 + turn * everything)))
    return work


def reads(
    client: str,
    keys: Sequence[str],
    offered: Container[storage_pb2.Consistency.ValueType],
    first: int = 1,
) -> list[PlannedOperation]:
    """Return one read of every key, at the strictest of the levels ``offered``.

    Leaderless reads ask ALL replicas: a write that survives anywhere is not lost, and what differs
    is repaired. LINEARIZABLE there asks a majority, and repairs nothing. Who offers neither is
    asked for its default.
    """
    strictest = next((name for name in ("all", "linearizable") if level(name) in offered), None)
    return [
        PlannedOperation(
            client=client,
            sequence=sequence,
            due_ns=None,
            kind=OperationKind.GET,
            key=key,
            consistency=strictest,
        )
        for sequence, key in enumerate(keys, first)
    ]
