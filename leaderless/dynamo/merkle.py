"""Merkle trees that are kept up with every write (Dynamo §4.7).

One tree per partition of the ring. All N replicas of a partition are to hold exactly its keys, so
the same tree serves the exchange with each of them. A key lies in the leaf that the bits of its
position behind the partition name, and counts there with a digest of itself and what is held of it.
Every node is the exclusive or of the digests below it, as in Riak's "tictac" trees: a change costs
one operation per level, whatever else the leaf holds, and no node is ever computed anew. Two
different sets of keys have the same node with probability 2**-64.

The trees are not on the disk. They say nothing that the store does not, and a node reads its store
whole when it starts: to build them takes 3 microseconds a key then. On the disk they would make
five records of every write. (Riak cannot do without: its stores do not fit into memory.)

Nodes are numbered from the root (0) down, level by level, as in a heap.
"""

from collections.abc import Mapping, Sequence
from functools import reduce
from hashlib import blake2b
from operator import xor
from typing import Final

from leaderless.dynamo.ring import HASH_BITS, position, position_of

FANOUT_BITS: Final = 3
FANOUT: Final = 1 << FANOUT_BITS
LEVELS: Final = 3  # below the root
LEAVES: Final = FANOUT**LEVELS
FIRST_LEAF: Final = (LEAVES - 1) // (FANOUT - 1)
NODES: Final = FIRST_LEAF + LEAVES

Digest = int  # 64 bits; 0: nothing is held


def digest_of(where: int, encoded: bytes) -> Digest:
    """Return the digest of what is held of the key at position ``where``, 0 for nothing."""
    if not encoded:
        return 0
    whole = where.to_bytes(8, "big") + encoded
    return int.from_bytes(blake2b(whole, digest_size=8).digest(), "big")


def children(node: int) -> range:
    """Return the numbers of the nodes right below ``node``, which is no leaf."""
    first = node * FANOUT + 1
    return range(first, first + FANOUT)


class MerkleTree:
    """The tree of one partition."""

    __slots__ = ("_keys", "_nodes")

    def __init__(self) -> None:
        self._nodes = [0] * NODES
        self._keys: dict[int, dict[str, Digest]] = {}  # by leaf

    def __len__(self) -> int:
        return sum(map(len, self._keys.values()))

    @property
    def root(self) -> Digest:
        """The exclusive or of everything."""
        return self._nodes[0]

    def update(self, leaf: int, key: str, digest: Digest) -> None:
        """Let ``key`` count with ``digest`` from now on; 0 takes it out."""
        held = self._keys.get(leaf)
        if held is None:
            held = self._keys[leaf] = {}
        change = held.get(key, 0) ^ digest
        if not change:
            return
        if digest:
            held[key] = digest
        else:
            del held[key]
        nodes = self._nodes
        node = leaf
        while node:
            nodes[node] ^= change
            node = (node - 1) >> FANOUT_BITS
        nodes[0] ^= change

    def hold(self, leaf: int, key: str, digest: Digest) -> None:
        """Take in a key that is not held yet; ``add_up`` must follow before anything is asked."""
        held = self._keys.get(leaf)
        if held is None:
            held = self._keys[leaf] = {}
        held[key] = digest

    def add_up(self) -> None:
        """Compute every node from what the leaves hold."""
        nodes = self._nodes = [0] * NODES
        for leaf, held in self._keys.items():
            nodes[leaf] = reduce(xor, held.values(), 0)
        for node in range(NODES - 1, 0, -1):
            nodes[(node - 1) >> FANOUT_BITS] ^= nodes[node]

    def digests_below(self, node: int) -> list[Digest]:
        """Return the digests of the nodes right below ``node``, which is no leaf."""
        below = children(node)
        return self._nodes[below.start : below.stop]

    def differing(self, node: int, theirs: Sequence[Digest]) -> list[int]:
        """Return the nodes right below ``node`` that are not as another replica says."""
        below = children(node)
        mine = self._nodes[below.start : below.stop]
        return [child for child, one, two in zip(below, mine, theirs, strict=True) if one != two]

    def keys_of(self, leaf: int) -> dict[str, Digest]:
        """Return the keys of a leaf with their digests. Not to be changed."""
        return self._keys.get(leaf, {})


class MerkleForest:
    """The trees of all partitions that this node holds keys of.

    After a change of the ring it may hold keys of partitions that are no longer its own; nobody
    asks for their trees.
    """

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._trees: dict[int, MerkleTree] = {}

    def load(self, held: Mapping[str, bytes]) -> None:
        """Begin with what is held, all of it: a node is computed once, not with every key."""
        for key, encoded in held.items():
            where = position_of(key)
            tree, leaf = self._place(where)
            tree.hold(leaf, key, digest_of(where, encoded))
        for tree in self._trees.values():
            tree.add_up()

    def update(self, key: str, encoded: bytes) -> None:
        """Take note of what is held of ``key`` now. Costs two hashes and one step per level."""
        where = position(key)
        tree, leaf = self._place(where)
        tree.update(leaf, key, digest_of(where, encoded))

    def _place(self, where: int) -> tuple[MerkleTree, int]:
        """Return the tree of a position, made if need be, and the leaf in it."""
        # The partition is the integer part of position * Q, the leaf the first bits after it.
        scaled = where * self._partitions
        partition = scaled >> HASH_BITS
        tree = self._trees.get(partition)
        if tree is None:
            tree = self._trees[partition] = MerkleTree()
        return tree, FIRST_LEAF + ((scaled & _FRACTION) >> _LEAF_SHIFT)

    def tree(self, partition: int) -> MerkleTree:
        """Return the tree of ``partition``; an empty one if nothing is held of it."""
        return self._trees.get(partition, _EMPTY)

    def digest(self, key: str) -> Digest:
        """Return the digest of what is held of ``key``, 0 for nothing."""
        scaled = position(key) * self._partitions
        leaf = FIRST_LEAF + ((scaled & _FRACTION) >> _LEAF_SHIFT)
        return self.tree(scaled >> HASH_BITS).keys_of(leaf).get(key, 0)


_FRACTION: Final = 2**HASH_BITS - 1
_LEAF_SHIFT: Final = HASH_BITS - FANOUT_BITS * LEVELS
_EMPTY: Final = MerkleTree()
