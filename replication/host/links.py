"""Streams to the peers: one frame outstanding, everything that queues up meanwhile in the next.

An acknowledgement waits a moment for replies and takes them along: a frame costs each end as much
as a turn of its core, and so a request and its reply are two of them, not four.

A link never blocks the node and never keeps a message for long: what the peer does not take in time
is dropped and counted, as the protocols allow. It never gives up either: a peer that comes back is
found again within about a tenth of a second.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from random import Random
from typing import Any, Protocol, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from replication.host.config import MESSAGE_BYTES_MAX, SECRET_METADATA
from replication.host.faults import Fault, Gate
from replication.host.stamps import stamps_of
from replication.v1 import control_pb2, peer_pb2, peer_pb2_grpc

log = logging.getLogger("replication.host")

FRAME_BYTES = 1024 * 1024  # a frame is closed when it holds as much; one larger message goes alone
QUEUE_BYTES_MAX = 16 * 1024 * 1024
# How long an acknowledgement waits for a message to take along; the peer's next frame waits too.
ANSWER_SECONDS = 0.001
RETRY_SECONDS = 0.08  # between attempts to connect
CONNECT_TIMEOUT_SECONDS = 1.0
STALL_SECONDS = 0.5  # without an acknowledgement for this long the peer counts as unreachable

_CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    # Each attempt to connect is a new channel with its own connection: gRPC's back-off, at least a
    # second by default and shared by all channels to an address, never sees a second attempt.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    # A peer that vanished without a word (another machine, later) is noticed in the end.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)

_T = TypeVar("_T")
Write = Callable[[peer_pb2.ExchangeResponse], Awaitable[None]]
_Stream = grpc.aio.StreamStreamCall[peer_pb2.ExchangeRequest, peer_pb2.ExchangeResponse]


class Receive(Protocol):
    """Takes what a peer said, and when it began its way if that came with it."""

    def __call__(
        self, sender: str, message: Message, stamp: peer_pb2.Stamp | None = None, /
    ) -> None:
        """Take one message."""
        ...


# How a stream that broke shows itself, depending on what was being done with it at that moment:
# grpc.aio raises InvalidStateError from a write on a call that has just finished.
_BREAKS = (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError, OSError)


class Link:
    """Everything between this node and one peer, both directions' faults and counters included."""

    def __init__(
        self,
        node: str,
        peer: str,
        address: str,
        secret: str,
        rng: Random,
        parse: Callable[[bytes], Message],
        *,
        stamps: bool = False,
    ) -> None:
        """Make the link; ``start`` connects it. ``parse`` raises DecodeError.

        With ``stamps`` some messages are Stamped, which frames then say.
        """
        self.peer = peer
        self._node = node
        self._address = address
        self._parse = parse
        self._stamps = stamps
        self._receive: Receive = lambda _sender, _message, _stamp=None: None
        self._metadata = grpc.aio.Metadata((SECRET_METADATA, secret))
        self.outbound = Gate(rng)
        self.inbound = Gate(rng)
        self._queue: list[bytes] = []
        self._queued_bytes = 0
        self._more = asyncio.Event()
        self._owed: asyncio.Future[None] | None = None  # done when the acknowledgement may go
        self._unreachable = False  # messages are dropped at once
        self._accepted = False  # the peer has accepted the stream
        self._task: asyncio.Task[None] | None = None
        self.messages_sent = 0
        self.bytes_sent = 0
        self.frames_sent = 0
        self.messages_received = 0
        self.queue_dropped = 0

    def start(
        self,
        receive: Receive,
        failed: Callable[[BaseException], None],
        *,
        at_once: bool = True,
    ) -> None:
        """Connect (``at_once``, or with the first message), and stay connected, until ``stop``.

        ``receive`` takes what the peer says, ``failed`` hears of a bug in here.
        """
        self._receive = receive

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                failed(error)

        self._task = asyncio.create_task(self._run(at_once), name=f"link to {self.peer}")
        self._task.add_done_callback(ended)

    async def stop(self) -> None:
        """Close the connection."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    @property
    def connected(self) -> bool:
        """Return whether the peer takes messages, as far as this node knows."""
        return self._accepted and not self._unreachable

    def send(self, message: bytes) -> None:
        """Queue a message for the next frame, or drop it. Never blocks."""
        if self.outbound.fault is None:
            self._enqueue(message)
        else:
            _pass(self.outbound, self._enqueue, message, len(message))

    def take(self, messages: Iterable[bytes], stamps: Iterable[peer_pb2.Stamp] = ()) -> None:
        """Hand on what came from the peer, as far as the fault lets it through.

        Raises DecodeError when one is no message of this backend; those before it were taken.
        """
        stamped = {stamp.position: stamp for stamp in stamps} if self._stamps else {}
        for position, data in enumerate(messages):
            message = self._parse(data)
            self.messages_received += 1
            stamp = stamped.get(position) if stamped else None
            if self.inbound.fault is None:
                self._receive(self.peer, message, stamp)
            else:
                _pass(self.inbound, partial(self._arrived, stamp), message, len(data))

    async def acknowledge(self, frame: int, write: Write) -> None:
        """Acknowledge a frame of the peer by ``write``, with what there is to say to the peer.

        Waits up to ANSWER_SECONDS for the first message, which comes with the turn that the frame
        itself leads to when that turn needs no slow disk.
        """
        loop = asyncio.get_running_loop()
        owed = self._owed = loop.create_future()
        patience = loop.call_later(ANSWER_SECONDS, _settle, owed)
        try:
            await owed
        finally:
            patience.cancel()
            if self._owed is owed:
                self._owed = None
            if self._queue:
                self._more.set()  # if not below, then by this node's own stream
        messages = self._next_frame() if self._queue else []
        try:
            response = peer_pb2.ExchangeResponse(frame=frame, messages=messages)
            if self._stamps:
                response.stamps.extend(stamps_of(messages, time.monotonic_ns()))
            await write(response)
        except BaseException:
            self.queue_dropped += len(messages)
            raise
        self._count(messages)

    def set_faults(self, outbound: Fault | None, inbound: Fault | None) -> None:
        """Put other faults, or none, in force from the next message on.

        A cut also takes what waits for the next frame. Messages that an earlier fault delays still
        arrive when they are due.
        """
        self.outbound.fault = outbound
        self.inbound.fault = inbound
        if outbound is not None and outbound.loss >= 1:
            self.outbound.dropped += len(self._queue)
            self._clear()

    def status(self) -> control_pb2.LinkStatus:
        """Return the state of the link, and its counters since the node started."""
        return control_pb2.LinkStatus(
            peer=self.peer,
            messages_sent=self.messages_sent,
            bytes_sent=self.bytes_sent,
            frames_sent=self.frames_sent,
            messages_received=self.messages_received,
            outbound_dropped=self.outbound.dropped,
            inbound_dropped=self.inbound.dropped,
            delayed=self.outbound.delayed + self.inbound.delayed,
            queue_dropped=self.queue_dropped,
            duplicated=self.outbound.duplicated + self.inbound.duplicated,
            reordered=self.outbound.reordered + self.inbound.reordered,
            throttled=self.outbound.throttled + self.inbound.throttled,
            connected=self.connected,
        )

    def _enqueue(self, message: bytes) -> None:
        lost = self._unreachable and self._owed is None
        if lost or self._queued_bytes + len(message) > QUEUE_BYTES_MAX:
            self.queue_dropped += 1
            return
        self._queue.append(message)
        self._queued_bytes += len(message)
        if self._owed is None:
            self._more.set()
        else:
            _settle(self._owed)

    def _clear(self) -> None:
        self._queue.clear()
        self._queued_bytes = 0
        self._more.clear()

    def _lose_queue(self) -> None:
        self.queue_dropped += len(self._queue)
        self._clear()

    def _next_frame(self) -> list[bytes]:
        """Take from the queue what goes into the next frame, at least one message."""
        if self._queued_bytes <= FRAME_BYTES:
            frame = self._queue
            self._queue = []
            self._queued_bytes = 0
        else:
            size, count = len(self._queue[0]), 1
            while count < len(self._queue) and size + len(self._queue[count]) <= FRAME_BYTES:
                size += len(self._queue[count])
                count += 1
            frame = self._queue[:count]
            del self._queue[:count]
            self._queued_bytes -= size
        if not self._queue:
            self._more.clear()
        return frame

    async def _run(self, at_once: bool) -> None:
        if not at_once:
            await self._more.wait()
        while True:
            async with grpc.aio.insecure_channel(self._address, _CHANNEL_OPTIONS) as channel:
                try:
                    await self._exchange(peer_pb2_grpc.PeerServiceStub(channel))
                except _BREAKS as error:
                    self._lost(error)
            # What queued up during an attempt that failed is stale by the next one.
            self._lose_queue()
            await asyncio.sleep(RETRY_SECONDS)

    async def _exchange(self, stub: Any) -> None:
        """Connect and send frames until the connection breaks; raises what broke it."""
        stream: _Stream = stub.Exchange(metadata=self._metadata)
        async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
            # The peer answers a stream it accepts with its metadata at once. A connection alone
            # proves nothing: the kernel accepts it for a process that is stopped.
            await stream.initial_metadata()
        self._accepted = True
        # A break while there is nothing to send is to be seen before the next message is.
        stream.add_done_callback(lambda _: self._more.set())
        number = 0
        while not stream.done():
            self._found()
            await self._more.wait()
            if not self._queue:
                continue
            number += 1
            await self._send_frame(stream, number, self._next_frame())
        raise ConnectionError(await stream.details() or "the peer ended the stream")

    async def _send_frame(self, stream: _Stream, number: int, frame: list[bytes]) -> None:
        """Send one frame and wait for its acknowledgement, however long that takes."""
        request = peer_pb2.ExchangeRequest(
            sender=self._node if number == 1 else "", frame=number, messages=frame
        )
        if self._stamps:
            request.stamps.extend(stamps_of(frame, time.monotonic_ns()))
        watch = asyncio.get_running_loop().call_later(STALL_SECONDS, self._stalled)
        try:
            await stream.write(request)
            response = await stream.read()
            if not isinstance(response, peer_pb2.ExchangeResponse):
                raise ConnectionError("the peer ended the stream")
            if response.frame != number:
                raise ConnectionError(f"frame {response.frame} acknowledged, {number} was sent")
            self.take(response.messages, response.stamps)
        except DecodeError:
            raise ConnectionError("a message is not of this backend's type") from None
        except BaseException:
            self.queue_dropped += len(frame)
            raise
        finally:
            watch.cancel()
        self._count(frame)

    def _count(self, frame: list[bytes]) -> None:
        if frame:
            self.frames_sent += 1
            self.messages_sent += len(frame)
            self.bytes_sent += sum(map(len, frame))

    def _arrived(self, stamp: peer_pb2.Stamp | None, message: Message) -> None:
        self._receive(self.peer, message, stamp)

    def _found(self) -> None:
        if self._unreachable:
            log.info("link=up peer=%s", self.peer)
            self._unreachable = False

    def _stalled(self) -> None:
        if not self._unreachable:
            log.info("link=stalled peer=%s", self.peer)
            self._unreachable = True
        self._lose_queue()

    def _lost(self, error: Exception) -> None:
        self._accepted = False
        if not self._unreachable:
            detail = error.details() if isinstance(error, grpc.aio.AioRpcError) else error
            log.info("link=down peer=%s detail=%r", self.peer, str(detail))
            self._unreachable = True


def _settle(owed: asyncio.Future[None]) -> None:
    if not owed.done():
        owed.set_result(None)


def _pass(gate: Gate, accept: Callable[[_T], None], message: _T, size: int) -> None:
    """Apply the gate's fault: hand on each copy that it lets through, now or at its due time."""
    now_ns = time.monotonic_ns()  # the clock of the loop
    for delay_ns in gate.delays_ns(size, now_ns):
        if delay_ns == 0:
            accept(message)
        else:
            gate.in_flight += 1
            # Due by the same look at the clock: what waits for its turn is not to overtake.
            due_s = (now_ns + delay_ns) / 1e9
            asyncio.get_running_loop().call_at(due_s, _arrive, gate, accept, message)


def _arrive(gate: Gate, accept: Callable[[_T], None], message: _T) -> None:
    gate.in_flight -= 1
    accept(message)
