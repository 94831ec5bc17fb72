"""One test per claim of the Raft paper, with its section: the log and what is committed."""

from itertools import product

import pytest

from leader.raft import RaftSettings
from leader.v1 import raft_pb2
from replication.errors import LeadershipLost
from replication.v1 import event_pb2, storage_pb2
from tests.support.raft_cluster import (
    Cluster,
    Envelope,
    append_entries,
    between,
    entry,
    get,
    put,
    to,
)

# Without pre-vote and stickiness a node behaves as in figure 2.
PLAIN = RaftSettings(pre_vote=False, check_quorum=False)


def test_a_leader_begins_with_heartbeats_and_a_noop_of_its_term() -> None:
    """Raft §5.2 (heartbeats to establish authority) and §8 (a no-op at the start of a term)."""
    cluster = Cluster(3, PLAIN)
    cluster.elect("n1")
    assert [cluster.log_terms(node) for node in cluster.members] == [[1], [1], [1]]
    assert raft_pb2.Entry.FromString(cluster.log("n2")[0]).WhichOneof("command") is None
    assert cluster.cores["n1"].status().commit_index == 1


def test_a_leader_never_overwrites_its_own_log() -> None:
    """Leader Append-Only (Raft figure 3): a new leader keeps uncommitted entries it inherited."""
    cluster = Cluster(3, PLAIN, terms={"n1": [1, 1, 2], "n2": [1], "n3": [1]}, current_term=2)
    before = cluster.log("n1")
    cluster.elect("n1")
    cluster.answer("n1", put("k", b"v"))
    assert cluster.log("n1")[:3] == before
    assert cluster.log("n2") == cluster.log("n3") == cluster.log("n1")


def test_a_write_is_acknowledged_once_a_majority_stores_it() -> None:
    """Raft §5.3."""
    cluster = Cluster(5, PLAIN)
    cluster.elect("n1")
    number = cluster.submit("n1", put("k", b"v"))
    cluster.deliver(which=to("n2", "n3", "n4", "n5"))
    first, second, *_ = cluster.in_flight
    cluster.receive("n1", first.sender, first.message)
    assert number not in cluster.replies, "two of five"
    cluster.receive("n1", second.sender, second.message)
    assert isinstance(cluster.replies[number], storage_pb2.PutResponse)


def test_slow_followers_do_not_delay_a_write() -> None:
    """Raft §5.3: a command completes as soon as a majority has answered."""
    cluster = Cluster(5, PLAIN)
    cluster.elect("n1")
    reply = cluster.answer("n1", put("k", b"v"), drop=between("n1", "n2", "n3"))
    assert isinstance(reply, storage_pb2.PutResponse)


