"""Systems with a leader side by side: put/s at 1, 16 and 64 in flight, and time without a leader.

    uv run python tests/benchmarks/leaders.py                       # all of it, about 12 minutes
    uv run python tests/benchmarks/leaders.py --rounds 1 --kills 0 --only raft etcd

Three members each, 100-byte values, one client process, all on this machine, every system once per
round in turn; medians, and the ratio to the echo of the same round.

What drives them is the same loop: so many callers, each with one call at the leader outstanding.
Ours, raftos behind our API, the echo and etcd are called over gRPC by the same Python client, etcd
by its own API (``etcdserverpb.KV/Put``). PySyncObj is a library without a server, so its callers
are callbacks inside the leader's process: it is spared a network hop and its client.

On disk: ours and etcd sync every acknowledged write; "not synced" writes without. PySyncObj keeps a
journal that it never syncs, and sends at once (``appendEntriesUseBatch=False``; its default waits
for a tick of 100 ms); raftos never syncs either. The echo is a Python server on the same two cores:
a system in another language can beat it.

Failover: SIGKILL of the leader of an otherwise idle cluster; a writer asks the survivors in turn
until a write is acknowledged. Every system has the timeouts that it ships with.
"""

import argparse
import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from shutil import which
from typing import Any

import grpc
import uvloop
from others import Etcd, PySyncObj
from throughput import VALUE, Sample, echo, fdatasync, sample

from leader.primary_backup import Mode, PrimaryBackupSettings
from leader.raft import RaftSettings
from leader.raftos import RaftosSettings
from replication.client.channel import open_channel
from replication.cluster.launcher import Cluster, ClusterSpec
from replication.plan.model import BackendChoice
from replication.protocol import Family
from replication.v1 import event_pb2, storage_pb2, storage_pb2_grpc

NODES = ("n1", "n2", "n3")
IN_FLIGHT = (1, 16, 64)
CALL_TIMEOUT_S = 1.0
PROBE_TIMEOUT_S = 0.2
FAILOVER_LIMIT_S = 30.0
SYNC = PrimaryBackupSettings(mode=Mode.SYNC)

Put = Callable[[int], Awaitable[object]]


async def closed_loop(put: Put, in_flight: int, seconds: float) -> Sample:
    """Keep ``in_flight`` calls outstanding; only what was acknowledged counts."""
    latencies: list[float] = []
    start = time.perf_counter()
    end = start + seconds

    async def call(number: int) -> None:
        while (begun := time.perf_counter()) < end:
            try:
                await put(number)
            except (grpc.RpcError, TimeoutError):
                await asyncio.sleep(0.001)
                continue
            latencies.append(time.perf_counter() - begun)

    async with asyncio.TaskGroup() as group:
        for number in range(in_flight):
            group.create_task(call(number))
    return sample(latencies or [end - start], time.perf_counter() - start)


class Sequences:
    """Write ids: a client for each caller."""

    def __init__(self) -> None:
        self._next: dict[int, int] = defaultdict(int)

    def put(self, caller: int) -> storage_pb2.PutRequest:
        self._next[caller] += 1
        write_id = storage_pb2.WriteId(client_id=f"c{caller}", sequence=self._next[caller])
        return storage_pb2.PutRequest(key=f"k{caller}", value=VALUE, write_id=write_id)


@dataclass
class Ours:
    """A cluster of ours, called at its leader."""

    name: str
    backend: str
    settings: Any
    sync: str = "always"
    probe_timeout_s: float = PROBE_TIMEOUT_S
    sequences: Sequences = field(default_factory=Sequences)

    @contextlib.asynccontextmanager
    async def running(self, folder: Path) -> AsyncIterator["Ours"]:
        choice = BackendChoice(self.backend, f"leader.{self.backend}:backend", self.settings)
        spec = ClusterSpec(NODES, choice, Family.LEADER, folder, self.sync, 1)
        async with Cluster(spec) as self._cluster:
            await self._cluster.wait_until_serving()
            yield self

    async def _leader(self) -> str:
        while True:
            statuses = await self._cluster.control.statuses(NODES)
            for node, answer in statuses.items():
                if answer.status.role == event_pb2.ROLE_LEADER:
                    return node
            await asyncio.sleep(0.05)

    async def rate(self, in_flight: int, seconds: float) -> Sample:
        async with open_channel(self._cluster.endpoints[await self._leader()]) as channel:
            stub = storage_pb2_grpc.StorageServiceStub(channel)
            await stub.Get(storage_pb2.GetRequest(key="warm-up"))

            async def put(caller: int) -> object:
                return await stub.Put(self.sequences.put(caller), timeout=CALL_TIMEOUT_S)

            return await closed_loop(put, in_flight, seconds)

    async def failover(self) -> float:
        leader = await self._leader()
        survivors = [node for node in NODES if node != leader]
        async with contextlib.AsyncExitStack() as stack:
            stubs = []
            for node in survivors:
                channel = open_channel(self._cluster.endpoints[node])
                await stack.enter_async_context(channel)
                stubs.append(storage_pb2_grpc.StorageServiceStub(channel))
                await stubs[-1].Get(local_read("warm-up"))
            begun = time.perf_counter()
            await self._cluster.kill(leader)

            async def put(number: int) -> object:
                stub = stubs[number % len(stubs)]
                return await stub.Put(self.sequences.put(0), timeout=self.probe_timeout_s)

            took = await first_write(put, begun)
        await self._cluster.start_node(leader)
        await self._cluster.wait_until_serving()
        return took


