"""Which ring follows when a node comes, goes, or is replaced."""

from leaderless.dynamo.ring import reclaim
from leaderless.v1 import dynamo_pb2
from replication.errors import InvalidRequest, Overloaded
from replication.protocol import NodeId


def members_of(state: dynamo_pb2.RingState) -> list[NodeId]:
    """Return everybody who owns something, or is to."""
    return sorted({*state.owners, *state.next_owners})


def change_words(joining: NodeId | None, leaving: NodeId | None) -> str:
    """Return what was done."""
    joined = [f"{joining} has joined"] * (joining is not None)
    left = [f"{leaving} has left"] * (leaving is not None)
    return " and ".join(joined + left)


def under_way(state: dynamo_pb2.RingState) -> Overloaded:
    """Return the refusal of a second change at a time."""
    return Overloaded(f"another change of the ring is under way at epoch {state.epoch}")


def next_ring(
    state: dynamo_pb2.RingState,
    joining: NodeId | None,
    leaving: NodeId | None,
    n: int,
    joint: bool,
) -> dynamo_pb2.RingState:
    """Return the ring that a change begins with. Raises when it cannot be, or not now.

    While data moves only a replacement may begin, of a node that owns some of it or is to: were it
    dead for good, the change might never end. The old owners stay who they are and the new ones are
    others, which fetch everything again; so every quorum still has one of the old owners in it.
    """
    members = members_of(state)
    replaces = joining is not None and leaving is not None
    if state.next_owners and not (replaces and leaving in members):
        raise under_way(state)
    if joining is not None and joining in members:
        raise InvalidRequest(f"{joining} is a member already, it cannot replace {leaving}")
    if leaving is not None and leaving not in members:
        raise InvalidRequest(f"{leaving} is no member; members are {', '.join(members)}")
    count = len(members) + (joining is not None) - (leaving is not None)
    if count < n or count > len(state.owners):
        raise InvalidRequest(
            f"{count} members would be left, expected n = {n} to partitions = {len(state.owners)}"
        )
    to_own = state.next_owners or state.owners
    owners = reclaim(to_own, joining, leaving if leaving in to_own else None)
    replaced = [*state.replaced] if state.next_owners else []
    if joining is not None and leaving is not None and leaving in state.owners:
        replaced.append(leaving)
    following = dynamo_pb2.RingState(epoch=state.epoch + 1, replaced=replaced)
    if joint:
        following.owners.extend(state.owners)
        following.next_owners.extend(owners)
    else:
        following.owners.extend(owners)
        following.sources.extend(state.owners)
    return following
