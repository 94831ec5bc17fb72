"""When a deleted key may be forgotten. The paper says nothing of deletes; its heirs do this.

A tombstone is a version, and it has to stay as long as any copy of what it superseded may turn up:
a replica that has forgotten the delete takes such a copy for news (a zombie). ``purge = "time"``
forgets it after a grace, as Cassandra does, and so makes zombies of a replica that was away for
longer. ``"after_repair"`` asks all members first, once the grace is over, and forgets it everywhere
only if all primaries hold exactly this and nobody keeps anything of the key for another node (Riak
asks all primaries; Scylla ties its purge to repair).
"""

from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Final

from leaderless.dynamo.hints import Handoff
from leaderless.dynamo.node import Node
from leaderless.dynamo.quorum import PendingPurge
from leaderless.dynamo.reading import digest_of
from leaderless.dynamo.settings import MILLISECOND_NS, Purge
from leaderless.dynamo.versions import Siblings
from leaderless.v1 import dynamo_pb2
from replication.protocol import Instant, NodeId
from replication.v1 import event_pb2

AGAIN_NS: Final = 500 * MILLISECOND_NS  # after somebody was away or held something else
ASKED_MAX: Final = 64  # keys at a time


@dataclass(frozen=True, slots=True, order=True)
class Due:
    """When the grace of a deleted key is over."""

    at_ns: int
    key: str


class Tombstones:
    """The deleted keys of this node, and when it may forget them."""

    def __init__(self, node: Node, handoff: Handoff) -> None:
        self._node = node
        self._handoff = handoff
        self._due: list[Due] = []  # a heap
        self._waiting: set[str] = set()  # the keys in it
        self._asked = 0

    def load(self, now: Instant) -> None:
        """Look for the deleted keys of a store that was just read."""
        if self._node.settings.purge is Purge.NEVER:
            return
        for key in list(self._node.replica.keys()):
            self._note(now, key)

    def wake_at(self) -> int | None:
        """Return when a grace is over, None while nothing is deleted."""
        return self._due[0].at_ns if self._due else None

    def wake(self, now: Instant) -> None:
        """Forget what may be forgotten by now, or ask the others whether it may."""
        node = self._node
        for key in node.deleted:
            self._note(now, key)
        node.deleted.clear()
        while self._due and self._due[0].at_ns <= now.monotonic_ns:
            key = heappop(self._due).key
            self._waiting.discard(key)
            held = node.replica.siblings(key)
            if not held.is_deleted():
                continue  # It was written anew.
            if self._left_ns(now, held):
                self._note(now, key)  # And deleted once more: that has a grace of its own.
            elif node.settings.purge is Purge.TIME:
                self._purge(key, held)
            elif node.ring.preference(key)[0] == node.name:
                self._ask(now, key)

    def _note(self, now: Instant, key: str) -> None:
        held = self._node.replica.siblings(key)
        if key not in self._waiting and held.is_deleted():
            self._wait(now.monotonic_ns + self._left_ns(now, held), key)

    def _left_ns(self, now: Instant, held: Siblings) -> int:
        """Return what is left of the grace of a deleted key.

        By the time of the delete itself: a copy that another replica sends again is no younger, so
        that replicas do not keep a tombstone alive for each other.
        """
        grace_ns = self._node.settings.tombstone_grace_ns
        return max(0, held.newest_ns() + grace_ns - now.wall_ns)

    def _wait(self, at_ns: int, key: str) -> None:
        self._waiting.add(key)
        heappush(self._due, Due(at_ns, key))

    def _purge(self, key: str, held: Siblings) -> None:
        node = self._node
        purged = event_pb2.TombstonePurged(
            key=key, write_ids=[version.write_id for version in held.distinct()]
        )
        node.observe(event_pb2.Event(tombstone_purged=purged))
        node.remember_purged(key, held.vector)
        node.forget(key, node.replica)

    # After repair: the first primary of the key asks.

    def _ask(self, now: Instant, key: str) -> None:
        node = self._node
        alive = all(node.alive(peer, now.monotonic_ns) for peer in node.peers)
        if not alive or self._asked >= ASKED_MAX or not node.may_work_in_the_background():
            self._wait(now.monotonic_ns + AGAIN_NS, key)
            return
        self._asked += 1
        pending = PendingPurge(key, digest_of(node.replica.encoded(key)), set(node.peers))
        number = node.pending.add(pending, now.monotonic_ns + node.settings.write_timeout_ns)
        for peer in node.peers:
            node.outbox.batch(peer, len(key)).purges.add(
                number=number, key=key, digest=pending.digest
            )
        self._decide(now, number, pending)

    def asked(self, now: Instant, sender: NodeId, question: dynamo_pb2.Purge) -> None:
        """Tell whether this node may forget the key, or do it."""
        node = self._node
        if question.decided:
            if digest_of(node.replica.encoded(question.key)) == question.digest:
                self._purge(question.key, node.replica.siblings(question.key))
            return
        agreed = self._agrees(question.key, question.digest)
        node.outbox.batch(sender).purged.add(number=question.number, agreed=agreed)

    def _agrees(self, key: str, digest: bytes) -> bool:
        node = self._node
        if self._handoff.keeps(key):
            return False
        if node.name in node.ring.preference(key):
            return digest_of(node.replica.encoded(key)) == digest
        return key not in node.replica and key not in node.stand_ins

    def answered(self, now: Instant, sender: NodeId, answer: dynamo_pb2.Purged) -> None:
        """Take what one member says; when all agree, all forget."""
        pending = self._node.pending.get(answer.number)
        if not isinstance(pending, PendingPurge) or sender not in pending.waiting:
            return
        if not answer.agreed:
            self._node.pending.remove(answer.number)
            self.unanswered(now, pending)
            return
        pending.waiting.remove(sender)
        self._decide(now, answer.number, pending)

    def _decide(self, now: Instant, number: int, pending: PendingPurge) -> None:
        node = self._node
        if pending.waiting:
            return
        node.pending.remove(number)
        self._asked -= 1
        if not self._agrees(pending.key, pending.digest):
            self._note(now, pending.key)
            return
        for primary in node.ring.preference(pending.key):
            if primary != node.name:
                node.outbox.batch(primary, len(pending.key)).purges.add(
                    number=number, key=pending.key, digest=pending.digest, decided=True
                )
        self._purge(pending.key, node.replica.siblings(pending.key))

    def unanswered(self, now: Instant, pending: PendingPurge) -> None:
        """Ask again later: somebody was away, or holds something else."""
        self._asked -= 1
        if pending.key not in self._waiting:
            self._wait(now.monotonic_ns + AGAIN_NS, pending.key)
