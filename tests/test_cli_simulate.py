"""Many seeds on the command line: the table, how to repeat, the small scenario, exit codes."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from replication.cli import ExitCode, main
from replication.plan.load import load_scenario
from replication.protocol import Family
from replication.simulation import pool
from replication.simulation.execute import simulate
from replication.simulation.judging import judge
from replication.simulation.seeds import SeedResult, run_seed

BROKEN = "tests.support.planted_dynamo:loses_contexts"
SMALL = """
title = "Small"
question = "Does anything break?"

[workload]
arrival = { kind = "closed" }
mix = { get = 0.4, put = 0.6 }

[swarm]
nodes = [5]
duration = ["300ms", "600ms"]
rate = ["60/s", "120/s"]
"""


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return str(path)


def invoke(*arguments: str) -> "tuple[int, str, str]":
    result = CliRunner().invoke(main, list(arguments))
    return result.exit_code, result.stdout, result.stderr


def test_honest_seeds_get_a_table_and_exit_0(scenario: str) -> None:
    code, out, err = invoke("simulate", scenario, "--seeds", "1-6", "--jobs", "1")
    assert (code, err) == (ExitCode.MET, "")
    assert "small, seeds 1-6, simulated" in out
    rows = {line.split()[0]: line.split()[1:3] for line in out.splitlines() if line[:6] == "leader"}
    assert rows == {"leader": ["6", "0"], "leaderless": ["6", "0"]}
    assert "no seed failed" in out


def test_the_first_failure_ends_it_and_is_told_with_its_replay(scenario: str) -> None:
    words = ("simulate", scenario, "--side", "leaderless", "--leaderless", BROKEN)
    code, out, _ = invoke(*words, "--seeds", "1-40", "--jobs", "1", "--format", "json")
    assert code == ExitCode.VIOLATED
    record = json.loads(out)
    [failed] = record["failed"]
    assert record["sides"]["leaderless"]["seeds"] == failed["seed"], "the last that was tried"
    assert failed["check"] == "Contexts only grow"
    seed = str(failed["seed"])
    assert failed["again"].split() == ["replication", *words[:2], "--seeds", seed, *words[2:]]

    code, out, _ = invoke(*failed["again"].split()[1:], "--jobs", "1")
    assert code == ExitCode.VIOLATED
    assert f"seed {seed}, leaderless: Contexts only grow" in out
    assert "c1 asks to" in out, "of a single seed the story is told"


def test_going_on_finds_every_seed_that_fails(scenario: str) -> None:
    words = ("simulate", scenario, "--side", "leaderless", "--leaderless", BROKEN)
    words = (*words, "--seeds", "1-8", "--keep-going")
    code, out, _ = invoke(*words, "--jobs", "1", "--format", "json")
    assert code == ExitCode.VIOLATED
    record = json.loads(out)
    assert record["sides"]["leaderless"]["seeds"] == 8
    assert record["sides"]["leaderless"]["failed"] == len(record["failed"]) > 1
    _, out, _ = invoke(*words, "--jobs", "1", "--format", "md")
    assert "| leaderless | 8 |" in out


def test_a_failure_made_small_is_a_scenario_that_fails_alike(scenario: str, tmp_path: Path) -> None:
    runs = str(tmp_path / "runs")
    words = ("simulate", scenario, "--side", "leaderless", "--leaderless", BROKEN)
    words = (*words, "--seeds", "1-40", "--jobs", "1", "--shrink", "--format", "json")
    code, out, _ = invoke(*words, "--out", runs)
    assert code == ExitCode.VIOLATED
    [failed] = json.loads(out)["failed"]
    path = Path(failed["shrunk"]["file"])
    assert path.parent == tmp_path / "runs" / "shrunk"
    tables = tomllib.loads(path.read_text())
    assert failed["shrunk"]["faults"] == len(tables.get("fault", ())) <= 2
    assert failed["shrunk"]["operations"] == len(tables["workload"]["operation"]) <= 4
    assert all("at" in each for each in tables["workload"]["operation"])
    assert "Contexts only grow" in failed["story"][-1]
    # The same scenario is what real runs are planned from.
    plan = load_scenario(path).plan
    failure = judge(simulate(plan, Family.LEADERLESS))
    assert failure is not None
    assert failure.check == "Contexts only grow"
    code, _, err = invoke("simulate", str(path), "--side", "leaderless", "--out", runs)
    assert code == ExitCode.BROKEN
    assert "Contexts only grow" in err


def test_ctrl_c_prints_what_was_found_so_far(
    scenario: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted_at_3(raw: Any, name: str, seed: int, family: Family) -> SeedResult:
        if seed == 3:
            raise KeyboardInterrupt
        return run_seed(raw, name, seed, family)

    monkeypatch.setattr(pool, "run_seed", interrupted_at_3)
    words = ("simulate", scenario, "--seeds", "1-1000", "--jobs", "1", "--side", "leaderless")
    code, out, err = invoke(*words)
    assert code == ExitCode.INTERRUPTED
    assert "leaderless      2       0" in out
    assert "found so far" in err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--seeds", "9-2"), "9-2 ends before it begins, expected 2-9"),
        (("--seeds", "many"), "no range of seeds, expected A-B such as 1-1000"),
        (("--seeds", "1-"), "no range of seeds"),
        (("--seeds", "1-99999999999999999999"), "too large"),
        (("--seeds", "1", "--seed", "2"), "--seed and --seeds exclude each other"),
        (("--shrink", "--jobs", "2"), "--jobs, --shrink needs --seeds A-B"),
        (("--seeds", "1-9", "--jobs", "0"), "0 is not in the range x>=1"),
        (("--seeds", "1-9", "--set", "swarm.nodes=[]"), "swarm.nodes"),
        (("--seeds", "1-9", "--set", 'swarm.rate=["9/s","1/s"]'), "from a larger to a smaller"),
    ],
)
def test_bad_input_is_told_and_nothing_runs(
    scenario: str, words: tuple[str, ...], expected: str
) -> None:
    code, out, err = invoke("simulate", scenario, *words)
    assert code == ExitCode.USAGE
    assert out == ""
    assert expected in err
