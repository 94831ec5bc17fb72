"""What looks at every step of a simulation, and how a step that must not be ends it."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from replication.errors import OperationError
from replication.protocol import Core, Effect, NodeId, RequestBody, Response

Result: TypeAlias = Response | OperationError


class Call:
    """One attempt of a client at one node."""

    __slots__ = ("answer", "body", "client", "open", "timeout_ns")

    def __init__(
        self,
        client: str,
        body: RequestBody,
        timeout_ns: int,
        answer: Callable[["Call", int, Result], None],
    ) -> None:
        self.client = client
        self.body = body
        self.timeout_ns = timeout_ns  # what the node is given
        self.answer = answer  # (call, when it leaves the node, result)
        self.open = True  # the client still waits


class Watcher(Protocol):
    """Looks at every step of every node, and raises AssertionError when it does not like it.

    ``stepped`` sees what the core has in memory, which nobody else may have heard of yet: what it
    returns (unless None) is given back to ``released`` once everything that the step wrote is
    durable, before what the step lists behind it leaves. A crash before that takes it away with the
    rest. ``stopped`` is told of a wiped disk separately. ``clock_runs`` comes before every start,
    and whenever the rate of a node's clock changes: some promises rest on it.
    """

    def clock_runs(self, node: NodeId, ppm: int) -> None: ...

    def started(self, node: NodeId, core: Core) -> None: ...

    def submitted(self, node: NodeId, body: RequestBody) -> None: ...

    def stepped(self, node: NodeId, core: Core, effects: Sequence[Effect]) -> object | None: ...

    def released(self, node: NodeId, core: Core, token: object) -> None: ...

    def replied(self, node: NodeId, body: RequestBody, result: Result) -> None: ...

    def stopped(self, node: NodeId, wiped: bool) -> None: ...


class Released:
    """A mark in the line of effects: every write in front of it is durable."""

    __slots__ = ("token",)

    def __init__(self, token: object) -> None:
        self.token = token


class CoreFailed(Exception):
    """A core, or the watcher that looked at it, raised ``error`` in a step of ``node``."""

    def __init__(self, node: NodeId, error: Exception) -> None:
        super().__init__(f"{node}: {type(error).__name__}: {error}")
        self.node = node
        self.error = error
