"""Leadership transfer (dissertation §3.10) and leases (§6.4.1), and how the one ends the other."""

from dataclasses import replace

from leader.raft import RaftSettings
from leader.v1 import raft_pb2
from replication.errors import Indefinite, InvalidRequest, NotLeader, Overloaded
from replication.protocol import Instant, Request
from replication.v1 import control_pb2, event_pb2, storage_pb2
from tests.support.raft_cluster import MS, Cluster, Envelope, put, to

SETTINGS = RaftSettings()
LEASE_NS = int(SETTINGS.election_timeout_min_ns / (1 + SETTINGS.clock_drift_max))


def transfer(to: str = "") -> control_pb2.CommandRequest:
    return control_pb2.CommandRequest(transfer_leadership=control_pb2.TransferLeadership(to=to))


def led(size: int = 3, settings: RaftSettings = SETTINGS) -> Cluster:
    cluster = Cluster(size, settings)
    cluster.elect("n1")
    cluster.heartbeat("n1")
    return cluster


def lease_read(key: str = "k") -> storage_pb2.GetRequest:
    return storage_pb2.GetRequest(key=key, consistency=storage_pb2.CONSISTENCY_LEASE)


def read_at_once(cluster: Cluster, node: str = "n1") -> bool:
    """Ask for a lease read and return whether it was answered without any message."""
    number = cluster.submit(node, lease_read())
    answered = number in cluster.replies
    cluster.in_flight.clear()
    return answered


def leases(cluster: Cluster) -> list[tuple[str, bool, int, str]]:
    told = [(node, event.lease_changed) for node, event in cluster.events_told("lease_changed")]
    return [(node, each.held, each.term, each.reason) for node, each in told]


# Transfer.


def test_a_leader_hands_over_within_one_exchange_and_without_a_timeout() -> None:
    cluster = led()
    before_ns = cluster.now_ns
    answer = cluster.answer("n1", transfer("n3"))
    assert isinstance(answer, control_pb2.CommandResponse)
    assert cluster.role("n3") == event_pb2.ROLE_LEADER
    assert (cluster.term("n3"), cluster.now_ns) == (2, before_ns)
    assert not [
        each
        for each in cluster.events_of("election_started", "n3")
        if each.election_started.pre_vote
    ]


def test_the_successor_gets_everything_before_it_is_told_and_writes_wait_meanwhile() -> None:
    cluster = led()
    cluster.answer("n1", put("k", b"v"), drop=to("n3"))
    number = cluster.submit("n1", transfer("n3"))
    assert not [each for each in cluster.in_flight if each.kind == "timeout_now"]
    refused = cluster.answer("n1", put("k", b"w", sequence=2), drop=to("n3"))
    assert isinstance(refused, Overloaded)
    for _ in range(3):
        cluster.heartbeat("n1")
    assert isinstance(cluster.replies[number], control_pb2.CommandResponse)
    assert cluster.role("n3") == event_pb2.ROLE_LEADER
    assert cluster.get_all("n3")["k"].value == b"v"


