"""What clients are told: reads, redirections, deadlines, retries."""

import pytest

from leader.raft import DefaultRead, RaftSettings
from replication.errors import (
    Conflict,
    Indefinite,
    InvalidRequest,
    LeadershipLost,
    NotLeader,
    Overloaded,
    QuorumTimeout,
)
from replication.protocol import Reply, Send
from replication.v1 import event_pb2, storage_pb2
from tests.support.raft_cluster import (
    MS,
    SECOND,
    Cluster,
    between,
    compare_and_set,
    delete,
    get,
    put,
    to,
)


def value_of(reply: object) -> bytes | None:
    """Return the value that a read saw; None for a tombstone or nothing."""
    assert isinstance(reply, storage_pb2.GetResponse)
    assert len(reply.versions) <= 1
    if not reply.versions or reply.versions[0].tombstone:
        return None
    return reply.versions[0].value


def led(size: int = 3, settings: RaftSettings | None = None) -> Cluster:
    """Return a cluster that n1 leads."""
    cluster = Cluster(size, settings)
    cluster.elect("n1")
    return cluster


# Who answers.


@pytest.mark.parametrize("body", [put("k", b"v"), delete("k"), get("k")])
def test_a_follower_names_the_leader_and_the_term(
    body: storage_pb2.PutRequest | storage_pb2.DeleteRequest | storage_pb2.GetRequest,
) -> None:
    cluster = led()
    number = cluster.submit("n2", body)
    assert cluster.replies[number] == NotLeader("n1", 1)
    assert cluster.cores["n2"].status().counters["redirects"] == 1


def test_without_a_leader_the_hint_is_empty() -> None:
    cluster = Cluster(3)
    assert cluster.answer("n1", put("k", b"v")) == NotLeader("", 0)
    assert not cluster.cores["n1"].status().serving
    cluster.elect("n2")
    cluster.campaign("n1")
    number = cluster.submit("n1", get("k"))
    assert cluster.replies[number] == NotLeader("", 1), "a candidate trusts no leader"


def test_a_write_cannot_be_local() -> None:
    cluster = led()
    body = put("k", b"v")
    body.consistency = storage_pb2.CONSISTENCY_LOCAL
    assert isinstance(cluster.answer("n1", body), InvalidRequest)
    assert cluster.log_terms("n1") == [1]


def test_every_answer_says_who_served_it_in_which_term_and_where_in_the_log() -> None:
    cluster = led()
    written = cluster.answer("n1", put("k", b"v"))
    assert isinstance(written, storage_pb2.PutResponse)
    assert written.served == storage_pb2.Served(node="n1", term=1, log_index=2)
    read = cluster.answer("n1", get("k"))
    assert isinstance(read, storage_pb2.GetResponse)
    assert read.served == storage_pb2.Served(node="n1", term=1, log_index=2)


# Reads.


def test_a_read_returns_the_write_id_of_value_and_tombstone_alike() -> None:
    cluster = led()
    assert value_of(cluster.answer("n1", get("k"))) is None
    cluster.answer("n1", put("k", b"v", client="a", sequence=1))
    read = cluster.answer("n1", get("k"))
    assert isinstance(read, storage_pb2.GetResponse)
    assert read.versions[0].write_id == storage_pb2.WriteId(client_id="a", sequence=1)
    cluster.answer("n1", delete("k", client="a", sequence=2))
    read = cluster.answer("n1", get("k"))
    assert isinstance(read, storage_pb2.GetResponse)
    assert read.versions[0].tombstone
    assert read.versions[0].write_id == storage_pb2.WriteId(client_id="a", sequence=2)


def test_a_linearizable_read_waits_for_a_majority_to_confirm_the_leader() -> None:
    """Dissertation §6.4: a round of heartbeats after the read came in."""
    cluster = led(5)
    number = cluster.submit("n1", get("k"))
    cluster.deliver(which=to("n2", "n3", "n4", "n5"))
    first, second, *_ = cluster.in_flight
    cluster.receive("n1", first.sender, first.message)
    assert number not in cluster.replies
    cluster.receive("n1", second.sender, second.message)
    assert number in cluster.replies


