"""Batching, pipelining, flow control and backtracking of AppendEntries; recovery from disk."""

import pytest

from leader.raft import RaftSettings
from leader.v1 import raft_pb2
from replication.errors import CorruptStore, Overloaded
from replication.protocol import Effect, Persist, Put, Send
from replication.v1 import storage_pb2
from tests.support.raft_cluster import Cluster, Envelope, between, entry, get, put, to


def appends(effects: list[Effect]) -> list[Send]:
    return [each for each in effects if isinstance(each, Send)]


def fill(cluster: Cluster, count: int, value: bytes = b"v") -> list[int]:
    """Submit ``count`` writes at n1 without a flush."""
    first = cluster.cores["n1"].status().last_index
    return [
        cluster.submit("n1", put("k", value, sequence=first + number), flush=False)
        for number in range(count)
    ]


def take(cluster: Cluster) -> list[Effect]:
    return cluster.cores["n1"].flush(cluster.now)


def test_writes_between_two_flushes_share_one_message_and_one_disk_write() -> None:
    """The messages stand before the own write: followers write meanwhile (dissertation §10.2.1)."""
    cluster = Cluster(3)
    cluster.elect("n1")
    fill(cluster, 10)
    effects = take(cluster)
    assert [type(effect) for effect in effects] == [Send, Send, Persist]
    first, second = appends(effects)
    assert len(first.message.append_entries.entries) == 10  # type: ignore[attr-defined]
    assert first.message is second.message, "followers that are equally far share the object"


def test_a_message_keeps_to_the_limits_and_a_window_of_them_is_under_way() -> None:
    settings = RaftSettings(append_entries_max=4, inflight_appends_max=3)
    cluster = Cluster(3, settings)
    cluster.elect("n1")
    fill(cluster, 40)
    sends = [each for each in appends(take(cluster)) if each.to == "n2"]
    assert [len(each.message.append_entries.entries) for each in sends] == [4, 4, 4]  # type: ignore[attr-defined]
    starts = [each.message.append_entries.prev_log_index for each in sends]  # type: ignore[attr-defined]
    assert starts == [1, 5, 9], "the next one leaves before the first is answered"
    assert appends(take(cluster)) == [], "the window is full"


def test_an_answer_opens_the_window_again() -> None:
    settings = RaftSettings(append_entries_max=4, inflight_appends_max=1)
    cluster = Cluster(3, settings)
    cluster.elect("n1")
    numbers = fill(cluster, 40)
    cluster.wake("n1")
    cluster.settle()
    assert all(isinstance(cluster.replies[each], storage_pb2.PutResponse) for each in numbers)


def test_an_entry_larger_than_the_limit_goes_alone() -> None:
    cluster = Cluster(3, RaftSettings(append_bytes_max=10))
    cluster.elect("n1")
    numbers = fill(cluster, 3, b"x" * 1000)
    cluster.wake("n1")
    cluster.settle()
    assert all(isinstance(cluster.replies[each], storage_pb2.PutResponse) for each in numbers)


def test_the_last_append_of_a_burst_may_be_lost_and_the_next_heartbeat_finds_out() -> None:
    cluster = Cluster(3)
    cluster.elect("n1")
    cluster.answer("n1", put("k", b"v"), drop=to("n3"))
    assert cluster.log_terms("n3") == [1]
    cluster.heartbeat("n1")
    assert cluster.log("n3") == cluster.log("n1")


def test_a_silent_follower_costs_heartbeats_and_no_entries() -> None:
    cluster = Cluster(3, RaftSettings(inflight_appends_max=2))
    cluster.elect("n1")
    sent: list[Envelope] = []

    def lost(each: Envelope) -> bool:
        if each.to == "n3":
            sent.append(each)
        return "n3" in (each.sender, each.to)

    for number in range(30):
        cluster.answer("n1", put("k", b"v", sequence=number + 1), drop=lost)
    with_entries = [each for each in sent if each.message.append_entries.entries]
    assert len(with_entries) == 2
    cluster.heartbeat("n1", drop=lost)
    assert not sent[-1].message.append_entries.entries


def test_a_far_follower_catches_up_when_it_returns() -> None:
    settings = RaftSettings(append_entries_max=16)
    cluster = Cluster(3, settings)
    cluster.elect("n1")
    for number in range(200):
        cluster.answer("n1", put("k", b"v", sequence=number + 1), drop=between("n1", "n2"))
    assert len(cluster.log("n3")) == 1
    cluster.delivered.clear()
    cluster.heartbeat("n1")
    assert cluster.log("n3") == cluster.log("n1")
    carried = [
        len(each.message.append_entries.entries) for each in cluster.delivered if each.to == "n3"
    ]
    assert sum(carried) == 200, "each entry travels once"


