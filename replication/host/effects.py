"""Performing effects in order, many persists to one sync (group commit).

The rule (duty 1 of ``replication.protocol``): effects leave in the order in which the core listed
them, call after call, and none leaves before the persists in front of it are durable. So an effect
behind an unsynced persist waits in line, and so does every later one; a sync that ends releases the
line up to what it covered. While one sync is in flight everything else gathers for the next.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from threading import Thread
from time import perf_counter_ns
from typing import Protocol

from replication.host.stamps import Stamps
from replication.host.store import Store
from replication.protocol import Effect, Observe, Persist, Reply, Send

SYNC_SAMPLES_MAX = 10_000


class Outlet(Protocol):
    """Where effects leave the node."""

    def send(self, effect: Send) -> None:
        """Hand a message to the link to its peer."""
        ...

    def reply(self, effect: Reply) -> None:
        """Complete a request."""
        ...

    def observe(self, effect: Observe) -> None:
        """Record an event."""
        ...


class Syncer(Protocol):
    """Whatever runs ``Store.sync``; calls ``Performer.synced`` with the batch it covered."""

    def request(self) -> None:
        """Sync everything appended so far. Never called while a request is open."""
        ...


class Performer:
    """Performs the effects of one core. Lives on the thread that owns it."""

    def __init__(
        self, store: Store, outlet: Outlet, syncer: Syncer | None, stamps: Stamps | None = None
    ) -> None:
        """Take ``syncer=None`` for a store that is not synced: then a write is enough."""
        self._store = store
        self._outlet = outlet
        self._syncer = syncer
        self._stamps = stamps
        self._appended = 0  # the last batch handed to the store
        self._durable = 0  # the last batch that may be relied on
        # What waits, each with the batch it waits for.
        self._waiting: deque[tuple[int, Send | Reply | Observe]] = deque()
        self._syncing = False
        self.persists = 0

    def perform(self, effects: Sequence[Effect], now_ns: int) -> None:
        """Perform what may be performed now and queue the rest; ``commit`` must follow.

        ``now_ns`` is when the core decided: events carry it however long they wait in line.
        """
        own: int | None = None
        for effect in effects:
            if isinstance(effect, Persist):
                own = self._appended = self._store.append(effect.writes)
                self.persists += 1
                continue
            if isinstance(effect, Observe):
                effect.event.monotonic_ns = now_ns
            elif self._stamps is not None and isinstance(effect, Send):
                effect = self._stamps.choose(effect)
            if self._appended > self._durable:
                self._waiting.append((self._appended, effect))
            else:
                self._leave(effect)
        if self._stamps is not None:
            self._stamps.listed(own)

    def commit(self) -> None:
        """Begin to make durable what was appended since, unless a sync is in flight already."""
        if self._appended == self._durable:
            return
        if self._syncer is None:
            self.synced(self._store.sync())
        elif not self._syncing:
            self._syncing = True
            self._syncer.request()

    def synced(self, sequence: int) -> None:
        """Release what waited for batches up to ``sequence``, and sync what came meanwhile."""
        self._syncing = False
        self._durable = sequence
        if self._stamps is not None:
            self._stamps.synced(sequence)
        waiting = self._waiting
        while waiting and waiting[0][0] <= sequence:
            self._leave(waiting.popleft()[1])
        self.commit()

    @property
    def waiting(self) -> int:
        """Return how many effects wait for a sync."""
        return len(self._waiting)

    @property
    def idle(self) -> bool:
        """Return whether everything is durable and nothing waits."""
        return self._appended == self._durable and not self._waiting

    def _leave(self, effect: Send | Reply | Observe) -> None:
        if isinstance(effect, Reply):
            self._outlet.reply(effect)
        elif isinstance(effect, Send):
            self._outlet.send(effect)
        else:
            self._outlet.observe(effect)


_STOP = object()
_SYNC = object()
_COMPACT = object()


class DiskThread:
    """The one thread that waits for the disk: syncs on request, compacts in between."""

    def __init__(
        self,
        store: Store,
        loop: asyncio.AbstractEventLoop,
        synced: Callable[[int], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        """Begin; ``synced`` and ``failed`` are called on ``loop``."""
        self._store = store
        self._loop = loop
        self._synced = synced
        self._failed = failed
        self._requests: SimpleQueue[object] = SimpleQueue()
        self.sync_ns: deque[int] = deque(maxlen=SYNC_SAMPLES_MAX)
        self.syncs = 0
        self.compactions = 0
        self._thread = Thread(target=self._run, name="disk", daemon=True)
        self._thread.start()

    def request(self) -> None:
        """Sync everything appended so far, then call ``synced``."""
        self._requests.put(_SYNC)

    def compact(self) -> None:
        """Carry the compaction that the store has begun to its end, syncs going first."""
        self._requests.put(_COMPACT)

    def stop(self) -> None:
        """End the thread after what it was asked before; a compaction is left unfinished."""
        self._requests.put(_STOP)
        self._thread.join()

    def _run(self) -> None:
        compacting = False
        try:
            while True:
                try:
                    request = self._requests.get(block=not compacting)
                except Empty:
                    compacting = not self._store.compact_step()
                    self.compactions += not compacting
                    continue
                if request is _STOP:
                    return
                if request is _COMPACT:
                    compacting = True
                else:
                    self._sync()
        except Exception as error:
            self._loop.call_soon_threadsafe(self._failed, error)

    def _sync(self) -> None:
        begun_ns = perf_counter_ns()
        sequence = self._store.sync()
        self.sync_ns.append(perf_counter_ns() - begun_ns)
        self.syncs += 1
        self._loop.call_soon_threadsafe(self._synced, sequence)
