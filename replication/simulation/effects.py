"""Performing effects in order, many persists to one sync: what ``host.effects`` does, virtually."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from replication.protocol import Core, Effect, NodeId, Observe, Persist, Reply, Send
from replication.simulation.disk import Disk, DiskFull
from replication.simulation.legs import Copy, Legs
from replication.simulation.network import Link
from replication.simulation.timeline import Timeline
from replication.simulation.watching import Call, CoreFailed, Released, Watcher
from replication.v1 import event_pb2

Events: TypeAlias = list[tuple[int, NodeId, event_pb2.Event]]


class Performer:
    """The line of effects of one life of one node.

    An effect behind a ``Persist`` waits for the sync that covers it, and so does every later one.
    While a sync is in flight, what comes gathers for the next.
    """

    def __init__(
        self,
        node: NodeId,
        core: Core,
        timeline: Timeline,
        disk: Disk,
        links: dict[NodeId, Link],
        calls: dict[int, Call],
        events: Events,
        watcher: Watcher | None,
        disk_failed: Callable[[], None],
        legs: Legs | None = None,
    ) -> None:
        self._node = node
        self._core = core
        self._timeline = timeline
        self._disk = disk
        self._syncs = disk.syncs
        self._links = links
        self._calls = calls
        self._events = events
        self._watcher = watcher
        self._disk_failed = disk_failed
        self._legs = legs
        self._unwritten: list[Persist] = []  # gathered for the next sync
        self._behind: list[Effect | Released] = []  # waits for the next sync
        self._in_flight: list[Effect | Released] = []  # waits for the sync in flight
        self._copies: list[Copy] = []  # that go out while the own one waits for the next sync
        self._copies_in_flight: list[Copy] = []  # and for the sync in flight
        self.syncing = False
        self._frozen = False
        self._ended = False  # the sync in flight did, while frozen
        self._stalled = False  # the sync in flight should have ended, but the disk stands still
        self._refused = False  # the disk was full when something was to be written
        self._closed = False

    def perform(self, effects: Sequence[Effect | Released], leave_ns: int) -> None:
        """Let go at ``leave_ns`` what need not wait, queue the rest, see that a sync is begun."""
        queue: list[Effect | Released] | None = None
        if self.syncing:
            queue = self._behind if self._unwritten else self._in_flight
        links = self._links
        legs = self._legs
        copy = None if legs is None else legs.copy_in(effects)
        touched: list[Link] = []
        for effect in effects:
            kind = type(effect)
            if legs is not None and kind is Send:
                legs.emitted(effect.message, effect.to, self._timeline.now_ns)  # type: ignore[union-attr]
            if kind is Persist:
                if self._syncs:
                    self._unwritten.append(effect)  # type: ignore[arg-type]
                    queue = self._behind
                else:
                    self._write(effect)  # type: ignore[arg-type]
                continue
            if kind is Observe:
                # The time when the core decided, however long the event waits in line.
                effect.event.monotonic_ns = self._timeline.now_ns  # type: ignore[union-attr]
            if queue is not None:
                queue.append(effect)
            elif kind is Send:
                link = links[effect.to]  # type: ignore[union-attr]
                if not link.waiting:
                    touched.append(link)
                link.waiting.append(effect.message)  # type: ignore[union-attr]
                if legs is not None:
                    legs.left(effect.message, effect.to, leave_ns)  # type: ignore[union-attr]
            else:
                self._leave(effect, leave_ns)
        for link in touched:
            link.ship(leave_ns)
        if legs is not None and copy is not None:
            if self._syncs:
                self._copies.append(copy)
            else:
                legs.durable(copy, leave_ns)
        if self._unwritten and not self.syncing:
            self._begin_sync(leave_ns)

    def freeze(self) -> None:
        """The process is stopped: syncs end, but nothing leaves."""
        self._frozen = True

    def thaw(self) -> None:
        """The process goes on."""
        self._frozen = False
        if self._ended:
            self._ended = False
            self._let_go()

    def finish(self) -> None:
        """Make everything durable at once: a clean end."""
        if self.syncing and not self._ended:
            self._disk.end_sync()
        if self._unwritten and not self._disk.full:
            self._disk.begin_sync(self._unwritten)
            self._disk.end_sync()

    def close(self) -> None:
        """The process is dead: what waits in line dies with it."""
        self._closed = True

    def _write(self, persist: Persist) -> None:
        try:
            self._disk.write_unsynced(self._timeline.now_ns, persist)
        except DiskFull:
            self._refuse(self._timeline.now_ns)

    def _begin_sync(self, when_ns: int) -> None:
        self.syncing = True
        persists, self._unwritten = self._unwritten, []
        self._in_flight, self._behind = self._behind, []
        self._copies_in_flight, self._copies = self._copies, []
        try:
            duration_ns = self._disk.begin_sync(persists)
        except DiskFull:
            self._refuse(when_ns)
            return
        self._timeline.at(when_ns + duration_ns, self._synced)

    def unstall(self) -> None:
        """The disk goes on: a sync that should have ended meanwhile ends now."""
        if self._stalled:
            self._stalled = False
            self._synced(None)

    def _synced(self, _: None) -> None:
        if self._closed:
            return
        if self._disk.stalled:
            self._stalled = True
            self._disk.stuck += 1
            return
        self._disk.end_sync()
        if self._frozen:
            self._ended = True
        else:
            self._let_go()

    def _let_go(self) -> None:
        self.syncing = False
        released = self._in_flight
        now_ns = self._timeline.now_ns
        for copy in self._copies_in_flight:
            assert self._legs is not None, "it found them"
            self._legs.durable(copy, now_ns)
        self._copies_in_flight = []
        if self._unwritten:
            self._begin_sync(now_ns)
        else:
            self._in_flight = []
        touched: list[Link] = []
        links = self._links
        try:
            for effect in released:
                if type(effect) is Send:
                    link = links[effect.to]
                    if not link.waiting:
                        touched.append(link)
                    link.waiting.append(effect.message)
                    if self._legs is not None:
                        self._legs.left(effect.message, effect.to, now_ns)
                else:
                    self._leave(effect, now_ns)
        except AssertionError as error:
            raise CoreFailed(self._node, error) from error
        for link in touched:
            link.ship(now_ns)

    def _leave(self, effect: Effect | Released, leave_ns: int) -> None:
        kind = type(effect)
        if kind is Reply:
            self._reply(effect, leave_ns)  # type: ignore[arg-type]
        elif kind is Released:
            assert self._watcher is not None, "only a watcher leaves marks"
            self._watcher.released(self._node, self._core, effect.token)  # type: ignore[union-attr]
        else:
            assert kind is Observe, f"{effect!r} is no effect"
            event = effect.event  # type: ignore[union-attr]
            event.node = self._node
            self._events.append((event.monotonic_ns, self._node, event))

    def _reply(self, effect: Reply, leave_ns: int) -> None:
        call = self._calls.pop(effect.request_id, None)
        assert call is not None, f"request {effect.request_id} is answered, and was answered before"
        if self._watcher is not None:
            self._watcher.replied(self._node, call.body, effect.result)
        call.answer(call, leave_ns, effect.result)

    def _refuse(self, when_ns: int) -> None:
        self._refused = True
        self._timeline.at(when_ns, self._fail)

    def fail_if_refused(self) -> None:
        """A write was refused, or none: the process ends of it now, if it has not yet."""
        if self._refused:
            self._fail(None)

    def _fail(self, _: None) -> None:
        if not self._closed:
            self._disk_failed()
