"""The seam between a replication protocol and everything else.

A protocol is a :class:`Core`: a pure state machine. Time, chance and messages are arguments, what
it wants done comes back as a list of effects. It knows no clock, no socket, no disk, no task. One
core lives in a host process (``replication.host``) or in the simulation
(``replication.simulation``); neither makes a protocol decision.

The four duties of whoever runs a core:

1. **Order.** Effects are performed in list order, and the lists of successive calls never overtake
   each other. Nothing listed behind a :class:`Persist` leaves the node (no ``Send``, no ``Reply``)
   before that write is durable. Several persists may share one sync as long as this holds. So a
   core may count its own copy at once: whatever it concludes from it waits behind the write.
2. **Loss is allowed, invention is not.** Messages may be lost, duplicated, delayed and reordered;
   they are never altered. A message is not mutated after it was sent: the simulation passes it by
   reference.
3. **Time.** ``wake`` is called soon after ``wake_at()`` has come, which is asked again after every
   call. ``monotonic_ns`` never goes back within one life of a core; ``wall_ns`` may do anything.
4. **One caller.** Calls never overlap.

Every request is answered by exactly one ``Reply`` unless the node dies first. A core keeps the
deadline of a request itself (``Request.deadline_ns``) and answers in time with an error.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Protocol, TypeAlias

from google.protobuf.message import Message

from replication.errors import ConfigError, OperationError
from replication.v1 import control_pb2, event_pb2, storage_pb2

NodeId: TypeAlias = str
RequestId: TypeAlias = int

KEY_BYTES_MAX = 1024
VALUE_BYTES_MAX = 1024 * 1024

StorageRequest: TypeAlias = (
    storage_pb2.GetRequest
    | storage_pb2.PutRequest
    | storage_pb2.DeleteRequest
    | storage_pb2.CompareAndSetRequest
)
StorageResponse: TypeAlias = (
    storage_pb2.GetResponse
    | storage_pb2.PutResponse
    | storage_pb2.DeleteResponse
    | storage_pb2.CompareAndSetResponse
)
# What a core is asked: by a client, or by an operator (ControlService.Command).
RequestBody: TypeAlias = StorageRequest | control_pb2.CommandRequest
Response: TypeAlias = StorageResponse | control_pb2.CommandResponse


class Family(StrEnum):
    """The two answers to the question."""

    LEADER = "leader"
    LEADERLESS = "leaderless"


@dataclass(slots=True)
class Instant:
    """One moment on one node. Not to be changed after it was made.

    ``monotonic_ns`` drives timeouts; its zero is arbitrary and may differ from node to node.
    ``wall_ns`` is Unix time as this node's wall clock shows it, right or wrong.
    """

    monotonic_ns: int
    wall_ns: int


# Effects are made several times per operation. They are plain slotted classes because frozen ones
# take twice as long to make; nobody changes an effect after it was returned.


@dataclass(slots=True)
class Put:
    """Store ``value`` under ``key`` in ``space``."""

    space: str
    key: bytes
    value: bytes


@dataclass(slots=True)
class Erase:
    """Remove the keys of ``space`` in [start, end); ``end=None`` means to the last key."""

    space: str
    start: bytes
    end: bytes | None


Write: TypeAlias = Put | Erase


@dataclass(slots=True)
class Persist:
    """Make ``writes`` durable, all or none of them, in order."""

    writes: list[Write]


@dataclass(slots=True)
class Send:
    """Hand ``message`` to the link to ``to``. It may never arrive."""

    to: NodeId
    message: Message


@dataclass(slots=True)
class Reply:
    """Complete the request; exactly once each."""

    request_id: RequestId
    result: Response | OperationError


@dataclass(slots=True)
class Observe:
    """Tell the history of a transition. The host fills in ``monotonic_ns`` and ``node``."""

    event: event_pb2.Event


Effect: TypeAlias = Persist | Send | Reply | Observe


@dataclass(slots=True)
class Request:
    """One operation that a client submitted, already checked for size and form (see ``check``).

    Or a command of an operator, which nobody has checked: a core refuses with InvalidRequest what
    it does not offer, and with NotLeader what another node is to be asked.

    ``deadline_ns`` is on the node's monotonic clock: a core that cannot answer by then replies with
    the error that says what is known.
    """

    body: RequestBody
    deadline_ns: int


class Saved(Protocol):
    """What was durable when the node last stopped. Read it in ``start``, not later."""

    def get(self, space: str, key: bytes) -> bytes | None:
        """Return the value, or None when there is none."""
        ...

    def scan(self, space: str) -> Iterator[tuple[bytes, bytes]]:
        """Yield the pairs of ``space`` in ascending order of their keys."""
        ...


class Core(Protocol):
    """One node of a cluster as a pure state machine."""

    def start(self, now: Instant, saved: Saved) -> list[Effect]:
        """Begin, or begin again, from what was durable. Called once, before anything else."""
        ...

    def receive(self, now: Instant, sender: NodeId, message: Message) -> list[Effect]:
        """Take a message of the backend's type from a member of the cluster."""
        ...

    def submit(self, now: Instant, request_id: RequestId, request: Request) -> list[Effect]:
        """Take an operation or a command; the reply may come now or from a later call."""
        ...

    def wake(self, now: Instant) -> list[Effect]:
        """Act on the time: ``wake_at()`` has come. May be called early; then it does nothing."""
        ...

    def wake_at(self) -> int | None:
        """Return the next ``monotonic_ns`` at which this core wants to act, None for never."""
        ...

    def flush(self, now: Instant) -> list[Effect]:
        """Return what was kept back for batching; called when no further input is waiting.

        A core that sends a message per submitted operation costs a frame per operation: it may
        collect in ``submit`` and ``receive`` and send once here. Called after every ``start`` and
        ``wake`` too.
        """
        ...

    def status(self) -> control_pb2.NodeStatus:
        """Return what this node believes right now."""
        ...

    def contents(self) -> Iterable[control_pb2.KeyContents]:
        """Yield every key this replica holds, versions without their values, in order of key."""
        ...


