"""The arithmetic of every measure, on histories short enough to count by hand."""

from itertools import pairwise
from random import Random

import numpy as np
import pytest

from replication.analysis import analyse
from replication.analysis.availability import longest_gap
from replication.analysis.findings import Failover, SideFindings
from replication.analysis.latency import POINTS_MAX, nearest_rank
from replication.analysis.staleness import stale_reads
from replication.analysis.view import View
from replication.history import LinkTotals, Phase
from tests.support.histories import DELETE, FAIL, MS, OK, UNKNOWN, Script, at, valid_register

WARMUP = Phase.WARMUP


def loaded(script: Script, *spans: tuple[float, float], every: float = 10) -> None:
    """Let one client write every ``every`` ms, each acknowledged after 1 ms, in these spans."""
    for start, end in spans:
        for step in range(round((end - start) / every)):
            begun = start + step * every
            script.write("c1", "k", begun, begun + 1)


# Availability.


def test_the_longest_gap_counts_its_edges() -> None:
    moments = np.array([10, 20, 50], dtype=np.int64)
    assert longest_gap(moments, 0, 60) == (30, 20)
    assert longest_gap(moments, 0, 100) == (50, 50)
    assert longest_gap(moments, -90, 60) == (100, -90)
    assert longest_gap(moments, 20, 50) == (30, 20)
    assert longest_gap(moments[:0], 5, 9) == (4, 5)
    assert longest_gap(moments, 5, 5) == (0, None)


def test_outcomes_are_counted_while_measuring() -> None:
    script = Script(load_ms=1_000, measure_start_ns=at(200))
    script.write("c1", "k", 100, 101, phase=WARMUP)
    script.write("c1", "k", 210, 211)
    script.write("c1", "k", 320, 350, outcome=FAIL)
    script.write("c1", "k", 400, 900, outcome=UNKNOWN)
    script.write("c1", "k", 950, None, outcome=UNKNOWN)
    script.read("c2", "k", 210, 211)
    script.final("k")
    found = analyse(script.history)
    writes = found.availability["writes"]
    assert (writes.ok, writes.fail, writes.unknown, writes.ok_share) == (1, 1, 2, 0.25)
    assert writes.buckets == [
        (1, 0, 0), (0, 1, 0), (0, 0, 0), (0, 0, 0), (0, 0, 0), (0, 0, 0), (0, 0, 0), (0, 0, 1),
        (0, 0, 1),
    ]  # fmt: skip
    assert found.availability["reads"].ok_share == 1
    assert found.operations == {"ok": 2, "fail": 1, "unknown": 2}
    assert found.throughput_per_s == pytest.approx(2 / 0.8)


def test_an_outage_lies_between_acknowledgements_or_the_edges_of_the_load() -> None:
    script = Script(load_ms=1_000)
    loaded(script, (0, 300), (500, 1_000))
    writes = analyse(script.history).availability["writes"]
    assert writes.longest_outage_ns == 210 * MS  # 291 to 501
    assert writes.outage_start_ns == at(291)
    never = Script(load_ms=1_000)
    for start in range(0, 900, 100):
        never.write("c1", "k", start, start + 99, outcome=FAIL)
    writes = analyse(never.history).availability["writes"]
    assert (writes.longest_outage_ns, writes.outage_start_ns) == (899 * MS, at(0))
    assert writes.unavailable_buckets == 9


def test_a_bucket_is_unavailable_only_if_somebody_was_left_waiting() -> None:
    script = Script(load_ms=1_000)
    script.write("c1", "k", 99, 101)  # prompt, though it ends in the next bucket
    script.write("c1", "k", 250, 650)  # waits through 300 to 600; its own bucket goes unserved
    script.read("c2", "k", 720, 730, outcome=FAIL)
    writes = analyse(script.history).availability["writes"]
    assert writes.unavailable_buckets == 4  # 200, 300, 400, 500
    assert analyse(script.history).availability["reads"].unavailable_buckets == 1


def test_both_sides_of_a_partition_are_measured_apart_while_it_lasts() -> None:
    script = Script(load_ms=1_000)
    script.fault(
        "partition", ["n1"], 300, 600,
        sides=[["n1", "n2", "c1", "c2"], ["n3", "n4", "n5", "c3", "c4", "c5"]],
    )  # fmt: skip
    for start in range(0, 1_000, 50):
        cut_off = 300 <= start < 600
        script.write("c1", "k", start, start + 20, outcome=FAIL if cut_off else OK)
        script.write("c4", "k", start, start + 2)
    found = analyse(script.history).availability
    minority = found["writes of the minority during fault 1"]
    majority = found["writes of the majority during fault 1"]
    assert (minority.ok, minority.fail, minority.longest_outage_ns) == (0, 6, 270 * MS)
    assert (majority.ok, majority.fail, majority.ok_share) == (6, 0, 1)
    assert majority.longest_outage_ns == 50 * MS
    assert minority.unavailable_buckets == 3
    assert found["reads of the minority during fault 1"].ok_share is None
    script.history.faults[0].sides = [["n1", "n2"], ["n3", "n4", "n5"]]  # clients by their home
    assert analyse(script.history).availability == found
    script.history.nodes += ["n6", "n7", "n8"]  # came later, and are no part of the majority then
    assert analyse(script.history).availability == found


