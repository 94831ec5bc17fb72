"""Both embedded clusters beside the ceiling of the same machine, in the same run.

    uv run python tests/benchmarks/throughput.py                 # the whole table, about 10 minutes
    uv run python tests/benchmarks/throughput.py --rounds 1 --only durable

Three nodes, one client process, 100-byte values, all on this machine. Every round measures every
row once, in turn, so that a noisy minute hits all of them; the table shows medians. Unary rows
keep 1, 16 or 64 calls in flight, pipeline rows 256 operations on the ``Pipeline`` streams. The
ceiling is a bare gRPC server that parses the same messages and answers at once (``echo.py``), and
the disk's own fdatasync of 200 bytes. Ratios are to the ceiling of the same round. In between is
the emptiest core that replicates to 2 of 3 (``relay_core.py``), with one node that takes all puts,
as Raft's leader does, or all three: what it lacks to the ceiling is not the protocols'.
"""

import argparse
import asyncio
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import grpc
import uvloop

from replication.client.channel import open_channel
from replication.cluster.launcher import Cluster, ClusterSpec
from replication.plan.model import BackendChoice
from replication.protocol import load_backend
from replication.v1 import event_pb2, storage_pb2, storage_pb2_grpc

ECHO = Path(__file__).with_name("echo.py")
VALUE = b"x" * 100
KEYS_PER_CALLER = 8
NODES = ("n1", "n2", "n3")
CLUSTERS = {
    "raft": "leader.raft:backend",
    "relay by one": "tests.benchmarks.relay_core:backend",
    "dynamo": "leaderless.dynamo:backend",
    "relay by all": "tests.benchmarks.relay_core:backend",
}
UNARY_IN_FLIGHT = (1, 16, 64)
PIPELINE_IN_FLIGHT = 256
SEED = 6824


@dataclass(slots=True)
class Sample:
    """One row in one round."""

    rate: float  # operations per second
    p50_ms: float
    p99_ms: float


Row = tuple[str, str, str]  # who ("raft, durable"), what ("put"), how ("unary 64")
Operation = Callable[[grpc.aio.Channel, int], Awaitable[object]]


def sample(latencies_s: list[float], elapsed_s: float) -> Sample:
    """Return the rate and the percentiles of what completed."""
    ordered = sorted(latencies_s)
    assert ordered, "nothing completed"
    p50, p99 = (ordered[int(len(ordered) * share)] * 1e3 for share in (0.5, 0.99))
    return Sample(len(ordered) / elapsed_s, p50, p99)


@dataclass
class Caller:
    """One operation in flight at a time, on keys of its own.

    It carries the context of its last write of a key, so that a leaderless cluster replaces values
    and does not gather siblings: that would measure conflicts.
    """

    name: str
    keys: Random
    sequence: int = 0
    contexts: dict[str, bytes] = field(default_factory=dict)

    def key(self) -> str:
        return f"{self.name}-{self.keys.randrange(KEYS_PER_CALLER)}"

    def put(self) -> storage_pb2.PutRequest:
        self.sequence += 1
        key = self.key()
        return storage_pb2.PutRequest(
            key=key,
            value=VALUE,
            context=self.contexts.get(key, b""),
            write_id=storage_pb2.WriteId(client_id=self.name, sequence=self.sequence),
        )

    def get(self) -> storage_pb2.GetRequest:
        return storage_pb2.GetRequest(key=self.key())


@dataclass
class Target:
    """Where requests go: one address per caller in turn (a leader has one, replicas have three)."""

    name: str
    addresses: list[str]
    callers: dict[str, Caller] = field(default_factory=dict)

    def caller(self, name: str) -> Caller:
        """Return the caller of this name, with the contexts that it holds already."""
        return self.callers.setdefault(name, Caller(name, Random(name)))


async def unary(target: Target, what: str, in_flight: int, seconds: float) -> Sample:
    """Keep ``in_flight`` unary calls outstanding for ``seconds``."""
    latencies: list[float] = []
    async with contextlib.AsyncExitStack() as stack:
        stubs = [
            storage_pb2_grpc.StorageServiceStub(
                await stack.enter_async_context(open_channel(address))
            )
            for address in target.addresses
        ]
        for stub in stubs:
            await stub.Get(storage_pb2.GetRequest(key="warm-up"))
        start = time.perf_counter()
        end = start + seconds

        async def call(number: int) -> None:
            stub = stubs[number % len(stubs)]
            caller = target.caller(f"unary-{number}")
            while (begun := time.perf_counter()) < end:
                if what == "put":
                    request = caller.put()
                    response = await stub.Put(request)
                    caller.contexts[request.key] = response.context
                else:
                    await stub.Get(caller.get())
                latencies.append(time.perf_counter() - begun)

        async with asyncio.TaskGroup() as group:
            for number in range(in_flight):
                group.create_task(call(number))
        return sample(latencies, time.perf_counter() - start)


async def pipeline(target: Target, what: str, in_flight: int, seconds: float) -> Sample:
    """Keep ``in_flight`` operations outstanding, split over one stream per address."""
    start = time.perf_counter()
    share = in_flight // len(target.addresses)
    parts = await asyncio.gather(
        *(one_stream(target, address, what, share, start + seconds) for address in target.addresses)
    )
    return sample([each for part in parts for each in part], time.perf_counter() - start)


