"""Operations on a key for whoever asked (Dynamo §4.5, §4.6, §5).

A primary of the key coordinates while one is alive: it stores its own copy first and names the
write by a dot of its own, so vectors have N entries however many nodes there are. The paper lets
any node coordinate a read; here that would save a hop for one read in five and cost the copy that
a primary has at hand. Where a fallback may count and no primary is alive, a fallback coordinates.
"""

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
    is_conditional,
    may_stand_in,
    need,
)
from leaderless.dynamo.reading import Reads
from leaderless.dynamo.settings import Quorum
from leaderless.dynamo.targets import NOBODY, Targets, choose_targets
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

    def _targets(self, now: Instant, body: Body) -> Targets:
        node = self._node
        primaries = node.ring.preference(body.key)
        if not may_stand_in(body, node.settings):
            return Targets(primaries, primaries, NOBODY)

        def alive(replica: NodeId) -> bool:
            return node.alive(replica, now.monotonic_ns)

        # ANY in a strict cluster: a hint at the coordinator counts, nobody else stands in.
        sloppy = node.settings.quorum is Quorum.SLOPPY
        targets = choose_targets(
            primaries, node.ring.beyond(body.key) if sloppy else (), alive, node.name
        )
        node.counters["stand_ins_asked"] += len(targets.stand_ins)
        return targets

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
        if not wanted.met(alive, targets):
            primaries = sum(each not in targets.stand_ins for each in alive)
            raise QuorumUnreachable(wanted.primaries, primaries)
        return dead
