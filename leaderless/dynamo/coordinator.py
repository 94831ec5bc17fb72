"""Operations on a key for whoever asked (Dynamo §4.5, §4.6, §5).

A primary of the key coordinates while one is alive: it stores its own copy first and names the
write by a dot of its own, so vectors have N entries however many nodes there are. The paper lets
any node coordinate a read; here that would save a hop for one read in five and cost the copy that
a primary has at hand. Where a fallback may count and no primary is alive, a fallback coordinates.
"""

from dataclasses import replace

from leaderless.dynamo.conditional import Proposers
from leaderless.dynamo.hints import Handoff
from leaderless.dynamo.node import Node
from leaderless.dynamo.quorum import (
    Body,
    Conditional,
    Forwardable,
    Need,
    Origin,
    PendingRead,
    PendingWrite,
    counts,
    is_conditional,
    may_stand_in,
    need,
)
from leaderless.dynamo.reading import Reads
from leaderless.dynamo.settings import Quorum
from leaderless.dynamo.targets import NOBODY, Targets, choose_targets
from leaderless.dynamo.versions import encode
from leaderless.dynamo.writing import Writes
from replication.errors import (
    InvalidRequest,
    OperationError,
    Overloaded,
    QuorumTimeout,
    QuorumUnreachable,
)
from replication.protocol import Instant, NodeId
from replication.v1 import storage_pb2


class Coordinator:
    """Gathers quorums for the operations that this node coordinates."""

    def __init__(self, node: Node, handoff: Handoff, proposers: Proposers | None) -> None:
        self._node = node
        self._proposers = proposers
        self.reads = Reads(node, handoff)
        self.writes = Writes(node, handoff)

    def perform(self, now: Instant, origin: Origin, body: Forwardable, deadline_ns: int) -> None:
        """Begin an operation on a key that this node is a primary of, or may stand in for.

        It is answered by ``deadline_ns`` or the timeout of the settings, whatever is sooner.
        """
        try:
            if is_conditional(body):
                self._perform_conditional(now, origin, body, deadline_ns)
                return
            assert not isinstance(body, storage_pb2.CompareAndSetRequest), "it is conditional"
            wanted = need(body, self._node.settings)
            targets = self._targets(now, body)
            dead = self._require_alive(now, targets, wanted)
            self.require_room()
            if isinstance(body, storage_pb2.GetRequest):
                read = PendingRead(
                    origin, wanted, targets, body.key, now.monotonic_ns, targets.asked
                )
                self.reads.begin(now, read, deadline_ns)
            else:
                if self._proposers is not None:
                    self._proposers.plain_write(body.key)
                self.writes.begin(now, origin, body, wanted, targets, dead, deadline_ns)
        except OperationError as refusal:
            # Raised before anything was stored or sent.
            self.fail(origin, refusal)

    def _perform_conditional(
        self, now: Instant, origin: Origin, body: Conditional, deadline_ns: int
    ) -> None:
        if self._proposers is None:
            text = "compare-and-set and linearizable reads need compare_and_set = 'paxos'"
            raise InvalidRequest(text)
        self.require_room()
        self._proposers.perform(now, origin, body, deadline_ns)

    def fail(self, origin: Origin, error: OperationError) -> None:
        """Answer with an error, and count it."""
        if isinstance(error, QuorumUnreachable):
            self._node.counters["quorum_unreachable"] += 1
        elif isinstance(error, QuorumTimeout):
            self._node.counters["quorum_timeouts"] += 1
        elif isinstance(error, Overloaded):
            self._node.counters["overloaded"] += 1
        self._node.answer(origin, error)

    def expire(self, now: Instant, item: PendingRead | PendingWrite) -> None:
        """Give up: the deadline has passed. ``item`` is no longer pending."""
        if isinstance(item, PendingRead):
            failure = self.reads.expire(now, item)
        else:
            failure = self.writes.expire(now, item)
        if failure is not None:
            self.fail(item.origin, failure)

    def require_room(self) -> None:
        """Raise Overloaded when too many questions are open already."""
        pending, limit = len(self._node.pending), self._node.settings.pending_max
        if pending >= limit:
            raise Overloaded(f"{self._node.name} waits for {pending} answers, at most {limit}")

    def reissue(self, now: Instant) -> None:
        """The ring has changed: ask, for what is still open, those who are to answer now.

        Whoever owns the key no more does not count any more, this node included. Only by primaries:
        what stand-ins hold finds its way by hints.
        """
        node = self._node
        for number, item in node.pending.items():
            if not isinstance(item, PendingRead | PendingWrite) or item.targets.stand_ins:
                continue
            key = item.key if isinstance(item, PendingRead) else item.write.key
            targets = self._primaries(key)
            if isinstance(item, PendingRead) and not item.enough:
                item.targets, item.asked = targets, targets.asked
                item.answers = {
                    each: found for each, found in item.answers.items() if each in item.asked
                }
                for replica in item.missing():
                    if replica != node.name:
                        loads = node.outbox.question(replica, len(key)).loads
                        loads.add(number=number, key=key)
            elif isinstance(item, PendingWrite) and not item.replied:
                item.targets = targets
                item.acknowledged = [each for each in item.acknowledged if each in targets.asked]
                encoded = encode(item.write.siblings)
                for replica in targets.asked:
                    if replica != node.name and replica not in item.acknowledged:
                        stores = node.outbox.question(replica, len(encoded)).stores
                        stores.add(number=number, key=key, siblings=encoded)

    def _primaries(self, key: str) -> Targets:
        """Return the primaries of ``key``: those who hold it, and those it is moving to."""
        ring = self._node.ring
        holding, coming = ring.preference(key), ring.moving(key)
        if not coming or coming == holding:
            return Targets(holding, holding, NOBODY)
        both = tuple(dict.fromkeys((*holding, *coming)))
        return Targets(both, both, NOBODY, (holding, coming))

    def _targets(self, now: Instant, body: Body) -> Targets:
        node = self._node
        targets = self._primaries(body.key)
        if not may_stand_in(body, node.settings):
            return targets
        primaries, joint = targets.primaries, targets.joint

        def alive(replica: NodeId) -> bool:
            return node.alive(replica, now.monotonic_ns)

        # ANY in a strict cluster: a hint at the coordinator counts, nobody else stands in.
        sloppy = node.settings.quorum is Quorum.SLOPPY
        targets = choose_targets(
            primaries, node.ring.beyond(body.key) if sloppy else (), alive, node.name
        )
        node.counters["stand_ins_asked"] += len(targets.stand_ins)
        return replace(targets, joint=joint) if joint else targets

    def _require_alive(self, now: Instant, targets: Targets, wanted: Need) -> list[NodeId]:
        """Return who seems dead of those who are asked.

        Fails fast: raises QuorumUnreachable with the numbers, before anything is done.
        """
        node = self._node
        dead = [each for each in targets.asked if not node.alive(each, now.monotonic_ns)]
        if not dead and not targets.stand_ins:
            return dead
        alive = [each for each in targets.asked if each not in dead]
        if len(alive) < wanted.replicas:
            raise QuorumUnreachable(wanted.replicas, len(alive))
        if targets.joint and not wanted.met(alive, targets):
            fewest = min(
                sum(counts(each, group, targets) for each in alive) for group in targets.joint
            )
            raise QuorumUnreachable(wanted.replicas, fewest)
        if not wanted.met(alive, targets):
            primaries = sum(each not in targets.stand_ins for each in alive)
            raise QuorumUnreachable(wanted.primaries, primaries)
        return dead
