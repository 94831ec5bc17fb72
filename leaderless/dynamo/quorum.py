"""What a coordinator waits for, as plain values: answers go in, "enough" comes out.

No message, timer or storage is known here (as in Riak's get core, which is tested below its state
machine).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias, TypeGuard

from leaderless.dynamo.settings import DynamoSettings, Hints, Quorum
from leaderless.dynamo.targets import Targets
from leaderless.dynamo.vector import VersionVector
from leaderless.dynamo.versions import Dot, Siblings
from replication.errors import InvalidRequest
from replication.protocol import NodeId, RequestId
from replication.v1 import storage_pb2

# Who asked: a client of this node, or a peer that is no replica of the key, with its number.
Origin: TypeAlias = RequestId | tuple[NodeId, int]

WriteBody: TypeAlias = storage_pb2.PutRequest | storage_pb2.DeleteRequest
Body: TypeAlias = storage_pb2.GetRequest | WriteBody
Conditional: TypeAlias = storage_pb2.CompareAndSetRequest | storage_pb2.GetRequest
Forwardable: TypeAlias = Body | storage_pb2.CompareAndSetRequest


def counts(node: NodeId, group: tuple[NodeId, ...], targets: Targets) -> bool:
    """Tell whether the answer of ``node`` counts for one of two sets of replicas."""
    return node in group or node in targets.stand_ins


@dataclass(slots=True)
class Need:
    """How many answers make a quorum. Not to be changed after it was made."""

    replicas: int  # R or W, stand-ins among them
    primaries: int  # how many of these must be primaries (Riak's PR and PW)

    def met(self, answered: Iterable[NodeId], targets: Targets) -> bool:
        """Tell whether these answers are enough.

        While data moves, the nodes that hold it and those that are to hold it each need a quorum:
        so what is written or read now meets what is written or read by the rings before and after.
        """
        if targets.joint:
            answered = list(answered)
            return all(
                self._met([each for each in answered if counts(each, group, targets)], targets)
                for group in targets.joint
            )
        return self._met(answered, targets)

    def _met(self, answered: Iterable[NodeId], targets: Targets) -> bool:
        replicas = primaries = 0
        for node in answered:
            replicas += 1
            primaries += node not in targets.stand_ins
        return replicas >= self.replicas and primaries >= self.primaries


def is_conditional(body: Forwardable) -> TypeGuard[Conditional]:
    """Tell whether the replicas must agree on an order: compare-and-set, and reads that see it."""
    if isinstance(body, storage_pb2.CompareAndSetRequest):
        return True
    return body.consistency == storage_pb2.CONSISTENCY_LINEARIZABLE and isinstance(
        body, storage_pb2.GetRequest
    )


def need(body: Forwardable, settings: DynamoSettings) -> Need:
    """Return what a request waits for.

    An explicit number comes before the level, the level before the default of the cluster. Raises
    InvalidRequest for a number that no quorum of N replicas can have.
    """
    if isinstance(body, storage_pb2.CompareAndSetRequest) or is_conditional(body):
        majority = settings.n // 2 + 1
        return Need(majority, majority)
    if isinstance(body, storage_pb2.GetRequest):
        name, explicit, default = "r", body.r, settings.r
        primaries = body.pr or settings.pr
    else:
        name, explicit, default = "w", body.w, settings.w
        primaries = body.pw or settings.pw
    for word, count in ((name, explicit), (f"p{name}", primaries)):
        if count > settings.n:
            raise InvalidRequest(f"{word} is {count}, expected 1 to n = {settings.n}")
    replicas = explicit or _level(body, settings, default)
    return Need(max(replicas, primaries), primaries)


def _level(body: Body, settings: DynamoSettings, default: int) -> int:
    match body.consistency:
        case storage_pb2.CONSISTENCY_UNSPECIFIED:
            return default
        case storage_pb2.CONSISTENCY_ONE:
            return 1
        case storage_pb2.CONSISTENCY_QUORUM:
            return settings.n // 2 + 1
        case storage_pb2.CONSISTENCY_ALL:
            return settings.n
        case storage_pb2.CONSISTENCY_ANY:
            if isinstance(body, storage_pb2.GetRequest):
                raise InvalidRequest("ANY is a level of writes: a hint answers no read")
            if settings.hints is Hints.OFF:
                raise InvalidRequest("ANY counts hints, and hints are off in this cluster")
            return 1
    raise InvalidRequest(f"the consistency level {body.consistency} is not offered")


def may_stand_in(body: Forwardable, settings: DynamoSettings) -> bool:
    """Tell whether a node that is no primary of the key may count."""
    if is_conditional(body):
        return False
    return settings.quorum is Quorum.SLOPPY or body.consistency == storage_pb2.CONSISTENCY_ANY


@dataclass(slots=True)
class AcceptedWrite:
    """A write that has its dot."""

    key: str
    dot: Dot
    siblings: Siblings  # as it is merged and sent: see Versioning.accept
    seen: VersionVector  # by its writer, this write included
    is_delete: bool


@dataclass(slots=True)
class PendingWrite:
    """A write on its way to the N replicas of its key."""

    origin: Origin
    need: Need
    targets: Targets
    write: AcceptedWrite
    hinted: list[NodeId] = field(default_factory=list)  # who was left a hint at once
    acknowledged: list[NodeId] = field(default_factory=list)
    replied: bool = False

    def add(self, replica: NodeId) -> bool:
        """Count an acknowledgement. Returns True if the reply is due now: exactly once."""
        # Messages may be repeated: replicas are counted, not acknowledgements.
        if replica in self.acknowledged or replica not in self.targets.asked:
            return False
        self.acknowledged.append(replica)
        if self.replied or not self.need.met(self.acknowledged, self.targets):
            return False
        self.replied = True
        return True

    def complete(self) -> bool:
        """Tell whether everybody who was asked has the write."""
        return len(self.acknowledged) == len(self.targets.asked)

    def missed(self) -> list[NodeId]:
        """Return the primaries that have it nowhere: not themselves, at a stand-in, as a hint."""
        have = (*self.acknowledged, *self.hinted)
        silent = [node for node in self.targets.asked if node not in have]
        return [self.targets.stand_ins.get(node, node) for node in silent]


@dataclass(slots=True)
class PendingRead:
    """A read that was sent to replicas of its key."""

    origin: Origin
    need: Need
    targets: Targets
    key: str
    began_ns: int
    asked: tuple[NodeId, ...]  # of the targets
    answers: dict[NodeId, bytes] = field(default_factory=dict)  # Siblings as encoded
    enough: bool = False  # a quorum has answered
    replied: bool = False
    doubted: list[NodeId] = field(default_factory=list)  # whose digest differed
    hedge: int | None = None  # number of the question whether to ask one more
    hedged: NodeId | None = None  # who was asked then
    repaired: bytes | None = None  # what a blocking repair brings the replicas to
    confirmed: list[NodeId] = field(default_factory=list)  # who has that

    def add(self, replica: NodeId, siblings: bytes) -> bool:
        """Take an answer. Returns True if it completes the quorum: exactly once."""
        if replica in self.answers or replica not in self.asked:
            return False
        self.answers[replica] = siblings
        if self.enough or not self.need.met(self.answers, self.targets):
            return False
        self.enough = True
        return True

    def missing(self) -> list[NodeId]:
        """Return those who were asked and have not answered."""
        return [node for node in self.asked if node not in self.answers]


@dataclass(slots=True)
class PendingForward:
    """An operation that another node coordinates for this one."""

    request_id: RequestId
    needed: int  # R or W
    coordinator: NodeId  # empty: none has been heard of yet, and nothing was sent


@dataclass(slots=True)
class PendingRepair:
    """A repair that a replica has not confirmed."""

    key: str
    replica: NodeId
    lacked: list[storage_pb2.WriteId]
    read: int | None = None  # number of the read that waits for it


@dataclass(slots=True)
class PendingHedge:
    """When a read has waited for so long, one more replica is asked."""

    read: int


@dataclass(slots=True)
class PendingHint:
    """A hint that its target was sent and has not confirmed."""

    target: NodeId
    key: str
    writes: int  # that had joined the hint when it was sent
    bytes: int


@dataclass(slots=True)
class PendingPurge:
    """A deleted key that all members have to agree to forget."""

    key: str
    digest: bytes
    waiting: set[NodeId]


@dataclass(slots=True)
class PendingBarrier:
    """An operator who waits until no hint waits here."""

    request_id: RequestId


Pending: TypeAlias = (
    PendingWrite
    | PendingRead
    | PendingForward
    | PendingRepair
    | PendingHedge
    | PendingHint
    | PendingPurge
    | PendingBarrier
)
