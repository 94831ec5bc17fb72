"""What is told of a failover beyond its steps: what was to be expected, who led beside whom."""

from random import Random

import pytest

from replication.analysis import analyse
from replication.analysis.failover_picture import OPERATIONS_MAX
from replication.analysis.prediction import Detection, heard_before_ns
from tests.support.histories import FAIL, MS, UNKNOWN, Script, at

RAFT = {
    "heartbeat_ns": 50 * MS,
    "election_timeout_min_ns": 300 * MS,
    "election_timeout_max_ns": 600 * MS,
    "pre_vote": True,
}


def failover(**fields: object) -> Script:
    """n1 leads term 1 and dies at 2 s; n3 asks for pre-votes, stands, is voted for and leads."""
    script = Script(load_ms=5_000, settings=RAFT, **fields)
    script.role(-500, "n1", "leader", 1, "n1")
    for start in range(0, 1_990, 10):
        script.write("c1", "k", start, start + 4, node="n1", term=1)
    script.fault("kill", ["n1"], 2_000, 4_000)
    script.event(2_350, "n3", "election_started", term=2, pre_vote=True, silence_ns=360 * MS)
    script.event(2_352, "n4", "vote_cast", term=2, candidate="n3", granted=True, pre_vote=True)
    script.event(2_355, "n3", "election_started", term=2, pre_vote=False, silence_ns=365 * MS)
    script.event(2_357, "n4", "vote_cast", term=2, candidate="n3", granted=True, pre_vote=False)
    script.event(2_358, "n5", "vote_cast", term=2, candidate="n3", granted=False, pre_vote=False)
    script.role(2_360, "n3", "leader", 2, "n3")
    script.role(2_363, "n4", "follower", 2, "n3")
    return script


@pytest.mark.parametrize("followers", [1, 2, 4, 8])
def test_the_predicted_detection_is_what_drawing_the_timeouts_gives(followers: int) -> None:
    expected = Detection(300, 600, 50, followers)
    rng = Random(7)
    drawn = sorted(
        min(rng.uniform(300, 600) for _ in range(followers)) - rng.uniform(0, 50)
        for _ in range(20_000)
    )
    assert expected.mean_ns == pytest.approx(sum(drawn) / len(drawn), rel=0.01)
    for share in (0.05, 0.5, 0.95):
        assert expected.quantile_ns(share) == pytest.approx(drawn[int(share * 20_000)], rel=0.02)
        assert expected.share_by(expected.quantile_ns(share)) == pytest.approx(share, abs=1e-6)


def test_a_fixed_timeout_leaves_only_the_phase_of_the_heartbeat_to_chance() -> None:
    expected = Detection(300, 300, 50, 4)
    assert expected.mean_ns == 275
    assert (expected.share_by(250), expected.share_by(275), expected.share_by(300)) == (0, 0.5, 1)


def test_a_prediction_names_what_it_rests_on() -> None:
    (ledger,) = analyse(failover().history).failovers
    expected = ledger.prediction
    assert expected is not None
    assert expected.write_gap_ns == pytest.approx(10 * MS, rel=0.01)
    assert expected.detected_ns == (300 + 300 / 5) * MS - expected.heard_ns  # the first of four
    assert (expected.followers, expected.rounds, expected.round_ns) == (4, 2, 4 * MS)
    assert expected.elected_ns == expected.detected_ns + 8 * MS
    assert expected.detected_low_ns < expected.detected_ns < expected.detected_high_ns


def test_monitors_with_one_timeout_are_predicted_without_a_vote() -> None:
    script = failover()
    script.history.settings = {"heartbeat_ns": 50 * MS, "detection_timeout_ns": 400 * MS}
    expected = analyse(script.history).failovers[0].prediction
    assert expected is not None
    assert (expected.elected_ns, expected.rounds) == (None, 0)
    assert expected.detected_ns == 400 * MS - expected.heard_ns
    assert expected.detected_low_ns == pytest.approx(400 * MS - 1.9 * expected.heard_ns, abs=10)
    assert expected.detected_high_ns == pytest.approx(400 * MS - 0.1 * expected.heard_ns, abs=10)


@pytest.mark.parametrize("gap_ns", [1, 10, 50, 400, None])
def test_a_leader_was_heard_with_its_last_heartbeat_or_its_last_write(gap_ns: int | None) -> None:
    rng = Random(7)
    drawn = [
        min(rng.uniform(0, 50), rng.expovariate(1 / gap_ns) if gap_ns else 50)
        for _ in range(50_000)
    ]
    assert heard_before_ns(50, gap_ns) == pytest.approx(sum(drawn) / len(drawn), rel=0.02)


def test_of_followers_with_a_priority_only_the_first_may_come_first() -> None:
    script = failover()
    script.history.settings = {**RAFT, "priority": "n1, n4"}
    expected = analyse(script.history).failovers[0].prediction
    assert expected is not None
    assert (expected.followers, expected.timeout_min_ns, expected.timeout_max_ns) == (
        1,
        600 * MS,
        900 * MS,
    )
    script.history.settings = {**RAFT, "priority": "n1"}
    expected = analyse(script.history).failovers[0].prediction
    assert expected is not None
    assert (expected.followers, expected.timeout_min_ns) == (4, 600 * MS)


