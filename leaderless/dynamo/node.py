"""What the parts of one node share."""

from collections import Counter
from dataclasses import dataclass, field

from leaderless.dynamo.detector import SilenceDetector
from leaderless.dynamo.events import change_events, version_dropped
from leaderless.dynamo.outbox import Outbox
from leaderless.dynamo.pending import PendingTable
from leaderless.dynamo.quorum import Origin
from leaderless.dynamo.replica import Replica
from leaderless.dynamo.ring import Ring
from leaderless.dynamo.settings import DynamoSettings
from leaderless.dynamo.versions import Siblings, Version, Versioning
from replication.errors import OperationError
from replication.protocol import NodeId, StorageResponse
from replication.v1 import event_pb2, storage_pb2

# What a status counts since the node started, in the order of its report.
COUNTERS = (
    "reads",  # coordinated here, like the next
    "writes",
    "forwarded",  # sent on to a replica of the key
    "quorum_unreachable",
    "quorum_timeouts",
    "writes_recognised",  # a retry of a write that was still held
    "writes_incomplete",  # not every replica had acknowledged in time
    "read_mismatches",  # the replicas' answers differed
    "read_repairs_sent",
    "read_repairs",  # that changed something
    "siblings_created",
    "siblings_resolved",
    "versions_dropped",
    "merkle_exchanges",  # begun here and answered
    "merkle_ranges_compared",  # partitions whose roots were compared, in these
    "merkle_ranges_differing",
    "merkle_keys_doubted",  # differed at the first look, mostly because a write was under way
    "merkle_keys_settled",  # were equal at the second
    "merkle_keys_differing",  # still differed at the second: these travel
    "merkle_keys_synced",  # that changed something here
    "merkle_bytes_differing",  # of these
    "merkle_bytes_sent",  # everything that anti-entropy sent: over the last, the overstreaming
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
    detector: SilenceDetector
    pending: PendingTable
    outbox: Outbox
    life: int  # another number each time this node starts
    peers: list[NodeId]  # the other members, in the same order everywhere
    lives: dict[NodeId, int] = field(default_factory=dict)  # of the peers, as last heard
    counters: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(COUNTERS, 0)))

    def merge(self, key: str, incoming: Siblings, encoded: bytes) -> tuple[bool, Siblings]:
        """Merge into this replica and tell the history what that did.

        Returns whether anything changed, and what is held now.
        """
        before, after = self.replica.merge(key, incoming, encoded)
        if before is after:
            return False, after
        if before.versions or len(after.versions) > 1:
            for event in change_events(key, before, after):
                self.observe(event)
        return True, after

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
            case OperationError():
                forwarded.failure.CopyFrom(
                    storage_pb2.OperationFailure(
                        reason=result.reason, message=result.message, metadata=result.metadata
                    )
                )

    def alive(self, replica: NodeId, now_ns: int) -> bool:
        """Tell whether ``replica`` seems alive to this node, which is always alive to itself."""
        return replica == self.name or self.detector.alive(replica, now_ns)
