"""Consistent hashing: which nodes hold a key (Dynamo §4.2, §6.2 strategy 3).

The space of hashes is cut into Q equal partitions, each owned by a node. The preference list of a
key begins with the owner of its partition and goes on clockwise to the owners of the following
partitions until it has N distinct nodes. Python's own ``hash`` differs from process to process;
BLAKE2 does not.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from replication.protocol import NodeId

HASH_BITS = 64


def position(key: str) -> int:
    """Return where ``key`` lies on the ring: 0 to 2**64 - 1, the same on every node for ever."""
    return int.from_bytes(blake2b(key.encode(), digest_size=HASH_BITS // 8).digest(), "big")


def claim(members: Iterable[NodeId], partitions: int) -> tuple[NodeId, ...]:
    """Return the owner of each partition: every node owns Q/S of them, rounded up or down.

    The members claim in rounds, one partition each, in an order that is shuffled by hash from round
    to round. So every node has many different neighbours, and when it fails its load falls on all
    of them (Dynamo §4.2). The order of ``members`` does not matter.
    """
    names = sorted(members)
    owners: list[NodeId] = []
    while len(owners) < partitions:
        round_number = len(owners) // len(names)
        owners += sorted(names, key=lambda name: position(f"{round_number}/{name}"))
    return tuple(owners[:partitions])


def preference_list(owners: Sequence[NodeId], first: int, n: int) -> tuple[NodeId, ...]:
    """Return the first ``n`` distinct owners clockwise from partition ``first``.

    Fewer when there are fewer nodes than ``n``.
    """
    found: list[NodeId] = []
    for step in range(len(owners)):
        owner = owners[(first + step) % len(owners)]
        if owner not in found:
            found.append(owner)
            if len(found) == n:
                break
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Ring:
    """Who holds what. A change of members makes another ring; this one never changes."""

    preferences: tuple[tuple[NodeId, ...], ...]  # by partition: its N primaries
    fallbacks: tuple[tuple[NodeId, ...], ...]  # by partition: all other nodes, on clockwise

    def partition(self, key: str) -> int:
        """Return the partition of ``key``, 0 to Q-1."""
        return position(key) * len(self.preferences) >> HASH_BITS

    def preference(self, key: str) -> tuple[NodeId, ...]:
        """Return the N nodes that hold ``key``, the first of them first."""
        return self.preferences[position(key) * len(self.preferences) >> HASH_BITS]

    def shared(self, one: NodeId, other: NodeId) -> list[int]:
        """Return the partitions that both nodes hold."""
        return [
            partition
            for partition, preference in enumerate(self.preferences)
            if one in preference and other in preference
        ]

    def beyond(self, key: str) -> tuple[NodeId, ...]:
        """Return the nodes after the N primaries of ``key``: who stands in for them, in order."""
        return self.fallbacks[self.partition(key)]


def make_ring(members: Iterable[NodeId], partitions: int, n: int) -> Ring:
    """Return the ring of ``partitions`` partitions whose keys have ``n`` replicas each."""
    owners = claim(members, partitions)
    walks = [preference_list(owners, first, partitions) for first in range(partitions)]
    return Ring(tuple(walk[:n] for walk in walks), tuple(walk[n:] for walk in walks))
