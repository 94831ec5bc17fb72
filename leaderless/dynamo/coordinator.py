"""Reads and writes of a key for whoever asked (Dynamo §4.5, §5).

Only a replica of the key coordinates: it stores its own copy first and names the write by a dot of
its own, the next one after all that it knows of this key.
"""

from collections.abc import Callable, Iterable

from leaderless.dynamo.context import decode_context, encode_context
from leaderless.dynamo.node import Node
from leaderless.dynamo.quorum import (
    AcceptedWrite,
    Body,
    Origin,
    PendingRead,
    PendingRepair,
    PendingWrite,
    WriteBody,
    replicas_needed,
)
from leaderless.dynamo.repair import compare_answers, merge_answers
from leaderless.dynamo.settings import ReadRepair
from leaderless.dynamo.vector import VersionVector
from leaderless.dynamo.versions import Siblings, Version, decode, encode, single_write
from leaderless.v1 import dynamo_pb2
from replication.errors import InvalidRequest, OperationError, QuorumTimeout, QuorumUnreachable
from replication.protocol import Instant, NodeId
from replication.v1 import event_pb2, storage_pb2


class Coordinator:
    """Gathers quorums for the operations that this node coordinates."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._served_by: dict[tuple[NodeId, ...], storage_pb2.Served] = {}

    def perform(
        self,
        now: Instant,
        origin: Origin,
        body: Body,
        replicas: tuple[NodeId, ...],
        deadline_ns: int,
    ) -> None:
        """Begin an operation on a key whose ``replicas`` this node is one of.

        It is answered by ``deadline_ns`` or the timeout of the settings, whatever is sooner.
        """
        try:
            needed = replicas_needed(body, self._node.settings)
            self._require_alive(now, replicas, needed)
            if isinstance(body, storage_pb2.GetRequest):
                read = PendingRead(origin, needed, replicas, body.key)
                self._read(now, read, deadline_ns)
            else:
                write = self._accept(now, body)
                self._write(now, PendingWrite(origin, needed, replicas, write), deadline_ns)
        except OperationError as refusal:
            # Raised before anything was stored or sent.
            self.fail(origin, refusal)

    def fail(self, origin: Origin, error: OperationError) -> None:
        """Answer with an error, and count it."""
        if isinstance(error, QuorumUnreachable):
            self._node.counters["quorum_unreachable"] += 1
        elif isinstance(error, QuorumTimeout):
            self._node.counters["quorum_timeouts"] += 1
        self._node.answer(origin, error)

    # Reads: all N replicas are asked, R answers make the reply, all answers make the repair.

    def _read(self, now: Instant, read: PendingRead, deadline_ns: int) -> None:
        node = self._node
        node.counters["reads"] += 1
        deadline_ns = min(deadline_ns, now.monotonic_ns + node.settings.read_timeout_ns)
        number = node.pending.add(read, deadline_ns)
        load = dynamo_pb2.Load(number=number, key=read.key)
        for replica in read.replicas:
            if replica != node.name:
                node.outbox.question(replica, len(read.key)).loads.append(load)
        self.loaded(now, node.name, number, node.replica.encoded(read.key))

    def loaded(self, now: Instant, replica: NodeId, number: int, siblings: bytes) -> None:
        """Take what ``replica`` holds of the key of a read."""
        read = self._node.pending.get(number)
        if not isinstance(read, PendingRead):
            return
        if read.add(replica, siblings):
            self._reply_read(read)
        # A replica that seems dead is not waited for: it would hold up the repair of the others.
        if read.replied and not self._any_alive(now, read.missing()):
            self._node.pending.remove(number)
            self._repair(now, read)

    def _reply_read(self, read: PendingRead) -> None:
        siblings = merge_answers(read.answers, self._decoder(read.key), self._node.versioning)
        response = storage_pb2.GetResponse(
            versions=siblings.distinct(),
            context=encode_context(read.key, siblings.seen),
            served=self._served(read.answers),
        )
        self._node.answer(read.origin, response)

    def _repair(self, now: Instant, read: PendingRead) -> None:
        """Bring every replica that answered to what all answers together say (Dynamo §5)."""
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

    # Writes: stored here first, then sent to the other replicas; W copies make the reply.

    def _accept(self, now: Instant, body: WriteBody) -> AcceptedWrite:
        """Return the write of ``body`` with its dot. Nothing is stored yet.

        A retry is known by its write id as long as its version lives here, and keeps its dot. Once
        it is superseded here, or when the first attempt reached other replicas only, the retry is a
        write of its own, with a second dot: what the first one made stays as its sibling, and
        readers are shown one of the two.
        """
        node = self._node
        context = decode_context(body.key, body.context)
        held = node.replica.siblings(body.key)
        version = held.holding(body.write_id) if held.versions else None
        if version is not None:
            node.counters["writes_recognised"] += 1
        else:
            self._require_room(held, context)
            version = self._new_version(now, body, held, context)
        dot = (version.dot.actor, version.dot.counter)
        is_delete = isinstance(body, storage_pb2.DeleteRequest)
        return AcceptedWrite(body.key, dot, single_write(version, context), is_delete)

    def _new_version(
        self, now: Instant, body: WriteBody, held: Siblings, context: VersionVector
    ) -> Version:
        node = self._node
        # The context counts too: if this disk has forgotten a dot, its reader has not.
        counter = max(held.vector.top(node.actor), context.top(node.actor)) + 1
        is_delete = isinstance(body, storage_pb2.DeleteRequest)
        return Version(
            value=b"" if isinstance(body, storage_pb2.DeleteRequest) else body.value,
            tombstone=is_delete,
            write_id=body.write_id,
            dot=storage_pb2.Dot(actor=node.actor, counter=counter),
            timestamp_ns=node.versioning.timestamp_ns(now.wall_ns),
        )

    def _write(self, now: Instant, pending: PendingWrite, deadline_ns: int) -> None:
        node = self._node
        node.counters["writes"] += 1
        write = pending.write
        encoded = encode(write.siblings)
        deadline_ns = min(deadline_ns, now.monotonic_ns + node.settings.write_timeout_ns)
        number = node.pending.add(pending, deadline_ns)
        changed, held = node.merge(write.key, write.siblings, encoded)
        if changed and write.dot not in held.versions:
            node.lost_at_once(write.key, write.siblings.versions[write.dot], held)
        store = dynamo_pb2.Store(number=number, key=write.key, siblings=encoded)
        for replica in pending.replicas:
            if replica != node.name:
                node.outbox.question(replica, len(encoded)).stores.append(store)
        # Counted at once: no answer overtakes the write of this node's own copy (see Outbox).
        self.stored(node.name, number)

    def stored(self, replica: NodeId, number: int) -> None:
        """Take an acknowledgement: the write is durable at ``replica``."""
        pending = self._node.pending.get(number)
        if not isinstance(pending, PendingWrite):
            return
        if pending.add(replica):
            self._reply_write(pending)
        if pending.complete():
            self._node.pending.remove(number)

    def _reply_write(self, pending: PendingWrite) -> None:
        write = pending.write
        # Not what the key holds by now: the writer has not read that.
        context = encode_context(write.key, write.siblings.vector)
        served = self._served(pending.acknowledged)
        dot = write.siblings.versions[write.dot].dot
        kind = storage_pb2.DeleteResponse if write.is_delete else storage_pb2.PutResponse
        self._node.answer(pending.origin, kind(context=context, served=served, dot=dot))

    # Both.

    def expire(self, now: Instant, item: PendingRead | PendingWrite) -> None:
        """Give up: the deadline has passed. ``item`` is no longer pending."""
        if isinstance(item, PendingWrite):
            self._node.counters["writes_incomplete"] += 1
            if not item.replied:
                self.fail(item.origin, QuorumTimeout(len(item.acknowledged), item.needed))
            return
        if not item.replied:
            self.fail(item.origin, QuorumTimeout(len(item.answers), item.needed))
        self._repair(now, item)

    def _require_alive(self, now: Instant, replicas: Iterable[NodeId], needed: int) -> None:
        alive = sum(self._node.alive(replica, now.monotonic_ns) for replica in replicas)
        if alive < needed:
            raise QuorumUnreachable(needed, alive)

    def _require_room(self, held: Siblings, context: VersionVector) -> None:
        limit = self._node.settings.siblings_max
        if len(held.versions) < limit:
            return
        staying = sum(not context.covers(*dot) for dot in held.versions)
        if staying >= limit:
            raise InvalidRequest(
                f"the key has {len(held.versions)} siblings, at most {limit} are kept: "
                "read it and write with the context of that read"
            )

    def _any_alive(self, now: Instant, replicas: Iterable[NodeId]) -> bool:
        return any(self._node.alive(replica, now.monotonic_ns) for replica in replicas)

    def _served(self, replicas: Iterable[NodeId]) -> storage_pb2.Served:
        """Return who served, from the few messages that there can be."""
        key = tuple(replicas)
        served = self._served_by.get(key)
        if served is None:
            counted = [storage_pb2.Replica(node=replica) for replica in key]
            served = storage_pb2.Served(node=self._node.name, replicas=counted)
            self._served_by[key] = served
        return served

    def _decoder(self, key: str) -> Callable[[bytes], Siblings]:
        """Return a ``decode`` that knows what this node holds of ``key`` already."""
        replica = self._node.replica
        own = replica.encoded(key)
        return lambda data: replica.siblings(key) if data == own else decode(data)
