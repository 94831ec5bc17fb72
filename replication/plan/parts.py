"""From a document without mistakes to the parts of a plan."""

from collections.abc import Mapping
from itertools import cycle, islice

from replication.history import OperationKind
from replication.plan.model import (
    ClockFault,
    Direction,
    DiskEffect,
    DiskFault,
    FaultKind,
    PartitionShape,
    PlannedClient,
    PlannedFault,
    PlannedOperation,
    Timing,
    Update,
)
from replication.plan.schema import Document, FaultTable, TargetTable
from replication.plan.targets import ALL, parse_target
from replication.plan.workload import (
    Arrival,
    ClosedArrival,
    ExplicitWorkload,
    Keys,
    OpenArrival,
    Pick,
    RegisterWorkload,
    Spacing,
    UpdateWorkload,
    Workload,
    WorkloadKind,
    key_name,
)
from replication.protocol import Family

HOLD_NS = 5_000_000  # of duplicate and reorder, unless the fault says so
MIX: Mapping[str, float] = {OperationKind.GET: 0.5, OperationKind.PUT: 0.5}
ADD = "add"  # in the mix of a workload that updates
TYPE = "type"  # how a side updates: see UpdateTable
UPDATES: Mapping[WorkloadKind, Update] = {
    WorkloadKind.COUNTER: Update.COUNT,
    WorkloadKind.SET: Update.ADD,
    WorkloadKind.APPEND: Update.APPEND,
    WorkloadKind.YCSB_F: Update.REPLACE,
}
# YCSB's core workloads: how keys are chosen, and how much of what is done.
YCSB: Mapping[WorkloadKind, Pick] = {
    **dict.fromkeys((each for each in WorkloadKind if each.startswith("ycsb-")), Pick.ZIPFIAN),
    WorkloadKind.YCSB_D: Pick.LATEST,
}
YCSB_MIXES: Mapping[WorkloadKind, Mapping[str, float]] = {
    WorkloadKind.YCSB_A: MIX,
    WorkloadKind.YCSB_B: {OperationKind.GET: 0.95, OperationKind.PUT: 0.05},
    WorkloadKind.YCSB_C: {OperationKind.GET: 1.0},
    WorkloadKind.YCSB_D: {OperationKind.GET: 0.95, OperationKind.PUT: 0.05},
}
YCSB_VALUE_BYTES = 1000


def nodes_of(document: Document) -> tuple[str, ...]:
    """Return the names of the nodes: n1, n2 ..."""
    return tuple(f"n{number + 1}" for number in range(document.cluster.nodes))


def spares_of(document: Document) -> tuple[str, ...]:
    """Return the names of the spare nodes, which come behind those of the members."""
    members, spares = document.cluster.nodes, document.cluster.spares
    return tuple(f"n{members + number + 1}" for number in range(spares))


def clients_of(document: Document) -> tuple[str, ...]:
    """Return the names of the clients: c1, c2 ..."""
    return tuple(f"c{number + 1}" for number in range(document.workload.clients))


def keys_of(document: Document) -> tuple[str, ...]:
    """Return every key that an operation may touch."""
    workload = document.workload
    if workload.kind is WorkloadKind.EXPLICIT:
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
        PlannedClient(name, home, workload.route, think_ns, workload.retries)
        for name, home in zip(names, islice(cycle(homes), len(names)), strict=True)
    )


def workload(document: Document) -> Workload:
    """Return what the clients do."""
    table = document.workload
    if table.kind is WorkloadKind.EXPLICIT:
        return ExplicitWorkload(_listed(document))
    update = UPDATES.get(table.kind)
    if update is not None:
        updates = 0.5 if table.mix is None else table.mix.get(ADD, 0.0)
        arrival = _arrival(document)
        size = _value_bytes(document)
        return UpdateWorkload(update, updates, key_choice(document), arrival, table.clients, size)
    mix = table.mix or YCSB_MIXES.get(table.kind, MIX)
    return RegisterWorkload(
        mix=tuple((OperationKind(kind), share) for kind, share in mix.items() if share > 0),
        keys=key_choice(document),
        arrival=_arrival(document),
        clients=table.clients,
        value_bytes=_value_bytes(document),
        with_context=table.context,
    )


def update_kinds(document: Document) -> dict[Family, OperationKind]:
    """Return what the write of an update is on each side; empty when nothing is updated."""
    table = document.workload
    if table.kind not in UPDATES:
        return {}
    ways = {family: getattr(table.update, family.value) for family in Family}
    return {
        family: OperationKind.PUT if way == TYPE else OperationKind(way)
        for family, way in ways.items()
    }


