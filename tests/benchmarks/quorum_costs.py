"""What the settings of a leaderless cluster cost: quorums, a replica down, Merkle trees.

    uv run python tests/benchmarks/quorum_costs.py                 # about 12 minutes
    uv run python tests/benchmarks/quorum_costs.py --rounds 1 --seconds 0.5

Three nodes, N=3, one client process, 100-byte values, every acknowledged write synced, all on this
machine; 1, 16 and 64 calls in flight, spread over the nodes that serve. Every round measures every
row once, in turn, so that a noisy minute hits all of them; the table shows medians. Ratios are
taken within a round: to the bare gRPC echo (``echo.py``), to Raft, and to the row that differs in
one thing only.
"""

import argparse
import contextlib
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import uvloop
from throughput import NODES, SEED, UNARY_IN_FLIGHT, Sample, Target, echo, unary

from leader.raft import RaftSettings
from leaderless.dynamo import DynamoSettings
from replication.cluster.launcher import Cluster, ClusterSpec
from replication.plan.model import BackendChoice
from replication.protocol import Family
from replication.v1 import event_pb2

DOWN = "n3"
ECHO = "echo"
RAFT = "raft"
QUORUMS = "W=2 R=2"


@dataclass(frozen=True, slots=True)
class Setup:
    """A cluster to measure."""

    name: str
    settings: RaftSettings | DynamoSettings
    down: bool = False  # one of three replicas is killed before


SETUPS = (
    Setup(RAFT, RaftSettings()),
    Setup(QUORUMS, DynamoSettings()),
    Setup("W=1 R=1", DynamoSettings(w=1, r=1)),
    Setup("W=3 R=1", DynamoSettings(w=3, r=1)),
    Setup("W=2 R=2, a replica down", DynamoSettings(), down=True),
    Setup("W=2 R=2, no trees", DynamoSettings(anti_entropy_ns=0)),
)

Row = tuple[str, str, int]  # setup, "put" or "get", in flight


@contextlib.asynccontextmanager
async def cluster(setup: Setup, folder: Path) -> AsyncIterator[Target]:
    """The cluster of ``setup``; the target is its leader, or whoever serves when nobody leads."""
    raft = isinstance(setup.settings, RaftSettings)
    family = Family.LEADER if raft else Family.LEADERLESS
    name, path = ("raft", "leader.raft") if raft else ("dynamo", "leaderless.dynamo")
    choice = BackendChoice(name, f"{path}:backend", setup.settings)
    async with Cluster(ClusterSpec(NODES, choice, family, folder, seed=SEED)) as nodes:
        await nodes.wait_until_serving()
        if setup.down:
            await nodes.kill(DOWN)
        serving = [node for node in NODES if not (setup.down and node == DOWN)]
        statuses = await nodes.control.statuses(serving)
        leaders = [n for n, s in statuses.items() if s.status.role == event_pb2.ROLE_LEADER]
        yield Target(setup.name, [nodes.endpoints[node] for node in leaders or serving])


async def measure(target: Target, seconds: float, results: dict[Row, list[Sample]]) -> None:
    """Fill in all rows of one target for one round; a get finds what the puts have written."""
    for what in ("put", "get"):
        for in_flight in UNARY_IN_FLIGHT:
            taken = await unary(target, what, in_flight, seconds)
            results[target.name, what, in_flight].append(taken)


async def run(rounds: int, seconds: float) -> dict[Row, list[Sample]]:
    """Measure everything once in each round."""
    results: dict[Row, list[Sample]] = defaultdict(list)
    for number in range(rounds):
        with tempfile.TemporaryDirectory(prefix="leaderless-") as folder:
            async with echo() as target:
                await measure(target, seconds, results)
            # Another first one in each round: none has the disk always at its fullest.
            turn = number % len(SETUPS)
            for place, setup in enumerate(SETUPS[turn:] + SETUPS[:turn]):
                async with cluster(setup, Path(folder) / str(place)) as target:
                    await measure(target, seconds, results)
        print(f"round {number + 1} of {rounds} done", file=sys.stderr, flush=True)
    return results


def ratio(results: dict[Row, list[Sample]], row: Row, base: str) -> str:
    """Return the median over the rounds of a row's rate over that of ``base``."""
    if row[0] in (base, ECHO):
        return "-"
    pairs = zip(results[row], results[base, row[1], row[2]], strict=True)
    return f"{statistics.median(mine.rate / other.rate for mine, other in pairs):.2f}"


def print_table(results: dict[Row, list[Sample]]) -> None:
    """Print medians and ratios, one line for each row."""
    print(
        f"{'':26}{'':5}{'in flight':>10}{'op/s':>9}{'p50 ms':>9}{'p99 ms':>9}"
        f"{'/ echo':>9}{'/ raft':>9}{'/ W=2 R=2':>11}"
    )
    for name in (ECHO, *(setup.name for setup in SETUPS)):
        for what in ("put", "get"):
            for in_flight in UNARY_IN_FLIGHT:
                row = (name, what, in_flight)
                rate, p50, p99 = (
                    statistics.median(getattr(each, field) for each in results[row])
                    for field in ("rate", "p50_ms", "p99_ms")
                )
                line = f"{name:26}{what:5}{in_flight:10}{rate:9.0f}{p50:9.2f}{p99:9.2f}"
                line += f"{ratio(results, row, ECHO):>9}{ratio(results, row, RAFT):>9}"
                print(f"{line}{ratio(results, row, QUORUMS):>11}")
    print("\nRatios of rates in the same round, median of the rounds. The cost of trees is")
    print("1 - 1 / ratio of 'no trees' for put; in CPU time alone: tests.benchmarks.merkle_upkeep")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each row in each round")
    options = parser.parse_args()
    print_table(uvloop.run(run(options.rounds, options.seconds)))


if __name__ == "__main__":
    main()
