"""From roles to nodes, at the moment a fault is due.

The side that runs first resolves "leader", "random" and the like by what it sees. The other side
gets the same nodes, unless the scenario names a target for each (design §7). Pure: whoever executes
the plan tells what the cluster looks like and hands in the plan's own generator.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from random import Random
from typing import TypeAlias

from replication.plan.model import (
    ClusterView,
    FaultKind,
    LinkRule,
    PartitionShape,
    PlannedFault,
    ResolvedFault,
)
from replication.plan.targets import ALL, Role, parse_target
from replication.plan.units import duration_text
from replication.protocol import Family, NodeId

NAMES_SHOWN_MAX = 8

Side: TypeAlias = tuple[str, ...]


class Unresolvable(Exception):
    """No node plays the role right now. ``reason`` says why; asking again later may help."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def resolve(
    fault: PlannedFault, view: ClusterView, rng: Random, earlier: ResolvedFault | None = None
) -> ResolvedFault:
    """Return what ``fault`` does to the cluster that ``view`` shows.

    ``earlier`` is what the same fault was resolved to on the side that ran first; its nodes and
    sides are taken over when the scenario names one target for both. ``rng`` is drawn from only
    when there is a choice, so a call that raised Unresolvable may be repeated with the same one.
    """
    same = earlier if fault.shared_target else None
    if fault.kind is FaultKind.PARTITION:
        return _partition(fault, view, rng, same)
    if fault.kind in (FaultKind.DELAY, FaultKind.LOSS):
        return _slow_or_lossy(fault, view, rng, same)
    node, words = _target(fault, view, rng, same)
    return ResolvedFault(fault, (node,), (), (), f"{fault.kind.value} {words}")


def _target(
    fault: PlannedFault, view: ClusterView, rng: Random, same: ResolvedFault | None
) -> tuple[NodeId, str]:
    """Return the node, and how a sentence calls it."""
    target = parse_target(fault.targets[view.family])
    if same is not None:
        node = same.nodes[0]
        return node, node + _carried_words(target.role, view.family)
    match target.role:
        case Role.NODE:
            return target.argument, target.argument
        case Role.RANDOM:
            node = _draw(view.nodes, view, rng, "no node is alive")
            return node, f"{node} (drawn at random)"
        case Role.LEADER:
            return _leader(view, rng)
        case Role.FOLLOWER:
            return _follower(view, rng)
        case Role.FIRST_REPLICA | Role.COORDINATOR:
            return _of_key(target.role, target.argument, view, rng)


def _carried_words(role: Role, family: Family) -> str:
    """Return why it is this node that the other side's resolution is taken over for."""
    if role is Role.NODE:
        return ""
    if role is Role.RANDOM:
        return " (drawn at random on the other side)"
    # What a leaderless cluster resolved a role to was no leader and no follower.
    if family is Family.LEADER:
        return " (the same as on the other side)"
    return f" (on the other side {'the leader' if role is Role.LEADER else 'a follower'})"


def _draw(candidates: Iterable[NodeId], view: ClusterView, rng: Random, otherwise: str) -> NodeId:
    alive = [node for node in candidates if node in view.alive]
    if not alive:
        raise Unresolvable(otherwise)
    return alive[int(rng.random() * len(alive))]


def _leader(view: ClusterView, rng: Random) -> tuple[NodeId, str]:
    if view.family is Family.LEADERLESS:
        node = _draw(view.nodes, view, rng, "no node is alive")
        return node, f"{node} (drawn at random: a leaderless cluster has no leader)"
    if view.leader is None:
        raise Unresolvable("no leader is known")
    if view.leader not in view.alive:
        raise Unresolvable(f"the last known leader, {view.leader}, is down")
    return view.leader, f"the leader ({view.leader})"


def _follower(view: ClusterView, rng: Random) -> tuple[NodeId, str]:
    if view.family is Family.LEADERLESS:
        node = _draw(view.nodes, view, rng, "no node is alive")
        return node, f"{node} (drawn at random: a leaderless cluster has no followers)"
    if view.leader is None:
        raise Unresolvable("no leader is known, so nobody is its follower")
    others = [node for node in view.nodes if node != view.leader]
    node = _draw(others, view, rng, "no follower is alive")
    return node, f"a follower ({node})"


def _of_key(role: Role, key: str, view: ClusterView, rng: Random) -> tuple[NodeId, str]:
    """Return the node that serves a key; where all keys have one leader, that is the leader."""
    if view.family is Family.LEADER:
        return _leader(view, rng)
    owners = view.owners.get(key, ())
    if not owners:
        raise Unresolvable(f"who holds {key} is not known")
    if role is Role.FIRST_REPLICA:
        return owners[0], f"the first replica of {key} ({owners[0]})"
    # The first replica coordinates; when it is down the next one does (Dynamo §4.3, §5).
    node = next((each for each in owners if each in view.alive), None)
    if node is None:
        raise Unresolvable(f"no replica of {key} is alive")
    return node, f"the coordinator of {key} ({node})"


