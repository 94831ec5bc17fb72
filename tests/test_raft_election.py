"""Pre-vote, check-quorum, leader stickiness, and when exactly roles change."""

import pytest

from leader.raft import RaftSettings
from leader.v1 import raft_pb2
from replication.errors import NotLeader
from replication.v1 import event_pb2, storage_pb2
from tests.support.raft_cluster import MS, SECOND, Cluster, between, get, put, to

SETTINGS = RaftSettings()
FOLLOWER, LEADER = event_pb2.ROLE_FOLLOWER, event_pb2.ROLE_LEADER


def is_pre_vote(term: int) -> raft_pb2.RaftMessage:
    """A pre-vote request from a node at ``term`` with a log as long as any."""
    request = raft_pb2.RequestVote(
        campaign_term=term + 1, pre_vote=True, last_log_index=99, last_log_term=99
    )
    return raft_pb2.RaftMessage(term=term, request_vote=request)


def real_vote(term: int) -> raft_pb2.RaftMessage:
    request = raft_pb2.RequestVote(campaign_term=term, last_log_index=99, last_log_term=99)
    return raft_pb2.RaftMessage(term=term, request_vote=request)


def test_a_node_that_was_cut_off_does_not_disturb_a_stable_leader() -> None:
    """Dissertation §9.6: pre-vote burns no term, however long the node was away."""
    cluster = Cluster(5)
    cluster.elect("n1")
    for _ in range(40):
        cluster.heartbeat("n1", drop=to("n5"))
        cluster.wake("n5")
        cluster.settle(drop=lambda each: "n5" in (each.sender, each.to))
    assert cluster.role("n5") == event_pb2.ROLE_PRE_CANDIDATE
    assert cluster.cores["n5"].status().counters["pre_votes"] >= 3
    cluster.wake("n5")
    cluster.heartbeat("n1")
    assert {cluster.term(node) for node in cluster.members} == {1}
    assert cluster.role("n1") == LEADER
    assert cluster.cores["n5"].status().leader == "n1"


def test_without_pre_vote_and_check_quorum_the_same_node_deposes_the_leader() -> None:
    """What pre-vote is for: the counterpart of the test above."""
    cluster = Cluster(5, RaftSettings(pre_vote=False, check_quorum=False))
    cluster.elect("n1")
    cluster.campaign("n5")
    cluster.settle()
    assert cluster.role("n1") == FOLLOWER
    assert cluster.term("n1") == 2


def test_a_pre_vote_changes_nothing_at_who_gives_it() -> None:
    cluster = Cluster(3)
    cluster.pass_time(SETTINGS.election_timeout_max_ns)
    for candidate in ("n2", "n3"):
        cluster.receive("n1", candidate, is_pre_vote(term=0))
    granted = [each.message.request_vote_result.granted for each in cluster.in_flight]
    assert granted == [True, True], "a pre-vote is no promise, both may have it"
    assert cluster.term("n1") == 0
    assert cluster.disks["n1"].get("meta", b"hard_state") is None


@pytest.mark.parametrize("node", ["n1", "n2"])
@pytest.mark.parametrize("message", [is_pre_vote(7), real_vote(7)])
def test_who_leads_or_hears_a_leader_ignores_vote_requests(
    node: str, message: raft_pb2.RaftMessage
) -> None:
    """Dissertation §4.2.3: not even the term of the request is taken over."""
    cluster = Cluster(3)
    cluster.elect("n1")
    cluster.pass_time(SETTINGS.election_timeout_min_ns - 1)
    cluster.receive(node, "n3", message, flush=False)
    assert cluster.term(node) == 1
    granted = [each.message.request_vote_result.granted for each in cluster.in_flight]
    assert True not in granted


def test_after_an_election_timeout_of_silence_a_follower_votes() -> None:
    cluster = Cluster(3)
    cluster.elect("n1")
    cluster.pass_time(SETTINGS.election_timeout_min_ns)
    cluster.receive("n2", "n3", real_vote(7))
    assert cluster.term("n2") == 7
    assert cluster.in_flight[-1].message.request_vote_result.granted


