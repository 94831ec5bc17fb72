"""The owner of a core: the only place that calls it, one turn at a time.

Whatever arrives (messages of peers, operations of clients, the time) waits in a bounded inbox until
the next turn, which takes all of it. Peers and clients have separate bounds, so that a flood of
operations cannot crowd out the heartbeats that keep a cluster together.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from google.protobuf.message import Message

from replication.errors import OperationError, Overloaded
from replication.host.clock import NodeClock
from replication.host.effects import DiskThread, Performer
from replication.host.events import EventLog
from replication.host.links import Link
from replication.host.stamps import Chosen, Stamps
from replication.host.store import Store
from replication.protocol import (
    Core,
    Effect,
    NodeId,
    Observe,
    Reply,
    Request,
    RequestBody,
    RequestId,
    Response,
    Send,
)
from replication.v1 import event_pb2, peer_pb2

log = logging.getLogger("replication.host")

REQUESTS_MAX = 8192  # accepted and not yet answered; beyond it operations are refused
# Messages of peers that wait for the next turn, and effects that wait for the disk; beyond it
# messages are dropped. Without the second half a stalled disk would fill the memory.
MESSAGES_MAX = 16384
CHECK_SECONDS = 0.2  # between looks at what comes without an event

# Transitions of the node. What concerns one key is for the history, not for the log.
_LOGGED = frozenset(
    (
        *("node_started", "role_changed", "log_truncated", "peer_suspected", "peer_trusted"),
        *("link_faults_changed", "node_stopping"),
        *("replication_changed", "acknowledgement_changed"),
    )
)


class Sink(Protocol):
    """Whoever submitted an operation and wants its result."""

    def complete(self, token: int, result: Response | OperationError) -> None:
        """Take the result; ``token`` is what was given to ``submit``."""
        ...


class Node:
    """Runs one core: inbox, turns, timer, effects. Everything happens on one event loop."""

    def __init__(
        self,
        core: Core,
        store: Store,
        links: dict[NodeId, Link],
        events: EventLog,
        *,
        synced: bool,
        clock: NodeClock,
        stamps: Stamps | None = None,
    ) -> None:
        """Take a core that was not started yet; ``start`` must be called on a running loop."""
        self._core = core
        self._store = store
        self._links = links
        self._events = events
        self._clock = clock
        self.stamps = stamps  # None: nothing is measured
        self._loop = asyncio.get_running_loop()
        self._messages: list[tuple[NodeId, Message]] = []
        self._submitted: list[tuple[RequestId, Request]] = []
        self._sinks: dict[RequestId, tuple[Sink, int]] = {}
        self._next_id: RequestId = 1
        self._turn_due = False
        self._dropping = False  # messages, since the disk was last idle
        self._halted = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = 0  # when the armed timer fires
        self._last_sent: tuple[Message | None, bytes] = (None, b"")
        self._status_due = False
        self._stopping = False
        self._drained: asyncio.Future[None] = self._loop.create_future()
        self.failed: asyncio.Future[BaseException] = self._loop.create_future()
        self.on_serving: Callable[[bool], None] = lambda serving: None
        self.serving = False
        self.inbox_refused = 0
        self.disk = DiskThread(store, self._loop, self._synced, self.fail)
        self.performer = Performer(store, self, self.disk if synced else None, stamps)

    @property
    def core(self) -> Core:
        """Return the core, for looking only."""
        return self._core

    @property
    def inbox_length(self) -> int:
        """Return how many inputs wait for the next turn. (What they led to may wait for a sync.)"""
        return len(self._messages) + len(self._submitted)

    @property
    def in_flight(self) -> int:
        """Return how many operations are accepted and not yet answered."""
        return len(self._sinks)

    def start(self, started: event_pb2.Event) -> None:
        """Begin with what the store holds; ``started`` is the first event of this life."""
        now, true_ns = self._clock.now(), self._clock.true_ns()
        self._mark()
        try:
            self.performer.perform([Observe(started)], true_ns)
            self.performer.perform(self._core.start(now, self._store), true_ns)
            self._end_turn()
            self._check_regularly()
        except Exception as error:
            self.fail(error)

    def now_ns(self) -> int:
        """Return the monotonic time that deadlines are counted from."""
        return self._clock.now().monotonic_ns

    def submit(self, sink: Sink, token: int, body: RequestBody, deadline_ns: int) -> None:
        """Queue a checked operation for the next turn; raise Overloaded when there is no room."""
        if len(self._sinks) >= REQUESTS_MAX or self._stopping:
            self.inbox_refused += 1
            if self._stopping:
                raise Overloaded("the node is stopping")
            raise Overloaded
        request_id = self._next_id
        self._next_id = request_id + 1
        self._sinks[request_id] = (sink, token)
        self._submitted.append((request_id, Request(body, deadline_ns)))
        if not self._turn_due:
            self._turn_due = True
            self._loop.call_soon(self._turn)

    def receive(
        self, sender: NodeId, message: Message, stamp: peer_pb2.Stamp | None = None
    ) -> None:
        """Queue a peer's message for the next turn, or drop it when there is no room."""
        if len(self._messages) + self.performer.waiting >= MESSAGES_MAX:
            if not self._dropping:
                self._dropping = True
                log.warning("inbox=full waiting_for_disk=%d", self.performer.waiting)
            return
        self._messages.append((sender, message))
        if stamp is not None and self.stamps is not None:
            self.stamps.arrived(message, stamp)
        if not self._turn_due:
            self._turn_due = True
            self._loop.call_soon(self._turn)

    def observe_own(self, event: event_pb2.Event) -> None:
        """Tell of something that the host did, in line with what the core observed."""
        self.performer.perform([Observe(event)], self._clock.true_ns())

    def perform(self, effects: list[Effect]) -> None:
        """Perform what a hosted core did by itself, between the turns of others."""
        if self._halted:
            return
        self._mark()
        try:
            self.performer.perform(effects, self._clock.true_ns())
            self.performer.commit()
        except Exception as error:
            self.fail(error)

    async def drained(self) -> None:
        """Wait until every accepted operation is answered; ``stop_accepting`` comes first."""
        if self._sinks:
            await self._drained

    def tell_stopping(self, reason: str) -> None:
        """Record the last event. It waits for no sync: it says nothing about the data."""
        stopping = event_pb2.NodeStopping(reason=reason)
        event = event_pb2.Event(monotonic_ns=self._clock.true_ns(), node_stopping=stopping)
        self.observe(Observe(event))

    def clock_changed(self) -> None:
        """The rate of the clock changed: the timer is set by the new one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._halted:
            self._arm()

    def stop_accepting(self) -> None:
        """Refuse operations from now on; those in flight go on."""
        self._stopping = True

    def fail(self, error: BaseException) -> None:
        """Stop the node: it does nothing any more. Who waits for ``failed`` ends the process."""
        if not self.failed.done():
            self.failed.set_result(error)
        self.halt()

    def close(self) -> None:
        """End the timer and the disk's thread; the store stays open for its last sync."""
        self.halt()
        self.disk.stop()

    def halt(self) -> None:
        """Do nothing any more, as if the power were gone."""
        self._stopping = True
        self._halted = True
        if self._timer is not None:
            self._timer.cancel()

    # ---- turns -----------------------------------------------------------------------------

    def _turn(self) -> None:
        """Give the core everything that waits, then let it flush, then commit."""
        if self._halted:
            return
        self._turn_due = False
        self._dropping = self._dropping and self.performer.waiting > 0
        core, perform, now, true_ns = (
            *(self._core, self.performer.perform),
            *(self._clock.now, self._clock.true_ns),
        )
        if self.stamps is not None:
            self.stamps.turn(true_ns())
        messages, self._messages = self._messages, []
        submitted, self._submitted = self._submitted, []
        try:
            for sender, message in messages:
                perform(core.receive(now(), sender, message), true_ns())
            for request_id, request in submitted:
                perform(core.submit(now(), request_id, request), true_ns())
            self._end_turn()
        except Exception as error:
            self.fail(error)

    def _wake(self) -> None:
        self._timer = None
        if self._halted:
            return
        self._mark()
        try:
            now = self._clock.now()
            wake_at = self._core.wake_at()
            if wake_at is not None and wake_at <= now.monotonic_ns:
                self.performer.perform(self._core.wake(now), self._clock.true_ns())
            self._end_turn()
        except Exception as error:
            self.fail(error)

    def _mark(self) -> None:
        """What is decided or leaves from here on does so now."""
        if self.stamps is not None:
            self.stamps.now_ns = self._clock.true_ns()

    def _end_turn(self) -> None:
        self.performer.perform(self._core.flush(self._clock.now()), self._clock.true_ns())
        self.performer.commit()
        self._arm()
        if self._status_due:
            self._check_status()

    def _arm(self) -> None:
        """Make sure that a timer fires when the core wants to wake. A later one may stay armed."""
        wake_at = self._core.wake_at()
        if wake_at is None or (self._timer is not None and self._timer_ns <= wake_at):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_ns = wake_at
        # Loops round to whole milliseconds: upwards, else the timer would spin until it is due.
        delay_ms = self._clock.delay_ns(wake_at) // 1_000_000 + 1
        self._timer = self._loop.call_later(delay_ms / 1000, self._wake)

    def _synced(self, sequence: int) -> None:
        if self._halted:
            return
        self._mark()
        try:
            self.performer.synced(sequence)
            if self._status_due:
                self._check_status()
        except Exception as error:
            self.fail(error)

    def _check_status(self) -> None:
        self._status_due = False
        serving = self._core.status().serving
        if serving != self.serving:
            self.serving = serving
            log.info("serving=%s", str(serving).lower())
            self.on_serving(serving)

    def _check_regularly(self) -> None:
        if self._halted:
            return
        try:
            # Transitions come with events and are seen at once; this is for those that do not.
            self._check_status()
            if self._store.compaction_due:
                self._store.begin_compaction()
                self.disk.compact()
        except Exception as error:
            self.fail(error)
        self._loop.call_later(CHECK_SECONDS, self._check_regularly)

    # ---- where effects leave (effects.Outlet) ------------------------------------------------

    def send(self, effect: Send) -> None:
        """Hand a message to its link. The same message to several peers is serialised once."""
        message, data = self._last_sent
        if message is not effect.message:
            data = effect.message.SerializeToString()
            self._last_sent = (effect.message, data)
        if isinstance(effect, Chosen):
            assert self.stamps is not None, "nothing is chosen without"
            data = self.stamps.left(effect, data)
        self._links[effect.to].send(data)

    def reply(self, effect: Reply) -> None:
        """Hand a result to whoever waits for it."""
        waiting = self._sinks.pop(effect.request_id, None)
        assert waiting is not None, f"request {effect.request_id} was answered before"
        sink, token = waiting
        sink.complete(token, effect.result)
        if self._stopping and not self._sinks and not self._drained.done():
            self._drained.set_result(None)

    def observe(self, effect: Observe) -> None:
        """Record an event."""
        name, fields = self._events.add(effect.event)
        self._status_due = True
        if name in _LOGGED:
            words = " ".join(f"{field}={value}" for field, value in fields.items())
            log.info("event=%s %s", name, words)
