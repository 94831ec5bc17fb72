"""The gRPC client against a scripted server in the same process."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from replication.client.grpc_client import Pipelines, UnaryClient
from replication.client.pipeline import MESSAGE_BYTES_MAX, Pipeline
from replication.client.session import Session
from replication.client.steps import Attempt
from replication.cluster.ports import LOOPBACK, Ports
from replication.errors import (
    Conflict,
    Indefinite,
    InvalidRequest,
    LeadershipLost,
    NotLeader,
    OperationError,
    Overloaded,
    QuorumTimeout,
    QuorumUnreachable,
    Unreachable,
)
from replication.history import OperationKind, Outcome
from replication.host.edge import Edge, failure
from replication.plan.model import PlannedClient, PlannedOperation, Route
from replication.protocol import Family, StorageRequest, StorageResponse
from replication.v1 import storage_pb2, storage_pb2_grpc

Answer = StorageResponse | OperationError | None  # None: silence
Context = grpc.aio.ServicerContext[Any, Any]

ERRORS = [
    InvalidRequest("no"),
    Conflict("no"),
    NotLeader("n3", 7),
    QuorumUnreachable(2, 1),
    Overloaded(),
    LeadershipLost(7),
    QuorumTimeout(1, 2),
]


class Scripted(storage_pb2_grpc.StorageServiceServicer):
    """Answers every operation with what ``answer`` says."""

    def __init__(self, answer: Callable[[StorageRequest], Answer]) -> None:
        self.answer = answer
        self.messages: list[int] = []  # operations in each

    async def Put(self, request: storage_pb2.PutRequest, _context: Context) -> Any:
        answer = self.answer(request)
        if isinstance(answer, OperationError):
            raise answer
        if answer is None:
            await asyncio.sleep(3600)
        return answer

    async def Pipeline(self, _requests: Any, context: Context) -> None:
        while isinstance(message := await context.read(), storage_pb2.PipelineRequest):
            self.messages.append(len(message.operations))
            response = storage_pb2.PipelineResponse()
            for operation in message.operations:
                answer = self.answer(operation.put)
                if isinstance(answer, OperationError):
                    response.results.add(number=operation.number, failure=failure(answer))
                elif answer is not None:
                    response.results.add(number=operation.number, put=answer)
            await context.write(response)


class Collected:
    """A sink that keeps what it is given."""

    def __init__(self, expected: int) -> None:
        self.results: list[tuple[Attempt, StorageResponse | OperationError]] = []
        self._expected = expected
        self._done = asyncio.get_running_loop().create_future()

    def answered(self, attempt: Attempt, result: StorageResponse | OperationError) -> None:
        self.results.append((attempt, result))
        if len(self.results) == self._expected:
            self._done.set_result(None)

    async def all(self) -> list[StorageResponse | OperationError]:
        async with asyncio.timeout(10):
            await self._done
        return [result for _, result in self.results]


def attempt(sequence: int = 1, value: bytes = b"v") -> Attempt:
    identity = storage_pb2.WriteId(client_id="c1", sequence=sequence)
    request = storage_pb2.PutRequest(key="k", value=value, write_id=identity)
    return Attempt("n1", request, 900_000_000, time.monotonic_ns() + 1_000_000_000)


@asynccontextmanager
async def serving(answer: Callable[[StorageRequest], Answer], port: int) -> AsyncIterator[Scripted]:
    servicer = Scripted(answer)
    server = grpc.aio.server(interceptors=[Edge("secret")])
    storage_pb2_grpc.add_StorageServiceServicer_to_server(servicer, server)
    server.add_insecure_port(f"{LOOPBACK}:{port}")
    await server.start()
    try:
        yield servicer
    finally:
        await server.stop(None)


def stored(_: StorageRequest) -> Answer:
    return storage_pb2.PutResponse(served=storage_pb2.Served(node="n1"))


@asynccontextmanager
async def pipelines(port: int) -> AsyncIterator[Pipelines]:
    client = Pipelines({"n1": f"{LOOPBACK}:{port}"})
    try:
        await client.opened(10)
        yield client
    finally:
        await client.close()


def with_port(work: Callable[[int], Any]) -> Any:
    ports = Ports(1)
    try:
        return asyncio.run(work(ports.numbers[0]))
    finally:
        ports.release()


def test_operations_of_one_turn_share_a_message() -> None:
    async def work(port: int) -> list[int]:
        async with serving(stored, port) as server, pipelines(port) as client:
            sink = Collected(50)
            for sequence in range(1, 51):
                assert client.submit(attempt(sequence), sink)
            await sink.all()
            return server.messages

    assert with_port(work) == [50]


def test_large_values_are_spread_over_messages() -> None:
    async def work(port: int) -> list[int]:
        async with serving(stored, port) as server, pipelines(port) as client:
            sink = Collected(5)
            for sequence in range(1, 6):
                client.submit(attempt(sequence, bytes(MESSAGE_BYTES_MAX // 2)), sink)
            await sink.all()
            return server.messages

    assert with_port(work) == [2, 2, 1]


def test_every_error_class_survives_both_ways_of_calling() -> None:
    async def work(port: int) -> tuple[list[Any], list[Any]]:
        def answer(request: StorageRequest) -> Answer:
            assert isinstance(request, storage_pb2.PutRequest)
            return ERRORS[request.write_id.sequence - 1]

        unary = UnaryClient({"n1": f"{LOOPBACK}:{port}"})
        async with serving(answer, port), pipelines(port) as client:
            sink = Collected(len(ERRORS))
            for sequence in range(1, len(ERRORS) + 1):
                client.submit(attempt(sequence), sink)
            streamed = await sink.all()
            called = [await unary.perform(attempt(each + 1)) for each in range(len(ERRORS))]
            await unary.close()
        return streamed, called

    streamed, called = with_port(work)
    assert streamed == ERRORS
    assert called == ERRORS


def test_what_was_sent_on_a_broken_stream_may_have_happened() -> None:
    async def work(port: int) -> list[Any]:
        received = asyncio.Event()
        silent = serving(lambda _: received.set(), port)
        await silent.__aenter__()
        async with pipelines(port) as client:
            sink = Collected(1)
            client.submit(attempt(), sink)
            await received.wait()
            await silent.__aexit__(None, None, None)
            results = await sink.all()
            assert not client.submit(attempt(2), sink), "there is no connection any more"
            return results

    (result,) = with_port(work)
    assert isinstance(result, Indefinite)
    assert not result.definite


class StuckCall:
    """A stream whose first message is never taken off our hands, until it breaks."""

    def __init__(self) -> None:
        self.taken = asyncio.Event()
        self.broken = asyncio.Event()

    async def write(self, _message: storage_pb2.PipelineRequest) -> None:
        self.taken.set()
        await asyncio.Event().wait()

    async def read(self) -> Any:
        await self.broken.wait()
        nothing = grpc.aio.Metadata()
        raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing, "gone")

    def cancel(self) -> bool:
        return True


def test_what_was_never_handed_to_grpc_was_not_sent() -> None:
    async def work(port: int) -> list[Any]:
        link = Pipeline("n1", f"{LOOPBACK}:{port}")
        call = StuckCall()
        serving_it = asyncio.create_task(link._serve(call))  # type: ignore[arg-type]
        await link.opened()
        sink = Collected(2)
        assert link.submit(attempt(1), sink)
        await call.taken.wait()
        assert link.submit(attempt(2), sink)
        call.broken.set()
        await serving_it
        await link.close()
        return await sink.all()

    assert with_port(work) == [Indefinite("UNAVAILABLE"), Unreachable("n1")]


def test_a_unary_call_to_nobody_is_definite_and_one_to_a_mute_node_is_not() -> None:
    async def work(port: int) -> tuple[Any, Any]:
        client = UnaryClient({"n1": f"{LOOPBACK}:{port}"})
        session = Session(
            PlannedClient("c1", "n1", Route.FOLLOW), Family.LEADERLESS, ("n1",), 300_000_000
        )
        planned = PlannedOperation("c1", 1, None, OperationKind.PUT, "k", value="v")
        refused, _ = await client.run(session, planned)
        await client.close()
        async with serving(lambda _: None, port):
            silent, _ = await client.run(session, planned)
            await client.close()
        return refused.operation, silent.operation

    refused, silent = with_port(work)
    assert (refused.outcome, refused.error) == (Outcome.FAIL, "Unreachable")
    assert refused.attempts > 1
    assert (silent.outcome, silent.attempts) == (Outcome.UNKNOWN, 1)


@pytest.mark.timing
def test_a_node_that_comes_back_is_found_at_once() -> None:
    async def work(port: int) -> float:
        client = Pipelines({"n1": f"{LOOPBACK}:{port}"})
        try:
            async with serving(stored, port):
                await client.opened(10)
            await asyncio.sleep(0.3)  # long enough for several refused connections
            async with serving(stored, port):
                start = time.monotonic()
                await client.opened(10)
                taken = time.monotonic() - start
                sink = Collected(1)
                assert client.submit(attempt(), sink)
                (result,) = await sink.all()
                assert isinstance(result, storage_pb2.PutResponse)
                return taken
        finally:
            await client.close()

    assert with_port(work) < 0.5  # 0.05 when nothing else is going on
