"""Every kind of fault in virtual time: what it does, its evidence, and what it leaves behind."""

from dataclasses import replace

import pytest

from replication.history import FaultRecord, OperationKind, Outcome, Phase
from replication.plan.model import (
    ClockFault,
    DiskEffect,
    DiskFault,
    FaultKind,
    PartitionShape,
    PlannedFault,
)
from replication.plan.workload import Keys, OpenArrival, RegisterWorkload
from replication.protocol import Family
from replication.simulation.execute import Simulated, simulate
from tests.support.history_digests import fault
from tests.support.plans import MILLISECOND_NS, make_plan

ECHO = "tests.support.echo_core:backend"
READS_AND_WRITES = RegisterWorkload(
    mix=((OperationKind.GET, 0.5), (OperationKind.PUT, 0.5)),
    keys=Keys(20),
    arrival=OpenArrival(200),
    clients=4,
    value_bytes=16,
    with_context=True,
)


def only(family: Family, planned: PlannedFault) -> PlannedFault:
    """Return the fault for one side only."""
    return replace(
        planned, targets={family: planned.targets[family]}, shared_target=False, until_ns=None
    )


def run(
    *faults: PlannedFault,
    family: Family = Family.LEADERLESS,
    spares: int = 0,
    leaderless: str = ECHO,
) -> Simulated:
    plan = make_plan(seconds=1.5, faults=faults, leaderless=leaderless, workload=READS_AND_WRITES)
    names = tuple(f"n{6 + number}" for number in range(spares))
    simulated = simulate(replace(plan, spares=names), family)
    assert simulated.broken is None
    assert not simulated.history.problems
    return simulated


def record(simulated: Simulated, number: int = 1) -> FaultRecord:
    return next(each for each in simulated.history.faults if each.number == number)


def test_a_spare_joins_and_leaves_again() -> None:
    simulated = run(
        fault(1, FaultKind.JOIN, 200, 0, "n6"), fault(2, FaultKind.LEAVE, 1200, 0, "n6"), spares=2
    )
    joined, left = record(simulated), record(simulated, 2)
    assert joined.effective, joined
    assert joined.evidence == [
        "n6 was started",
        "n1 answered: heard of add_member",
        "n6 is unspecified",
    ]
    assert joined.healed_ns is not None
    assert joined.injected_ns is not None
    assert joined.healed_ns > joined.injected_ns, "it takes a while to start a process"
    assert left.evidence == ["n1 answered: heard of remove_member"]
    assert simulated.history.nodes == ["n1", "n2", "n3", "n4", "n5", "n6"]
    started = [each.node for each in simulated.history.events if each.name == "role_changed"]
    assert sorted(started) == ["n1", "n2", "n3", "n4", "n5", "n6"], "n7 was never needed"
    assert "n6" not in {each.node for each in simulated.history.contents}, "it is no member"


def test_a_node_that_is_replaced_stays_dead_and_a_spare_is_in_its_place() -> None:
    """Also when another fault that had killed it is over."""
    killed = fault(1, FaultKind.KILL, 200, 700, "n2")
    replaced = replace(fault(2, FaultKind.REPLACE, 300, 0, "n2"), spare="n6")
    simulated = run(killed, replaced, spares=1)
    assert record(simulated, 2).evidence == [
        "n2 was down already",
        "n6 was started",
        "n1 answered: heard of replace_member",
        "n6 is unspecified",
    ]
    assert record(simulated, 2).effective
    started = [each.node for each in simulated.history.events if each.name == "role_changed"]
    assert sorted(started) == ["n1", "n2", "n3", "n4", "n5", "n6"], "n2 once"
    assert "n2" not in {each.node for each in simulated.history.contents}


def test_a_node_is_started_again_if_nobody_would_replace_it() -> None:
    replaced = replace(fault(1, FaultKind.REPLACE, 300, 0, "n2"), spare="n6")
    simulated = run(replaced, spares=1, leaderless="tests.support.echo_core:stubborn")
    assert not record(simulated).effective
    assert record(simulated).evidence == [
        "n2 died, for good",
        "n6 was started",
        "n1 refused: as it is, it stays",
        "n2 was started again, not replaced",
    ]
    started = [each.node for each in simulated.history.events if each.name == "role_changed"]
    assert sorted(started) == ["n1", "n2", "n2", "n3", "n4", "n5", "n6"]
    assert "n6" not in {each.node for each in simulated.history.contents}, "it is no member"


def test_a_node_that_was_replaced_stays_dead_although_nobody_said_so() -> None:
    """The operator gives up, and sees who is a member."""
    replaced = replace(fault(1, FaultKind.REPLACE, 300, 0, "n2"), spare="n6")
    simulated = run(replaced, spares=1, leaderless="tests.support.echo_core:mute")
    assert not record(simulated).effective
    assert record(simulated).problem == "n5 refused: it was not done in time"
    started = [each.node for each in simulated.history.events if each.name == "role_changed"]
    assert sorted(started) == ["n1", "n2", "n3", "n4", "n5", "n6"], "n2 once"
    assert "n2" not in {each.node for each in simulated.history.contents}