def _partition(
    fault: PlannedFault, view: ClusterView, rng: Random, same: ResolvedFault | None
) -> ResolvedFault:
    shape = fault.shape
    assert shape is not None, "a partition has a shape"
    roles: dict[NodeId, str] = {}  # how a sentence calls a node
    nodes: tuple[NodeId, ...]
    if same is not None:
        nodes, sides = same.nodes, same.sides
    elif shape in (PartitionShape.ISOLATE, PartitionShape.MINORITY_WITH_LEADER):
        node, words = _target(fault, view, rng, None)
        roles[node] = words
        size = 1 if shape is PartitionShape.ISOLATE else max(1, (len(view.nodes) - 1) // 2)
        nodes = _from(node, view.nodes)[:size]
        sides = _sides((nodes,), view)
    else:
        halves = (view.nodes[: len(view.nodes) // 2],)
        sides = _sides(fault.sides if shape is PartitionShape.NODES else halves, view)
        nodes = _without_majority(sides, view)
    links = tuple(
        LinkRule(source, destination, loss=1.0)
        for one, other in combinations(sides, 2)
        for source, destination in _both_ways(one, other, view)
    )
    words = _cut_words(sides, view, roles)
    if same is not None:
        carried = _carried_words(parse_target(fault.targets[view.family]).role, view.family)
        words += f"; {nodes[0]}{carried}" if carried else ""
    return ResolvedFault(fault, nodes, sides, links, words)


def _from(node: NodeId, nodes: Sequence[NodeId]) -> tuple[NodeId, ...]:
    """Return all nodes in turn, beginning with ``node``."""
    start = nodes.index(node)
    return (*nodes[start:], *nodes[:start])


def _sides(listed: Sequence[Side], view: ClusterView) -> tuple[Side, ...]:
    """Return the sides with everybody on one of them, nodes before clients.

    Nodes that are listed nowhere make one more side. A client is where its home is, unless a side
    lists the client itself.
    """
    side_of = {name: number for number, side in enumerate(listed) for name in side}
    rest = len(listed)
    for node in view.nodes:
        side_of.setdefault(node, rest)
    for client, home in view.clients.items():
        side_of.setdefault(client, side_of[home])
    everybody = (*view.nodes, *view.clients)
    sides = (
        tuple(name for name in everybody if side_of[name] == number) for number in range(rest + 1)
    )
    return tuple(side for side in sides if side)


def _without_majority(sides: Sequence[Side], view: ClusterView) -> tuple[NodeId, ...]:
    """Return the nodes that a partition leaves on a side that is no majority."""
    cut_off: set[NodeId] = set()
    for side in sides:
        members = [name for name in side if name in view.nodes]
        if 2 * len(members) <= len(view.nodes):
            cut_off.update(members)
    return tuple(node for node in view.nodes if node in cut_off)


def _both_ways(one: Side, other: Side, view: ClusterView) -> Iterable[tuple[str, str]]:
    """Yield every ordered pair across the cut; clients do not talk to each other."""
    for left in one:
        for right in other:
            if left in view.clients and right in view.clients:
                continue
            yield left, right
            yield right, left


def _slow_or_lossy(
    fault: PlannedFault, view: ClusterView, rng: Random, same: ResolvedFault | None
) -> ResolvedFault:
    """Put the rule on every link between the target and the other nodes, clients left alone."""
    if fault.targets[view.family] == ALL:
        nodes, place = view.nodes, "every link between nodes"
        pairs = [(one, other) for one in nodes for other in nodes if one != other]
    else:
        node, words = _target(fault, view, rng, same)
        nodes, place = (node,), f"every link of {words} to other nodes"
        others = [each for each in view.nodes if each != node]
        pairs = [pair for other in others for pair in ((node, other), (other, node))]
    links = tuple(
        LinkRule(source, destination, fault.loss, fault.delay_ns, fault.jitter_ns)
        for source, destination in pairs
    )
    return ResolvedFault(fault, nodes, (), links, f"{effect_words(fault)} on {place}")


def effect_words(fault: PlannedFault) -> str:
    """Return what a link fault does to a message: "delay messages by 100ms plus 0s to 20ms"."""
    if fault.kind is FaultKind.LOSS:
        return f"lose {fault.loss * 100:g}% of the messages"
    if not fault.jitter_ns:
        return f"delay messages by {duration_text(fault.delay_ns)}"
    return (
        f"delay messages by {duration_text(fault.delay_ns)} "
        f"to {duration_text(fault.delay_ns + fault.jitter_ns)}"
    )


def _cut_words(sides: Sequence[Side], view: ClusterView, roles: Mapping[NodeId, str]) -> str:
    if not sides:
        return "cut nothing off"
    texts = [_side_words(side, view, roles) for side in sides]
    if len(texts) == 2:
        return f"cut {texts[0]} off from {texts[1]}"
    return f"cut {'; '.join(texts)} off from each other"


def _side_words(side: Side, view: ClusterView, roles: Mapping[NodeId, str]) -> str:
    nodes = [name for name in side if name in view.nodes]
    clients = [name for name in side if name in view.clients]
    texts = []
    if nodes:
        role = next((roles[node] for node in nodes if roles.get(node, node) != node), None)
        if len(nodes) == 1 and role is not None:
            texts.append(role)
        else:
            texts.append(_listed(nodes) + (f" (with {role})" if role is not None else ""))
    if clients:
        texts.append(f"client{'s' if len(clients) > 1 else ''} {_listed(clients)}")
    return " and ".join(texts)


def _listed(names: Sequence[str]) -> str:
    if len(names) <= NAMES_SHOWN_MAX:
        return ", ".join(names)
    return f"{', '.join(names[:3])} ... {names[-1]} ({len(names)} in all)"