def test_answers_to_an_older_round_do_not_confirm_a_read() -> None:
    """The mistake would be to count an answer to a question that was asked before the read."""
    cluster = led(3)
    first = cluster.submit("n1", get("k"))
    cluster.deliver(which=to("n2"))  # n2 says "you lead" to round 1, on its way
    later = cluster.submit("n1", get("k"))
    cluster.deliver(which=to("n1"))
    assert first in cluster.replies
    assert later not in cluster.replies
    cluster.settle()
    assert later in cluster.replies


def test_a_superseded_leader_answers_no_linearizable_read() -> None:
    cluster = led(5, RaftSettings(check_quorum=False))
    cluster.answer("n1", put("k", b"old"))
    cluster.elect("n3", drop=between("n3", "n4", "n5"))
    cluster.answer("n3", put("k", b"new", sequence=2), drop=between("n3", "n4", "n5"))
    number = cluster.submit("n1", get("k"))
    cluster.settle(drop=between("n1", "n2"))
    assert number not in cluster.replies
    stale = cluster.answer("n1", get("k", local=True))
    assert value_of(stale) == b"old", "LOCAL may be stale, and says so by its name"
    cluster.heartbeat("n3")
    assert cluster.replies[number] == NotLeader("n3", 2)


def test_a_new_leader_answers_no_read_before_an_entry_of_its_term_is_committed() -> None:
    """Raft §8: until then it does not know which of its entries are committed."""
    cluster = led(3)
    cluster.answer("n1", put("k", b"v"))  # committed; n2 and n3 have not heard so
    cluster.campaign("n2")
    while cluster.role("n2") != event_pb2.ROLE_LEADER:
        cluster.deliver(drop=lambda each: each.sender == "n1")
    number = cluster.submit("n2", get("k"))
    assert cluster.cores["n2"].status().commit_index < 2
    assert number not in cluster.replies
    cluster.settle(drop=lambda each: "n1" in (each.sender, each.to))
    # The no-op is committed: now a round can begin.
    assert value_of(cluster.replies[number]) == b"v"


def test_many_reads_share_one_round() -> None:
    cluster = led(5)
    before = cluster.cores["n1"].status().counters["heartbeats_sent"]
    numbers = [cluster.submit("n1", get("k"), flush=False) for _ in range(100)]
    cluster.wake("n1")
    cluster.settle()
    assert all(each in cluster.replies for each in numbers)
    status = cluster.cores["n1"].status()
    assert status.counters["heartbeats_sent"] - before == 4
    assert status.counters["read_rounds"] == 1


def test_a_read_rides_on_appends_that_leave_anyway() -> None:
    cluster = led(3)
    cluster.submit("n1", put("k", b"v"), flush=False)
    cluster.submit("n1", get("k"), flush=False)
    effects = cluster.cores["n1"].flush(cluster.now)
    assert sum(isinstance(effect, Send) for effect in effects) == 2, "one per follower"


def test_reads_that_come_during_a_round_share_the_next_one() -> None:
    cluster = led(3)
    cluster.submit("n1", get("k"))
    cluster.in_flight, held = [], cluster.in_flight
    numbers = [cluster.submit("n1", get("k")) for _ in range(10)]
    assert cluster.in_flight == []
    cluster.in_flight = held
    cluster.settle()
    assert all(each in cluster.replies for each in numbers)
    assert cluster.cores["n1"].status().counters["read_rounds"] == 2


def test_a_local_read_is_answered_by_any_node_without_a_message() -> None:
    cluster = led(3)
    cluster.answer("n1", put("k", b"v"))
    cluster.heartbeat("n1")
    number = cluster.submit("n3", get("k", local=True))
    assert cluster.in_flight == []
    assert value_of(cluster.replies[number]) == b"v"


def test_the_default_read_is_what_the_setting_says() -> None:
    body = storage_pb2.GetRequest(key="k")
    assert isinstance(led(3).answer("n2", body), NotLeader)
    local = led(3, RaftSettings(default_read=DefaultRead.LOCAL))
    assert value_of(local.answer("n2", body)) is None


