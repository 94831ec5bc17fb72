"""Reads: R answers make the reply, all answers make the repair (Dynamo §5).

All who were chosen are asked for what they hold, or (``read_fanout = "digest"``, as Cassandra does)
only as many as are needed, and for a digest: this node's own copy is the one that is compared. Who
differs is asked again, in full. Then a late answer holds the reply up, so one more replica may be
asked after a while (a hedged read; Cassandra: speculative retry).
"""

from collections import deque
from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Final

from leaderless.dynamo.context import encode_context
from leaderless.dynamo.hints import Handoff
from leaderless.dynamo.node import Node
from leaderless.dynamo.quorum import PendingHedge, PendingRead, PendingRepair
from leaderless.dynamo.repair import compare_answers, merge_answers
from leaderless.dynamo.resolve import resolved_of
from leaderless.dynamo.settings import Fanout, ReadRepair
from leaderless.dynamo.types import shown
from leaderless.dynamo.versions import Siblings, Versions, decode, encode
from leaderless.v1 import dynamo_pb2
from replication.errors import OperationError, QuorumTimeout
from replication.protocol import Instant, NodeId
from replication.v1 import event_pb2, storage_pb2

DIGEST_BYTES: Final = 8
LATENCIES_KEPT: Final = 512
LATENCIES_LEAST: Final = 32  # a percentile of fewer says nothing


def digest_of(encoded: bytes) -> bytes:
    """Return what stands for ``encoded`` in an answer."""
    return blake2b(encoded, digest_size=DIGEST_BYTES).digest()


