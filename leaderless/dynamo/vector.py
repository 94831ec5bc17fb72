"""Version vectors with exceptions: exactly which dots of a key somebody has seen.

A plain version vector {n1: 5} says "the dots 1 to 5 of n1". That is enough for a replica that hears
of everything in order, and for a reader. It is not enough for a writer who wrote dot 5 without
having read dot 4: the vector {n1: 5} would claim dot 4 as read, and the writer's next put would
erase it. So a vector may have holes (Malkhi and Terry, "Concise version vectors in WinFS").

What is missing of an actor is kept as bounds: ``(2, 4, 6)`` means that 2 and 3 are missing and
everything from 6 on. A counter is missing if an odd number of bounds is at or below it, and set
operations on such tuples need no case distinctions. ``tops`` holds the last bound minus one and
``holes`` the bounds before it, so that a vector without holes is a plain dictionary.
"""

from bisect import bisect_right
from collections.abc import Iterator
from typing import Final

from leaderless.v1 import dynamo_pb2

Bounds = tuple[int, ...]


class VersionVector:
    """A set of dots. Not to be changed after it was made: vectors are shared between versions."""

    __slots__ = ("holes", "tops")

    def __init__(self, tops: dict[str, int], holes: dict[str, Bounds] | None = None) -> None:
        self.tops = tops
        self.holes = holes or {}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, VersionVector):
            return NotImplemented
        return self.tops == other.tops and self.holes == other.holes

    def __hash__(self) -> int:
        return hash((frozenset(self.tops.items()), frozenset(self.holes.items())))

    def __repr__(self) -> str:
        parts = [
            f"{actor}:{top}" + (f" without {self.holes[actor]}" if actor in self.holes else "")
            for actor, top in sorted(self.tops.items())
        ]
        return "{" + ", ".join(parts) + "}"

    def top(self, actor: str) -> int:
        """Return the highest counter seen of ``actor``, 0 for none."""
        return self.tops.get(actor, 0)

    def covers(self, actor: str, counter: int) -> bool:
        """Tell whether the dot was seen."""
        if counter > self.tops.get(actor, 0):
            return False
        return not self.holes or bisect_right(self.holes.get(actor, ()), counter) % 2 == 0

    def includes(self, other: "VersionVector") -> bool:
        """Tell whether every dot of ``other`` was seen."""
        return self.join(other) is self

    def join(self, other: "VersionVector") -> "VersionVector":
        """Return the dots of both: this vector itself if it has them all, else ``other`` likewise.

        Every merge of a write ends here, so vectors without holes are joined in one pass.
        """
        if self.holes or other.holes:
            return self._join_with_holes(other)
        mine, theirs = self.tops, other.tops
        # Which side is returned matters to callers: the same object means that nothing is new.
        more = less = False
        for actor, top in theirs.items():
            held = mine.get(actor, 0)
            if top > held:
                more = True
            elif top < held:
                less = True
        if not more:
            return self
        if not less and mine.keys() <= theirs.keys():
            return other
        tops = dict(mine)
        for actor, top in theirs.items():
            if top > tops.get(actor, 0):
                tops[actor] = top
        return VersionVector(tops)

    def with_dot(self, actor: str, counter: int) -> "VersionVector":
        """Return these dots and one more."""
        top = self.tops.get(actor, 0)
        if counter == top + 1:
            return VersionVector({**self.tops, actor: counter}, self.holes)
        if counter <= top:
            # It fills a hole, or a part of one.
            return self.join(_single(actor, counter))
        holes = {**self.holes, actor: (*self.holes.get(actor, ()), top + 1, counter)}
        return VersionVector({**self.tops, actor: counter}, holes)

    def forgetting(self, holes_max: int) -> "VersionVector":
        """Return a vector of at most ``holes_max`` holes per actor, for which old dots are dropped.

        To forget a dot is safe: a version that the client had seen may stay as a sibling. To fill
        a hole would not be: a version that it had not seen would be lost.
        """
        if all(len(bounds) <= 2 * holes_max for bounds in self.holes.values()):
            return self
        # The first hole grows until it ends where the last of the superfluous ones ended.
        holes = {
            actor: (bounds[0], *bounds[max(1, len(bounds) - 2 * holes_max + 1) :])
            for actor, bounds in self.holes.items()
        }
        return VersionVector(self.tops, holes)

    def dots(self) -> Iterator[tuple[str, int]]:
        """Yield every dot, by actor and counter. For tests and reports: there may be many."""
        for actor, top in sorted(self.tops.items()):
            for counter in range(1, top + 1):
                if self.covers(actor, counter):
                    yield actor, counter

    def _missing(self, actor: str) -> Bounds:
        return (*self.holes.get(actor, ()), self.tops.get(actor, 0) + 1)

    def _join_with_holes(self, other: "VersionVector") -> "VersionVector":
        tops = {}
        holes = {}
        # A dictionary, not a set: the order of actors must not differ from process to process.
        for actor in self.tops | other.tops:
            *inner, end = _missing_from_both(self._missing(actor), other._missing(actor))
            tops[actor] = end - 1
            if inner:
                holes[actor] = tuple(inner)
        joined = VersionVector(tops, holes)
        if joined == self:
            return self
        return other if joined == other else joined


NOTHING: Final = VersionVector({})


def _single(actor: str, counter: int) -> VersionVector:
    return VersionVector({actor: counter}, {actor: (1, counter)} if counter > 1 else None)


def _missing_from_both(one: Bounds, other: Bounds) -> list[int]:
    """Return the bounds of what both miss. Both have an odd number of bounds, and so has this."""
    if len(one) == len(other) == 1:
        return [max(one[0], other[0])]
    bounds: list[int] = []
    missing = False
    for point in sorted({*one, *other}):
        both = bisect_right(one, point) % 2 == 1 and bisect_right(other, point) % 2 == 1
        if both != missing:
            bounds.append(point)
            missing = both
    return bounds


def fill_vector(message: dynamo_pb2.VersionVector, vector: VersionVector) -> None:
    """Write ``vector`` into an empty message, always in the same order."""
    for actor in sorted(vector.tops):
        entry = message.entries.add(actor=actor, top=vector.tops[actor])
        if actor in vector.holes:
            entry.holes.extend(vector.holes[actor])


def vector_of(message: dynamo_pb2.VersionVector) -> VersionVector:
    """Return the vector that ``message`` says.

    Raises ValueError when the bounds of a hole are not ascending or outside of 1 to top.
    """
    tops = {}
    holes = {}
    for entry in message.entries:
        tops[entry.actor] = entry.top
        if entry.holes:
            bounds = tuple(entry.holes)
            ascending = all(low < high for low, high in zip((0, *bounds), bounds, strict=False))
            if len(bounds) % 2 or not ascending or bounds[-1] > entry.top:
                raise ValueError(f"the holes of {entry.actor} are {bounds}, its top {entry.top}")
            holes[entry.actor] = bounds
    return VersionVector(tops, holes)
