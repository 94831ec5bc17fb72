"""Operations on keys that this node does not hold: a replica of the key coordinates them.

The answer of that replica is relayed as it is, so ``Served.node`` names who really served. A
forwarded operation is sent once: another coordinator would give a write a second dot.
"""

from typing import TypeAlias

from leaderless.dynamo.coordinator import Coordinator
from leaderless.dynamo.node import Node
from leaderless.dynamo.pending import NUMBERS_PER_LIFE, Once
from leaderless.dynamo.quorum import Forwardable, PendingForward, may_stand_in, need
from leaderless.dynamo.settings import Quorum
from leaderless.dynamo.swim import GREET_ALL_MAX
from leaderless.v1 import dynamo_pb2
from replication.errors import (
    Indefinite,
    InvalidRequest,
    OperationError,
    Overloaded,
    QuorumTimeout,
    QuorumUnreachable,
    operation_error,
)
from replication.protocol import Instant, NodeId, RequestId, StorageResponse
from replication.v1 import storage_pb2

# An operation, the primaries that were asked to speak, and the deadline.
_Waiting: TypeAlias = tuple[RequestId, Forwardable, list[NodeId], int]


class Forwarder:
    """Hands operations to a replica of their key, and takes those of others."""

    def __init__(self, node: Node, coordinator: Coordinator) -> None:
        self._node = node
        self._coordinator = coordinator
        self._taken: dict[tuple[NodeId, int], Once] = {}  # by sender and its life
        self._waiting: dict[int, _Waiting] = {}  # for a word of a primary, by number

    def forward(
        self,
        now: Instant,
        request_id: RequestId,
        body: Forwardable,
        primaries: tuple[NodeId, ...],
        deadline_ns: int,
    ) -> None:
        """Send the operation to the first of its key's ``primaries`` that seems alive.

        That one judges whether enough others are. Refused here only if there is none at all that
        this node has heard of since it started, and nobody may stand in. Among very many nodes most
        have not been greeted yet: then they are now, and the operation waits for the first answer.
        """
        node = self._node
        try:
            needed = need(body, node.settings).replicas
            self._coordinator.require_room()
            # The message has to name the life of its receiver, so one must have been heard of.
            alive = [each for each in primaries if self._can_take(now, each)]
            if not alive and may_stand_in(body, node.settings):
                fallbacks = [
                    each for each in node.ring.beyond(body.key) if self._can_take(now, each)
                ]
                alive = fallbacks[: node.settings.n]
                if node.settings.quorum is Quorum.STRICT or node.name in alive:
                    alive = [node.name]
            if not alive:
                if self._greet(now, request_id, body, primaries, needed, deadline_ns):
                    return
                raise QuorumUnreachable(needed, 0)
        except OperationError as refusal:
            self._coordinator.fail(request_id, refusal)
            return
        if alive[0] == node.name:
            self._coordinator.perform(now, request_id, body, deadline_ns)
            return
        budget_ns = self._budget_ns(now, body, deadline_ns)
        number = node.pending.add(
            PendingForward(request_id, needed, alive[0]), now.monotonic_ns + budget_ns
        )
        node.counters["forwarded"] += 1
        # The coordinator gives up a little sooner, so that its own word arrives here in time.
        message = dynamo_pb2.Forward(
            number=number, budget_ns=budget_ns * 9 // 10, life=node.lives[alive[0]]
        )
        match body:
            case storage_pb2.GetRequest():
                message.get.CopyFrom(body)
            case storage_pb2.PutRequest():
                message.put.CopyFrom(body)
            case storage_pb2.DeleteRequest():
                message.delete.CopyFrom(body)
            case storage_pb2.CompareAndSetRequest():
                message.compare_and_set.CopyFrom(body)
        node.outbox.question(alive[0], body.ByteSize()).forwards.append(message)

    def heard(self, now: Instant, peer: NodeId) -> None:
        """Forward what waited for a word of ``peer``."""
        for number, (request_id, body, greeted, deadline_ns) in list(self._waiting.items()):
            if self._node.pending.get(number) is None:
                del self._waiting[number]  # given up
            elif peer in greeted:
                del self._waiting[number]
                self._node.pending.remove(number)
                primaries = self._node.ring.preference(body.key)
                self.forward(now, request_id, body, primaries, deadline_ns)

    def _greet(
        self,
        now: Instant,
        request_id: RequestId,
        body: Forwardable,
        primaries: tuple[NodeId, ...],
        needed: int,
        deadline_ns: int,
    ) -> bool:
        """Tell whether a primary may only not have been heard of yet; then it is asked to speak."""
        node = self._node
        if len(node.peers) <= GREET_ALL_MAX:
            return False  # all were greeted at the start, and none of these has answered
        new = [
            each
            for each in primaries
            if each not in node.lives and node.alive(each, now.monotonic_ns)
        ]
        if new:
            for each in new:
                node.outbox.heartbeat(each)
            until_ns = now.monotonic_ns + self._budget_ns(now, body, deadline_ns)
            number = node.pending.add(PendingForward(request_id, needed, ""), until_ns)
            self._waiting[number] = request_id, body, new, deadline_ns
        return bool(new)

    def _budget_ns(self, now: Instant, body: Forwardable, deadline_ns: int) -> int:
        settings = self._node.settings
        is_read = isinstance(body, storage_pb2.GetRequest)
        timeout_ns = settings.read_timeout_ns if is_read else settings.write_timeout_ns
        return min(timeout_ns, deadline_ns - now.monotonic_ns)

    def take(self, now: Instant, sender: NodeId, message: dynamo_pb2.Forward) -> None:
        """Coordinate an operation for ``sender``, at most once.

        A message to an earlier life of this node is ignored: that life may have taken it, and may
        have answered that it did nothing.
        """
        if message.life != self._node.life:
            return
        life = (sender, message.number // NUMBERS_PER_LIFE)
        if not self._taken.setdefault(life, Once()).take(message.number):
            return
        origin = (sender, message.number)
        body = _request(message)
        if body is None:
            self._coordinator.fail(origin, InvalidRequest("an operation of an unknown kind"))
            return
        primary = self._node.name in self._node.ring.preference(body.key)
        if not primary and not may_stand_in(body, self._node.settings):
            text = f"{self._node.name} is not a replica of the key: the nodes' rings differ"
            self._coordinator.fail(origin, Overloaded(text))
            return
        deadline_ns = now.monotonic_ns + message.budget_ns
        self._coordinator.perform(now, origin, body, deadline_ns)

    def _can_take(self, now: Instant, replica: NodeId) -> bool:
        known = replica == self._node.name or replica in self._node.lives
        return known and self._node.alive(replica, now.monotonic_ns)

    def relay(self, sender: NodeId, message: dynamo_pb2.Forwarded) -> None:
        """Hand the coordinator's answer to the client."""
        pending = self._node.pending.get(message.number)
        if isinstance(pending, PendingForward) and pending.coordinator == sender:
            self._node.pending.remove(message.number)
            self._node.outbox.reply(pending.request_id, _result(message))

    def expire(self, item: PendingForward) -> None:
        """Give up: the coordinator has not answered. It may have done everything all the same."""
        if item.coordinator:
            self._coordinator.fail(item.request_id, QuorumTimeout(0, item.needed))
        else:  # nothing was sent
            self._coordinator.fail(item.request_id, QuorumUnreachable(item.needed, 0))


def _request(message: dynamo_pb2.Forward) -> Forwardable | None:
    match message.WhichOneof("request"):
        case "get":
            return message.get
        case "put":
            return message.put
        case "delete":
            return message.delete
        case "compare_and_set":
            return message.compare_and_set
    return None


def _result(message: dynamo_pb2.Forwarded) -> StorageResponse | OperationError:
    match message.WhichOneof("result"):
        case "get":
            return message.get
        case "put":
            return message.put
        case "delete":
            return message.delete
        case "compare_and_set":
            return message.compare_and_set
        case "failure":
            failure = message.failure
            return operation_error(failure.reason, failure.message, dict(failure.metadata))
    return Indefinite("UNKNOWN", "the coordinator answered with a result of an unknown kind")
