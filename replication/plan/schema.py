"""The form of a scenario file. What the values mean together is judged in ``check``.

Everything is optional here, so that one mistake does not hide another: ``check`` says what is
missing. Durations become nanoseconds, rates operations per second.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Strict,
    Tag,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from replication.history import OperationKind
from replication.plan.model import Direction, DiskEffect, FaultKind, PartitionShape, Route
from replication.plan.units import (
    bandwidth_bytes_per_s,
    duration_ns,
    rate_per_s,
    shown,
    signed_duration_ns,
)
from replication.plan.workload import Pick, Spacing, WorkloadKind
from replication.protocol import VALUE_BYTES_MAX, Family

NODES_MAX = 1000  # in virtual time
PROCESSES_MAX = 51  # nodes of a side, where each is a process
SPARES_MAX = 10
DRIFT_PPM_MAX = 200_000
CLIENTS_MAX = 1000
KEYS_MAX = 100_000
SEED_MAX = 2**63 - 1

# The type of our own pydantic errors: their message is a line for the user as it stands.
PLAIN = "plain"


def _plain(parse: Callable[[object], Any]) -> BeforeValidator:
    """Return a validator by a function that raises ValueError with words for the user."""

    def validate(value: object) -> Any:
        try:
            return parse(value)
        except ValueError as error:
            raise PydanticCustomError(PLAIN, "{words}", {"words": str(error)}) from None

    return BeforeValidator(validate)


Duration: TypeAlias = Annotated[
    int,
    _plain(duration_ns),
    WithJsonSchema({"type": "string", "examples": ["200ms", "1.5s", "2m"]}),
]
SignedDuration: TypeAlias = Annotated[
    int,
    _plain(signed_duration_ns),
    WithJsonSchema({"type": "string", "examples": ["2s", "-500ms"]}),
]
Rate: TypeAlias = Annotated[
    float, _plain(rate_per_s), WithJsonSchema({"type": "string", "examples": ["400/s"]})
]
Bandwidth: TypeAlias = Annotated[
    int,
    _plain(bandwidth_bytes_per_s),
    WithJsonSchema({"type": "string", "examples": ["64KB/s", "1MB/s"]}),
]
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Word: TypeAlias = Annotated[str, Field(min_length=1)]


def _text_or_table(value: object) -> str:
    return "text" if isinstance(value, str) else "table"


def _text_or_number(value: object) -> str:
    return "text" if isinstance(value, str) else "number"


def _text_or_list(value: object) -> str:
    return "text" if isinstance(value, str) else "list"


def _text_list_or_table(value: object) -> str:
    return "table" if isinstance(value, dict) else _text_or_list(value)


def _placement(value: object) -> object:
    if value != "spread":
        raise ValueError(
            f'{shown(value)} is unknown, expected "spread" or a list of nodes such as ["n1", "n3"]'
        )
    return value


class Section(BaseModel):
    """One table of the file: nothing is converted, nothing unknown is let through."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, validate_by_alias=True)


class RunSection(Section):
    """``[run]``: how long each part takes."""

    duration: Duration = Field(default=10_000_000_000, description="of the load, warm-up included")
    warmup: Duration = Field(
        default=1_000_000_000, description="part of the load no measure counts"
    )
    settle: Duration = Field(
        default=5_000_000_000, description="at most, after healing, until all replicas are equal"
    )
    operation_timeout: Duration = Field(
        default=1_000_000_000,
        description="what a client waits for one operation, redirections included",
    )
    seed: int = Field(default=1, ge=0, le=SEED_MAX, description="of all that the plan draws")
    side: Annotated[Family, Strict(False)] | None = Field(
        default=None, description="the only one that is run; both if left out"
    )


class ClusterSection(Section):
    """``[cluster]``: what is started."""

    nodes: int = Field(default=5, ge=1, le=NODES_MAX)
    spares: int = Field(
        default=0, ge=0, le=SPARES_MAX, description='nodes that wait for kind = "join"'
    )
    regions: list[Word] = Field(
        default=[], description="nodes are dealt to them in turn, clients stand beside their home"
    )
    sync: Literal["always", "off"] = Field(
        default="always", description="always: a write is durable before it counts"
    )
    leader: Word = Field(
        default="raft", description='an installed backend or "package.module:attribute"'
    )
    leaderless: Word = "dynamo"


class KeysTable(Section):
    """``workload.keys``: how many, and how one is chosen."""

    count: int = Field(default=100, ge=1, le=KEYS_MAX)
    pick: Annotated[Pick, Strict(False)] = Pick.UNIFORM
    theta: Annotated[float, Field(ge=0, le=10)] | None = Field(
        default=None, description="zipfian: the k-th key is picked in proportion to 1 / k**theta"
    )
    hot_keys: Share | None = Field(
        default=None, description="hotspot: the share of keys that is hot"
    )
    hot_operations: Share | None = Field(
        default=None, description="hotspot: the share of operations on hot keys"
    )


class ArrivalTable(Section):
    """``workload.arrival``: when operations start."""

    kind: Literal["open", "closed"] | None = None
    rate: Rate | None = Field(default=None, description="open: of all clients together")
    spacing: Annotated[Spacing, Strict(False)] | None = None
    think: Duration | None = Field(default=None, description="closed: pause between two operations")


class LevelsTable(Section):
    """``workload.consistency``: per side, the level to ask for per kind of operation."""

    leader: dict[str, str] = {}
    leaderless: dict[str, str] = {}


class OperationTable(Section):
    """``[[workload.operation]]``: one operation of kind = "explicit"."""

    client: Word | None = None
    at: Duration | None = Field(default=None, description="left out: when the one before has ended")
    kind: Annotated[OperationKind, Strict(False)] | None = None
    key: Word | None = None
    value: str | None = None
    expected: str | None = Field(
        default=None, description="compare-and-set; left out: a missing key"
    )


