"""The control calls to the nodes of one cluster: with its secret, and a deadline on each."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeVar

import grpc
import grpc.aio

from replication.client.channel import open_channel
from replication.client.grpc_client import error_of_call
from replication.errors import Indefinite, ReplicationError
from replication.host.config import SECRET_METADATA
from replication.v1 import control_pb2, control_pb2_grpc, event_pb2

if TYPE_CHECKING:
    from replication.v1.control_pb2_grpc import ControlServiceAsyncStub

CALL_TIMEOUT_S = 1.0
CONTENTS_TIMEOUT_S = 5.0

_T = TypeVar("_T")


class _Forgotten(grpc.RpcError):
    """The connection was closed during the call: the node is going away."""


class ControlFailed(ReplicationError):
    """A node did not answer a control call."""

    def __init__(self, node: str, call: str, error: grpc.RpcError) -> None:
        code = (
            error.code().name if isinstance(error, grpc.aio.AioRpcError) else type(error).__name__
        )
        detail = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
        super().__init__(f"{call} of {node}: {code}: {detail}")
        self.node = node
        self.code = code


class Control:
    """Control of some nodes. Any node that does not answer in time raises ControlFailed."""

    def __init__(self, endpoints: Mapping[str, str], secret: str) -> None:
        """``endpoints`` are the nodes and their addresses (host:port)."""
        self._endpoints = dict(endpoints)
        self._metadata = ((SECRET_METADATA, secret),)
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def status(
        self, node: str, timeout_s: float = CALL_TIMEOUT_S
    ) -> control_pb2.StatusResponse:
        """Return what the node says of itself."""
        request = control_pb2.StatusRequest()
        call = self._stub(node).Status(request, timeout=timeout_s, metadata=self._metadata)
        return await _answer(node, "Status", call)

    async def statuses(
        self, nodes: Iterable[str], timeout_s: float = CALL_TIMEOUT_S
    ) -> dict[str, control_pb2.StatusResponse]:
        """Ask many nodes at once; those that do not answer are left out."""
        asked = list(nodes)
        answers = await asyncio.gather(
            *(self.status(node, timeout_s) for node in asked), return_exceptions=True
        )
        found = {}
        for node, answer in zip(asked, answers, strict=True):
            if isinstance(answer, control_pb2.StatusResponse):
                found[node] = answer
            elif not isinstance(answer, ControlFailed):
                raise answer
        return found

    async def set_link_faults(
        self,
        node: str,
        faults: Iterable[event_pb2.LinkFault],
        timeout_s: float = CALL_TIMEOUT_S,
    ) -> None:
        """Replace all link faults of the node."""
        request = control_pb2.SetLinkFaultsRequest(faults=faults)
        call = self._stub(node).SetLinkFaults(request, timeout=timeout_s, metadata=self._metadata)
        await _answer(node, "SetLinkFaults", call)

    async def set_clock_fault(
        self, node: str, request: control_pb2.SetClockFaultRequest
    ) -> control_pb2.SetClockFaultResponse:
        """Put the node's clocks wrong, or right."""
        call = self._stub(node).SetClockFault(
            request, timeout=CALL_TIMEOUT_S, metadata=self._metadata
        )
        return await _answer(node, "SetClockFault", call)

    async def set_disk_fault(
        self, node: str, request: control_pb2.SetDiskFaultRequest
    ) -> control_pb2.SetDiskFaultResponse:
        """Make the node's disk ill, or well."""
        call = self._stub(node).SetDiskFault(
            request, timeout=CALL_TIMEOUT_S, metadata=self._metadata
        )
        return await _answer(node, "SetDiskFault", call)

    async def lose_power(self, node: str, *, torn: bool) -> control_pb2.LosePowerResponse:
        """Take what the node had not synced; it stands still and is to be killed next."""
        request = control_pb2.LosePowerRequest(torn=torn)
        call = self._stub(node).LosePower(request, timeout=CALL_TIMEOUT_S, metadata=self._metadata)
        return await _answer(node, "LosePower", call)

    async def command(
        self, node: str, request: control_pb2.CommandRequest, timeout_s: float
    ) -> control_pb2.CommandResponse:
        """Ask the node for what an operator wants; raise OperationError when it is not done."""
        call = self._stub(node).Command(request, timeout=timeout_s, metadata=self._metadata)
        try:
            return await _kept(call)
        except grpc.aio.AioRpcError as error:
            raise error_of_call(error) from None
        except _Forgotten as error:
            raise Indefinite("CANCELLED", str(error)) from None

    async def contents(
        self, node: str, timeout_s: float = CONTENTS_TIMEOUT_S
    ) -> list[control_pb2.KeyContents]:
        """Return every key that the replica holds, without the values."""
        request = control_pb2.ListContentsRequest()
        call = self._stub(node).ListContents(request, timeout=timeout_s, metadata=self._metadata)

        async def listed() -> list[control_pb2.KeyContents]:
            return [key async for response in call for key in response.keys]

        try:
            return await _answer(node, "ListContents", listed())
        finally:
            call.cancel()

    async def delays(self, node: str) -> control_pb2.ListDelaysResponse:
        """Return how long messages were on their way to the node, if it measures that."""
        request = control_pb2.ListDelaysRequest()
        call = self._stub(node).ListDelays(
            request, timeout=CONTENTS_TIMEOUT_S, metadata=self._metadata
        )
        return await _answer(node, "ListDelays", call)

    async def watch_events(self, node: str) -> AsyncIterator[event_pb2.Event]:
        """Yield every event since the node started, then the new ones, until the node ends."""
        request = control_pb2.WatchEventsRequest()
        call = self._stub(node).WatchEvents(request, metadata=self._metadata)
        try:
            async for response in call:
                yield response.event
        except grpc.RpcError as error:
            raise ControlFailed(node, "WatchEvents", error) from None
        finally:
            call.cancel()

    async def forget(self, node: str) -> None:
        """Close the connection to a node that is going away; the next call makes a fresh one."""
        channel = self._channels.pop(node, None)
        if channel is not None:
            await channel.close()

    async def close(self) -> None:
        """Close all connections."""
        for node in list(self._channels):
            await self.forget(node)

    def _stub(self, node: str) -> "ControlServiceAsyncStub":
        channel = self._channels.get(node)
        if channel is None:
            channel = open_channel(self._endpoints[node])
            self._channels[node] = channel
        return control_pb2_grpc.ControlServiceStub(channel)


async def _answer(node: str, name: str, call: Awaitable[_T]) -> _T:
    try:
        return await _kept(call)
    except grpc.RpcError as error:
        raise ControlFailed(node, name, error) from None


async def _kept(call: Awaitable[_T]) -> _T:
    """Await a call. When its connection is closed, it is the call that is cancelled, not we."""
    try:
        return await call
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise _Forgotten("the connection was closed") from None
