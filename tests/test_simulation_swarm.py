"""Seeds that draw scenarios, over one process or many, and what is said of them."""

import tomllib
from collections.abc import Iterable
from typing import Any

import pytest

from replication.analysis import Verdict, analyse
from replication.errors import ConfigError
from replication.history import Outcome, Phase
from replication.plan.load import load_scenario
from replication.plan.scenario import read_scenario
from replication.plan.swarm import SwarmTable
from replication.plan.units import duration_ns
from replication.protocol import Family
from replication.simulation.draw import draw_scenario
from replication.simulation.execute import simulate
from replication.simulation.judging import judge
from replication.simulation.pool import swarm
from replication.simulation.seeds import SeedResult, run_seed
from replication.simulation.shrinking import shrink_seed
from replication.simulation.toml import to_toml

ALL_KINDS = [
    *("kill", "restart", "pause", "partition", "delay", "loss"),
    *("power-loss", "clock-jump", "clock-drift", "slow-disk", "stalled-disk"),
]
MORE_KINDS = [
    *("jitter", "duplicate", "reorder", "bandwidth", "one-way", "bridge", "majorities-ring"),
]
SHORT: dict[str, Any] = {
    "title": "A swarm",
    "question": "Does anything break?",
    "workload": {"mix": {"get": 0.4, "put": 0.5, "delete": 0.1}},
    "swarm": {
        "duration": ["400ms", "800ms"],
        "rate": ["60/s", "150/s"],
        "fault_length": ["20ms", "400ms"],
        "fault_kinds": ALL_KINDS,
    },
}
BROKEN: dict[str, Any] = {
    **SHORT,
    "cluster": {"leaderless": "tests.support.planted_dynamo:loses_contexts"},
}


# What storm drew when the seeds below failed.
STORM_THEN: dict[str, Any] = {
    "nodes": [3, 5],
    "faults": [1, 8],
    "fault_kinds": [
        *ALL_KINDS,
        *MORE_KINDS,
        *("transfer", "join", "leave"),
    ],
    "leader": {
        "raft": {
            "pre_vote": [True, True, False],
            "check_quorum": [True, True, False],
            "append_entries_max": [1, 4, 1024],
            "inflight_appends_max": [1, 16],
            "snapshot_entries": [10, 50, 10000],
            "snapshot_trailing_entries": [0, 5],
            "snapshot_chunk_bytes": [100, 65536],
        }
    },
    "leaderless": {
        "dynamo": {
            "n": [3],
            "r": [1, 2, 2, 3],
            "w": [1, 2, 2, 3],
            "quorum": ["strict", "sloppy"],
            "versions": ["dvv", "dvv", "dvv", "hlc", "lww"],
            "read_repair": ["off", "async", "blocking"],
            "read_fanout": ["all", "digest"],
            "detector": ["silence", "phi", "swim"],
            "hints": ["buffered", "durable"],
            "anti_entropy": ["300ms", "2s"],
        }
    },
}

# And later.
STORM_LATER: dict[str, Any] = {
    **STORM_THEN,
    "workload": {
        "retries": [0, 0, 3],
        "route": ["follow", "follow", "pinned"],
        "consistency": [{}, {"leader": {"get": "lease"}}, {"leader": {"get": "local"}}],
    },
    "leader": {
        "raft": {
            **STORM_THEN["leader"]["raft"],
            "append_bytes_max": [1, 1048576],
            "inflight_bytes_max": [1, 8388608],
            "uncommitted_entries_max": [4, 65536],
            "follower_reads": [False, True],
            "priority": ["", "", "n2", "n3,n1"],
        }
    },
}


# And when it had come to replace nodes.
STORM_REPLACING: dict[str, Any] = {
    **STORM_LATER,
    "fault_kinds": [
        *ALL_KINDS,
        "full-disk",
        *MORE_KINDS,
        *("transfer", "join", "leave", "replace"),
    ],
}


