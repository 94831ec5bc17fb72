"""What is wrong with the targets of faults: who they name, and whether those are there by then."""

from replication.plan.model import FaultKind, PartitionShape
from replication.plan.parts import (
    clients_of,
    families_of,
    keys_of,
    nodes_of,
    shape_of,
    spares_of,
    spares_that_join,
    target_text,
)
from replication.plan.problems import Path, Problems, hint_at, one_of
from replication.plan.schema import Document, FaultTable, TargetTable
from replication.plan.targets import EXPRESSIONS, Role, Target, parse_target
from replication.protocol import Family

# Shapes of partitions by whether they have a target.
_NEED_TARGET = (PartitionShape.ISOLATE, PartitionShape.ONE_WAY)
_MAY_HAVE_TARGET = (*_NEED_TARGET, PartitionShape.MINORITY_WITH_LEADER, PartitionShape.BRIDGE)
# Where one node is meant.
_ONE_NODE = (PartitionShape.MINORITY_WITH_LEADER, PartitionShape.BRIDGE)
# Clients talk over connections, where messages keep their order and come once.
_OF_CLIENTS = (FaultKind.DELAY, FaultKind.JITTER, FaultKind.LOSS)
MINORITY_NODES_MIN = 3


def check_targets(document: Document, problems: Problems) -> None:
    """Judge ``target`` and ``side`` of every fault, in order of time: members come and go."""
    spares = spares_that_join(document)
    members = set(nodes_of(document))
    away: set[str] = set()
    ordered = sorted(enumerate(document.fault), key=lambda each: each[1].at or 0)
    for index, fault in ordered:
        path: Path = ("fault", index)
        if fault.kind is None or not problems.sound((*path, "kind"), (*path, "target")):
            continue
        _side(fault, path, problems)
        if fault.kind is FaultKind.JOIN:
            _join(fault, path, spares.get(id(fault)), members, document, problems)
            members.add(spares.get(id(fault), ""))
            continue
        if fault.kind is FaultKind.REPLACE:
            _spare_left(fault, path, spares.get(id(fault)), document, problems)
        for text, place in _expressions(fault, path, document, problems):
            target = parse_target(text)
            _expression(text, target, fault, place, document, problems)
            if target.role is Role.NAMED and problems.sound(("cluster", "nodes"), place):
                _presence(target, place, members, away, document, problems)
            goes = fault.kind in (FaultKind.LEAVE, FaultKind.REPLACE)
            if goes and target.role is Role.NAMED:
                away.update(target.arguments)
        if fault.kind is FaultKind.REPLACE:
            members.add(spares.get(id(fault), ""))


def _side(fault: FaultTable, path: Path, problems: Problems) -> None:
    if fault.kind is FaultKind.TRANSFER and fault.side is Family.LEADERLESS:
        problems.add((*path, "side"), "a leaderless cluster has no leadership to transfer")
    if fault.side is not None and isinstance(fault.target, TargetTable):
        problems.add(
            (*path, "target"), f"expected one target, the fault is for the {fault.side} side only"
        )


def _join(
    fault: FaultTable,
    path: Path,
    spare: str | None,
    members: set[str],
    document: Document,
    problems: Problems,
) -> None:
    spares = spares_of(document)
    if not _spare_left(fault, path, spare, document, problems):
        return
    if spare not in spares:
        problems.add((*path, "target"), f"expected a spare node, {_range(spares)}")
    elif spare in members:
        problems.add((*path, "target"), f"{spare} joins twice")


def _spare_left(
    fault: FaultTable, path: Path, spare: str | None, document: Document, problems: Problems
) -> bool:
    """Return whether there is a spare node for the fault; complain if not."""
    if not problems.sound(("cluster", "spares"), ("cluster", "nodes")):
        return False
    spares = spares_of(document)
    if not spares:
        problems.add((*path, "kind"), f'"{fault.kind}" needs a spare node, cluster.spares is 0')
    elif spare is None:
        problems.add((*path, "kind"), f"no spare node is left, cluster.spares is {len(spares)}")
    return bool(spares) and spare is not None


