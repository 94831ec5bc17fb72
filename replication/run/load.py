"""The load driver: performs the sessions of all clients, each a single thread of operations.

In an open loop an operation starts when it is due, or as soon as its client has ended the one
before; latency counts from the due time all the same, so a stall is charged to every operation that
it delayed. In a closed loop an operation starts when the one before has ended.

There is no task per client or per operation: a client is an object that is called when an answer
has come or a moment has been reached.
"""

import asyncio
import gc
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from replication.client.pipeline import Sink
from replication.client.session import Session
from replication.client.steps import Attempt, Step, Wait
from replication.errors import OperationError, Unreachable
from replication.history import (
    CPU_SHARE_MAX,
    SEND_LAG_NS_P99_MAX,
    DriverReport,
    Operation,
    Outcome,
    Phase,
)
from replication.legs import LegDelays
from replication.plan.model import PlannedOperation
from replication.protocol import StorageResponse
from replication.run.timers import Timers
from replication.run.wires import Wires


class Target(Protocol):
    """What the load is put on. The gRPC ``Pipelines`` are one; drivers of other stores may be."""

    def submit(self, attempt: Attempt, sink: Sink) -> bool:
        """Begin the attempt; False when its node is not connected and nothing was sent."""
        ...


@dataclass(slots=True)
class Window:
    """From when to when operations start, and what they are called. Times as in the history."""

    start_ns: int  # due times count from here
    end_ns: int | None  # no operation starts later; None: until the plan ends
    phase: Phase
    measure_start_ns: int = 0  # earlier operations of a load are warm-up

    def phase_at(self, intended_ns: int) -> Phase:
        """Return the phase of an operation that was meant to start then."""
        warm_up = self.phase is Phase.LOAD and intended_ns < self.measure_start_ns
        return Phase.WARMUP if warm_up else self.phase


class Driver:
    """Performs sessions on a target and keeps what became of every operation.

    History time 0 is ``zero_ns`` of the monotonic clock.
    """

    def __init__(self, target: Target, timers: Timers, wires: Wires, zero_ns: int) -> None:
        self.target = target
        self.timers = timers
        self.wires = wires
        self.zero_ns = zero_ns
        self.operations: list[Operation] = []  # in the order in which they completed
        self.counts = dict.fromkeys(Outcome, 0)
        self.sent = 0
        self.unsent = 0  # due before the end of the load, but their client was busy until then
        self.failure: BaseException | None = None  # a mistake of ours that ended the load
        self.active = 0
        self.lags_ns = array("q")  # of operations that started by the clock
        self.delays = LegDelays({})  # between clients and the nodes that tell
        self._clients: list[_Client] = []
        self._idle = asyncio.Event()

    def now_ns(self) -> int:
        """Return the time of the history."""
        return time.monotonic_ns() - self.zero_ns

    async def run(
        self, work: Iterable[tuple[Session, Iterator[PlannedOperation]]], window: Window
    ) -> None:
        """Perform the work in ``window`` and wait until every operation has ended.

        That is at most an operation's timeout after the window's end. When cancelled, what is in
        progress stays in the history without a completion (see ``Session.abandon``).
        """
        self._clients = [_Client(self, *each, window) for each in work]
        self._idle.clear()
        self.active = len(self._clients)
        if not self._clients:
            return
        for client in self._clients:
            client.start()
        try:
            await self._idle.wait()
        finally:
            for client in self._clients:
                client.stop()
        if self.failure is not None:
            raise self.failure

    def record(self, operation: Operation, attempt: Attempt | None = None) -> None:
        """Keep an operation that has ended, with the attempt that was answered last."""
        self.operations.append(operation)
        self.counts[operation.outcome] += 1
        if (
            operation.outcome is Outcome.OK
            and operation.complete_ns is not None
            and operation.attempts == 1
            and attempt is not None
            and attempt.left_ns
        ):
            self.delays.add("request", operation.invoke_ns, attempt.sent_ns - self.zero_ns)
            self.delays.add("reply", attempt.left_ns - self.zero_ns, operation.complete_ns)

    def client_done(self) -> None:
        """One client has nothing more to do."""
        self.active -= 1
        if not self.active:
            self._idle.set()

    def fail(self, error: BaseException) -> None:
        """End the load because of a mistake of ours; ``run`` raises it."""
        self.failure = error
        self._idle.set()

    def report(self, cpu_seconds: float, seconds: float) -> DriverReport:
        """Return how well the load kept to its plan; ``cpu_seconds`` were used in ``seconds``."""
        lags = sorted(self.lags_ns)
        p50, p99 = (lags[int(len(lags) * share)] if lags else 0 for share in (0.5, 0.99))
        cpu_share = cpu_seconds / seconds if seconds > 0 else 0.0
        return DriverReport(
            planned=self.sent + self.unsent,
            sent=self.sent,
            send_lag_ns_p50=p50,
            send_lag_ns_p99=p99,
            cpu_share=round(cpu_share, 4),
            generator_bound=p99 > SEND_LAG_NS_P99_MAX or cpu_share > CPU_SHARE_MAX,
        )