@pytest.mark.parametrize("seed", range(1, 60))
def test_what_is_drawn_is_a_scenario_within_its_limits(seed: int) -> None:
    drawn = draw_scenario(SHORT, "short", seed)
    plan = read_scenario(drawn, "short", "drawn").plan
    assert plan.seed == seed
    assert len(plan.nodes) in (3, 5)
    assert 2 <= len(plan.clients) <= 6
    assert 1 <= len(plan.keys()) <= 4
    assert 400_000_000 <= plan.timing.duration_ns <= 800_000_000
    assert 1 <= len(drawn["fault"]) <= 6
    for fault in drawn["fault"]:
        assert fault["kind"] in [*ALL_KINDS, "clock", "disk"]
        assert duration_ns(fault.get("for", "0s")) <= 400_000_000
    # A file says the same.
    assert tomllib.loads(to_toml(drawn, "a comment\nof two lines")) == drawn


def test_equal_seeds_draw_equal_scenarios_and_others_differ() -> None:
    drawn = [draw_scenario(SHORT, "short", seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_one_more_kind_of_fault_moves_neither_workload_nor_cluster() -> None:
    more = {**SHORT, "swarm": {**SHORT["swarm"], "faults": [0, 12]}}
    for seed in range(1, 10):
        one, other = draw_scenario(SHORT, "s", seed), draw_scenario(more, "s", seed)
        for table in ("run", "cluster", "workload"):
            assert one[table] == other[table]


@pytest.mark.parametrize("family", Family)
def test_honest_clusters_keep_their_promises(family: Family) -> None:
    report = swarm(SHORT, "short", range(1, 25), families=[family], jobs=1)
    assert len(report.results) == 24
    assert report.failed == ()
    assert sum(result.effective_faults for result in report.results) > 40
    acknowledged = sum(result.acknowledged for result in report.results)
    assert acknowledged > 0.8 * sum(result.operations for result in report.results)


@pytest.mark.parametrize("family", Family)
def test_odd_partitions_and_odd_links_break_no_promise(family: Family) -> None:
    tables = {**SHORT, "swarm": {**SHORT["swarm"], "fault_kinds": MORE_KINDS}}
    report = swarm(tables, "odd", range(1, 13), families=[family], jobs=1)
    assert report.failed == ()
    assert sum(result.effective_faults for result in report.results) > 20


@pytest.mark.parametrize("seed", range(1, 12))
def test_members_that_come_and_go_can_be_drawn(seed: int) -> None:
    limits = {"fault_kinds": ["join", "leave", "transfer", "kill", "replace"], "faults": [4, 12]}
    drawn = draw_scenario({**SHORT, "swarm": {**SHORT["swarm"], **limits}}, "members", seed)
    plan = read_scenario(drawn, "members", "drawn").plan
    assert plan.spares
    kinds = [fault.kind.value for fault in plan.faults]
    assert kinds.count("join") + kinds.count("replace") <= len(plan.spares)
    assert kinds.count("leave") <= 1


def test_what_clients_do_and_how_nodes_are_set_is_drawn_from_lists() -> None:
    limits = {
        **SHORT["swarm"],
        "workload": {"retries": [0, 3], "route": ["follow", "pinned"]},
        "leader": {"raft": {"sessions": [True, False]}},
        "fault_kinds": ["full-disk"],
    }
    raw = {**SHORT, "leader": {"raft": {"pre_vote": False}}, "swarm": limits}
    drawn = [draw_scenario(raw, "lists", seed) for seed in range(30)]
    found = {(each["workload"]["retries"], each["workload"]["route"]) for each in drawn}
    assert len(found) == 4
    assert {each["leader"]["raft"]["sessions"] for each in drawn} == {True, False}
    for each in drawn:
        plan = read_scenario(each, "lists", "drawn").plan
        assert plan.clients[0].retries == each["workload"]["retries"]
        assert each["leader"]["raft"]["pre_vote"] is False
        assert all(fault["effect"] == "full" for fault in each["fault"])
    without = {**raw, "swarm": {**limits, "workload": {}}}
    other = draw_scenario(without, "lists", 7)
    assert (other["fault"], other["leader"]) == (drawn[7]["fault"], drawn[7]["leader"])
    assert other["workload"].items() <= drawn[7]["workload"].items()


def test_processes_find_what_one_process_finds() -> None:
    there = swarm(BROKEN, "broken", range(1, 13), families=[Family.LEADERLESS], jobs=2)
    here = swarm(BROKEN, "broken", range(1, 13), families=[Family.LEADERLESS], jobs=1)
    assert there == here
    assert there.failed


def test_the_first_failure_may_end_it() -> None:
    report = swarm(
        BROKEN, "broken", range(1, 200), families=[Family.LEADERLESS], jobs=1, stop_at_first=True
    )
    assert len(report.failed) == 1
    assert report.failed[0] is report.results[-1]


def test_an_interrupted_swarm_tells_what_it_found() -> None:
    def interrupt(result: SeedResult) -> None:
        if result.seed == 3:
            raise KeyboardInterrupt

    report = swarm(SHORT, "short", range(1, 100), jobs=1, on_result=interrupt)
    assert report.interrupted
    assert [result.seed for result in report.results] == [1, 1, 2, 2, 3]


def test_a_seed_fails_alike_whenever_it_is_tried() -> None:
    report = swarm(
        BROKEN, "broken", range(1, 50), families=[Family.LEADERLESS], jobs=1, stop_at_first=True
    )
    [failed] = report.failed
    assert run_seed(BROKEN, "broken", failed.seed, Family.LEADERLESS) == failed


def test_a_seed_that_does_not_fail_is_not_shrunk() -> None:
    assert shrink_seed(SHORT, "short", 1, Family.LEADER) is None


def test_an_interrupted_search_keeps_the_smallest_so_far() -> None:
    report = swarm(
        BROKEN, "broken", range(1, 50), families=[Family.LEADERLESS], jobs=1, stop_at_first=True
    )
    told: list[tuple[int, int, int]] = []

    def interrupt(simulations: int, faults: int, operations: int) -> None:
        told.append((simulations, faults, operations))
        if len(told) == 3:
            raise KeyboardInterrupt

    seed = report.failed[0].seed
    shrunk = shrink_seed(BROKEN, "broken", seed, Family.LEADERLESS, progress=interrupt)
    assert shrunk is not None
    assert (shrunk.faults, shrunk.operations) == told[-1][1:]


@pytest.mark.parametrize(
    ("family", "seed"),
    [
        # A sloppy quorum was said to promise that reads see every write.
        (Family.LEADERLESS, 177),
        # The last reads came while a detector still took the others for dead.
        (Family.LEADERLESS, 20783080),
        # The last reads came while keys were still moving, since a node was leaving.
        (Family.LEADERLESS, 360),
        # A client's home had left when a ring of majorities was made.
        (Family.LEADER, 348),
        # The leader left, its answer was lost, and the operator took it for a member for ever.
        (Family.LEADER, 310),
    ],
)
def test_seeds_of_storm_that_once_failed(family: Family, seed: int) -> None:
    storm = {**load_scenario("storm").plan.scenario, "swarm": STORM_THEN}
    assert run_seed(storm, "storm", seed, family).failure is None


@pytest.mark.parametrize(
    "seed",
    [
        # What anti-entropy brought and the end of a hint dropped in one step was called forgotten.
        21005900,
        21008792,
    ],
)
def test_seeds_of_storm_that_failed_later(seed: int) -> None:
    storm = {**load_scenario("storm").plan.scenario, "swarm": STORM_LATER}
    assert run_seed(storm, "storm", seed, Family.LEADERLESS).failure is None


@pytest.mark.parametrize(
    ("family", "seed"),
    [
        # A digest came for a read whose coordinator owned the key no more.
        (Family.LEADERLESS, 31001759),
        # An operator gave up on a change, and took for a member who was none any more, or did
        # without one who still was.
        *((Family.LEADER, seed) for seed in (31001383, 31001439, 31001590, 31001946)),
        *((Family.LEADER, seed) for seed in (31001975, 31002236)),
    ],
)
def test_seeds_of_storm_that_failed_since_nodes_are_replaced(family: Family, seed: int) -> None:
    storm = {**load_scenario("storm").plan.scenario, "swarm": STORM_REPLACING}
    assert run_seed(storm, "storm", seed, family).failure is None


def test_last_write_wins_loses_a_later_write_to_a_clock_and_breaks_no_promise() -> None:
    """Seed 4 of the scenario storm, as it was made small."""
    writes = [
        {"client": client, "at": at, "kind": "put", "key": "k0001", "value": client}
        for client, at in (("c1", "1.43s"), ("c2", "1.44s"))
    ]
    tables = {
        "title": "t",
        "question": "q",
        "run": {"duration": "1.456s", "warmup": "0s", "settle": "2s", "seed": 12},
        "cluster": {"nodes": 3},
        "workload": {"kind": "explicit", "clients": 2, "operation": writes},
        "simulation": {"clock": {"offset": "27ms", "drift_ppm": 189}},
        "leaderless": {"dynamo": {"w": 3, "versions": "lww"}},
    }
    simulated = simulate(read_scenario(tables, "lww", "lww").plan, Family.LEADERLESS)
    durability = analyse(simulated.history).findings["durability"]
    assert durability.verdict is Verdict.VIOLATED
    assert not durability.promised
    assert judge(simulated) is None


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        ({"swarm": {"nodes": []}}, "nodes"),
        ({"swarm": {"workload": {"retries": []}}}, "swarm.workload.retries"),
        ({"swarm": {"faults": [5, 1]}}, "faults goes from a larger to a smaller value"),
        ({"swarm": {"duration": ["1", "2s"]}}, "is not a duration"),
        ({"swarm": {"faultz": 3}}, "swarm.faultz: unknown key"),
        ({"swarm": {"fault_kinds": ["kil"]}}, 'did you mean "kill"'),
        ({"simulation": {"network": {"loss": 2}}}, "simulation.network.loss: 2 is too large"),
        ({"simulation": {"network": {"delay": {"low": "2ms"}}}}, "{ low, high }"),
        ({"cluster": {"regions": ["us-eats"]}}, 'did you mean "us-east"?'),
    ],
)
def test_a_mistake_is_told_with_its_place(tables: dict[str, Any], expected: str) -> None:
    raw = {
        "title": "t",
        "question": "q",
        "workload": {"arrival": {"kind": "closed"}},
        **tables,
    }
    with pytest.raises(ConfigError) as caught:
        read_scenario(raw, "bad", "bad.toml")
    assert any(expected in line for line in caught.value.problems), caught.value.problems
    assert all(line.startswith("bad.toml: ") for line in caught.value.problems)


