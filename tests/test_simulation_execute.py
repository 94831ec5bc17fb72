"""A plan in virtual time: the same history as a real run would leave, and always the same."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from replication.analysis import Verdict, analyse
from replication.history import Outcome, Phase
from replication.history_files import read_history, write_history
from replication.plan.model import FaultKind, PartitionShape, Route
from replication.protocol import Family
from replication.simulation.execute import Simulated, simulate
from replication.simulation.settings import ProcessorSettings, SimulationSettings
from tests.support.history_digests import fault
from tests.support.plans import make_plan

ROOT = Path(__file__).resolve().parents[1]
MS = 1_000_000


def both(plan_arguments: dict[str, object]) -> dict[Family, Simulated]:
    plan = make_plan(**plan_arguments)  # type: ignore[arg-type]
    leader = simulate(plan, Family.LEADER)
    return {
        Family.LEADER: leader,
        Family.LEADERLESS: simulate(plan, Family.LEADERLESS, resolved=leader.resolved),
    }


def test_equal_seeds_give_equal_histories_whatever_the_hash_seed() -> None:
    command = [sys.executable, "-m", "tests.support.history_digests", "1", "20"]
    processes = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for hash_seed in ("1", "2")
    ]
    one, other = (process.communicate()[0].splitlines() for process in processes)
    assert len(one) == 40
    assert one == other
    assert len({line.split()[2] for line in one}) == 40  # and different seeds differ


def test_a_history_survives_being_written_and_read(tmp_path: Path) -> None:
    plan = make_plan(seconds=0.5, faults=(fault(1, FaultKind.KILL, 100, 300, "leader"),))
    for family in Family:
        history = simulate(plan, family).history
        write_history(history, tmp_path)
        assert read_history(tmp_path) == history
        assert history.simulated


def test_a_run_without_faults_acknowledges_everything() -> None:
    for family, simulated in both({"seconds": 1.0}).items():
        history = simulated.history
        assert not history.problems
        outcomes = {operation.outcome for operation in history.operations}
        assert outcomes == {Outcome.OK}, family
        assert {operation.phase for operation in history.operations} == {Phase.LOAD, Phase.FINAL}
        findings = analyse(history).findings
        assert findings["durability"].verdict is Verdict.VALID
        if family is Family.LEADER:
            assert findings["linearizability"].verdict is Verdict.VALID


def test_the_plan_asks_both_sides_for_the_same_operations() -> None:
    asked = [
        [
            (each.client, each.intended_ns - simulated.history.load_start_ns, each.kind, each.key)
            for each in sorted(simulated.history.operations, key=lambda each: each.index)
            if each.phase is Phase.LOAD
        ]
        for simulated in both({"seconds": 1.0}).values()
    ]
    assert sorted(asked[0], key=str) == sorted(asked[1], key=str)
    assert len(asked[0]) > 100


def test_faults_strike_the_same_nodes_on_both_sides_and_leave_evidence() -> None:
    faults = (
        fault(1, FaultKind.KILL, 200, 600, "leader"),
        fault(2, FaultKind.PARTITION, 700, 900, "random", shape=PartitionShape.ISOLATE),
        fault(3, FaultKind.PAUSE, 1000, 1200, "n2"),
        fault(4, FaultKind.LOSS, 1300, 1500, "n3", loss=0.5),
        fault(5, FaultKind.DELAY, 1300, 1500, "n4", delay_ns=20 * MS, jitter_ns=5 * MS),
        fault(6, FaultKind.RESTART, 1600, 1600, "n5"),
    )
    sides = both({"seconds": 2.5, "faults": faults})
    records = {family: simulated.history.faults for family, simulated in sides.items()}
    for family, simulated in sides.items():
        assert simulated.broken is None
        assert [record.number for record in records[family]] == [1, 2, 3, 4, 5, 6]
        for record in records[family]:
            assert record.effective, record
            assert record.evidence, record
            assert record.injected_ns is not None
            assert record.healed_ns is not None
            assert record.problem is None
        assert not simulated.history.problems
    struck = [[record.nodes for record in records[family]] for family in Family]
    assert struck[0] == struck[1]


def test_a_leader_that_died_is_replaced_after_about_an_election_timeout() -> None:
    outages_ms = []
    for seed in range(5):
        plan = make_plan(
            seed=seed, seconds=2.0, faults=(fault(1, FaultKind.KILL, 300, 1500, "leader"),)
        )
        simulated = simulate(plan, Family.LEADER)
        [failover] = analyse(simulated.history).failovers
        outages_ms.append(failover.write_outage_ns / MS)
    assert min(outages_ms) > 250
    assert max(outages_ms) < 1500


def test_a_fault_that_nobody_plays_the_part_for_says_so() -> None:
    faults = (
        fault(1, FaultKind.PARTITION, 100, 900, "n1", shape=PartitionShape.HALVES),
        *(fault(number, FaultKind.KILL, 50, 900, f"n{number}") for number in (2, 3, 4)),
        fault(5, FaultKind.PAUSE, 880, 890, "leader"),
    )
    simulated = simulate(make_plan(seconds=1.0, faults=faults), Family.LEADER)
    record = simulated.history.faults[-1]
    assert record.injected_ns is None
    assert not record.effective
    assert record.problem is not None
    assert "leader" in record.problem


def test_clients_on_the_minority_side_of_a_partition_are_not_acknowledged() -> None:
    faults = (
        fault(
            1,
            FaultKind.PARTITION,
            200,
            1800,
            "leader",
            shape=PartitionShape.MINORITY_WITH_LEADER,
        ),
    )
    plan = make_plan(seconds=2.0, clients=5, faults=faults, route=Route.PINNED)
    history = simulate(plan, Family.LEADER).history
    minority = history.faults[0].nodes
    cut_off = {client for client, home in history.clients.items() if home in minority}
    begun_ns = history.load_start_ns + 300 * MS
    acknowledged = {
        operation.client
        for operation in history.operations
        if operation.phase is Phase.LOAD
        and operation.outcome is Outcome.OK
        and operation.invoke_ns > begun_ns
        and (operation.complete_ns or 0) < history.load_start_ns + 1800 * MS
    }
    assert len(cut_off) == 2
    assert not acknowledged & cut_off


def test_a_slow_processor_makes_a_leader_saturate() -> None:
    slow = SimulationSettings(processor=ProcessorSettings(request_ns=4 * MS))
    plan = make_plan(seconds=1.0, clients=40, rate_per_s=500)
    quick, saturated = (
        sum(
            (operation.complete_ns or 0) - operation.intended_ns
            for operation in simulate(plan, Family.LEADER, settings).history.operations
            if operation.phase is Phase.LOAD
        )
        for settings in (SimulationSettings(), slow)
    )
    assert saturated > 20 * quick


def test_closed_loops_stop_with_the_load() -> None:
    plan = make_plan(seconds=0.5, clients=3, rate_per_s=None)
    for family in Family:
        history = simulate(plan, family).history
        load = [each for each in history.operations if each.phase is Phase.LOAD]
        assert max(each.invoke_ns for each in load) < history.load_end_ns
        assert len(load) > 200


def test_progress_is_told_in_virtual_time() -> None:
    told: list[tuple[int, int]] = []
    plan = make_plan(seconds=0.5)
    simulated = simulate(plan, Family.LEADERLESS, progress=lambda now, end: told.append((now, end)))
    assert [end for _, end in told] == [simulated.history.load_end_ns] * len(told)
    assert told[-1][0] == simulated.history.load_end_ns


@pytest.mark.parametrize("family", Family)
def test_what_is_not_synced_is_not_waited_for(family: Family) -> None:
    plan = make_plan(seconds=0.5)
    synced = simulate(plan, family).history
    unsynced = simulate(replace(plan, sync="off"), family).history
    assert synced.fdatasync_ns_p50 is not None
    assert unsynced.fdatasync_ns_p50 is None
