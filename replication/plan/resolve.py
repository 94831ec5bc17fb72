"""From roles to nodes, at the moment a fault is due.

The side that runs first resolves "leader", "random" and the like by what it sees. The other side
gets the same nodes, unless the scenario names a target for each (design §7). Pure: whoever executes
the plan tells what the cluster looks like and hands in the plan's own generator.
"""

from collections.abc import Iterable, Sequence
from random import Random

from replication.plan.model import (
    ClockFault,
    ClusterView,
    DiskEffect,
    DiskFault,
    FaultKind,
    LinkRule,
    PartitionShape,
    PlannedFault,
    ResolvedFault,
)
from replication.plan.partitions import Partition, isolated, listed_sides, listing
from replication.plan.partitions import bridge as bridged
from replication.plan.partitions import ring as ringed
from replication.plan.targets import Role, Target, parse_target
from replication.plan.units import bandwidth_text, duration_text
from replication.protocol import Family, NodeId


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
    role = parse_target(fault.targets[view.family]).role
    if fault.kind is FaultKind.TRANSFER and role is Role.ALL:  # to whoever is best placed
        return ResolvedFault(fault, (), (), (), deed_words(fault, ""))
    nodes, words = _targets(fault, view, rng, same)
    if fault.kind.is_of_links:
        return _on_links(fault, view, nodes, words)
    return ResolvedFault(fault, nodes, (), (), deed_words(fault, words))


def deed_words(fault: PlannedFault, whom: str) -> str:
    """Return what is done to ``whom``: "kill the leader (n3)"."""
    match fault.kind:
        case FaultKind.CLOCK:
            assert fault.clock is not None, "it says how the clock is wrong"
            return clock_words(fault.clock, whom)
        case FaultKind.DISK:
            assert fault.disk is not None, "it says what is wrong with the disk"
            return disk_words(fault.disk, whom)
        case FaultKind.JOIN:
            return f"add {whom} to the cluster"
        case FaultKind.LEAVE:
            return f"remove {whom} from the cluster"
        case FaultKind.REPLACE:
            return f"kill {whom} for good and put {fault.spare} in its place"
        case FaultKind.TRANSFER:
            return f"transfer the leadership to {whom}" if whom else "transfer the leadership"
        case FaultKind.WIPE:
            return f"wipe the disk of {whom}"
    return f"{fault.kind.value} {whom}"


def clock_words(clock: ClockFault, whom: str) -> str:
    """Return how the clocks of ``whom`` are put wrong."""
    texts = []
    if clock.offset_ns:
        where = "ahead" if clock.offset_ns > 0 else "behind"
        again = f", on and off every {duration_text(clock.strobe_ns)}" if clock.strobe_ns else ""
        amount = duration_text(abs(clock.offset_ns))
        texts.append(f"put the wall clock of {whom} {amount} {where}{again}")
    if clock.drift_ppm:
        pace = "fast" if clock.drift_ppm > 0 else "slow"
        texts.append(f"let the clocks of {whom} run {abs(clock.drift_ppm)} ppm {pace}")
    return " and ".join(texts)


def wall_error_words(error_ns: int) -> str:
    """Return how wrong a wall clock is, ahead or behind."""
    if not error_ns:
        return "right"
    return f"{abs(error_ns) / 1e6:.3f} ms {'ahead' if error_ns > 0 else 'behind'}"


def disk_words(disk: DiskFault, whom: str) -> str:
    """Return what is wrong with the disk of ``whom``."""
    match disk.effect:
        case DiskEffect.SLOW:
            return f"slow every sync of {whom} by {duration_text(disk.slow_ns)}"
        case DiskEffect.STALL:
            return f"stall the disk of {whom}"
        case DiskEffect.FULL:
            return f"fill the disk of {whom}"
        case DiskEffect.LOSE_UNSYNCED:
            left = ", a torn part of it left" if disk.torn else ""
            return f"cut the power of {whom} and lose what was not synced{left}"


def _targets(
    fault: PlannedFault, view: ClusterView, rng: Random, same: ResolvedFault | None
) -> tuple[tuple[NodeId, ...], str]:
    """Return the nodes (of link faults: or clients), and how a sentence calls them."""
    target = parse_target(fault.targets[view.family])
    match target.role:
        case Role.NAMED:
            return target.arguments, listing(target.arguments)
        case Role.ALL:
            return view.nodes, f"all nodes ({listing(view.nodes)})"
    if same is not None:
        return same.nodes, listing(same.nodes) + _carried_words(target.role, view.family)
    if target.role is Role.MINORITY:
        leader, _ = _leader(view, rng)
        nodes = minority_with(leader, view.nodes)
        words = f"a minority with {'the leader ' if view.leader else ''}{leader}"
        return nodes, f"{listing(nodes)} ({words})"
    node, words = _one(target, view, rng)
    return (node,), words


def _one(target: Target, view: ClusterView, rng: Random) -> tuple[NodeId, str]:
    """Return the node that plays the role, and how a sentence calls it."""
    match target.role:
        case Role.RANDOM:
            node = _draw(view.nodes, view, rng, "no node is alive")
            return node, f"{node} (drawn at random)"
        case Role.FOLLOWER:
            return _follower(view, rng)
        case Role.FIRST_REPLICA | Role.COORDINATOR:
            return _of_key(target, view, rng)
        case Role.NAMED:
            return target.arguments[0], target.arguments[0]
    return _leader(view, rng)