class Reads:
    """The reads that this node coordinates."""

    def __init__(self, node: Node, handoff: Handoff) -> None:
        self._node = node
        self._handoff = handoff
        self._repairs = 0  # sent and not confirmed
        self._latencies_ns: deque[int] = deque(maxlen=LATENCIES_KEPT)
        self._hedge_after_ns = node.settings.hedge_after_ns

    def begin(self, now: Instant, read: PendingRead, deadline_ns: int) -> None:
        """Ask whom the fan-out says, this node first."""
        node, settings = self._node, self._node.settings
        node.counters["reads"] += 1
        deadline_ns = min(deadline_ns, now.monotonic_ns + settings.read_timeout_ns)
        number = node.pending.add(read, deadline_ns)
        by_digest = settings.read_fanout is Fanout.DIGEST
        if by_digest:
            read.asked = self._just_enough(now, read)
            node.counters["digest_reads"] += len(read.asked) - 1
            if self._hedge_after_ns is not None:
                hedge = PendingHedge(number)
                read.hedge = node.pending.add(hedge, now.monotonic_ns + self._hedge_after_ns)
        load = dynamo_pb2.Load(number=number, key=read.key, digest=by_digest)
        for replica in read.asked:
            if replica != node.name:
                node.outbox.question(replica, len(read.key)).loads.append(load)
        self.loaded(now, node.name, number, node.encoded(read.key))

    def _just_enough(self, now: Instant, read: PendingRead) -> tuple[NodeId, ...]:
        chosen: list[NodeId] = [self._node.name]
        for replica in self._by_health(now, read):
            if read.need.met(chosen, read.targets):
                break
            chosen.append(replica)
        return tuple(chosen)

    def _by_health(self, now: Instant, read: PendingRead) -> list[NodeId]:
        """Return the others that may be asked: those who seem dead last."""
        others = [each for each in read.targets.asked if each != self._node.name]
        return sorted(others, key=lambda each: not self._node.alive(each, now.monotonic_ns))

    def hedge(self, now: Instant, hedge: PendingHedge) -> None:
        """Ask one more replica, since those that were asked keep the reader waiting."""
        node = self._node
        read = node.pending.get(hedge.read)
        if not isinstance(read, PendingRead) or read.enough:
            return
        spare = [each for each in self._by_health(now, read) if each not in read.asked]
        if spare:
            node.counters["hedged_reads"] += 1
            read.hedged = spare[0]
            read.asked = (*read.asked, spare[0])
            node.outbox.question(spare[0], len(read.key)).loads.add(number=hedge.read, key=read.key)

    # Answers.

    def digested(self, now: Instant, replica: NodeId, number: int, digest: bytes) -> None:
        """Take a digest of what ``replica`` holds: as good as the whole if this node has the same.

        The node's own answer was the first of the read; there is none if a ring has come since by
        which it holds the key no more.
        """
        node = self._node
        read = node.pending.get(number)
        if not isinstance(read, PendingRead) or replica in read.doubted:
            return
        node.counters["read_bytes"] += len(digest)
        own = read.answers.get(node.name)
        if own is not None and digest == digest_of(own):
            self.loaded(now, replica, number, own)
        elif replica not in read.answers:
            node.counters["digest_mismatches"] += 1
            read.doubted.append(replica)
            node.outbox.question(replica, len(read.key)).loads.add(number=number, key=read.key)

    def loaded(self, now: Instant, replica: NodeId, number: int, siblings: bytes) -> None:
        """Take what ``replica`` holds of the key of a read."""
        read = self._node.pending.get(number)
        if not isinstance(read, PendingRead):
            return
        if read.add(replica, siblings):
            self._complete(now, number, read)
        self._conclude(now, number, read)

    def _complete(self, now: Instant, number: int, read: PendingRead) -> None:
        """The quorum has answered: reply, or (blocking) repair what differs before.

        So whoever reads later sees no less than this reader: R replicas have what it was shown, and
        any R of N include one of them (Cassandra: monotonic quorum reads).
        """
        blocking = self._node.settings.read_repair is ReadRepair.BLOCKING
        if not blocking or read.need.replicas < 2 or len(set(read.answers.values())) < 2:
            self._reply(now, read)
            return
        self._node.counters["read_mismatches"] += 1
        self._node.counters["blocking_repairs"] += 1
        findings = compare_answers(read.answers, self._decoder(read.key), self._node.versioning)
        read.repaired = encode(findings.merged)
        read.confirmed = [each for each in read.answers if each not in findings.stale]
        for replica, lacked in findings.stale.items():
            repair = PendingRepair(read.key, replica, lacked, number)
            self._send_repair(now, read, repair, findings.merged)
        self._reply_if_repaired(now, read)

    def _reply_if_repaired(self, now: Instant, read: PendingRead) -> None:
        if not read.replied and read.need.met(read.confirmed, read.targets):
            self._reply(now, read)

    def _conclude(self, now: Instant, number: int, read: PendingRead) -> None:
        """End a read of which no more is to come."""
        # A replica that seems dead is not waited for: it would hold up the repair of the others.
        if read.replied and not self._any_alive(now, read.missing()):
            self._node.pending.remove(number)
            self._repair(now, read)

    def expire(self, now: Instant, read: PendingRead) -> OperationError | None:
        """Give up waiting. Returns the error to answer with, None when that was done before."""
        self._repair(now, read)
        got = len(read.answers if read.repaired is None else read.confirmed)
        return None if read.replied else QuorumTimeout(got, read.need.replicas)

    def _reply(self, now: Instant, read: PendingRead) -> None:
        node = self._node
        read.replied = True
        counted = read.answers if read.repaired is None else read.confirmed
        if read.repaired is None:
            siblings = merge_answers(read.answers, self._decoder(read.key), node.versioning)
        else:
            siblings = self._decoder(read.key)(read.repaired)
        versions, resolved = resolved_of(node.settings.resolve, shown(siblings))
        newest_ns = siblings.newest_ns() if node.settings.versions is Versions.HLC else 0
        response = storage_pb2.GetResponse(
            versions=versions,
            resolved=resolved,
            context=encode_context(read.key, siblings.seen, newest_ns),
            served=node.served(counted, read.targets),
        )
        node.answer(read.origin, response)
        if node.settings.read_fanout is Fanout.DIGEST:
            self._end_hedge(now, read)

    def _end_hedge(self, now: Instant, read: PendingRead) -> None:
        node = self._node
        if read.hedge is not None and node.pending.get(read.hedge) is not None:
            node.pending.remove(read.hedge)
        if read.hedged in read.answers:
            node.counters["hedges_won"] += 1
        percentile = node.settings.hedge_percentile
        if percentile is None:
            return
        # What a hedge was answered sooner would have taken longer, but nobody knows how long.
        self._latencies_ns.append(now.monotonic_ns - read.began_ns)
        kept = len(self._latencies_ns)
        if kept >= LATENCIES_LEAST and node.counters["reads"] % LATENCIES_LEAST == 0:
            rank = min(kept - 1, int(kept * percentile / 100))
            self._hedge_after_ns = max(1, sorted(self._latencies_ns)[rank])

    # Repair.

    def _repair(self, now: Instant, read: PendingRead) -> None:
        """Bring every primary that answered to what all answers together say (Dynamo §5).

        Who stands in for one is left alone: it holds what came while that one was away, no more.
        """
        node = self._node
        if len(set(read.answers.values())) < 2:
            return
        if read.repaired is None:
            node.counters["read_mismatches"] += 1
        if node.settings.read_repair is ReadRepair.OFF:
            return
        findings = compare_answers(read.answers, self._decoder(read.key), node.versioning)
        for replica, lacked in findings.stale.items():
            if replica in read.targets.stand_ins:
                continue
            if not node.may_work_in_the_background() or self._repairs >= node.settings.repairs_max:
                node.counters["read_repairs_shed"] += 1
                continue
            self._send_repair(now, read, PendingRepair(read.key, replica, lacked), findings.merged)

    def _send_repair(
        self, now: Instant, read: PendingRead, repair: PendingRepair, merged: Siblings
    ) -> None:
        node, encoded = self._node, encode(merged)
        absent = read.targets.stand_ins.get(repair.replica, "")
        if repair.replica == node.name:
            changed = (
                self._handoff.stand_in(now, absent, read.key, merged, encoded)
                if absent
                else node.merge(read.key, merged, encoded)[0]
            )
            self._repaired(now, repair, changed)
            return
        self._repairs += 1
        number = node.pending.add(repair, now.monotonic_ns + node.settings.write_timeout_ns)
        node.counters["read_repairs_sent"] += 1
        node.outbox.batch(repair.replica, len(encoded)).repairs.add(
            number=number, key=read.key, siblings=encoded, hint_for=absent
        )

    def repaired(self, now: Instant, replica: NodeId, number: int, changed: bool) -> None:
        """Take the confirmation of a repair."""
        repair = self._node.pending.get(number)
        if isinstance(repair, PendingRepair) and repair.replica == replica:
            self._node.pending.remove(number)
            self._repairs -= 1
            self._repaired(now, repair, changed)

    def unconfirmed(self) -> None:
        """A repair was not confirmed in time: the next read of the key finds out."""
        self._repairs -= 1

    def _repaired(self, now: Instant, repair: PendingRepair, changed: bool) -> None:
        # Unchanged: the replica had caught up before the repair arrived.
        if changed:
            repaired = event_pb2.ReadRepaired(
                key=repair.key, replica=repair.replica, write_ids=repair.lacked
            )
            self._node.observe(event_pb2.Event(read_repaired=repaired))
        read = None if repair.read is None else self._node.pending.get(repair.read)
        if isinstance(read, PendingRead) and repair.read is not None:
            assert read.repaired is not None, "this repair is part of the read"
            read.confirmed.append(repair.replica)
            read.answers[repair.replica] = read.repaired
            self._reply_if_repaired(now, read)
            if repair.replica != self._node.name:
                self._conclude(now, repair.read, read)

    def _any_alive(self, now: Instant, replicas: Iterable[NodeId]) -> bool:
        return any(self._node.alive(replica, now.monotonic_ns) for replica in replicas)

    def _decoder(self, key: str) -> Callable[[bytes], Siblings]:
        """Return a ``decode`` that knows what this node holds of ``key`` already."""
        replica = self._node.replica
        own = replica.encoded(key)
        return lambda data: replica.siblings(key) if data == own else decode(data)
