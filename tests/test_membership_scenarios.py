"""Scenarios of membership, repair and compare-and-set: the anomaly is there, and its cure works.

One seed of each here; twenty were tried when they were written.
"""

from functools import cache

import pytest

from replication.analysis import known_checks, measure_problem
from replication.analysis.analyse import analyse
from replication.analysis.expect import measure
from replication.analysis.findings import SideFindings, Verdict
from replication.plan import find_backend, load_scenario, make_plan
from replication.protocol import Family
from replication.simulation import simulate

find = cache(find_backend)


def side_of(name: str, *overrides: str) -> SideFindings:
    scenario = load_scenario(
        name,
        overrides,
        find=find,
        known_checks=known_checks(),
        measure_problem=measure_problem,
    )
    simulated = simulate(make_plan(scenario), Family.LEADERLESS)
    assert simulated.broken is None, simulated.broken
    return analyse(simulated.history)


@pytest.mark.parametrize(
    ("name", "check", "weak", "cure"),
    [
        (
            "outage-beyond-window",
            "convergence",
            ("leaderless.dynamo.anti_entropy=0s",),
            ("leaderless.dynamo.anti_entropy=200ms",),
        ),
        (
            "two-joins",
            "freshness",
            ("leaderless.dynamo.ring_changes=eager",),
            ("leaderless.dynamo.ring_changes=joint",),
        ),
        (
            "mixed-cas",
            "linearizability",
            ("workload.mix={ get = 0.5, put = 0.25, compare-and-set = 0.25 }",),
            ("workload.mix={ get = 0.5, compare-and-set = 0.5 }",),
        ),
    ],
)
def test_anomaly_is_there_and_the_cure_works(
    name: str, check: str, weak: tuple[str, ...], cure: tuple[str, ...]
) -> None:
    assert side_of(name, *weak).findings[check].verdict is Verdict.VIOLATED
    assert side_of(name, *cure).findings[check].verdict is Verdict.VALID


def test_swim_takes_nobody_for_dead_who_only_has_a_bad_network() -> None:
    path = "conflicts.repairs.taken_for_dead"
    silence = side_of("false-suspicion", "leaderless.dynamo.detector=silence")
    swim = side_of("false-suspicion", "leaderless.dynamo.detector=swim")
    assert (measure(silence, path) or 0) > 0
    assert measure(swim, path) == 0


@pytest.mark.parametrize(
    ("name", "changes"),
    [("add-and-remove-node", 2), ("replace-node:unthrottled", 1), ("replace-node:throttled", 1)],
)
def test_nothing_is_lost_while_nodes_come_and_go(name: str, changes: int) -> None:
    side = side_of(name)
    assert len(side.member_changes) == changes
    assert all(fault.effective for fault in side.faults)
    for check in ("durability", "freshness", "convergence"):
        assert side.findings[check].verdict is Verdict.VALID


@pytest.mark.parametrize(
    ("variant", "nodes", "push_pull", "seconds"),
    [("n3", 3, 1.5, 6), ("n5", 5, 2.4, 4), ("n50", 50, 5.7, 1)],
)
def test_all_know_after_as_many_rounds_of_gossip_as_push_pull_takes(
    variant: str, nodes: int, push_pull: float, seconds: int
) -> None:
    found = side_of(f"gossip-rounds:{variant}", f"run.duration={seconds}s").gossip
    assert found is not None
    assert (found.nodes, found.unheard) == (nodes, 0)
    assert found.count > 9
    assert found.rounds_mean == pytest.approx(push_pull, rel=0.2)


def test_more_nodes_than_processes_can_be_start_and_serve_in_virtual_time() -> None:
    changes = ("cluster.nodes=60", "simulation.network.loss=0.0", "run.duration=300ms")
    side = side_of("gossip-rounds:n3", *changes)
    assert len(side.nodes) == 60
    assert (side.operations["ok"] > 0, side.operations["fail"]) == (True, 0)
    assert side.findings["durability"].verdict is Verdict.VALID