# Latency.


def test_percentiles_are_nearest_ranks() -> None:
    hundred = list(range(1, 101))
    assert [nearest_rank(hundred, each) for each in (0.5, 0.07, 0.99, 0.999, 1)] == [
        50, 7, 99, 100, 100,
    ]  # fmt: skip
    assert nearest_rank([7], 0.5) == 7


def test_latency_counts_from_the_intended_start() -> None:
    script = Script()
    for number in range(1, 11):
        script.write("c1", "k", number * 100, number * 100 + number)
    script.history.operations[0].intended_ns -= 50 * MS
    script.write("c1", "k", 0, 99, phase=WARMUP)
    script.write("c1", "k", 5_000, 5_999, outcome=FAIL)
    writes = analyse(script.history).writes
    assert (writes.count, writes.p50_ms, writes.p90_ms) == (10, 6, 10)
    assert (writes.p99_ms, writes.p999_ms, writes.max_ms) == (51, 51, 51)
    assert analyse(script.history).reads.p50_ms is None


def test_points_are_thinned_but_failures_and_the_slowest_stay() -> None:
    script = Script(load_ms=60_000)
    for number in range(9_000):
        slow, failed = number == 4_321, number in (17, 8_000)
        script.write(
            "c1", "k", number, number + (700 if slow else 1), outcome=FAIL if failed else OK
        )
    found = analyse(script.history)
    points = found.latency_points
    assert len(points) == POINTS_MAX
    assert {17, 4_321, 8_000} <= {point.operation for point in points}
    assert [point.at_ns for point in points] == sorted(point.at_ns for point in points)
    fine = [point.operation for point in points if point.operation > 600]
    assert max(b - a for a, b in pairwise(fine)) <= 4
    assert found.thinned is not None
    assert found.thinned.startswith("4,000 of 9,000 operations shown: 2 of 2 not acknowledged")
    small = analyse(valid_register(Random(1)))
    assert small.thinned is None


# Staleness.


def test_a_read_is_stale_by_how_long_the_newer_write_was_acknowledged() -> None:
    script = Script(register=False)
    script.write("c1", "k", 0, 10)
    script.write("c2", "k", 20, 30)
    script.write("c2", "k", 40, 50)
    script.read("c3", "k", 30, 31, "c1:1")  # touches: not stale
    script.read("c3", "k", 35, 36, "c1:1")  # 5 ms after c2:1 was acknowledged
    script.read("c3", "k", 60, 61, "c1:1")  # 30 ms
    script.read("c3", "k", 60, 61, "c2:1")  # 10 ms behind c2:2
    script.read("c3", "k", 60, 61, "c1:1", "c2:2")  # as fresh as its freshest
    script.read("c3", "k", 65, 66)  # nothing, 55 ms after c1:1
    found = analyse(script.history).staleness
    assert (found.judged, found.stale) == (6, 4)
    assert (found.p50_age_ms, found.max_age_ms, found.oldest_read) == (10, 55, 8)
    assert found.share == pytest.approx(4 / 6)


def test_a_key_whose_delete_was_purged_shows_that_delete() -> None:
    script = Script(register=False)
    script.write("c1", "k", 0, 10)
    delete = script.write("c2", "k", 20, 30, DELETE, based_on=["c1:1"])
    script.event(45, "n1", "tombstone_purged", key="k", write_ids=[delete])
    script.read("c3", "k", 40, 41)  # nobody had purged it yet: this replica has never had it
    script.read("c3", "k", 50, 51)
    script.read("c3", "k", 52, 53, "c1:1")  # deleted, and back
    script.write("c2", "k", 60, 70)
    script.read("c3", "k", 80, 81)  # nothing, 10 ms after c2:2
    assert [read.invoke_ns for read, _ in stale_reads(View(script.history))] == [
        at(40), at(52), at(80)
    ]  # fmt: skip


def test_concurrent_writes_make_no_read_stale() -> None:
    for seed in range(100):
        assert analyse(valid_register(Random(seed))).staleness.stale == 0