async def one_stream(
    target: Target, address: str, what: str, in_flight: int, end: float
) -> list[float]:
    """Refill the stream with as many operations as each response has answered."""
    latencies: list[float] = []
    begun: dict[int, tuple[float, Caller, str]] = {}
    callers = [target.caller(f"{address}-{number}") for number in range(in_flight)]
    number = 0

    def batch(ready: list[Caller]) -> storage_pb2.PipelineRequest:
        nonlocal number
        request = storage_pb2.PipelineRequest()
        now = time.perf_counter()
        for caller in ready:
            number += 1
            operation = request.operations.add(number=number)
            if what == "put":
                operation.put.CopyFrom(caller.put())
                begun[number] = (now, caller, operation.put.key)
            else:
                operation.get.CopyFrom(caller.get())
                begun[number] = (now, caller, "")
        return request

    async with open_channel(address) as channel:
        stream = storage_pb2_grpc.StorageServiceStub(channel).Pipeline()
        await stream.write(batch(callers))
        while begun:
            response = await stream.read()
            now = time.perf_counter()
            ready = []
            for result in response.results:
                if result.HasField("failure"):
                    raise RuntimeError(f"{target.name}: {result.failure.message}")
                start, caller, key = begun.pop(result.number)
                latencies.append(now - start)
                caller.contexts[key] = result.put.context
                ready.append(caller)
            if now < end:
                await stream.write(batch(ready))
        await stream.done_writing()
        while await stream.read() is not grpc.aio.EOF:
            pass
    return latencies


def fdatasync(folder: Path, count: int = 200) -> Sample:
    """Return the disk's own rate of appending and syncing 200 bytes."""
    latencies = []
    with (folder / "fdatasync").open("ab", buffering=0) as stream:
        start = time.perf_counter()
        for _ in range(count):
            begun = time.perf_counter()
            stream.write(b"x" * 200)
            os.fdatasync(stream.fileno())
            latencies.append(time.perf_counter() - begun)
        return sample(latencies, time.perf_counter() - start)


@contextlib.asynccontextmanager
async def echo() -> AsyncIterator[Target]:
    """The bare server, in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ECHO),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    port = int(await process.stdout.readline())
    yield Target("echo", [f"127.0.0.1:{port}"])
    process.stdin.close()
    await process.wait()


@contextlib.asynccontextmanager
async def cluster(name: str, sync: str, folder: Path) -> AsyncIterator[Target]:
    """Three nodes; the target is the leader, or all three when nobody leads."""
    path = CLUSTERS[name]
    backend = load_backend(path)
    choice = BackendChoice(name, path, backend.settings_type())
    spec = ClusterSpec(NODES, choice, backend.family, folder, sync, SEED)
    async with Cluster(spec) as nodes:
        await nodes.wait_until_serving()
        statuses = await nodes.control.statuses(NODES)
        leaders = [n for n, s in statuses.items() if s.status.role == event_pb2.ROLE_LEADER]
        if name == "relay by one":
            leaders = ["n1"]
        yield Target(name, [nodes.endpoints[node] for node in leaders or NODES])


async def measure(
    target: Target, who: str, seconds: float, results: dict[Row, list[Sample]]
) -> None:
    """Fill in all rows of one target for one round."""
    for what in ("put", "get") if target.name != "echo" else ("put",):
        for in_flight in UNARY_IN_FLIGHT:
            row = (who, what, f"unary {in_flight}")
            results[row].append(await unary(target, what, in_flight, seconds))
        row = (who, what, f"pipeline {PIPELINE_IN_FLIGHT}")
        results[row].append(await pipeline(target, what, PIPELINE_IN_FLIGHT, seconds))


async def run(rounds: int, seconds: float, only: str | None) -> dict[Row, list[Sample]]:
    results: dict[Row, list[Sample]] = defaultdict(list)
    settings = [("durable", "always"), ("not synced", "off")]
    for number in range(rounds):
        with tempfile.TemporaryDirectory(prefix="throughput-") as name:
            folder = Path(name)
            results["disk", "fdatasync", "1"].append(fdatasync(folder))
            async with echo() as target:
                await measure(target, "echo", seconds, results)
            for label, sync in settings:
                if only not in (None, label):
                    continue
                for backend in CLUSTERS:
                    async with cluster(backend, sync, folder / f"{backend}-{sync}") as target:
                        await measure(target, f"{backend}, {label}", seconds, results)
        print(f"round {number + 1} of {rounds} done", file=sys.stderr, flush=True)
    return results


def print_table(results: dict[Row, list[Sample]]) -> None:
    """Print medians, and the ratio to the ceiling of the same round where there is one."""
    print(
        f"{'':26}{'':11}{'':14}{'op/s':>9}{'p50 ms':>9}{'p99 ms':>9}{'/ echo':>8}{'p50 ratio':>11}"
    )
    for (who, what, how), samples in results.items():
        rate, p50, p99 = (
            statistics.median(getattr(each, name) for each in samples)
            for name in ("rate", "p50_ms", "p99_ms")
        )
        line = f"{who:26}{what:11}{how:14}{rate:9.0f}{p50:9.2f}{p99:9.2f}"
        ceiling = results.get(("echo", "put", how))
        if ceiling and who != "echo":
            ratio = statistics.median(
                a.rate / b.rate for a, b in zip(samples, ceiling, strict=True)
            )
            line += f"{ratio:8.2f}"
        if how == "unary 1" and "durable" in who and what == "put":
            disk = results["disk", "fdatasync", "1"]
            cost = statistics.median(
                a.p50_ms / (b.p50_ms + 2 * c.p50_ms)
                for a, b, c in zip(samples, ceiling or [], disk, strict=True)
            )
            line += f"{cost:11.2f}"
        print(line)
    print("\n/ echo: rate over the echo's rate in the same round, median of the rounds")
    print("p50 ratio: put p50 over (echo p50 + 2 x fdatasync p50)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each row in each round")
    parser.add_argument("--only", choices=["durable", "not synced"])
    options = parser.parse_args()
    print_table(uvloop.run(run(options.rounds, options.seconds, options.only)))


if __name__ == "__main__":
    main()
