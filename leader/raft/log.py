"""The log as one node holds it: in memory what a snapshot has not replaced, with a mark up to where
it was given to the disk.

Invariant (Log Matching, Raft §5.3): two logs that have an entry of the same index and term are
equal up to it. Entries are kept as the bytes that go to the wire and to the disk; they are made
once, by the leader that appended them. All arithmetic on positions is in this file.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterable
from typing import TypeAlias

from leader.v1 import raft_pb2
from replication.errors import CorruptStore
from replication.protocol import Erase, Put, Write

Term: TypeAlias = int
Index: TypeAlias = int

SPACE = "log"
META = "meta"
LOG_START = b"log_start"


def log_key(index: Index) -> bytes:
    """Return the key of an entry in the store: big-endian, so that keys sort as indices do."""
    return index.to_bytes(8, "big")


class Log:
    """Entries ``start_index + 1`` to ``last_index``; what was before is in a snapshot (§5).

    The entry at ``start_index`` is gone, but its term is known, so that the one behind it can be
    matched. In a log that was never compacted it is 0, "before the first", with term 0.

    ``handed_index``: entries up to it are in an effect list that was returned or is being filled,
    in a Persist. They may not be durable yet, but nothing that is concluded from them can leave the
    node before they are (duty 1 of the host, replication.protocol).
    """

    def __init__(self) -> None:
        self.start_index: Index = 0
        self._start_term: Term = 0
        self._data: list[bytes] = []
        self._terms = array("Q")  # ascending: terms never fall along a log
        self.last_index: Index = 0  # kept, not computed: everything asks for them
        self.last_term: Term = 0
        self._erase_from: Index | None = None
        self.handed_index: Index = 0
        self.handed_bytes = 0  # of the entries that are kept and handed over

    def term_at(self, index: Index) -> Term:
        """Return the term of the entry at ``index``, ``start_index`` to ``last_index``."""
        assert index >= self.start_index, f"entry {index} is in a snapshot"
        offset = index - self.start_index
        return self._terms[offset - 1] if offset else self._start_term

    def data_at(self, index: Index) -> bytes:
        """Return the entry at ``index``, ``start_index + 1`` to ``last_index``, serialised."""
        assert index > self.start_index, f"entry {index} is in a snapshot, or before the first"
        return self._data[index - self.start_index - 1]

    def matches(self, index: Index, term: Term) -> bool:
        """Return whether there is an entry of ``term`` at ``index`` (Raft §5.3)."""
        return self.start_index <= index <= self.last_index and self.term_at(index) == term

    def is_up_to_date(self, last_index: Index, last_term: Term) -> bool:
        """Return whether a log that ends thus is at least as up-to-date as this (Raft §5.4.1)."""
        return (last_term, last_index) >= (self.last_term, self.last_index)

    def last_not_above(self, index: Index, term: Term) -> Index:
        """Return the last index, at most ``index``, whose term is at most ``term``.

        ``start_index`` stands for everything before it. Both sides of a refused AppendEntries skip
        with this what cannot match: entries above the other's term at the same place. So a round
        trip passes a whole term, not one entry (the optimisation at the end of Raft §5.3, made
        two-sided).
        """
        end = max(0, min(index, self.last_index) - self.start_index)
        return self.start_index + bisect_right(self._terms, term, 0, end)

    def append(self, term: Term, data: bytes) -> Index:
        """Add an entry and return its index."""
        assert term >= self.last_term, "terms never fall along a log (Raft §5.3)"
        self._data.append(data)
        self._terms.append(term)
        self.last_term = term
        self.last_index += 1
        return self.last_index

    def truncate(self, from_index: Index) -> list[bytes]:
        """Drop the entries from ``from_index`` on and return them."""
        assert from_index > self.start_index, "what a snapshot stands for is not dropped"
        offset = from_index - self.start_index - 1
        dropped = self._data[offset:]
        del self._data[offset:]
        del self._terms[offset:]
        self.last_index = min(self.last_index, from_index - 1)
        self.last_term = self._terms[-1] if self._terms else self._start_term
        if from_index <= self.handed_index:
            handed = self.handed_index - from_index + 1
            self.handed_bytes -= sum(map(len, dropped[:handed]))
            self._erase_from = from_index
            self.handed_index = from_index - 1
        return dropped

    def compact(self, to_index: Index) -> list[Write]:
        """Drop the entries up to ``to_index``, which a snapshot stands for; return what to erase.

        To be written together with the snapshot, or after it.
        """
        assert self.start_index <= to_index <= self.handed_index, "only what was handed over"
        count = to_index - self.start_index
        self._start_term = self.term_at(to_index)
        self.start_index = to_index
        self.handed_bytes -= sum(map(len, self._data[:count]))
        del self._data[:count]
        del self._terms[:count]
        return self._start_writes()

    def trailing_index(self, index: Index, entries: int, size: int) -> Index:
        """Return the lowest index behind which, up to ``index``, lie no more than both limits."""
        start = index
        while start > self.start_index and index - start < entries:
            size -= len(self.data_at(start))
            if size < 0:
                break
            start -= 1
        return start

    def restart(self, index: Index, term: Term) -> list[Write]:
        """Begin anew behind a snapshot that was received; return what to write with it."""
        self._data.clear()
        del self._terms[:]
        self.start_index = self.last_index = self.handed_index = index
        self._start_term = self.last_term = term
        self._erase_from = None
        self.handed_bytes = 0
        return [Erase(SPACE, b"", None), *self._start_writes()[1:]]

    def _start_writes(self) -> list[Write]:
        start = raft_pb2.LogStart(index=self.start_index, term=self._start_term)
        return [
            Erase(SPACE, b"", log_key(self.start_index + 1)),
            Put(META, LOG_START, start.SerializeToString()),
        ]

    def batch(self, from_index: Index, entries_max: int, bytes_max: int) -> list[bytes]:
        """Return entries from ``from_index`` on, within both limits but at least one if any is."""
        offset = from_index - self.start_index - 1
        assert offset >= 0, f"entry {from_index} is in a snapshot"
        batch = self._data[offset : offset + entries_max]
        size = 0
        for count, data in enumerate(batch):
            size += len(data)
            if size > bytes_max and count:
                return batch[:count]
        return batch

    def take_writes(self) -> list[Write]:
        """Return what the disk lacks, in the order to be written, and consider it handed over."""
        writes: list[Write] = []
        if self.handed_index == self.last_index and self._erase_from is None:
            return writes
        if self._erase_from is not None:
            # The erased range is open: what an earlier, longer log left behind must not come back.
            writes.append(Erase(SPACE, log_key(self._erase_from), None))
            self._erase_from = None
        first = self.handed_index + 1
        fresh = self._data[first - self.start_index - 1 :]
        for index, data in enumerate(fresh, first):
            writes.append(Put(SPACE, index.to_bytes(8, "big"), data))
        self.handed_bytes += sum(map(len, fresh))
        self.handed_index = self.last_index
        return writes

    def restore(self, start: raft_pb2.LogStart, saved: Iterable[tuple[bytes, Term, bytes]]) -> None:
        """Fill the empty log with (key, term, entry) as read from the disk.

        Raises CorruptStore when the entries are not numbered from ``start`` on without a gap, or a
        term falls.
        """
        self.start_index = self.last_index = start.index
        self._start_term = self.last_term = start.term
        for key, term, data in saved:
            if key != log_key(self.last_index + 1):
                raise CorruptStore(f"log: expected index {self.last_index + 1}, found {key.hex()}")
            if term < self.last_term:
                raise CorruptStore(f"log: term {term} follows {self.last_term} at {key.hex()}")
            self.append(term, data)
            self.handed_bytes += len(data)
        self.handed_index = self.last_index
