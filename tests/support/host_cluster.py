"""Nodes for tests of the host: in this process on one loop, or as processes of their own."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from replication.host.config import SECRET_METADATA, NodeConfig, parse_ready_line
from replication.host.process import NodeProcess
from replication.v1 import (
    control_pb2,
    control_pb2_grpc,
    peer_pb2_grpc,
    storage_pb2,
    storage_pb2_grpc,
)

ROOT = Path(__file__).resolve().parents[2]
SECRET = "the secret of the test"
KNOWS_SECRET = grpc.aio.Metadata((SECRET_METADATA, SECRET))
PATIENCE_SECONDS = 10.0


@contextlib.contextmanager
def held_ports(count: int) -> Iterator[list[int]]:
    """Hold free ports as a launcher does: bound with SO_REUSEPORT, never listening."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            each.bind(("127.0.0.1", 0))
        yield [each.getsockname()[1] for each in sockets]


def configs(folder: Path, ports: list[int], **changes: Any) -> dict[str, NodeConfig]:
    """Return the configurations of n1, n2 ... at ``ports``, folders made."""
    members = {f"n{number}": f"127.0.0.1:{port}" for number, port in enumerate(ports, 1)}
    made = {}
    for name in members:
        (folder / name).mkdir(exist_ok=True)
        config = NodeConfig(
            node=name,
            addresses=members,
            backend="tests.support.echo_core:backend",
            folder=str(folder / name),
            secret=SECRET,
        )
        made[name] = replace(config, **changes)
    return made


class Client:
    """Stubs of one node."""

    def __init__(self, address: str) -> None:
        options = (("grpc.use_local_subchannel_pool", 1),)
        self.channel = grpc.aio.insecure_channel(address, options)
        self.storage: Any = storage_pb2_grpc.StorageServiceStub(self.channel)
        self.control: Any = control_pb2_grpc.ControlServiceStub(self.channel)
        self.peer: Any = peer_pb2_grpc.PeerServiceStub(self.channel)
        self._sequence = 0

    def put_request(self, key: str, value: bytes = b"value") -> storage_pb2.PutRequest:
        """Return a put with the next write id."""
        self._sequence += 1
        write_id = storage_pb2.WriteId(client_id="c", sequence=self._sequence)
        return storage_pb2.PutRequest(key=key, value=value, write_id=write_id)

    async def put(self, key: str, value: bytes = b"value", deadline_s: float = 10) -> Any:
        """Store a value."""
        return await self.storage.Put(self.put_request(key, value), timeout=deadline_s)

    async def get(self, key: str, deadline_s: float = 10) -> bytes | None:
        """Return the value of a key."""
        request = storage_pb2.GetRequest(key=key)
        response = await self.storage.Get(request, timeout=deadline_s)
        return response.versions[0].value if response.versions else None

    async def status(self) -> Any:
        """Return the node's status."""
        return await self.control.Status(control_pb2.StatusRequest(), metadata=KNOWS_SECRET)


@dataclass
class Nodes:
    """Nodes of one cluster in this process."""

    processes: dict[str, NodeProcess] = field(default_factory=dict)
    clients: dict[str, Client] = field(default_factory=dict)


@contextlib.asynccontextmanager
async def nodes_in_process(folder: Path, count: int, **changes: Any) -> AsyncIterator[Nodes]:
    """Run ``count`` nodes on this loop; none of them may have failed at the end."""
    nodes = Nodes()
    with held_ports(count) as ports:
        for name, config in configs(folder, ports, **changes).items():
            nodes.processes[name] = NodeProcess(config)
            await nodes.processes[name].start()
            nodes.clients[name] = Client(config.address)
        started = nodes.processes.values()
        await eventually(lambda: all(each.connected for each in started), "all links are up")
        try:
            yield nodes
        finally:
            for client in nodes.clients.values():
                await client.channel.close()
            for process in nodes.processes.values():
                await process.stop("end of the test")
    failures = [
        each.node.failed.result() for each in nodes.processes.values() if each.node.failed.done()
    ]
    assert not failures, failures


def on_one_node(folder: Path, story: Callable[[Nodes, Client], Awaitable[None]]) -> None:
    """Run ``story`` against one node in this process, for at most 20 s."""

    async def run() -> None:
        async with asyncio.timeout(20), nodes_in_process(folder, 1) as nodes:
            await story(nodes, nodes.clients["n1"])

    asyncio.run(run())


def operations(requests: list[storage_pb2.PutRequest]) -> storage_pb2.PipelineRequest:
    """Return the puts as one frame of a Pipeline, numbered from 1."""
    return storage_pb2.PipelineRequest(
        operations=[
            storage_pb2.PipelineOperation(number=number, put=each)
            for number, each in enumerate(requests, 1)
        ]
    )


async def eventually(holds: Callable[[], Any], what: str) -> None:
    """Wait until ``holds()`` is true, awaiting it when it is awaitable; fail after a while."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        result = holds()
        if asyncio.iscoroutine(result):
            result = await result
        if result:
            return
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.005)


@dataclass
class Spawned:
    """One node process, started as a launcher starts it."""

    config: NodeConfig
    popen: subprocess.Popen[str]
    log: Path

    def wait_ready(self) -> float:
        """Return how many seconds the readiness line took from now."""
        begun = time.monotonic()
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        assert parse_ready_line(line) == (self.config.node, self.config.address), self.log_text()
        return time.monotonic() - begun

    def log_text(self) -> str:
        """Return what the node wrote to stderr."""
        return self.log.read_text()

    def end(self, number: int = signal.SIGTERM) -> tuple[int, float]:
        """Send a signal; return the exit code and how many seconds the end took."""
        begun = time.monotonic()
        self.popen.send_signal(number)
        code = self.popen.wait(PATIENCE_SECONDS)
        return code, time.monotonic() - begun


def spawn(config: NodeConfig) -> Spawned:
    """Start one node process; it dies with this thread whatever becomes of the test."""
    folder = Path(config.folder)
    (folder / "node.json").write_text(config.to_json())
    log = folder / "node.log"
    with log.open("a") as stderr:
        popen = subprocess.Popen(
            [sys.executable, "-m", "replication.host", str(folder / "node.json")],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    return Spawned(config, popen, log)


@contextlib.contextmanager
def spawned(folder: Path, count: int, **changes: Any) -> Iterator[list[Spawned]]:
    """Start ``count`` node processes and wait until all serve; kill them at the end."""
    with held_ports(count) as ports:
        nodes = [spawn(config) for config in configs(folder, ports, **changes).values()]
        try:
            for node in nodes:
                node.wait_ready()
            yield nodes
        finally:
            for node in nodes:
                release(node)


def release(node: Spawned) -> None:
    """Kill a node that may still run and close its pipes."""
    node.popen.kill()
    node.popen.wait(PATIENCE_SECONDS)
    for pipe in (node.popen.stdin, node.popen.stdout):
        assert pipe is not None
        pipe.close()
