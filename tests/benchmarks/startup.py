"""How long five nodes take from being started together to serving, and the bare floor beside it.

    uv run python tests/benchmarks/startup.py --rounds 10

The floor is five interpreters that import grpc.aio and nothing else, started together. "ready" is
when every node has printed its readiness line, "serving" when clients can be served: a leader that
all know, or all replicas in touch.
"""

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import uvloop

from replication.cluster.launcher import Cluster, ClusterSpec
from replication.plan import BackendChoice, find_backend

NODES = tuple(f"n{number}" for number in range(1, 6))


async def start(name: str, folder: Path) -> tuple[float, float]:
    """Return the seconds until all five are ready, and until they serve."""
    found = find_backend(name)
    choice = BackendChoice(name, found.path, found.backend.settings_type())
    begun = time.perf_counter()
    async with Cluster(ClusterSpec(NODES, choice, found.backend.family, folder)) as cluster:
        ready = time.perf_counter() - begun
        await cluster.wait_until_serving()
        return ready, time.perf_counter() - begun


def bare() -> float:
    """Return the seconds that five imports of grpc.aio take at once."""
    begun = time.perf_counter()
    children = [subprocess.Popen([sys.executable, "-c", "import grpc.aio"]) for _ in NODES]
    for child in children:
        child.wait()
    return time.perf_counter() - begun


async def run(rounds: int) -> None:
    seconds: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        seconds["five bare imports of grpc.aio"].append(bare())
        for name in ("raft", "dynamo"):
            with tempfile.TemporaryDirectory(prefix="startup-") as folder:
                ready, serving = await start(name, Path(folder))
            seconds[f"{name}: ready"].append(ready)
            seconds[f"{name}: serving"].append(serving)
            await asyncio.sleep(0.2)
    floor = seconds["five bare imports of grpc.aio"]
    for what, found in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(found, floor, strict=True))
        spread = f"{min(found):.3f} to {max(found):.3f}"
        print(f"{what:32}{statistics.median(found):7.3f} s  {spread}  {ratio:5.2f} x the floor")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=10)
    uvloop.run(run(parser.parse_args().rounds))


if __name__ == "__main__":
    main()
