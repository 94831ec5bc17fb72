"""The gRPC services of a node: storage for clients, control for the runner, exchange for peers."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping
from random import Random
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from replication.errors import InvalidRequest, OperationError
from replication.host import faults
from replication.host.clock import ClockFault, NodeClock
from replication.host.clock import problems as clock_problems
from replication.host.events import EventLog
from replication.host.links import Link
from replication.host.node import Node
from replication.host.pipeline import Pipeline
from replication.host.store import Store
from replication.protocol import Backend, NodeId, RequestBody, Response, StorageRequest, check
from replication.v1 import (
    control_pb2,
    control_pb2_grpc,
    event_pb2,
    peer_pb2,
    peer_pb2_grpc,
    storage_pb2,
    storage_pb2_grpc,
)

OPERATION_LIMIT_NS = 10_000_000_000  # for operations that name no deadline
CONTENTS_CHUNK_KEYS = 500

_Context = grpc.aio.ServicerContext[Any, Any]


class StorageService(storage_pb2_grpc.StorageServiceServicer):
    """Passes operations to the core and results back."""

    def __init__(self, node: Node, backend: Backend) -> None:
        self._node = node
        self._backend = backend

    async def Get(self, request: storage_pb2.GetRequest, context: _Context) -> Any:
        """Return every live version of a key."""
        return await self._perform(request, context)

    async def Put(self, request: storage_pb2.PutRequest, context: _Context) -> Any:
        """Store a value."""
        return await self._perform(request, context)

    async def Delete(self, request: storage_pb2.DeleteRequest, context: _Context) -> Any:
        """Store a tombstone."""
        return await self._perform(request, context)

    async def CompareAndSet(
        self, request: storage_pb2.CompareAndSetRequest, context: _Context
    ) -> Any:
        """Store a value if the key holds the expected one."""
        return await self._perform(request, context)

    # The stubs know of handlers that are iterators; grpc.aio takes one that reads and writes, too.
    async def Pipeline(  # type: ignore[override]
        self, _requests: Any, context: _Context
    ) -> None:
        """Serve numbered operations until the caller half-closes."""
        await Pipeline(self._node, self._backend, context, OPERATION_LIMIT_NS).run()

    async def _perform(self, request: StorageRequest, context: _Context) -> Response:
        return await _perform(self._node, self._backend, request, context)


async def _perform(
    node: Node, backend: Backend, request: RequestBody, context: _Context
) -> Response:
    problem = check(backend, request)
    if problem is not None:
        raise InvalidRequest(problem)
    answer = Answer()
    node.submit(answer, 0, request, node.now_ns() + _timeout_ns(context))
    return await answer.future


class Answer:
    """Waits for the result of one unary call."""

    __slots__ = ("future",)

    def __init__(self) -> None:
        self.future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

    def complete(self, token: int, result: Response | OperationError) -> None:
        if self.future.done():
            return  # The caller went away; its operation went on, as it must.
        if isinstance(result, OperationError):
            self.future.set_exception(result)
        else:
            self.future.set_result(result)


def _timeout_ns(context: _Context) -> int:
    """Return how long the core may take for a unary call.

    A little less than the caller waits: an answer that says what is known, such as QuorumTimeout,
    must arrive before gRPC gives up and says nothing.
    """
    remaining_s = context.time_remaining()
    if remaining_s is None:
        return OPERATION_LIMIT_NS
    return max(0, int(max(remaining_s * 0.9, remaining_s - 0.1) * 1e9))


class ControlService(control_pb2_grpc.ControlServiceServicer):
    """Looks into the node and breaks its links."""

    def __init__(
        self,
        node: Node,
        backend: Backend,
        store: Store,
        links: Mapping[NodeId, Link],
        events: EventLog,
        clock: NodeClock,
        power_rng: Random,
    ) -> None:
        self._node = node
        self._clock = clock
        self._power_rng = power_rng
        self._backend = backend
        self._store = store
        self._links = links
        self._events = events
        self._faults: list[event_pb2.LinkFault] = []

    async def Status(
        self, _request: control_pb2.StatusRequest, _context: _Context
    ) -> control_pb2.StatusResponse:
        """Return what the core and the process say of themselves."""
        node = self._node
        host = control_pb2.HostStatus(
            pid=os.getpid(),
            inbox_length=node.inbox_length,
            inbox_refused=node.inbox_refused,
            syncs=node.disk.syncs,
            persists=node.performer.persists,
            store_bytes=self._store.stored_bytes,
            links=[link.status() for link in self._links.values()],
            cpu_seconds=time.process_time(),
        )
        return control_pb2.StatusResponse(status=node.core.status(), host=host)

    async def WatchEvents(
        self, _request: control_pb2.WatchEventsRequest, _context: _Context
    ) -> AsyncIterator[control_pb2.WatchEventsResponse]:
        """Yield every event since the node started, then the new ones."""
        async for event in self._events.watch():
            yield control_pb2.WatchEventsResponse(event=event)

    async def SetLinkFaults(
        self, request: control_pb2.SetLinkFaultsRequest, _context: _Context
    ) -> control_pb2.SetLinkFaultsResponse:
        """Replace all faults. Those of peers that are no nodes are only told of (see the event)."""
        problems = faults.problems(request.faults)
        if problems:
            raise InvalidRequest("; ".join(problems))
        in_force = faults.by_direction(request.faults)
        for peer, link in self._links.items():
            link.set_faults(in_force.get((peer, False)), in_force.get((peer, True)))
        if list(request.faults) != self._faults:
            self._faults = list(request.faults)
            changed = event_pb2.LinkFaultsChanged(faults=request.faults)
            self._node.observe_own(event_pb2.Event(link_faults_changed=changed))
        return control_pb2.SetLinkFaultsResponse()

    async def ListContents(
        self, _request: control_pb2.ListContentsRequest, _context: _Context
    ) -> AsyncIterator[control_pb2.ListContentsResponse]:
        """Yield what this replica holds, as of one moment."""
        # All at once: between two chunks the core goes on and its maps change.
        contents = list(self._node.core.contents())
        for start in range(0, len(contents), CONTENTS_CHUNK_KEYS):
            chunk = contents[start : start + CONTENTS_CHUNK_KEYS]
            yield control_pb2.ListContentsResponse(keys=chunk)

    async def Command(self, request: control_pb2.CommandRequest, context: _Context) -> Any:
        """Ask the core for what an operator wants; answer when it is done."""
        return await _perform(self._node, self._backend, request, context)

    async def SetClockFault(
        self, request: control_pb2.SetClockFaultRequest, _context: _Context
    ) -> control_pb2.SetClockFaultResponse:
        """Put the clocks wrong, or right."""
        fault = ClockFault(request.offset_ns, request.drift_ppm, request.strobe_ns)
        problems = clock_problems(fault)
        if problems:
            raise InvalidRequest("; ".join(problems))
        before_ns = self._clock.wall_error_ns()
        self._clock.set(fault)
        self._node.clock_changed()
        return control_pb2.SetClockFaultResponse(
            wall_error_before_ns=before_ns, wall_error_ns=self._clock.wall_error_ns()
        )

    async def SetDiskFault(
        self, request: control_pb2.SetDiskFaultRequest, _context: _Context
    ) -> control_pb2.SetDiskFaultResponse:
        """Make the disk ill, or well."""
        fault = self._store.fault
        fault.set(slow_ns=request.slow_ns, stalled=request.stalled, full=request.full)
        return control_pb2.SetDiskFaultResponse(
            syncs_slowed=fault.syncs_slowed, syncs_stalled=fault.syncs_stalled
        )

    async def ListDelays(
        self, _request: control_pb2.ListDelaysRequest, _context: _Context
    ) -> control_pb2.ListDelaysResponse:
        """Return how long messages were on their way to here."""
        response = control_pb2.ListDelaysResponse()
        if self._node.stamps is not None:
            for leg, found in self._node.stamps.delays.found.items():
                response.legs.add(
                    leg=leg,
                    stride=found.stride,
                    arrived_ns=[end_ns for _, end_ns in found.spans],
                    delay_ns=[end_ns - begin_ns for begin_ns, end_ns in found.spans],
                )
        return response

    async def LosePower(
        self, request: control_pb2.LosePowerRequest, _context: _Context
    ) -> control_pb2.LosePowerResponse:
        """Forget what was not synced and stand still until somebody kills this process."""
        self._node.halt()
        lost, kept = self._store.lose_power(self._power_rng if request.torn else None)
        return control_pb2.LosePowerResponse(lost_bytes=lost, kept_bytes=kept)


class PeerService(peer_pb2_grpc.PeerServiceServicer):
    """Takes the frames of peers apart."""

    def __init__(self, links: Mapping[NodeId, Link]) -> None:
        self._links = links

    async def Exchange(  # type: ignore[override]
        self, _requests: Any, context: _Context
    ) -> None:
        """Take frames until the peer goes; each is acknowledged when it is in the inbox."""
        await context.send_initial_metadata(())
        link: Link | None = None
        while True:
            request = await context.read()
            if not isinstance(request, peer_pb2.ExchangeRequest):
                return
            if link is None:
                link = self._links.get(request.sender)
            if link is None:
                await context.abort(
                    grpc.StatusCode.INVALID_ARGUMENT, f"{request.sender!r} is no peer of this node"
                )
            try:
                link.take(request.messages, request.stamps)
            except DecodeError:
                await context.abort(
                    grpc.StatusCode.INVALID_ARGUMENT, "a message is not of this backend's type"
                )
            await link.acknowledge(request.frame, context.write)
