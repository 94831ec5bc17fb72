"""Clients in virtual time: each performs the steps of its session, one at a time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from replication.client.session import Session
from replication.client.steps import Attempt, Finished, Step, Wait
from replication.history import Operation, Phase
from replication.plan.model import PlannedOperation
from replication.simulation.watching import Call, Result
from replication.simulation.world import World
from replication.v1 import control_pb2


@dataclass(slots=True)
class Recorder:
    """Collects operations as they end; numbers them as they begin."""

    operations: list[Operation] = field(default_factory=list)
    begun: int = 0
    unsent: int = 0  # due before the end of the load, but their client was busy until then

    def next_index(self) -> int:
        """Return the number of the operation that begins now."""
        self.begun += 1
        return self.begun


class Client:
    """One thread of operations: due ones at their time, or as soon as the one before has ended.

    ``phase_at`` tells the phase of an operation by the moment when it was meant to begin.
    """

    def __init__(
        self,
        world: World,
        session: Session,
        recorder: Recorder,
        phase_at: Callable[[int], Phase],
    ) -> None:
        self.session = session
        self._world = world
        self._timeline = world.timeline
        self._recorder = recorder
        self._phase_at = phase_at
        self._operations: Iterator[PlannedOperation] = iter(())
        self._next: PlannedOperation | None = None
        self._origin_ns = 0
        self._until_ns = 0
        self._call: Call | None = None
        self._deadline_ns = 0  # of the attempt under way
        self._alarm_ns: int | None = None

    @property
    def done(self) -> bool:
        """Whether everything was begun that will be, and has ended."""
        return self._next is None and not self.session.busy

    def run(self, operations: Iterator[PlannedOperation], origin_ns: int, until_ns: int) -> None:
        """Begin: due times count from ``origin_ns``, nothing begins at ``until_ns`` or later."""
        self._operations = operations
        self._origin_ns = origin_ns
        self._until_ns = until_ns
        self._plan_next(0)

    def abandon(self) -> None:
        """The run ends: record what is in progress as far as it is known."""
        self._next = None
        self._operations = iter(())
        if self._call is not None:
            self._call.open = False
            self._call = None
        operation = self.session.abandon()
        if operation is not None:
            self._recorder.operations.append(operation)

    def _plan_next(self, rest_ns: int) -> None:
        planned = self._next = next(self._operations, None)
        if planned is None:
            return
        begin_ns = now_ns = self._timeline.now_ns
        if planned.due_ns is None:
            begin_ns += max(rest_ns, self.session.client.think_ns)
        else:
            begin_ns = max(begin_ns, self._origin_ns + planned.due_ns)
        if begin_ns >= self._until_ns:
            self._drop_rest(planned)
        elif begin_ns == now_ns:
            self._begin(planned)
        else:
            self._timeline.at(begin_ns, self._begin, planned)

    def _drop_rest(self, planned: PlannedOperation) -> None:
        """Begin nothing more; count what was due in time and comes too late."""
        last_ns = self._until_ns - self._origin_ns
        if planned.due_ns is not None:
            dues = (planned.due_ns, *(each.due_ns for each in self._operations))
            self._recorder.unsent += sum(due_ns is not None and due_ns < last_ns for due_ns in dues)
        self._next = None
        self._operations = iter(())

    def _begin(self, planned: PlannedOperation) -> None:
        if planned is not self._next:
            return  # abandoned meanwhile
        now_ns = self._timeline.now_ns
        intended_ns = now_ns
        if planned.due_ns is not None:
            intended_ns = self._origin_ns + planned.due_ns
        step = self.session.begin(
            now_ns,
            planned,
            index=self._recorder.next_index(),
            phase=self._phase_at(intended_ns),
            intended_ns=intended_ns,
        )
        self._perform(step)

    def _perform(self, step: Step) -> None:
        if isinstance(step, Attempt):
            self._deadline_ns = step.deadline_ns
            self._call = self._world.call(
                self.session.client.name,
                step.node,
                step.request,
                step.node_timeout_ns,
                self._answered,
            )
            if self._alarm_ns is None or self._alarm_ns > step.deadline_ns:
                self._alarm_ns = step.deadline_ns
                self._timeline.at(step.deadline_ns, self._alarm, step.deadline_ns)
        elif isinstance(step, Wait):
            self._timeline.at(step.until_ns, self._resume)
        else:
            assert isinstance(step, Finished), "there is no fourth step"
            self._recorder.operations.append(step.operation)
            self._plan_next(step.rest_ns)

    def _answered(self, result: Result) -> None:
        assert not isinstance(result, control_pb2.CommandResponse), "clients give no commands"
        self._call = None
        self._perform(self.session.answered(self._timeline.now_ns, result))

    def _resume(self, _: None) -> None:
        if self.session.busy:
            self._perform(self.session.resume(self._timeline.now_ns))

    def _alarm(self, when_ns: int) -> None:
        """One timer per client, set anew only when it goes off: most attempts are answered."""
        if when_ns != self._alarm_ns:
            return
        self._alarm_ns = None
        if self._call is None:
            return
        if when_ns < self._deadline_ns:
            self._alarm_ns = self._deadline_ns
            self._timeline.at(self._deadline_ns, self._alarm, self._deadline_ns)
            return
        self._call.open = False
        self._call = None
        self._perform(self.session.timed_out(self._timeline.now_ns))