class HostedCore(Core, Protocol):
    """A node that is no state machine: somebody's running code, behind an adapter.

    It acts on the host's event loop by itself, at any time, and hands what it wants done to
    ``perform``. Its files are its own. It cannot be simulated.
    """

    def attach(self, folder: Path, perform: Callable[[list[Effect]], None]) -> None:
        """Take a folder for its files and the way out for its effects; called before ``start``."""
        ...


@dataclass(frozen=True, slots=True)
class Membership:
    """Who is in the cluster when the node starts.

    A node that is not among the members waits until it is added to them.
    """

    node: NodeId
    members: tuple[NodeId, ...]


class Settings(Protocol):
    """A frozen dataclass with the settings of one backend; the defaults are the documented ones.

    Fields are ints, floats, bools, strings, StrEnums or optional ones of these. A name that ends in
    ``_ns`` is a duration: scenario files write it without the suffix and with a unit
    (``heartbeat = "50ms"``). Give the class ``__pydantic_config__ = SETTINGS_CONFIG``.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def problems(self, members: int) -> Iterable[str]:
        """Yield what does not fit together, each with the setting, its value and what would do."""
        ...


SETTINGS_CONFIG: dict[str, Any] = {
    # Read by pydantic in the runner; a node process never imports pydantic.
    "extra": "forbid",
    "alias_generator": lambda name: name.removesuffix("_ns"),
    "validate_by_name": True,
    "validate_by_alias": True,
}


@dataclass(frozen=True, slots=True)
class Backend:
    """One kind of replication: how to make its cores, and what the others must know of it."""

    name: str
    family: Family
    title: str  # "Raft", as reports print it
    message_type: type[Message]  # of every peer message
    settings_type: type[Any]  # see Settings
    create: Callable[[Membership, Any, Random], Core]
    consistencies: frozenset[storage_pb2.Consistency.ValueType]  # that requests may ask for
    single_register: bool  # linearizable by default: reads return at most one live version
    promise: Callable[[Any], str]  # one sentence for these settings: what this cluster guarantees
    # Which part of a peer message travels which leg of an operation: "write", "acknowledgement",
    # "read", "response", "forward", "backward" -> "kind.part". Empty: not told.
    legs: Mapping[str, str] = field(default_factory=dict)
    # Whether acknowledged writes survive the loss of what these settings, with so many members, say
    # that they survive. False: losing some is what was chosen, and no broken promise.
    lossless: Callable[[Any, int], bool] = lambda settings, members: True
    hosted: bool = False  # its cores are HostedCores
    # Whether puts may be updates of counters and sets (storage_pb2.Update) with these settings.
    updates: Callable[[Any], bool] | None = None  # None: never


def check(backend: Backend, body: RequestBody) -> str | None:
    """Return what is wrong with a request before any core sees it, or None.

    Raises nothing; the caller makes an InvalidRequest of the text. Bounds: design.md §4.
    """
    if isinstance(body, control_pb2.CommandRequest):
        return None if body.WhichOneof("command") else "the request has no command"
    size = len(body.key.encode())
    if not 1 <= size <= KEY_BYTES_MAX:
        return f"the key has {size} bytes, expected 1 to {KEY_BYTES_MAX}"
    if not isinstance(body, storage_pb2.GetRequest):
        if not body.write_id.client_id or body.write_id.sequence < 1:
            return "write_id needs a client_id and a sequence from 1"
        if not isinstance(body, storage_pb2.DeleteRequest) and len(body.value) > VALUE_BYTES_MAX:
            return f"the value has {len(body.value)} bytes, expected at most {VALUE_BYTES_MAX}"
        if isinstance(body, storage_pb2.PutRequest) and body.update and backend.updates is None:
            return f"{backend.name} has no counters and sets: read the key and write what is to be"
    level = body.consistency
    if level != storage_pb2.CONSISTENCY_UNSPECIFIED and level not in backend.consistencies:
        offered = ", ".join(sorted(map(level_name, backend.consistencies)))
        return f"{backend.name} does not offer the level {level_name(level)}; it offers {offered}"
    return None


def level_name(level: int) -> str:
    """Return a level as scenarios and the command line name it: "quorum"."""
    if level not in storage_pb2.Consistency.values():
        return str(level)
    return storage_pb2.Consistency.Name(level).removeprefix("CONSISTENCY_").lower()  # type: ignore[arg-type]


def load_backend(name: str) -> Backend:
    """Return the backend registered as ``name``, or the object at ``package.module:attribute``.

    Raises ConfigError with what exists when there is no such backend.
    """
    path = name
    if ":" not in name:
        # A node is told the path and does not pay for the scan.
        from importlib.metadata import entry_points

        found = {entry.name: entry.value for entry in entry_points(group="replication.backends")}
        if name not in found:
            raise ConfigError([f"no backend {name!r}; installed: {', '.join(sorted(found))}"])
        path = found[name]
    module_name, _, attribute = path.partition(":")
    try:
        backend = getattr(import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError([f"backend {name!r} cannot be loaded: {error}"]) from None
    if not isinstance(backend, Backend):
        raise ConfigError([f"{path} is a {type(backend).__name__}, expected a replication Backend"])
    return backend
