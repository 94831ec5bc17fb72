"""How long the legs of operations took, one way, in virtual time: what PBS predicts from.

A real process knows when it sent and when it received, but not how long what it sent had waited at
the other end for a disk or a turn; here both ends are on one timeline. ``write`` (a copy on its way
to a replica) and the two replies count from the moment they left, since the acknowledgement of the
coordinator's own copy waits for the same sync; the others from the moment the core decided.
"""

from collections.abc import Mapping

from google.protobuf.message import Message

from replication.protocol import NodeId, RequestBody

SAMPLES_MAX = 4_000  # of each leg; above it every second one is dropped, evenly in time
FROM_LEAVING = frozenset({"write", "backward"})


class _Thinned:
    """Values of which at most ``SAMPLES_MAX`` are kept, at even distances."""

    __slots__ = ("_seen", "_stride", "values")

    def __init__(self) -> None:
        self.values: list[int] = []
        self._seen = 0
        self._stride = 1

    def add(self, value: int) -> None:
        if self._seen % self._stride == 0:
            self.values.append(value)
            if len(self.values) > SAMPLES_MAX:
                self.values = self.values[::2]
                self._stride *= 2
        self._seen += 1


class Legs:
    """Collects the delays of a run. ``fields`` says which part of a message travels which leg."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._parts = [(leg, *path.split(".")) for leg, path in fields.items()]
        self._found = {leg: _Thinned() for leg in (*fields, "request", "reply")}
        self._emitted: dict[tuple[int, NodeId], int] = {}
        self._left: dict[tuple[int, NodeId], int] = {}
        self._called: dict[int, int] = {}

    def emitted(self, message: Message, to: NodeId, at_ns: int) -> None:
        """The core decided to send."""
        self._emitted[id(message), to] = at_ns

    def left(self, message: Message, to: NodeId, at_ns: int) -> None:
        """The message was handed to the link."""
        self._left[id(message), to] = at_ns

    def received(self, message: Message, by: NodeId, at_ns: int) -> None:
        """The core of the receiver has the message; a repetition of it counts for nothing."""
        emitted_ns = self._emitted.pop((id(message), by), None)
        left_ns = self._left.pop((id(message), by), emitted_ns)
        if emitted_ns is None or left_ns is None:
            return
        for leg, kind, part in self._parts:
            if message.HasField(kind) and len(getattr(getattr(message, kind), part)):
                from_ns = left_ns if leg in FROM_LEAVING else emitted_ns
                self._found[leg].add(at_ns - from_ns)

    def called(self, body: RequestBody, at_ns: int) -> None:
        """A client sent an operation."""
        self._called[id(body)] = at_ns

    def submitted(self, body: RequestBody, at_ns: int) -> None:
        """The core of a node has it."""
        called_ns = self._called.pop(id(body), None)
        if called_ns is not None:
            self._found["request"].add(at_ns - called_ns)

    def replied(self, delay_ns: int) -> None:
        """An answer takes this long to the client."""
        self._found["reply"].add(delay_ns)

    def delays(self) -> dict[str, list[int]]:
        """Return leg -> delays in the order of their ends."""
        return {leg: found.values for leg, found in self._found.items() if found.values}
