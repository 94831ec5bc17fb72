"""From the ``[simulation]`` table of a scenario to the settings of a world."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from replication.plan.document import read_document
from replication.plan.problems import Problems
from replication.plan.swarm import DelayTable, ScenarioDocument, SimulationTable
from replication.simulation.delays import Constant, Delay, Exponential, Lognormal, Uniform
from replication.simulation.settings import ClockSettings, SimulationSettings


def simulated_settings(scenario: Mapping[str, Any], source: str = "scenario") -> SimulationSettings:
    """Return the world that a scenario describes; raise ConfigError with every problem of form."""
    return _settings(read_tables(scenario, source).simulation)


def read_tables(scenario: Mapping[str, Any], source: str) -> ScenarioDocument:
    """Return the tables of a scenario; raise ConfigError with every problem of form."""
    problems = Problems(source)
    document = read_document(scenario, problems)
    problems.raise_if_any()
    return document


def _settings(table: SimulationTable) -> SimulationSettings:
    default = SimulationSettings()
    network = table.network
    processor = table.processor
    given = {
        f"{name}_ns": value
        for name in ("turn", "message", "request", "start", "start_spread", "reconnect")
        if (value := getattr(processor, name)) is not None
    }
    return SimulationSettings(
        network=replace(
            default.network,
            within=_delay(network.delay, default.network.within),
            clients=_delay(network.client_delay, default.network.clients),
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
