"""The log as one node holds it: in memory whole, with a mark up to where it was given to the disk.

Invariant (Log Matching, Raft §5.3): two logs that have an entry of the same index and term are
equal up to it. Entries are kept as the bytes that go to the wire and to the disk; they are made
once, by the leader that appended them. All arithmetic on positions is in this file: a compacted
prefix (dissertation §5) changes nothing outside.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterable
from typing import TypeAlias

from replication.errors import CorruptStore
from replication.protocol import Erase, Put, Write

Term: TypeAlias = int
Index: TypeAlias = int

SPACE = "log"


def log_key(index: Index) -> bytes:
    """Return the key of an entry in the store: big-endian, so that keys sort as indices do."""
    return index.to_bytes(8, "big")


class Log:
    """Entries 1 to ``last_index``. Index 0 stands for "before the first", with term 0.

    ``handed_index``: entries up to it are in an effect list that was returned or is being filled,
    in a Persist. They may not be durable yet, but nothing that is concluded from them can leave the
    node before they are (duty 1 of the host, replication.protocol).
    """

    def __init__(self) -> None:
        self._data: list[bytes] = []
        self._terms = array("Q")  # ascending: terms never fall along a log
        self._erase_from: Index | None = None
        self.handed_index: Index = 0

    @property
    def last_index(self) -> Index:
        return len(self._data)

    @property
    def last_term(self) -> Term:
        return self._terms[-1] if self._terms else 0

    def term_at(self, index: Index) -> Term:
        """Return the term of the entry at ``index``, 0 to ``last_index``."""
        assert index >= 0, "a log has no negative index"
        return self._terms[index - 1] if index else 0

    def data_at(self, index: Index) -> bytes:
        """Return the entry at ``index``, 1 to ``last_index``, serialised."""
        assert index >= 1, "the first entry has index 1"
        return self._data[index - 1]

    def matches(self, index: Index, term: Term) -> bool:
        """Return whether there is an entry of ``term`` at ``index`` (Raft §5.3)."""
        return index <= self.last_index and self.term_at(index) == term

    def is_up_to_date(self, last_index: Index, last_term: Term) -> bool:
        """Return whether a log that ends thus is at least as up-to-date as this (Raft §5.4.1)."""
        return (last_term, last_index) >= (self.last_term, self.last_index)

    def last_not_above(self, index: Index, term: Term) -> Index:
        """Return the last index, at most ``index``, whose term is at most ``term``; 0 if none is.

        Both sides of a refused AppendEntries skip with it what cannot match: entries above the
        other's term at the same place. So a round trip passes a whole term, not one entry (the
        optimisation at the end of Raft §5.3, made two-sided).
        """
        return bisect_right(self._terms, term, 0, min(index, self.last_index))

    def append(self, term: Term, data: bytes) -> Index:
        """Add an entry and return its index."""
        assert term >= self.last_term, "terms never fall along a log (Raft §5.3)"
        self._data.append(data)
        self._terms.append(term)
        return len(self._data)

    def truncate(self, from_index: Index) -> list[bytes]:
        """Drop the entries from ``from_index`` on and return them."""
        dropped = self._data[from_index - 1 :]
        del self._data[from_index - 1 :]
        del self._terms[from_index - 1 :]
        if from_index <= self.handed_index:
            self._erase_from = from_index
            self.handed_index = from_index - 1
        return dropped

    def batch(self, from_index: Index, entries_max: int, bytes_max: int) -> list[bytes]:
        """Return entries from ``from_index`` on, within both limits but at least one if any is."""
        batch = self._data[from_index - 1 : from_index - 1 + entries_max]
        size = 0
        for count, data in enumerate(batch):
            size += len(data)
            if size > bytes_max and count:
                return batch[:count]
        return batch

    def take_writes(self) -> list[Write]:
        """Return what the disk lacks, in the order to be written, and consider it handed over."""
        writes: list[Write] = []
        if self._erase_from is not None:
            # The erased range is open: what an earlier, longer log left behind must not come back.
            writes.append(Erase(SPACE, log_key(self._erase_from), None))
            self._erase_from = None
        first = self.handed_index + 1
        for index, data in enumerate(self._data[first - 1 :], first):
            writes.append(Put(SPACE, index.to_bytes(8, "big"), data))
        self.handed_index = self.last_index
        return writes

    def restore(self, saved: Iterable[tuple[bytes, Term, bytes]]) -> None:
        """Fill the empty log with (key, term, entry) as read from the disk.

        Raises CorruptStore when the entries are not numbered from 1 without a gap, or a term falls.
        """
        for key, term, data in saved:
            if key != log_key(self.last_index + 1):
                raise CorruptStore(f"log: expected index {self.last_index + 1}, found {key.hex()}")
            if term < self.last_term:
                raise CorruptStore(f"log: term {term} follows {self.last_term} at {key.hex()}")
            self.append(term, data)
        self.handed_index = self.last_index
