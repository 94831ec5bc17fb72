"""What the values of a scenario mean together: the run and the workload. See also ``check_faults``.

Checks report and change nothing; what they let through is compiled without a further look.
"""

from collections.abc import Mapping

from replication.history import OperationKind
from replication.plan.model import Update
from replication.plan.parts import (
    ADD,
    UPDATES,
    YCSB,
    clients_of,
    key_choice,
    nodes_of,
    updates_applied,
)
from replication.plan.problems import Path, Problems, hint_at, one_of, unknown_key
from replication.plan.regions import regions
from replication.plan.schema import Document, OperationTable
from replication.plan.settings import Chosen
from replication.plan.swarm import ScenarioDocument
from replication.plan.units import duration_text, shown
from replication.plan.workload import Pick, WorkloadKind
from replication.protocol import Family
from replication.v1 import storage_pb2

OPERATION_TIMEOUT_NS_MIN = 10_000_000
SHARES_TOLERANCE = 1e-6
REPLICA_KINDS = (OperationKind.GET, OperationKind.PUT, OperationKind.DELETE)

# Which keys of [workload] and of its tables belong to which kind; the others belong to all.
_REGISTER_ONLY = ("mix", "keys", "arrival", "update")
_ARRIVAL_KEYS = {"open": ("rate", "spacing"), "closed": ("think",)}
_KEYS_KEYS = {
    (Pick.ZIPFIAN, Pick.LATEST): ("theta",),
    (Pick.HOTSPOT,): ("hot_keys", "hot_operations"),
}
_READS_ONLY = ("lease", "local")
_WRITES_ONLY = ("any",)


def check_run(document: Document, problems: Problems) -> None:
    """Judge the title, the question and ``[run]``."""
    for key, value in (("title", document.title), ("question", document.question)):
        if value is None and problems.sound((key,)):
            problems.add((key,), "missing, expected one line of text")
    run = document.run
    if run.duration == 0:
        problems.add(("run", "duration"), '"0s" is no load at all, expected more than 0s')
    elif run.warmup >= run.duration and problems.sound(("run", "warmup"), ("run", "duration")):
        problems.add(
            ("run", "warmup"),
            f"{duration_text(run.warmup)} leaves nothing to measure, "
            f"expected less than run.duration = {duration_text(run.duration)}",
        )
    if run.operation_timeout < OPERATION_TIMEOUT_NS_MIN:
        problems.add(
            ("run", "operation_timeout"),
            f"{duration_text(run.operation_timeout)} is too short, "
            f"expected {duration_text(OPERATION_TIMEOUT_NS_MIN)} or more",
        )


def check_room(document: ScenarioDocument, problems: Problems) -> None:
    """Judge where the nodes are."""
    for index, region in enumerate(document.cluster.regions):
        if region not in regions():
            words = f"{shown(region)} is unknown{hint_at(region, regions())}, there are: "
            problems.add(("cluster", "regions", index), words + ", ".join(regions()))


def check_workload(
    document: Document, problems: Problems, backends: Mapping[Family, Chosen]
) -> None:
    """Judge ``[workload]``: what the clients do, where they are and what they ask for."""
    workload = document.workload
    if workload.kind is WorkloadKind.EXPLICIT:
        _explicit(document, problems)
    else:
        _register(document, problems)
    if not isinstance(workload.placement, str):
        for index, node in enumerate(workload.placement):
            _node(node, ("workload", "placement", index), document, problems)
        if not workload.placement:
            problems.add(("workload", "placement"), "empty, expected at least one node")
    for family, chosen in backends.items():
        levels: Mapping[str, str] = getattr(workload.consistency, family.value)
        for kind, level in levels.items():
            path: Path = ("workload", "consistency", family.value, kind)
            _level(kind, level, path, chosen, problems)
    _replicas(document, problems, backends)
    _types(document, problems, backends)


def _types(document: Document, problems: Problems, backends: Mapping[Family, Chosen]) -> None:
    """Judge updates that the store itself is to apply."""
    for family in updates_applied(document):
        path: Path = ("workload", "update", family.value)
        if UPDATES[document.workload.kind] not in (Update.COUNT, Update.ADD):
            problems.add(path, '"type" belongs to kind = "counter" and "set" only')
        chosen = backends.get(family)
        if chosen is None:
            continue
        offered = chosen.backend.updates
        if offered is None or not offered(chosen.choice.settings):
            words = "has no counters and sets" + ("" if offered is None else " with these settings")
            problems.add(path, f'"type": {chosen.backend.name} {words}')


def _node(node: str, path: Path, document: Document, problems: Problems) -> None:
    nodes = nodes_of(document)
    if node not in nodes and problems.sound(("cluster", "nodes")):
        problems.add(path, f'"{node}" is no node, expected n1 to {nodes[-1]}')