# Deadlines and lost leaders.


def test_an_uncommitted_write_is_indefinite_at_its_deadline() -> None:
    cluster = led(3, RaftSettings(check_quorum=False))
    number = cluster.submit("n1", put("k", b"v"), timeout_ns=100 * MS)
    cluster.settle(drop=between("n1"))
    cluster.pass_time(100 * MS - 1)
    cluster.wake("n1")
    assert number not in cluster.replies
    cluster.in_flight.clear()
    assert (cluster.cores["n1"].wake_at() or 0) <= cluster.now_ns + 1
    cluster.pass_time(1)
    cluster.wake("n1")
    error = cluster.replies[number]
    assert error == QuorumTimeout(1, 2)
    assert isinstance(error, QuorumTimeout)
    assert not error.definite
    # It was in the log all the while, and is committed once the others can be reached.
    cluster.settle()
    cluster.heartbeat("n1")
    assert value_of(cluster.answer("n1", get("k"))) == b"v"


def test_a_read_is_answered_at_its_deadline() -> None:
    cluster = led(3, RaftSettings(check_quorum=False))
    started_ns = cluster.now_ns
    numbers = [cluster.submit("n1", get("k"), timeout_ns=each * MS) for each in (100, 50, 200)]
    cluster.settle(drop=between("n1"))
    for elapsed, answered in ((49, 0), (50, 1), (150, 2), (250, 3)):
        cluster.now_ns = started_ns + elapsed * MS
        cluster.wake("n1")
        cluster.settle(drop=between("n1"))
        assert sum(each in cluster.replies for each in numbers) == answered
    assert all(cluster.replies[each] == QuorumTimeout(1, 2) for each in numbers)


def test_a_request_whose_deadline_has_passed_is_refused_definitely() -> None:
    cluster = led(3)
    error = cluster.replies[cluster.submit("n1", put("k", b"v"), timeout_ns=0)]
    assert isinstance(error, Overloaded)
    assert error.definite
    assert cluster.log_terms("n1") == [1]


def test_a_leader_that_steps_down_answers_everybody_who_waits() -> None:
    """What others may hold is indefinite; what no message mentioned is definitely not done."""
    cluster = led(3)
    sent = cluster.submit("n1", put("k", b"1", client="a"))
    read = cluster.submit("n1", get("k"))
    kept_back = cluster.submit("n1", put("k", b"2", client="b"), flush=False)
    cluster.in_flight.clear()
    cluster.pass_time(SECOND)
    cluster.wake("n1")
    assert cluster.replies[sent] == LeadershipLost(1)
    assert cluster.replies[read] == NotLeader("", 1)
    assert cluster.replies[kept_back] == NotLeader("", 1)
    assert cluster.log_terms("n1") == [1, 1], "the noop and what was sent"
    assert cluster.cores["n1"].status().last_index == 2


def test_an_answer_names_the_new_leader_when_it_is_known() -> None:
    cluster = led(3)
    read = cluster.submit("n1", get("k"))
    cluster.in_flight.clear()
    cluster.elect("n2", drop=between("n2", "n3"))
    cluster.heartbeat("n2")
    assert cluster.replies[read] == NotLeader("n2", 2)


# Retries.


def test_a_retried_write_takes_effect_once_and_gets_the_original_answer() -> None:
    """Dissertation §6.3. A second put of "1" would undo the put of "2" by another client."""
    cluster = led(3)
    first = cluster.answer("n1", put("k", b"1", client="a"))
    cluster.answer("n1", put("k", b"2", client="b"))
    again = cluster.answer("n1", put("k", b"1", client="a"))
    assert again == first
    assert value_of(cluster.answer("n1", get("k"))) == b"2"


def test_a_write_retried_while_the_first_try_is_under_way_takes_effect_once() -> None:
    cluster = led(3)
    body = compare_and_set("k", None, b"1")
    numbers = [cluster.submit("n1", body, flush=False) for _ in range(2)]
    cluster.wake("n1")
    cluster.settle()
    first, second = (cluster.replies[each] for each in numbers)
    assert isinstance(first, storage_pb2.CompareAndSetResponse), "not a conflict with itself"
    assert first == second


