"""The scenarios that are shipped: each can be planned, says what it asks, and is short enough."""

import tomllib
from functools import cache
from pathlib import Path

import pytest

from replication.analysis import known_checks, measure_problem
from replication.errors import ConfigError
from replication.plan import (
    Plan,
    describe,
    find_backend,
    find_scenario,
    list_scenarios,
    load_scenario,
    make_plan,
)
from replication.plan.load import FOLDERS
from replication.plan.measures import measure_words
from replication.protocol import Family

ROOT = Path(__file__).resolve().parents[1]
find = cache(find_backend)
NAMES = [each.name for each in list_scenarios()]
SECONDS_MAX = 12  # of load and settling, per side: both sides together stay under half a minute


def planned(name: str, *overrides: str) -> Plan:
    return make_plan(
        load_scenario(
            name,
            overrides,
            find=find,
            known_checks=known_checks(),
            measure_problem=measure_problem,
        )
    )


def test_every_promised_scenario_is_there() -> None:
    assert {
        "flaky-network",
        "async-loses-writes",
        "raftos-specimen",
        "split-brain",
        "follower-crash",
        "leader-crash",
        "old-leader-returns",
        "one-way-leader",
        "leader-flapping",
        "reads-from-followers",
        "majority-lost",
        "election-timeouts",
        "lagging-follower",
        "leader-partition",
        "leader-pause",
        "rolling-restart",
        "split-writers",
        "steady",
        "storm",
        "wan-three-regions",
        "clock-skew-lww",
        "concurrent-writers",
        "hint-loss",
        "hint-storm",
        "quorum-table",
        "replace-node",
        "non-monotonic-reads",
        "shopping-cart",
        "sibling-explosion",
        "sloppy-stale",
        "split-writers-sloppy",
        "write-timeout-appears",
        "zombie-delete",
        "outage-beyond-window",
        "false-suspicion",
        "two-joins",
        "gossip-rounds",
        "mixed-cas",
        "add-and-remove-node",
    } <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_plans_and_expects_only_what_the_analysis_finds(name: str) -> None:
    plan = planned(name)
    assert plan.expectations
    assert plan.question.endswith("?")
    assert len(describe(plan)) > 6


@pytest.mark.parametrize("name", NAMES)
def test_what_it_measures_has_words(name: str) -> None:
    expected = tomllib.loads(find_scenario(name).read_text())["expect"]
    measures = [each["measure"] for each in expected if "measure" in each]
    assert not [each for each in measures if measure_words(each) == each]


@pytest.mark.parametrize("name", NAMES)
def test_it_begins_with_the_question_and_the_verdict_of_each_side(name: str) -> None:
    text = find_scenario(name).read_text()
    comment = text.partition("\n\n")[0]
    assert comment.startswith("# ")
    assert "?" in comment.splitlines()[0]
    assert "Leader:" in comment
    assert "Leaderless" in comment


@pytest.mark.parametrize("name", NAMES)
def test_it_is_short_and_its_faults_leave_time_to_recover(name: str) -> None:
    plan = planned(name)
    timing = plan.timing
    assert timing.duration_ns + timing.settle_ns <= SECONDS_MAX * 1_000_000_000
    for fault in plan.faults:
        assert fault.at_ns >= timing.warmup_ns + 1_000_000_000
        if not fault.kind.is_momentary:
            assert fault.until_ns is not None
            assert timing.duration_ns - fault.until_ns >= 2_000_000_000


VARIANTS = [
    ([], {"valid"}),
    (["leaderless.dynamo.w=1", "leaderless.dynamo.r=1"], {"valid"}),
    (
        ["leaderless.dynamo.w=1", "leaderless.dynamo.r=1", "leaderless.dynamo.versions=lww"],
        {"violated"},
    ),
    (["leaderless.dynamo.versions=lww"], {"violated"}),
]


@pytest.mark.parametrize(("overrides", "verdicts"), VARIANTS)
def test_split_writers_expects_of_each_variant_what_it_can_give(
    overrides: list[str], verdicts: set[str]
) -> None:
    found = {
        each.verdict
        for each in planned("split-writers", *overrides).expectations
        if each.check == "conflicts"
    }
    assert found == verdicts


@pytest.mark.parametrize("name", ["async-loses-writes", "split-brain"])
def test_every_variant_plans_the_same_faults_and_has_its_own_expectations(name: str) -> None:
    variants = load_scenario(name, find=find).variants
    assert len(variants) == 3
    plans = [planned(f"{name}:{variant}") for variant in variants]
    assert [plan.name for plan in plans] == [f"{name}:{variant}" for variant in variants]
    assert len({repr(plan.faults) for plan in plans}) == 1
    assert len({plan.title for plan in plans}) == 3
    assert len({plan.expectations for plan in plans}) == 3
    assert len({repr(plan.backends[Family.LEADERLESS]) for plan in plans}) == 1


def test_what_is_wrong_in_a_variant_is_said_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    text = find_scenario("split-brain").read_text()
    path.write_text(text.replace("fencing=false", "fenzing=false", 1))
    with pytest.raises(ConfigError) as caught:
        load_scenario(path, find=find)
    assert [line.partition(": ")[0] for line in caught.value.problems] == ["mine.toml:fencing-off"]
    assert "fenzing" in caught.value.problems[0]
    with pytest.raises(ConfigError, match="there are: raft, fencing-off, fencing-on"):
        load_scenario(f"{path}:fence", find=find)
    path.write_text(text.replace('"fencing-on"', '"raft"'))
    with pytest.raises(ConfigError, match=r'"raft" is there already'):
        load_scenario(path, find=find)


def test_a_wheel_carries_the_scenarios_to_where_they_are_looked_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert ROOT / included["scenarios"] == FOLDERS[0]
    assert ROOT / "scenarios" in FOLDERS