def test_a_transfer_is_given_up_after_an_election_timeout_and_writes_are_taken_again() -> None:
    cluster = led()
    number = cluster.submit("n1", transfer("n3"))
    for _ in range(SETTINGS.election_timeout_max_ns // SETTINGS.heartbeat_ns + 1):
        cluster.heartbeat("n1", drop=to("n3"))
    assert isinstance(cluster.replies[number], Indefinite)
    told = [each.leadership_transfer.given_up for each in cluster.events_of("leadership_transfer")]
    assert told == [False, True]
    assert isinstance(cluster.answer("n1", put("k", b"v")), storage_pb2.PutResponse)


def test_without_a_name_the_one_with_the_longest_log_gets_it() -> None:
    cluster = led()
    cluster.answer("n1", put("k", b"v"), drop=to("n2"))
    cluster.answer("n1", transfer())
    assert cluster.role("n3") == event_pb2.ROLE_LEADER


def test_who_cannot_lead_is_refused_and_who_leads_is_told_so() -> None:
    cluster = led()
    assert isinstance(cluster.answer("n1", transfer("n9")), InvalidRequest)
    assert isinstance(cluster.answer("n1", transfer("n1")), control_pb2.CommandResponse)
    refused = cluster.answer("n2", transfer("n3"))
    assert isinstance(refused, NotLeader)
    assert refused.leader == "n1"


def test_a_call_for_an_election_from_a_leader_of_the_past_is_ignored() -> None:
    cluster = led()
    cluster.elect("n2")
    late = raft_pb2.RaftMessage(term=1, timeout_now=raft_pb2.TimeoutNow())
    cluster.receive("n3", "n1", late)
    cluster.receive("n3", "n1", raft_pb2.RaftMessage(term=2, timeout_now=raft_pb2.TimeoutNow()))
    assert cluster.term("n3") == 2


# Leases.


def test_a_lease_read_sends_no_message_and_the_lease_counts_from_the_sending() -> None:
    """Not from the answer: a promise may have begun just after the question left."""
    cluster = led()
    cluster.pass_time(SETTINGS.heartbeat_ns)
    cluster.wake("n1")
    asked_ns = cluster.now_ns
    cluster.pass_time(40 * MS)
    cluster.settle()
    cluster.pass_time(asked_ns + LEASE_NS - 1 - cluster.now_ns)
    assert read_at_once(cluster)
    cluster.pass_time(1)
    assert not read_at_once(cluster), "it is over, and the read is confirmed by a majority instead"


def test_a_lease_that_does_not_hold_costs_a_round_and_no_error() -> None:
    cluster = led(settings=replace(SETTINGS, check_quorum=False))
    assert not read_at_once(cluster), "without check-quorum nobody promises anything"
    number = cluster.submit("n1", lease_read())
    cluster.heartbeat("n1")
    assert isinstance(cluster.replies[number], storage_pb2.GetResponse)


def test_a_new_leader_reads_by_lease_only_behind_an_entry_of_its_term() -> None:
    cluster = led()
    cluster.campaign("n2")
    cluster.settle(drop=lambda each: bool(each.message.append_entries.entries))
    assert cluster.role("n2") == event_pb2.ROLE_LEADER
    cluster.heartbeat("n2", drop=lambda each: bool(each.message.append_entries.entries))
    assert not read_at_once(cluster, "n2")


def test_nobody_is_elected_while_a_lease_may_run_also_by_nodes_that_restart() -> None:
    """A restarted node does not remember what it promised, so it keeps what it may have."""
    cluster = led(settings=replace(SETTINGS, pre_vote=False))
    for node in ("n2", "n3"):
        cluster.start(node)
    cluster.pass_time(LEASE_NS - 2)
    vote = raft_pb2.RequestVote(campaign_term=9, last_log_index=99, last_log_term=9)
    cluster.receive("n2", "n3", raft_pb2.RaftMessage(term=9, request_vote=vote))
    assert cluster.term("n2") == 1
    cluster.pass_time(SETTINGS.election_timeout_min_ns - LEASE_NS + 2)
    cluster.receive("n2", "n3", raft_pb2.RaftMessage(term=9, request_vote=vote))
    assert cluster.term("n2") == 9


def test_a_promise_outlives_the_news_of_a_higher_term() -> None:
    """Somebody else's term says nothing about whether the old leader knows that it is deposed."""
    cluster = led(settings=replace(SETTINGS, pre_vote=False))
    question = raft_pb2.RaftMessage(term=5, read_index=raft_pb2.ReadIndex(number=1))
    cluster.receive("n2", "n3", question)
    assert cluster.term("n2") == 5
    vote = raft_pb2.RequestVote(campaign_term=6, last_log_index=99, last_log_term=9)
    cluster.receive("n2", "n3", raft_pb2.RaftMessage(term=6, request_vote=vote))
    assert cluster.term("n2") == 5
    assert read_at_once(cluster), "n1 has not heard of it, and nobody else can lead"


def test_a_leader_that_hands_over_has_no_lease_any_more_in_its_term() -> None:
    """TimeoutNow goes past the promises, and may arrive long after the transfer was given up."""
    cluster = led()
    cluster.submit("n1", transfer("n3"))
    lost = [each for each in cluster.in_flight if each.kind == "timeout_now"]
    assert len(lost) == 1
    for _ in range(SETTINGS.election_timeout_max_ns // SETTINGS.heartbeat_ns + 1):
        cluster.heartbeat("n1", drop=lambda each: each.kind == "timeout_now")
    assert not read_at_once(cluster)
    assert leases(cluster)[-1] == ("n1", False, 1, "leadership is being handed over")


def test_a_jump_of_the_clock_ends_what_was_confirmed_before_it() -> None:
    """A machine that was suspended shows it: its wall clock went on, its monotonic one did not."""
    cluster = led()
    assert read_at_once(cluster)
    core = cluster.cores["n1"]
    jumped = Instant(cluster.now_ns, cluster.now_ns + 10_000 * MS)
    assert not any(
        effect for effect in core.submit(jumped, 99, Request(lease_read(), cluster.now_ns + MS))
    ), "no answer at once"
    assert core.leader is not None
    assert core.leader.lease.problem() == "the clock has jumped"


def test_a_follower_whose_clock_runs_too_fast_confirms_no_lease() -> None:
    """Its promise ends early. Two of three with such clocks leave no majority to trust."""
    cluster = led()
    fast = {"n2": 0, "n3": 0}

    def hurry(each: Envelope) -> bool:
        if each.sender in fast and each.kind == "append_entries_result":
            result = raft_pb2.RaftMessage()
            result.CopyFrom(each.message)
            ahead_ns = fast[each.sender] = fast[each.sender] + 25 * MS
            result.append_entries_result.clock_ns += ahead_ns
            each.message = result
        return False

    for _ in range(4):
        cluster.heartbeat("n1", drop=hurry)
    for _ in range(8):
        cluster.heartbeat("n1", drop=hurry)
    assert not read_at_once(cluster)
    assert leases(cluster)[-1][:2] == ("n1", False)


def test_clocks_within_the_bound_and_slow_messages_cost_no_trust() -> None:
    cluster = led()
    for number in range(60):
        cluster.pass_time(SETTINGS.heartbeat_ns)
        cluster.wake("n1")
        cluster.pass_time((number % 5) * 10 * MS)
        cluster.settle()
        assert read_at_once(cluster)


def test_who_held_which_lease_when_is_told() -> None:
    cluster = led()
    until_ns = cluster.now_ns + LEASE_NS
    held = cluster.events_of("lease_changed")[0].lease_changed
    assert (held.held, held.term) == (True, 1)
    cluster.pass_time(SETTINGS.election_timeout_min_ns)
    cluster.wake("n1")
    lost = cluster.events_of("lease_changed")[-1].lease_changed
    assert (lost.held, lost.term) == (False, 1)
    assert lost.until_ns <= until_ns < cluster.now_ns, "it ended before this was noticed"
