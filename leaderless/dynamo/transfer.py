"""Moving partitions: who is to own one fetches it from those who do.

What was acknowledged by the ring before is at W of its N owners. So a new owner merges what N-W+1
of them hold, or as many as make every other quorum impossible: then it has every such write, and as
many old owners go by the new ring, and refuse whoever does not. Meanwhile new writes go to both
(``Need.met``). Each question can be repeated, and each answer merged twice: a transfer that was
interrupted goes on where it stood. Every old owner has its own question: one that is dead keeps
nobody waiting for the others.
"""

from collections import Counter
from collections.abc import Callable, Iterable
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


@dataclass(slots=True)
class _Question:
    """What one old owner was asked and has not answered."""

    source: _Source
    repeat_ns: int


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
        self._replaced: set[NodeId] = set()
        self._questions: dict[NodeId, _Question] = {}  # one to each old owner at a time
        self._silence: Counter[NodeId] = Counter()  # questions since the last answer
        self._free_ns = 0  # when the throttle allows the next question
        self.due_ns: int | None = None
        self._keys = self._bytes = 0
        self._held: tuple[int, dict[int, list[str]]] = (-1, {})  # epoch, keys by partition

    def begin(
        self,
        now: Instant,
        wanted: dict[int, tuple[NodeId, ...]],
        required: int,
        replaced: Iterable[NodeId],
    ) -> None:
        """Fetch these partitions, each from ``required`` of its old owners at least.

        Who is ``replaced`` is dead for good if it seems so, and then all others are enough.
        """
        self._sources = [
            _Source(owner, partition)
            for partition, owners in sorted(wanted.items())
            for owner in owners
            if owner != self._node.name
        ]
        self._required, self._replaced = required, {*replaced}
        self._keys = self._bytes = 0
        self._questions, self._silence = {}, Counter()
        self._free_ns = self.due_ns = now.monotonic_ns
        self.wake(now)

    def stop(self) -> None:
        """Fetch nothing any more."""
        self._sources, self._questions, self.due_ns = [], {}, None

    def wake(self, now: Instant) -> None:
        """Ask for the next pieces, or again for those that have not come."""
        now_ns = now.monotonic_ns
        if self.due_ns is None or now_ns < self.due_ns:
            return
        self._questions = {
            owner: each for owner, each in self._questions.items() if now_ns < each.repeat_ns
        }
        wanted = self._wanted(now_ns)
        if not wanted:
            partitions = len({each.partition for each in self._sources})
            self.stop()
            self._finished(now, partitions, self._keys, self._bytes)
            return
        idle = [owner for owner in wanted if owner not in self._questions]
        if now_ns >= self._free_ns:
            for owner in idle:
                source = wanted[owner]
                self._questions[owner] = _Question(source, now_ns + REPEAT_NS)
                self._silence[owner] += 1
                self._ask(owner, dynamo_pb2.Pull(partition=source.partition, after=source.after))
        times = [each.repeat_ns for each in self._questions.values()]
        if idle and now_ns < self._free_ns:
            times.append(self._free_ns)
        self.due_ns = min(times)

    def _wanted(self, now_ns: int) -> dict[NodeId, _Source]:
        """Return what to ask whom for next; nothing when everything that is needed is here.

        All are asked, also more than is needed: but who seems dead, or never answers, only then.
        """
        alive, patient = {}, {}
        for owner in dict.fromkeys(each.node for each in self._sources):
            alive[owner] = self._node.alive(owner, now_ns)
            patient[owner] = self._silence[owner] < UNANSWERED_MAX
        lost = {each for each in self._replaced if not (alive.get(each) or patient.get(each))}
        complete: Counter[int] = Counter()
        possible: Counter[int] = Counter()
        for each in self._sources:
            complete[each.partition] += each.done
            possible[each.partition] += each.done or each.node not in lost
        wanted: dict[NodeId, _Source] = {}
        for each in self._sources:
            required = min(self._required, possible[each.partition])
            needed = complete[each.partition] < required
            if each.done or not (needed or (alive[each.node] and patient[each.node])):
                continue
            if each.node not in wanted or each.after:  # what was begun comes first
                wanted[each.node] = each
        return wanted

    def take(self, now: Instant, sender: NodeId, chunk: dynamo_pb2.Chunk) -> None:
        """Merge what came, and ask for more once the throttle allows it."""
        question = self._questions.get(sender)
        if question is None or (chunk.partition, chunk.after) != (
            question.source.partition,
            question.source.after,
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
        source = question.source
        if chunk.keys:
            source.after = chunk.keys[-1].key
        source.done = chunk.done
        del self._questions[sender]
        self._silence[sender] = 0
        rate = self._node.settings.transfer_bytes_per_s
        # All old owners share it: what several sent at a time is paid for one after the other.
        self._free_ns = max(self._free_ns, now.monotonic_ns) + size * SECOND_NS // rate
        self.due_ns = now.monotonic_ns
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
