"""What happened: operations, node events and faults on one clock. Append-only, pure data.

A history is written by ``replication.run`` (real processes) or ``replication.simulation`` (virtual
time) and read by ``replication.analysis``, which cannot tell the two apart. All times are integer
nanoseconds since the start of the run; the load begins at ``load_start_ns``.
``replication.history_files`` knows how a side of a run lies on disk.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from typing import Any

from google.protobuf.message import Message

from replication.v1 import event_pb2


class OperationKind(StrEnum):
    """What a client asks for."""

    GET = "get"
    PUT = "put"
    DELETE = "delete"
    COMPARE_AND_SET = "compare-and-set"

    @property
    def is_write(self) -> bool:
        """Whether it can change the key."""
        return self is not OperationKind.GET


class Outcome(StrEnum):
    """What the client knows at the end."""

    OK = "ok"
    FAIL = "fail"  # it did not and never will take effect
    UNKNOWN = "unknown"  # it may have taken effect, or may yet


class Phase(StrEnum):
    """Which part of the run an operation belongs to."""

    WARMUP = "warmup"  # judged by the checks, left out of every measure
    LOAD = "load"
    FINAL = "final"  # the reads of every key after healing and settling


@dataclass(slots=True)
class SeenVersion:
    """One version that a read returned, or that a replica holds."""

    write_id: str  # "client:sequence"
    tombstone: bool = False
    dot: str | None = None  # "actor:counter"
    value: str | None = None
    timestamp_ns: int | None = None  # lww: wall clock of the coordinator


@dataclass(slots=True)
class Operation:
    """One operation of one client, from its intended start to what the client knows at the end."""

    index: int  # unique in this history, ascending by invocation
    client: str
    kind: OperationKind
    key: str
    phase: Phase
    intended_ns: int  # when the plan wanted it to start; latency counts from here
    invoke_ns: int  # when it was handed to the client session
    complete_ns: int | None  # None: the run ended first (outcome unknown, or fail for a read)
    outcome: Outcome
    value: str | None = None  # writes: what was written
    expected: str | None = None  # compare-and-set: what the key had to hold; None = missing
    write_id: str | None = None  # writes: "client:sequence"
    update: str | None = None  # puts: "count" or "add"; the store applies the value to what it has
    based_on: list[str] = field(default_factory=list)  # writes: ids it replaces knowingly
    seen: list[SeenVersion] = field(default_factory=list)  # ok reads
    consistency: str | None = None  # asked for explicitly
    replicas_asked: int = 0  # leaderless: the R or W asked for explicitly; 0: as the level says
    node: str | None = None  # that answered last
    term: int | None = None
    log_index: int | None = None
    replicas: list[str] = field(default_factory=list)  # leaderless: whose answers counted
    fallbacks: list[str] = field(default_factory=list)  # those of `replicas` that stood in
    dot: str | None = None  # writes, dvv
    error: str | None = None  # class of the error (replication/errors.py)
    message: str | None = None
    attempts: int = 1
    redirects: int = 0  # attempts that ended in NotLeader
    turned_ns: int | None = None  # when the last attempt was sent, if it was not the first


@dataclass(slots=True)
class NodeEvent:
    """One transition that a node told of; ``fields`` as in protos/replication/v1/event.proto."""

    time_ns: int
    node: str
    name: str  # "role_changed", "election_started", ...
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class FaultRecord:
    """One fault: what was planned, what was done, and the evidence that it took effect."""

    number: int  # position in the plan, from 1
    kind: str  # "kill", "pause", "partition", ...
    words: str  # "kill the leader (n3)"
    planned_ns: int
    injected_ns: int | None  # None: it could not be injected; `problem` says why
    healed_ns: int | None
    nodes: list[str] = field(default_factory=list)  # killed, paused, or cut off
    sides: list[list[str]] = field(default_factory=list)  # of a partition, clients included
    evidence: list[str] = field(default_factory=list)  # sentences with numbers
    effective: bool = False  # whether there is evidence that it took effect
    problem: str | None = None
    takes_down: bool = False  # its nodes were down until it was healed, or for good
    momentary: bool = False  # over by itself (a restart, a command): it shows in what comes after
    deafens: bool = False  # its nodes hear nobody and are heard: a one-way partition


@dataclass(slots=True)
class ReplicaContents:
    """What one replica held of one key at a moment."""

    node: str
    key: str
    owner: bool  # this node is one that is to hold the key
    versions: list[SeenVersion] = field(default_factory=list)


@dataclass(slots=True)
class ContentsSample:
    """Whether all owners of every key held the same, at one moment while settling."""

    time_ns: int
    keys: int
    differing: list[str]  # keys that differ, or whose owners could not be asked
    unreachable: list[str] = field(default_factory=list)  # nodes that did not answer


@dataclass(slots=True)
class LinkTotals:
    """Messages and bytes between nodes over the whole run."""

    messages: int = 0
    bytes: int = 0
    frames: int = 0
    dropped: int = 0


SEND_LAG_NS_P99_MAX = 2_000_000  # above it, or above CPU_SHARE_MAX, a run is generator-bound
CPU_SHARE_MAX = 0.6


@dataclass(slots=True)
class DriverReport:
    """How well the load driver kept to the plan (design §8).

    The lag is that of operations which waited for the clock: how late the driver began them. Those
    whose client was still busy with the one before are late because of the cluster.
    """

    planned: int = 0
    sent: int = 0
    send_lag_ns_p50: int = 0
    send_lag_ns_p99: int = 0
    cpu_share: float = 0.0  # of one core, while loading
    generator_bound: bool = False


@dataclass(slots=True)
class History:
    """Everything that one side of a run left."""

    family: str
    backend: str
    title: str  # of the backend
    promise: str  # what these settings guarantee, one sentence
    simulated: bool
    seed: int
    nodes: list[str]
    clients: dict[str, str]  # client -> its home node
    load_start_ns: int
    measure_start_ns: int  # load_start_ns + warm-up
    load_end_ns: int
    heal_ns: int  # when all faults were healed and the load had ended
    settle_end_ns: int
    single_register: bool  # the backend promises one order per key
    workload: str = "register"  # what values mean: register, counter, set, append (client.updates)
    lossless: bool = True  # the backend promises that acknowledged writes survive
    wall_start_ns: int = 0  # Unix time of time 0
    settings: dict[str, Any] = field(default_factory=dict)
    interrupted: bool = False
    problems: list[str] = field(default_factory=list)  # what broke the run itself
    fdatasync_ns_p50: int | None = None
    fdatasync_ns_p99: int | None = None
    driver: DriverReport = field(default_factory=DriverReport)
    links: LinkTotals = field(default_factory=LinkTotals)
    node_cpu_seconds: dict[str, float] = field(default_factory=dict)
    counters: dict[str, dict[str, int]] = field(default_factory=dict)  # node -> name -> count
    # One-way delays in nanoseconds by leg ("write", "acknowledgement", "read", "response",
    # "forward", "backward", "own", "queue", "request", "reply"), sampled; see ``replication.legs``.
    delays: dict[str, list[int]] = field(default_factory=dict)
    operations: list[Operation] = field(default_factory=list)
    faults: list[FaultRecord] = field(default_factory=list)
    events: list[NodeEvent] = field(default_factory=list)
    samples: list[ContentsSample] = field(default_factory=list)
    contents: list[ReplicaContents] = field(default_factory=list)  # at the very end


def event_record(event: event_pb2.Event) -> tuple[str, dict[str, Any]]:
    """Return an event's name and its fields as plain JSON values.

    Write ids and dots become "client:sequence" and "actor:counter", enums lower-case words without
    their prefix, messages objects. Fields at their default are kept: a reader need not know them.
    """
    name = event.WhichOneof("kind")
    assert name is not None, "an event has a kind"
    return name, _plain(getattr(event, name))


def _plain(message: Message) -> dict[str, Any]:
    record: dict[str, Any] = {}
    for name, is_repeated, is_message, plain in _plain_fields(message.DESCRIPTOR):
        value = getattr(message, name)
        if is_repeated:
            record[name] = [plain(each) for each in value]
        elif is_message and not message.HasField(name):
            record[name] = None
        else:
            record[name] = plain(value)
    return record


@cache
def _plain_fields(descriptor: Any) -> list[tuple[str, bool, bool, Callable[[Any], Any]]]:
    """Return what is to be known of each field; to ask descriptors costs more than all the rest."""
    return [
        (each.name, each.is_repeated, each.message_type is not None, _plain_value(each))
        for each in descriptor.fields
    ]


def _plain_value(descriptor: Any) -> Callable[[Any], Any]:
    if descriptor.message_type is not None:
        match descriptor.message_type.name:
            case "WriteId":
                return lambda value: f"{value.client_id}:{value.sequence}"
            case "Dot":
                return lambda value: f"{value.actor}:{value.counter}"
        return _plain
    if descriptor.enum_type is not None:
        prefix = descriptor.enum_type.values_by_number[0].name.removesuffix("UNSPECIFIED")
        words = {
            number: value.name.removeprefix(prefix).lower()
            for number, value in descriptor.enum_type.values_by_number.items()
        }
        return lambda value: words[value]
    if descriptor.type == descriptor.TYPE_BYTES:
        return lambda value: value.decode(errors="replace")
    return lambda value: value
