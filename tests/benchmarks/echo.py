"""The ceiling: a bare gRPC server that answers storage requests and does nothing else.

Run as ``python tests/benchmarks/echo.py`` it serves on a free loopback port, prints the port, and
ends when its standard input closes. ``tests/benchmarks/throughput.py`` measures every embedded
cluster as a ratio to it, in the same run.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from replication.v1 import storage_pb2, storage_pb2_grpc


class Echo(storage_pb2_grpc.StorageServiceServicer):
    """Parses every request and answers it at once, with the same message types as a real node."""

    async def Put(
        self, request: storage_pb2.PutRequest, context: grpc.aio.ServicerContext
    ) -> storage_pb2.PutResponse:
        return storage_pb2.PutResponse(context=request.context)

    async def Get(
        self, request: storage_pb2.GetRequest, context: grpc.aio.ServicerContext
    ) -> storage_pb2.GetResponse:
        return storage_pb2.GetResponse(context=request.key.encode())

    async def Pipeline(
        self,
        requests: AsyncIterator[storage_pb2.PipelineRequest],
        context: grpc.aio.ServicerContext,
    ) -> AsyncIterator[storage_pb2.PipelineResponse]:
        async for request in requests:
            response = storage_pb2.PipelineResponse()
            for operation in request.operations:
                result = response.results.add(number=operation.number)
                result.put.context = operation.put.context
            yield response


async def serve() -> None:
    server = grpc.aio.server()
    storage_pb2_grpc.add_StorageServiceServicer_to_server(Echo(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop(None)


if __name__ == "__main__":
    uvloop.run(serve())
