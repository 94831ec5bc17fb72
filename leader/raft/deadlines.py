"""Which of many waiting requests is due first."""

from collections.abc import Container
from heapq import heappop, heappush
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=int)

GRAIN_NS = 1_000_000


def earliest(*moments_ns: int | None) -> int | None:
    """Return the first of the moments that there are, None when there is none."""
    first_ns: int | None = None
    for each_ns in moments_ns:
        if each_ns is not None and (first_ns is None or each_ns < first_ns):
            first_ns = each_ns
    return first_ns


class Deadlines(Generic[Key]):
    """Deadlines over ``waiting``; what has left ``waiting`` is forgotten by and by.

    A key may wait only once in the life of this object. Deadlines are rounded up to a grain, so
    that thousands of requests a second share a few hundred heap entries.
    """

    def __init__(self, waiting: Container[Key]) -> None:
        self._waiting = waiting
        self._heap: list[int] = []  # the grains below
        self._keys: dict[int, list[Key]] = {}

    def add(self, deadline_ns: int, key: Key) -> None:
        """Note that ``key``, which waits now, is to be answered by ``deadline_ns``."""
        grain = -(-deadline_ns // GRAIN_NS)
        keys = self._keys.get(grain)
        if keys is None:
            heappush(self._heap, grain)
            self._keys[grain] = [key]
        else:
            keys.append(key)

    def next_ns(self) -> int | None:
        """Return when ``due`` has something to return next, None when nobody waits."""
        heap = self._heap
        while heap:
            keys = self._keys[heap[0]]
            while keys:
                if keys[-1] in self._waiting:
                    return heap[0] * GRAIN_NS
                keys.pop()
            del self._keys[heappop(heap)]
        return None

    def due(self, now_ns: int) -> list[Key]:
        """Return the keys that wait and whose deadline has come."""
        due: list[Key] = []
        heap = self._heap
        while heap and heap[0] * GRAIN_NS <= now_ns:
            keys = self._keys.pop(heappop(heap))
            due.extend(key for key in keys if key in self._waiting)
        return due