# Raft figure 7: the leader of term 8 and the logs that its followers may have.
FIGURE_7_LEADER = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6]
FIGURE_7 = {
    "a": [1, 1, 1, 4, 4, 5, 5, 6, 6],
    "b": [1, 1, 1, 4],
    "c": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
    "d": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
    "e": [1, 1, 1, 4, 4, 4, 4],
    "f": [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
}


@pytest.mark.parametrize("case", sorted(FIGURE_7))
def test_the_leader_repairs_every_follower_of_figure_7(case: str) -> None:
    """Raft §5.3: the leader makes the followers' logs equal to its own."""
    cluster = Cluster(
        3,
        PLAIN,
        terms={"n1": FIGURE_7_LEADER, "n2": FIGURE_7[case], "n3": FIGURE_7_LEADER[:4]},
        current_term=7,
    )
    cluster.elect("n1")
    assert cluster.log_terms("n1") == [*FIGURE_7_LEADER, 8]
    assert cluster.log("n2") == cluster.log("n1")
    same = next(
        (
            i
            for i, pair in enumerate(zip(FIGURE_7_LEADER, FIGURE_7[case], strict=False))
            if pair[0] != pair[1]
        ),
        min(len(FIGURE_7_LEADER), len(FIGURE_7[case])),
    )
    dropped = sum(each.log_truncated.entries for each in cluster.events_of("log_truncated", "n2"))
    assert dropped == len(FIGURE_7[case]) - same


def test_an_append_is_accepted_only_behind_a_matching_entry() -> None:
    """Log Matching (Raft §5.3): the consistency check."""
    for index, term in product(range(5), range(4)):
        cluster = Cluster(3, PLAIN, terms={"n1": [1, 1, 2]}, current_term=3)
        cluster.receive("n1", "n2", append_entries(3, (index, term), (entry(3, b"x"),)))
        result = cluster.in_flight[-1].message.append_entries_result
        expected = (index, term) in [(0, 0), (1, 1), (2, 1), (3, 2)]
        assert result.success == expected, (index, term)
        assert cluster.log_terms("n1") == ([*[1, 1, 2][:index], 3] if expected else [1, 1, 2])


def test_a_late_short_append_does_not_cut_what_a_longer_one_brought() -> None:
    """Raft figure 2, receiver rule 3: only a conflicting entry is deleted."""
    cluster = Cluster(3, PLAIN)
    entries = tuple(entry(1, b"v%d" % number, sequence=number) for number in (1, 2, 3))
    cluster.receive("n1", "n2", append_entries(1, entries=entries))
    cluster.receive("n1", "n2", append_entries(1, entries=entries[:1]))
    assert cluster.log("n1") == list(entries)
    assert cluster.in_flight[-1].message.append_entries_result.match_index == 1


def test_a_follower_commits_no_further_than_the_leader_has_shown_it() -> None:
    """Raft figure 2, receiver rule 5: min(leaderCommit, index of last new entry)."""
    cluster = Cluster(3, PLAIN, terms={"n1": [1, 1, 1]}, current_term=1)
    # Entries 2 and 3 of n1 may differ from those that the leader of term 2 calls committed.
    cluster.receive("n1", "n2", append_entries(2, (1, 1), commit_index=3))
    assert cluster.cores["n1"].status().commit_index == 1
    cluster.receive("n1", "n2", append_entries(2, (1, 1), (entry(2), entry(2)), commit_index=3))
    assert cluster.cores["n1"].status().commit_index == 3
    assert cluster.log_terms("n1") == [1, 2, 2]


def test_followers_learn_the_commit_index_with_the_next_message() -> None:
    """Raft §5.3."""
    cluster = Cluster(3, PLAIN)
    cluster.elect("n1")
    cluster.answer("n1", put("k", b"v"))
    assert cluster.cores["n2"].status().applied_index == 1
    cluster.heartbeat("n1")
    assert [cluster.cores[node].status().applied_index for node in cluster.members] == [2, 2, 2]


FIGURE_8_LOGS = {"n1": [1, 2], "n2": [1, 2], "n3": [1], "n4": [1], "n5": [1, 3]}
FIGURE_8_SETTINGS = RaftSettings(pre_vote=False, check_quorum=False, append_entries_max=1)


def test_an_older_entry_is_not_committed_by_counting_copies() -> None:
    """Raft §5.4.2, figure 8 (c) and (d): entry 2 of term 2 is on three of five, and is overwritten.

    n1 leads term 4 and replicates entry 2 to n3, but its own entry of term 4 reaches nobody.
    """
    cluster = Cluster(5, FIGURE_8_SETTINGS, terms=FIGURE_8_LOGS, current_term=3)

    def lost(each: Envelope) -> bool:
        appended = each.message.append_entries.entries
        return (
            each.to == "n5"
            or (each.kind == "append_entries" and each.to == "n4")
            or any(raft_pb2.Entry.FromString(data).term == 4 for data in appended)
        )

    cluster.elect("n1", drop=lost)
    cluster.heartbeat("n1", drop=lost)
    copies = [node for node in cluster.members if cluster.log_terms(node)[:2] == [1, 2]]
    assert copies == ["n1", "n2", "n3"], "entry 2 of term 2 is on a majority"
    assert cluster.cores["n1"].status().commit_index < 2, "and not committed by that"
    gone = between("n2", "n3", "n4", "n5")
    cluster.campaign("n5")  # for term 4, in which the others have voted for n1
    cluster.settle(gone)
    cluster.elect("n5", gone)
    assert cluster.log_terms("n3")[:2] == [1, 3], "figure 8 (d): overwritten, as is allowed"


def test_an_entry_of_the_present_term_commits_the_older_ones_below_it() -> None:
    """Raft §5.4.2, figure 8 (e)."""
    cluster = Cluster(5, FIGURE_8_SETTINGS, terms=FIGURE_8_LOGS, current_term=3)
    cluster.elect("n1", drop=lambda each: "n5" in (each.sender, each.to))
    assert cluster.cores["n1"].status().commit_index == 3
    cluster.pass_time(FIGURE_8_SETTINGS.election_timeout_max_ns)
    cluster.wake("n5")
    cluster.settle()
    assert cluster.role("n5") != event_pb2.ROLE_LEADER, "n5 lacks a committed entry"


def test_a_candidate_without_a_committed_entry_cannot_win() -> None:
    """Leader Completeness (Raft §5.4.3)."""
    cluster = Cluster(3, PLAIN)
    cluster.elect("n1")
    cluster.answer("n1", put("k", b"v"), drop=between("n1", "n2"))
    cluster.campaign("n3")
    cluster.settle(drop=between("n2", "n3"))
    assert cluster.role("n3") == event_pb2.ROLE_CANDIDATE
    cluster.elect("n2", drop=between("n2", "n3"))
    reply = cluster.answer("n2", get("k"), drop=between("n2", "n3"))
    assert isinstance(reply, storage_pb2.GetResponse)
    assert reply.versions[0].value == b"v"


def test_messages_may_be_repeated_without_effect() -> None:
    """Raft §5.5: requests are idempotent."""
    cluster = Cluster(3, PLAIN)
    cluster.elect("n1")
    cluster.answer("n1", put("k", b"v"))
    logs = [cluster.log(node) for node in cluster.members]
    for each in list(cluster.delivered):
        cluster.receive(each.to, each.sender, each.message)
        cluster.settle()
    assert [cluster.log(node) for node in cluster.members] == logs
    assert cluster.role("n1") == event_pb2.ROLE_LEADER


def test_minority_leader_never_acknowledges() -> None:
    """A leader cut off from the majority cannot commit (Raft §5.3), and its entry is dropped."""
    cluster = Cluster(5)
    cluster.elect("n1")
    number = cluster.submit("n1", put("k", b"lost"))
    cluster.settle(drop=between("n1", "n2"))
    assert number not in cluster.replies
    cluster.elect("n3", drop=between("n3", "n4", "n5"))
    kept = cluster.answer("n3", put("k", b"kept", sequence=2), drop=between("n3", "n4", "n5"))
    assert isinstance(kept, storage_pb2.PutResponse)
    for _ in range(3):
        cluster.heartbeat("n3")
    assert isinstance(cluster.replies[number], LeadershipLost)
    for node in cluster.members:
        answer = cluster.answer(node, get("k", local=True))
        assert isinstance(answer, storage_pb2.GetResponse)
        assert answer.versions[0].value == b"kept"
    truncated = cluster.events_of("log_truncated")
    dropped = [each.log_truncated.write_ids[0].sequence for each in truncated]
    assert dropped == [1, 1], "n1 and n2 tell which write they dropped"