def updates_applied(document: Document) -> tuple[Family, ...]:
    """Return the sides whose store applies the updates itself."""
    table = document.workload
    updates = table.kind in UPDATES
    return tuple(each for each in Family if updates and getattr(table.update, each.value) == TYPE)


def _value_bytes(document: Document) -> int:
    table = document.workload
    given = "value_bytes" in table.model_fields_set or table.kind not in YCSB
    return table.value_bytes if given else YCSB_VALUE_BYTES


def key_choice(document: Document) -> Keys:
    """Return the keys and how one is chosen."""
    table = document.workload.keys
    pick = table.pick
    if "pick" not in table.model_fields_set:
        pick = YCSB.get(document.workload.kind, pick)
    chosen = {
        name: value
        for name in ("theta", "hot_keys", "hot_operations")
        if (value := getattr(table, name)) is not None
    }
    return Keys(table.count, pick, **chosen)


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
    spares = spares_that_join(document)
    return tuple(
        _fault(number, each, spares.get(id(each))) for number, each in enumerate(ordered, 1)
    )


def spares_that_join(document: Document) -> dict[int, str]:
    """Return which spare each join is about, by the id of its table: the next one, if unnamed.

    A replacement takes the next one too. One for which no spare is left is not in it.
    """
    coming = (FaultKind.JOIN, FaultKind.REPLACE)
    joins = [each for each in document.fault if each.kind in coming]
    joins.sort(key=lambda each: each.at or 0)
    named = {
        id(each): target_text(each.target)
        for each in joins
        if each.kind is FaultKind.JOIN
        and each.target is not None
        and not isinstance(each.target, TargetTable)
    }
    left = iter([spare for spare in spares_of(document) if spare not in named.values()])
    for each in joins:
        if id(each) not in named and (spare := next(left, None)) is not None:
            named[id(each)] = spare
    return named


def _fault(number: int, table: FaultTable, spare: str | None) -> PlannedFault:
    assert table.kind is not None
    assert table.at is not None
    replaces = table.kind is FaultKind.REPLACE
    targets, shared = targets_of(table, None if replaces else spare)
    return PlannedFault(
        number=number,
        kind=table.kind,
        at_ns=table.at,
        until_ns=table.until if table.for_ is None else table.at + table.for_,
        targets=targets,
        shared_target=shared,
        shape=shape_of(table) if table.kind == "partition" else None,
        sides=tuple(tuple(side) for side in table.sides or ()),
        direction=table.direction or Direction.INBOUND,
        delay_ns=(table.delay or 0) if table.kind is FaultKind.DELAY else 0,
        jitter_ns=table.jitter or 0,
        loss=table.loss or 0.0,
        duplicate=table.duplicate or 0.0,
        reorder=table.reorder or 0.0,
        hold_ns=HOLD_NS if table.hold is None else table.hold,
        bytes_per_s=table.bandwidth or 0,
        spare=(spare or "") if replaces else "",
        clock=_clock(table) if table.kind is FaultKind.CLOCK else None,
        disk=_disk(table) if table.kind is FaultKind.DISK else None,
    )


def _clock(table: FaultTable) -> ClockFault:
    return ClockFault(table.offset or 0, table.drift_ppm or 0, table.strobe or 0)


def _disk(table: FaultTable) -> DiskFault:
    assert table.effect is not None
    slow_ns = table.delay or 0 if table.effect is DiskEffect.SLOW else 0
    return DiskFault(table.effect, slow_ns, table.torn)


def families_of(fault: FaultTable) -> tuple[Family, ...]:
    """Return the sides that have the fault. Only leaders can hand over a leadership."""
    if fault.side is not None:
        return (fault.side,)
    return (Family.LEADER,) if fault.kind is FaultKind.TRANSFER else tuple(Family)


def target_text(target: str | list[str]) -> str:
    """Return a target as one expression: a list of names is "n1,n2"."""
    return target if isinstance(target, str) else ",".join(target)


def targets_of(fault: FaultTable, spare: str | None = None) -> tuple[dict[Family, str], bool]:
    """Return the expression for each family, and whether both sides are to get the same nodes.

    "first-replica-of" and "coordinator-of" mean the leader where all keys have one. That is no
    reason to hit the leader's node on the leaderless side, so they count as a target for each.
    ``spare`` is who joins, if the fault does not say so.
    """
    target, families = fault.target, families_of(fault)
    if isinstance(target, TargetTable):
        given = {family: getattr(target, family.value) for family in families}
        return {family: text for family, text in given.items() if text is not None}, False
    if target is None:
        led = shape_of(fault) is PartitionShape.MINORITY_WITH_LEADER
        target = "leader" if led else spare or ALL
    text = target_text(target)
    shared = len(families) == len(Family) and parse_target(text).key is None
    return dict.fromkeys(families, text), shared