def flat(tables: Any) -> Iterable[Any]:
    if isinstance(tables, dict):
        for each in tables.values():
            yield from flat(each)
    elif isinstance(tables, list):
        for each in tables:
            yield from flat(each)
    else:
        yield tables


def test_toml_keeps_awkward_values() -> None:
    tables = {
        "title": 'quotes " and \\ and\nnewlines, \x7f and ü',
        "a key with spaces": {"x.y": 1.5, "list": ["a", 2, True]},
        "tables": [{"a": 1}, {"a": 2, "deep": {"er": {"est": "end"}}}],
        "empty": {},
    }
    assert tomllib.loads(to_toml(tables)) == tables


def test_a_last_read_that_was_refused_is_asked_again() -> None:
    """It asks all replicas, and on a network that loses messages a detector may err any time."""
    storm = dict(load_scenario("storm").plan.scenario)
    # As it was when the seed was found.
    storm["swarm"] = {**storm["swarm"], "fault_kinds": SwarmTable().fault_kinds}
    tables = draw_scenario(storm, "storm", 20783028)
    plan = read_scenario(tables, "storm", "storm.toml").plan
    simulated = simulate(plan, Family.LEADERLESS)
    final = [each for each in simulated.history.operations if each.phase is Phase.FINAL]
    assert any(each.outcome is Outcome.FAIL for each in final), "this seed shows it no more"
    assert {each.key for each in final if each.outcome is Outcome.OK} == set(plan.keys())
    assert judge(simulated) is None
