"""Changes of membership (dissertation §4): learners first, joint consensus, and who leaves."""

import pytest

from leader.raft import RaftSettings
from leader.raft.configuration import Configuration
from leader.raft.membership import CATCH_UP_ROUNDS_MAX, Change
from leader.raft.quorum import Tally
from leader.v1 import raft_pb2
from replication.errors import Indefinite, InvalidRequest, LeadershipLost, Overloaded
from replication.protocol import OperationError
from replication.v1 import control_pb2, event_pb2, storage_pb2
from tests.support.raft_cluster import MS, Cluster, between, get, put, to

SETTINGS = RaftSettings()


def add(node: str, learner: bool = False) -> control_pb2.CommandRequest:
    return control_pb2.CommandRequest(add_member=control_pb2.AddMember(node=node, learner=learner))


def remove(node: str) -> control_pb2.CommandRequest:
    return control_pb2.CommandRequest(remove_member=control_pb2.RemoveMember(node=node))


def replace(node: str, by: str) -> control_pb2.CommandRequest:
    return control_pb2.CommandRequest(replace_member=control_pb2.ReplaceMember(node=node, by=by))


def led(size: int = 3, spares: int = 1, settings: RaftSettings = SETTINGS) -> Cluster:
    cluster = Cluster(size, settings, spares=spares)
    cluster.elect("n1")
    cluster.heartbeat("n1")
    return cluster


def done(cluster: Cluster, request: control_pb2.CommandRequest, node: str = "n1") -> str:
    """Carry a command out and return what its answer says."""
    number = cluster.submit(node, request)
    for _ in range(20):
        if number in cluster.replies:
            break
        cluster.heartbeat(node)
    answer = cluster.replies[number]
    assert isinstance(answer, control_pb2.CommandResponse), answer
    return answer.words


def configuration(cluster: Cluster, node: str) -> Configuration:
    return cluster.cores[node].replica.configuration


def test_a_quorum_of_a_joint_configuration_is_a_majority_of_both() -> None:
    """Dissertation §4.3."""
    joint = Configuration(("a", "b", "c"), ("c", "d", "e"))
    assert joint.reached({"a": 5, "b": 5, "c": 5}) == 0
    assert joint.reached({"a": 5, "b": 5, "d": 3, "e": 3}) == 3
    assert joint.tally({"a": True, "b": True}) is Tally.PENDING
    assert joint.tally({"a": True, "b": True, "d": True, "e": True}) is Tally.WON
    assert joint.tally({"a": True, "b": True, "d": False, "e": False}) is Tally.LOST


def test_a_joiner_waits_until_it_is_added_and_then_votes() -> None:
    cluster = Cluster(3, spares=1)
    cluster.pass_time(10 * SETTINGS.election_timeout_max_ns)
    cluster.wake("n4")
    assert cluster.role("n4") == event_pb2.ROLE_LEARNER
    assert cluster.in_flight == []
    cluster.elect("n1")
    cluster.heartbeat("n1")
    cluster.answer("n1", put("k", b"v"))
    assert done(cluster, add("n4")) == "n4 is a voter"
    assert configuration(cluster, "n1") == Configuration(("n1", "n2", "n3", "n4"))
    cluster.heartbeat("n1")
    assert cluster.get_all("n4") == cluster.get_all("n1")
    assert cluster.role("n4") == event_pb2.ROLE_FOLLOWER
    cluster.elect("n4", drop=to("n1"))


def test_a_node_listens_before_it_votes_and_joins_by_joint_consensus() -> None:
    cluster = led()
    done(cluster, add("n4"))
    steps = [
        (list(each.voters), list(each.outgoing), list(each.learners))
        for each in (
            e.configuration_changed for e in cluster.events_of("configuration_changed", "n1")
        )
        if not each.committed
    ]
    old, new = ["n1", "n2", "n3"], ["n1", "n2", "n3", "n4"]
    assert steps == [(old, [], ["n4"]), (new, old, []), (new, [], [])]


def test_a_learner_is_a_replica_without_a_vote() -> None:
    cluster = led(settings=RaftSettings(follower_reads=True))
    assert done(cluster, add("n4", learner=True)) == "n4 is a learner"
    cluster.answer("n1", put("k", b"v"))
    cluster.heartbeat("n1")
    cluster.heartbeat("n1")
    assert cluster.role("n4") == event_pb2.ROLE_LEARNER
    read = cluster.answer("n4", get("k"))
    assert isinstance(read, storage_pb2.GetResponse)
    assert read.versions[0].value == b"v"
    number = cluster.submit("n1", put("k", b"w", sequence=2))
    cluster.settle(drop=to("n2", "n3"))
    assert number not in cluster.replies, "n1 and a learner are no majority"
    owners = [each.owners for each in cluster.cores["n4"].contents()]
    assert [list(each) for each in owners] == [["n1", "n2", "n3", "n4"]]


