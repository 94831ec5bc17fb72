"""Whole sides of runs on real processes, short ones."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from replication.analysis.t_visibility import pbs
from replication.analysis.view import View
from replication.history import History, Outcome, Phase
from replication.history_files import read_history
from replication.protocol import Family
from replication.run.both import execute_both
from replication.run.execute import execute
from replication.run.progress import Progress, Stage
from tests.support.short_runs import assert_nothing_left, pids, plan

pytestmark = pytest.mark.processes


def by_phase(history: History) -> dict[Phase, Counter[Outcome]]:
    found: dict[Phase, Counter[Outcome]] = {phase: Counter() for phase in Phase}
    for operation in history.operations:
        found[operation.phase][operation.outcome] += 1
    return found


def test_both_sides_get_the_same_operations_and_the_same_faults(tmp_path: Path) -> None:
    told: list[Progress] = []
    the_plan = plan({"kind": "kill", "target": "leader", "at": "400ms", "for": "500ms"})
    histories = asyncio.run(execute_both(the_plan, tmp_path, told.append))
    leader, leaderless = histories[Family.LEADER], histories[Family.LEADERLESS]
    assert_nothing_left(tmp_path)
    for history in (leader, leaderless):
        assert history.problems == []
        assert not history.interrupted
        (fault,) = history.faults
        assert fault.effective, fault
        assert fault.injected_ns is not None
        assert fault.healed_ns is not None
        assert fault.injected_ns >= fault.planned_ns
        assert any("signal 9" in words for words in fault.evidence)
        assert any("serves again" in words for words in fault.evidence)
        outcomes = by_phase(history)
        assert outcomes[Phase.FINAL] == {Outcome.OK: 10}, "every key is read back"
        assert outcomes[Phase.WARMUP][Outcome.OK] > 10
        assert outcomes[Phase.LOAD][Outcome.OK] > 50
        assert history.samples
        assert {each.node for each in history.contents} == {"n1", "n2", "n3"}
        assert history.links.messages > 0
        assert set(history.node_cpu_seconds) == {"n1", "n2", "n3"}
        assert history.fdatasync_ns_p50 is not None
        assert history.driver.sent > 200
        starts = [event for event in history.events if event.name == "node_started"]
        assert len(starts) == 4, "three nodes, one of them twice"
        times = [event.time_ns for event in history.events]
        assert times == sorted(times)
        assert times[0] > 0
        assert times[-1] < history.settle_end_ns + 10**10
    assert leader.faults[0].nodes == leaderless.faults[0].nodes
    moments = [
        (each.faults[0].injected_ns or 0) - each.load_start_ns for each in (leader, leaderless)
    ]
    assert 0 <= moments[1] - moments[0] < 1_000_000_000, "as late as it was on the first side"
    planned = [
        [(each.client, each.write_id, each.kind, each.key, each.value) for each in operations]
        for operations in (_loaded(leader), _loaded(leaderless))
    ]
    both = min(map(len, planned))
    assert planned[0][:both] == planned[1][:both]
    assert leader.delays == {}
    assert set(leaderless.delays) == {
        "write", "acknowledgement", "read", "response", "own", "queue", "request", "reply",
    }, "each of three nodes holds every key: nothing is passed on"  # fmt: skip
    assert read_history(tmp_path / "leaderless") == leaderless
    stages = [each.stage for each in told if each.family is Family.LEADER]
    assert list(dict.fromkeys(stages)) == list(Stage)


def test_a_leaderless_run_knows_how_long_each_leg_took(tmp_path: Path) -> None:
    the_plan = plan(duration="700ms", cluster={"nodes": 5})
    history = asyncio.run(execute(the_plan, Family.LEADERLESS, tmp_path)).history
    assert history.problems == []
    assert list(history.delays) == [
        *("write", "acknowledgement", "read", "response", "forward", "backward"),
        *("own", "queue", "request", "reply"),
    ]
    assert min(map(len, history.delays.values())) > 10
    lasted_ns = history.settle_end_ns + 10**10
    assert all(0 <= each <= lasted_ns for found in history.delays.values() for each in found)
    assert all(min(found) > 0 for leg, found in history.delays.items() if leg != "own")
    result = pbs(View(history))
    assert result is not None
    assert result.drawn_from == {leg: len(found) for leg, found in history.delays.items()}
    assert not result.note


def _loaded(history: History) -> list[Any]:
    """Return the operations of one client in the order of the plan."""
    mine = [each for each in history.operations if each.client == "c1"]
    return sorted(mine, key=lambda each: each.intended_ns)


def test_a_partition_leaves_evidence_on_both_kinds_of_links(tmp_path: Path) -> None:
    cut = {
        "kind": "partition",
        "shape": "isolate",
        "target": "leader",
        "at": "300ms",
        "for": "800ms",
    }
    side = asyncio.run(execute(plan(cut), Family.LEADER, tmp_path))
    assert_nothing_left(tmp_path)
    history = side.history
    assert history.problems == []
    (fault,) = history.faults
    assert fault.effective, fault
    assert "between nodes" in fault.evidence[0]
    assert "between clients and nodes" in fault.evidence[0]
    cut_off = [each for each in fault.sides if fault.nodes[0] in each]
    assert cut_off
    clients = [name for name in cut_off[0] if name in history.clients]
    assert clients, "the clients of the isolated node are on its side"
    during = [
        each
        for each in history.operations
        if each.kind.is_write
        and each.outcome is Outcome.OK
        and fault.injected_ns is not None
        and fault.healed_ns is not None
        and each.invoke_ns > fault.injected_ns
        and (each.complete_ns or 0) < fault.healed_ns
    ]
    assert not [each for each in during if each.client in clients]
    assert side.resolved[1].nodes == tuple(fault.nodes)


def test_a_fault_that_nobody_could_notice_is_not_effective(tmp_path: Path) -> None:
    """Three nodes that are asked for nothing: loss on the links of an idle follower."""
    loss = {"kind": "loss", "loss": 1e-9, "target": "n1", "at": "200ms", "for": "300ms"}
    side = asyncio.run(execute(plan(loss, duration="700ms"), Family.LEADER, tmp_path))
    (fault,) = side.history.faults
    assert fault.injected_ns is not None
    assert not fault.effective
    assert fault.problem is not None
    assert "no message was dropped" in fault.problem


def test_a_node_that_ends_unasked_breaks_the_run(tmp_path: Path) -> None:
    long = plan(duration="20s")

    async def work() -> History:
        running = asyncio.create_task(execute(long, Family.LEADER, tmp_path, tell=tell))
        await loading.wait()
        # The follower's store is fine; something else ends it.
        os.kill(pids(tmp_path, "n2")[0], signal.SIGKILL)
        async with asyncio.timeout(10):
            return (await running).history

    def tell(progress: Progress) -> None:
        if progress.stage is Stage.LOADING and progress.ok > 20:
            loading.set()

    loading = asyncio.Event()
    history = asyncio.run(work())
    assert_nothing_left(tmp_path)
    (problem,) = history.problems
    assert "node n2 ended by signal 9" in problem
    assert by_phase(history)[Phase.WARMUP][Outcome.OK] > 10, "what was recorded is kept"


def test_members_come_and_go_and_a_wiped_node_begins_anew(tmp_path: Path) -> None:
    """On a backend that agrees to whatever an operator asks."""
    faults: list[dict[str, Any]] = [
        {"kind": "join", "at": "200ms"},
        {"kind": "wipe", "target": ["n1", "n2"], "at": "600ms", "for": "300ms"},
        {"kind": "transfer", "at": "700ms"},
        {"kind": "kill", "target": "n3", "at": "900ms", "for": "200ms"},
        {"kind": "replace", "target": "n3", "at": "1s"},
        {"kind": "leave", "target": "n4", "at": "1400ms"},
    ]
    cluster = {"nodes": 3, "spares": 2, "leaderless": "tests.support.echo_core:backend"}
    the_plan = plan(*faults, cluster=cluster, mix={"get": 0.5, "put": 0.5})
    history = asyncio.run(execute(the_plan, Family.LEADERLESS, tmp_path)).history
    assert_nothing_left(tmp_path)
    assert history.problems == []
    joined, wiped, killed, replaced, left = history.faults
    for each in (joined, wiped, replaced, left):
        assert each.effective, each
    assert not any("serves again" in words for words in killed.evidence), "it was replaced"
    assert replaced.words == "kill n3 for good and put n5 in its place"
    assert any("answered: heard of replace_member" in words for words in replaced.evidence)
    assert joined.words == "add n4 to the cluster"
    assert any(words.startswith("n4 serves as pid") for words in joined.evidence)
    assert any("answered: heard of add_member" in words for words in joined.evidence)
    assert sum("is gone" in words for words in wiped.evidence) == 2
    assert sum("serves again" in words for words in wiped.evidence) == 2
    assert any("answered: heard of remove_member" in words for words in left.evidence)
    assert history.nodes == ["n1", "n2", "n3", "n4", "n5"]
    starts = [each for each in history.events if each.name == "node_started"]
    assert sorted(each.node for each in starts) == ["n1", "n1", "n2", "n2", "n3", "n4", "n5"]
    assert all(each.fields["recovered_records"] == 0 for each in starts)


def test_a_pause_may_end_after_its_node_was_replaced(tmp_path: Path) -> None:
    """What was in force on its machine is told to nobody then."""
    faults: list[dict[str, Any]] = [
        {"kind": "clock", "target": "n3", "at": "250ms", "for": "100ms", "offset": "1s"},
        {"kind": "pause", "target": "n3", "at": "400ms", "for": "700ms"},
        {"kind": "replace", "target": "n3", "at": "500ms"},
    ]
    cluster = {"nodes": 3, "spares": 1, "leaderless": "tests.support.echo_core:backend"}
    the_plan = plan(*faults, cluster=cluster)
    history = asyncio.run(execute(the_plan, Family.LEADERLESS, tmp_path)).history
    assert_nothing_left(tmp_path)
    assert history.problems == []
    assert history.faults[2].effective, history.faults[2]
    starts = [each.node for each in history.events if each.name == "node_started"]
    assert sorted(starts) == ["n1", "n2", "n3", "n4"]


def test_a_node_that_nobody_would_replace_is_started_again(tmp_path: Path) -> None:
    cluster = {"nodes": 3, "spares": 1, "leaderless": "tests.support.echo_core:stubborn"}
    the_plan = plan({"kind": "replace", "target": "n3", "at": "300ms"}, cluster=cluster)
    history = asyncio.run(execute(the_plan, Family.LEADERLESS, tmp_path)).history
    assert_nothing_left(tmp_path)
    (replaced,) = history.faults
    assert not replaced.effective
    assert replaced.problem is not None
    assert "refused: as it is, it stays" in replaced.problem
    assert any(words.startswith("n3 serves again") for words in replaced.evidence)
    starts = [each.node for each in history.events if each.name == "node_started"]
    assert sorted(starts) == ["n1", "n2", "n3", "n3", "n4"]
    assert {each.node for each in history.contents} <= {"n1", "n2", "n3"}


RUNNER = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.support.short_runs import plan
from replication.protocol import Family
from replication.run.both import execute_both

def tell(progress):
    print(progress.stage, progress.ok, flush=True)

fault = dict({fault!r}, at="100ms")
histories = asyncio.run(execute_both(plan(fault, duration="30s"), Path({folder!r}), tell))
print(*histories, *(each.interrupted for each in histories.values()))
"""


@pytest.mark.parametrize(
    "injected",
    [
        {"kind": "pause", "target": "leader"},
        {"kind": "disk", "effect": "stall", "target": "follower"},
    ],
    ids=["pause", "disk"],
)
def test_ctrl_c_heals_stops_and_keeps_what_was_recorded(
    tmp_path: Path, injected: dict[str, str]
) -> None:
    root = str(Path(__file__).parents[1])
    code = RUNNER.format(root=root, folder=str(tmp_path), fault=injected)
    runner = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert runner.stdout is not None
    for line in runner.stdout:
        stage, ok = line.split()
        if stage == Stage.LOADING and int(ok) > 40:
            break
    start = time.monotonic()
    runner.send_signal(signal.SIGINT)
    output, errors = runner.communicate(timeout=20)
    assert time.monotonic() - start < 5
    assert runner.returncode == 0, errors
    assert output.splitlines()[-1] == "leader True", "the other side is not begun"
    assert_nothing_left(tmp_path)
    history = read_history(tmp_path / "leader")
    assert history.interrupted
    assert len(history.operations) > 40
    (fault,) = history.faults
    assert fault.healed_ns is not None
    assert fault.effective