@pytest.mark.parametrize("length", [1, 50])
def test_backtracking_costs_a_message_per_conflicting_term_not_per_entry(length: int) -> None:
    """Raft §5.3, end: one refusal per term that differs, however long it is."""
    common = [1] * 10
    ours = [term for term in (3, 5, 7) for _ in range(length)]
    theirs = [term for term in (2, 4, 6) for _ in range(length)]
    logs = {"n1": common + ours, "n2": common + theirs, "n3": common}
    cluster = Cluster(3, terms=logs, current_term=7)
    cluster.elect("n1")
    assert cluster.log("n2") == cluster.log("n1")
    refusals = {"n2": 0, "n3": 0}
    for each in cluster.delivered:
        if each.kind == "append_entries_result":
            refusals[each.sender] += not each.message.append_entries_result.success
    assert refusals["n2"] <= 4
    assert refusals["n3"] == 1, "a log that is only short is found at once"


def test_truncation_reaches_the_disk_in_one_step_with_what_replaces_it() -> None:
    cluster = Cluster(3, terms={"n2": [1, 2, 2, 2], "n1": [1, 3], "n3": [1, 3]}, current_term=3)
    cluster.elect("n1")
    assert cluster.log("n2") == cluster.log("n1")
    writes = [
        effect.writes
        for node, effect in cluster.effects
        if node == "n2" and isinstance(effect, Persist) and not isinstance(effect.writes[0], Put)
    ]
    assert len(writes) == 1
    assert len(writes[0]) >= 2
    event = cluster.events_of("log_truncated", "n2")[0].log_truncated
    assert (event.from_index, event.entries) == (2, 3)
    assert [each.sequence for each in event.write_ids] == [2, 3, 4]


def test_a_leader_takes_in_no_more_than_its_bound() -> None:
    cluster = Cluster(3, RaftSettings(uncommitted_entries_max=5))
    cluster.elect("n1")
    numbers = fill(cluster, 7)
    assert isinstance(cluster.replies[numbers[-1]], Overloaded)
    cluster.wake("n1")
    cluster.settle()
    answers = [type(cluster.replies[each]) for each in numbers]
    assert answers == [storage_pb2.PutResponse] * 5 + [Overloaded] * 2


def test_a_cluster_restarted_as_a_whole_has_all_it_acknowledged() -> None:
    cluster = Cluster(3)
    cluster.elect("n1")
    for number in range(20):
        cluster.answer("n1", put(f"k{number}", b"%d" % number, sequence=number + 1))
    for node in cluster.members:
        cluster.start(node)
    cluster.in_flight.clear()
    assert [cluster.term(node) for node in cluster.members] == [1, 1, 1]
    cluster.elect("n2")
    for number in range(20):
        reply = cluster.answer("n2", get(f"k{number}"))
        assert isinstance(reply, storage_pb2.GetResponse)
        assert reply.versions[0].value == b"%d" % number


def test_a_restarted_node_serves_what_it_knew_to_be_committed_at_once() -> None:
    cluster = Cluster(3)
    cluster.elect("n1")
    cluster.answer("n1", put("a", b"1"))
    cluster.answer("n1", put("b", b"2", sequence=2))
    cluster.start("n2")
    status = cluster.cores["n2"].status()
    assert status.last_index == 3
    assert status.applied_index == 2, "the commit index came with the last entry"
    reply = cluster.answer("n2", get("a", local=True))
    assert isinstance(reply, storage_pb2.GetResponse)
    assert reply.versions[0].value == b"1"


@pytest.mark.parametrize(
    "damage",
    [
        [Put("log", (5).to_bytes(8, "big"), entry(1))],  # a gap
        [Put("log", (2).to_bytes(8, "big"), b"\xff")],  # not an entry
        [Put("meta", b"commit_index", (9).to_bytes(8, "big"))],  # committed and not there
        [Put("log", (2).to_bytes(8, "big"), entry(8))],  # of a term the node never entered
    ],
)
def test_a_state_that_contradicts_itself_stops_the_node(damage: list[Put]) -> None:
    cluster = Cluster(3)
    cluster.elect("n1")
    cluster.disks["n1"].write(damage)
    with pytest.raises(CorruptStore):
        cluster.start("n1")


def test_a_single_node_answers_only_behind_its_own_write() -> None:
    cluster = Cluster(1)
    cluster.elect("n1")
    fill(cluster, 2)
    kinds = [type(effect).__name__ for effect in take(cluster)]
    assert kinds == ["Persist", "Reply", "Reply"]


def test_entries_are_the_same_bytes_on_every_disk_and_in_every_message() -> None:
    cluster = Cluster(3)
    cluster.elect("n1")
    cluster.answer("n1", put("k", b"v"))
    body = raft_pb2.Entry.FromString(cluster.log("n3")[1])
    assert body.put == put("k", b"v")
    assert cluster.log("n1") == cluster.log("n2") == cluster.log("n3")
