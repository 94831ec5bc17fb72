"""Scenarios over many seeds in virtual time: how often does each show what it is about?

python -m tests.support.scenario_seeds 1-20 zombie-delete clock-skew-lww
"""

import sys
from dataclasses import replace
from functools import cache

from replication.analysis import known_checks, measure_problem
from replication.analysis.analyse import analyse
from replication.analysis.expect import judge, measure
from replication.analysis.findings import ExpectationResult, SideFindings
from replication.plan import Plan, Scenario, find_backend, load_scenario, make_plan
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


def measured(name: str, seed: int, family: Family, path: str) -> float | None:
    """Return a measure of one side in one seed."""
    return measure(_analysed(make_plan(scenario(name), seed), family), path)


def _judged(name: str, seed: int, family: Family) -> list[ExpectationResult]:
    plan = make_plan(scenario(name), seed)
    return judge(plan.expectations, {family.value: _analysed(plan, family)})


def _analysed(plan: Plan, family: Family) -> SideFindings:
    simulated = simulate(plan, family)
    assert simulated.broken is None, simulated.broken
    return analyse(simulated.history)


def main(seeds: range, names: list[str]) -> None:
    """Print for each variant of each scenario in how many seeds each expectation was met.

    A variant that leaves the leader's side as the one before had it is not asked of that again.
    """
    for name in names:
        asked: list[Plan] = []
        for variant in scenario(name).variants or ("",):
            full = f"{name}:{variant}" if variant else name
            plan = make_plan(scenario(full), 1)
            of_leader = _of_the_leader(plan)
            if of_leader in asked:
                families: tuple[Family, ...] = (Family.LEADERLESS,)
            else:
                families = plan.families
            asked.append(of_leader)
            for family in families:
                _print(full, family, seeds)


def _of_the_leader(plan: Plan) -> Plan:
    """Return as much of a plan as the leader's side depends on."""
    expected = tuple(each for each in plan.expectations if each.side is Family.LEADER)
    return replace(
        plan,
        name="",
        title="",
        expectations=expected,
        scenario={},
        replica_counts={},
        backends={Family.LEADER: plan.backends[Family.LEADER]},
    )


def _print(name: str, family: Family, seeds: range) -> None:
    missed: dict[str, list[int]] = {}
    observed: dict[str, list[str]] = {}
    for seed in seeds:
        for result in _judged(name, seed, family):
            missed.setdefault(result.words, []).extend([seed] * (result.verdict != "valid"))
            observed.setdefault(result.words, []).append(result.observed)
    for words, found in observed.items():
        failing = ", ".join(map(str, missed[words])) or "none"
        met = f"met in {len(found) - len(missed[words])} of {len(found)} (not in {failing})"
        print(f"{name}, {family}: {words}: {met}: {', '.join(found[:6])}", flush=True)


if __name__ == "__main__":
    first, _, last = sys.argv[1].partition("-")
    main(range(int(first), int(last or first) + 1), sys.argv[2:])
