"""What a plan is made of. Frozen data: everything that can be decided before anything runs.

The same Plan drives the leader cluster and the leaderless cluster, real processes and the
simulation (design §1). Times are nanoseconds after the start of the load.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from replication.history import OperationKind
from replication.protocol import Family, NodeId


class Route(StrEnum):
    """How a client chooses the node it asks."""

    FOLLOW = "follow"  # leader: the leader, by hint and discovery; leaderless: home, else the next
    PINNED = "pinned"  # its home node and no other
    READS_AT_HOME = "reads-at-home"  # writes as "follow"; reads its home node first, as replicas do


@dataclass(frozen=True, slots=True)
class PlannedClient:
    """One client: a single thread of operations with a place in the cluster.

    A client stands beside its home node: a partition that cuts the home off cuts the client off.
    """

    name: str
    home: NodeId
    route: Route
    think_ns: int = 0  # closed loop: pause between the end of one operation and the next
    retries: int = 0  # leader family: of a write whose fate is not known, with the same write id


class Update(StrEnum):
    """What a write makes of the values that its client has just read (see ``client.updates``)."""

    REPLACE = "replace"  # its own value instead of them
    COUNT = "count"  # one more than the greatest number among them
    ADD = "add"  # all their elements and one more
    APPEND = "append"  # all their elements in order, and one more at the end


@dataclass(frozen=True, slots=True)
class PlannedOperation:
    """One operation as the plan wants it; its write id is (client, sequence)."""

    client: str
    sequence: int  # from 1, without gaps, reads included
    due_ns: int | None  # intended start; None: closed loop, when the one before has ended
    kind: OperationKind
    key: str
    value: str | None = None
    expected: str | None = None
    consistency: str | None = None  # a name of storage.Consistency without its prefix, lower case
    replicas: int = 0  # explicit R of a get or W of a write; 0: as the cluster is set
    with_context: bool = True  # writes: carry the context of the client's last read of the key
    update: Update | None = None  # writes: ``value`` is what is added to the values read before
    applied: bool = False  # or to what the store holds, by the store itself (storage.proto, Update)
    expects_last: bool = False  # compare-and-set: ``expected`` is the value the client last knew of


class FaultKind(StrEnum):
    """What the nemesis can do."""

    KILL = "kill"  # SIGKILL; started again when healed
    RESTART = "restart"  # SIGTERM and started again at once
    PAUSE = "pause"  # SIGSTOP; SIGCONT when healed
    WIPE = "wipe"  # SIGKILL and an empty disk; started again, under its old name, when healed
    JOIN = "join"  # start a spare node and ask the cluster to take it in
    LEAVE = "leave"  # ask the cluster to do without a node; its process goes on
    REPLACE = "replace"  # kill a node for good, start a spare and ask for it in that one's place
    TRANSFER = "transfer"  # ask the leader to hand its office over
    PARTITION = "partition"  # cut the links between two sides
    DELAY = "delay"  # every message on the target's links
    JITTER = "jitter"  # a different delay for each of them, so that they overtake each other
    LOSS = "loss"  # a share of the messages on the target's links
    DUPLICATE = "duplicate"  # a share of them arrives twice
    REORDER = "reorder"  # a share of them is held back while later ones pass
    BANDWIDTH = "bandwidth"  # the target's links carry no more than so much
    CLOCK = "clock"  # the target's clocks are wrong
    DISK = "disk"  # the target's disk is slow, stuck, full, or loses what was not synced

    @property
    def is_of_links(self) -> bool:
        """Whether it is something that befalls messages on the target's links."""
        return self in _OF_LINKS

    @property
    def is_command(self) -> bool:
        """Whether it is something that an operator asks of the cluster."""
        return self in (FaultKind.JOIN, FaultKind.LEAVE, FaultKind.REPLACE, FaultKind.TRANSFER)

    @property
    def is_momentary(self) -> bool:
        """Whether it is over by itself, so that nothing is left to heal."""
        return self is FaultKind.RESTART or self.is_command


_OF_LINKS = (
    *(FaultKind.DELAY, FaultKind.JITTER, FaultKind.LOSS),
    *(FaultKind.DUPLICATE, FaultKind.REORDER, FaultKind.BANDWIDTH),
)


class PartitionShape(StrEnum):
    """Who is cut off from whom."""

    ISOLATE = "isolate"  # the target against all others
    HALVES = "halves"  # the first half of the nodes against the rest; the odd node is in the rest
    MINORITY_WITH_LEADER = "minority-with-leader"  # the target in the largest minority there is
    NODES = "nodes"  # the sides as the scenario lists them; nodes it does not list are one more
    ONE_WAY = "one-way"  # as isolate, in one direction: the target is not heard, or does not hear
    BRIDGE = "bridge"  # two halves and one node that both of them reach (Jepsen)
    MAJORITIES_RING = "majorities-ring"  # each node reaches a majority, no two the same (Jepsen)


class Direction(StrEnum):
    """Which messages of the target a one-way partition cuts."""

    INBOUND = "inbound"  # it can send and does not hear
    OUTBOUND = "outbound"  # it hears and cannot be heard


class DiskEffect(StrEnum):
    """What is wrong with a disk."""

    SLOW = "slow"  # every sync takes longer
    STALL = "stall"  # no sync ends until it is healed
    FULL = "full"  # every write is refused: the node ends, and is started again when healed
    LOSE_UNSYNCED = "lose-unsynced"  # power loss: what was not synced is gone; started when healed


