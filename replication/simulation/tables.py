"""From the ``[simulation]`` table of a scenario to the settings and faults of a world."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from replication.errors import ConfigError
from replication.plan.plan import Plan
from replication.plan.scenario import read_scenario
from replication.plan.swarm import (
    DelayTable,
    SimulationTable,
    read_simulated,
    without_simulation,
)
from replication.protocol import NodeId
from replication.simulation.delays import Constant, Delay, Exponential, Lognormal, Uniform
from replication.simulation.regions import regions
from replication.simulation.settings import ClockSettings, SimulationSettings


@dataclass(frozen=True, slots=True)
class SimulatedFault:
    """A fault that only a simulation can inject. Times count from the start of the load."""

    kind: str  # as in plan.swarm.SimulatedFaultTable
    at_ns: int
    until_ns: int | None  # None: until the end of the load
    node: NodeId
    by_ns: int = 0  # clock-jump: negative into the past; slow-disk: added to every sync
    ppm: int = 0


def simulated_settings(
    scenario: Mapping[str, Any], source: str = "scenario"
) -> tuple[SimulationSettings, tuple[SimulatedFault, ...]]:
    """Return the world that a scenario describes; raise ConfigError with every problem."""
    table = read_simulated(scenario, source).simulation
    unknown = [name for name in table.network.regions if name not in regions()]
    if unknown:
        raise ConfigError(
            [
                f"{source}: simulation.network.regions: {name} is unknown, "
                f"expected some of {', '.join(regions())}"
                for name in unknown
            ]
        )
    return _settings(table), tuple(_faults(table))


def read_simulated_plan(raw: Mapping[str, Any], name: str, source: str) -> Plan:
    """Return the plan of a scenario that may have the tables of the simulation.

    The plan keeps the whole scenario. Raises ConfigError with every problem.
    """
    scenario = read_scenario(without_simulation(raw), name, source)
    _, faults = simulated_settings(raw, source)
    nodes = scenario.plan.nodes
    strangers = [fault.node for fault in faults if fault.node not in nodes]
    if strangers:
        raise ConfigError(
            [
                f"{source}: simulation.fault: {node} names no node, expected n1 to {nodes[-1]}"
                for node in strangers
            ]
        )
    return replace(scenario.plan, scenario=dict(raw))


def _settings(table: SimulationTable) -> SimulationSettings:
    default = SimulationSettings()
    network = table.network
    processor = table.processor
    given = {
        f"{name}_ns": value
        for name in ("turn", "message", "request", "start")
        if (value := getattr(processor, name)) is not None
    }
    return SimulationSettings(
        network=replace(
            default.network,
            within=_delay(network.delay, default.network.within),
            clients=_delay(network.client_delay, default.network.clients),
            regions=tuple(network.regions),
            loss=network.loss,
            duplicate=network.duplicate,
            reorder=network.reorder,
            reorder_hold_ns=network.reorder_hold,
            bandwidth_bytes_per_second=network.bandwidth,
        ),
        disk=replace(default.disk, commit=_delay(table.disk.commit, default.disk.commit)),
        processor=replace(default.processor, **given),
        clock=ClockSettings(table.clock.offset, table.clock.drift_ppm),
    )


def _delay(value: int | DelayTable | None, default: Delay) -> Delay:
    if value is None:
        return default
    if isinstance(value, int):
        return Constant(value)
    if value.median is not None:
        return Lognormal(value.median, value.sigma or 0.0)
    if value.floor is not None:
        return Exponential(value.floor, value.mean or 0)
    return Uniform(value.low or 0, value.high or 0)


def _faults(table: SimulationTable) -> list[SimulatedFault]:
    return [
        SimulatedFault(
            each.kind,
            each.at,
            None if each.for_ is None else each.at + each.for_,
            each.node,
            (-1 if each.back else 1) * (each.by or 0),
            each.ppm or 0,
        )
        for each in table.fault
    ]
