"""What Merkle trees cost: a write, in CPU time of three cores together, and a start.

    uv run python -m tests.benchmarks.merkle_upkeep

The same puts (N=3, W=2, 100-byte values, 64 to a round) through three cores without host, network
or disk, with trees and without, in turn; the table shows the medians of nine rounds each, and the
ratio. What a host adds to an operation makes the share smaller. At a start the trees are built from
what the store holds; beside it what the store takes to read that from the disk's log.
"""

import statistics
import time
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from leaderless.dynamo import DynamoCore, DynamoSettings
from leaderless.dynamo.merkle import MerkleForest
from leaderless.dynamo.replica import SPACE
from replication.host.config import SYNC_OFF
from replication.host.store import Store
from replication.protocol import Effect, Instant, Membership, Put, Request, Send
from replication.v1 import storage_pb2
from tests.support.dynamo_cluster import WALL_NS, Disk

NODES = ("n1", "n2", "n3")
PUTS, BATCH, KEYS, ROUNDS = 6400, 64, 5000, 9
STORED, VALUE = 100_000, b"x" * 180


class Cores:
    """Three cores whose messages arrive at once."""

    def __init__(self, settings: DynamoSettings) -> None:
        self.now = Instant(0, WALL_NS)
        self.cores = {
            node: DynamoCore(Membership(node, NODES), settings, Random(node)) for node in NODES
        }
        for core in self.cores.values():
            core.start(self.now, Disk())
        for node, core in self.cores.items():
            self.carry(node, core.flush(self.now))
        self.sequence = 0

    def carry(self, node: str, effects: list[Effect]) -> None:
        """Deliver in rounds until nothing is under way."""
        under_way = [(node, each) for each in effects if isinstance(each, Send)]
        while under_way:
            for sender, send in under_way:
                self.cores[send.to].receive(self.now, sender, send.message)
            under_way = [
                (name, each)
                for name, core in self.cores.items()
                for each in core.flush(self.now)
                if isinstance(each, Send)
            ]

    def puts(self) -> float:
        """Return the microseconds of CPU that a put takes."""
        core = self.cores["n1"]
        begun = time.process_time()
        for _ in range(PUTS // BATCH):
            for _ in range(BATCH):
                self.sequence += 1
                body = storage_pb2.PutRequest(
                    key=f"user-{self.sequence % KEYS}",
                    value=b"x" * 100,
                    write_id=storage_pb2.WriteId(client_id="c", sequence=self.sequence),
                    w=2,
                )
                core.submit(self.now, self.sequence, Request(body, 10**12))
            self.carry("n1", core.flush(self.now))
        return (time.process_time() - begun) * 1e6 / PUTS


def start_us(folder: Path) -> tuple[float, float]:
    """Return the microseconds a key that the store and the trees take at a start."""
    store = Store(folder / "store.log", SYNC_OFF)
    if not store.get(SPACE, b"user-0"):
        store.append([Put(SPACE, b"user-%d" % number, VALUE) for number in range(STORED)])
        store.sync()
    store.close()
    begun = time.process_time()
    store = Store(folder / "store.log", SYNC_OFF)
    read = time.process_time()
    held = {key.decode(): value for key, value in store.scan(SPACE)}
    listed = time.process_time()
    MerkleForest(DynamoSettings().partitions).load(held)
    built = time.process_time()
    store.close()
    return (read - begun) * 1e6 / STORED, (built - listed) * 1e6 / STORED


def main() -> None:
    """Print the table."""
    kinds = {"without": DynamoSettings(anti_entropy_ns=0), "with trees": DynamoSettings()}
    samples: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(ROUNDS):
        for kind, settings in kinds.items():
            samples[kind].append(Cores(settings).puts())
    medians = {kind: statistics.median(each) for kind, each in samples.items()}
    for kind, median in medians.items():
        print(f"{kind:12} {median:6.1f} us of CPU per put, three replicas together")
    extra = medians["with trees"] - medians["without"]
    print(f"upkeep       {extra:6.1f} us, {extra / medians['without']:.0%}")
    with TemporaryDirectory(prefix="merkle-") as folder:
        starts = [start_us(Path(folder)) for _ in range(ROUNDS)]
    store_us, trees_us = (statistics.median(each) for each in zip(*starts, strict=True))
    print(f"a start with {STORED:,} keys: {store_us:.1f} us a key to read, {trees_us:.1f} to build")


if __name__ == "__main__":
    main()
