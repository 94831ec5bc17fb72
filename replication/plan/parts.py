"""From a document without mistakes to the parts of a plan."""

from collections.abc import Mapping
from itertools import cycle, islice

from replication.history import OperationKind
from replication.plan.model import (
    PartitionShape,
    PlannedClient,
    PlannedFault,
    PlannedOperation,
    Timing,
)
from replication.plan.schema import Document, FaultTable, TargetTable
from replication.plan.targets import ALL, Role, parse_target
from replication.plan.workload import (
    Arrival,
    ClosedArrival,
    ExplicitWorkload,
    Keys,
    OpenArrival,
    RegisterWorkload,
    Spacing,
    Workload,
    key_name,
)
from replication.protocol import Family

MIX: Mapping[str, float] = {OperationKind.GET: 0.5, OperationKind.PUT: 0.5}


def nodes_of(document: Document) -> tuple[str, ...]:
    """Return the names of the nodes: n1, n2 ..."""
    return tuple(f"n{number + 1}" for number in range(document.cluster.nodes))


def clients_of(document: Document) -> tuple[str, ...]:
    """Return the names of the clients: c1, c2 ..."""
    return tuple(f"c{number + 1}" for number in range(document.workload.clients))


def keys_of(document: Document) -> tuple[str, ...]:
    """Return every key that an operation may touch."""
    workload = document.workload
    if workload.kind == "explicit":
        return tuple(sorted({each.key for each in workload.operation if each.key is not None}))
    return tuple(key_name(rank) for rank in range(workload.keys.count))


def timing(document: Document) -> Timing:
    """Return how long each part of a run takes."""
    run = document.run
    return Timing(run.warmup, run.duration, run.settle, run.operation_timeout)


def clients(document: Document) -> tuple[PlannedClient, ...]:
    """Return the clients, each beside its home node."""
    workload = document.workload
    homes = nodes_of(document) if isinstance(workload.placement, str) else workload.placement
    arrival = workload.arrival
    think_ns = (arrival.think or 0) if arrival is not None else 0
    names = clients_of(document)
    return tuple(
        PlannedClient(name, home, workload.route, think_ns)
        for name, home in zip(names, islice(cycle(homes), len(names)), strict=True)
    )


def workload(document: Document) -> Workload:
    """Return what the clients do."""
    table = document.workload
    if table.kind == "explicit":
        return ExplicitWorkload(_listed(document))
    mix = MIX if table.mix is None else table.mix
    keys = table.keys
    chosen = {
        name: value
        for name in ("theta", "hot_keys", "hot_operations")
        if (value := getattr(keys, name)) is not None
    }
    return RegisterWorkload(
        mix=tuple((OperationKind(kind), share) for kind, share in mix.items() if share > 0),
        keys=Keys(keys.count, keys.pick, **chosen),
        arrival=_arrival(document),
        clients=table.clients,
        value_bytes=table.value_bytes,
        with_context=table.context,
    )


def _arrival(document: Document) -> Arrival:
    arrival = document.workload.arrival
    assert arrival is not None
    if arrival.kind == "closed":
        return ClosedArrival(arrival.think or 0)
    assert arrival.rate is not None
    return OpenArrival(arrival.rate, arrival.spacing or Spacing.POISSON)


def _listed(document: Document) -> tuple[PlannedOperation, ...]:
    sequences: dict[str, int] = {}
    operations = []
    for each in document.workload.operation:
        assert each.client is not None
        assert each.kind is not None
        assert each.key is not None
        sequence = sequences[each.client] = sequences.get(each.client, 0) + 1
        operations.append(
            PlannedOperation(
                client=each.client,
                sequence=sequence,
                due_ns=each.at,
                kind=each.kind,
                key=each.key,
                value=each.value,
                expected=each.expected,
                with_context=document.workload.context,
            )
        )
    return tuple(operations)


def shape_of(fault: FaultTable) -> PartitionShape | None:
    """Return the shape of a partition, said or implied; None when nothing implies one."""
    if fault.shape is not None:
        return fault.shape
    if fault.sides is not None:
        return PartitionShape.NODES
    return PartitionShape.ISOLATE if fault.target is not None else None


def faults(document: Document) -> tuple[PlannedFault, ...]:
    """Return the faults in order of time, numbered from 1; at equal times in order of the file."""
    ordered = sorted(document.fault, key=lambda each: each.at or 0)
    return tuple(_fault(number, each) for number, each in enumerate(ordered, 1))


def _fault(number: int, table: FaultTable) -> PlannedFault:
    assert table.kind is not None
    assert table.at is not None
    targets, shared = targets_of(table)
    return PlannedFault(
        number=number,
        kind=table.kind,
        at_ns=table.at,
        until_ns=table.until if table.for_ is None else table.at + table.for_,
        targets=targets,
        shared_target=shared,
        shape=shape_of(table) if table.kind == "partition" else None,
        sides=tuple(tuple(side) for side in table.sides or ()),
        delay_ns=table.delay or 0,
        jitter_ns=table.jitter or 0,
        loss=table.loss or 0.0,
    )


def targets_of(fault: FaultTable) -> tuple[dict[Family, str], bool]:
    """Return the expression for each family, and whether both sides are to get the same nodes.

    "first-replica-of" and "coordinator-of" mean the leader where all keys have one. That is no
    reason to hit the leader's node on the leaderless side, so they count as a target for each.
    """
    target = fault.target
    if isinstance(target, TargetTable):
        assert target.leader is not None
        assert target.leaderless is not None
        return {Family.LEADER: target.leader, Family.LEADERLESS: target.leaderless}, False
    if target is None:
        led = shape_of(fault) is PartitionShape.MINORITY_WITH_LEADER
        target = "leader" if led else ALL
    of_key = parse_target(target).role in (Role.FIRST_REPLICA, Role.COORDINATOR)
    return dict.fromkeys(Family, target), not of_key
