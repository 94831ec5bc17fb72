"""Dynamo-style nodes that break one promise each. Whatever judges clusters has to catch them.

``--leaderless tests.support.broken_dynamo:acknowledges_after_one`` runs one by the normal command.
"""

from dataclasses import replace
from typing import Any

from google.protobuf.message import Message

from leaderless.dynamo import DynamoCore, backend
from leaderless.dynamo.pending import PendingTable
from leaderless.dynamo.quorum import AcceptedWrite, Need, Pending, PendingWrite, WriteBody
from leaderless.dynamo.vector import VersionVector
from leaderless.dynamo.versions import LastWriteWins, Siblings, Version, decode, single_write
from leaderless.v1 import dynamo_pb2
from replication.protocol import Effect, Instant, NodeId, Persist, Saved, Send


class _HastyTable(PendingTable):
    def add(self, item: Pending, deadline_ns: int) -> int:
        if isinstance(item, PendingWrite):
            item.need = Need(1, 0)
        return super().add(item, deadline_ns)


class AcknowledgesAfterOne(DynamoCore):
    """Acknowledges when its own copy is stored, and still claims W."""

    def start(self, now: Instant, saved: Saved) -> list[Effect]:
        effects = super().start(now, saved)
        self._node.pending = _HastyTable(self._node.life)
        return effects


class ReplicatesInTheBackground(AcknowledgesAfterOne):
    """As before, and sends the writes of others' copies with the next heartbeat only.

    So what a node has acknowledged shortly before it is killed or cut off is nowhere else.
    """

    def start(self, now: Instant, saved: Saved) -> list[Effect]:
        self._held_back: list[Effect] = []
        return super().start(now, saved)

    def wake(self, now: Instant) -> list[Effect]:
        due, self._held_back = self._held_back, []
        return [*super().wake(now), *due]

    def flush(self, now: Instant) -> list[Effect]:
        effects = super().flush(now)
        for effect in effects:
            if isinstance(effect, Send):
                assert isinstance(effect.message, dynamo_pb2.DynamoMessage)
                stores = list(effect.message.batch.stores)
                if stores:
                    batch = dynamo_pb2.Batch(stores=stores)
                    message = dynamo_pb2.DynamoMessage(life=effect.message.life, batch=batch)
                    self._held_back.append(Send(effect.to, message))
                    effect.message.batch.ClearField("stores")
        return effects


class RepairOverwrites(DynamoCore):
    """Takes a read repair as the truth, instead of merging it."""

    def receive(self, now: Instant, sender: NodeId, message: Message) -> list[Effect]:
        assert isinstance(message, dynamo_pb2.DynamoMessage)
        for repair in message.batch.repairs:
            replica = self._node.replica
            replica._encoded.pop(repair.key, None)
            replica._decoded.pop(repair.key, None)
            replica.merge(repair.key, decode(repair.siblings), repair.siblings)
        return super().receive(now, sender, message)


class RepliesAndNeverRepairs(DynamoCore):
    """Claims blocking repair, does not wait for it and sheds all of it."""

    def start(self, now: Instant, saved: Saved) -> list[Effect]:
        effects = super().start(now, saved)
        reads = self._coordinator.reads
        reads._complete = (  # type: ignore[method-assign]
            lambda now, number, read: reads._reply(now, read)
        )
        reads._repair = lambda now, read: None  # type: ignore[method-assign]
        return effects


class ReusesDots(DynamoCore):
    """Counts from what the writer has read, not from what it has given away."""

    def start(self, now: Instant, saved: Saved) -> list[Effect]:
        effects = super().start(now, saved)
        writes, honest = self._coordinator.writes, self._coordinator.writes._new_version

        def from_what_was_read(
            now: Instant, body: WriteBody, held: Siblings, context: VersionVector
        ) -> Version:
            version = honest(now, body, held, context)
            version.dot.counter = 1 + context.top(version.dot.actor)
            return version

        writes._new_version = from_what_was_read  # type: ignore[method-assign]
        return effects


class SendsBeforeItPersists(DynamoCore):
    """Lets messages and answers out ahead of the write that they speak of."""

    def flush(self, now: Instant) -> list[Effect]:
        effects = super().flush(now)
        return sorted(effects, key=lambda effect: isinstance(effect, Persist))


class ContextCoversTheUnread(DynamoCore):
    """Answers a write with the vector of the key, as if the writer had read all its siblings."""

    def start(self, now: Instant, saved: Saved) -> list[Effect]:
        effects = super().start(now, saved)
        writes, honest = self._coordinator.writes, self._coordinator.writes._accept

        def accept(now: Instant, body: WriteBody, *, stand_in: bool) -> AcceptedWrite:
            write = honest(now, body, stand_in=stand_in)
            known = self._node.replica.siblings(body.key).vector
            version = write.siblings.versions[write.dot]
            write.siblings = single_write(version, known.join(write.siblings.vector))
            return write

        writes._accept = accept  # type: ignore[method-assign]
        return effects


class KeepsOneOfTwo(DynamoCore):
    """Drops siblings by the wall clock, and claims to keep them all."""

    def start(self, now: Instant, saved: Saved) -> list[Effect]:
        effects = super().start(now, saved)
        clock = LastWriteWins()

        def merge(held: Siblings, incoming: Siblings) -> Siblings:
            return clock.merge(held, incoming)

        self._node.replica._versioning.merge = merge  # type: ignore[method-assign]
        return effects


def _broken(name: str, create: Any) -> Any:
    return replace(backend, name=name, create=create)


acknowledges_after_one = _broken("dynamo-acknowledges-after-one", AcknowledgesAfterOne)
replicates_in_the_background = _broken(
    "dynamo-replicates-in-the-background", ReplicatesInTheBackground
)
repair_overwrites = _broken("dynamo-repair-overwrites", RepairOverwrites)
reuses_dots = _broken("dynamo-reuses-dots", ReusesDots)