def _expressions(
    fault: FaultTable, path: Path, document: Document, problems: Problems
) -> list[tuple[str, Path]]:
    """Return every expression with its place; complain of those that are missing or too many."""
    path, shape = (*path, "target"), shape_of(fault)
    if fault.target is None:
        of_links = fault.kind is FaultKind.PARTITION and shape not in _NEED_TARGET
        if not of_links and fault.kind is not FaultKind.TRANSFER:
            nodes = nodes_of(document)
            problems.add(path, f"missing, expected {_range(nodes)}, {', '.join(EXPRESSIONS)}")
        return []
    if fault.kind is FaultKind.PARTITION and shape not in _MAY_HAVE_TARGET:
        problems.add(path, f'belongs to shape = {one_of(_MAY_HAVE_TARGET)}, not to "{shape}"')
        return []
    if not isinstance(fault.target, TargetTable):
        return [(target_text(fault.target), path)]
    found = []
    for family in families_of(fault):
        text: str | None = getattr(fault.target, family.value)
        if text is not None:
            found.append((text, (*path, family.value)))
        elif problems.sound((*path, family.value)):
            problems.add((*path, family.value), "missing, expected a target for each side")
    return found


def _expression(
    text: str, target: Target, fault: FaultTable, path: Path, document: Document, problems: Problems
) -> None:
    kind = fault.kind
    assert kind is not None, "its targets depend on it"
    size = document.cluster.nodes
    known_nodes = problems.sound(("cluster", "nodes"))
    one_node = kind.is_command or (kind is FaultKind.PARTITION and shape_of(fault) in _ONE_NODE)
    many = len(target.arguments) > 1 or target.role in (Role.ALL, Role.MINORITY)
    if one_node and many:
        what = f'shape = "{shape_of(fault)}"' if kind is FaultKind.PARTITION else f"kind = {kind}"
        problems.add(path, f'"{text}" is more than one node, expected one for {what}')
    elif target.role is Role.ALL and kind is FaultKind.PARTITION:
        problems.add(path, '"all" leaves nobody to be cut off from')
    elif target.role is Role.FOLLOWER and size == 1 and known_nodes:
        problems.add(path, "a cluster of one node has no follower")
    elif target.role is Role.MINORITY and size < MINORITY_NODES_MIN and known_nodes:
        needed = f"needs {MINORITY_NODES_MIN} nodes or more, cluster.nodes is {size}"
        problems.add(path, f'"{text}" {needed}')
    if target.key is not None and problems.sound(("workload",)):
        keys = keys_of(document)
        if target.key not in keys:
            problems.add(
                path,
                f'"{target.key}" is no key of the workload, expected {keys[0]} to {keys[-1]}',
            )
    clients = [name for name in target.arguments if name in clients_of(document)]
    if target.role is Role.NAMED and clients and kind not in _OF_CLIENTS:
        problems.add(
            path, f'"{clients[0]}" is a client, which belongs to kind = {one_of(_OF_CLIENTS)}'
        )


def _presence(
    target: Target,
    path: Path,
    members: set[str],
    away: set[str],
    document: Document,
    problems: Problems,
) -> None:
    """Complain of names that name nobody, or nobody who is a member by then."""
    nodes, spares, clients = nodes_of(document), spares_of(document), clients_of(document)
    for name in target.arguments:
        if name in away:
            problems.add(path, f"{name} has left the cluster by then")
        elif name in spares and name not in members:
            problems.add(path, f"{name} is a spare node that has not joined by then")
        elif name not in members and name not in clients:
            expected = f", expected {_range(nodes)}, {', '.join(EXPRESSIONS)}"
            hint = hint_at(name, (*nodes, *EXPRESSIONS)) or expected
            problems.add(path, f'"{name}" names no node{hint}')
    if len(set(target.arguments)) < len(target.arguments):
        problems.add(path, "a name stands there twice")


def _range(nodes: tuple[str, ...]) -> str:
    return nodes[0] if len(nodes) == 1 else f"{nodes[0]} to {nodes[-1]}"
