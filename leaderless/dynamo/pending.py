"""What a node waits for, and until when."""

from collections.abc import Iterator
from heapq import heappop, heappush

from leaderless.dynamo.quorum import Pending

# A life of a node may number this many questions, and its own number is below that, too.
NUMBERS_PER_LIFE = 2**32


class PendingTable:
    """The open questions of this node, by number.

    A number is never used twice: each life of the node has its own range, since the answer to a
    question of an earlier life may still be under way.
    """

    def __init__(self, life: int) -> None:
        self._next_number = life * NUMBERS_PER_LIFE
        self._items: dict[int, Pending] = {}
        self._deadlines: list[tuple[int, int]] = []  # a heap of (monotonic_ns, number)

    def __len__(self) -> int:
        return len(self._items)

    def add(self, item: Pending, deadline_ns: int) -> int:
        """Wait for ``item`` until ``deadline_ns``. Returns its number."""
        number = self._next_number
        self._next_number += 1
        self._items[number] = item
        heappush(self._deadlines, (deadline_ns, number))
        return number

    def get(self, number: int) -> Pending | None:
        """Return what has this number, None if nobody waits for it any more."""
        return self._items.get(number)

    def items(self) -> list[tuple[int, Pending]]:
        """Return all that is waited for, by number."""
        return list(self._items.items())

    def remove(self, number: int) -> None:
        """Wait no longer."""
        del self._items[number]

    def expired(self, now_ns: int) -> Iterator[tuple[int, Pending]]:
        """Remove and yield what was waited for until ``now_ns`` or before, oldest first."""
        while self._deadlines and self._deadlines[0][0] <= now_ns:
            _, number = heappop(self._deadlines)
            item = self._items.pop(number, None)
            if item is not None:
                yield number, item

    def wake_at(self) -> int | None:
        """Return the first deadline of something that is still waited for."""
        while self._deadlines and self._deadlines[0][1] not in self._items:
            heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None


class Once:
    """Remembers which forwarded operations were taken, so that a repeated message is not.

    A write that is coordinated twice gets two dots, and the second may come back after others have
    overwritten the first. In one life of the sender the numbers only grow: what is older than the
    newest ``REMEMBERED`` is refused unseen. Nothing is remembered across a restart, and need not
    be: a forwarded operation names the life of the node that is to take it.
    """

    REMEMBERED = 4096

    def __init__(self) -> None:
        self._floor = -1
        self._taken: set[int] = set()

    def take(self, number: int) -> bool:
        """Tell whether ``number`` is new, and remember it."""
        if number <= self._floor or number in self._taken:
            return False
        self._taken.add(number)
        if len(self._taken) > 2 * self.REMEMBERED:
            ascending = sorted(self._taken)
            self._floor = ascending[self.REMEMBERED]
            self._taken = set(ascending[self.REMEMBERED + 1 :])
        return True
