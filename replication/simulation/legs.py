"""The one-way delays of a simulated run: both ends of every message are on one timeline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.message import Message

from replication.legs import COPY, OWN, LegDelays, undisturbed
from replication.protocol import NodeId, Persist, RequestBody, Send


@dataclass(slots=True)
class Copy:
    """A copy of a write on its way to a replica, whose sender keeps one itself."""

    send: Send  # held, so that no other message gets its identity
    left_ns: int | None = None


class Legs:
    """Follows messages, operations and answers from the moment they are decided or leave."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._delays = LegDelays(fields)
        self._emitted: dict[tuple[int, NodeId], int] = {}
        self._left: dict[tuple[int, NodeId], int] = {}
        self._called: dict[int, int] = {}
        self._copies: dict[tuple[int, NodeId], Copy] = {}  # while the own one is not durable

    def emitted(self, message: Message, to: NodeId, at_ns: int) -> None:
        """The core decided to send."""
        self._emitted[id(message), to] = at_ns

    def left(self, message: Message, to: NodeId, at_ns: int) -> None:
        """The message was handed to the link."""
        self._left[id(message), to] = at_ns
        copy = self._copies.get((id(message), to))
        if copy is not None:
            copy.left_ns = at_ns

    def received(self, message: Message, by: NodeId, at_ns: int) -> None:
        """The core of the receiver has the message; a repetition of it counts for nothing."""
        emitted_ns = self._emitted.pop((id(message), by), None)
        left_ns = self._left.pop((id(message), by), emitted_ns)
        if emitted_ns is not None and left_ns is not None:
            self._delays.message(message, emitted_ns, left_ns, at_ns)

    def copy_in(self, effects: Sequence[object]) -> Copy | None:
        """Return the first copy of a write that is sent in the same turn as one is kept."""
        if any(type(effect) is Persist for effect in effects):
            for effect in effects:
                if isinstance(effect, Send) and COPY in self._delays.travelled(effect.message):
                    copy = self._copies[id(effect.message), effect.to] = Copy(effect)
                    return copy
        return None

    def durable(self, copy: Copy, at_ns: int) -> None:
        """The coordinator's own copy is on its disk."""
        del self._copies[id(copy.send.message), copy.send.to]
        self._delays.add(OWN, at_ns if copy.left_ns is None else copy.left_ns, at_ns)

    def called(self, body: RequestBody, at_ns: int) -> None:
        """A client sent an operation."""
        self._called[id(body)] = at_ns

    def submitted(self, body: RequestBody, at_ns: int) -> None:
        """The core of a node has it."""
        called_ns = self._called.pop(id(body), None)
        if called_ns is not None:
            self._delays.add("request", called_ns, at_ns)

    def replied(self, at_ns: int, delay_ns: int) -> None:
        """An answer takes this long to the client."""
        self._delays.add("reply", at_ns, at_ns + delay_ns)

    def delays(self, windows: Sequence[tuple[int, int]]) -> dict[str, list[int]]:
        """Return leg -> delays in the order of their ends, without those during ``windows``."""
        spans = {leg: thinned.spans for leg, thinned in self._delays.found.items()}
        return undisturbed(spans, windows)