def test_a_write_retried_at_the_next_leader_gets_the_original_place_in_the_log() -> None:
    cluster = led(3)
    body = compare_and_set("k", None, b"1")
    number = cluster.submit("n1", body)
    cluster.settle(drop=to("n1"))
    assert number not in cluster.replies
    cluster.elect("n2", drop=between("n2", "n3"))
    again = cluster.answer("n2", body, drop=between("n2", "n3"))
    assert isinstance(again, storage_pb2.CompareAndSetResponse)
    assert again.served == storage_pb2.Served(node="n2", term=1, log_index=2)


def test_a_conflict_stays_a_conflict_when_it_is_retried() -> None:
    cluster = led(3)
    body = compare_and_set("k", b"1", b"2", client="a")
    assert isinstance(cluster.answer("n1", body), Conflict)
    cluster.answer("n1", put("k", b"1", client="b"))
    assert isinstance(cluster.answer("n1", body), Conflict)
    assert value_of(cluster.answer("n1", get("k"))) == b"1"


def test_an_abandoned_write_does_not_overtake_its_clients_next_one() -> None:
    cluster = led(3)
    cluster.answer("n1", put("k", b"next", sequence=2))
    late = cluster.answer("n1", put("k", b"abandoned", sequence=1))
    assert isinstance(late, Indefinite)
    assert value_of(cluster.answer("n1", get("k"))) == b"next"


def test_sessions_survive_a_restart() -> None:
    cluster = led(3)
    first = cluster.answer("n1", put("k", b"1", client="a"))
    cluster.answer("n1", put("k", b"2", client="b"))
    for node in cluster.members:
        cluster.start(node)
    cluster.elect("n1")
    again = cluster.answer("n1", put("k", b"1", client="a"))
    assert again == first
    assert value_of(cluster.answer("n1", get("k"))) == b"2"


@pytest.mark.parametrize(
    ("held", "expected", "wins"),
    [
        (None, None, True),
        (None, b"", False),  # a missing key holds nothing, not an empty value
        (b"1", b"1", True),
        (b"1", b"2", False),
        (b"1", None, False),
        (b"", b"", True),
        ("tombstone", None, True),
        ("tombstone", b"", False),
    ],
)
def test_compare_and_set_compares_value_and_absence(
    held: bytes | str | None, expected: bytes | None, wins: bool
) -> None:
    cluster = led(1)
    if isinstance(held, bytes):
        cluster.answer("n1", put("k", held, client="a"))
    elif held:
        cluster.answer("n1", delete("k", client="a"))
    reply = cluster.answer("n1", compare_and_set("k", expected, b"new", client="b"))
    assert isinstance(reply, storage_pb2.CompareAndSetResponse if wins else Conflict)
    found = value_of(cluster.answer("n1", get("k")))
    assert found == (b"new" if wins else held if isinstance(held, bytes) else None)


def test_contents_list_every_key_with_its_version_and_no_values() -> None:
    cluster = led(3)
    cluster.answer("n1", put("b", b"x", sequence=1))
    cluster.answer("n1", put("a", b"y", sequence=2))
    cluster.answer("n1", delete("b", sequence=3))
    held = list(cluster.cores["n1"].contents())
    assert [(each.key, each.versions[0].tombstone) for each in held] == [("a", False), ("b", True)]
    assert [each.versions[0].write_id.sequence for each in held] == [2, 3]
    assert all(each.versions[0].value == b"" for each in held)
    assert list(held[0].owners) == ["n1", "n2", "n3"]
    assert cluster.cores["n1"].status().keys == 2


def test_a_reply_stands_behind_nothing_that_is_not_written() -> None:
    """In every effect list of the leader the own entries are written before they are answered."""
    cluster = led(1)
    cluster.effects.clear()
    cluster.answer("n1", put("k", b"v"))
    kinds = [type(effect).__name__ for _, effect in cluster.effects]
    assert kinds == ["Persist", Reply.__name__]
