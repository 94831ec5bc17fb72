"""What the upkeep of Merkle trees costs a write, in CPU time of three cores together.

    uv run python -m tests.benchmarks.merkle_upkeep

The same puts (N=3, W=2, 100-byte values, 64 to a round) through three cores without host, network
or disk, with trees and without, in turn; the table shows the medians of nine rounds each, and the
ratio. What a host adds to an operation makes the share smaller.
"""

import statistics
import time
from random import Random

from leaderless.dynamo import DynamoCore, DynamoSettings
from replication.protocol import Effect, Instant, Membership, Request, Send
from replication.v1 import storage_pb2
from tests.support.dynamo_cluster import WALL_NS, Disk

NODES = ("n1", "n2", "n3")
PUTS, BATCH, KEYS, ROUNDS = 6400, 64, 5000, 9


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


if __name__ == "__main__":
    main()