def test_a_leader_that_hands_over_is_not_missed_and_nothing_is_predicted() -> None:
    script = failover()
    script.history.faults[0].kind, script.history.faults[0].takes_down = "restart", False
    started = [each for each in script.history.events if each.name == "election_started"]
    for each in started:
        each.fields["silence_ns"] = 2 * MS
    script.event(2_001, "n1", "leadership_transfer", to="n3", term=1, given_up=False)
    script.role(2_010, "n1", "follower", 2, "n3")  # while it ends
    script.event(2_700, "n1", "node_started")
    script.role(2_750, "n1", "follower", 2, "n3")
    (ledger,) = analyse(script.history).failovers
    assert ledger.handed_over
    assert ledger.prediction is None
    assert ledger.old_leader_returned_after_ns == 750 * MS


def test_a_leader_that_hears_nobody_has_to_give_up_before_it_is_missed() -> None:
    script = failover()
    script.history.faults.clear()
    script.fault(
        "partition", ["n1"], 2_000, 4_000, deafens=True, sides=[["n1"], ["n2", "n3", "n4", "n5"]]
    )
    script.history.settings = {**RAFT, "check_quorum": True}
    expected = analyse(script.history).failovers[0].prediction
    assert expected is not None
    assert expected.detected_ns == (300 + 300 + 300 / 5 - 25) * MS
    assert expected.detected_low_ns > 560 * MS
    script.history.settings = {**RAFT, "check_quorum": False}
    assert analyse(script.history).failovers[0].prediction is None


def test_nothing_is_predicted_of_a_leader_that_may_have_been_silent_before() -> None:
    script = failover()
    script.fault("loss", ["n1"], 1_800, 2_800)
    (ledger,) = analyse(script.history).failovers
    assert ledger.words.startswith("kill")
    assert ledger.prediction is None


def test_nothing_is_predicted_of_a_fault_that_leaves_the_leader_heard() -> None:
    script = failover()
    script.history.faults.clear()
    script.fault("delay", ["n1"], 2_000, 4_000)
    (ledger,) = analyse(script.history).failovers
    assert ledger.steps[1].detail.startswith("n3")
    assert ledger.prediction is None


def test_nothing_is_predicted_without_timeouts_or_without_a_leader_to_lose() -> None:
    script = failover()
    script.history.settings = {"n": 3}
    assert analyse(script.history).failovers[0].prediction is None
    script = failover()
    script.history.faults[0].nodes = ["n2"]
    assert analyse(script.history).failovers[0].prediction is None


def test_a_term_that_nobody_won_is_a_split_vote() -> None:
    script = failover()
    for node in ("n2", "n4"):
        script.event(2_100, node, "election_started", term=2, pre_vote=False, silence_ns=1)
    script.history.events = [
        each for each in script.history.events if each.fields.get("role") != "leader"
    ]
    script.role(-500, "n1", "leader", 1, "n1")
    script.event(2_500, "n5", "election_started", term=3, pre_vote=False, silence_ns=1)
    script.role(2_510, "n5", "leader", 3, "n5")
    (ledger,) = analyse(script.history).failovers
    assert (ledger.elections, ledger.terms, ledger.split_votes, ledger.pre_votes) == (4, 2, 1, 1)


def test_the_side_of_each_client_is_counted_in_a_partition() -> None:
    script = failover()
    fault = script.history.faults[0]
    fault.kind, fault.nodes = "partition", []
    fault.sides = [["n1", "n2", "c1"], ["n3", "n4", "n5", "c2"]]
    script.write("c1", "k", 2_500, 2_900, outcome=UNKNOWN, redirects=1)
    script.read("c1", "k", 3_000, 3_100, outcome=FAIL)
    script.write("c2", "k", 2_500, 2_510, node="n3", term=2)
    (ledger,) = analyse(script.history).failovers
    assert [(each.name, each.ok, each.failed, each.unknown, each.redirected)
            for each in ledger.by_side] == [
        ("n1, n2 and c1", 0, 1, 1, 1),
        ("n3, n4, n5 and c2", 1, 0, 0, 0),
    ]  # fmt: skip


def test_two_leaders_that_acknowledge_at_once_are_a_split_brain_and_the_lost_are_named() -> None:
    script = failover()
    late = script.write("c1", "k", 2_370, 2_395, node="n1", term=1)  # begun before n3 acknowledged
    script.write("c2", "other", 2_380, 2_390, node="n3", term=2)
    gone = [script.write("c1", "k", 2_400 + each, 2_405 + each, node="n1", term=1)
            for each in range(3)]  # fmt: skip
    kept = script.write("c2", "k", 2_401, 2_404, node="n3", term=2)
    script.event(4_100, "n1", "log_truncated", from_index=9, entries=3, write_ids=gone[:2])
    script.final("k", kept)
    (found,) = analyse(script.history).split_brains
    assert (found.old, found.old_term, found.new, found.new_term) == ("n1", 1, "n3", 2)
    assert (found.start_ns, found.end_ns) == (at(2_390), at(2_407))
    assert (found.old_writes, found.new_writes) == (3, 2)
    assert (found.lost, found.lost_count) == (gone[:2], 2)
    assert late not in found.lost


