"""One test per claim of the Raft paper, with its section: terms, votes and leaders."""

import pytest

from leader.raft import RaftSettings
from leader.v1 import raft_pb2
from replication.protocol import Persist, Send
from replication.v1 import event_pb2
from tests.support.raft_cluster import Cluster, append_entries, entry, request_vote

# Without pre-vote and stickiness a node behaves as in figure 2.
PLAIN = RaftSettings(pre_vote=False, check_quorum=False)


def votes(cluster: Cluster) -> list[tuple[str, bool]]:
    """Return who was answered and how."""
    return [
        (each.to, each.message.request_vote_result.granted)
        for each in cluster.in_flight
        if each.kind == "request_vote_result"
    ]


@pytest.mark.parametrize("role", ["follower", "candidate", "leader"])
def test_a_higher_term_in_any_message_makes_a_follower(role: str) -> None:
    """Raft §5.1."""
    cluster = Cluster(3, PLAIN)
    if role == "candidate":
        cluster.campaign("n1")
    elif role == "leader":
        cluster.elect("n1")
    result = raft_pb2.AppendEntriesResult(round=1, success=False)
    message = raft_pb2.RaftMessage(term=9, append_entries_result=result)
    cluster.receive("n1", "n2", message)
    assert cluster.role("n1") == event_pb2.ROLE_FOLLOWER
    assert cluster.term("n1") == 9


def test_a_request_of_an_older_term_is_refused_with_the_newer_term() -> None:
    """Raft §5.1, figure 2: "reply false if term < currentTerm"."""
    cluster = Cluster(3, PLAIN)
    cluster.receive("n1", "n2", append_entries(term=5))
    cluster.in_flight.clear()
    cluster.receive("n1", "n3", append_entries(term=4, entries=(entry(4),)))
    cluster.receive("n1", "n3", request_vote(term=4, last=(9, 4)))
    refused_append, refused_vote = (each.message for each in cluster.in_flight)
    assert (refused_append.term, refused_append.append_entries_result.success) == (5, False)
    assert (refused_vote.term, refused_vote.request_vote_result.granted) == (5, False)
    assert cluster.log("n1") == []


def test_nodes_start_as_followers_and_campaign_when_they_hear_nothing() -> None:
    """Raft §5.2."""
    cluster = Cluster(3, PLAIN)
    assert cluster.role("n1") == event_pb2.ROLE_FOLLOWER
    cluster.campaign("n1")
    assert cluster.role("n1") == event_pb2.ROLE_CANDIDATE
    assert cluster.term("n1") == 1
    assert [(each.to, each.kind) for each in cluster.in_flight] == [
        ("n2", "request_vote"),
        ("n3", "request_vote"),
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7])
def test_a_candidate_wins_with_a_majority_and_not_with_less(size: int) -> None:
    """Raft §5.2."""
    cluster = Cluster(size, PLAIN)
    cluster.campaign("n1")
    for granted, node in enumerate(cluster.members, 1):
        if granted > 1:
            result = raft_pb2.RequestVoteResult(campaign_term=1, granted=True)
            message = raft_pb2.RaftMessage(term=1, request_vote_result=result)
            cluster.receive("n1", node, message)
            cluster.receive("n1", node, message)  # a copy of a vote is not a second vote
        won = 2 * granted > size
        assert cluster.role("n1") == (event_pb2.ROLE_LEADER if won else event_pb2.ROLE_CANDIDATE)


def test_a_node_votes_once_per_term_first_come_first_served() -> None:
    """Raft §5.2."""
    cluster = Cluster(3, PLAIN)
    cluster.receive("n1", "n2", request_vote(term=1))
    cluster.receive("n1", "n3", request_vote(term=1))
    cluster.receive("n1", "n2", request_vote(term=1))
    assert votes(cluster) == [("n2", True), ("n3", False), ("n2", True)]


def test_a_vote_survives_a_restart() -> None:
    """Raft §5.2, figure 2: votedFor is persistent. Without it a term can have two leaders."""
    cluster = Cluster(3, PLAIN)
    cluster.receive("n1", "n2", request_vote(term=1))
    cluster.start("n1")
    cluster.receive("n1", "n3", request_vote(term=1))
    assert votes(cluster) == [("n2", True), ("n3", False)]


