"""One seed of a swarm: draw a scenario, simulate a side of it, judge it.

Phase one injects faults under load, with every invariant of the family checked at every step. Phase
two heals everything and demands that the cluster serves again, that every key can be read, and that
what the backend promises of its history and its replicas was kept. ``pool`` spreads seeds over
processes; ``shrinking`` makes a failing one small.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from replication.history import Outcome
from replication.plan.scenario import read_scenario
from replication.protocol import Family
from replication.simulation.draw import draw_scenario
from replication.simulation.execute import Simulated, simulate
from replication.simulation.judging import Failure, judge


@dataclass(frozen=True, slots=True)
class SeedResult:
    """What became of one seed on one side."""

    seed: int
    family: Family
    failure: Failure | None
    faults: int
    effective_faults: int
    operations: int
    acknowledged: int
    virtual_ns: int
    actions: int


@dataclass(frozen=True, slots=True)
class SwarmReport:
    """All seeds that were tried; ``interrupted`` if not all that were asked for."""

    name: str
    results: tuple[SeedResult, ...]
    interrupted: bool = False

    @property
    def failed(self) -> tuple[SeedResult, ...]:
        """The seeds that failed, in order."""
        return tuple(each for each in self.results if each.failure is not None)


def simulate_seed(raw: Mapping[str, Any], name: str, seed: int, family: Family) -> Simulated:
    """Return what one seed of a swarm leaves on one side."""
    drawn = draw_scenario(raw, name, seed)
    return simulate(read_scenario(drawn, name, f"seed {seed}").plan, family)


def run_seed(raw: Mapping[str, Any], name: str, seed: int, family: Family) -> SeedResult:
    """Try one seed on one side. A KeyboardInterrupt passes: half a simulation proves nothing."""
    simulated = simulate_seed(raw, name, seed, family)
    history = simulated.history
    if history.interrupted:
        raise KeyboardInterrupt
    return SeedResult(
        seed=seed,
        family=family,
        failure=judge(simulated),
        faults=len(history.faults),
        effective_faults=sum(fault.effective for fault in history.faults),
        operations=len(history.operations),
        acknowledged=sum(each.outcome is Outcome.OK for each in history.operations),
        virtual_ns=simulated.end_ns,
        actions=simulated.actions,
    )