# Costs.


def test_totals_are_shared_by_acknowledged_operations() -> None:
    script = Script(links=LinkTotals(messages=60, bytes=600), node_cpu_seconds={"n1": 0.5})
    loaded(script, (0, 100))
    found = analyse(script.history)
    assert (found.messages_per_operation, found.bytes_per_operation) == (6, 60)
    assert found.cpu_us_per_operation == 50_000
    assert analyse(Script().history).messages_per_operation is None


# Roles.


def strip(found: SideFindings, node: str) -> list[tuple[float, float, str, int]]:
    origin = found.load_start_ns
    return [
        ((each.start_ns - origin) / MS, (each.end_ns - origin) / MS, each.role, each.term)
        for each in found.roles
        if each.node == node
    ]


def test_a_spare_is_down_until_it_is_started_and_who_is_replaced_from_then_on() -> None:
    script = Script(load_ms=5_000, nodes=["n1", "n2", "n3", "n4"])
    script.role(-500, "n1", "leader", 1, "n1")
    script.role(-490, "n2", "follower", 1, "n1")
    script.fault("replace", ["n2"], 1_000, 1_500, takes_down=True, momentary=True)
    script.role(1_400, "n4", "learner", 1)
    found = analyse(script.history)
    assert strip(found, "n2") == [(0, 1_000, "follower", 1), (1_000, 7_000, "down", 1)]
    assert strip(found, "n3") == [(0, 7_000, "follower", 0)]
    assert strip(found, "n4") == [(0, 1_400, "down", 0), (1_400, 7_000, "follower", 1)]


def test_the_strip_shows_roles_deaths_and_pauses() -> None:
    script = Script(load_ms=5_000)
    script.role(-500, "n1", "leader", 1, "n1")
    script.fault("kill", ["n1"], 1_000, 2_000)
    script.event(2_050, "n1", "node_started")
    script.role(2_100, "n1", "follower", 2, "n3")
    script.role(1_300, "n3", "pre_candidate", 1)
    script.role(1_310, "n3", "candidate", 2)
    script.role(1_320, "n3", "leader", 2, "n3")
    script.fault("pause", ["n3"], 3_000, 3_500)
    found = analyse(script.history)
    assert strip(found, "n1") == [
        (0, 1_000, "leader", 1),
        (1_000, 2_050, "down", 1),
        (2_050, 2_100, "follower", 1),
        (2_100, 7_000, "follower", 2),
    ]
    assert strip(found, "n3") == [
        (0, 1_300, "follower", 0),
        (1_300, 1_310, "candidate", 1),
        (1_310, 1_320, "candidate", 2),
        (1_320, 3_000, "leader", 2),
        (3_000, 3_500, "paused", 2),
        (3_500, 7_000, "leader", 2),
    ]
    assert strip(analyse(Script(register=False).history), "n2") == [(0, 12_000, "replica", 0)]


# Failover.


def crash() -> Script:
    """The leader n1 is killed at 4 s; n4 leads from 4.5 s; n1 is back at 7 s."""
    script = Script(load_ms=10_000)
    script.role(-500, "n1", "leader", 2, "n1")
    script.fault("kill", ["n1"], 4_000, 7_000)
    script.event(4_400, "n4", "election_started", term=3, pre_vote=True, silence_ns=400 * MS)
    script.event(4_410, "n4", "election_started", term=3, pre_vote=False, silence_ns=410 * MS)
    script.event(4_460, "n2", "election_started", term=3, pre_vote=False, silence_ns=460 * MS)
    script.role(4_500, "n4", "leader", 3, "n4")
    script.event(7_000, "n1", "node_started")
    script.role(7_050, "n1", "follower", 3, "n4")
    script.event(
        7_060, "n1", "log_truncated", from_index=50, entries=3,
        write_ids=["c9:1", "c9:2", "c9:3"],
    )  # fmt: skip
    loaded(script, (0, 4_000), (5_000, 10_000))
    for operation in script.history.operations:
        operation.term = 2 if operation.invoke_ns < at(4_000) else 3
        operation.node = "n1" if operation.term == 2 else "n4"
    return script


def steps(failover: Failover) -> dict[str, float | None]:
    return {
        each.name: None if each.after_fault_ns is None else each.after_fault_ns / MS
        for each in failover.steps
    }