def test_a_leader_without_a_majority_steps_down_after_one_election_timeout() -> None:
    """Check-quorum (dissertation §6.2): not before, and no later than its next act."""
    cluster = Cluster(5)
    cluster.elect("n1")
    elected_ns = cluster.now_ns
    alone = between("n1", "n2")
    while cluster.role("n1") == LEADER:
        wake_ns = cluster.cores["n1"].wake_at()
        assert wake_ns is not None
        assert wake_ns > cluster.now_ns
        cluster.now_ns = wake_ns
        cluster.wake("n1")
        cluster.settle(drop=alone)
    assert cluster.now_ns - elected_ns == SETTINGS.election_timeout_min_ns
    assert cluster.cores["n1"].status().leader == ""
    assert cluster.term("n1") == 1, "stepping down burns no term"


def test_a_leader_with_a_bare_majority_stays() -> None:
    cluster = Cluster(5)
    cluster.elect("n1")
    for _ in range(40):
        cluster.heartbeat("n1", drop=between("n1", "n2", "n3"))
    assert cluster.role("n1") == LEADER


def test_a_leader_that_can_send_but_not_hear_steps_down() -> None:
    """Its heartbeats keep the others quiet, so only check-quorum ends such a reign (§6.2)."""
    cluster = Cluster(3)
    cluster.elect("n1")
    for _ in range(10):
        cluster.heartbeat("n1", drop=to("n1"))
    assert cluster.role("n1") != LEADER
    cluster.elect("n2", drop=to("n1"))
    reply = cluster.answer("n2", put("k", b"v"), drop=to("n1"))
    assert isinstance(reply, storage_pb2.PutResponse)


def test_without_check_quorum_such_a_leader_stays() -> None:
    cluster = Cluster(3, RaftSettings(check_quorum=False))
    cluster.elect("n1")
    for _ in range(10):
        cluster.heartbeat("n1", drop=to("n1"))
    assert cluster.role("n1") == LEADER


def test_a_paused_leader_refuses_what_it_is_asked_when_it_wakes() -> None:
    """It learns from its clock that it may be superseded, before it hears from anybody."""
    cluster = Cluster(3)
    cluster.elect("n1")
    cluster.pass_time(2 * SECOND)
    for body in (put("k", b"v"), get("k")):
        number = cluster.submit("n1", body)
        assert cluster.replies[number] == NotLeader("", 1)
    assert cluster.log_terms("n1") == [1]


def test_a_follower_at_a_higher_term_deposes_a_leader_that_cannot_lead_it() -> None:
    """It refuses the leader's appends with its term, and all elect anew above it (Raft §5.1)."""
    cluster = Cluster(3)
    cluster.elect("n1")
    cluster.pass_time(SETTINGS.election_timeout_min_ns - 2 * SETTINGS.heartbeat_ns)
    cluster.heartbeat("n1", drop=to("n3"))
    cluster.pass_time(SETTINGS.heartbeat_ns)
    cluster.receive("n3", "n2", real_vote(5))
    cluster.in_flight.clear()
    cluster.heartbeat("n1")
    assert (cluster.role("n1"), cluster.term("n1")) == (FOLLOWER, 5)
    cluster.elect("n1")
    assert cluster.term("n1") == 6
    assert cluster.cores["n3"].status().leader == "n1"


def test_lost_vote_requests_are_repeated_within_the_election() -> None:
    """Raft §5.1: requests are retried. Otherwise one lost message costs a timeout."""
    cluster = Cluster(3)
    cluster.campaign("n1")
    term_before = cluster.term("n1")
    cluster.in_flight.clear()
    cluster.pass_time(SETTINGS.heartbeat_ns)
    cluster.wake("n1")
    cluster.settle()
    assert cluster.role("n1") == LEADER
    assert cluster.term("n1") == term_before + 1


def test_only_those_that_have_not_answered_are_asked_again() -> None:
    cluster = Cluster(5, RaftSettings(pre_vote=False))
    cluster.campaign("n1")
    cluster.settle(drop=between("n1", "n2"))
    cluster.pass_time(SETTINGS.heartbeat_ns)
    cluster.wake("n1")
    assert [each.to for each in cluster.in_flight] == ["n3", "n4", "n5"]


def test_a_pre_candidate_that_would_lose_waits_as_a_follower() -> None:
    cluster = Cluster(3)
    cluster.elect("n1")
    cluster.now_ns += 200 * MS
    cluster.heartbeat("n1", drop=to("n3"))
    cluster.pass_time(SETTINGS.election_timeout_min_ns - 1)
    core = cluster.cores["n3"]
    core._election_due_ns = cluster.now_ns  # its timer, drawn short, fires now
    cluster.wake("n3")
    cluster.settle()
    assert cluster.role("n3") == FOLLOWER
    assert cluster.term("n3") == 1