def test_a_side_that_is_not_meant_does_not_hear_of_a_fault() -> None:
    planned = only(Family.LEADER, fault(1, FaultKind.TRANSFER, 200, 0, "n2"))
    assert run(planned).history.faults == []
    there = run(planned, family=Family.LEADER).history.faults
    assert [each.number for each in there] == [1]


def test_the_leadership_goes_to_whoever_is_best_placed_unless_the_plan_says() -> None:
    simulated = run(fault(1, FaultKind.TRANSFER, 200, 0, "all"))
    assert record(simulated).words == "transfer the leadership"
    assert record(simulated).evidence == ["n1 answered: heard of transfer_leadership"]
    named = run(fault(1, FaultKind.TRANSFER, 200, 0, "n4"))
    assert record(named).words == "transfer the leadership to n4"
    assert record(named).evidence[-1] == "n4 is unspecified"


def test_a_wiped_node_comes_back_with_nothing() -> None:
    simulated = run(fault(1, FaultKind.WIPE, 600, 900, "n2"))
    wiped = record(simulated)
    assert wiped.effective, wiped
    assert wiped.kind == "wipe"
    assert any("records of n2 are gone" in words for words in wiped.evidence)
    starts = [
        each.fields["recovered_records"]
        for each in simulated.history.events
        if (each.name, each.node) == ("node_started", "n2")
    ]
    assert starts == [0, 0]


def test_several_nodes_are_struck_at_once_and_each_leaves_evidence() -> None:
    simulated = run(
        fault(1, FaultKind.KILL, 300, 500, "n1,n2"), fault(2, FaultKind.PAUSE, 1150, 1250, "all")
    )
    killed, paused = record(simulated), record(simulated, 2)
    assert killed.nodes == ["n1", "n2"]
    assert sum("died" in words for words in killed.evidence) == 2
    assert sum("started again" in words for words in killed.evidence) == 2
    assert len(paused.nodes) == 5
    assert paused.effective, paused


def test_one_of_two_that_was_down_already_is_no_evidence() -> None:
    simulated = run(
        fault(1, FaultKind.KILL, 300, 900, "n1"), fault(2, FaultKind.PAUSE, 400, 500, "n1,n2")
    )
    assert record(simulated).effective
    assert record(simulated, 2).problem == "n1 was not running"


def test_a_leader_that_only_sends_keeps_its_followers_and_commits_nothing() -> None:
    """Heartbeats go out and no acknowledgement comes back: check-quorum has to notice."""
    planned = fault(1, FaultKind.PARTITION, 300, 1300, "leader", shape=PartitionShape.ONE_WAY)
    simulated = run(planned, family=Family.LEADER)
    cut = record(simulated)
    assert cut.effective, cut
    assert cut.injected_ns is not None
    assert cut.healed_ns is not None
    leader = cut.nodes[0]
    acknowledged = [
        each
        for each in simulated.history.operations
        if each.outcome is Outcome.OK
        and each.phase is Phase.LOAD
        and each.kind.is_write
        and each.node == leader
        and cut.injected_ns < each.invoke_ns
        and (each.complete_ns or 0) < cut.healed_ns
    ]
    assert not acknowledged
    leaders = {
        each.node
        for each in simulated.history.events
        if each.name == "role_changed" and each.fields["role"] == "leader"
    }
    assert len(leaders) > 1, "the others elect somebody whom they can answer"


def test_with_a_majorities_ring_everybody_goes_on_somehow() -> None:
    planned = fault(1, FaultKind.PARTITION, 300, 1200, "all", shape=PartitionShape.MAJORITIES_RING)
    for family in Family:
        simulated = run(planned, family=family)
        assert record(simulated).effective
        assert record(simulated).sides == []


@pytest.mark.parametrize("family", Family)
def test_every_fault_of_links_counts_what_it_did(family: Family) -> None:
    faults = (
        fault(1, FaultKind.JITTER, 100, 1400, "all", jitter_ns=20 * MILLISECOND_NS),
        fault(2, FaultKind.DUPLICATE, 100, 1400, "n2", duplicate=0.5, hold_ns=MILLISECOND_NS),
        fault(3, FaultKind.REORDER, 100, 1400, "n3", reorder=0.5, hold_ns=9 * MILLISECOND_NS),
        fault(4, FaultKind.BANDWIDTH, 100, 1400, "n4", bytes_per_s=100_000),
        fault(5, FaultKind.LOSS, 100, 1400, "c1,c2", loss=0.3),
    )
    simulated = run(*faults, family=family)
    for number, verb in enumerate(
        ("delayed", "duplicated", "reordered", "throttled", "dropped"), 1
    ):
        found = record(simulated, number)
        assert found.effective, found
        (words,) = found.evidence
        assert words.endswith(f" messages {verb}")


