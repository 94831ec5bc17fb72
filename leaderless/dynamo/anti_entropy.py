"""Anti-entropy: replicas compare their Merkle trees and exchange what differs (Dynamo §4.7).

In every interval a node turns to the next of its peers and sends the roots of the partitions that
both hold. Where they differ the two tell each other, in turn, the digests one level further down,
until a leaf is reached: then its keys are listed. A key that differs is doubted, not believed: most
often a write is under way. Only if it differs again a little later, and one side still holds what
it held, what is held travels (Riak, too, repeats its comparison until the difference is stable).

Nobody keeps the state of an exchange. Each message can be answered from what it says, so any may be
lost or late. What is sent is limited in bytes per second, and waits here until it may go.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from leaderless.dynamo.merkle import FIRST_LEAF, Digest, MerkleForest
from leaderless.dynamo.node import Node
from leaderless.dynamo.rounds import Rounds
from leaderless.dynamo.vector import fill_vector, vector_of
from leaderless.dynamo.versions import Versions, decode
from leaderless.v1 import dynamo_pb2
from replication.errors import QuorumTimeout
from replication.protocol import Instant, NodeId, RequestId
from replication.v1 import control_pb2, event_pb2, storage_pb2

CONFIRM_AFTER_NS: Final = 200_000_000  # a write in flight has arrived by then, or is late
HURRY_NS: Final = 50_000_000  # between exchanges while somebody waits for a round
DOUBTS_MAX: Final = 4096  # per peer; what is beyond is found by the next exchange
BACKLOG_MAX: Final = 4096  # messages that wait for the throttle; beyond it they are dropped
CHUNK_BYTES: Final = 64 * 1024
SECOND_NS: Final = 1_000_000_000


@dataclass(slots=True)
class _Doubts:
    """Keys that differed at the first look, with the digests here and there."""

    due_ns: int
    keys: dict[str, tuple[Digest, Digest]]


@dataclass(slots=True)
class _Exchange:
    """What this node knows of its last exchange with a peer."""

    number: int
    begun_ns: int
    partitions: int  # that both hold
    bytes_sent: int = 0
    answered: bool = False
    differing: int = 0
    doubted: int = 0
    confirmed: int = 0


class AntiEntropy:
    """The exchanges of one node."""

    def __init__(self, node: Node, forest: MerkleForest, due_ns: int) -> None:
        self._node = node
        self._forest = forest
        self._due_ns = due_ns  # of the next exchange
        self._turn = 0
        self._numbers = 0
        self._exchanges: dict[NodeId, _Exchange] = {}
        self._doubts: dict[NodeId, _Doubts] = {}
        self._backlog: deque[tuple[NodeId, dynamo_pb2.AntiEntropy, int]] = deque()
        self._busy_until_ns: dict[NodeId, int] = {}  # a difference is being looked into
        self._free_ns = 0  # when the throttle lets the next message go
        self._rounds = Rounds(node.name, node.peers, self._send, self._finish)

    def await_round(self, now: Instant, request_id: RequestId, deadline_ns: int) -> None:
        """Answer when a round of every node, begun from now on, has found nothing different."""
        self._rounds.begin(request_id, now.monotonic_ns, deadline_ns)
        self._hurry(now.monotonic_ns)
        self._let_go(now.monotonic_ns)

    # What happens with the time.

    def wake(self, now: Instant) -> None:
        """Begin what is due, take the second look, let go what the throttle allows."""
        now_ns = now.monotonic_ns
        interval_ns = self._node.settings.anti_entropy_ns
        if now_ns >= self._due_ns:
            self._due_ns = now_ns + (HURRY_NS if self._rounds.wanted else interval_ns)
            self._begin(now_ns)
        self._rounds.wake(now_ns)
        for peer in [peer for peer, each in self._doubts.items() if each.due_ns <= now_ns]:
            self._look_again(now_ns, peer, self._doubts.pop(peer))
        self._let_go(now_ns)

    def wake_at(self) -> int:
        """Return when ``wake`` has something to do."""
        first_ns = min(self._due_ns, self._free_ns) if self._backlog else self._due_ns
        for each in self._doubts.values():
            first_ns = min(first_ns, each.due_ns)
        rounds_ns = self._rounds.wake_at()
        return first_ns if rounds_ns is None else min(first_ns, rounds_ns)

    def _hurry(self, now_ns: int) -> None:
        """Somebody waits for a round: do not wait for the next interval."""
        self._due_ns = min(self._due_ns, now_ns + HURRY_NS)

    def _begin(self, now_ns: int) -> None:
        node = self._node
        for _ in node.peers:
            peer = node.peers[self._turn % len(node.peers)]
            self._turn += 1
            shared = node.ring.shared(node.name, peer)
            if not shared:
                self._rounds.equal(peer, now_ns)  # they hold nothing in common
            elif node.alive(peer, now_ns) and self._busy_until_ns.get(peer, 0) <= now_ns:
                break
        else:
            return
        self._tell_exchange(peer)
        self._numbers += 1
        roots = dynamo_pb2.MerkleRoots(
            exchange=self._numbers,
            partitions=shared,
            digests=[self._forest.tree(each).root for each in shared],
        )
        self._exchanges[peer] = _Exchange(self._numbers, now_ns, len(shared))
        self._send(peer, dynamo_pb2.AntiEntropy(roots=roots))

    def _look_again(self, now_ns: int, peer: NodeId, doubts: _Doubts) -> None:
        message = dynamo_pb2.AntiEntropy()
        for key, (before, theirs) in doubts.keys.items():
            mine = self._forest.digest(key)
            if mine == theirs:
                self._node.counters["merkle_keys_settled"] += 1
            else:
                doubt = message.doubts.add(
                    key=key, digest=mine, expected=theirs, unchanged=mine == before
                )
                if self._node.settings.versions is Versions.DVV:
                    fill_vector(doubt.vector, self._node.replica.siblings(key).vector)
        if message.doubts:
            self._send(peer, message)

    # What arrives.

    def receive(self, now: Instant, sender: NodeId, message: dynamo_pb2.AntiEntropy) -> None:
        """Answer what ``sender`` told of its trees and keys."""
        now_ns = now.monotonic_ns
        answer = _Answer()
        if message.HasField("roots"):
            self._compare_roots(sender, message.roots, answer)
        if message.HasField("compared"):
            self._take_comparison(sender, message.compared)
        for each in message.ranges:
            self._compare_range(each, answer)
        if message.keys:
            self._doubt(now_ns, sender, message.keys)
        if message.keys or message.ranges:
            self._busy_until_ns[sender] = now_ns + 2 * CONFIRM_AFTER_NS
        for doubt in message.doubts:
            self._confirm(sender, doubt, answer)
        if message.syncs:
            self._merge(sender, message.syncs, answer)
        for each_answer in answer.messages:
            self._send(sender, each_answer)
        if message.round_wanted:
            self._rounds.ask(sender, message.round_wanted, now_ns)
            self._hurry(now_ns)
        if message.round_done:
            self._rounds.done(sender, message.round_done)
        self._let_go(now_ns)

    def _compare_roots(
        self, sender: NodeId, roots: dynamo_pb2.MerkleRoots, answer: "_Answer"
    ) -> None:
        shared = frozenset(self._node.ring.shared(self._node.name, sender))
        compared = dynamo_pb2.MerkleCompared(exchange=roots.exchange)
        for partition, digest in zip(roots.partitions, roots.digests, strict=False):
            tree = self._forest.tree(partition)
            if partition not in shared:
                compared.not_held.append(partition)
            elif tree.root != digest:
                compared.differing.append(partition)
                answer.range(partition, 0, tree.digests_below(0))
        answer.part(0).compared.CopyFrom(compared)

    def _take_comparison(self, sender: NodeId, compared: dynamo_pb2.MerkleCompared) -> None:
        exchange = self._exchanges.get(sender)
        if exchange is None or exchange.number != compared.exchange or exchange.answered:
            return
        exchange.answered = True
        exchange.differing = len(compared.differing)
        counters = self._node.counters
        counters["merkle_exchanges"] += 1
        counters["merkle_ranges_compared"] += exchange.partitions
        counters["merkle_ranges_differing"] += exchange.differing
        if not compared.differing and not compared.not_held:
            self._rounds.equal(sender, exchange.begun_ns)

    def _compare_range(self, below: dynamo_pb2.MerkleRange, answer: "_Answer") -> None:
        tree = self._forest.tree(below.partition)
        for child in tree.differing(below.node, below.digests):
            if child < FIRST_LEAF:
                answer.range(below.partition, child, tree.digests_below(child))
            else:
                answer.keys(below.partition, child, tree.keys_of(child))

    def _doubt(self, now_ns: int, sender: NodeId, leaves: Iterable[dynamo_pb2.MerkleKeys]) -> None:
        doubts = self._doubts.setdefault(sender, _Doubts(now_ns + CONFIRM_AFTER_NS, {}))
        before = len(doubts.keys)
        for leaf in leaves:
            theirs = dict(zip(leaf.keys, leaf.digests, strict=False))
            mine = self._forest.tree(leaf.partition).keys_of(leaf.leaf)
            for key in theirs | mine:
                digests = mine.get(key, 0), theirs.get(key, 0)
                if digests[0] != digests[1] and len(doubts.keys) < DOUBTS_MAX:
                    doubts.keys.setdefault(key, digests)
        found = len(doubts.keys) - before
        self._node.counters["merkle_keys_doubted"] += found
        if sender in self._exchanges:
            self._exchanges[sender].doubted += found

    def _confirm(self, sender: NodeId, doubt: dynamo_pb2.KeyDoubt, answer: "_Answer") -> None:
        mine = self._forest.digest(doubt.key)
        counters = self._node.counters
        if mine == doubt.digest:
            counters["merkle_keys_settled"] += 1
        elif mine == doubt.expected or doubt.unchanged:
            counters["merkle_keys_differing"] += 1
            if sender in self._exchanges:
                self._exchanges[sender].confirmed += 1
            self._tell_difference(doubt, answer)
        # Otherwise both have moved on meanwhile: the next exchange sees where to.

    def _tell_difference(self, doubt: dynamo_pb2.KeyDoubt, answer: "_Answer") -> None:
        """Answer with what is held here, unless the other side has seen it all."""
        held = self._node.replica.siblings(doubt.key)
        encoded = self._node.replica.encoded(doubt.key)
        seen = vector_of(doubt.vector)
        # Only with dotted version vectors has whoever saw more nothing to learn from who saw less:
        # elsewhere a vector covers versions that lost nothing to those that are held.
        if self._node.settings.versions is not Versions.DVV or seen == held.vector:
            answer.sync(doubt.key, encoded, reply=doubt.digest != 0)
        elif seen.includes(held.vector):
            answer.sync(doubt.key, b"", reply=True)
        else:
            answer.sync(doubt.key, encoded, reply=not held.vector.includes(seen))

    def _merge(
        self, sender: NodeId, syncs: Iterable[dynamo_pb2.KeySync], answer: "_Answer"
    ) -> None:
        node = self._node
        synced = event_pb2.ReplicaSynced(peer=sender)
        for sync in syncs:
            before = node.replica.siblings(sync.key)
            if sync.siblings:
                changed, after = node.merge(sync.key, decode(sync.siblings), sync.siblings)
                if changed:
                    synced.keys.append(sync.key)
                    synced.bytes_differing += len(sync.key) + len(sync.siblings)
                    new = after.versions.keys() - before.versions.keys()
                    synced.write_ids.extend(after.versions[dot].write_id for dot in sorted(new))
            held = node.replica.encoded(sync.key)
            if sync.reply and held != sync.siblings:
                answer.sync(sync.key, held, reply=False)
        if synced.keys:
            node.counters["merkle_keys_synced"] += len(synced.keys)
            node.counters["merkle_bytes_differing"] += synced.bytes_differing
            node.observe(event_pb2.Event(replica_synced=synced))

    # What leaves.

    def _finish(self, request_id: RequestId, answered: int | None) -> None:
        node = self._node
        if answered is None:
            words = "every replica of every partition was found equal to the others"
            served = storage_pb2.Served(node=node.name)
            response = control_pb2.CommandResponse(served=served, words=words)
            node.outbox.reply(request_id, response)
        else:
            node.outbox.reply(request_id, QuorumTimeout(answered, len(node.peers) + 1))

    def _send(self, peer: NodeId, message: dynamo_pb2.AntiEntropy) -> None:
        size = message.ByteSize()
        if size == 0 or len(self._backlog) >= BACKLOG_MAX:
            return
        self._backlog.append((peer, message, size))

    def _let_go(self, now_ns: int) -> None:
        rate = self._node.settings.anti_entropy_bytes_per_s
        while self._backlog and self._free_ns <= now_ns:
            peer, message, size = self._backlog.popleft()
            self._free_ns = max(self._free_ns, now_ns - SECOND_NS // 10) + size * SECOND_NS // rate
            self._node.counters["merkle_bytes_sent"] += size
            if peer in self._exchanges:
                self._exchanges[peer].bytes_sent += size
            self._node.outbox.send(peer, dynamo_pb2.DynamoMessage(anti_entropy=message))

    def _tell_exchange(self, peer: NodeId) -> None:
        """Tell what the last exchange with ``peer`` has come to, if it found anything."""
        exchange = self._exchanges.pop(peer, None)
        if exchange is None or not exchange.differing:
            return
        compared = event_pb2.RangesCompared(
            peer=peer,
            ranges=exchange.partitions,
            differing=exchange.differing,
            keys_doubted=exchange.doubted,
            keys_differing=exchange.confirmed,
            bytes_sent=exchange.bytes_sent,
        )
        self._node.observe(event_pb2.Event(ranges_compared=compared))


class _Answer:
    """What is to be sent back, in messages of bounded size."""

    def __init__(self) -> None:
        self.messages: list[dynamo_pb2.AntiEntropy] = []
        self._bytes = 0

    def part(self, size: int) -> dynamo_pb2.AntiEntropy:
        """Return the message that something of ``size`` bytes is to be added to."""
        if not self.messages or self._bytes + size > CHUNK_BYTES:
            self.messages.append(dynamo_pb2.AntiEntropy())
            self._bytes = 0
        self._bytes += size
        return self.messages[-1]

    def range(self, partition: int, node: int, digests: list[Digest]) -> None:
        """Tell the digests right below a node."""
        part = self.part(8 * len(digests))
        part.ranges.add(partition=partition, node=node, digests=digests)

    def keys(self, partition: int, leaf: int, held: Mapping[str, Digest]) -> None:
        """Tell the keys of a leaf."""
        part = self.part(sum(len(key) + 10 for key in held))
        part.keys.add(partition=partition, leaf=leaf, keys=held.keys(), digests=held.values())

    def sync(self, key: str, siblings: bytes, *, reply: bool) -> None:
        """Tell what is held of a key."""
        self.part(len(key) + len(siblings)).syncs.add(key=key, siblings=siblings, reply=reply)
