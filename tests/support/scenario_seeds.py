"""Scenarios over many seeds in virtual time: how often does each show what it is about?

python -m tests.support.scenario_seeds 20 zombie-delete clock-skew-lww
"""

import sys
from collections import Counter
from functools import cache

from replication.analysis import known_checks, measure_problem
from replication.analysis.analyse import analyse
from replication.analysis.expect import judge
from replication.analysis.findings import ExpectationResult
from replication.plan import Scenario, find_backend, load_scenario, make_plan
from replication.protocol import Family
from replication.simulation.execute import simulate

find = cache(find_backend)


def scenario(name: str) -> Scenario:
    """Return a scenario, or one variant of it: "name:variant"."""
    return load_scenario(
        name, find=find, known_checks=known_checks(), measure_problem=measure_problem
    )


def leader(name: str, seed: int) -> list[ExpectationResult]:
    """Return what became of the expectations of the leader side in one seed."""
    return _judged(name, seed, Family.LEADER)


def leaderless(name: str, seed: int) -> list[ExpectationResult]:
    """Return what became of the expectations of the leaderless side in one seed."""
    return _judged(name, seed, Family.LEADERLESS)


def _judged(name: str, seed: int, family: Family) -> list[ExpectationResult]:
    plan = make_plan(scenario(name), seed)
    simulated = simulate(plan, family)
    assert simulated.broken is None, simulated.broken
    return judge(plan.expectations, {family.value: analyse(simulated.history)})


def main(seeds: int, names: list[str]) -> None:
    """Print for each variant of each scenario how many seeds met each expectation of a side.

    "name" stands for all its variants, "name:variant" for one. A side that a variant leaves as
    another one had it is run once.
    """
    done: set[str] = set()
    for name in names:
        variants = () if ":" in name else scenario(name).variants
        for full in [f"{name}:{variant}" for variant in variants] or [name]:
            for side, family in ((leader, Family.LEADER), (leaderless, Family.LEADERLESS)):
                plan = make_plan(scenario(full), 1)
                expected = [each for each in plan.expectations if each.side is family]
                seen = repr((name, plan.backends[family], plan.workload, plan.faults, expected))
                if expected and seen not in done:
                    results = [side(full, seed) for seed in range(1, seeds + 1)]
                    _print_counts(full, side.__name__, results)
                done.add(seen)


def _print_counts(name: str, side: str, seeds: list[list[ExpectationResult]]) -> None:
    met: Counter[str] = Counter()
    observed: dict[str, list[str]] = {}
    for result in (each for results in seeds for each in results):
        met[result.words] += result.verdict == "valid"
        observed.setdefault(result.words, []).append(result.observed)
    for words, seen in observed.items():
        shown = ", ".join(seen[:6])
        print(f"{name}: {side}: {words}: met in {met[words]} of {len(seeds)}: {shown}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
