"""When messages began their way, to tell how long they took (``replication.legs``).

One message in some carries a stamp, and its receiver takes the time at which its core has it.
Everything that happens in one turn of the core happens at one moment, that of the turn's begin, and
so does everything that one sync lets go: what ends in a turn and what begins in it then add up.

The clock is the machine's own, whatever the core is shown.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence

from google.protobuf.message import Message

from replication.legs import COPY, OWN, LegDelays
from replication.protocol import Send
from replication.v1 import peer_pb2

WINDOW_NS = 100_000_000
WINDOW_STAMPS = 100  # about as many messages of one window carry a stamp


class Stamped(bytes):
    """A message as it goes into a frame, with when it began its way."""

    decided_ns: int
    left_ns: int


class Chosen(Send):
    """A message that is to carry a stamp."""

    __slots__ = ("decided_ns", "left_ns")

    def __init__(self, send: Send, decided_ns: int) -> None:
        super().__init__(send.to, send.message)
        self.decided_ns = decided_ns
        self.left_ns = 0  # not yet


class Stamps:
    """Belongs to one node. ``now_ns`` is the moment of the turn, or of the sync that ended."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        """Take from ``fields`` which part of a message travels which leg."""
        self.delays = LegDelays(fields)
        self.now_ns = 0
        self._copy: Chosen | None = None  # that is in the list of effects
        self._writing: deque[tuple[int, Chosen]] = deque()  # and the batch of the own copy
        self._arrived: list[tuple[Message, peer_pb2.Stamp]] = []
        self._window_end_ns = 0
        self._stride = 1
        self._count = 0

    def turn(self, now_ns: int) -> None:
        """A turn begins: its core has everything that waited."""
        self.now_ns = now_ns
        for message, stamp in self._arrived:
            self.delays.message(message, stamp.decided_ns, stamp.left_ns, now_ns, stamp.sent_ns)
        self._arrived.clear()

    def arrived(self, message: Message, stamp: peer_pb2.Stamp) -> None:
        """A message waits for the next turn."""
        self._arrived.append((message, stamp))

    def choose(self, send: Send) -> Send:
        """Return a message that is to carry a stamp as one, as many as keep the rate."""
        if self.now_ns >= self._window_end_ns:
            self._window_end_ns = self.now_ns + WINDOW_NS
            self._stride = 1 + self._count // WINDOW_STAMPS
            self._count = 0
        self._count += 1
        if self._count % self._stride:
            return send
        chosen = Chosen(send, self.now_ns)
        if self._copy is None and COPY in self.delays.travelled(send.message):
            self._copy = chosen
        return chosen

    def left(self, chosen: Chosen, data: bytes) -> Stamped:
        """Return the message, serialised already, as it leaves."""
        stamped = Stamped(data)
        stamped.decided_ns = chosen.decided_ns
        stamped.left_ns = chosen.left_ns = self.now_ns
        return stamped

    def listed(self, appended: int | None) -> None:
        """A list of effects is at its end; ``appended`` is the batch of its own writes, if any."""
        if self._copy is not None and appended is not None:
            self._writing.append((appended, self._copy))
        self._copy = None

    def synced(self, sequence: int) -> None:
        """Batches up to ``sequence`` are durable, and what waited for them is about to leave."""
        while self._writing and self._writing[0][0] <= sequence:
            copy = self._writing.popleft()[1]
            self.delays.add(OWN, copy.left_ns or self.now_ns, self.now_ns)


def stamps_of(frame: Sequence[bytes], now_ns: int) -> Iterator[peer_pb2.Stamp]:
    """Yield what a frame that is sent now says besides its messages."""
    for position, message in enumerate(frame):
        if type(message) is Stamped:
            yield peer_pb2.Stamp(
                position=position,
                decided_ns=message.decided_ns,
                left_ns=message.left_ns,
                sent_ns=now_ns,
            )
