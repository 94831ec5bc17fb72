"""The normal command, on real processes, as a user runs it: what it leaves, what it survives."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from replication.cli import ExitCode
from replication.cluster.process import process_state

ROOT = Path(__file__).resolve().parents[1]
SHORT = (
    *("--set", "run.duration=4s", "--set", "run.warmup=500ms"),
    *("--set", "fault[1].at=1s", "--set", "fault[1].for=2s"),
)

pytestmark = pytest.mark.processes


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "replication", *arguments]


def environment() -> dict[str, str]:
    # The broken cores are found as anybody's own backend is: by their path.
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120", "NO_COLOR": "1"}


def replication(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command(*arguments), cwd=folder, env=environment(), capture_output=True, text=True
    )


@contextmanager
def started(folder: Path, *arguments: str) -> "Iterator[subprocess.Popen[str]]":
    process = subprocess.Popen(
        command(*arguments),
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(process: "subprocess.Popen[str]", words: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return
    pytest.fail(f"the command ended without saying {words!r}")


def left_of(folder: Path) -> list[str]:
    """Return the names of the processes of clusters below ``folder``, zygotes included."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and process_state(int(entry.name)) not in "XZ":
            try:
                words = (entry / "cmdline").read_text().split("\0")
                name = (entry / "comm").read_text().strip()
            except OSError:
                continue
            if "replication.host.zygote" in words and Path(words[-2]).is_relative_to(folder):
                found.append(name)
    return sorted(found)


def wait_until_gone(folder: Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while left_of(folder):
        assert time.monotonic() < deadline, "nodes are left"
        os.sched_yield()


def findings(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "runs/latest/findings.json").read_text())
    return record


def witness_words(side: dict[str, Any], check: str) -> str:
    finding = side["findings"][check]
    assert finding["verdict"] == "violated", finding["summary"]
    assert finding["promised"]
    words: str = finding["witnesses"][0]["words"]
    return words


def test_compare_tells_a_failover_from_an_outage_nobody_noticed(tmp_path: Path) -> None:
    done = replication(tmp_path, "compare", "leader-crash", *SHORT)
    assert done.returncode == ExitCode.MET, done.stdout + done.stderr
    record = findings(tmp_path)
    leader, leaderless = record["sides"]["leader"], record["sides"]["leaderless"]
    for side in (leader, leaderless):
        (fault,) = side["faults"]
        assert fault["effective"]
        assert "SIGKILL" in " ".join(fault["evidence"])
        assert side["findings"]["durability"]["counts"]["lost"] == 0
    assert leader["faults"][0]["nodes"] == leaderless["faults"][0]["nodes"]
    assert leader["findings"]["linearizability"]["verdict"] == "valid"
    steps = {step["name"]: step["after_fault_ns"] for step in leader["failovers"][0]["steps"]}
    assert 0 < steps["detected"] <= steps["elected"] <= steps["first acknowledged write"]
    outages = [side["failovers"][0]["write_outage_ns"] for side in (leader, leaderless)]
    assert outages[1] < outages[0]

    folder = (tmp_path / "runs/latest").resolve()
    for name in ("plan.json", "report.html", "report.md", "junit.xml", "../results.db"):
        assert (folder / name).stat().st_size > 0, name
    for side_name in ("leader", "leaderless"):
        for name in ("history.jsonl", "events.jsonl", "n1/node.log"):
            assert (folder / side_name / name).exists(), name
    assert not left_of(tmp_path)

    again = replication(tmp_path, "report", "--fresh", "--format", "json")
    assert again.returncode == ExitCode.MET, again.stderr
    fresh = json.loads(again.stdout)
    for each in (record, fresh):
        for side in each["sides"].values():
            for finding in side["findings"].values():
                finding["seconds"] = 0
    assert fresh == record, "a stored run analysed again gives the same findings"


# The fault lasts as long as in the scenario, with less before and behind it.
STRIPPED = ("--set", "run.duration=5s", "--set", "run.warmup=500ms", "--set", "fault[1].at=1s")
# Many operations on few keys, so that what is wrong shows at once.
BUSY = ("--set", "workload.arrival.rate=400/s", "--set", "workload.keys.count=8")
# Each client at its own node, so that somebody reads from the leader that slept.
PINNED = ("--set", "workload.route=pinned")
# A leader that does not count its followers goes on alone for as long as it is cut off.
ALONE = (
    *("--set", "leader.raft-acknowledges-before-commit.check_quorum=false"),
    *("--set", "workload.mix={get=0.3,put=0.7}"),
)


@pytest.mark.parametrize(
    ("scenario", "core", "options", "check", "story"),
    [
        (
            "leader-partition",
            "broken_raft:acknowledges_before_commit",
            ALONE,
            "linearizability",
            "had been acknowledged",
        ),
        (
            "leader-pause",
            "broken_raft:stale_reads",
            (*STRIPPED, *PINNED),
            "linearizability",
            "although",
        ),
        (
            "split-writers",
            "broken_dynamo:acknowledges_after_one",
            (*STRIPPED, *PINNED),
            "freshness",
            "R=2 and W=2 of N=3",
        ),
    ],
)
def test_a_broken_core_is_caught_by_the_normal_command(
    tmp_path: Path, scenario: str, core: str, options: tuple[str, ...], check: str, story: str
) -> None:
    side = "leader" if "raft" in core else "leaderless"
    done = replication(
        *(tmp_path, "run", scenario, "--side", side, f"--{side}", f"tests.support.{core}"),
        *("--seed", "3", *BUSY, *options),
    )
    assert done.returncode == ExitCode.VIOLATED, done.stdout + done.stderr
    assert "FAIL" in done.stdout
    assert story in witness_words(findings(tmp_path)["sides"][side], check)


def test_ctrl_c_heals_stops_everything_and_keeps_what_was_recorded(tmp_path: Path) -> None:
    with started(tmp_path, "compare", "leader-pause", *SHORT) as process:
        wait_for(process, "pause the leader")
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    assert process.returncode == ExitCode.INTERRUPTED, out
    assert not left_of(tmp_path)
    side = findings(tmp_path)["sides"]["leader"]
    assert side["interrupted"]
    assert side["operations"]["ok"] > 0
    assert side["faults"][0]["healed_ns"] is not None


def test_no_node_outlives_a_runner_that_is_killed(tmp_path: Path) -> None:
    with started(tmp_path, "run", "leader-pause", "--side", "leader", *SHORT) as process:
        wait_for(process, "pause the leader")
        nodes = [name for name in left_of(tmp_path) if name.startswith("node ")]
        assert nodes == [f"node n{number}" for number in range(1, 6)]
        process.kill()
        process.wait()
        wait_until_gone(tmp_path, seconds=2)


def test_a_corrupt_store_stops_its_node_and_breaks_the_run(tmp_path: Path) -> None:
    arguments = ("run", "follower-crash", "--side", "leader", "--seed", "5", *SHORT)
    with started(tmp_path, *arguments) as process:
        wait_for(process, "kill")
        folder = tmp_path / "runs/latest/leader"
        victim = next(
            node
            for node in sorted(folder.glob("n?"))
            if f"node {node.name}" not in left_of(tmp_path) and (node / "store.log").exists()
        )
        store = victim / "store.log"
        data = bytearray(store.read_bytes())
        data[len(data) // 2] ^= 0xFF
        store.write_bytes(data)
        _, err = process.communicate(timeout=60)
    assert process.returncode == ExitCode.BROKEN, err
    assert f"node {victim.name} ended by exit code 74 (DATA_LOSS)" in err
    assert "DATA_LOSS" in (victim / "node.log").read_text()
    assert not left_of(tmp_path)
