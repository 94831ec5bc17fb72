"""Scenarios are found by name or path, and changed by ``--set`` before they are judged."""

from pathlib import Path

import pytest

from replication.errors import ConfigError
from replication.plan import Plan, find_scenario, list_scenarios, load_scenario, make_plan
from replication.protocol import Family
from tests.support.scenarios import SOUND, find

FAULT = '[[fault]]\nkind = "kill"\nat = "2s"\ntarget = "n1"\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "sound.toml"
    path.write_text(SOUND + 2 * FAULT)
    return path


def planned(path: Path, *overrides: str) -> Plan:
    return make_plan(load_scenario(path, overrides, find=find))


def test_overrides_are_put_in_before_anything_is_judged(path: Path) -> None:
    plan = planned(
        path,
        "run.duration=7s",
        'title="Another"',
        "workload.clients = 3",
        "fault[2].at=1.5s",
        "leaderless.dynamo.read_repair=off",
        "workload.mix.put=1.0",
    )
    assert plan.timing.duration_ns == 7_000_000_000
    assert plan.title == "Another"
    assert len(plan.clients) == 3
    assert plan.faults[0].at_ns == 1_500_000_000
    assert plan.backends[Family.LEADERLESS].settings.read_repair == "off"
    assert plan.to_json()["scenario"]["workload"]["mix"] == {"put": 1.0}


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("run.duration", "--set run.duration: expected PATH=VALUE, such as run.duration=5s"),
        ("=3", "--set =3: expected PATH=VALUE, such as run.duration=5s"),
        ("run..x=3", '--set run..x=3: "" is no key, expected a path such as fault[1].at'),
        ("title.x=3", "--set title.x=3: title is no table"),
        ("fault.at=3", "--set fault.at=3: fault is a list, expected a position such as [1]"),
        ("fault[9].at=3", "--set fault[9].at=3: there is no fault[9], the file has 2"),
        ("fault[0].at=3", "--set fault[0].at=3: there is no fault[0], the file has 2"),
        ("run.x[1]=3", "--set run.x[1]=3: there is no run.x[1], the file has 0"),
    ],
)
def test_an_override_that_fits_nowhere_is_refused(path: Path, override: str, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_scenario(path, [override, "=1"], find=find)
    assert caught.value.problems[0] == line
    assert len(caught.value.problems) == 2


def test_an_override_that_fits_nowhere_hides_no_other_problem(path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_scenario(path, ["title.x=3", "leaderless.dynamo.w=9"], find=find)
    assert [each.partition(":")[0] for each in caught.value.problems] == [
        "--set title.x=3",
        "sound.toml",
    ]


def test_a_wrong_value_in_an_override_is_told_like_one_in_the_file(path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_scenario(path, ["leaderless.dynamo.w=9", "run.seed=1\nx = 2"], find=find)
    assert caught.value.problems == (
        'sound.toml: run.seed: "1\nx = 2" is text, expected a whole number',
        "sound.toml: leaderless.dynamo.w is 9, expected 1 to n = 3",
    )


def test_broken_toml_is_told_with_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text('title = "x"\n[run\n')
    with pytest.raises(ConfigError) as caught:
        load_scenario(path)
    assert caught.value.problems == (
        "broken.toml: Expected ']' at the end of a table declaration (at line 2, column 5)",
    )
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"broken\.toml: not UTF-8 text"):
        load_scenario(path)


def test_an_unknown_name_gets_the_closest_and_the_list() -> None:
    with pytest.raises(ConfigError) as caught:
        find_scenario("leader-crsh")
    line = caught.value.problems[0]
    assert line.startswith(
        'no scenario and no file "leader-crsh"; did you mean leader-crash? There are: '
    )
    assert "split-writers" in line


def test_scenarios_are_found_by_name_and_by_path(path: Path) -> None:
    by_name = find_scenario("leader-crash")
    assert by_name.name == "leader-crash.toml"
    assert find_scenario("leader-crash.toml") == by_name
    assert find_scenario(str(by_name)) == by_name
    assert find_scenario(path) == path
    names = [each.name for each in list_scenarios()]
    assert names == sorted(names)
    assert "steady" in names