@dataclass(frozen=True, slots=True)
class ClockFault:
    """How the clocks of a node are wrong."""

    offset_ns: int = 0  # of the wall clock; negative: behind
    drift_ppm: int = 0  # parts per million by which both clocks run fast; negative: slow
    strobe_ns: int = 0  # the offset is there for this long, then not, and so on; 0: all the time


@dataclass(frozen=True, slots=True)
class DiskFault:
    """What is wrong with the disk of a node."""

    effect: DiskEffect
    slow_ns: int = 0  # SLOW: added to every sync
    torn: bool = False  # LOSE_UNSYNCED: a part is left, drawn at random, and may end amid a write


@dataclass(frozen=True, slots=True)
class PlannedFault:
    """One fault: when, what, and on whom.

    ``targets`` holds a target expression (see ``targets``) for each family that is to have the
    fault: both, or the one that the scenario names. "all" stands for every node, every link, or for
    a shape or a command that needs no target. Where the scenario names one target for both, the
    side that runs first resolves it and the other side gets the same nodes (design §7).
    """

    number: int  # from 1, in order of time
    kind: FaultKind
    at_ns: int
    until_ns: int | None  # None: until everything is healed at the end of the load
    targets: Mapping[Family, str]
    shared_target: bool  # both sides get what the first one resolved to
    shape: PartitionShape | None = None
    sides: tuple[tuple[str, ...], ...] = ()  # of PartitionShape.NODES
    direction: Direction = Direction.INBOUND  # of PartitionShape.ONE_WAY
    delay_ns: int = 0
    jitter_ns: int = 0
    loss: float = 0.0  # 0 to 1
    duplicate: float = 0.0
    reorder: float = 0.0
    hold_ns: int = 0  # at most, of copies and of messages held back
    bytes_per_s: int = 0  # 0: no limit
    spare: str = ""  # of FaultKind.REPLACE: who takes the place of the target
    clock: ClockFault | None = None  # of FaultKind.CLOCK
    disk: DiskFault | None = None  # of FaultKind.DISK

    @property
    def takes_down(self) -> bool:
        """Whether its nodes are down until it is healed, or for good."""
        downs = (DiskEffect.FULL, DiskEffect.LOSE_UNSYNCED)
        ends = self.disk is not None and self.disk.effect in downs
        return ends or self.kind in (FaultKind.KILL, FaultKind.WIPE, FaultKind.REPLACE)

    @property
    def deafens(self) -> bool:
        """Whether its nodes hear nobody and are heard."""
        return self.shape is PartitionShape.ONE_WAY and self.direction is Direction.INBOUND


@dataclass(frozen=True, slots=True)
class LinkRule:
    """What happens to messages from ``source`` to ``destination``, nodes or clients."""

    source: str
    destination: str
    loss: float = 0.0  # 1 cuts the link
    delay_ns: int = 0
    jitter_ns: int = 0
    duplicate: float = 0.0
    reorder: float = 0.0
    hold_ns: int = 0
    bytes_per_s: int = 0

    @property
    def verb(self) -> str:
        """Return what becomes of a message that the rule strikes."""
        if self.loss:
            return "dropped"
        if self.duplicate:
            return "duplicated"
        if self.reorder:
            return "reordered"
        return "throttled" if self.bytes_per_s else "delayed"


@dataclass(frozen=True, slots=True)
class ResolvedFault:
    """A planned fault with its roles resolved: what the nemesis does, and what the history says."""

    planned: PlannedFault
    nodes: tuple[NodeId, ...]  # to do something to, or the targets of a link fault
    # Of a partition, clients included: between any two of them messages are lost. Empty when the
    # partition makes no sides (a ring).
    sides: tuple[tuple[str, ...], ...]
    links: tuple[LinkRule, ...]  # every direction listed
    words: str  # "kill the leader (n3)"


@dataclass(frozen=True, slots=True)
class ClusterView:
    """What must be known of a cluster to resolve roles, at the moment a fault is due."""

    family: Family
    nodes: tuple[NodeId, ...]  # the members, as far as this run has changed them
    alive: frozenset[NodeId]
    leader: NodeId | None  # of the highest term, if one is known
    clients: Mapping[str, NodeId]  # client -> home node
    owners: Mapping[str, tuple[NodeId, ...]] = field(default_factory=dict)  # key -> preference list


@dataclass(frozen=True, slots=True)
class Timing:
    """How long each part of a run takes."""

    warmup_ns: int  # part of the load that no measure counts
    duration_ns: int  # of the load, warm-up included
    settle_ns: int  # at most, after healing: until replicas are equal
    operation_timeout_ns: int  # what a client waits for an operation, redirections included


@dataclass(frozen=True, slots=True)
class BackendChoice:
    """Which backend serves a side, and its settings."""

    name: str  # as given: "raft", or "package.module:attribute"
    path: str  # "package.module:attribute"
    settings: Any  # an instance of the backend's settings_type


@dataclass(frozen=True, slots=True)
class Expectation:
    """One line that a run is judged by.

    Either ``check`` (a finding by name) is to have ``verdict``, or ``measure`` (a dotted path into
    the side's findings) is to lie within the bounds given.
    """

    place: str  # "expect[2]"
    side: Family
    check: str | None = None
    verdict: str | None = None  # "valid" or "violated"
    measure: str | None = None
    below: float | None = None
    above: float | None = None
    equals: float | None = None
