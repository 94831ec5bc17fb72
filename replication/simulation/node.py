"""One node: a core, its disk, its clock and one thread of processing, in virtual time.

It keeps the four duties of ``replication.protocol`` the way the real host does: a turn takes
everything that has arrived, asks the core to flush, and hands the effects over in order.
"""

from collections.abc import Callable, Sequence
from heapq import heappush
from random import Random
from typing import TypeAlias

from google.protobuf.message import Message

from replication.errors import Indefinite, Overloaded, Unreachable
from replication.protocol import Core, Effect, Instant, NodeId, Persist, Request
from replication.simulation.clock import Clock
from replication.simulation.disk import Disk
from replication.simulation.effects import Events, Performer
from replication.simulation.legs import Legs
from replication.simulation.network import Link
from replication.simulation.settings import ProcessorSettings
from replication.simulation.timeline import Timeline
from replication.simulation.watching import Call, CoreFailed, Released, Watcher
from replication.v1 import event_pb2

Frame: TypeAlias = tuple[NodeId, Sequence[Message]]


class Node:
    """A place in the cluster. It outlives its processes; ``life`` counts them."""

    def __init__(
        self,
        name: NodeId,
        timeline: Timeline,
        settings: ProcessorSettings,
        disk: Disk,
        clock: Clock,
        rng: Random,
        create: Callable[[], Core],
        events: Events,
        watcher: Watcher | None,
        legs: Legs | None = None,
    ) -> None:
        self.name = name
        self.disk = disk
        self.clock = clock
        self.links: dict[NodeId, Link] = {}
        self.life = 0
        self.alive = False
        self.paused = False
        self.core: Core | None = None
        self.busy_ns = 0  # what processing has cost, over all lives
        self.refused = 0  # operations, for want of room
        self.dropped = 0  # messages of peers, likewise
        self._timeline = timeline
        self._settings = settings
        self._rng = rng
        self._create = create
        self._events = events
        self._watcher = watcher
        self._legs = legs
        self._performer: Performer | None = None
        self._paused_ns = 0
        self._forget()

    def _forget(self) -> None:
        """What a process loses when it dies."""
        self._frames: list[Frame] = []  # wait for the next turn
        self._requests: list[tuple[int, Request]] = []  # likewise
        self._calls: dict[int, Call] = {}  # accepted and not yet answered
        self._next_request = 1
        self._turn_due = False
        self._busy_until_ns = 0
        self._wake_ns: int | None = None  # on the core's clock
        self._alarm_ns: int | None = None  # when the timer goes off, on the world's
        self._resumed = False
        self._draining = False

    # Life and death.

    def start(self) -> None:
        """Start a process on what the disk holds."""
        assert not self.alive, f"{self.name} runs already"
        self.life += 1
        self.alive = True
        self._forget()
        started = event_pb2.NodeStarted(recovered_records=self.disk.records)
        self._observe(event_pb2.Event(node_started=started))
        core = self.core = self._create()
        self._performer = Performer(
            self.name,
            core,
            self._timeline,
            self.disk,
            self.links,
            self._calls,
            self._events,
            self._watcher,
            self._disk_failed,
            self._legs,
        )
        instant = self.clock.instant(self._timeline.now_ns)
        if self._watcher is not None:
            self._watcher.clock_runs(self.name, self.clock.ppm)
        try:
            effects = core.start(instant, self.disk)
            if self._watcher is not None:
                self._watcher.started(self.name, core)
            self._end_turn(core, instant, effects, 0)
        except Exception as error:
            raise CoreFailed(self.name, error) from error

    def kill(self, lose_unsynced: bool = False, torn: bool = True) -> int:
        """End the process at once; return how many commits its disk lost (see ``Disk.crash``).

        Clients that wait for an answer learn that the connection broke, peers learn nothing.
        """
        assert self.alive, f"{self.name} does not run"
        assert self._performer is not None, "a living node has a performer"
        self.alive = False
        self.paused = False
        self.core = None
        self._performer.close()
        calls = [*self._calls.values()]
        for link in self.links.values():
            link.reset()
        self._forget()
        lost = self.disk.crash(lose_unsynced, torn)
        if self._watcher is not None:
            self._watcher.stopped(self.name, wiped=False)
        for call in calls:
            broken = Indefinite("UNAVAILABLE", "the connection broke")
            call.answer(call, self._timeline.now_ns, broken)
        return lost

    def wipe(self) -> int:
        """Replace the disk by an empty one while no process runs; return what was on it."""
        assert not self.alive, "a running node's disk is not replaced"
        if self._watcher is not None:
            self._watcher.stopped(self.name, wiped=True)
        return self.disk.wipe()

    def pause(self) -> None:
        """Stop the process; time and the network go on, inputs queue up."""
        assert self._performer is not None, "a living node has a performer"
        self.paused = True
        self._paused_ns = self._timeline.now_ns
        self._performer.freeze()

    def resume(self) -> int:
        """Let it go on: everything that queued up is there at once, and every timer is due.

        Returns how long it was paused.
        """
        assert self._performer is not None, "a living node has a performer"
        self.paused = False
        self._resumed = True
        self._performer.thaw()
        if not self._turn_due:
            self._plan_turn()
        return self._timeline.now_ns - self._paused_ns

    def unstall(self) -> None:
        """The disk goes on after a stall."""
        self.disk.stalled = False
        if self._performer is not None:
            self._performer.unstall()

    def free_disk(self) -> None:
        """The disk has room again. A process whose write was refused ends of that all the same."""
        self.disk.full = False
        if self._performer is not None:
            self._performer.fail_if_refused()

    def drain(self) -> None:
        """Take no new operations; those in flight may end."""
        self._draining = True

    def exit(self) -> None:
        """End the process cleanly: everything that was written is synced."""
        assert self._performer is not None, "a living node has a performer"
        stopping = event_pb2.NodeStopping(reason="told to stop")
        self._observe(event_pb2.Event(node_stopping=stopping))
        self._performer.finish()
        self.kill()

    @property
    def idle(self) -> bool:
        """Whether nothing waits, neither an operation nor a write."""
        assert self._performer is not None, "a living node has a performer"
        return not (self._calls or self._frames or self._performer.syncing)

    def _disk_failed(self) -> None:
        """A process that cannot write ends: it must not go on with what it cannot keep."""
        stopping = event_pb2.NodeStopping(reason="the disk is full")
        self._observe(event_pb2.Event(node_stopping=stopping))
        self.kill()

    def _observe(self, event: event_pb2.Event) -> None:
        event.monotonic_ns = self._timeline.now_ns
        event.node = self.name
        self._events.append((event.monotonic_ns, self.name, event))

    # Inputs.

    def take_frame(self, frame: Frame) -> None:
        """Messages of a peer have arrived."""
        if not self.alive:
            return
        now_ns = self._timeline.now_ns
        if self.paused and now_ns - self._paused_ns > self._settings.stall_ns:
            self.dropped += len(frame[1])  # the sender has given up on this connection
            return
        frames = self._frames
        if len(frames) >= self._settings.messages_max:
            self.dropped += len(frame[1])
            return
        frames.append(frame)
        if not self._turn_due and not self.paused:
            # As ``_plan_turn``: this is where most of the turns begin.
            self._turn_due = True
            timeline = self._timeline
            busy_ns = self._busy_until_ns
            when_ns = (busy_ns if busy_ns > now_ns else now_ns) + self._settings.turn_ns
            heappush(timeline.heap, (when_ns, timeline.number(), self._turn, self.life))

    def take_call(self, call: Call) -> None:
        """An operation of a client has arrived."""
        now_ns = self._timeline.now_ns
        if not self.alive:
            call.answer(call, now_ns, Unreachable(self.name))
            return
        if self._draining or len(self._calls) >= self._settings.requests_max:
            self.refused += 1
            refusal = Overloaded("the node is stopping") if self._draining else Overloaded()
            call.answer(call, now_ns, refusal)
            return
        number = self._next_request
        self._next_request = number + 1
        self._calls[number] = call
        deadline_ns = self.clock.local_ns(now_ns) + call.timeout_ns
        if self._watcher is not None:
            self._watcher.submitted(self.name, call.body)
        self._requests.append((number, Request(call.body, deadline_ns)))
        if not self._turn_due and not self.paused:
            self._plan_turn()

    def _plan_turn(self) -> None:
        """Come to what has arrived; what arrives on the way there is taken along."""
        self._turn_due = True
        when_ns = max(self._busy_until_ns, self._timeline.now_ns) + self._settings.turn_ns
        self._timeline.at(when_ns, self._turn, self.life)

    def _turn(self, life: int) -> None:
        """Give the core everything that has arrived, and the time if it is due."""
        if life != self.life or not self.alive:
            return
        self._turn_due = False
        if self.paused:
            return
        core = self.core
        assert core is not None, "a living node has a core"
        settings, legs = self._settings, self._legs
        instant = self.clock.instant(self._timeline.now_ns)
        due = self._wake_ns is not None and self._wake_ns <= instant.monotonic_ns
        cost_ns = 0
        effects: list[Effect] = []
        try:
            if self._resumed:
                self._resumed = False
                if due and self._rng.random() < 0.5:
                    # After a pause either may come first, the timer or what is in the sockets.
                    effects += core.wake(instant)
                    due = False
            if self._frames:
                frames, self._frames = self._frames, []
                for sender, messages in frames:
                    for message in messages:
                        if legs is not None:
                            legs.received(message, self.name, self._timeline.now_ns)
                        effects += core.receive(instant, sender, message)
                        cost_ns += settings.message_ns
            if self._requests:
                requests, self._requests = self._requests, []
                for number, request in requests:
                    if legs is not None:
                        legs.submitted(request.body, self._timeline.now_ns)
                    effects += core.submit(instant, number, request)
                    cost_ns += settings.request_ns
            if due:
                effects += core.wake(instant)
            self._end_turn(core, instant, effects, cost_ns)
        except Exception as error:
            raise CoreFailed(self.name, error) from error

    def _end_turn(self, core: Core, instant: Instant, effects: list[Effect], cost_ns: int) -> None:
        effects += core.flush(instant)
        self.busy_ns += self._settings.turn_ns + cost_ns
        self._busy_until_ns = leave_ns = self._timeline.now_ns + cost_ns
        if self._watcher is not None:
            token = self._watcher.stepped(self.name, core, effects)
            if token is not None:
                # Right behind the last write: an answer in the same step rests on it already.
                behind = len(effects)
                while behind and type(effects[behind - 1]) is not Persist:
                    behind -= 1
                effects.insert(behind, Released(token))  # type: ignore[arg-type]
        if effects:
            self._performer.perform(effects, leave_ns)  # type: ignore[union-attr]
        wake_ns, before_ns = core.wake_at(), self._wake_ns
        self._wake_ns = wake_ns
        # A timer that is set too early stays: going off for nothing is cheaper than being set anew
        # for every message.
        if self._alarm_ns is None or before_ns is None or wake_ns is None or wake_ns < before_ns:
            self._arm()

    # Time.

    def _arm(self) -> None:
        """See that a timer goes off when the core wants to be woken, or before."""
        if self._wake_ns is None:
            return
        now_ns = self._timeline.now_ns
        when_ns = max(self.clock.when(self._wake_ns), self._busy_until_ns, now_ns)
        if self._alarm_ns is None or when_ns < self._alarm_ns:
            self._alarm_ns = when_ns
            self._timeline.at(when_ns, self._alarm, (self.life, when_ns))

    def _alarm(self, which: tuple[int, int]) -> None:
        life, when_ns = which
        if life != self.life or not self.alive or when_ns != self._alarm_ns:
            return
        self._alarm_ns = None
        if self.paused or self._turn_due:
            return  # the turn to come looks at the time
        if self._wake_ns is None or self._wake_ns > self.clock.local_ns(when_ns):
            self._arm()
        elif self._busy_until_ns > when_ns:
            self._plan_turn()
        else:
            self._turn(life)

    def clock_changed(self) -> None:
        """The rate of the clock changed: the timer is set by the new one."""
        if self._watcher is not None:
            self._watcher.clock_runs(self.name, self.clock.ppm)
        if self.alive and self.core is not None:
            self._wake_ns = self.core.wake_at()
            self._alarm_ns = None
            self._arm()
