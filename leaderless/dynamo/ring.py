"""Consistent hashing: which nodes hold a key (Dynamo §4.2, §6.2 strategy 3).

The space of hashes is cut into Q equal partitions, each owned by a node. The preference list of a
key begins with the owner of its partition and goes on clockwise to the owners of the following
partitions until it has N distinct nodes. Python's own ``hash`` differs from process to process;
BLAKE2 does not.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

from replication.protocol import NodeId

HASH_BITS = 64
POSITIONS_MAX = 16_384  # remembered: every step of an operation asks for that of its key
RINGS_MAX = 8  # remembered: in a simulation all nodes go by the same few


def position_of(key: str) -> int:
    """Return where ``key`` lies on the ring: 0 to 2**64 - 1, the same on every node for ever."""
    return int.from_bytes(blake2b(key.encode(), digest_size=HASH_BITS // 8).digest(), "big")


position = lru_cache(maxsize=POSITIONS_MAX)(position_of)  # the same, for keys that are in use


def claim(members: Iterable[NodeId], partitions: int) -> tuple[NodeId, ...]:
    """Return the owner of each partition: every node owns Q/S of them, rounded up or down.

    The members claim in rounds, one partition each, in an order that is shuffled by hash from round
    to round. So every node has many different neighbours, and when it fails its load falls on all
    of them (Dynamo §4.2). The order of ``members`` does not matter.
    """
    return _claim(tuple(sorted(members)), partitions)


@lru_cache(maxsize=RINGS_MAX)
def _claim(names: tuple[NodeId, ...], partitions: int) -> tuple[NodeId, ...]:
    owners: list[NodeId] = []
    while len(owners) < partitions:
        round_number = len(owners) // len(names)
        owners += sorted(names, key=lambda name: position(f"{round_number}/{name}"))
    return tuple(owners[:partitions])


def preference_list(owners: Sequence[NodeId], first: int, n: int) -> tuple[NodeId, ...]:
    """Return the first ``n`` distinct owners clockwise from partition ``first``.

    Fewer when there are fewer nodes than ``n``.
    """
    found: dict[NodeId, None] = {}
    for step in range(len(owners)):
        found[owners[(first + step) % len(owners)]] = None
        if len(found) == n:
            break
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Ring:
    """Who holds what. A change of members makes another ring; this one never changes."""

    preferences: tuple[tuple[NodeId, ...], ...]  # by partition: its N primaries
    fallbacks: tuple[tuple[NodeId, ...], ...]  # by partition: all other nodes, on clockwise
    next_preferences: tuple[tuple[NodeId, ...], ...] = ()  # by partition, while data moves

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

    def moving(self, key: str) -> tuple[NodeId, ...]:
        """Return who is to hold ``key`` once its data has moved; empty while nothing moves."""
        return self.next_preferences[self.partition(key)] if self.next_preferences else ()

    def beyond(self, key: str) -> tuple[NodeId, ...]:
        """Return the nodes after the N primaries of ``key``: who stands in for them, in order."""
        return self.fallbacks[self.partition(key)]


def make_ring(members: Iterable[NodeId], partitions: int, n: int) -> Ring:
    """Return the ring of ``partitions`` partitions whose keys have ``n`` replicas each."""
    return ring_of(claim(members, partitions), n)


def ring_of(owners: Sequence[NodeId], n: int, next_owners: Sequence[NodeId] = ()) -> Ring:
    """Return the ring of these owners; ``next_owners`` are those they are to hand over to."""
    return _ring_of(tuple(owners), n, tuple(next_owners))


@lru_cache(maxsize=RINGS_MAX)
def _ring_of(owners: tuple[NodeId, ...], n: int, next_owners: tuple[NodeId, ...]) -> Ring:
    walks = [preference_list(owners, first, len(owners)) for first in range(len(owners))]
    to_come = [preference_list(next_owners, first, n) for first in range(len(next_owners))]
    return Ring(
        tuple(walk[:n] for walk in walks), tuple(walk[n:] for walk in walks), tuple(to_come)
    )


def reclaim(
    owners: Sequence[NodeId], joining: NodeId | None, leaving: NodeId | None
) -> tuple[NodeId, ...]:
    """Return the owners after one node has come, or gone, or taken the place of another.

    Only what has to move does: who comes takes its share from those who have most, what a leaver
    had goes to those who have least (Dynamo §6.2, strategy 3).
    """
    if joining is not None and leaving is not None:
        return tuple(joining if owner == leaving else owner for owner in owners)
    result = list(owners)
    counts = Counter(owners)
    if joining is not None:
        shuffled = sorted(range(len(owners)), key=lambda each: position(f"{joining}/{each}"))
        for _ in range(len(owners) // (len(counts) + 1)):
            most = max(counts.values())
            partition = next(
                each
                for each in shuffled
                if result[each] != joining and counts[result[each]] == most
            )
            counts[result[partition]] -= 1
            result[partition] = joining
    if leaving is not None:
        del counts[leaving]
        for partition, owner in enumerate(owners):
            if owner == leaving:
                heir = min(counts, key=lambda each: (counts[each], position(f"{partition}/{each}")))
                counts[heir] += 1
                result[partition] = heir
    return tuple(result)