def local_read(key: str) -> storage_pb2.GetRequest:
    return storage_pb2.GetRequest(key=key, consistency=storage_pb2.CONSISTENCY_LOCAL)


async def first_write(put: Put, begun: float) -> float:
    """Ask in turn until a write is acknowledged; return how long that took."""
    number = 0
    while time.perf_counter() - begun < FAILOVER_LIMIT_S:
        try:
            await put(number)
            return time.perf_counter() - begun
        except grpc.RpcError:
            number += 1
            await asyncio.sleep(0.002)
    return float("inf")


def systems() -> list[Any]:
    """Return everything that can be measured here."""
    found: list[Any] = [
        Ours("raft", "raft", RaftSettings()),
        Ours("raft, not synced", "raft", RaftSettings(), "off"),
        Ours("async", "primary_backup", PrimaryBackupSettings(mode=Mode.ASYNC)),
        Ours("semi-sync", "primary_backup", PrimaryBackupSettings()),
        Ours("sync", "primary_backup", replace(SYNC, remove_standby_after_ns=500_000_000)),
        # With one node dead it applies a write at the next heartbeat, 300 ms later.
        Ours("raftos", "raftos", RaftosSettings(), probe_timeout_s=1.0),
        PySyncObj(),
    ]
    if which("etcd"):
        found.append(Etcd(closed_loop, first_write, CALL_TIMEOUT_S, PROBE_TIMEOUT_S))
    return found


Rates = dict[tuple[str, int], list[Sample]]


async def echo_rates(seconds: float, rates: Rates) -> None:
    async with echo() as target, open_channel(target.addresses[0]) as channel:
        stub = storage_pb2_grpc.StorageServiceStub(channel)
        sequences = Sequences()

        async def put(caller: int) -> object:
            return await stub.Put(sequences.put(caller))

        for in_flight in IN_FLIGHT:
            rates["echo", in_flight].append(await closed_loop(put, in_flight, seconds))


async def run(options: argparse.Namespace) -> None:
    chosen = [each for each in systems() if not options.only or each.name in options.only]
    rates: Rates = defaultdict(list)
    failovers: dict[str, list[float]] = defaultdict(list)
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory(prefix="leaders-") as name:
            rates["fdatasync", 1].append(fdatasync(Path(name)))
            await echo_rates(options.seconds, rates)
            for system in chosen:
                async with system.running(Path(tempfile.mkdtemp(dir=name))):
                    for in_flight in IN_FLIGHT:
                        found = await system.rate(in_flight, options.seconds)
                        rates[system.name, in_flight].append(found)
        print(f"round {number + 1} of {options.rounds} done", file=sys.stderr, flush=True)
    for system in chosen if options.kills else []:
        with tempfile.TemporaryDirectory(prefix="leaders-") as name:
            async with system.running(Path(name)):
                for _ in range(options.kills):
                    failovers[system.name].append(await system.failover())
        print(f"failovers of {system.name} done", file=sys.stderr, flush=True)
    print_tables(rates, failovers)


def print_tables(rates: Rates, failovers: dict[str, list[float]]) -> None:
    print(f"{'put/s':20}{'in flight':>10}{'op/s':>9}{'p50 ms':>9}{'p99 ms':>9}{'/ echo':>9}")
    for (who, in_flight), samples in rates.items():
        rate, p50, p99 = (
            statistics.median(getattr(each, name) for each in samples)
            for name in ("rate", "p50_ms", "p99_ms")
        )
        line = f"{who:20}{in_flight:10}{rate:9.0f}{p50:9.2f}{p99:9.2f}"
        if who not in ("echo", "fdatasync"):
            pairs = zip(samples, rates["echo", in_flight], strict=True)
            line += f"{statistics.median(a.rate / b.rate for a, b in pairs):9.3f}"
        print(line)
    if failovers:
        print(f"\n{'failover, s':20}{'median':>10}{'least':>9}{'most':>9}{'kills':>9}")
    for who, times in failovers.items():
        median = statistics.median(times)
        print(f"{who:20}{median:10.3f}{min(times):9.3f}{max(times):9.3f}{len(times):9}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each row in each round")
    parser.add_argument("--kills", type=int, default=10, help="of each system's leader")
    parser.add_argument("--only", nargs="*", help="names of systems")
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
