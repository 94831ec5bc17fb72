"""Versions of one key: what is kept when writes meet (Dynamo §4.4).

A replica's knowledge of a key is a :class:`Siblings`: the live versions, each named by its dot, and
the vector of every dot it knows of, live or superseded. Two of them merge into one: a version
survives if both have it, or if the other has never heard of it. This is the dotted version vector
set of Almeida, Baquero, Goncalves, Preguica and Fonte ("Scalable and Accurate Causality Tracking
for Eventually Consistent Stores", DAIS 2014), with a vector that may have holes, so that a single
write is a Siblings too: one version, and the vector of what its writer had read. Coordinators send
that, not the whole key.

Invariants: versions are concurrent with each other; their dots are in ``vector``; a dot in
``vector`` without a version is superseded by a version here or by one that has superseded that.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol, TypeAlias

from leaderless.dynamo.vector import NOTHING, VersionVector, fill_vector, vector_of
from leaderless.v1 import dynamo_pb2
from replication.v1 import storage_pb2

Dot: TypeAlias = tuple[str, int]  # actor, counter
Version: TypeAlias = storage_pb2.Version


class Versions(StrEnum):
    """What happens to concurrent writes of a key."""

    DVV = "dvv"  # all are kept, as siblings, and nothing else is
    VERSION_VECTOR = "version_vector"  # all are kept, and many that were superseded with them
    LWW = "lww"  # the greatest wall clock wins, the others vanish
    HLC = "hlc"  # the same by a hybrid clock: whoever has read a version wins over it

    @property
    def keeps_siblings(self) -> bool:
        """Whether concurrent writes stay, all of them."""
        return self in (Versions.DVV, Versions.VERSION_VECTOR)


@dataclass(slots=True, eq=False)
class Siblings:
    """What is known of one key. Not to be changed after it was made.

    ``seen`` is what a reader of these versions has seen. With siblings that is ``vector``; with
    last-write-wins it is less, namely what the writer of the one version had read, and the version.
    """

    versions: dict[Dot, Version]
    vector: VersionVector
    seen: VersionVector

    def same(self, other: "Siblings") -> bool:
        """Tell whether both say the same. A dot names one version, so the dots are compared."""
        return (
            self.versions.keys() == other.versions.keys()
            and (self.vector is other.vector or self.vector == other.vector)
            # With siblings both are one object.
            and (
                (self.seen is self.vector and other.seen is other.vector) or self.seen == other.seen
            )
        )

    def holding(self, write_id: storage_pb2.WriteId) -> Version | None:
        """Return the live version that this write made, if it is here."""
        for version in self.versions.values():
            if version.write_id == write_id:
                return version
        return None

    def is_deleted(self) -> bool:
        """Tell whether there are tombstones and nothing else."""
        return bool(self.versions) and all(each.tombstone for each in self.versions.values())

    def newest_ns(self) -> int:
        """Return the greatest timestamp of the live versions, 0 for none."""
        return max((each.timestamp_ns for each in self.versions.values()), default=0)

    def distinct(self) -> list[Version]:
        """Return the live versions, one per write.

        A write that was retried through two coordinators has two dots. Nobody is told of both: it
        is one write. The smaller dot speaks for it, and the context covers both.
        """
        ordered = [self.versions[dot] for dot in sorted(self.versions)]
        if len(ordered) < 2:
            return ordered
        writes: dict[tuple[str, int], Version] = {}
        for version in ordered:
            writes.setdefault((version.write_id.client_id, version.write_id.sequence), version)
        return list(writes.values())


EMPTY: Final = Siblings({}, NOTHING, NOTHING)


def single_write(version: Version, context: VersionVector) -> Siblings:
    """Return the write of ``version`` by somebody who had read ``context``, and nothing else."""
    dot = (version.dot.actor, version.dot.counter)
    vector = context.with_dot(*dot)
    return Siblings({dot: version}, vector, vector)


class Versioning(Protocol):
    """What a kind of versions decides; the rest of the core does not know which one it has."""

    def merge(self, held: Siblings, incoming: Siblings) -> Siblings:
        """Return what both say: commutative, idempotent, and (but for one kind) associative.

        Returns ``held`` itself when it says all, else ``incoming`` itself when that says all.
        """
        ...

    def accept(
        self, held: Siblings, version: Version, context: VersionVector
    ) -> tuple[Siblings, VersionVector]:
        """Return a write as it is merged and sent, and what its writer has seen after it.

        ``version`` is new, or was found in ``held``; the writer had read ``context``.
        """
        ...

    def staying(self, held: Siblings, context: VersionVector) -> int:
        """Return how many versions stay beside the write of somebody who had read ``context``."""
        ...

    def timestamp_ns(self, wall_ns: int, read_ns: int) -> int:
        """Return the timestamp of a version that this node accepts now, 0 for none.

        ``read_ns`` is the greatest one that is held of the key or that the writer had read.
        """
        ...


class _SingleWrites:
    """Writes that travel alone: one version, and what its writer had read."""

    def accept(
        self, held: Siblings, version: Version, context: VersionVector
    ) -> tuple[Siblings, VersionVector]:
        """Return the write and its vector: the context and the new dot."""
        write = single_write(version, context)
        return write, write.vector

    def staying(self, held: Siblings, context: VersionVector) -> int:
        """Return how many versions the context does not cover."""
        return sum(not context.covers(*dot) for dot in held.versions)


class DottedVersions(_SingleWrites):
    """Every concurrent write is kept; a write drops exactly what its writer had read."""

    def merge(self, held: Siblings, incoming: Siblings) -> Siblings:
        """Keep what both have and what the other has never heard of (Almeida et al., sync)."""
        ours, theirs = held.vector, incoming.vector
        vector = ours.join(theirs)
        # Most often a write meets what its writer had read: then it is all that is left.
        if vector is theirs and vector is not ours:
            for dot in incoming.versions:
                if dot not in held.versions and ours.covers(*dot):
                    break
            else:
                return incoming
        versions = {
            dot: version
            for dot, version in held.versions.items()
            if dot in incoming.versions or not theirs.covers(*dot)
        }
        for dot, version in incoming.versions.items():
            if dot not in versions and not ours.covers(*dot):
                versions[dot] = version
        return _one_of(held, incoming, Siblings(versions, vector, vector))

    def timestamp_ns(self, wall_ns: int, read_ns: int) -> int:
        """Return 0: no clock decides anything here."""
        return 0


class ServerVectors(DottedVersions):
    """Plain version vectors with an entry per server, as Riak had them before its dots.

    A key has one vector for all its siblings, without holes, so it cannot tell which of them a
    writer had read: unless its context has everything, all of them stay beside its write. Two
    writers who take turns make a sibling with each write. Nothing that nobody had read is lost: a
    writer is not told that it has seen its own write if that would claim what it has not read.
    """

    def merge(self, held: Siblings, incoming: Siblings) -> Siblings:
        """Keep the one that descends from the other, or the siblings of both.

        Not associative: a sibling that goes in one order of merges may stay in another. The
        replicas agree all the same, since equal vectors unite what they hold.
        """
        ours, theirs = held.vector, incoming.vector
        vector = ours.join(theirs)
        if vector is ours and ours != theirs:
            return held
        if vector is theirs and ours != theirs:
            return incoming
        versions = {**held.versions, **incoming.versions}
        return _one_of(held, incoming, Siblings(versions, vector, vector))

    def accept(
        self, held: Siblings, version: Version, context: VersionVector
    ) -> tuple[Siblings, VersionVector]:
        """Return all that the key holds with the write: a version alone says too little."""
        dot = (version.dot.actor, version.dot.counter)
        if dot not in held.versions:
            vector = held.vector.join(context)
            siblings = {} if vector is context else dict(held.versions)
            vector = VersionVector({**vector.tops, dot[0]: dot[1]})
            held = Siblings({**siblings, dot: version}, vector, vector)
        return held, held.vector if len(held.versions) == 1 else context

    def staying(self, held: Siblings, context: VersionVector) -> int:
        """Return how many versions stay: all or none."""
        return 0 if context.includes(held.vector) else len(held.versions)


class LastWriteWins(_SingleWrites):
    """The version with the greatest timestamp is kept, whatever its writer had read.

    Equal timestamps are decided by the greater dot, so all replicas agree. The vector still grows
    with every dot: a node never names two writes alike.
    """

    def __init__(self) -> None:
        self._last_ns = 0

    def merge(self, held: Siblings, incoming: Siblings) -> Siblings:
        """Keep the greater version."""
        vector = held.vector.join(incoming.vector)
        winner = max(held, incoming, key=_rank)
        return _one_of(held, incoming, Siblings(winner.versions, vector, winner.seen))

    def timestamp_ns(self, wall_ns: int, read_ns: int) -> int:
        """Return the wall clock, or one more than the last timestamp if that is greater.

        So writes through one coordinator keep their order when its clock steps back, as with
        Cassandra. Not after a restart, and not between coordinators.
        """
        self._last_ns = max(wall_ns, self._last_ns + 1)
        return self._last_ns


class HybridClock(LastWriteWins):
    """Last-write-wins by a hybrid logical clock (Kulkarni et al., OPODIS 2014, §3 and §6.2).

    A node's clock is its wall clock, but never behind a timestamp that it has met. So a write wins
    over every version that its coordinator held or its writer had read, however wrong the clocks
    are. One of two concurrent writes still vanishes.
    """

    def merge(self, held: Siblings, incoming: Siblings) -> Siblings:
        """Keep the greater version, and let the clock hear of it."""
        for version in incoming.versions.values():
            if version.timestamp_ns > self._last_ns:
                self._last_ns = version.timestamp_ns
        return super().merge(held, incoming)

    def timestamp_ns(self, wall_ns: int, read_ns: int) -> int:
        """Return the wall clock, or one more than the greatest timestamp met so far."""
        self._last_ns = max(self._last_ns, read_ns)
        return super().timestamp_ns(wall_ns, read_ns)


_RULES: Final[Mapping[Versions, Callable[[], Versioning]]] = {
    Versions.DVV: DottedVersions,
    Versions.VERSION_VECTOR: ServerVectors,
    Versions.LWW: LastWriteWins,
    Versions.HLC: HybridClock,
}


def versioning(kind: Versions) -> Versioning:
    """Return the rules of ``kind``."""
    return _RULES[kind]()


def _rank(siblings: Siblings) -> tuple[int, Dot]:
    """Return what last-write-wins compares; a key without a version is older than any."""
    for dot, version in siblings.versions.items():
        return version.timestamp_ns, dot
    return -(2**63), ("", 0)


def _one_of(held: Siblings, incoming: Siblings, merged: Siblings) -> Siblings:
    if merged.same(held):
        return held
    return incoming if merged.same(incoming) else merged


def encode(siblings: Siblings) -> bytes:
    """Return the bytes that are stored and sent: equal for equal siblings, empty for none."""
    message = dynamo_pb2.Siblings()
    for dot in sorted(siblings.versions):
        message.versions.append(siblings.versions[dot])
    fill_vector(message.vector, siblings.vector)
    if siblings.seen is not siblings.vector and siblings.seen != siblings.vector:
        # An empty message inside would look as if it were not set: say that it is.
        message.seen.SetInParent()
        fill_vector(message.seen, siblings.seen)
    return message.SerializeToString()


def decode(data: bytes) -> Siblings:
    """Return what ``encode`` made ``data`` of. Raises DecodeError or ValueError on other bytes."""
    if not data:
        return EMPTY
    message = dynamo_pb2.Siblings.FromString(data)
    versions = {(each.dot.actor, each.dot.counter): each for each in message.versions}
    vector = vector_of(message.vector)
    seen = vector_of(message.seen) if message.HasField("seen") else vector
    return Siblings(versions, vector, seen)


def without_value(version: Version) -> Version:
    """Return a copy for events and listings, which never carry values."""
    return Version(
        tombstone=version.tombstone,
        write_id=version.write_id,
        dot=version.dot,
        timestamp_ns=version.timestamp_ns,
    )
