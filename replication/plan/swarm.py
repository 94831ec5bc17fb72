"""``[simulation]`` and ``[swarm]``: what a scenario says of virtual time, and what may be drawn.

``[simulation]`` describes the machine room; real runs have their own, so they ignore it.
``[swarm]`` gives limits: for each seed of a swarm a scenario is drawn within them
(``replication.simulation.draw``). Bounds come in pairs, from and to, both included.
"""

from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from replication.plan.schema import (
    CLIENTS_MAX,
    DRIFT_PPM_MAX,
    PLAIN,
    PROCESSES_MAX,
    Document,
    Duration,
    Rate,
    Section,
    Share,
    _text_or_table,
)


def _refuse(words: str) -> PydanticCustomError:
    return PydanticCustomError(PLAIN, "{words}", {"words": words})


class DelayTable(Section):
    """How long something takes, as a distribution."""

    median: Duration | None = Field(default=None, description="lognormal, with sigma")
    sigma: Annotated[float, Field(ge=0, le=5)] | None = None
    floor: Duration | None = Field(default=None, description="exponential, with mean on top")
    mean: Duration | None = None
    low: Duration | None = Field(default=None, description="uniform, up to high")
    high: Duration | None = None

    @model_validator(mode="after")
    def _one_shape(self) -> "DelayTable":
        shapes = ({"median", "sigma"}, {"floor", "mean"}, {"low", "high"})
        if self.model_fields_set not in shapes:
            raise _refuse(
                "expected { median, sigma } (lognormal), { floor, mean } (exponential) or "
                "{ low, high } (uniform)"
            )
        if self.low is not None and self.high is not None and self.low > self.high:
            raise _refuse("low is above high")
        return self


DelayValue: TypeAlias = Annotated[
    Annotated[Duration, Tag("text")] | Annotated[DelayTable, Tag("table")],
    Discriminator(_text_or_table),
]


class NetworkTable(Section):
    """``simulation.network``: every message, all the time; link faults come on top."""

    delay: DelayValue | None = Field(default=None, description="one way, between nodes")
    client_delay: DelayValue | None = Field(default=None, description="one way, client to node")
    loss: Share = 0.0
    duplicate: Share = 0.0
    reorder: Share = Field(default=0.0, description="share of messages that later ones overtake")
    reorder_hold: Duration = Field(default=5_000_000, description="at most")
    bandwidth: int = Field(default=0, ge=0, description="bytes per second and link; 0: no limit")


class DiskTable(Section):
    """``simulation.disk``."""

    commit: DelayValue | None = Field(default=None, description="one sync, whatever it covers")


class ProcessorTable(Section):
    """``simulation.processor``: what one thread pays."""

    turn: Duration | None = None
    message: Duration | None = Field(default=None, description="of a peer")
    request: Duration | None = Field(default=None, description="of a client")
    start: Duration | None = Field(default=None, description="of a restarted process")
    start_spread: Duration | None = Field(
        default=None, description="within which the members of a cluster start"
    )
    reconnect: Duration | None = Field(
        default=None, description="until all others are connected to a process that has come"
    )


class ClockTable(Section):
    """``simulation.clock``: each node draws its own error within these."""

    offset: Duration = 0
    drift_ppm: int = Field(default=0, ge=0, le=DRIFT_PPM_MAX)


class SimulationTable(Section):
    """``[simulation]``."""

    network: NetworkTable = NetworkTable()
    disk: DiskTable = DiskTable()
    processor: ProcessorTable = ProcessorTable()
    clock: ClockTable = ClockTable()


Whole: TypeAlias = Annotated[int, Field(ge=0)]
Span: TypeAlias = Annotated[list[Whole], Field(min_length=2, max_length=2)]
Times: TypeAlias = Annotated[list[Duration], Field(min_length=2, max_length=2)]
Rates: TypeAlias = Annotated[list[Rate], Field(min_length=2, max_length=2)]
Choices: TypeAlias = dict[str, Annotated[list[Any], Field(min_length=1)]]
SwarmFaultKind: TypeAlias = Literal[
    "kill",
    "restart",
    "pause",
    "partition",
    "delay",
    "loss",
    "wipe",
    "power-loss",
    "clock-jump",
    "clock-drift",
    "slow-disk",
    "stalled-disk",
    "full-disk",
    "jitter",
    "duplicate",
    "reorder",
    "bandwidth",
    "one-way",
    "bridge",
    "majorities-ring",
    "transfer",
    "join",
    "leave",
    "replace",
]


class SwarmTable(Section):
    """``[swarm]``: what is drawn for each seed, and within which limits."""

    nodes: list[Annotated[int, Field(ge=1, le=PROCESSES_MAX)]] = Field(
        default=[3, 5], min_length=1, description="one of these"
    )
    clients: Span = Field(default=[2, 6])
    keys: Span = Field(default=[1, 4])
    rate: Rates = Field(default=[50.0, 300.0])
    duration: Times = Field(default=[1_000_000_000, 3_000_000_000])
    faults: Span = Field(default=[1, 6])
    fault_kinds: list[SwarmFaultKind] = Field(
        default=[each for each in get_args(SwarmFaultKind) if each not in ("wipe", "replace")],
        min_length=1,
        description="all of them if left out, but for wipe, since a Raft node whose disk is empty "
        "is not to come back under its name, and for replace, which befalls one node in some seeds",
    )
    fault_length: Times = Field(default=[20_000_000, 1_200_000_000])
    fault_loss: Share = Field(default=0.5, description="of a loss fault, at most")
    fault_delay: Duration = Field(default=100_000_000, description="of a delay fault, at most")
    loss: Share = Field(default=0.02, description="of every message, at most")
    duplicate: Share = 0.02
    reorder: Share = 0.05
    clock_offset: Duration = 50_000_000
    clock_drift_ppm: int = Field(default=200, ge=0, le=DRIFT_PPM_MAX)
    clock_jump: Duration = Field(default=2_000_000_000, description="of a clock-jump, at most")
    slow_disk: Duration = Field(default=50_000_000, description="added to a sync, at most")
    workload: Choices = Field(
        default={}, description="keys of [workload]: one of the values listed"
    )
    leader: dict[str, Choices] = Field(
        default={}, description="settings by name of backend: one of the values listed"
    )
    leaderless: dict[str, Choices] = Field(default={})

    @model_validator(mode="after")
    def _in_order(self) -> "SwarmTable":
        for name in ("clients", "keys", "rate", "duration", "faults", "fault_length"):
            low, high = getattr(self, name)
            if low > high:
                raise _refuse(f"{name} goes from a larger to a smaller value")
        if not 1 <= self.clients[0] <= self.clients[1] <= CLIENTS_MAX or self.keys[0] < 1:
            raise _refuse("clients and keys begin at 1")
        return self


class ScenarioDocument(Document):
    """A whole scenario file; without ``[swarm]`` the defaults are the limits."""

    simulation: SimulationTable = SimulationTable()
    swarm: SwarmTable = SwarmTable()


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of scenario files, for editors. Settings of backends stay open."""
    return ScenarioDocument.model_json_schema(by_alias=True)