def test_term_and_vote_are_written_in_one_step_before_the_vote_is_sent() -> None:
    """Raft figure 2: "updated on stable storage before responding to RPCs"."""
    cluster = Cluster(3, PLAIN)
    cluster.effects.clear()
    cluster.receive("n1", "n2", request_vote(term=4))
    kinds = [type(effect) for _, effect in cluster.effects if isinstance(effect, (Persist, Send))]
    assert kinds == [Persist, Send]
    state = raft_pb2.HardState.FromString(cluster.disks["n1"].get("meta", b"hard_state") or b"")
    assert (state.term, state.vote) == (4, "n2")


def test_a_candidate_writes_its_term_and_vote_before_it_asks() -> None:
    """Raft §5.2."""
    cluster = Cluster(3, PLAIN)
    cluster.effects.clear()
    cluster.campaign("n1")
    kinds = [type(effect) for _, effect in cluster.effects if isinstance(effect, (Persist, Send))]
    assert kinds == [Persist, Send, Send]


def test_entries_are_written_before_they_are_acknowledged() -> None:
    """Raft figure 2, AppendEntries: persistent before the answer."""
    cluster = Cluster(3, PLAIN)
    cluster.receive("n1", "n2", append_entries(term=1))
    cluster.effects.clear()
    cluster.receive("n1", "n2", append_entries(term=1, entries=(entry(1),)))
    kinds = [type(effect) for _, effect in cluster.effects if isinstance(effect, (Persist, Send))]
    assert kinds == [Persist, Send]


def test_a_candidate_yields_to_the_leader_of_its_term() -> None:
    """Raft §5.2."""
    cluster = Cluster(3, PLAIN)
    cluster.campaign("n1")
    cluster.receive("n1", "n2", append_entries(term=1))
    assert cluster.role("n1") == event_pb2.ROLE_FOLLOWER
    assert cluster.cores["n1"].status().leader == "n2"


def test_a_split_vote_is_resolved_by_a_new_term() -> None:
    """Raft §5.2."""
    cluster = Cluster(4, PLAIN)
    cluster.campaign("n1")
    cluster.wake("n2")
    cluster.settle(drop=lambda each: (each.sender, each.to) in [("n1", "n4"), ("n2", "n3")])
    roles = {cluster.role("n1"), cluster.role("n2")}
    assert roles == {event_pb2.ROLE_CANDIDATE}, "two votes each: nobody has three of four"
    cluster.elect("n1")
    assert cluster.term("n1") == 2


def test_election_timeouts_are_spread_over_the_whole_range() -> None:
    """Raft §5.2: randomised timeouts make split votes rare. Each wait draws anew."""
    cluster = Cluster(1, PLAIN)
    settings = cluster.settings
    core = cluster.cores["n1"]
    waits = set()
    for term in range(1, 200):
        cluster.receive("n1", "n1", append_entries(term))  # a node ignores what claims to be itself
        core._restart_election_timer()
        waits.add((core.wake_at() or 0) - cluster.now_ns)
    assert len(waits) > 150
    assert min(waits) >= settings.election_timeout_min_ns
    assert max(waits) < settings.election_timeout_max_ns
    assert max(waits) - min(waits) > 0.8 * (
        settings.election_timeout_max_ns - settings.election_timeout_min_ns
    )


@pytest.mark.parametrize(
    ("candidate", "granted"),
    [
        ((3, 3), True),  # the same log
        ((4, 3), True),  # longer
        ((2, 3), False),  # shorter, same last term
        ((1, 4), True),  # shorter, but a later last term
        ((9, 2), False),  # longer, but an earlier last term
    ],
)
def test_a_vote_goes_only_to_a_log_that_is_at_least_as_up_to_date(
    candidate: tuple[int, int], granted: bool
) -> None:
    """Raft §5.4.1."""
    cluster = Cluster(3, PLAIN, terms={"n1": [1, 2, 3]}, current_term=5)
    cluster.receive("n1", "n2", request_vote(term=6, last=candidate))
    assert votes(cluster) == [("n2", granted)]