def test_a_learner_does_not_become_a_voter_before_it_has_caught_up() -> None:
    cluster = led()
    number = cluster.submit("n1", add("n4"))
    for _ in range(5):
        cluster.heartbeat("n1", drop=to("n4"))
    assert configuration(cluster, "n1") == Configuration(("n1", "n2", "n3"), (), ("n4",))
    assert number not in cluster.replies
    for _ in range(4):
        cluster.heartbeat("n1")
    assert isinstance(cluster.replies[number], control_pb2.CommandResponse)


def test_catching_up_goes_in_rounds_and_ends_when_one_is_short_enough() -> None:
    """§4.2.1: a node that is always a long round behind is not let in."""
    change = Change(1, 0, "", Configuration(("a",)), "b")
    enough_ns = 100 * MS
    assert not change.caught_up(0, 50, 0, enough_ns)
    assert not change.caught_up(49, 60, 10, enough_ns)
    assert not change.caught_up(50, 60, 150 * MS, enough_ns), "that round took too long"
    assert change.caught_up(60, 70, 240 * MS, enough_ns)
    slow = Change(1, 0, "", Configuration(("a",)), "b")
    for number in range(CATCH_UP_ROUNDS_MAX + 1):
        assert not slow.caught_up(number * 10, number * 10 + 10, number * enough_ns, enough_ns)
    assert slow.hopeless


def test_a_configuration_is_in_force_once_it_is_in_the_log() -> None:
    """§4.1: also on a follower, and gone again when the entry is overwritten."""
    cluster = led(5)
    cluster.submit("n1", remove("n5"))
    cluster.settle(drop=between("n1", "n2"))
    assert configuration(cluster, "n2").is_joint
    assert not configuration(cluster, "n3").is_joint
    cluster.elect("n3", drop=lambda each: "n1" in (each.to, each.sender) or each.to == "n2")
    cluster.answer("n3", put("k", b"v"), drop=lambda each: "n1" in (each.to, each.sender))
    for _ in range(3):
        cluster.heartbeat("n3")
    for node in cluster.members:
        assert configuration(cluster, node) == Configuration(cluster.members)
    assert isinstance(cluster.replies[1], LeadershipLost)


def test_a_joint_configuration_needs_both_majorities_to_elect_and_to_commit() -> None:
    cluster = led(3)
    number = cluster.submit("n1", replace("n3", "n4"))
    for _ in range(2):
        cluster.heartbeat("n1", drop=lambda each: bool(cluster.joint("n1")) and each.to != "n4")
    assert configuration(cluster, "n1").is_joint
    cluster.heartbeat("n1", drop=to("n2", "n3"))
    assert number not in cluster.replies, "n1 and n4 are no majority of n1, n2, n3"
    for _ in range(3):
        cluster.heartbeat("n1", drop=to("n3"))
    assert isinstance(cluster.replies[number], control_pb2.CommandResponse)
    assert configuration(cluster, "n4") == Configuration(("n1", "n2", "n4"))


def test_a_new_leader_completes_the_change_that_it_finds() -> None:
    cluster = led(3)
    cluster.submit("n1", replace("n3", "n4"))
    for _ in range(10):
        if configuration(cluster, "n2").is_joint:
            break
        cluster.pass_time(SETTINGS.heartbeat_ns)
        cluster.wake("n1")
        while cluster.in_flight and not configuration(cluster, "n2").is_joint:
            cluster.deliver()
    cluster.in_flight.clear()
    assert configuration(cluster, "n2").is_joint
    cluster.elect("n2", drop=lambda each: "n1" in (each.to, each.sender))
    for _ in range(4):
        cluster.heartbeat("n2", drop=lambda each: "n1" in (each.to, each.sender))
    assert configuration(cluster, "n2") == Configuration(("n1", "n2", "n4"))
    assert configuration(cluster, "n4") == Configuration(("n1", "n2", "n4"))


