"""Writes: stored here first, then sent to the others who were chosen; W copies make the reply."""

from leaderless.dynamo import types
from leaderless.dynamo.context import context_timestamp_ns, decode_context, encode_context
from leaderless.dynamo.hints import Handoff
from leaderless.dynamo.node import Node
from leaderless.dynamo.quorum import AcceptedWrite, Need, Origin, PendingWrite, WriteBody
from leaderless.dynamo.resolve import Resolve
from leaderless.dynamo.settings import Purge
from leaderless.dynamo.targets import Targets
from leaderless.dynamo.vector import VersionVector
from leaderless.dynamo.versions import Siblings, Version, Versions, encode
from leaderless.v1 import dynamo_pb2
from replication.errors import InvalidRequest, OperationError, Overloaded, QuorumTimeout
from replication.protocol import VALUE_BYTES_MAX, Instant, NodeId
from replication.v1 import event_pb2, storage_pb2


class Writes:
    """The writes that this node coordinates."""

    def __init__(self, node: Node, handoff: Handoff) -> None:
        self._node = node
        self._handoff = handoff

    def begin(
        self,
        now: Instant,
        origin: Origin,
        body: WriteBody,
        wanted: Need,
        targets: Targets,
        dead: list[NodeId],
        deadline_ns: int,
    ) -> None:
        """Store the write here and send it on; who is ``dead`` gets a hint at once.

        Raises an OperationError, with nothing stored or sent, when it is refused.
        """
        node = self._node
        absent = targets.stand_ins.get(node.name)
        if absent is not None:
            refusal = self._handoff.refusal(now, absent, body.key)
            if refusal is not None:
                raise Overloaded(f"{node.name} takes no hint for {absent}: {refusal}")
        write = self._accept(now, body, stand_in=absent is not None)
        pending = PendingWrite(origin, wanted, targets, write, dead)
        node.counters["writes"] += 1
        encoded = encode(write.siblings)
        deadline_ns = min(deadline_ns, now.monotonic_ns + node.settings.write_timeout_ns)
        number = node.pending.add(pending, deadline_ns)
        if absent is None:
            changed, held = node.merge(write.key, write.siblings, encoded)
            if changed and write.dot not in held.versions:
                node.lost_at_once(write.key, write.siblings.versions[write.dot], held)
        else:
            self._handoff.stand_in(now, absent, write.key, write.siblings, encoded)
        store = dynamo_pb2.Store(number=number, key=write.key, siblings=encoded)
        for replica in targets.asked:
            if replica != node.name:
                stores = node.outbox.question(replica, len(encoded)).stores
                stores.append(store)
                if replica in targets.stand_ins:
                    stores[-1].hint_for = targets.stand_ins[replica]
        for replica in dead:
            # It is asked all the same: the verdict may be wrong.
            self._handoff.remember(now, replica, write.key)
        # Counted at once: no answer overtakes the write of this node's own copy (see Outbox).
        self.stored(node.name, number, pending)

    def stored(self, replica: NodeId, number: int, pending: PendingWrite) -> None:
        """Take an acknowledgement: the write is durable at ``replica``."""
        if pending.add(replica):
            self._reply(pending)
        if pending.complete():
            self._node.pending.remove(number)

    def expire(self, now: Instant, pending: PendingWrite) -> OperationError | None:
        """Give up waiting. Returns the error to answer with, None when that was done before.

        Who has not acknowledged by now is left a hint, also if the client was told of a failure:
        that says that replicas may hold the write (so does Cassandra after a timeout).
        """
        self._node.counters["writes_incomplete"] += 1
        # Purged since, or moved away with all that was acknowledged: then nothing is to be brought.
        if self._node.encoded(pending.write.key):
            for primary in pending.missed():
                self._handoff.remember(now, primary, pending.write.key)
        if pending.replied:
            return None
        return QuorumTimeout(len(pending.acknowledged), pending.need.replicas)

    def _accept(self, now: Instant, body: WriteBody, *, stand_in: bool) -> AcceptedWrite:
        """Return the write of ``body`` with its dot. Nothing is stored yet.

        A retry is known by its write id as long as its version lives here, and keeps its dot. Once
        it is superseded here, or when the first attempt reached other replicas only, the retry is a
        write of its own, with a second dot: what the first one made stays as its sibling, and
        readers are shown one of the two.
        """
        node = self._node
        context = decode_context(body.key, body.context)
        replica = node.stand_ins if stand_in else node.replica
        held = replica.siblings(body.key)
        if isinstance(body, storage_pb2.PutRequest) and body.update:
            size = len(replica.encoded(body.key))
            return self._accept_update(now, body, held, context, size)
        version = held.holding(body.write_id) if held.versions else None
        if version is not None:
            node.counters["writes_recognised"] += 1
        else:
            self._require_room(body.key, held, context)
            version = self._new_version(now, body, held, context)
        dot = (version.dot.actor, version.dot.counter)
        is_delete = isinstance(body, storage_pb2.DeleteRequest)
        write, seen = node.versioning.accept(held, version, context)
        return AcceptedWrite(body.key, dot, write, seen, is_delete)

    def _accept_update(
        self,
        now: Instant,
        body: storage_pb2.PutRequest,
        held: Siblings,
        context: VersionVector,
        size: int,
    ) -> AcceptedWrite:
        """Return the version that an update makes of what is held: see ``types``."""
        node = self._node
        if node.settings.versions is not Versions.DVV:
            raise InvalidRequest(
                f"counters and sets need versions = 'dvv', here it is '{node.settings.versions}'"
            )
        types.require_form(body)
        version = types.recognised(held, body, node.actor)
        if version is not None:
            node.counters["writes_recognised"] += 1
        else:
            if size > VALUE_BYTES_MAX and body.update == types.ADD:
                raise InvalidRequest(
                    f"the set has {size} bytes, expected at most {VALUE_BYTES_MAX} before an add"
                )
            if body.update == types.REMOVE and not held.vector.includes(context):
                raise Overloaded(f"{node.name} has not seen what is to be removed: try again")
            actor, counter = node.next_dot(body.key, context)
            version = Version(
                value=types.value_of(held, body, actor),
                tombstone=body.update == types.REMOVE,
                write_id=body.write_id,
                dot=storage_pb2.Dot(actor=actor, counter=counter),
                timestamp_ns=self._timestamp_ns(now, body, held),
                update=body.update,
            )
        dot = (version.dot.actor, version.dot.counter)
        write = types.write_of(held, version, body.value, context)
        # A counter's version stands for increments that this writer has not read.
        seen = context if body.update == types.INCREMENT else context.with_dot(*dot)
        return AcceptedWrite(body.key, dot, write, seen, is_delete=False)

    def _new_version(
        self, now: Instant, body: WriteBody, held: Siblings, context: VersionVector
    ) -> Version:
        node = self._node
        actor, counter = node.next_dot(body.key, context)
        is_delete = isinstance(body, storage_pb2.DeleteRequest)
        return Version(
            value=b"" if isinstance(body, storage_pb2.DeleteRequest) else body.value,
            tombstone=is_delete,
            write_id=body.write_id,
            dot=storage_pb2.Dot(actor=actor, counter=counter),
            timestamp_ns=self._timestamp_ns(now, body, held),
        )

    def _timestamp_ns(self, now: Instant, body: WriteBody, held: Siblings) -> int:
        settings = self._node.settings
        read_ns = held.newest_ns()
        if settings.versions is Versions.HLC:
            read_ns = max(read_ns, context_timestamp_ns(body.context))
        timestamp_ns = self._node.versioning.timestamp_ns(now.wall_ns, read_ns)
        # Nothing is decided by it here, but reads may resolve by it, and a delete has its grace.
        is_delete = (
            isinstance(body, storage_pb2.DeleteRequest) or body.update == storage_pb2.UPDATE_REMOVE
        )
        if settings.resolve is Resolve.LWW or (is_delete and settings.purge is not Purge.NEVER):
            return timestamp_ns or now.wall_ns
        return timestamp_ns

    def _reply(self, pending: PendingWrite) -> None:
        write = pending.write
        # Not what the key holds by now: the writer has not read that.
        hybrid = self._node.settings.versions is Versions.HLC
        newest_ns = write.siblings.newest_ns() if hybrid else 0
        context = encode_context(write.key, write.seen, newest_ns)
        served = self._node.served(pending.acknowledged, pending.targets)
        dot = write.siblings.versions[write.dot].dot
        kind = storage_pb2.DeleteResponse if write.is_delete else storage_pb2.PutResponse
        self._node.answer(pending.origin, kind(context=context, served=served, dot=dot))

    def _require_room(self, key: str, held: Siblings, context: VersionVector) -> None:
        limit = self._node.settings.siblings_max
        if len(held.versions) < limit:
            return
        staying = self._node.versioning.staying(held, context)
        if staying >= limit:
            excess = event_pb2.SiblingsExcessive(key=key, siblings=staying, refused=True)
            self._node.observe(event_pb2.Event(siblings_excessive=excess))
            raise InvalidRequest(
                f"the key has {len(held.versions)} siblings, at most {limit} are kept: "
                "read it and write with the context of that read"
            )