@pytest.mark.parametrize("size", [1, 2, 3, 51])
def test_clusters_of_any_size_elect_and_serve(size: int) -> None:
    cluster = Cluster(size)
    cluster.elect("n1")
    write = cluster.answer("n1", put("k", b"v"))
    assert isinstance(write, storage_pb2.PutResponse)
    read = cluster.answer("n1", get("k"))
    assert isinstance(read, storage_pb2.GetResponse)
    assert read.versions[0].value == b"v"


def test_a_new_cluster_elects_within_the_shortest_election_timeout() -> None:
    """A node that never knew a term need not wait for a leader that cannot exist."""
    for seed_like in range(20):
        cluster = Cluster(5)
        cluster.now_ns = seed_like
        for node in cluster.members:
            wake_ns = cluster.cores[node].wake_at()
            assert wake_ns is not None
            wait_ns = wake_ns - SECOND
            assert SETTINGS.heartbeat_ns <= wait_ns < SETTINGS.election_timeout_min_ns
    cluster.now_ns = 2 * SECOND
    cluster.elect("n1")
    cluster.start("n2")
    wake_ns = cluster.cores["n2"].wake_at()
    assert wake_ns is not None
    assert wake_ns - cluster.now_ns >= SETTINGS.election_timeout_min_ns, "it knows a term now"


def test_every_change_of_role_term_or_leader_is_told_once() -> None:
    cluster = Cluster(3)
    cluster.elect("n1")
    cluster.heartbeat("n1")
    told = [
        (each.role_changed.role, each.role_changed.term, each.role_changed.leader)
        for each in cluster.events_of("role_changed", "n1")
    ]
    assert told == [
        (event_pb2.ROLE_FOLLOWER, 0, ""),
        (event_pb2.ROLE_PRE_CANDIDATE, 0, ""),
        (event_pb2.ROLE_CANDIDATE, 1, ""),
        (event_pb2.ROLE_LEADER, 1, "n1"),
    ]
    follower = [
        (each.role_changed.term, each.role_changed.leader)
        for each in cluster.events_of("role_changed", "n2")
    ]
    assert follower == [(0, ""), (1, ""), (1, "n1")]


def test_an_election_tells_how_long_the_leader_was_silent() -> None:
    cluster = Cluster(3)
    cluster.elect("n1")
    cluster.heartbeat("n1")
    cluster.pass_time(450 * MS)
    cluster.cores["n2"]._election_due_ns = cluster.now_ns
    cluster.wake("n2")
    cluster.settle(drop=lambda each: each.sender == "n1")
    started = [each.election_started for each in cluster.events_of("election_started", "n2")]
    assert [(each.term, each.pre_vote, each.silence_ns) for each in started] == [
        (2, True, 450 * MS),
        (2, False, 450 * MS),
    ]
    cast = [
        (each.vote_cast.candidate, each.vote_cast.granted, each.vote_cast.pre_vote)
        for each in cluster.events_of("vote_cast", "n3")
    ]
    assert cast[-2:] == [("n2", True, True), ("n2", True, False)]


def test_the_vote_of_a_stranger_does_not_count() -> None:
    """Who asks may be a member that this node has not heard of yet (§4.2.2); a vote is no question.

    What a stranger sends as an answer changes nothing.
    """
    cluster = Cluster(3, RaftSettings(pre_vote=False))
    cluster.campaign("n1")
    cluster.in_flight.clear()
    granted = raft_pb2.RequestVoteResult(campaign_term=1, granted=True)
    cluster.receive("n1", "n9", raft_pb2.RaftMessage(term=1, request_vote_result=granted))
    assert cluster.role("n1") == event_pb2.ROLE_CANDIDATE
    cluster.receive("n1", "n2", raft_pb2.RaftMessage(term=1, request_vote_result=granted))
    assert cluster.role("n1") == event_pb2.ROLE_LEADER
    success = raft_pb2.AppendEntriesResult(round=9, success=True, match_index=1)
    for stranger in ("n7", "n8", "n9"):
        cluster.receive("n1", stranger, raft_pb2.RaftMessage(term=1, append_entries_result=success))
    assert cluster.cores["n1"].status().commit_index == 0