def test_a_removed_leader_leads_until_that_is_committed_and_then_hands_over() -> None:
    """§4.2.2: it counts majorities without itself."""
    cluster = led(3)
    assert done(cluster, remove("n1")) == "n1 is no member any more"
    for _ in range(3):
        cluster.settle()
    leaders = [node for node in ("n2", "n3") if cluster.role(node) == event_pb2.ROLE_LEADER]
    assert len(leaders) == 1, "without an election timeout"
    assert cluster.role("n1") == event_pb2.ROLE_LEARNER
    assert isinstance(cluster.answer(leaders[0], put("k", b"v")), storage_pb2.PutResponse)
    cluster.pass_time(3 * SETTINGS.election_timeout_max_ns)
    cluster.wake("n1")
    assert cluster.role("n1") == event_pb2.ROLE_LEARNER, "who knows that it left stands no more"


def test_a_removed_node_that_does_not_know_it_cannot_disturb() -> None:
    """§4.2.3: who hears the leader gives no vote to others, nor takes over their term."""
    cluster = led(4, settings=RaftSettings(pre_vote=False))
    number = cluster.submit("n1", remove("n4"))
    for _ in range(3):
        cluster.heartbeat("n1", drop=to("n4"))
    assert isinstance(cluster.replies[number], control_pb2.CommandResponse)
    for _ in range(5):
        for _ in range(12):
            cluster.heartbeat("n1")
        cluster.wake("n4")
        cluster.settle()
    assert cluster.term("n4") > 3
    assert (cluster.role("n1"), cluster.term("n1")) == (event_pb2.ROLE_LEADER, 1)


