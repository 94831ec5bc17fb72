"""The shapes of partitions: who is cut off from whom, as rules for links, and in words."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeAlias

from replication.plan.model import ClusterView, Direction, LinkRule
from replication.protocol import NodeId

NAMES_SHOWN_MAX = 8

Side: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Partition:
    """One way of cutting a cluster. The fields are those of ``ResolvedFault``."""

    nodes: tuple[NodeId, ...]  # that are cut off
    sides: tuple[Side, ...]
    links: tuple[LinkRule, ...]
    words: str


def isolated(
    nodes: Sequence[NodeId],
    roles: Mapping[NodeId, str],
    view: ClusterView,
    direction: Direction | None = None,
) -> Partition:
    """Cut ``nodes`` off from all others, in both directions or in one.

    ``roles`` is how a sentence calls some of them.
    """
    sides = _sides((tuple(nodes),), view)
    if direction is None or len(sides) < 2:
        return Partition(tuple(nodes), sides, _between(sides, view), _cut_words(sides, view, roles))
    target, others = sides
    pairs = _across(target, others, view)
    alone = len(target) == 1
    if direction is Direction.INBOUND:
        pairs = ((there, here) for here, there in pairs)
        words = f"{'sends, and hears' if alone else 'send, and hear'} nothing from"
    else:
        words = f"{'hears, and is' if alone else 'hear, and are'} not heard by"
    links = tuple(_cut(source, destination) for source, destination in pairs)
    one, other = (_side_words(side, view, roles) for side in sides)
    return Partition(tuple(nodes), sides, links, f"cut one way: {one} {words} {other}")


def listed_sides(listed: Sequence[Side], view: ClusterView) -> Partition:
    """Cut the listed sides off from each other; nodes that are listed nowhere make one more."""
    sides = _sides(listed, view)
    nodes = _without_majority(sides, view)
    return Partition(nodes, sides, _between(sides, view), _cut_words(sides, view, {}))


def bridge(node: NodeId, called: str, view: ClusterView) -> Partition:
    """Cut the other nodes into two halves that both reach ``node`` (Jepsen's bridge)."""
    others = [each for each in view.nodes if each != node]
    half = len(others) // 2
    everybody = _sides((tuple(others[:half]), tuple(others[half:])), view)
    sides = tuple(side for side in everybody if node not in side)
    words = f"{_cut_words(sides, view, {})}; {called} reaches both"
    return Partition(_without_majority(sides, view), sides, _between(sides, view), words)


def ring(view: ClusterView) -> Partition:
    """Let every node hear a majority, itself included, no two the same (Jepsen's majorities-ring).

    A node hears its neighbours in the ring of all nodes. Clients hear and are heard as their homes;
    those whose home has left the cluster are left alone.
    """
    nodes, size = view.nodes, len(view.nodes)
    majority = size // 2 + 1
    heard = {
        node: {nodes[(place + step) % size] for step in range(-(majority // 2), -(-majority // 2))}
        for place, node in enumerate(nodes)
    }
    homes = {node: node for node in nodes}
    homes |= {client: home for client, home in view.clients.items() if home in heard}
    links = tuple(
        _cut(source, destination)
        for source in homes
        for destination in homes
        if source != destination
        and not (source in view.clients and destination in view.clients)
        and homes[source] not in heard[homes[destination]]
    )
    words = f"let each node hear {majority} of {size} nodes, itself included, no two the same"
    return Partition(nodes, (), links, f"{words} (a ring of {listing(nodes)})")


def _cut(source: str, destination: str) -> LinkRule:
    return LinkRule(source, destination, loss=1.0)


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
        side_of.setdefault(client, side_of.get(home, rest))
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


def _between(sides: Sequence[Side], view: ClusterView) -> tuple[LinkRule, ...]:
    """Return rules that cut both directions of every link across."""
    return tuple(
        _cut(source, destination)
        for one, other in combinations(sides, 2)
        for here, there in _across(one, other, view)
        for source, destination in ((here, there), (there, here))
    )


def _across(one: Side, other: Side, view: ClusterView) -> Iterable[tuple[str, str]]:
    """Yield every pair across the cut; clients do not talk to each other."""
    for here in one:
        for there in other:
            if not (here in view.clients and there in view.clients):
                yield here, there


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
        if role is not None and (len(nodes) == 1 or role.startswith(listing(nodes))):
            texts.append(role)
        else:
            texts.append(listing(nodes) + (f" (with {role})" if role is not None else ""))
    if clients:
        texts.append(f"client{'s' if len(clients) > 1 else ''} {listing(clients)}")
    return " and ".join(texts)


def listing(names: Sequence[str]) -> str:
    """Return names as a sentence lists them, the middle left out when they are many."""
    if len(names) <= NAMES_SHOWN_MAX:
        return ", ".join(names)
    return f"{', '.join(names[:3])} ... {names[-1]} ({len(names)} in all)"
