"""Moving partitions: who is to own one fetches it from those who do.

What was acknowledged by the ring before is at W of its N owners. So a new owner merges what N-W+1
of them hold, or as many as make every other quorum impossible: then it has every such write, and as
many old owners go by the new ring, and refuse whoever does not. Meanwhile new writes go to both
(``Need.met``). Each question can be repeated, and each answer merged twice: a transfer that was
interrupted goes on where it stood.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from leaderless.dynamo.node import Node
from leaderless.dynamo.paxos import Acceptors
from leaderless.dynamo.versions import decode
from leaderless.v1 import dynamo_pb2
from replication.protocol import Instant, NodeId

CHUNK_BYTES: Final = 64 * 1024
REPEAT_NS: Final = 500_000_000
UNANSWERED_MAX: Final = 3  # questions to one whose answer is not needed
SECOND_NS: Final = 1_000_000_000


@dataclass(slots=True)
class _Source:
    """What one old owner still has to send of one partition."""

    node: NodeId
    partition: int
    after: str = ""
    done: bool = False
    unanswered: int = 0  # questions since the last answer


class Transfers:
    """What this node fetches for one epoch, and what it sends to others."""

    def __init__(
        self,
        node: Node,
        acceptors: Acceptors,
        ask: Callable[[NodeId, dynamo_pb2.Pull], None],
        finished: Callable[[Instant, int, int, int], None],
    ) -> None:
        self._node = node
        self._acceptors = acceptors
        self._ask = ask
        self._finished = finished  # (now, partitions, keys, bytes)
        self._sources: list[_Source] = []
        self._required = 0
        self._asked: _Source | None = None
        self.due_ns: int | None = None
        self._keys = self._bytes = 0
        self._held: tuple[int, dict[int, list[str]]] = (-1, {})  # epoch, keys by partition

    def begin(self, now: Instant, wanted: dict[int, tuple[NodeId, ...]], required: int) -> None:
        """Fetch these partitions, each from ``required`` of its old owners at least."""
        self._sources = [
            _Source(owner, partition)
            for partition, owners in sorted(wanted.items())
            for owner in owners
            if owner != self._node.name
        ]
        self._required = required
        self._keys = self._bytes = 0
        self._asked, self.due_ns = None, now.monotonic_ns
        self.wake(now)

    def stop(self) -> None:
        """Fetch nothing any more."""
        self._sources, self._asked, self.due_ns = [], None, None

    def wake(self, now: Instant) -> None:
        """Ask for the next piece, or again for one that has not come."""
        if self.due_ns is None or now.monotonic_ns < self.due_ns:
            return
        source = self._next(now)
        if source is None:
            partitions = len({each.partition for each in self._sources})
            self.stop()
            self._finished(now, partitions, self._keys, self._bytes)
            return
        self._asked = source
        source.unanswered += 1
        self.due_ns = now.monotonic_ns + REPEAT_NS
        self._ask(source.node, dynamo_pb2.Pull(partition=source.partition, after=source.after))

    def _next(self, now: Instant) -> _Source | None:
        """Return whom to ask now; None when everything that is needed is here.

        All are asked, also more than is needed: but who seems dead, or never answers, only then.
        """
        complete: dict[int, int] = {each.partition: 0 for each in self._sources}
        for each in self._sources:
            complete[each.partition] += each.done
        open_ = [
            each
            for each in self._sources
            if not each.done
            and (
                complete[each.partition] < self._required
                or (
                    each.unanswered < UNANSWERED_MAX
                    and self._node.alive(each.node, now.monotonic_ns)
                )
            )
        ]
        # In turn: those first who have kept this node waiting least often, what was begun first.
        return min(
            open_, key=lambda each: (each.unanswered, not each.after, each.partition), default=None
        )

    def take(self, now: Instant, sender: NodeId, chunk: dynamo_pb2.Chunk) -> None:
        """Merge what came, and ask for more once the throttle allows it."""
        source = self._asked
        if source is None or (sender, chunk.partition, chunk.after) != (
            source.node,
            source.partition,
            source.after,
        ):
            return
        for moved in chunk.keys:
            if moved.siblings:
                self._node.merge(moved.key, decode(moved.siblings), moved.siblings)
            if moved.HasField("record"):
                self._acceptors.absorb(moved.key, moved.record)
        size = chunk.ByteSize()
        self._keys += len(chunk.keys)
        self._bytes += size
        self._node.counters["transfer_bytes"] += size
        if chunk.keys:
            source.after = chunk.keys[-1].key
        source.done = chunk.done
        source.unanswered = 0
        self._asked = None
        rate = self._node.settings.transfer_bytes_per_s
        self.due_ns = now.monotonic_ns + size * SECOND_NS // rate
        self.wake(now)

    def answer(self, epoch: int, pull: dynamo_pb2.Pull) -> dynamo_pb2.Chunk:
        """Return the next piece of a partition.

        The keys are listed once per epoch: what is written later goes to the new owner anyway.
        """
        if self._held[0] != epoch:
            by_partition: dict[int, list[str]] = {}
            for key in sorted({*self._node.replica.keys(), *self._acceptors.keys()}):
                by_partition.setdefault(self._node.ring.partition(key), []).append(key)
            self._held = epoch, by_partition
        chunk = dynamo_pb2.Chunk(partition=pull.partition, after=pull.after)
        size = 0
        for key in self._held[1].get(pull.partition, ()):
            if key <= pull.after:
                continue
            if size > CHUNK_BYTES:
                return chunk
            encoded = self._node.replica.encoded(key)
            moved = chunk.keys.add(key=key, siblings=encoded)
            record = self._acceptors.record(key)
            if record is not None:
                moved.record.CopyFrom(record)
            size += moved.ByteSize()
        chunk.done = True
        return chunk
