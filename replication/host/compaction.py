"""Rewriting the store's log with nothing but what is live."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from replication.host import log_format
from replication.host.spaces import Space

STEP_BYTES = 256 * 1024  # written between two syncs of the log: under a millisecond of work


class Rewrite:
    """A new log next to the old one, filled step by step.

    Made on the thread that owns the store (it notes what is live in one go, without copying the
    values); everything else happens on the thread that syncs.
    """

    def __init__(self, path: Path, numbers: Mapping[str, int], spaces: Mapping[str, Space]) -> None:
        self.path = path
        self.tail: list[bytes] = []  # payloads of the commits made since
        self.salt = os.urandom(8)
        self.end = log_format.HEADER_BYTES
        self.synced_bytes = 0
        live = [(name, numbers[name], list(space.values.items())) for name, space in spaces.items()]
        self._payloads = _payloads(live)
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        os.pwrite(self.fd, log_format.file_header(self.salt), 0)

    def copy_some(self) -> bool:
        """Write the next live pairs; return False when there are no more."""
        payload = next(self._payloads, None)
        if payload is None:
            return False
        self._write(payload)
        return True

    def copy_tail(self) -> None:
        """Write the commits made since the beginning."""
        for payload in self.tail:
            self._write(payload)
        self.tail.clear()

    def sync(self) -> None:
        """Make the new file durable as far as it goes."""
        os.fsync(self.fd)
        self.synced_bytes = self.end

    def abandon(self) -> None:
        """Leave the old log as it is."""
        os.close(self.fd)
        self.path.unlink(missing_ok=True)

    def _write(self, payload: bytes) -> None:
        framed = log_format.frame(self.salt, self.end, payload)
        view = memoryview(framed)
        while view:
            written = os.pwrite(self.fd, view, self.end)
            self.end += written
            view = view[written:]


def _payloads(live: list[tuple[str, int, list[tuple[bytes, bytes]]]]) -> Iterator[bytes]:
    """Yield the pairs as payloads of about ``STEP_BYTES``, every space defined before its use."""
    parts: list[bytes] = []
    size = 0
    for name, number, pairs in live:
        parts.append(log_format.space_record(number, name))
        for key, value in pairs:
            parts += (log_format.put_head(number, key, value), key, value)
            size += len(key) + len(value)
            if size >= STEP_BYTES:
                yield b"".join(parts)
                parts, size = [], 0
    if parts:
        yield b"".join(parts)
