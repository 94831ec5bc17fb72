"""Making a failure small: the fewest faults and operations that still fail the same check.

The scenario of a failing seed is turned into one that lists its operations one by one. Then parts
are taken away as long as what is left fails alike (delta debugging: Zeller and Hildebrandt 2002).
Taking something away moves the chance that the rest meets, so each candidate is tried with a few
seeds; the one that fails is written down with it, and fails with it for ever.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias, TypeVar

from replication.errors import ConfigError
from replication.history import History, Phase
from replication.plan.units import duration_ns, duration_text
from replication.protocol import Family
from replication.simulation.draw import Tables, draw_scenario
from replication.simulation.execute import Simulated, simulate
from replication.simulation.judging import Failure, judge
from replication.simulation.tables import read_simulated_plan
from replication.simulation.telling import story
from replication.simulation.toml import to_toml

MILLISECOND_NS = 1_000_000
TICK_NS = 100_000  # to which times of operations are rounded
MARGIN_NS = 200 * MILLISECOND_NS  # of the load behind the last thing that happens
SETTLE_NS = 2_000 * MILLISECOND_NS
SAMPLE_SEEDS = 12
TRIES_MIN = 3
EMPTY_TIMES = 4
FAULT_TIMES = 4  # faults are few, and what readers have to understand
T = TypeVar("T")
PartsOf: TypeAlias = Callable[[Tables], list[Tables]]
WithParts: TypeAlias = Callable[[Tables, list[Tables]], Tables]


@dataclass(frozen=True, slots=True)
class Shrunk:
    """A small failure. ``tables`` is an ordinary scenario that fails with its own seed."""

    tables: Tables
    name: str
    family: Family
    failure: Failure
    faults: int
    operations: int
    simulations: int  # tried on the way
    story: tuple[str, ...]

    def toml(self) -> str:
        """Return the scenario as a file."""
        comment = "\n".join(
            (
                f"{self.failure.check} is broken ({self.family.value} side, simulated).",
                "",
                *self.story,
            )
        )
        return to_toml(self.tables, comment)


Progress = Callable[[int, int, int], None]  # (simulations, faults left, operations left)


def shrink_seed(
    raw: Mapping[str, Any],
    name: str,
    seed: int,
    family: Family,
    *,
    tries: int = 40,
    simulations_max: int = 3_000,
    progress: Progress | None = None,
) -> Shrunk | None:
    """Make the failure of one seed of a swarm small; None when the seed does not fail.

    KeyboardInterrupt ends the search with the smallest scenario found so far.
    """
    tables = draw_scenario(raw, name, seed)
    return shrink(
        tables, name, family, tries=tries, simulations_max=simulations_max, progress=progress
    )


def shrink(
    tables: Mapping[str, Any],
    name: str,
    family: Family,
    *,
    tries: int = 40,
    simulations_max: int = 3_000,
    progress: Progress | None = None,
) -> Shrunk | None:
    """Make the failure of a scenario small; None when it does not fail.

    Each candidate is tried with up to ``tries`` seeds, fewer if the failure is a frequent one, and
    no more than ``simulations_max`` simulations are made in all.
    """
    simulated, failure = _simulate(tables, name, family)
    if failure is None:
        return None
    search = _Search(name, family, failure, tries, simulations_max, progress)
    search.best = deepcopy(dict(tables))
    with suppress(KeyboardInterrupt, _OutOfBudget):
        search.run(simulated.history)
    best = search.best
    simulated, found = _simulate(best, name, family)
    assert found is not None, "what was found to fail fails again with its seed"
    return Shrunk(
        tables=best,
        name=name,
        family=family,
        failure=found,
        faults=len(_faults(best)),
        operations=len(best["workload"].get("operation", ())) or len(simulated.history.operations),
        simulations=search.simulations,
        story=tuple(story(simulated.history, found)),
    )


class _OutOfBudget(Exception):
    pass


class _Search:
    def __init__(
        self,
        name: str,
        family: Family,
        failure: Failure,
        tries: int,
        simulations_max: int,
        progress: Progress | None,
    ) -> None:
        self._name = name
        self._family = family
        self._failure = failure
        self._tries = self._tries_max = tries
        self._simulations_max = simulations_max
        self._progress = progress
        self.simulations = 0
        self.best: Tables = {}

    def run(self, history: History) -> None:
        """Leave the smallest scenario that was found in ``best``.

        First in large pieces, then piece by piece.
        """
        self._list_operations(history)
        self._shorten()
        self._be_impatient()
        self._reduce(_faults, _with_faults)
        if self._listed:
            self._only_one_key()
            self._reduce(_operations, _with_operations)
        self._shorten()
        self._simplify()
        self._one_by_one(_faults, _with_faults, FAULT_TIMES)
        if self._listed:
            self._one_by_one(_operations, _with_operations)
        self._shorten()

    def _fix_tries(self) -> None:
        """Fix how many seeds a candidate gets, by how often the best scenario fails.

        With three times as many as one failure takes on average, a candidate that fails as often
        is passed over once in twenty times.
        """
        failed = sum(self._fails(self.best, seed) for seed in range(SAMPLE_SEEDS))
        wanted = -(-3 * SAMPLE_SEEDS // max(failed, 1))
        self._tries = min(max(wanted, TRIES_MIN), self._tries_max)

    @property
    def _listed(self) -> bool:
        return bool(self.best["workload"].get("kind") == "explicit")

    def _accept(self, candidate: Tables, times: int = 1) -> bool:
        """Keep the candidate if it fails alike with one of as many seeds as it is given."""
        seed = self.best["run"]["seed"]
        for each in range(seed, seed + times * self._tries):
            if self._fails(candidate, each):
                self.best = {**candidate, "run": {**candidate["run"], "seed": each}}
                if self._progress is not None:
                    left = len(_operations(candidate))
                    self._progress(self.simulations, len(_faults(candidate)), left)
                return True
        return False

    def _fails(self, tables: Tables, seed: int) -> bool:
        if self.simulations >= self._simulations_max:
            raise _OutOfBudget
        self.simulations += 1
        tables = {**tables, "run": {**tables["run"], "seed": seed}}
        in_flight = self._failure.in_flight
        try:
            _, failure = _simulate(tables, self._name, self._family, load_only=in_flight)
        except ConfigError:
            return False  # what was taken away was needed for the scenario to make sense
        return failure is not None and failure.check == self._failure.check

    def _list_operations(self, history: History) -> None:
        """Write down what the clients did, up to the failure if that has a time."""
        end_ns = self._failure.time_ns
        operations = [
            _listed(each, history.load_start_ns)
            for each in sorted(history.operations, key=lambda each: each.index)
            if each.phase is not Phase.FINAL and (end_ns is None or each.invoke_ns <= end_ns)
        ]
        operations.sort(key=lambda each: duration_ns(each["at"]))  # stable: a client's in order
        candidate = deepcopy(self.best)
        workload = candidate["workload"]
        for key in ("mix", "keys", "arrival", "value_bytes"):
            workload.pop(key, None)
        workload["kind"] = "explicit"
        self._accept(_with_operations(candidate, operations))
        self._fix_tries()

    def _only_one_key(self) -> None:
        operations = _operations(self.best)
        for key in sorted({each["key"] for each in operations}):
            kept = [each for each in operations if each["key"] == key]
            if self._accept(_with_operations(self.best, kept)):
                return

    def _reduce(self, parts_of: PartsOf, with_parts: WithParts) -> None:
        """Take parts away, in ever smaller pieces, until none can go (ddmin)."""
        # Cheap to simulate, and worth a lot.
        if self._accept(with_parts(self.best, []), times=EMPTY_TIMES):
            return
        pieces = 2
        while (parts := parts_of(self.best)) and pieces <= len(parts):
            for piece in _split(parts, pieces):
                rest = [each for each in parts if not any(each is one for one in piece)]
                if rest and self._accept(with_parts(self.best, rest)):
                    pieces = max(pieces - 1, 2)
                    break
            else:
                pieces = len(parts) if len(parts) // 2 < pieces < len(parts) else pieces * 2

    def _one_by_one(self, parts_of: PartsOf, with_parts: WithParts, times: int = 1) -> None:
        """Take away single parts, the last first, until none can go."""
        position = len(parts_of(self.best)) - 1
        while position >= 0:
            parts = parts_of(self.best)
            position = min(position, len(parts) - 1)
            rest = [*parts[:position], *parts[position + 1 :]]
            if self._accept(with_parts(self.best, rest), times):
                position = len(rest)
            position -= 1

    def _simplify(self) -> None:
        """Try without each disorder of the machine room, and with fewer nodes."""
        simulation = self.best.get("simulation", {})
        for table in ("network", "clock", "disk", "processor"):
            if simulation.get(table):
                self._accept(_without(self.best, table))
        for kind in ("loss", "duplicate", "reorder"):
            if self.best.get("simulation", {}).get("network", {}).get(kind):
                self._accept(_without(self.best, "network", kind))
        if self.best["cluster"].get("nodes", 5) > 3:
            candidate = deepcopy(self.best)
            candidate["cluster"]["nodes"] = 3
            self._accept(candidate)

    def _be_impatient(self) -> None:
        """Try to settle for less time."""
        if not self._failure.in_flight:
            candidate = deepcopy(self.best)
            candidate["run"]["settle"] = duration_text(SETTLE_NS)
            self._accept(candidate)

    def _shorten(self) -> None:
        """End the load soon after the last thing that happens."""
        candidate = deepcopy(self.best)
        ends_ns = [MARGIN_NS]
        for fault in _faults(candidate):
            ends_ns.append(duration_ns(fault["at"]) + duration_ns(fault.get("for", "0s")))
        ends_ns += [duration_ns(each["at"]) for each in _operations(candidate)]
        end_ns = max(ends_ns) // MILLISECOND_NS * MILLISECOND_NS + MARGIN_NS
        if end_ns < duration_ns(candidate["run"].get("duration", "10s")):
            candidate["run"]["duration"] = duration_text(end_ns)
            self._accept(candidate)


def _simulate(
    tables: Mapping[str, Any], name: str, family: Family, *, load_only: bool = False
) -> tuple[Simulated, Failure | None]:
    plan = read_simulated_plan(tables, name, name)
    simulated = simulate(plan, family, load_only=load_only)
    if simulated.history.interrupted:
        raise KeyboardInterrupt
    if load_only and simulated.broken is None:
        return simulated, None
    return simulated, judge(simulated)


def _listed(operation: Any, start_ns: int) -> Tables:
    at_ns = max(0, operation.intended_ns - start_ns) // TICK_NS * TICK_NS
    table = {
        "client": operation.client,
        "at": duration_text(at_ns),
        "kind": operation.kind.value,
        "key": operation.key,
        "value": None if operation.value is None else operation.value.rstrip("."),
        "expected": operation.expected,
    }
    return {key: value for key, value in table.items() if value is not None}


def _operations(tables: Tables) -> list[Tables]:
    return list(tables["workload"].get("operation", ()))


def _with_operations(tables: Tables, operations: list[Tables]) -> Tables:
    changed = deepcopy({**tables, "workload": {**tables["workload"], "operation": []}})
    changed["workload"]["operation"] = operations
    return changed


def _faults(tables: Tables) -> list[Tables]:
    return [*tables.get("fault", ()), *tables.get("simulation", {}).get("fault", ())]


def _with_faults(tables: Tables, faults: list[Tables]) -> Tables:
    def kept(listed: Sequence[Tables]) -> list[Tables]:
        return [each for each in listed if any(each is one for one in faults)]

    simulation = tables.get("simulation", {})
    return {
        **tables,
        "fault": kept(tables.get("fault", ())),
        "simulation": {**simulation, "fault": kept(simulation.get("fault", ()))},
    }


def _without(tables: Tables, table: str, key: str | None = None) -> Tables:
    changed = deepcopy(tables)
    if key is None:
        changed["simulation"].pop(table)
    else:
        changed["simulation"][table].pop(key)
    return changed


def _split(parts: Sequence[T], pieces: int) -> list[Sequence[T]]:
    bounds = [round(number * len(parts) / pieces) for number in range(pieces + 1)]
    return [parts[low:high] for low, high in pairwise(bounds) if low < high]