def minority_with(node: NodeId, nodes: Sequence[NodeId]) -> tuple[NodeId, ...]:
    """Return the largest minority that begins with ``node``; the others follow in turn."""
    if node not in nodes:
        raise Unresolvable(f"{node} has left the cluster")
    start = nodes.index(node)
    return (*nodes[start:], *nodes[:start])[: max(1, (len(nodes) - 1) // 2)]


def _carried_words(role: Role, family: Family) -> str:
    """Return why it is these nodes that the other side's resolution is taken over for."""
    match role:
        case Role.NAMED | Role.ALL:
            return ""
        case Role.RANDOM:
            return " (drawn at random on the other side)"
    # What a leaderless cluster resolved a role to was no leader and no follower.
    if family is Family.LEADER:
        return " (the same as on the other side)"
    called = {Role.LEADER: "the leader", Role.MINORITY: "the leader and a minority with it"}
    return f" (on the other side {called.get(role, 'a follower')})"


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


def _of_key(target: Target, view: ClusterView, rng: Random) -> tuple[NodeId, str]:
    """Return the node that serves a key; where all keys have one leader, that is the leader."""
    if view.family is Family.LEADER:
        return _leader(view, rng)
    key = target.key
    assert key is not None, "the role is of a key"
    owners = view.owners.get(key, ())
    if not owners:
        raise Unresolvable(f"who holds {key} is not known")
    if target.role is Role.FIRST_REPLICA:
        return owners[0], f"the first replica of {key} ({owners[0]})"
    # The first replica coordinates; when it is down the next one does (Dynamo §4.3, §5).
    node = next((each for each in owners if each in view.alive), None)
    if node is None:
        raise Unresolvable(f"no replica of {key} is alive")
    return node, f"the coordinator of {key} ({node})"


def _partition(
    fault: PlannedFault, view: ClusterView, rng: Random, same: ResolvedFault | None
) -> ResolvedFault:
    made = _shaped(fault, view, rng, same)
    words = made.words
    role = parse_target(fault.targets[view.family]).role
    carried = _carried_words(role, view.family) if same is not None else ""
    if carried and same is not None and same.nodes:
        words += f"; {same.nodes[0]}{carried}"
    return ResolvedFault(fault, made.nodes, made.sides, made.links, words)


def _shaped(
    fault: PlannedFault, view: ClusterView, rng: Random, same: ResolvedFault | None
) -> Partition:
    target = parse_target(fault.targets[view.family])
    match fault.shape:
        case PartitionShape.MAJORITIES_RING:
            return ringed(view)
        case PartitionShape.HALVES:
            return listed_sides((view.nodes[: len(view.nodes) // 2],), view)
        case PartitionShape.NODES:
            return listed_sides(fault.sides, view)
        case PartitionShape.BRIDGE if target.role is Role.ALL:
            middle = view.nodes[len(view.nodes) // 2]
            return bridged(middle, middle, view)
    # What a sentence calls the node that the target is about, when the target is one node.
    if same is not None:
        nodes, words = same.nodes, ""
    elif target.role is Role.MINORITY or len(target.arguments) > 1:
        nodes, words = _targets(fault, view, rng, None)
    else:
        node, words = _one(target, view, rng)
        nodes = (node,)
    match fault.shape:
        case PartitionShape.BRIDGE:
            return bridged(nodes[0], words or nodes[0], view)
        case PartitionShape.MINORITY_WITH_LEADER if same is None:
            nodes = minority_with(nodes[0], view.nodes)
    roles = {nodes[0]: words} if words else {}
    direction = fault.direction if fault.shape is PartitionShape.ONE_WAY else None
    return isolated(nodes, roles, view, direction)


def _on_links(
    fault: PlannedFault, view: ClusterView, names: tuple[str, ...], words: str
) -> ResolvedFault:
    """Put the rule on every link of the target: a node's to other nodes, a client's to all."""
    pairs: dict[tuple[str, str], None] = {}
    for name in names:
        for other in view.nodes:
            if other != name:
                pairs[name, other] = pairs[other, name] = None
    if parse_target(fault.targets[view.family]).role is Role.ALL:
        place = "every link between nodes"
    else:
        place = f"every link of {words} to {link_ends(names)}"
    links = tuple(
        LinkRule(
            source,
            destination,
            loss=fault.loss,
            delay_ns=fault.delay_ns,
            jitter_ns=fault.jitter_ns,
            duplicate=fault.duplicate,
            reorder=fault.reorder,
            hold_ns=fault.hold_ns,
            bytes_per_s=fault.bytes_per_s,
        )
        for source, destination in pairs
    )
    nodes = tuple(name for name in names if name in view.nodes)
    return ResolvedFault(fault, nodes, (), links, f"{effect_words(fault)} on {place}")


def link_ends(names: Sequence[str]) -> str:
    """Return what is at the other end of the links of ``names``, nodes or clients (c1, c2 ...)."""
    clients = [name for name in names if name.startswith("c")]
    return "the nodes" if clients and len(clients) == len(names) else "other nodes"


def effect_words(fault: PlannedFault) -> str:
    """Return what a link fault does to a message: "delay messages by 100ms plus 0s to 20ms"."""
    hold = duration_text(fault.hold_ns)
    match fault.kind:
        case FaultKind.LOSS:
            return f"lose {fault.loss * 100:g}% of the messages"
        case FaultKind.DUPLICATE:
            return (
                f"duplicate {fault.duplicate * 100:g}% of the messages (copies up to {hold} late)"
            )
        case FaultKind.REORDER:
            return f"hold {fault.reorder * 100:g}% of the messages back for up to {hold}"
        case FaultKind.BANDWIDTH:
            return f"let {bandwidth_text(fault.bytes_per_s)} pass"
    if not fault.jitter_ns:
        return f"delay messages by {duration_text(fault.delay_ns)}"
    return (
        f"delay messages by {duration_text(fault.delay_ns)} "
        f"to {duration_text(fault.delay_ns + fault.jitter_ns)}"
    )
