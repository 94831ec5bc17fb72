"""The ``Pipeline`` stream to one node, shared by all clients of a process.

Operations that are submitted in one turn of the loop, or while a message is being written, go into
one message: a message costs 30 to 100 times as much as an operation in it. No task is made and no
timer is set per operation; whoever submits keeps the deadlines.
"""

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Protocol, TypeAlias

import grpc
import grpc.aio

from replication.client.channel import open_channel
from replication.client.steps import Attempt
from replication.errors import Indefinite, OperationError, Unreachable, operation_error
from replication.protocol import NodeId, StorageResponse
from replication.v1 import storage_pb2, storage_pb2_grpc

if TYPE_CHECKING:
    PipelineCall: TypeAlias = grpc.aio.StreamStreamCall[
        storage_pb2.PipelineRequest, storage_pb2.PipelineResponse
    ]

REOPEN_S = 0.02
MESSAGE_BYTES_MAX = 1024 * 1024  # of values joined in one message; a larger one goes alone
_NANOSECONDS_PER_MS = 1_000_000


class Sink(Protocol):
    """Takes the results of attempts. It may submit further attempts while it does."""

    def answered(self, attempt: Attempt, result: StorageResponse | OperationError) -> None:
        """Take the result of ``attempt``, which may have timed out long ago."""
        ...


class Pipeline:
    """One node's stream, reconnected for ever until it is closed."""

    def __init__(self, node: NodeId, address: str) -> None:
        """Needs a running loop; begins to connect at once."""
        self.node = node
        self.connections = 0
        self._address = address
        self._open = False
        self._opened = asyncio.Event()
        self._number = 0
        self._queue: list[storage_pb2.PipelineOperation] = []
        self._value_bytes = 0  # in the queue
        self._waiting: dict[int, tuple[Sink, Attempt]] = {}  # queued or written, by number
        self._writable: asyncio.Future[None] | None = None  # the writer waits for work
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def opened(self) -> None:
        """Wait until the stream is open."""
        opening = asyncio.ensure_future(self._opened.wait())
        await asyncio.wait((opening, self._task), return_when=asyncio.FIRST_COMPLETED)
        opening.cancel()
        if self._task.done():
            self._task.result()

    def submit(self, attempt: Attempt, sink: Sink) -> bool:
        """Send ``attempt`` soon; False when there is no connection, and then nothing is sent.

        Otherwise the sink gets exactly one result, unless the node never answers.
        """
        if not self._open:
            return False
        self._number = number = self._number + 1
        timeout_ms = max(attempt.node_timeout_ns // _NANOSECONDS_PER_MS, 1)
        operation = _numbered(number, timeout_ms, attempt)
        self._queue.append(operation)
        self._value_bytes += _value_bytes(operation)
        self._waiting[number] = (sink, attempt)
        if self._writable is not None:
            self._writable.set_result(None)
            self._writable = None
        return True

    async def close(self) -> None:
        """Break the stream; raise what ended it if that was a mistake of ours."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        channel = open_channel(self._address)
        try:
            while True:
                await channel.channel_ready()
                await self._serve(storage_pb2_grpc.StorageServiceStub(channel).Pipeline())
                # A server that refuses every stream would keep us busy with nothing else.
                await asyncio.sleep(REOPEN_S)
        finally:
            await channel.close()

    async def _serve(
        self,
        call: "PipelineCall",
    ) -> None:
        """Use one stream until it breaks, then tell the fate of what is outstanding."""
        self.connections += 1
        self._open = True
        self._opened.set()
        writer = asyncio.get_running_loop().create_task(self._write(call))
        code = "UNAVAILABLE"
        try:
            while (response := await call.read()) is not grpc.aio.EOF:
                assert isinstance(response, storage_pb2.PipelineResponse)
                self._take(response)
        except grpc.aio.AioRpcError as error:
            code = error.code().name
        finally:
            self._open = False
            self._opened.clear()
            writer.cancel()
            await asyncio.wait((writer,))
            call.cancel()
            self._broken(code)
        if not writer.cancelled():
            writer.result()

    async def _write(
        self,
        call: "PipelineCall",
    ) -> None:
        try:
            while True:
                if not self._queue:
                    self._writable = asyncio.get_running_loop().create_future()
                    await self._writable
                await call.write(storage_pb2.PipelineRequest(operations=self._next_batch()))
        except (grpc.RpcError, asyncio.InvalidStateError):
            pass  # the reader learns of it too, and knows the status
        finally:
            self._writable = None

    def _next_batch(self) -> list[storage_pb2.PipelineOperation]:
        batch, self._queue = self._queue, []
        if self._value_bytes > MESSAGE_BYTES_MAX:
            batch, self._queue = _split(batch)
        self._value_bytes = sum(_value_bytes(each) for each in self._queue)
        now_ns = time.monotonic_ns()
        for operation in batch:
            self._waiting[operation.number][1].sent_ns = now_ns
        return batch

    def _take(self, response: storage_pb2.PipelineResponse) -> None:
        for result in response.results:
            found = self._waiting.pop(result.number, None)
            if found is not None:
                sink, attempt = found
                attempt.left_ns = result.left_ns
                sink.answered(attempt, _result(result))

    def _broken(self, code: str) -> None:
        """What was never handed to gRPC was not sent; of the rest nobody knows."""
        unsent = {operation.number for operation in self._queue}
        self._queue, self._value_bytes = [], 0
        waiting, self._waiting = self._waiting, {}
        for number, (sink, attempt) in waiting.items():
            if number in unsent:
                sink.answered(attempt, Unreachable(self.node))
            else:
                sink.answered(attempt, Indefinite(code, f"the connection to {self.node} broke"))


def _numbered(number: int, timeout_ms: int, attempt: Attempt) -> storage_pb2.PipelineOperation:
    request = attempt.request
    match request:
        case storage_pb2.GetRequest():
            return storage_pb2.PipelineOperation(number=number, timeout_ms=timeout_ms, get=request)
        case storage_pb2.PutRequest():
            return storage_pb2.PipelineOperation(number=number, timeout_ms=timeout_ms, put=request)
        case storage_pb2.DeleteRequest():
            return storage_pb2.PipelineOperation(
                number=number, timeout_ms=timeout_ms, delete=request
            )
        case storage_pb2.CompareAndSetRequest():
            return storage_pb2.PipelineOperation(
                number=number, timeout_ms=timeout_ms, compare_and_set=request
            )


def _value_bytes(operation: storage_pb2.PipelineOperation) -> int:
    # Asking for a part that is not set makes an empty one, in half a microsecond.
    return len(operation.put.value) or len(operation.compare_and_set.value)


def _split(
    queue: list[storage_pb2.PipelineOperation],
) -> tuple[list[storage_pb2.PipelineOperation], list[storage_pb2.PipelineOperation]]:
    """Return what goes into the next message, at least one operation, and the rest."""
    size = 0
    for count, operation in enumerate(queue):
        size += _value_bytes(operation)
        if size > MESSAGE_BYTES_MAX and count:
            return queue[:count], queue[count:]
    return queue, []


def _result(result: storage_pb2.PipelineResult) -> StorageResponse | OperationError:
    match result.WhichOneof("result"):
        case "get":
            return result.get
        case "put":
            return result.put
        case "delete":
            return result.delete
        case "compare_and_set":
            return result.compare_and_set
        case "failure":
            failure = result.failure
            return operation_error(failure.reason, failure.message, failure.metadata)
    return Indefinite("UNKNOWN", "the node answered without a result")
