"""Whether a long log stays bounded, on disk and in memory, and what a put costs meanwhile.

    uv run python -m tests.benchmarks.raft_log_bound [--writes 1000000] [--away 0.1]

Three cores and their real stores in one process, without network and without syncs, so that it is
CPU time of the protocol and the store that is measured. The third node is cut off for the last part
of the writes and then comes back: it is caught up by a snapshot, in how many bytes is told.
"""

import argparse
import tempfile
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from random import Random
from time import process_time

from leader.raft import RaftCore, RaftSettings
from leader.v1 import raft_pb2
from replication.host.config import SYNC_OFF
from replication.host.store import Store
from replication.protocol import Effect, Instant, Membership, NodeId, Persist, Request, Send
from replication.v1 import storage_pb2

MS = 1_000_000
BATCH = 64
NODES = ("n1", "n2", "n3")


class World:
    """Nodes that hear each other at once; time passes with every batch of writes."""

    def __init__(self, folder: Path, settings: RaftSettings) -> None:
        self.now_ns = 0
        self.away: set[NodeId] = set()
        self.bytes_to_n3 = 0
        self._line: deque[tuple[NodeId, NodeId, raft_pb2.RaftMessage]] = deque()
        self.stores: dict[NodeId, Store] = {}
        self.cores: dict[NodeId, RaftCore] = {}
        for node in NODES:
            (folder / node).mkdir()
            store = self.stores[node] = Store(folder / node / "store.log", SYNC_OFF)
            core = self.cores[node] = RaftCore(Membership(node, NODES), settings, Random(node))
            self._perform(node, core.start(self._now, store))

    @property
    def _now(self) -> Instant:
        return Instant(self.now_ns, self.now_ns)

    def _perform(self, node: NodeId, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Persist):
                self.stores[node].append(effect.writes)
            elif isinstance(effect, Send):
                assert isinstance(effect.message, raft_pb2.RaftMessage)
                self._line.append((node, effect.to, effect.message))

    def turn(self, requests: Sequence[Request] = ()) -> None:
        """Hand ``requests`` to the first node and let everything happen that follows."""
        core = self.cores["n1"]
        for number, request in enumerate(requests, 1):
            self._perform("n1", core.submit(self._now, self.now_ns * BATCH + number, request))
        for node in NODES:
            if node in self.away:
                continue
            due_ns = self.cores[node].wake_at()
            if due_ns is not None and due_ns <= self.now_ns:
                self._perform(node, self.cores[node].wake(self._now))
            self._perform(node, self.cores[node].flush(self._now))
        while self._line:
            sender, to, message = self._line.popleft()
            if to in self.away or sender in self.away:
                continue
            if to == "n3":
                self.bytes_to_n3 += message.ByteSize()
            self._perform(to, self.cores[to].receive(self._now, sender, message))
            if not self._line:
                self._perform("n1", core.flush(self._now))
        for store in self.stores.values():
            store.sync()
            if store.compaction_due:
                store.begin_compaction()
                while not store.compact_step():
                    pass


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for every tenth of the writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--writes", type=int, default=100_000)
    parser.add_argument("--keys", type=int, default=1_000)
    parser.add_argument("--bytes", type=int, default=100, help="of a value")
    parser.add_argument("--away", type=float, default=0.1, help="share that n3 misses at the end")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), RaftSettings(priority="n1"))
        core = world.cores["n1"]
        while core.leader is None:
            world.now_ns += 10 * MS
            world.turn()
        print("   writes  log entries   log KiB  snapshot KiB  store KiB  us/put (3 nodes)")
        value, begun, last = b"v" * options.bytes, process_time(), 0
        tenth = max(1, options.writes // 10)
        for first in range(0, options.writes, BATCH):
            if first >= options.writes * (1 - options.away):
                world.away.add("n3")
            world.now_ns += 5 * MS
            world.turn(
                [
                    Request(
                        storage_pb2.PutRequest(
                            key=f"k{number % options.keys}",
                            value=value,
                            write_id=storage_pb2.WriteId(client_id="c", sequence=number + 1),
                        ),
                        world.now_ns + 1_000 * MS,
                    )
                    for number in range(first, first + BATCH)
                ]
            )
            done = first + BATCH
            if done // tenth > last // tenth:
                cost_us = (process_time() - begun) / (done - last) * 1e6
                log, last, begun = core.replica.log, done, process_time()
                print(
                    f"{done:9} {log.last_index - log.start_index:12} {log.handed_bytes / 1024:9.0f}"
                    f" {core.replica.snapshots.size / 1024:13.0f}"
                    f" {world.stores['n1'].stored_bytes / 1024:10.0f} {cost_us:17.1f}"
                )
        behind = core.replica.commit_index - world.cores["n3"].replica.commit_index
        world.away.clear()
        world.bytes_to_n3, back_ns = 0, world.now_ns
        while world.cores["n3"].replica.commit_index < core.replica.commit_index:
            world.now_ns += 5 * MS
            world.turn()
        counters = world.cores["n3"].replica.counters
        print(
            f"n3 was {behind} entries behind and caught up with {world.bytes_to_n3 / 1024:.0f} KiB "
            f"in {(world.now_ns - back_ns) / 1e6:.0f} ms of virtual time, by "
            f"{counters.snapshots_installed} snapshot(s)"
        )
        for store in world.stores.values():
            store.close()


if __name__ == "__main__":
    main()