def test_a_narrow_link_is_slow_by_what_it_has_to_send() -> None:
    """Puts of 1,000 bytes over links that carry 4,000 bytes a second: most wait, many are lost."""
    narrow = fault(1, FaultKind.BANDWIDTH, 100, 1400, "leader", bytes_per_s=4_000)
    plan = make_plan(
        seconds=1.5, faults=(narrow,), workload=replace(READS_AND_WRITES, value_bytes=1000)
    )
    slow = simulate(plan, Family.LEADER).history
    fast = simulate(replace(plan, faults=()), Family.LEADER).history
    acknowledged = [
        sum(each.outcome is Outcome.OK and each.kind.is_write for each in history.operations)
        for history in (slow, fast)
    ]
    assert slow.faults[0].effective
    assert acknowledged[0] < acknowledged[1] / 2


def clocks(number: int, target: str, at_ms: int, until_ms: int, clock: ClockFault) -> PlannedFault:
    return replace(fault(number, FaultKind.CLOCK, at_ms, until_ms, target), clock=clock)


def disks(number: int, target: str, at_ms: int, until_ms: int, disk: DiskFault) -> PlannedFault:
    return replace(fault(number, FaultKind.DISK, at_ms, until_ms, target), disk=disk)


def test_clocks_go_wrong_and_are_put_right_again() -> None:
    simulated = run(
        clocks(1, "n1", 200, 1000, ClockFault(offset_ns=-2_000 * MILLISECOND_NS)),
        clocks(2, "n2", 200, 1200, ClockFault(drift_ppm=1000)),
        clocks(3, "n3", 200, 1230, ClockFault(10 * MILLISECOND_NS, 0, 50 * MILLISECOND_NS)),
    )
    assert record(simulated).evidence == [
        "the wall clock of n1 was right and is 2000.000 ms behind now",
        "the wall clock of n1 was 2000.000 ms behind and is right again",
    ]
    assert record(simulated, 2).evidence == [
        "the wall clock of n2 was right and is right now",
        "the wall clock of n2 was 1.000 ms ahead and is right again",
    ]
    assert record(simulated, 3).evidence == [
        "the wall clock of n3 was right and is 10.000 ms ahead now",
        "the wall clock of n3 was 10.000 ms ahead and is right again",
    ], "after 20 changes it is there again"
    assert all(each.effective for each in simulated.history.faults)


def test_disks_are_slow_and_stuck_and_say_so() -> None:
    simulated = run(
        disks(1, "n1", 200, 700, DiskFault(DiskEffect.SLOW, 20 * MILLISECOND_NS)),
        disks(2, "n2", 200, 700, DiskFault(DiskEffect.STALL)),
    )
    slow, stuck = record(simulated), record(simulated, 2)
    assert slow.effective, slow
    assert slow.evidence[0].endswith(" syncs of n1 took 20ms longer")
    assert stuck.evidence == ["1 syncs of n2 were stuck"]


def test_a_node_with_a_full_disk_ends_and_acknowledges_nothing_that_it_cannot_keep() -> None:
    simulated = run(disks(1, "n1", 300, 800, DiskFault(DiskEffect.FULL)), family=Family.LEADERLESS)
    full = record(simulated)
    assert full.effective, full
    assert full.evidence == ["n1 ended: a write was refused", "n1 was started again"]
    stops = [each for each in simulated.history.events if each.name == "node_stopping"]
    assert [(each.node, each.fields["reason"]) for each in stops] == [("n1", "the disk is full")]
    during = [
        each
        for each in simulated.history.operations
        if each.node == "n1" and each.kind.is_write and each.outcome is Outcome.OK
        if stops[0].time_ns < (each.complete_ns or 0) < (full.healed_ns or 0)
    ]
    assert not during


def test_a_write_that_is_refused_as_the_disk_gets_room_again_ends_the_node_all_the_same() -> None:
    """It died in the same instant, and nobody started it again."""
    simulated = run(
        disks(1, "n1", 300, 800, DiskFault(DiskEffect.STALL)),
        disks(2, "n1", 500, 800, DiskFault(DiskEffect.FULL)),
        family=Family.LEADER,
    )
    expected = ["n1 ended: a write was refused", "n1 was started again"]
    assert record(simulated, 2).evidence == expected


def test_what_was_not_synced_is_lost_with_the_power_and_only_then() -> None:
    lost = disks(1, "n1", 900, 1000, DiskFault(DiskEffect.LOSE_UNSYNCED))
    plan = make_plan(seconds=1.5, faults=(lost,), leaderless=ECHO, workload=READS_AND_WRITES)
    kept = {}
    for sync in ("always", "off"):
        history = simulate(replace(plan, sync=sync), Family.LEADERLESS).history
        assert history.faults[0].effective
        starts = [each for each in history.events if each.name == "node_started"]
        kept[sync] = [each.fields["recovered_records"] for each in starts if each.node == "n1"][-1]
    assert kept["always"] > 0
    assert kept["off"] == 0
