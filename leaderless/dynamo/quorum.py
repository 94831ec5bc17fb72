"""What a coordinator waits for, as plain values: answers go in, "enough" comes out.

No message, timer or storage is known here (as in Riak's get core, which is tested below its state
machine).
"""

from dataclasses import dataclass, field
from typing import TypeAlias

from leaderless.dynamo.settings import DynamoSettings
from leaderless.dynamo.versions import Dot, Siblings
from replication.errors import InvalidRequest
from replication.protocol import NodeId, RequestId
from replication.v1 import storage_pb2

# Who asked: a client of this node, or a peer that is no replica of the key, with its number.
Origin: TypeAlias = RequestId | tuple[NodeId, int]

WriteBody: TypeAlias = storage_pb2.PutRequest | storage_pb2.DeleteRequest
Body: TypeAlias = storage_pb2.GetRequest | WriteBody


def replicas_needed(body: Body, settings: DynamoSettings) -> int:
    """Return the R or W of a request.

    An explicit number comes before the level, the level before the default of the cluster. Raises
    InvalidRequest for a number that no quorum of N replicas can have.
    """
    if isinstance(body, storage_pb2.GetRequest):
        name, explicit, default = "r", body.r, settings.r
    else:
        name, explicit, default = "w", body.w, settings.w
    if explicit > settings.n:
        raise InvalidRequest(f"{name} is {explicit}, expected 1 to n = {settings.n}")
    if explicit:
        return explicit
    match body.consistency:
        case storage_pb2.CONSISTENCY_UNSPECIFIED:
            return default
        case storage_pb2.CONSISTENCY_ONE:
            return 1
        case storage_pb2.CONSISTENCY_QUORUM:
            return settings.n // 2 + 1
        case storage_pb2.CONSISTENCY_ALL:
            return settings.n
    raise InvalidRequest(f"the consistency level {body.consistency} is not offered")


@dataclass(slots=True)
class AcceptedWrite:
    """A write that has its dot."""

    key: str
    dot: Dot
    siblings: Siblings  # the one version, and what its writer had read
    is_delete: bool


@dataclass(slots=True)
class PendingWrite:
    """A write on its way to the N replicas of its key."""

    origin: Origin
    needed: int  # W
    replicas: tuple[NodeId, ...]
    write: AcceptedWrite
    acknowledged: list[NodeId] = field(default_factory=list)
    replied: bool = False

    def add(self, replica: NodeId) -> bool:
        """Count an acknowledgement. Returns True if the reply is due now: exactly once."""
        # Messages may be repeated: replicas are counted, not acknowledgements.
        if replica in self.acknowledged or replica not in self.replicas:
            return False
        self.acknowledged.append(replica)
        if self.replied or len(self.acknowledged) < self.needed:
            return False
        self.replied = True
        return True

    def complete(self) -> bool:
        """Tell whether every replica has the write."""
        return len(self.acknowledged) == len(self.replicas)


@dataclass(slots=True)
class PendingRead:
    """A read that was sent to the N replicas of its key."""

    origin: Origin
    needed: int  # R
    replicas: tuple[NodeId, ...]
    key: str
    answers: dict[NodeId, bytes] = field(default_factory=dict)  # Siblings as encoded
    replied: bool = False

    def add(self, replica: NodeId, siblings: bytes) -> bool:
        """Take an answer. Returns True if the reply is due now: exactly once."""
        if replica in self.answers or replica not in self.replicas:
            return False
        self.answers[replica] = siblings
        if self.replied or len(self.answers) < self.needed:
            return False
        self.replied = True
        return True

    def missing(self) -> list[NodeId]:
        """Return the replicas that have not answered."""
        return [replica for replica in self.replicas if replica not in self.answers]


@dataclass(slots=True)
class PendingForward:
    """An operation that another node coordinates for this one."""

    request_id: RequestId
    needed: int  # R or W
    coordinator: NodeId


@dataclass(slots=True)
class PendingRepair:
    """A repair that a replica has not confirmed."""

    key: str
    replica: NodeId
    lacked: list[storage_pb2.WriteId]


Pending: TypeAlias = PendingWrite | PendingRead | PendingForward | PendingRepair
