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


def summary(report: SwarmReport, replay: str = "replication simulate {name} --swarm {seed}") -> str:
    """Return what a person wants to know of a swarm, with the command that replays each failure."""
    results = report.results
    seconds = sum(each.virtual_ns for each in results) / 1e9
    lines = [
        f"{len(results)} simulations of {report.name}, {seconds:,.0f} s of virtual time, "
        f"{sum(each.operations for each in results):,} operations, "
        f"{sum(each.effective_faults for each in results):,} faults that took effect"
    ]
    if report.interrupted:
        lines.append("interrupted: this is what was found so far")
    for each in report.failed:
        assert each.failure is not None, "failed means that there is a failure"
        lines.append(f"seed {each.seed} ({each.family.value}): {each.failure.check}")
        lines.append(f"    {each.failure.text}")
        lines.append(f"    {replay.format(name=report.name, seed=each.seed)}")
    if not report.failed:
        lines.append("no seed failed")
    return "\n".join(lines)
