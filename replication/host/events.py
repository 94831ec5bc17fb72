"""What the core observed: kept in memory, streamed to watchers, appended to ``events.jsonl``.

One line of the file is one event:
``{"t": 123, "node": "n1", "event": "role_changed", "role": "leader", "term": 7, "leader": "n1"}``,
where ``t`` is the node's monotonic clock in nanoseconds (on one machine all nodes share it) and the
other fields are those of ``replication.history.event_record``.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from replication.history import event_record
from replication.v1 import event_pb2

KEPT_MAX = 100_000


class EventLog:
    """The events of one life of a node, in order."""

    def __init__(self, path: Path, node: str, kept_max: int = KEPT_MAX) -> None:
        """Append to the file at ``path``: earlier lives of the node stay in it."""
        self._node = node
        self._kept_max = kept_max
        self._kept: list[event_pb2.Event] = []
        self._forgotten = 0  # older than the first one kept
        self._news = asyncio.Event()
        self._closed = False
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o644)

    def add(self, event: event_pb2.Event) -> tuple[str, dict[str, Any]]:
        """Keep an event whose time is filled in and return its name and fields.

        Once this returns, kill -9 does not lose it.
        """
        event.node = self._node
        name, fields = event_record(event)
        record = {"t": event.monotonic_ns, "node": self._node, "event": name, **fields}
        line = json.dumps(record, separators=(",", ":"), ensure_ascii=False) + "\n"
        os.write(self._fd, line.encode())
        self._kept.append(event)
        if len(self._kept) >= 2 * self._kept_max:
            # Dropping half at once keeps the cost per event constant.
            del self._kept[: self._kept_max]
            self._forgotten += self._kept_max
        self._news.set()
        return name, fields

    async def watch(self) -> AsyncIterator[event_pb2.Event]:
        """Yield the events kept, then new ones as they come, until the log is closed.

        A watcher that falls behind by more than what is kept misses the oldest.
        """
        position = 0
        while True:
            position = max(position, self._forgotten)
            while position < self._forgotten + len(self._kept):
                yield self._kept[position - self._forgotten]
                position = max(position + 1, self._forgotten)
            if self._closed:
                return
            self._news.clear()
            await self._news.wait()

    def close(self) -> None:
        """End the watchers once they have seen everything, and close the file."""
        self._closed = True
        self._news.set()
        os.close(self._fd)