def _register(document: Document, problems: Problems) -> None:
    workload = document.workload
    if workload.operation:
        problems.add(
            ("workload", "operation"), 'listed operations belong to kind = "explicit" only'
        )
    _mix(document, problems)
    if workload.kind is WorkloadKind.YCSB_E:
        words = "YCSB E scans ranges of keys, which the storage API does not offer, expected A to F"
        problems.add(("workload", "kind"), f"{words} without E")
    if workload.kind not in UPDATES and "update" in workload.model_fields_set:
        problems.add(("workload", "update"), f"belongs to kind = {one_of(UPDATES)} only")
    pick = key_choice(document).pick
    for picks, names in _KEYS_KEYS.items():
        for key in names:
            path: Path = ("workload", "keys", key)
            if pick not in picks and key in workload.keys.model_fields_set:
                problems.add(path, f"belongs to pick = {one_of(picks)} only")
    arrival = workload.arrival
    if arrival is None or arrival.kind is None:
        if problems.sound(("workload", "arrival", "kind")):
            problems.add(
                ("workload", "arrival"),
                'missing, expected { kind = "open", rate = "400/s" } or { kind = "closed" }',
            )
        return
    for kind, keys in _ARRIVAL_KEYS.items():
        for key in keys:
            if kind != arrival.kind and key in arrival.model_fields_set:
                problems.add(("workload", "arrival", key), f'belongs to kind = "{kind}" only')
    if arrival.kind == "open" and arrival.rate is None:
        path = ("workload", "arrival", "rate")
        if problems.sound(path):
            problems.add(path, 'missing, expected the rate of all clients, such as "400/s"')


def _mix(document: Document, problems: Problems) -> None:
    mix = document.workload.mix
    if mix is None:
        return
    path: Path = ("workload", "mix")
    workload_kind = document.workload.kind
    if workload_kind in YCSB:
        problems.add(path, f"{workload_kind} has its own mix, which is why it is called so")
        return
    kinds = [OperationKind.GET, ADD] if workload_kind in UPDATES else [*OperationKind]
    for kind in mix:
        if kind not in kinds:
            problems.add((*path, kind), unknown_key(kind, kinds))
    total = sum(mix.values())
    if problems.sound(path) and abs(total - 1) > SHARES_TOLERANCE:
        problems.add(path, f"the shares sum to {total:g}, expected 1")


def _explicit(document: Document, problems: Problems) -> None:
    workload = document.workload
    for key in _REGISTER_ONLY:
        if key in workload.model_fields_set:
            problems.add(("workload", key), 'belongs to kind = "register" only')
    if not workload.operation and problems.sound(("workload", "operation")):
        problems.add(("workload", "operation"), "missing, expected at least one operation")
    latest: dict[str, int] = {}
    for index, operation in enumerate(workload.operation):
        path: Path = ("workload", "operation", index)
        _operation(operation, path, document, problems)
        if operation.at is None or operation.client is None:
            continue
        if operation.at < latest.get(operation.client, 0):
            problems.add(
                (*path, "at"),
                f"{duration_text(operation.at)} is before the operation of {operation.client} "
                "listed above it, expected them in order",
            )
        latest[operation.client] = operation.at


def _operation(
    operation: OperationTable, path: Path, document: Document, problems: Problems
) -> None:
    for key in ("client", "kind", "key"):
        if getattr(operation, key) is None and problems.sound((*path, key)):
            problems.add((*path, key), "missing")
    clients = clients_of(document)
    unknown = operation.client is not None and operation.client not in clients
    if unknown and problems.sound(("workload", "clients")):
        problems.add(
            (*path, "client"), f'"{operation.client}" is no client, expected c1 to {clients[-1]}'
        )
    writes = operation.kind in (OperationKind.PUT, OperationKind.COMPARE_AND_SET)
    if writes and operation.value is None and problems.sound((*path, "value")):
        problems.add((*path, "value"), f"missing, expected what the {operation.kind} writes")
    if operation.value is not None and operation.kind is not None and not writes:
        problems.add((*path, "value"), f"belongs to no {operation.kind}")
    if operation.expected is not None and operation.kind is not OperationKind.COMPARE_AND_SET:
        problems.add((*path, "expected"), "belongs to compare-and-set only")
    at_end = operation.at is not None and operation.at >= document.run.duration
    if at_end and problems.sound(("run", "duration")):
        problems.add((*path, "at"), "after the end of the load, expected less than run.duration")


def _level(kind: str, level: str, path: Path, chosen: Chosen, problems: Problems) -> None:
    if kind not in [*OperationKind]:
        problems.add(path, unknown_key(kind, [*OperationKind]))
        return
    offered = sorted(
        storage_pb2.Consistency.Name(each).removeprefix("CONSISTENCY_").lower()
        for each in chosen.backend.consistencies
    )
    wrong_way = _WRITES_ONLY if kind == OperationKind.GET else _READS_ONLY
    fitting = [each for each in offered if each not in wrong_way]
    if level not in fitting:
        expected = f"expected {one_of(fitting)}" if fitting else "leave it out"
        problems.add(
            path, f'"{level}" is no level that {chosen.backend.name} offers a {kind}, {expected}'
        )


def _replicas(document: Document, problems: Problems, backends: Mapping[Family, Chosen]) -> None:
    chosen = backends.get(Family.LEADERLESS)
    # N is the one setting of a leaderless backend that has to be known here, if it is called so.
    n = getattr(chosen.choice.settings, "n", None) if chosen is not None else None
    replicas_max, words = (n, f"n = {n}") if isinstance(n, int) else (document.cluster.nodes,) * 2
    levels = document.workload.consistency.leaderless
    for kind, count in document.workload.replicas.items():
        path: Path = ("workload", "replicas", kind)
        if kind not in REPLICA_KINDS:
            problems.add(path, unknown_key(kind, REPLICA_KINDS))
        elif not 1 <= count <= replicas_max and chosen is not None:
            problems.add(path, f"{count} is out of range, expected 1 to {words}")
        elif kind in levels:
            problems.add(
                path,
                f"both this and workload.consistency.leaderless.{kind} = "
                f"{shown(levels[kind])} are set, expected one of them",
            )
