"""An operator in virtual time: asks a cluster until it is done, or refused for good."""

from collections.abc import Callable
from dataclasses import dataclass

from replication.client import command
from replication.client.command import CommandSession
from replication.errors import Indefinite, OperationError
from replication.simulation.watching import Call, Result
from replication.simulation.world import World
from replication.v1 import control_pb2

Done = Callable[[control_pb2.CommandResponse | None], None]


@dataclass(slots=True)
class Operator:
    """Performs one ``CommandSession``; ``done`` is called with the answer, or None."""

    world: World
    session: CommandSession
    done: Done
    give_up_ns: int = 0
    call: Call | None = None

    def begin(self) -> None:
        """Ask for the first time."""
        self.give_up_ns = self.world.now_ns + command.LIMIT_NS
        self._ask(None)

    def _ask(self, _: None) -> None:
        now_ns = self.world.now_ns
        timeout_ns = min(command.ATTEMPT_NS, self.give_up_ns - now_ns)
        if timeout_ns <= 0:
            self.session.failed(Indefinite("TIMEOUT", "it was not done in time"))
            self.done(None)
            return
        session = self.session
        self.call = self.world.command(session.node, session.request, timeout_ns, self._answered)
        self.world.timeline.after(timeout_ns, self._timed_out, self.call)

    def _timed_out(self, call: Call) -> None:
        if call is self.call and call.open:
            call.open = False
            self._answered(Indefinite("TIMEOUT", "no answer in time"))

    def _answered(self, result: Result) -> None:
        if not isinstance(result, OperationError):
            assert isinstance(result, control_pb2.CommandResponse), "a command gets its response"
            self.done(result)
        elif self.session.failed(result):
            self.world.timeline.after(command.PAUSE_NS, self._ask)
        else:
            self.done(self.session.done_before())
