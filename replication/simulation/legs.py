"""How long the legs of operations took, one way, in virtual time: what PBS predicts from.

A real process knows when it sent and when it received, but not how long what it sent had waited at
the other end for a disk or a turn; here both ends are on one timeline. ``write`` (a copy on its way
to a replica) and the two replies count from the moment they left, since the acknowledgement of the
coordinator's own copy waits for the same sync; the others from the moment the core decided.

What was on its way while a fault lasted is left out: the reads that are predicted are those while
nothing failed.
"""

from collections.abc import Mapping, Sequence

from google.protobuf.message import Message

from replication.protocol import NodeId, RequestBody

SAMPLES_MAX = 4_000  # of each leg; above it every second one is dropped, evenly in time
FROM_LEAVING = frozenset({"write", "backward"})


class _Thinned:
    """(begin, end) of which at most ``SAMPLES_MAX`` are kept, at even distances."""

    __slots__ = ("_seen", "_stride", "spans")

    def __init__(self) -> None:
        self.spans: list[tuple[int, int]] = []
        self._seen = 0
        self._stride = 1

    def add(self, begin_ns: int, end_ns: int) -> None:
        if self._seen % self._stride == 0:
            self.spans.append((begin_ns, end_ns))
            if len(self.spans) > SAMPLES_MAX:
                self.spans = self.spans[::2]
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
                self._found[leg].add(from_ns, at_ns)

    def called(self, body: RequestBody, at_ns: int) -> None:
        """A client sent an operation."""
        self._called[id(body)] = at_ns

    def submitted(self, body: RequestBody, at_ns: int) -> None:
        """The core of a node has it."""
        called_ns = self._called.pop(id(body), None)
        if called_ns is not None:
            self._found["request"].add(called_ns, at_ns)

    def replied(self, at_ns: int, delay_ns: int) -> None:
        """An answer takes this long to the client."""
        self._found["reply"].add(at_ns, at_ns + delay_ns)

    def delays(self, faults: Sequence[tuple[int, int]]) -> dict[str, list[int]]:
        """Return leg -> delays in the order of their ends, without those during ``faults``.

        These are (begin, end). A leg without any is left out.
        """
        found = {
            leg: [
                end_ns - begin_ns
                for begin_ns, end_ns in thinned.spans
                if not any(begin_ns <= last and first <= end_ns for first, last in faults)
            ]
            for leg, thinned in self._found.items()
        }
        return {leg: delays for leg, delays in found.items() if delays}