def test_one_change_at_a_time_and_not_before_the_leader_has_committed_in_its_term() -> None:
    """The published flaw of changes in a new term: what is committed is not known yet."""
    cluster = Cluster(3, spares=2)
    cluster.campaign("n1")
    cluster.settle(drop=lambda each: bool(each.message.append_entries.entries))
    assert cluster.role("n1") == event_pb2.ROLE_LEADER
    number = cluster.submit("n1", add("n4"))
    assert isinstance(cluster.replies[number], Overloaded)
    cluster.heartbeat("n1")
    cluster.heartbeat("n1")
    cluster.submit("n1", add("n4"))
    second = cluster.submit("n1", add("n5"))
    assert isinstance(cluster.replies[second], Overloaded)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (remove("n9"), "'n9' is no member; members are n1, n2, n3"),
        (replace("n1", "n2"), "n1 and n2 cannot change places"),
        (add(""), "add_member needs a node"),
        (add("n2", learner=True), "n2 is a voter; remove it first"),
        (control_pb2.CommandRequest(), "raft offers"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(
    request_: control_pb2.CommandRequest, words: str
) -> None:
    answer = led().answer("n1", request_)
    assert isinstance(answer, InvalidRequest)
    assert words in answer.message


def test_the_last_voter_stays() -> None:
    cluster = led(1)
    answer = cluster.answer("n1", remove("n1"))
    assert isinstance(answer, InvalidRequest)


def test_a_change_that_takes_too_long_is_told_and_may_be_asked_for_again() -> None:
    cluster = led()
    number = cluster.submit("n1", add("n4"), timeout_ns=200 * MS)
    for _ in range(6):
        cluster.heartbeat("n1", drop=to("n4"))
    assert isinstance(cluster.replies[number], Indefinite)
    assert done(cluster, add("n4")) == "n4 is a voter"


def test_a_replacement_that_is_asked_for_again_is_done_already() -> None:
    """The first answer may have been lost."""
    cluster = led(3)
    for _ in range(2):
        assert done(cluster, replace("n3", "n4")) == "n4 is in the place of n3"
    assert configuration(cluster, "n2") == Configuration(("n1", "n2", "n4"))


def test_the_configuration_survives_a_snapshot_and_a_restart() -> None:
    settings = RaftSettings(snapshot_entries=5, snapshot_trailing_entries=0)
    cluster = led(3, settings=settings)
    done(cluster, replace("n3", "n4"))
    for number in range(1, 20):
        cluster.answer("n1", put(f"k{number}", b"v", sequence=number))
        cluster.heartbeat("n1")
    assert cluster.cores["n4"].replica.log.start_index > 4, "the entries of the change are gone"
    for node in ("n1", "n2", "n4"):
        cluster.start(node)
        assert configuration(cluster, node) == Configuration(("n1", "n2", "n4"))


def test_a_joiner_gets_the_configuration_with_the_snapshot() -> None:
    settings = RaftSettings(snapshot_entries=5, snapshot_trailing_entries=0)
    cluster = led(3, spares=2, settings=settings)
    done(cluster, replace("n3", "n4"))
    for number in range(1, 20):
        cluster.answer("n1", put(f"k{number}", b"v", sequence=number))
        cluster.heartbeat("n1")
    done(cluster, add("n5", learner=True))
    for _ in range(4):
        cluster.heartbeat("n1")
    assert cluster.events_of("snapshot_installed", "n5")
    assert configuration(cluster, "n5") == Configuration(("n1", "n2", "n4"), (), ("n5",))


def test_a_barrier_is_answered_when_the_asked_node_has_applied_that_far() -> None:
    cluster = led()
    barrier = control_pb2.AwaitBarrier(kind=control_pb2.BARRIER_CAUGHT_UP, index=3)
    request = control_pb2.CommandRequest(barrier=barrier)
    number = cluster.submit("n2", request)
    cluster.answer("n1", put("k", b"v"))
    assert number not in cluster.replies
    cluster.answer("n1", put("k", b"w", sequence=2))
    cluster.heartbeat("n1")
    assert isinstance(cluster.replies[number], control_pb2.CommandResponse)
    late = cluster.submit(
        "n2",
        request.__class__(
            barrier=control_pb2.AwaitBarrier(kind=control_pb2.BARRIER_CAUGHT_UP, index=99)
        ),
        timeout_ns=100 * MS,
    )
    cluster.pass_time(101 * MS)
    cluster.wake("n2")
    assert isinstance(cluster.replies[late], OperationError)


# Linearizable reads at followers (§6.4).


def follower_reads(size: int = 3) -> Cluster:
    return led(size, settings=RaftSettings(follower_reads=True))


def test_a_follower_asks_for_an_index_and_answers_when_it_has_applied_it() -> None:
    cluster = follower_reads()
    cluster.answer("n1", put("k", b"v"), drop=to("n3"))
    number = cluster.submit("n3", get("k"))
    asked = [each.kind for each in cluster.in_flight]
    assert asked == ["read_index"]
    cluster.settle(drop=lambda each: each.to == "n3" and each.kind == "append_entries")
    assert number not in cluster.replies, "it knows the index and lacks the entry"
    cluster.heartbeat("n1")
    cluster.heartbeat("n1")
    answer = cluster.replies[number]
    assert isinstance(answer, storage_pb2.GetResponse)
    assert answer.versions[0].value == b"v"
    assert (answer.served.node, answer.served.log_index) == ("n3", 2)


def test_a_leader_that_is_cut_off_gives_a_follower_no_index() -> None:
    cluster = follower_reads(5)
    number = cluster.submit("n2", get("k"))
    cluster.settle(drop=between("n1", "n2"))
    assert number not in cluster.replies


def test_reads_that_wait_share_one_question_and_a_lost_one_is_repeated() -> None:
    cluster = follower_reads()
    numbers = [cluster.submit("n2", get("k"), flush=False) for _ in range(3)]
    cluster.wake("n2")
    assert [each.kind for each in cluster.in_flight] == ["read_index"]
    cluster.in_flight.clear()
    cluster.pass_time(SETTINGS.heartbeat_ns)
    cluster.wake("n2")
    cluster.settle()
    assert all(isinstance(cluster.replies[each], storage_pb2.GetResponse) for each in numbers)


def test_an_answer_to_an_earlier_life_answers_nothing() -> None:
    cluster = follower_reads()
    cluster.submit("n2", get("k"))
    cluster.deliver()
    late = list(cluster.in_flight)
    cluster.in_flight.clear()
    cluster.start("n2")
    cluster.heartbeat("n1")
    number = cluster.submit("n2", get("k"))
    cluster.in_flight.clear()
    for each in late:
        cluster.receive(each.to, each.sender, each.message)
    result = raft_pb2.RaftMessage(term=1, read_index_result=raft_pb2.ReadIndexResult(number=1))
    cluster.receive("n2", "n1", result)
    assert number not in cluster.replies


def test_the_preferred_node_waits_least_before_it_stands() -> None:
    cluster = Cluster(3, RaftSettings(priority="n3, n1"))
    cluster.elect("n1")
    waits = {}
    for _ in range(20):
        for node in cluster.members:
            core = cluster.cores[node]
            core._restart_election_timer()
            waits.setdefault(node, []).append(core._election_timeout_ns)
    assert max(waits["n3"]) <= min(waits["n1"])
    assert max(waits["n1"]) <= min(waits["n2"])


def test_the_preferred_node_is_the_first_to_stand_in_a_new_cluster() -> None:
    cluster = Cluster(3, RaftSettings(priority="n3, n1"))
    due = {node: core._election_due_ns for node, core in cluster.cores.items()}
    assert due["n3"] < due["n1"] < due["n2"]