def test_the_ledger_of_a_crash_adds_up() -> None:
    script = crash()
    script.write("c2", "k", 3_990, 4_700, outcome=UNKNOWN)
    script.write("c3", "k", 4_100, 4_200, outcome=FAIL)
    script.read("c4", "k", 4_300, 5_100, redirects=2)
    script.write("c5", "k", 3_998, 4_003, term=2)  # its answer was travelling when n1 died
    (ledger,) = analyse(script.history).failovers
    assert steps(ledger) == {
        "detected": 400,
        "elected": 500,
        "clients redirected": 1_000,
        "first acknowledged write": 1_001,
        "back to 95 %": 1_001,
    }
    assert [each.detail for each in ledger.steps] == [
        "n4 stood for election after 400 ms of silence",
        "n4 in term 3",
        "c1 turned to n4",
        "c1:401 by n4 in term 3",
        "102/s, 100/s before the fault",
    ]
    assert ledger.write_outage_ns == 998 * MS  # 4.003 s to 5.001 s
    assert (ledger.failed, ledger.unknown, ledger.redirected) == (1, 1, 1)
    assert (ledger.elections, ledger.terms) == (2, 1)
    assert ledger.old_leader_returned_ns == at(7_050)
    assert ledger.old_leader_returned_after_ns == 3_050 * MS
    assert not ledger.left_the_leader_alone


def test_truncated_entries_were_acknowledged_only_if_it_is_the_same_entry() -> None:
    script = crash()
    for sequence, (term, index) in enumerate([(2, 50), (2, 7), (3, 51)], 1):
        script.write("c9", "k", 3_900, 3_950, term=term, log_index=index)
        assert script.history.operations[-1].write_id == f"c9:{sequence}"
    (ledger,) = analyse(script.history).failovers
    assert (ledger.truncated_entries, ledger.truncated_acknowledged) == (3, 1)


def test_a_slow_return_is_seen_as_such() -> None:
    script = crash()
    script.history.operations.clear()
    loaded(script, (0, 4_000))
    loaded(script, (5_000, 7_000), every=20)
    loaded(script, (7_000, 10_000))
    for operation in script.history.operations:
        operation.term = 2 if operation.invoke_ns < at(4_000) else 3
    (ledger,) = analyse(script.history).failovers
    assert steps(ledger)["first acknowledged write"] == 1_001
    assert steps(ledger)["back to 95 %"] == pytest.approx(3_000, abs=60)


def test_a_fault_that_leaves_the_leader_alone_says_so() -> None:
    script = crash()
    script.history.faults[0].nodes = ["n5"]
    (ledger,) = analyse(script.history).failovers
    assert ledger.left_the_leader_alone
    assert steps(ledger)["detected"] is None
    assert steps(ledger)["elected"] is None
    assert ledger.old_leader_returned_ns is None


def test_a_leader_in_the_majority_is_left_alone_by_a_partition() -> None:
    script = crash()
    fault = script.history.faults[0]
    fault.kind, fault.nodes = "partition", []
    fault.sides = [["n2", "n3"], ["n1", "n4", "n5"]]
    assert analyse(script.history).failovers[0].left_the_leader_alone
    fault.sides = [["n1", "n3"], ["n2", "n4", "n5"]]
    (ledger,) = analyse(script.history).failovers
    assert not ledger.left_the_leader_alone
    assert steps(ledger)["elected"] == 500


def test_each_ledger_ends_where_the_next_fault_on_a_leader_begins() -> None:
    script = crash()
    script.fault("pause", ["n4"], 8_000, 9_000)
    script.event(8_300, "n2", "election_started", term=4, pre_vote=False, silence_ns=300 * MS)
    script.role(8_400, "n2", "leader", 4, "n2")
    script.role(9_010, "n4", "follower", 4, "n2")
    first, second = analyse(script.history).failovers
    assert (first.terms, first.elections, second.terms, second.elections) == (1, 2, 1, 1)
    assert steps(second)["detected"] == 300
    assert steps(second)["elected"] == 400
    assert second.old_leader_returned_ns == at(9_010)


def test_a_leaderless_side_has_the_steps_that_exist() -> None:
    script = Script(register=False, load_ms=10_000)
    script.fault("kill", ["n1"], 4_000, 7_000)
    script.event(4_510, "n3", "peer_suspected", peer="n1", silence_ns=510 * MS)
    script.event(4_200, "n3", "peer_suspected", peer="n2", silence_ns=510 * MS)
    loaded(script, (0, 10_000))
    (ledger,) = analyse(script.history).failovers
    assert steps(ledger) == {
        "detected": 510,
        "first acknowledged write": 1,
        "back to 95 %": 1,
    }
    assert ledger.steps[0].detail == "n3 suspected n1 after 510 ms of silence"
    assert ledger.write_outage_ns == 10 * MS
    assert not ledger.left_the_leader_alone
    assert ledger.elections == 0
