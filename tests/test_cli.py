"""The command line: what a person types, what it answers, how it ends."""

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from replication.cli import COMMANDS, ExitCode, LazyGroup, main
from replication.report.run_directory import create, write_reports
from tests.support.findings_sample import leader_crash

FIVE_MISTAKES = """
title = "Wrong"
question = "How many mistakes are here?"

[run]
duration = "5"

[cluster]
nodes = 0

[workload]
clients = 4
arrival = { kind = "open", rate = "100/s" }
mix = { get = 0.5, put = 0.4 }
keys = { count = 10, pick = "unifrom" }

[[fault]]
kind = "kill"
at = "-1s"
target = "leader"
"""


def invoke(*arguments: str) -> "tuple[int, str, str]":
    result = CliRunner().invoke(main, list(arguments))
    return result.exit_code, result.stdout, result.stderr


def commands() -> list[tuple[list[str], click.Command]]:
    """Return every command and subcommand that people see, with its words."""
    assert isinstance(main, LazyGroup)
    found: list[tuple[list[str], click.Command]] = []
    context = click.Context(main)
    for name in COMMANDS:
        command = main.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            found += [([name, each], sub) for each, sub in command.commands.items()]
        if not command.hidden:
            found.append(([name], command))
    return found


@pytest.mark.parametrize("words", [words for words, _ in commands()], ids=" ".join)
def test_every_command_helps_with_an_example(words: list[str]) -> None:
    code, out, _ = invoke(*words, "--help")
    assert code == 0
    assert f"$ replication {words[0]}" in out


