"""Clusters of other people's making, for ``leaders.py``: etcd and PySyncObj on loopback.

Run as ``python tests/benchmarks/others.py ADDRESS JOURNAL PEER...`` it is one node of PySyncObj
that takes commands on its standard input.
"""

import asyncio
import contextlib
import json
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from throughput import VALUE, Sample, sample

MEMBERS = 3


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def etcd_messages() -> dict[str, Any]:
    """Return the few messages of etcd's API that are used, with only the fields that are used."""
    file = descriptor_pb2.FileDescriptorProto(
        name="etcd_subset.proto", package="etcdserverpb", syntax="proto3"
    )
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, fields in {
        "PutRequest": [("key", 1, kinds.TYPE_BYTES), ("value", 2, kinds.TYPE_BYTES)],
        "PutResponse": [],
        "StatusRequest": [],
        "ResponseHeader": [("member_id", 2, kinds.TYPE_UINT64)],
        "StatusResponse": [("header", 1, kinds.TYPE_MESSAGE), ("leader", 4, kinds.TYPE_UINT64)],
    }.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            added = message.field.add(
                name=field, number=number, type=kind, label=kinds.LABEL_OPTIONAL
            )
            if kind == kinds.TYPE_MESSAGE:
                added.type_name = ".etcdserverpb.ResponseHeader"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"etcdserverpb.{name}"))
        for name in ("PutRequest", "PutResponse", "StatusRequest", "StatusResponse")
    }


ANSWER_BYTES_MAX = 64 * 1024 * 1024  # one line with the latency of every call


class Etcd:
    """Three members with the defaults of the binary: heartbeat 100 ms, election 1000 ms."""

    name = "etcd"

    def __init__(
        self,
        closed_loop: Callable[..., Awaitable[Sample]],
        first_write: Callable[..., Awaitable[float]],
        call_timeout_s: float,
        probe_timeout_s: float,
    ) -> None:
        self._closed_loop = closed_loop
        self._first_write = first_write
        self._call_timeout_s = call_timeout_s
        self._probe_timeout_s = probe_timeout_s
        self._messages = etcd_messages()

    @contextlib.asynccontextmanager
    async def running(self, folder: Path) -> AsyncIterator["Etcd"]:
        ports = free_ports(2 * MEMBERS)
        self._clients, peers = ports[:MEMBERS], ports[MEMBERS:]
        cluster = ",".join(f"m{n}=http://127.0.0.1:{port}" for n, port in enumerate(peers))
        self._commands = [
            [
                *("etcd", "--name", f"m{n}", "--data-dir", str(folder / f"m{n}")),
                *("--listen-client-urls", f"http://127.0.0.1:{self._clients[n]}"),
                *("--advertise-client-urls", f"http://127.0.0.1:{self._clients[n]}"),
                *("--listen-peer-urls", f"http://127.0.0.1:{peers[n]}"),
                *("--initial-advertise-peer-urls", f"http://127.0.0.1:{peers[n]}"),
                *("--initial-cluster", cluster, "--log-level", "fatal"),
            ]
            for n in range(MEMBERS)
        ]
        self._processes = [await self._start(n) for n in range(MEMBERS)]
        self._channels = [grpc.aio.insecure_channel(f"127.0.0.1:{p}") for p in self._clients]
        try:
            await self._leader()
            yield self
        finally:
            for channel in self._channels:
                await channel.close()
            for process in self._processes:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()

    async def _start(self, number: int) -> asyncio.subprocess.Process:
        quiet = asyncio.subprocess.DEVNULL
        return await asyncio.create_subprocess_exec(
            *self._commands[number], stdout=quiet, stderr=quiet
        )

    def _call(self, number: int, method: str, request: str, response: str) -> Any:
        return self._channels[number].unary_unary(
            f"/etcdserverpb.{method}",
            request_serializer=self._messages[request].SerializeToString,
            response_deserializer=self._messages[response].FromString,
        )

    async def _leader(self) -> int:
        """Wait until all members answer and agree on a leader; return its number."""
        while True:
            try:
                answers = [
                    await self._call(n, "Maintenance/Status", "StatusRequest", "StatusResponse")(
                        self._messages["StatusRequest"](), timeout=1.0, wait_for_ready=True
                    )
                    for n in range(MEMBERS)
                ]
            except grpc.RpcError:
                continue
            leaders = {each.leader for each in answers}
            if len(leaders) == 1 and 0 not in leaders:
                return [each.header.member_id for each in answers].index(leaders.pop())
            await asyncio.sleep(0.05)

    def _request(self, caller: int) -> Any:
        return self._messages["PutRequest"](key=f"k{caller}".encode(), value=VALUE)

    async def rate(self, in_flight: int, seconds: float) -> Sample:
        call = self._call(await self._leader(), "KV/Put", "PutRequest", "PutResponse")
        await call(self._request(0), timeout=self._call_timeout_s)

        async def put(caller: int) -> object:
            return await call(self._request(caller), timeout=self._call_timeout_s)

        return await self._closed_loop(put, in_flight, seconds)

    async def failover(self) -> float:
        leader = await self._leader()
        survivors = [n for n in range(MEMBERS) if n != leader]
        calls = [self._call(n, "KV/Put", "PutRequest", "PutResponse") for n in survivors]
        begun = time.perf_counter()
        self._processes[leader].send_signal(signal.SIGKILL)

        async def put(number: int) -> object:
            call = calls[number % len(calls)]
            return await call(self._request(0), timeout=self._probe_timeout_s)

        took = await self._first_write(put, begun)
        await self._processes[leader].wait()
        self._processes[leader] = await self._start(leader)
        return took


