"""Making a failure small: the fewest faults and operations that still fail the same check.

The scenario of a failing seed is turned into one that lists its operations one by one. Then parts
are taken away as long as what is left fails alike (delta debugging: Zeller and Hildebrandt 2002).
Taking something away moves the chance that the rest meets, so each candidate is tried with a few
seeds; the one that fails is written down with it, and fails with it for ever.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, TypeAlias

from replication.analysis.expect import known_checks
from replication.errors import ConfigError
from replication.history import History, Phase
from replication.plan.scenario import read_scenario
from replication.plan.units import duration_ns, duration_text
from replication.protocol import Family
from replication.simulation.draw import Tables, draw_scenario
from replication.simulation.execute import Simulated, simulate
from replication.simulation.judging import Failure, judge
from replication.simulation.parts import (
    at_whole,
    end_ns,
    faults_of,
    listed,
    merged,
    operations_of,
    split,
    tidied,
    with_faults,
    with_nodes_named,
    with_operations,
    without,
)
from replication.simulation.telling import story
from replication.simulation.toml import to_toml

MILLISECOND_NS = 1_000_000
TICKS_NS = (10_000_000, 1_000_000, 100_000)  # to which times of operations are rounded
MARGIN_NS = 200 * MILLISECOND_NS  # of the load behind the last thing that happens
SETTLE_NS = 2_000 * MILLISECOND_NS
SAMPLE_SEEDS = 12
TRIES_MIN = 3
EMPTY_TIMES = 4
FAULT_TIMES = 4  # faults are few, and what readers have to understand
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
    interrupted: bool  # a longer search might have made it smaller

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
    enough: tuple[int, int] | None = None,
    progress: Progress | None = None,
) -> Shrunk | None:
    """Make the failure of one seed of a swarm small; None when the seed does not fail.

    It need not become smaller than ``enough``: so many faults and so many operations.
    KeyboardInterrupt ends the search with the smallest scenario found so far.
    """
    tables = draw_scenario(raw, name, seed)
    return shrink(
        tables,
        name,
        family,
        tries=tries,
        simulations_max=simulations_max,
        enough=enough,
        progress=progress,
    )


def shrink(
    tables: Mapping[str, Any],
    name: str,
    family: Family,
    *,
    tries: int = 40,
    simulations_max: int = 3_000,
    enough: tuple[int, int] | None = None,
    progress: Progress | None = None,
) -> Shrunk | None:
    """Make the failure of a scenario small; None when it does not fail.

    Each candidate is tried with up to ``tries`` seeds, fewer if the failure is a frequent one, and
    no more than ``simulations_max`` simulations are made in all. ``enough`` as in ``shrink_seed``.
    """
    simulated, failure = _simulate(tables, name, family)
    if failure is None:
        return None
    search = _Search(name, family, failure, tries, simulations_max, enough, progress)
    search.best = deepcopy(dict(tables))
    interrupted = False
    try:
        search.run(simulated.history)
    except _Done:
        pass
    except KeyboardInterrupt:
        interrupted = True
    best = search.best
    simulated, found = _simulate(best, name, family)
    assert found is not None, "what was found to fail fails again with its seed"
    if not found.in_flight and found.check in known_checks():
        # So that whoever runs the file is told by its exit code.
        best = {**best, "expect": [{"side": family.value, "check": found.check}]}
    return Shrunk(
        tables=best,
        name=name,
        family=family,
        failure=found,
        faults=len(faults_of(best)),
        operations=len(best["workload"].get("operation", ())) or len(simulated.history.operations),
        simulations=search.simulations,
        story=tuple(story(simulated.history, found)),
        interrupted=interrupted,
    )


class _Done(Exception):
    pass


class _Search:
    def __init__(
        self,
        name: str,
        family: Family,
        failure: Failure,
        tries: int,
        simulations_max: int,
        enough: tuple[int, int] | None,
        progress: Progress | None,
    ) -> None:
        self._name = name
        self._family = family
        self._failure = failure
        self._tries = self._tries_max = tries
        self._simulations_max = simulations_max
        self._enough = enough
        self._progress = progress
        self._load_only = False
        self.simulations = 0
        self.best: Tables = {}

    def run(self, history: History) -> None:
        """Leave the smallest scenario that was found in ``best``.

        First in large pieces, then piece by piece.
        """
        failed_ns = self._failure.time_ns
        # What shows under load needs no healing, settling and reading back to show again.
        self._load_only = self._failure.in_flight and (failed_ns or 0) <= history.load_end_ns
        self._accept(with_nodes_named(self.best, history))
        self._list_operations(history)
        self._shorten()
        self._be_impatient()
        self._reduce(faults_of, with_faults)
        if self._listed:
            self._only_one_key()
            self._reduce(operations_of, with_operations)
        self._shorten()
        self._simplify()
        self._merge()
        self._one_by_one(faults_of, with_faults, FAULT_TIMES)
        if self._listed:
            self._one_by_one(operations_of, with_operations)
        self._shorten()
        self._tidy()

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
                faults, operations = len(faults_of(candidate)), len(operations_of(candidate))
                if self._progress is not None:
                    self._progress(self.simulations, faults, operations)
                if self._listed and self._is_enough(faults, operations):
                    raise _Done
                return True
        return False

    def _is_enough(self, faults: int, operations: int) -> bool:
        enough = self._enough
        return enough is not None and faults <= enough[0] and operations <= enough[1]

    def _fails(self, tables: Tables, seed: int) -> bool:
        if self.simulations >= self._simulations_max:
            raise _Done
        self.simulations += 1
        tables = {**tables, "run": {**tables["run"], "seed": seed}}
        try:
            _, failure = _simulate(tables, self._name, self._family, load_only=self._load_only)
        except ConfigError:
            return False  # what was taken away was needed for the scenario to make sense
        return failure is not None and failure.check == self._failure.check

    def _list_operations(self, history: History) -> None:
        """Write down what the clients did, up to the failure if that has a time."""
        failed_ns = self._failure.time_ns
        operations = [
            listed(each, history.load_start_ns)
            for each in sorted(history.operations, key=lambda each: each.index)
            if each.phase is not Phase.FINAL and (failed_ns is None or each.invoke_ns <= failed_ns)
        ]
        operations.sort(key=lambda each: duration_ns(each["at"]))  # stable: a client's in order
        candidate = deepcopy(self.best)
        workload = candidate["workload"]
        for key in ("mix", "keys", "arrival", "value_bytes", "update"):
            workload.pop(key, None)
        workload["kind"] = "explicit"
        # At the very same moments the same happens; at rounder ones it may, and reads better.
        self._accept(with_operations(candidate, operations))
        self._fix_tries()

    def _only_one_key(self) -> None:
        operations = operations_of(self.best)
        for key in sorted({each["key"] for each in operations}):
            kept = [each for each in operations if each["key"] == key]
            if self._accept(with_operations(self.best, kept)):
                return

    def _reduce(self, parts_of: PartsOf, with_parts: WithParts) -> None:
        """Take parts away, in ever smaller pieces, until none can go (ddmin)."""
        # Cheap to simulate, and worth a lot.
        if self._accept(with_parts(self.best, []), times=EMPTY_TIMES):
            return
        pieces = 2
        while (parts := parts_of(self.best)) and pieces <= len(parts):
            for piece in split(parts, pieces):
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

    def _merge(self) -> None:
        """Let one fault stand for two alike, as often as that can be."""
        while any(self._accept(candidate, FAULT_TIMES) for candidate in merged(self.best)):
            pass

    def _tidy(self) -> None:
        """Make the faults short, and all times round: somebody will want to understand them."""
        for position in range(len(faults_of(self.best))):
            while any(map(self._accept, tidied(self.best, faults_of(self.best)[position]))):
                pass
        for tick_ns in TICKS_NS:
            rounder = at_whole(operations_of(self.best), tick_ns)
            if rounder == operations_of(self.best):
                break
            if self._accept(with_operations(self.best, rounder)):
                break
        self._shorten()

    def _simplify(self) -> None:
        """Try without each disorder of the machine room, and with fewer nodes."""
        simulation = self.best.get("simulation", {})
        for table in ("network", "clock", "disk", "processor"):
            if simulation.get(table):
                self._accept(without(self.best, table))
        for kind in ("loss", "duplicate", "reorder"):
            if self.best.get("simulation", {}).get("network", {}).get(kind):
                self._accept(without(self.best, "network", kind))
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
        ends_ns = [MARGIN_NS, *(end_ns(fault) for fault in faults_of(candidate))]
        ends_ns += [duration_ns(each["at"]) for each in operations_of(candidate)]
        load_ns = max(ends_ns) // MILLISECOND_NS * MILLISECOND_NS + MARGIN_NS
        if load_ns < duration_ns(candidate["run"].get("duration", "10s")):
            candidate["run"]["duration"] = duration_text(load_ns)
            self._accept(candidate)


def _simulate(
    tables: Mapping[str, Any], name: str, family: Family, *, load_only: bool = False
) -> tuple[Simulated, Failure | None]:
    plan = read_scenario(tables, name, name).plan
    simulated = simulate(plan, family, load_only=load_only)
    if simulated.history.interrupted:
        raise KeyboardInterrupt
    if load_only and simulated.broken is None:
        return simulated, None
    return simulated, judge(simulated)