def test_a_scenario_with_five_mistakes_gets_five_lines_and_exit_2(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(FIVE_MISTAKES)
    code, out, err = invoke("validate", str(path))
    assert code == ExitCode.USAGE
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 5
    assert all(line.startswith("wrong.toml: ") for line in lines)
    for place in (
        "run.duration",
        "cluster.nodes",
        "workload.mix",
        "workload.keys.pick",
        "fault[1].at",
    ):
        assert sum(place in line for line in lines) == 1, place


def test_an_unknown_scenario_gets_suggestions_and_starts_nothing(tmp_path: Path) -> None:
    code, _, err = invoke("compare", "leader-crush", "--out", str(tmp_path / "runs"))
    assert code == ExitCode.USAGE
    assert "did you mean leader-crash?" in err
    assert not (tmp_path / "runs").exists()


def test_an_unknown_backend_names_those_that_exist(tmp_path: Path) -> None:
    runs = str(tmp_path / "runs")
    code, _, err = invoke("compare", "leader-crash", "--leader", "rafft", "--out", runs)
    assert code == ExitCode.USAGE
    assert "dynamo, primary_backup, raft, raftos" in err


def test_expectations_that_name_no_check_are_refused(tmp_path: Path) -> None:
    code, _, err = invoke("show", "leader-crash", "--set", 'expect[1].check="linearisable"')
    assert code == ExitCode.USAGE
    assert "linearizability" in err


def test_scenarios_lists_each_with_its_question() -> None:
    code, out, _ = invoke("scenarios", "--format", "json")
    assert code == 0
    rows = json.loads(out)
    assert {"steady", "leader-crash", "split-writers"} <= {row["name"] for row in rows}
    assert all(row["question"].endswith("?") for row in rows)


def test_report_prints_a_stored_run_again_with_its_exit_code(tmp_path: Path) -> None:
    findings = leader_crash()
    folder = create(tmp_path / "runs", findings.name, findings.seed, findings.started_unix_ns)
    write_reports(folder, findings)
    code, out, _ = invoke("report", "leader-crash", "--out", str(tmp_path / "runs"))
    assert code == ExitCode.MET
    assert findings.title in out
    code, out, _ = invoke("report", "--format", "json", "--out", str(tmp_path / "runs"))
    assert json.loads(out)["verdict"] == findings.verdict
    code, out, _ = invoke("runs", "--format", "json", "--out", str(tmp_path / "runs"))
    assert [row["folder"] for row in json.loads(out)] == [str(folder)]


def test_simulate_gives_the_report_of_compare_twice_the_same(tmp_path: Path) -> None:
    short = ("--set", "run.duration=2s", "--set", "fault[1].at=600ms", "--set", "fault[1].for=1s")
    histories = []
    for name in ("one", "two"):
        runs = tmp_path / name
        code, out, err = invoke(
            *("simulate", "leader-crash", "--seed", "7", "--format", "json", "--out", str(runs)),
            *("--set", "run.warmup=200ms", *short),
        )
        assert code == ExitCode.MET, out + err
        sides = json.loads(out)["sides"]
        assert all(side["simulated"] for side in sides.values())
        assert all(side["findings"]["durability"]["counts"]["lost"] == 0 for side in sides.values())
        folder = (runs / "latest").resolve()
        histories.append(
            [(folder / side / "history.jsonl").read_bytes() for side in ("leader", "leaderless")]
        )
    assert histories[0] == histories[1]


def test_a_simulated_write_with_one_replica_is_durable_when_it_is_acknowledged(
    tmp_path: Path,
) -> None:
    """The answer stands in the same step as the write that it rests on."""
    code, out, err = invoke(
        *("simulate", "split-writers", "--format", "json", "--out", str(tmp_path / "runs")),
        *("--set", "leaderless.dynamo.w=1", "--set", "leaderless.dynamo.r=1"),
        *("--set", "run.duration=3s", "--set", "run.warmup=200ms"),
        *("--set", "fault[1].at=1s", "--set", "fault[1].for=1s"),
    )
    assert code == ExitCode.MET, out + err
    side = json.loads(out)["sides"]["leaderless"]
    assert side["problems"] == []
    assert side["conflicts"]["vanished_count"] == 0
    assert side["conflicts"]["sibling_sets"] > 0


def test_more_nodes_than_there_can_be_processes_are_refused_before_anything_starts(
    tmp_path: Path,
) -> None:
    for words in (("compare",), ("run", "--side", "leaderless")):
        code, out, err = invoke(*words, "gossip-rounds", "--out", str(tmp_path / "runs"))
        assert (code, out) == (ExitCode.USAGE, "")
        assert err.splitlines() == [
            "gossip-rounds:n100: 100 nodes are too many processes, expected at most 51; "
            "replication simulate has room for 1,000"
        ]
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("words", [("simulate",), ("run",)])
def test_a_scenario_of_one_side_has_no_other(words: tuple[str, ...], tmp_path: Path) -> None:
    runs = str(tmp_path / "runs")
    code, _, err = invoke(*words, "gossip-rounds:n3", "--side", "leader", "--out", runs)
    assert code == ExitCode.USAGE
    assert err == "gossip-rounds:n3 is about the leaderless side only\n"


def test_a_run_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    code, _, err = invoke("report", "nothing", "--out", str(tmp_path / "runs"))
    assert code == ExitCode.USAGE
    assert "there are no runs" in err


def test_kv_without_a_cluster_says_how_to_start_one(tmp_path: Path) -> None:
    code, _, err = invoke("kv", "get", "k", "--out", str(tmp_path / "runs"))
    assert code == ExitCode.USAGE
    assert "replication up" in err


def test_small_commands_do_not_load_the_analysis() -> None:
    """`kv get` in a shell loop must not pay for numpy and the reports."""
    program = (
        "import sys; from click.testing import CliRunner; from replication.cli import main;"
        "CliRunner().invoke(main, ['kv', 'get', 'k', '--out', '/nonexistent']);"
        "print([name for name in ('numpy', 'jinja2', 'rich') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert found.stdout.strip() == "[]", found.stderr


def test_the_public_api_is_one_sorted_list_of_what_exists() -> None:
    import replication

    assert sorted(replication.__all__) == list(replication.__all__)
    assert all(getattr(replication, name) is not None for name in replication.__all__)
    with pytest.raises(AttributeError):
        replication.nothing  # noqa: B018


def test_what_cannot_be_done_is_refused_before_anything_is_begun(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    out = ["--out", str(tmp_path / "runs")]

    for arguments, words in (
        (["simulate", "raftos-specimen", *out], "raftos-specimen:raftos: raftos runs code of"),
        (["up", "raft", "--name", "../x", *out], '--name: "../x" is no name, expected letters'),
        (["validate", str(tmp_path / "folder.toml")], "is a folder, expected a scenario file"),
        (["simulate", "split-brain:nope", *out], 'there is no variant "nope"; there are: raft'),
        (["cmpare", "steady"], "No such command 'cmpare'. Did you mean 'compare'?"),
    ):
        code, printed, said = invoke(*arguments)
        assert (code, printed) == (ExitCode.USAGE, "")
        assert words in said
    assert not (tmp_path / "runs").exists()
