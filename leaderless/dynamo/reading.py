"""Reads: all who were chosen are asked, R answers make the reply, all answers make the repair."""

from collections.abc import Callable, Iterable

from leaderless.dynamo.context import encode_context
from leaderless.dynamo.hints import Handoff
from leaderless.dynamo.node import Node
from leaderless.dynamo.quorum import PendingRead, PendingRepair
from leaderless.dynamo.repair import compare_answers, merge_answers
from leaderless.dynamo.settings import ReadRepair
from leaderless.dynamo.versions import Siblings, decode, encode
from leaderless.v1 import dynamo_pb2
from replication.errors import OperationError, QuorumTimeout
from replication.protocol import Instant, NodeId
from replication.v1 import event_pb2, storage_pb2


class Reads:
    """The reads that this node coordinates."""

    def __init__(self, node: Node, handoff: Handoff) -> None:
        self._node = node
        self._handoff = handoff

    def begin(self, now: Instant, read: PendingRead, deadline_ns: int) -> None:
        """Ask everybody who was chosen, this node first."""
        node = self._node
        node.counters["reads"] += 1
        deadline_ns = min(deadline_ns, now.monotonic_ns + node.settings.read_timeout_ns)
        number = node.pending.add(read, deadline_ns)
        load = dynamo_pb2.Load(number=number, key=read.key)
        for replica in read.targets.asked:
            if replica != node.name:
                node.outbox.question(replica, len(read.key)).loads.append(load)
        self.loaded(now, node.name, number, node.encoded(read.key))

    def loaded(self, now: Instant, replica: NodeId, number: int, siblings: bytes) -> None:
        """Take what ``replica`` holds of the key of a read."""
        read = self._node.pending.get(number)
        if not isinstance(read, PendingRead):
            return
        if read.add(replica, siblings):
            self._reply(read)
        # A replica that seems dead is not waited for: it would hold up the repair of the others.
        if read.replied and not self._any_alive(now, read.missing()):
            self._node.pending.remove(number)
            self._repair(now, read)

    def expire(self, now: Instant, read: PendingRead) -> OperationError | None:
        """Give up waiting. Returns the error to answer with, None when that was done before."""
        self._repair(now, read)
        return None if read.replied else QuorumTimeout(len(read.answers), read.need.replicas)

    def _reply(self, read: PendingRead) -> None:
        siblings = merge_answers(read.answers, self._decoder(read.key), self._node.versioning)
        response = storage_pb2.GetResponse(
            versions=siblings.distinct(),
            context=encode_context(read.key, siblings.seen),
            served=self._node.served(read.answers, read.targets),
        )
        self._node.answer(read.origin, response)

    def _repair(self, now: Instant, read: PendingRead) -> None:
        """Bring every primary that answered to what all answers together say (Dynamo §5).

        Who stands in for one is left alone: it holds what came while that one was away, no more.
        """
        node = self._node
        if len(set(read.answers.values())) < 2:
            return
        node.counters["read_mismatches"] += 1
        if node.settings.read_repair == ReadRepair.OFF:
            return
        findings = compare_answers(read.answers, self._decoder(read.key), node.versioning)
        encoded = encode(findings.merged)
        deadline_ns = now.monotonic_ns + node.settings.write_timeout_ns
        for replica, lacked in findings.stale.items():
            if replica in read.targets.stand_ins:
                continue
            repair = PendingRepair(read.key, replica, lacked)
            if replica == node.name:
                changed, _ = node.merge(read.key, findings.merged, encoded)
                self._tell_repaired(repair, changed)
                continue
            number = node.pending.add(repair, deadline_ns)
            node.counters["read_repairs_sent"] += 1
            node.outbox.batch(replica, len(encoded)).repairs.add(
                number=number, key=read.key, siblings=encoded
            )

    def repaired(self, replica: NodeId, number: int, changed: bool) -> None:
        """Take the confirmation of a repair."""
        repair = self._node.pending.get(number)
        if isinstance(repair, PendingRepair) and repair.replica == replica:
            self._node.pending.remove(number)
            self._tell_repaired(repair, changed)

    def _tell_repaired(self, repair: PendingRepair, changed: bool) -> None:
        # Unchanged: the replica had caught up before the repair arrived.
        if changed:
            repaired = event_pb2.ReadRepaired(
                key=repair.key, replica=repair.replica, write_ids=repair.lacked
            )
            self._node.observe(event_pb2.Event(read_repaired=repaired))

    def _any_alive(self, now: Instant, replicas: Iterable[NodeId]) -> bool:
        return any(self._node.alive(replica, now.monotonic_ns) for replica in replicas)

    def _decoder(self, key: str) -> Callable[[bytes], Siblings]:
        """Return a ``decode`` that knows what this node holds of ``key`` already."""
        replica = self._node.replica
        own = replica.encoded(key)
        return lambda data: replica.siblings(key) if data == own else decode(data)