class UpdateTable(Section):
    """``workload.update``: what the write of an update is, once the key has been read.

    ``type``: a counter or a set of the store itself, which is updated without a read.
    """

    leader: Literal["put", "compare-and-set"] = "compare-and-set"
    leaderless: Literal["put", "compare-and-set", "type"] = "put"


class WorkloadSection(Section):
    """``[workload]``: what the clients do."""

    kind: Annotated[WorkloadKind, Strict(False)] = WorkloadKind.REGISTER
    clients: int = Field(default=10, ge=1, le=CLIENTS_MAX)
    placement: Annotated[
        Annotated[str, _plain(_placement), Tag("text")] | Annotated[list[Word], Tag("list")],
        Discriminator(_text_or_list),
    ] = Field(default="spread", description='"spread", or home nodes that the clients take in turn')
    route: Annotated[Route, Strict(False)] = Route.FOLLOW
    mix: dict[str, Share] | None = Field(
        default=None, description="share of each kind; they sum to 1"
    )
    keys: KeysTable = KeysTable()
    arrival: ArrivalTable | None = None
    value_bytes: int = Field(default=64, ge=0, le=VALUE_BYTES_MAX)
    context: bool = Field(
        default=True, description="writes carry the context of the client's last read"
    )
    retries: int = Field(
        default=0,
        ge=0,
        le=100,
        description="leader: how often a write of unknown fate is sent again, same write id",
    )
    update: UpdateTable = UpdateTable()
    consistency: LevelsTable = LevelsTable()
    replicas: dict[str, int] = Field(
        default={}, description="leaderless: explicit R of get, W of put and delete"
    )
    operation: list[OperationTable] = []


class TargetTable(Section):
    """``fault.target`` where the sides get different ones."""

    leader: Word | None = None
    leaderless: Word | None = None


class FaultTable(Section):
    """``[[fault]]``: when, what, and on whom."""

    kind: Annotated[FaultKind, Strict(False)] | None = None
    at: Duration | None = None
    for_: Duration | None = Field(default=None, alias="for")
    until: Duration | None = None
    side: Annotated[Family, Strict(False)] | None = Field(
        default=None, description="the only side that has it; both if left out"
    )
    target: (
        Annotated[
            Annotated[Word, Tag("text")]
            | Annotated[list[Word], Tag("list"), Field(min_length=1)]
            | Annotated[TargetTable, Tag("table")],
            Discriminator(_text_list_or_table),
        ]
        | None
    ) = Field(
        default=None,
        description='a name or several, "leader", "follower", "random", "minority-with-leader", '
        '"all", "first-replica-of:KEY", "coordinator-of:KEY"; or a table with one for each side',
    )
    shape: Annotated[PartitionShape, Strict(False)] | None = None
    sides: list[list[Word]] | None = None
    direction: Annotated[Direction, Strict(False)] | None = Field(
        default=None, description="one-way: the messages of the target that are lost"
    )
    delay: Duration | None = None
    jitter: Duration | None = None
    loss: Share | None = None
    duplicate: Share | None = Field(default=None, description="of messages that arrive twice")
    reorder: Share | None = Field(default=None, description="of messages that are held back")
    hold: Duration | None = Field(
        default=None, description="duplicate, reorder: at most; 5ms if left out"
    )
    bandwidth: Bandwidth | None = None
    offset: SignedDuration | None = Field(default=None, description="clock: of the wall clock")
    drift_ppm: Annotated[int, Field(ge=-DRIFT_PPM_MAX, le=DRIFT_PPM_MAX)] | None = Field(
        default=None, description="clock: parts per million by which both clocks run fast, or slow"
    )
    strobe: Duration | None = Field(
        default=None, description="clock: the offset comes and goes, this long each"
    )
    effect: Annotated[DiskEffect, Strict(False)] | None = Field(
        default=None, description="disk: what is wrong with it"
    )
    torn: bool = Field(
        default=False, description="disk, lose-unsynced: a part of it is left, up to amid a write"
    )


Bound: TypeAlias = Annotated[
    Annotated[str, Tag("text")] | Annotated[float, Tag("number")], Discriminator(_text_or_number)
]


class VariantTable(Section):
    """``[[variant]]``: the same scenario with other settings, as ``SCENARIO:NAME``."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    set: list[Word] = Field(min_length=1, description="PATH=VALUE, each as after --set")


class ExpectTable(Section):
    """``[[expect]]``: one line that the run is judged by."""

    side: Literal["leader", "leaderless", "both"] = "both"
    check: Word | None = None
    verdict: Literal["valid", "violated"] | None = Field(
        default=None, description="valid if left out"
    )
    measure: Word | None = None
    below: Bound | None = None
    above: Bound | None = None
    equals: Bound | None = None
    when: dict[str, Any] | None = Field(
        default=None,
        description="only where these settings, and those of the workload, have these values, "
        "written as in this file",
    )


class Document(Section):
    """A whole scenario file."""

    title: Word | None = None
    question: Word | None = Field(default=None, description="what the scenario asks, one sentence")
    run: RunSection = RunSection()
    cluster: ClusterSection = ClusterSection()
    leader: dict[str, dict[str, Any]] = Field(default={}, description="settings by name of backend")
    leaderless: dict[str, dict[str, Any]] = Field(
        default={}, description="settings by name of backend"
    )
    workload: WorkloadSection = WorkloadSection()
    fault: list[FaultTable] = []
    expect: list[ExpectTable] = []
    variant: list[VariantTable] = Field(
        default=[], description="if there are any, they are run, each by itself"
    )
