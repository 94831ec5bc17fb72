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


def leaderless(name: str, seed: int) -> list[ExpectationResult]:
    """Return what became of the expectations of the leaderless side in one seed."""
    plan = make_plan(scenario(name), seed)
    simulated = simulate(plan, Family.LEADERLESS)
    assert simulated.broken is None, simulated.broken
    mine = [each for each in plan.expectations if each.side != "leader"]
    return judge(mine, {"leaderless": analyse(simulated.history)})


def main(seeds: int, names: list[str]) -> None:
    """Print for each variant of each scenario how many seeds met each expectation."""
    for name in names:
        for variant in scenario(name).variants or ("",):
            full = f"{name}:{variant}" if variant else name
            met: Counter[str] = Counter()
            observed: dict[str, list[str]] = {}
            for seed in range(1, seeds + 1):
                for result in leaderless(full, seed):
                    met[result.words] += result.verdict == "valid"
                    observed.setdefault(result.words, []).append(result.observed)
            for words, seen in observed.items():
                print(f"{full}: {words}: met in {met[words]} of {seeds}: {', '.join(seen[:6])}")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
