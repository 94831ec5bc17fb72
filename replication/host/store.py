"""The node's disk: an append-only log of commits and the ordered maps it adds up to.

Reads come from memory. Writes are appended in memory and reach the file in commits: one ``sync``
writes and syncs everything appended so far, whoever appended it. The file is owned: the offset
behind the last sync is known, so that losing power can be played on a real process by cutting the
file there (killing the process alone loses nothing, the page cache survives it).
"""

import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from threading import Lock

from replication.errors import ConfigError, CorruptStore
from replication.host import log_format
from replication.host.compaction import Rewrite
from replication.host.config import SYNC_ALWAYS
from replication.host.disk_fault import DiskFault
from replication.host.spaces import Space
from replication.protocol import Put, Write

COMPACTION_BYTES_MIN = 4 * 1024 * 1024  # below this a log is read in milliseconds anyway
COMPACTION_GARBAGE_RATIO = 0.6  # of the file: rewriting then copies less than it frees


class Store:
    """Spaces of ordered pairs, durable once synced. Fulfils ``protocol.Saved``.

    ``append``, reads and ``begin_compaction`` belong to the thread that owns the core; ``sync`` and
    ``compact_step`` to one other thread, or to the same one. An OSError from any of them means that
    the store is unusable: after a failed sync nobody knows what is on disk.
    """

    def __init__(
        self,
        path: Path,
        sync_mode: str = SYNC_ALWAYS,
        compaction_bytes_min: int | None = None,
    ) -> None:
        """Open or create the log at ``path`` and read it.

        Raises CorruptStore when the middle of the log is damaged, ConfigError when another process
        holds it.
        """
        self._path = path
        self._fsync = sync_mode == SYNC_ALWAYS
        self._compaction_bytes_min = compaction_bytes_min or COMPACTION_BYTES_MIN
        self._pending: list[bytes] = []
        self._pending_lock = Lock()  # guards _pending and appended against the syncing thread
        self._file_lock = Lock()  # guards the file's end; held while writing, not while syncing
        self._rewrite: Rewrite | None = None
        self._powerless = False  # nothing reaches the file any more
        self.fault = DiskFault()  # in force on the disk, none as a rule
        self.appended = 0  # batches, since the store was opened
        self._folder_fd = _locked_folder(path.parent)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._recover()
        except BaseException:
            self.abandon()
            raise

    def _recover(self) -> None:
        self._path.with_suffix(".new").unlink(missing_ok=True)  # a compaction cut short
        data = _read_all(self._fd)
        try:
            found = log_format.recover(data)
        except CorruptStore as error:
            raise CorruptStore(f"{self._path}: {error}") from None
        self.torn_bytes = found.torn_bytes
        self._spaces, self._numbers = found.spaces, found.numbers
        self._salt, self._end = found.salt, found.end
        self.recovered_records = sum(len(space.values) for space in self._spaces.values())
        if found.torn_bytes:
            os.ftruncate(self._fd, found.end)
        if not found.salt:
            self._salt = os.urandom(8)
            self._end = log_format.HEADER_BYTES
            _write_all(self._fd, log_format.file_header(self._salt), 0)
        # What the last life of this node wrote may not be on disk yet, and is built upon from now.
        os.fsync(self._fd)
        os.fsync(self._folder_fd)
        self._synced_bytes = self._end

    @property
    def synced_bytes(self) -> int:
        """Return the size of the file at the last sync: what losing power would leave."""
        return self._synced_bytes

    @property
    def stored_bytes(self) -> int:
        """Return the size of the file."""
        return self._end

    def get(self, space: str, key: bytes) -> bytes | None:
        """Return the value as last appended, or None."""
        found = self._spaces.get(space)
        return None if found is None else found.values.get(key)

    def scan(self, space: str) -> Iterator[tuple[bytes, bytes]]:
        """Yield the pairs in ascending order of their keys; append nothing meanwhile."""
        found = self._spaces.get(space)
        return iter(()) if found is None else found.scan()

    def append(self, writes: Sequence[Write]) -> int:
        """Take one atomic batch and return its number, from 1. ``sync`` makes it durable."""
        parts: list[bytes] = []
        for write in writes:
            space = self._spaces.get(write.space)
            if space is None:
                space = self._define(write.space, parts)
            number = self._numbers[write.space]
            if isinstance(write, Put):
                key, value = write.key, write.value
                parts += (log_format.put_head(number, key, value), key, value)
                space.put(key, value)
            else:
                parts.append(log_format.erase_record(number, write.start, write.end))
                space.erase(write.start, write.end)
        with self._pending_lock:
            self._pending += parts
            self.appended += 1
        return self.appended

    def _define(self, name: str, parts: list[bytes]) -> Space:
        number = len(self._numbers)
        assert number < log_format.SPACES_MAX, "spaces are few and fixed; keys are many"
        parts.append(log_format.space_record(number, name))
        self._numbers[name] = number
        self._spaces[name] = Space()
        return self._spaces[name]

    def sync(self) -> int:
        """Write everything appended so far as one commit, and sync it unless the mode is off.

        Returns the number of the last batch it covers.
        """
        with self._file_lock:
            with self._pending_lock:
                parts, self._pending = self._pending, []
                sequence = self.appended
            if self._powerless:
                return sequence
            if parts:
                self.fault.on_write()
                payload = b"".join(parts)
                self._append_frame(payload)
                if self._rewrite is not None:
                    self._rewrite.tail.append(payload)
            end = self._end
        if self._fsync and end > self._synced_bytes:
            self.fault.on_sync()
            os.fdatasync(self._fd)
            self._synced_bytes = end
        return sequence

    def _append_frame(self, payload: bytes) -> None:
        framed = log_format.frame(self._salt, self._end, payload)
        _write_all(self._fd, framed, self._end)
        self._end += len(framed)

    @property
    def compaction_due(self) -> bool:
        """Return whether rewriting the log is worth its while."""
        if self._rewrite is not None or self._end < self._compaction_bytes_min:
            return False
        live_bytes = sum(space.live_bytes for space in self._spaces.values())
        return live_bytes < (1 - COMPACTION_GARBAGE_RATIO) * self._end

    def begin_compaction(self) -> None:
        """Note what is live now; ``compact_step`` does the rest, commits may go on meanwhile."""
        assert self._rewrite is None, "one compaction at a time"
        self._rewrite = Rewrite(self._path.with_suffix(".new"), self._numbers, self._spaces)

    def compact_step(self) -> bool:
        """Do a few milliseconds of the compaction; return True when it is complete."""
        rewrite = self._rewrite
        assert rewrite is not None, "begin_compaction comes first"
        if rewrite.copy_some():
            return False
        rewrite.sync()
        with self._file_lock:
            if self._powerless:
                return True
            # Commits that came meanwhile are in the old file; the new one needs them before it can
            # take its place. Repeating what the copy already holds changes nothing.
            rewrite.copy_tail()
            if self._fsync:
                rewrite.sync()
            os.rename(rewrite.path, self._path)
            os.close(self._fd)
            self._fd, self._salt, self._end = rewrite.fd, rewrite.salt, rewrite.end
            self._synced_bytes = rewrite.synced_bytes
            self._rewrite = None
        os.fsync(self._folder_fd)
        return True

    def lose_power(self, torn: Random | None) -> tuple[int, int]:
        """Take away what was not synced; nothing is written any more. Return bytes (lost, kept).

        With ``torn`` a part of it, drawn from there, is left in the file: it may end amid a frame.
        """
        with self._file_lock:
            self._powerless = True
            with self._pending_lock:
                unwritten = sum(map(len, self._pending))
            unsynced = self._end - self._synced_bytes
            kept = 0 if torn is None else torn.randrange(unsynced + 1)
            os.ftruncate(self._fd, self._synced_bytes + kept)
        return unsynced - kept + unwritten, kept

    def close(self) -> None:
        """Sync what is appended, whatever the mode, and let go of the files.

        A compaction under way is dropped.
        """
        self.sync()
        os.fdatasync(self._fd)
        self.abandon()

    def abandon(self) -> None:
        """Let go of the files as a crash would: what was appended and not synced is lost."""
        if self._rewrite is not None:
            self._rewrite.abandon()
            self._rewrite = None
        os.close(self._fd)
        os.close(self._folder_fd)


def _locked_folder(folder: Path) -> int:
    # The lock is on the folder because compaction replaces the file. It goes with the process.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise ConfigError([f"{folder} is in use by another process"]) from None
    return descriptor


def _read_all(descriptor: int) -> bytes:
    with open(descriptor, "rb", closefd=False) as stream:
        return stream.read()


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    written = os.pwrite(descriptor, data, offset)
    while written < len(data):
        written += os.pwrite(descriptor, data[written:], offset + written)