class PySyncObj:
    """Three processes of this file, told by lines what to do."""

    name = "pysyncobj"

    @contextlib.asynccontextmanager
    async def running(self, folder: Path) -> AsyncIterator["PySyncObj"]:
        addresses = [f"127.0.0.1:{port}" for port in free_ports(MEMBERS)]
        self._arguments = [
            [address, str(folder / f"journal-{n}"), *addresses[:n], *addresses[n + 1 :]]
            for n, address in enumerate(addresses)
        ]
        self._processes = [await self._start(n) for n in range(MEMBERS)]
        try:
            yield self
        finally:
            for process in self._processes:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()

    async def _start(self, number: int) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            *(sys.executable, __file__, *self._arguments[number]),
            stdin=pipe,
            stdout=pipe,
            limit=ANSWER_BYTES_MAX,
        )

    async def _tell(self, number: int, *words: Any) -> Any:
        process = self._processes[number]
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write((" ".join(map(str, words)) + "\n").encode())
        await process.stdin.drain()
        return json.loads(await process.stdout.readline())

    async def _leader(self) -> int:
        while True:
            answers = [await self._tell(n, "leads") for n in range(MEMBERS)]
            if answers.count(True) == 1:
                return answers.index(True)
            await asyncio.sleep(0.05)

    async def rate(self, in_flight: int, seconds: float) -> Sample:
        latencies, elapsed_s = await self._tell(await self._leader(), "load", in_flight, seconds)
        return sample(latencies, elapsed_s)

    async def failover(self) -> float:
        leader = await self._leader()
        begun = time.monotonic()
        self._processes[leader].send_signal(signal.SIGKILL)
        written = await asyncio.gather(
            *(self._tell(n, "first") for n in range(MEMBERS) if n != leader)
        )
        await self._processes[leader].wait()
        self._processes[leader] = await self._start(leader)
        await self._leader()
        await asyncio.sleep(1.0)  # it reconnects; a vote that found it gone would be another story
        return min(written) - begun


def pysyncobj_node(address: str, journal: str, *peers: str) -> None:
    """One node: it answers each line on its standard input with a line of JSON."""
    from pysyncobj import SyncObj, SyncObjConf, replicated

    class Store(SyncObj):  # type: ignore[misc]
        def __init__(self) -> None:
            conf = SyncObjConf(appendEntriesUseBatch=False, journalFile=journal)
            super().__init__(address, list(peers), conf)
            self._values: dict[str, str] = {}

        @replicated
        def put(self, key: str, value: str) -> None:
            self._values[key] = value

    store = Store()
    value = VALUE.decode()

    def load(in_flight: int, seconds: float) -> tuple[list[float], float]:
        latencies: list[float] = []
        done = threading.Semaphore(0)
        start = time.perf_counter()
        end = start + seconds

        def begin(caller: int) -> None:
            begun = time.perf_counter()
            if begun >= end:
                done.release()
                return

            def ended(result: object, error: int) -> None:
                if not error:
                    latencies.append(time.perf_counter() - begun)
                begin(caller)

            store.put(f"k{caller}", value, callback=ended)

        for caller in range(in_flight):
            begin(caller)
        for _ in range(in_flight):
            done.acquire()
        return latencies, time.perf_counter() - start

    def first() -> float:
        """Return when a write was first acknowledged, trying one every few milliseconds."""
        acknowledged = threading.Event()
        at: list[float] = []

        def ended(result: object, error: int) -> None:
            if not error:
                at.append(time.monotonic())
                acknowledged.set()

        while not acknowledged.wait(0.01):
            store.put("k", value, callback=ended)
        return min(at)

    for line in sys.stdin:
        match line.split():
            case ["leads"]:
                answer: Any = str(store._getLeader()) == address
            case ["load", in_flight, seconds]:
                answer = load(int(in_flight), float(seconds))
            case _:
                answer = first()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    pysyncobj_node(*sys.argv[1:])
