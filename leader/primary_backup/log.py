"""The replication log as one node holds it: the records behind its checkpoint, and all its epochs.

An index is the LSN of PostgreSQL, the offset of Redis. Invariant (Log Matching, Raft §5.3): an
epoch has one primary, so two logs with a record of the same index and epoch are equal up to it.
Where each epoch begins is remembered for ever, as in PostgreSQL's timeline history files: it tells
where two logs parted even if the records there are long gone.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TypeAlias

from leader.v1 import primary_backup_pb2
from replication.errors import CorruptStore
from replication.protocol import Erase, Put, Write

Epoch: TypeAlias = int
Index: TypeAlias = int

SPACE = "log"


def log_key(index: Index) -> bytes:
    """Return the key of a record in the store: big-endian, so that keys sort as indices do."""
    return index.to_bytes(8, "big")


class Log:
    """Records ``trimmed_index`` + 1 to ``last_index``. Index 0 is before the first, of epoch 0.

    ``handed_index``: records up to it are in an effect list that was returned or is being filled,
    in a Persist (see duty 1 of ``replication.protocol``).
    """

    def __init__(self) -> None:
        self.trimmed_index: Index = 0
        self.handed_index: Index = 0
        self._data: list[bytes] = []
        # Ascending in both, aligned: epoch number i begins at index number i.
        self._epochs: list[Epoch] = []
        self._starts: list[Index] = []
        self._erase_from: Index | None = None

    @property
    def last_index(self) -> Index:
        return self.trimmed_index + len(self._data)

    @property
    def last_epoch(self) -> Epoch:
        return self._epochs[-1] if self._epochs else 0

    def epoch_at(self, index: Index) -> Epoch:
        """Return the epoch of the record at ``index``, trimmed or not."""
        place = bisect_right(self._starts, index)
        return self._epochs[place - 1] if place else 0

    def data_at(self, index: Index) -> bytes:
        """Return the record at ``index``, serialised; it is not trimmed."""
        assert index > self.trimmed_index, "a trimmed record is gone"
        return self._data[index - self.trimmed_index - 1]

    def matches(self, index: Index, epoch: Epoch) -> bool:
        """Return whether there is, or was, a record of ``epoch`` at ``index``."""
        return index <= self.last_index and self.epoch_at(index) == epoch

    def last_not_above(self, index: Index, epoch: Epoch) -> Index:
        """Return the last index, at most ``index``, whose epoch is at most ``epoch``."""
        place = bisect_right(self._epochs, epoch)
        end = self._starts[place] - 1 if place < len(self._starts) else self.last_index
        return min(index, end, self.last_index)

    def history(self, until: Index | None = None) -> list[primary_backup_pb2.EpochStart]:
        """Return where each epoch begins, those that begin behind ``until`` left out."""
        return [
            primary_backup_pb2.EpochStart(epoch=epoch, index=start)
            for epoch, start in zip(self._epochs, self._starts, strict=True)
            if until is None or start <= until
        ]

    def append(self, epoch: Epoch, data: bytes) -> Index:
        """Add a record and return its index."""
        assert epoch >= self.last_epoch, "epochs never fall along a log"
        self._data.append(data)
        if epoch != self.last_epoch:
            self._epochs.append(epoch)
            self._starts.append(self.last_index)
        return self.last_index

    def truncate(self, from_index: Index) -> list[bytes]:
        """Drop the records from ``from_index`` on and return them."""
        assert from_index > self.trimmed_index, "a checkpoint is not taken back"
        place = from_index - self.trimmed_index - 1
        dropped = self._data[place:]
        del self._data[place:]
        while self._starts and self._starts[-1] >= from_index:
            del self._starts[-1], self._epochs[-1]
        if from_index <= self.handed_index:
            self._erase_from = from_index
            self.handed_index = from_index - 1
        return dropped

    def batch(self, from_index: Index, records_max: int, bytes_max: int) -> list[bytes]:
        """Return records from ``from_index`` on, within both limits but at least one if any is."""
        place = from_index - self.trimmed_index - 1
        batch = list(islice(self._data, place, place + records_max))
        size = 0
        for count, data in enumerate(batch):
            size += len(data)
            if size > bytes_max and count:
                return batch[:count]
        return batch

    def trim(self, until: Index) -> list[Write]:
        """Forget the records up to ``until``, all on disk; return what forgets them there."""
        assert until <= self.handed_index, "only what the disk has is trimmed"
        writes: list[Write] = [Erase(SPACE, log_key(0), log_key(until + 1))]
        del self._data[: until - self.trimmed_index]
        self.trimmed_index = until
        return writes

    def take_writes(self) -> list[Write]:
        """Return what the disk lacks, in the order to be written, and consider it handed over."""
        writes: list[Write] = []
        if self._erase_from is not None:
            writes.append(Erase(SPACE, log_key(self._erase_from), None))
            self._erase_from = None
        first = self.handed_index + 1
        for index in range(first, self.last_index + 1):
            writes.append(Put(SPACE, log_key(index), self.data_at(index)))
        self.handed_index = self.last_index
        return writes

    def begin_at(self, index: Index, history: Sequence[primary_backup_pb2.EpochStart]) -> None:
        """Become the empty log behind a checkpoint at ``index``."""
        self.trimmed_index = self.handed_index = index
        self._data.clear()
        self._epochs = [each.epoch for each in history if each.index <= index]
        self._starts = [each.index for each in history if each.index <= index]
        self._erase_from = None

    def restore(self, saved: Iterable[tuple[bytes, Epoch, bytes]]) -> None:
        """Append (key, epoch, record) as read from the disk.

        Raises CorruptStore when they are not numbered without a gap, or an epoch falls.
        """
        for key, epoch, data in saved:
            if key != log_key(self.last_index + 1):
                raise CorruptStore(f"log: expected index {self.last_index + 1}, found {key.hex()}")
            if epoch < self.last_epoch:
                raise CorruptStore(f"log: epoch {epoch} follows {self.last_epoch} at {key.hex()}")
            self.append(epoch, data)
        self.handed_index = self.last_index