class _Client:
    """One session, performed: at most one attempt or one moment is outstanding."""

    def __init__(
        self,
        driver: Driver,
        session: Session,
        planned: Iterator[PlannedOperation],
        window: Window,
    ) -> None:
        self._driver = driver
        self._session = session
        self._planned = planned
        self._window = window
        self._name = session.client.name
        self._attempt: Attempt | None = None
        self._answered: Attempt | None = None  # the last one that was
        self._stopped = False

    def start(self) -> None:
        """Begin with the first operation."""
        self._go_on(lambda: self._next(0))

    def stop(self) -> None:
        """Nothing more happens; an operation in progress is recorded as it stands."""
        self._stopped = True
        self._attempt = None
        operation = self._session.abandon()
        if operation is not None:
            self._driver.record(operation)

    def answered(self, attempt: Attempt, result: StorageResponse | OperationError) -> None:
        """Take a result from the target; late ones, and those lost on the wire, are dropped."""
        if attempt is not self._attempt:
            return
        delay_ns = self._driver.wires.delay_ns(attempt.node, self._name)
        if delay_ns is None:
            return
        if delay_ns:
            self._later(delay_ns, lambda: self._arrive(attempt, result))
        else:
            self._arrive(attempt, result)

    def _arrive(self, attempt: Attempt, result: StorageResponse | OperationError) -> None:
        if attempt is self._attempt:
            self._attempt = None
            self._answered = attempt
            self._go_on(lambda: self._session.answered(self._driver.now_ns(), result))

    def _time_out(self, attempt: Attempt) -> None:
        if attempt is self._attempt:
            self._attempt = self._answered = None
            self._go_on(lambda: self._session.timed_out(self._driver.now_ns()))

    def _resume(self) -> None:
        self._go_on(lambda: self._session.resume(self._driver.now_ns()))

    def _go_on(self, decide: Callable[[], Step | None]) -> None:
        """Do one step after the other until something has to be waited for."""
        if self._stopped:
            return
        try:
            step = decide()
            while step is not None:
                step = self._do(step)
        except Exception as error:
            # Called by the loop or by a stream: nobody else would tell of it.
            self._driver.fail(error)

    def _do(self, step: Step) -> Step | None:
        """Do one step; return the next one if it can be done at once."""
        if isinstance(step, Attempt):
            if self._send(step):
                return None
            return self._session.answered(self._driver.now_ns(), Unreachable(step.node))
        if isinstance(step, Wait):
            self._at(step.until_ns, self._resume)
            return None
        self._driver.record(step.operation, self._answered)
        return self._next(step.rest_ns)

    def _send(self, attempt: Attempt) -> bool:
        """Put an attempt on the wire; False when its node is not connected."""
        self._attempt = attempt
        delay_ns = self._driver.wires.delay_ns(self._name, attempt.node)
        if delay_ns == 0 and not self._driver.target.submit(attempt, self):
            self._attempt = None
            return False
        if delay_ns:
            self._later(delay_ns, lambda: self._send_late(attempt))
        self._at(attempt.deadline_ns, lambda: self._time_out(attempt))
        return True

    def _send_late(self, attempt: Attempt) -> None:
        if attempt is self._attempt and not self._driver.target.submit(attempt, self):
            self._arrive(attempt, Unreachable(attempt.node))

    def _next(self, rest_ns: int) -> Step | None:
        """Begin the next operation if it is time; None when there is nothing to do right now."""
        window, driver = self._window, self._driver
        planned = next(self._planned, None)
        now_ns = driver.now_ns()
        if planned is None or (window.end_ns is not None and now_ns >= window.end_ns):
            self._finish(planned)
            return None
        due_ns = window.start_ns + (planned.due_ns or 0)
        if planned.due_ns is None:
            due_ns = now_ns + max(rest_ns, self._session.client.think_ns)
        if window.end_ns is not None and due_ns >= window.end_ns:
            self._finish(None)
            return None
        if due_ns > now_ns:
            self._at(due_ns, lambda: self._on_time(planned, due_ns))
            return None
        return self._begin(planned, now_ns, due_ns)

    def _on_time(self, planned: PlannedOperation, due_ns: int) -> None:
        now_ns = self._driver.now_ns()
        if planned.due_ns is not None:
            self._driver.lags_ns.append(now_ns - due_ns)
        self._go_on(lambda: self._begin(planned, now_ns, due_ns))

    def _begin(self, planned: PlannedOperation, now_ns: int, due_ns: int) -> Step:
        driver = self._driver
        driver.sent += 1
        intended_ns = now_ns if planned.due_ns is None else due_ns
        return self._session.begin(
            now_ns,
            planned,
            index=driver.sent,
            phase=self._window.phase_at(intended_ns),
            intended_ns=intended_ns,
        )

    def _finish(self, planned: PlannedOperation | None) -> None:
        """There is nothing more to do; ``planned`` was due and comes too late."""
        if planned is not None and planned.due_ns is not None:
            assert self._window.end_ns is not None, "without an end nothing comes too late"
            last_ns = self._window.end_ns - self._window.start_ns
            late = (each.due_ns for each in self._planned)
            self._driver.unsent += planned.due_ns < last_ns
            self._driver.unsent += sum(due_ns is not None and due_ns < last_ns for due_ns in late)
        self._stopped = True
        self._driver.client_done()

    def _at(self, when_ns: int, call: Callable[[], None]) -> None:
        self._driver.timers.at(when_ns + self._driver.zero_ns, call)

    def _later(self, delay_ns: int, call: Callable[[], None]) -> None:
        self._at(self._driver.now_ns() + delay_ns, call)


@contextmanager
def quiet_collector() -> Iterator[None]:
    """While inside, the garbage collector leaves the growing history alone.

    A full collection over it would hold every client up for tens of milliseconds.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