def test_an_answer_that_is_merely_late_is_no_split_brain() -> None:
    script = failover()
    script.write("c1", "k", 2_300, 2_395, node="n1", term=1)
    script.write("c2", "k", 2_365, 2_370, node="n3", term=2)
    assert analyse(script.history).split_brains == []
    leaderless = Script(register=False)
    leaderless.write("c1", "k", 0, 1, node="n1")
    leaderless.write("c2", "k", 2, 3, node="n2")
    leaderless.write("c1", "k", 4, 5, node="n1")
    assert analyse(leaderless.history).split_brains == []


def test_two_leaders_of_one_term_are_a_split_brain_too() -> None:
    script = Script(load_ms=5_000)
    for start, node in ((0, "n1"), (10, "n2"), (20, "n1"), (30, "n2")):
        script.write("c1", "k", start, start + 5, node=node, term=4)
    (found,) = analyse(script.history).split_brains
    assert (found.old, found.new, found.old_term, found.new_term) == ("n1", "n2", 4, 4)
    assert (found.old_writes, found.new_writes) == (1, 1)


def test_the_picture_shows_the_messages_of_the_election_and_who_turned_where() -> None:
    script = failover()
    script.write("c2", "k", 2_100, 2_380, node="n3", term=2, attempts=3, redirects=1,
                 turned_ns=at(2_370))  # fmt: skip
    (ledger,) = analyse(script.history).failovers
    found = ledger.picture
    assert found is not None
    assert found.start_ns < at(2_000) < at(2_380) < found.end_ns
    assert (found.election_start_ns, found.election_end_ns) == (at(2_350), at(2_363))
    assert [(each.kind, each.node, each.sender, each.sent_ns) for each in found.nodes] == [
        ("pre-vote", "n3", None, None),
        ("pre-granted", "n4", "n3", at(2_350)),
        ("stood", "n3", None, None),
        ("granted", "n4", "n3", at(2_355)),
        ("refused", "n5", "n3", at(2_355)),
        ("leads", "n3", None, None),
    ]
    turned = found.operations[-1]
    assert (turned.client, turned.turned_ns, turned.redirects) == ("c2", at(2_370), 1)
    assert turned.words == ("c2: put k by n3 in term 2: ok after 280 ms, 3 attempts, 1 redirect")
    assert {each.name: each.at_ns for each in ledger.steps}["clients redirected"] == at(2_370)


def test_a_picture_says_what_it_leaves_out() -> None:
    script = failover()
    for start in range(OPERATIONS_MAX + 50):
        script.read("c3", "k", 2_100 + start / 10, 2_101 + start / 10)
    found = analyse(script.history).failovers[0].picture
    assert found is not None
    assert len(found.operations) == OPERATIONS_MAX
    assert found.left_out.startswith(f"the first {OPERATIONS_MAX} of ")


def test_what_a_primary_says_of_its_standbys_is_told() -> None:
    script = failover()
    script.event(2_100, "n3", "acknowledgement_changed", standbys=0, reason="n2 was silent")
    lag = {"state": "lagging", "lag_entries": 1, "lag_ns": 400 * MS}
    script.event(2_050, "n3", "replication_changed", standby="n2", **lag)
    assert [(each.node, each.at_ns, each.words) for each in analyse(script.history).standbys] == [
        ("n3", at(2_050), "finds n2 lagging, 1 record and 400 ms behind"),
        ("n3", at(2_100), "acknowledges alone from here on: n2 was silent"),
    ]


def test_leases_end_when_the_node_says_so_or_dies() -> None:
    script = failover()
    script.event(100, "n1", "lease_changed", held=True, term=1, until_ns=9)
    script.event(900, "n1", "lease_changed", held=False, term=1, until_ns=9, reason="no majority")
    script.event(950, "n1", "lease_changed", held=True, term=1, until_ns=19)  # killed with it
    script.event(2_400, "n3", "lease_changed", held=True, term=2, until_ns=29)
    script.history.settle_end_ns = at(9_000)
    stopped = {
        "held": False,
        "term": 2,
        "until_ns": 99,
        "reason": "leadership is being handed over",
    }
    script.event(9_100, "n3", "lease_changed", **stopped)
    script.event(9_150, "n3", "node_stopping")
    found = analyse(script.history)
    assert [(each.node, each.start_ns, each.end_ns, each.why) for each in found.leases] == [
        ("n1", at(100), at(900), "no majority"),
        ("n1", at(950), at(2_000), "the node ended"),
        ("n3", at(2_400), None, ""),
    ]
    picture = found.failovers[0].picture
    assert picture is not None
    assert [each.words for each in picture.nodes if each.kind == "lease"] == [
        "holds the lease of term 2"
    ]
