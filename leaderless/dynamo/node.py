"""What the parts of one node share."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from leaderless.dynamo.detector import Detector
from leaderless.dynamo.events import change_events, version_dropped
from leaderless.dynamo.outbox import Outbox
from leaderless.dynamo.pending import PendingTable
from leaderless.dynamo.quorum import Origin
from leaderless.dynamo.replica import Replica
from leaderless.dynamo.ring import Ring
from leaderless.dynamo.settings import DynamoSettings, Purge
from leaderless.dynamo.targets import Targets
from leaderless.dynamo.vector import VersionVector
from leaderless.dynamo.versions import Dot, Siblings, Version, Versioning, encode, without_value
from replication.errors import OperationError
from replication.protocol import NodeId, StorageResponse
from replication.v1 import event_pb2, storage_pb2

# Background work stops when this share of the questions that may be open is.
BACKGROUND_SHARE: Final = 4

PURGED_MAX: Final = 10_000

# What a status counts since the node started, in the order of its report.
COUNTERS = (
    "reads",  # coordinated here, like the next
    "writes",
    "forwarded",  # sent on to a replica of the key
    "stand_ins_asked",  # nodes that were asked in the place of a dead primary
    "overloaded",  # refused: too many questions were open
    "quorum_unreachable",
    "quorum_timeouts",
    "writes_recognised",  # a retry of a write that was still held
    "writes_incomplete",  # not every replica had acknowledged in time
    "read_mismatches",  # the replicas' answers differed
    "read_bytes",  # of the answers of other replicas to reads
    "digest_reads",  # replicas that were asked for a digest only
    "digest_mismatches",  # and had to be asked again in full
    "hedged_reads",  # one more replica was asked, since the reply was late
    "hedges_won",  # and its answer was part of the reply
    "blocking_repairs",  # reads that repaired before they replied
    "read_repairs_sent",
    "read_repairs",  # that changed something
    "read_repairs_shed",  # not sent: clients kept the node busy, or too many were under way
    "versions_healed",  # that replicas lacked until a read repair
    "siblings_created",
    "siblings_resolved",
    "versions_dropped",
    "compare_and_sets",  # that took effect, coordinated here
    "ballots_lost",  # to another proposer
    "proposals_recovered",  # that another proposer had left half done
    "ring_epoch",  # of the ring that this node goes by
    "stale_rings_refused",  # requests by an older ring than this node's
    "transfer_keys",  # received because partitions moved here
    "transfer_bytes",
    "false_suspicions",  # a peer that counted as dead or dying was heard of again, in the same life
    "merkle_exchanges",  # begun here and answered
    "merkle_ranges_compared",  # partitions whose roots were compared, in these
    "merkle_ranges_differing",
    "merkle_keys_doubted",  # differed at the first look, mostly because a write was under way
    "merkle_keys_settled",  # were equal at the second
    "merkle_keys_differing",  # still differed at the second: these travel
    "merkle_keys_synced",  # that changed something here
    "merkle_bytes_differing",  # of these
    "merkle_bytes_sent",  # everything that anti-entropy sent: over the last, the overstreaming
    "hints_stored",
    "hints_delivered",
    "hint_bytes",  # that were delivered
    "hints_expired",
    "hints_refused",
    "hint_replays_deferred",  # since clients kept the node busy
    "tombstones_purged",
    "deletes_undone",  # a version came back that a purged tombstone had superseded
)


@dataclass(slots=True)
class Node:
    """One life of a node."""

    name: NodeId
    actor: str  # in dots: the name and a number of this life's own
    settings: DynamoSettings
    ring: Ring
    versioning: Versioning
    replica: Replica
    stand_ins: Replica  # versions that this node keeps for primaries that missed them
    detector: Detector
    pending: PendingTable
    outbox: Outbox
    life: int  # another number each time this node starts
    peers: list[NodeId]  # the other members, in the same order everywhere
    lives: dict[NodeId, int]  # of the peers, as last heard
    counters: Counter[str]  # see COUNTERS
    served_by: dict[tuple[NodeId, ...], storage_pb2.Served] = field(default_factory=dict)
    forgotten: dict[str, int] = field(default_factory=dict)  # by key: see ``next_dot``
    deleted: dict[str, None] = field(default_factory=dict)  # keys that Tombstones has to look at
    purged: dict[str, VersionVector] = field(default_factory=dict)  # lately: to know zombies by

    def encoded(self, key: str) -> bytes:
        """Return what is known of ``key`` here, as a primary and in the place of one.

        Both, once a ring has made a primary of a node that stood in: what it took then was
        acknowledged, and goes only when it is handed over.
        """
        if key not in self.stand_ins:
            return self.replica.encoded(key)
        if key not in self.replica:
            return self.stand_ins.encoded(key)
        own, kept = self.replica.siblings(key), self.stand_ins.siblings(key)
        return encode(self.versioning.merge(own, kept))

    def next_dot(self, key: str, context: VersionVector) -> Dot:
        """Return a dot that names no other write of ``key``.

        Both what is held as a primary and what is held for one counts: a node that was the one may
        be the other now. What was forgotten in this life counts too, and the context: if this node
        has forgotten a dot, its reader has not.
        """
        actor = self.actor
        return actor, 1 + max(
            self.forgotten.get(key, 0),
            self.replica.siblings(key).vector.top(actor),
            self.stand_ins.siblings(key).vector.top(actor),
            context.top(actor),
        )

    def forget(self, key: str, replica: Replica) -> None:
        """Drop ``key`` from ``replica``, but not which dots this life has given away."""
        top = replica.siblings(key).vector.top(self.actor)
        if top:
            self.forgotten[key] = max(top, self.forgotten.get(key, 0))
        replica.drop(key)

    def may_work_in_the_background(self) -> bool:
        """Tell whether clients leave room for repairs and hints: these are shed first."""
        return len(self.pending) * BACKGROUND_SHARE < self.settings.pending_max

    def merge(
        self, key: str, incoming: Siblings, encoded: bytes, replica: Replica | None = None
    ) -> tuple[bool, Siblings]:
        """Merge into this replica (or another) and tell the history what that did.

        Returns whether anything changed, and what is held now.
        """
        into = self.replica if replica is None else replica
        before, after = into.merge(key, incoming, encoded)
        if before is after:
            return False, after
        if self.settings.purge is not Purge.NEVER and into is self.replica:
            self._watch_deletes(key, after)
        if before.versions or len(after.versions) > 1:
            for event in change_events(key, before, after):
                self.observe(event)
            warn = self.settings.siblings_warn
            if len(before.versions) <= warn < len(after.versions):
                siblings = sum(not version.update for version in after.versions.values())
                if siblings > warn:
                    excess = event_pb2.SiblingsExcessive(key=key, siblings=siblings)
                    self.observe(event_pb2.Event(siblings_excessive=excess))
        return True, after

    def remember_purged(self, key: str, vector: VersionVector) -> None:
        """Keep in mind for a while which versions of ``key`` were deleted."""
        self.purged[key] = vector
        if len(self.purged) > PURGED_MAX:
            del self.purged[next(iter(self.purged))]

    def _watch_deletes(self, key: str, after: Siblings) -> None:
        if after.is_deleted():
            self.deleted[key] = None
        vector = self.purged.get(key)
        if vector is None:
            return
        for dot, version in after.versions.items():
            if vector.covers(*dot) and not version.tombstone:
                undone = event_pb2.DeleteUndone(key=key, version=without_value(version))
                self.observe(event_pb2.Event(delete_undone=undone))
                del self.purged[key]
                return

    def lost_at_once(self, key: str, version: Version, after: Siblings) -> None:
        """Tell that a version accepted here was older than what the key held."""
        self.observe(version_dropped(key, version, after))

    def observe(self, event: event_pb2.Event) -> None:
        """Tell the history, and count."""
        match event.WhichOneof("kind"):
            case "siblings_created":
                self.counters["siblings_created"] += 1
            case "siblings_resolved":
                self.counters["siblings_resolved"] += 1
            case "version_dropped":
                self.counters["versions_dropped"] += 1
            case "read_repaired":
                self.counters["read_repairs"] += 1
                self.counters["versions_healed"] += len(event.read_repaired.write_ids)
            case "hint_stored":
                self.counters["hints_stored"] += 1
            case "hint_expired":
                self.counters["hints_expired"] += 1
            case "tombstone_purged":
                self.counters["tombstones_purged"] += 1
            case "delete_undone":
                self.counters["deletes_undone"] += 1
            case "hint_refused":
                self.counters["hints_refused"] += 1
        self.outbox.observe(event)

    def answer(self, origin: Origin, result: StorageResponse | OperationError) -> None:
        """Answer whoever asked: a client of this node, or the node that forwarded."""
        if isinstance(origin, int):
            self.outbox.reply(origin, result)
            return
        sender, number = origin
        size = 0 if isinstance(result, OperationError) else result.ByteSize()
        forwarded = self.outbox.batch(sender, size).forwarded.add(number=number)
        match result:
            case storage_pb2.GetResponse():
                forwarded.get.CopyFrom(result)
            case storage_pb2.PutResponse():
                forwarded.put.CopyFrom(result)
            case storage_pb2.DeleteResponse():
                forwarded.delete.CopyFrom(result)
            case storage_pb2.CompareAndSetResponse():
                forwarded.compare_and_set.CopyFrom(result)
            case OperationError():
                forwarded.failure.CopyFrom(
                    storage_pb2.OperationFailure(
                        reason=result.reason, message=result.message, metadata=result.metadata
                    )
                )

    def served(self, replicas: Iterable[NodeId], targets: Targets) -> storage_pb2.Served:
        """Return who served, from the few messages that there can be without a stand-in."""
        key = tuple(replicas)
        stand_ins = targets.stand_ins
        served = None if stand_ins else self.served_by.get(key)
        if served is None:
            counted = [
                storage_pb2.Replica(node=replica, fallback=replica in stand_ins) for replica in key
            ]
            served = storage_pb2.Served(node=self.name, replicas=counted)
            if not stand_ins:
                self.served_by[key] = served
        return served

    def alive(self, replica: NodeId, now_ns: int) -> bool:
        """Tell whether ``replica`` seems alive to this node, which is always alive to itself."""
        return replica == self.name or self.detector.alive(replica, now_ns)
