"""Named ordered maps in memory: what the store's log adds up to."""

from bisect import bisect_left
from collections.abc import Iterator

RECORD_OVERHEAD_BYTES = 10  # of one put in the log, beside its key and its value


class Space:
    """One map of bytes to bytes. Sorted when somebody needs the order, not before.

    Protocol logs are written in ascending order, so their order costs one comparison per put; other
    spaces pay for a sort at the first range erase after puts out of order.
    """

    __slots__ = ("_sorted", "live_bytes", "values")

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.live_bytes = 0  # what these pairs take in a freshly written log
        self._sorted: list[bytes] | None = []  # None: not known at the moment

    def put(self, key: bytes, value: bytes) -> None:
        """Store one pair."""
        values = self.values
        old = values.get(key)
        values[key] = value
        if old is not None:
            self.live_bytes += len(value) - len(old)
            return
        self.live_bytes += RECORD_OVERHEAD_BYTES + len(key) + len(value)
        keys = self._sorted
        if keys is not None:
            if not keys or key > keys[-1]:
                keys.append(key)
            else:
                self._sorted = None

    def erase(self, start: bytes, end: bytes | None) -> None:
        """Remove the keys in [start, end); None means to the last key."""
        if end == start + b"\0" and self._sorted is None:
            self._forget(start)
            return
        keys = self._order()
        first = bisect_left(keys, start)
        last = len(keys) if end is None else bisect_left(keys, end, first)
        for key in keys[first:last]:
            self._forget(key)
        del keys[first:last]

    def scan(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield the pairs in ascending order of their keys."""
        values = self.values
        for key in self._order():
            yield key, values[key]

    def _forget(self, key: bytes) -> None:
        value = self.values.pop(key, None)
        if value is not None:
            self.live_bytes -= RECORD_OVERHEAD_BYTES + len(key) + len(value)

    def _order(self) -> list[bytes]:
        if self._sorted is None:
            self._sorted = sorted(self.values)
        return self._sorted
