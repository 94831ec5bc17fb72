"""Operations by the stream: no task, no future and no coroutine per operation.

Everything that completes during one turn of the loop, or while a response is being written, goes
into the next response. A caller that sends faster than it is answered, or does not read, is not
read from any more: the stream's flow control passes that on.
"""

import asyncio
from typing import Any

import grpc.aio

from replication.errors import InvalidRequest, OperationError, Overloaded
from replication.host.edge import failure
from replication.host.node import Node
from replication.protocol import Backend, Response, check
from replication.v1 import storage_pb2

UNANSWERED_MAX = 4096  # operations of one stream whose results are not written yet
RESPONSE_BYTES = 1024 * 1024  # of values; a response is closed when it holds as much

_Context = grpc.aio.ServicerContext[storage_pb2.PipelineRequest, storage_pb2.PipelineResponse]


class Pipeline:
    """One stream. The node calls ``complete`` for each operation exactly once."""

    def __init__(self, node: Node, backend: Backend, context: _Context, limit_ns: int) -> None:
        """Serve ``context``; operations that name no timeout get ``limit_ns``."""
        self._node = node
        self._backend = backend
        self._context = context
        self._limit_ns = limit_ns
        self._stamps = node.stamps
        self._responses: list[storage_pb2.PipelineResponse] = []
        self._value_bytes = 0  # in the last response
        self._unanswered = 0
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._no_more_requests = False
        self._gone = False

    async def run(self) -> None:
        """Serve until the caller has half-closed and has all its answers."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._write(), name="pipeline results")
                await self._read()
        finally:
            self._gone = True

    async def _read(self) -> None:
        while True:
            request = await self._context.read()
            if not isinstance(request, storage_pb2.PipelineRequest):
                break
            now_ns = self._node.now_ns()
            for operation in request.operations:
                self._submit(operation, now_ns)
            while self._unanswered >= UNANSWERED_MAX:
                self._room.clear()
                await self._room.wait()
        self._no_more_requests = True
        self._news.set()

    def _submit(self, operation: storage_pb2.PipelineOperation, now_ns: int) -> None:
        self._unanswered += 1
        number = operation.number
        kind = operation.WhichOneof("request")
        if kind is None:
            self.complete(number, InvalidRequest("the operation has no request"))
            return
        body: Any = getattr(operation, kind)
        problem = check(self._backend, body)
        if problem is not None:
            self.complete(number, InvalidRequest(problem))
            return
        try:
            timeout_ns = operation.timeout_ms * 1_000_000 or self._limit_ns
            self._node.submit(self, number, body, now_ns + timeout_ns)
        except Overloaded as error:
            self.complete(number, error)

    def complete(self, token: int, result: Response | OperationError) -> None:
        """Put a result into the next response."""
        if self._gone:
            return
        if not self._responses or self._value_bytes >= RESPONSE_BYTES:
            self._responses.append(storage_pb2.PipelineResponse())
            self._value_bytes = 0
            self._news.set()
        slot = self._responses[-1].results.add()
        slot.number = token
        if self._stamps is not None:
            slot.left_ns = self._stamps.now_ns
        if isinstance(result, storage_pb2.PutResponse):
            slot.put.CopyFrom(result)
        elif isinstance(result, storage_pb2.GetResponse):
            slot.get.CopyFrom(result)
            for version in result.versions:
                self._value_bytes += len(version.value)
        elif isinstance(result, storage_pb2.DeleteResponse):
            slot.delete.CopyFrom(result)
        elif isinstance(result, storage_pb2.CompareAndSetResponse):
            slot.compare_and_set.CopyFrom(result)
        elif isinstance(result, OperationError):
            slot.failure.CopyFrom(failure(result))

    async def _write(self) -> None:
        while self._unanswered or not self._no_more_requests:
            await self._news.wait()
            self._news.clear()
            while self._responses:
                # Out of the list first: what completes while it is written goes into the next.
                response = self._responses.pop(0)
                await self._context.write(response)
                self._unanswered -= len(response.results)
                self._room.set()
