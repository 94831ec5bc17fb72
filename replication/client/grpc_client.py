"""Performs attempts over gRPC: many on the ``Pipeline`` streams, or one at a time as unary calls.

``Pipelines`` is the load driver's, ``UnaryClient`` is for single operations. Neither decides
anything: see ``session``.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import grpc
import grpc.aio
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from replication.client.channel import open_channel
from replication.client.pipeline import Pipeline, Sink
from replication.client.session import Session
from replication.client.steps import Attempt, Finished, Wait
from replication.errors import (
    ERROR_DOMAIN,
    Indefinite,
    OperationError,
    Unreachable,
    operation_error,
)
from replication.history import Phase
from replication.plan.model import PlannedOperation
from replication.protocol import NodeId, StorageResponse
from replication.v1 import storage_pb2, storage_pb2_grpc

if TYPE_CHECKING:
    from replication.v1.storage_pb2_grpc import StorageServiceAsyncStub

_NS_PER_S = 1_000_000_000


class Pipelines:
    """One ``Pipeline`` to each node, for all clients of this process."""

    def __init__(self, endpoints: Mapping[NodeId, str]) -> None:
        """Needs a running loop; begins to connect at once."""
        self._links = {node: Pipeline(node, address) for node, address in endpoints.items()}

    async def opened(self, timeout_s: float, nodes: Iterable[NodeId] | None = None) -> None:
        """Wait until ``nodes`` are connected, by default all; raise TimeoutError if too late."""
        async with asyncio.timeout(timeout_s):
            for node in self._links if nodes is None else nodes:
                await self._links[node].opened()

    def submit(self, attempt: Attempt, sink: Sink) -> bool:
        """Send ``attempt`` to its node soon; False when it is not connected: nothing is sent."""
        return self._links[attempt.node].submit(attempt, sink)

    async def close(self) -> None:
        """Close all streams; what is outstanding is answered as of unknown fate."""
        for link in self._links.values():
            await link.close()


class UnaryClient:
    """Performs whole operations of one session by unary calls."""

    def __init__(self, endpoints: Mapping[NodeId, str]) -> None:
        self._endpoints = dict(endpoints)
        self._channels: dict[NodeId, grpc.aio.Channel] = {}

    async def run(
        self, session: Session, planned: PlannedOperation, index: int = 0
    ) -> tuple[Finished, StorageResponse | None]:
        """Perform one operation to its end; return it, and the response when there was one."""
        result: StorageResponse | OperationError | None = None
        step: Attempt | Wait | Finished
        step = session.begin(time.monotonic_ns(), planned, index=index, phase=Phase.LOAD)
        while not isinstance(step, Finished):
            if isinstance(step, Wait):
                await asyncio.sleep((step.until_ns - time.monotonic_ns()) / _NS_PER_S)
                step = session.resume(time.monotonic_ns())
                continue
            result = await self.perform(step)
            now_ns = time.monotonic_ns()
            timed_out = isinstance(result, Indefinite) and result.code == "DEADLINE_EXCEEDED"
            step = session.timed_out(now_ns) if timed_out else session.answered(now_ns, result)
        return step, None if isinstance(result, OperationError) else result

    async def perform(self, attempt: Attempt) -> StorageResponse | OperationError:
        """Send one attempt and return its response, or the error that it ended with."""
        node = attempt.node
        channel = self._channels.get(node)
        if channel is None:
            channel = self._channels[node] = open_channel(self._endpoints[node])
        timeout_s = (attempt.deadline_ns - time.monotonic_ns()) / _NS_PER_S
        try:
            async with asyncio.timeout(timeout_s):
                if not await _connected(channel):
                    return Unreachable(node)
        except TimeoutError:
            return Unreachable(node)
        node_timeout_s = attempt.node_timeout_ns / _NS_PER_S
        try:
            return await _call(
                storage_pb2_grpc.StorageServiceStub(channel), attempt, node_timeout_s
            )
        except grpc.aio.AioRpcError as error:
            return error_of_call(error)

    async def close(self) -> None:
        """Close all connections."""
        for channel in self._channels.values():
            await channel.close()
        self._channels.clear()


async def _connected(channel: grpc.aio.Channel) -> bool:
    """Return True once the channel is connected, False as soon as the connection is refused.

    A call on a channel that is not connected fails with the same status as one that broke half way;
    only the former is known not to have been sent.
    """
    state = channel.get_state(try_to_connect=True)
    while state is not grpc.ChannelConnectivity.READY:
        if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
            return False
        await channel.wait_for_state_change(state)
        state = channel.get_state(try_to_connect=True)
    return True


async def _call(
    stub: "StorageServiceAsyncStub", attempt: Attempt, timeout_s: float
) -> StorageResponse:
    match attempt.request:
        case storage_pb2.GetRequest() as request:
            return await stub.Get(request, timeout=timeout_s)
        case storage_pb2.PutRequest() as request:
            return await stub.Put(request, timeout=timeout_s)
        case storage_pb2.DeleteRequest() as request:
            return await stub.Delete(request, timeout=timeout_s)
        case storage_pb2.CompareAndSetRequest() as request:
            return await stub.CompareAndSet(request, timeout=timeout_s)


def error_of_call(error: grpc.aio.AioRpcError) -> OperationError:
    """Return the error that a call's rich details carry; without them it is indefinite."""
    try:
        status = rpc_status.from_call(error)
    except ValueError:  # the details contradict the status: believe neither
        status = None
    for detail in () if status is None else status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info) and info.domain == ERROR_DOMAIN:
            return operation_error(info.reason, error.details() or "", info.metadata)
    return Indefinite(error.code().name, error.details() or "")
