"""What the log means: keys with one version each, and the way back.

A standby that followed a primary which was replaced has to *rewind* (PostgreSQL's ``pg_rewind``):
what a record replaced is remembered for as long as the record is in the log.
"""

from collections import deque
from collections.abc import Iterable, Iterator

from leader.primary_backup.log import Index
from leader.v1 import primary_backup_pb2
from replication.v1 import storage_pb2

SPACE = "kv"


class Database:
    """The keys as of record ``applied_index``."""

    def __init__(self) -> None:
        self.applied_index: Index = 0
        self._versions: dict[str, storage_pb2.Version] = {}  # tombstones included
        # For each record behind the checkpoint: its key and what the key held before.
        self._undo: deque[tuple[str, storage_pb2.Version | None]] = deque()

    def __len__(self) -> int:
        return len(self._versions)

    def get(self, key: str) -> storage_pb2.Version | None:
        """Return the version of ``key``, a tombstone perhaps; None if it was never written."""
        return self._versions.get(key)

    def items(self) -> Iterator[tuple[str, storage_pb2.Version]]:
        """Yield every key and its version, tombstones included, in order of key."""
        for key in sorted(self._versions):
            yield key, self._versions[key]

    def apply(self, index: Index, data: bytes) -> None:
        """Apply the next record."""
        assert index == self.applied_index + 1, "records are applied in order, each once"
        self.applied_index = index
        record = primary_backup_pb2.LogRecord.FromString(data)
        key = record.change.key  # empty in the first record of an epoch; no key is empty
        self._undo.append((key, self._versions.get(key)))
        if key:
            self._versions[key] = record.change.version

    def rewind(self, index: Index) -> None:
        """Undo the records behind ``index``, the newest first."""
        while self.applied_index > index:
            key, before = self._undo.pop()
            self.applied_index -= 1
            if before is not None:
                self._versions[key] = before
            elif key:
                del self._versions[key]

    def forget(self, records: int) -> None:
        """Give up the way back behind the oldest ``records`` records."""
        for _ in range(records):
            self._undo.popleft()

    def replace(self, index: Index, keys: Iterable[tuple[str, storage_pb2.Version]]) -> None:
        """Become a copy of another database as of ``index``."""
        self.applied_index = index
        self._versions = dict(keys)
        self._undo.clear()
