"""A node that is dead for good is replaced by a spare: what is fetched, and from whom."""

from dataclasses import replace

import pytest

from leaderless.dynamo import DynamoSettings, Fanout, Hints, Quorum, ReadRepair
from leaderless.dynamo.ring import reclaim
from leaderless.dynamo.settings import Detection
from leaderless.v1 import dynamo_pb2
from replication.client.command import add, remove
from replication.client.command import replace as replace_member
from replication.errors import InvalidRequest, OperationError
from replication.protocol import RequestBody
from replication.v1 import control_pb2, storage_pb2
from tests.support.dynamo_cluster import FIVE, MS, SECOND, Cluster, get, name_of, put

KEYS = [f"k{number}" for number in range(1, 61)]
# Nothing repairs a replica but the transfer.
SETTINGS = DynamoSettings(anti_entropy_ns=0, read_repair=ReadRepair.OFF, hints=Hints.OFF)
QUORUMS = [(2, 2), (1, 3), (3, 1)]


def written(settings: DynamoSettings = SETTINGS, misses: str = "") -> Cluster:
    """Return a cluster where every key was written and acknowledged; ``misses`` got none of it.

    Its spares, n6 and n7, run no process yet.
    """
    cluster = Cluster(settings, members=FIVE, spares=("n6", "n7"))
    cluster.stop("n6")
    cluster.stop("n7")
    for number, key in enumerate(KEYS, 1):
        owners = cluster.cores["n1"]._node.ring.preference(key)
        coordinator = next(each for each in owners if each != misses)
        request = cluster.send(coordinator, put(key, f"a{number}"))
        if misses:
            cluster.queue = [each for each in cluster.queue if each[1] != misses]
        cluster.deliver()
        assert isinstance(cluster.replies[request], storage_pb2.PutResponse)
        cluster.run(10 * MS)
    return cluster


def begun(cluster: Cluster, body: RequestBody, at: str = "n1", spare: str = "n6") -> int:
    """Start the spare, and ask for it."""
    cluster.start(spare)
    cluster.deliver()
    return cluster.send(at, body, timeout_ns=60 * SECOND)


def is_done(cluster: Cluster, number: int) -> bool:
    result = cluster.replies.get(number)
    assert not isinstance(result, OperationError), result
    return result is not None


def unread(cluster: Cluster, node: str) -> list[str]:
    """Return the keys that a read through ``node`` finds nothing of."""
    return [key for key in KEYS if not cluster.read(node, key).versions]


@pytest.mark.parametrize("detector", Detection)
@pytest.mark.parametrize(("r", "w"), QUORUMS)
def test_a_dead_node_is_replaced_while_it_stays_dead(detector: Detection, r: int, w: int) -> None:
    """The spare has not seen it die; with W = 3 all the others hold what was acknowledged."""
    cluster = written(replace(SETTINGS, r=r, w=w, detector=detector))
    cluster.stop("n2")
    cluster.run(5 * SECOND)
    number = begun(cluster, replace_member("n2", "n6"))
    cluster.run(10 * SECOND)
    assert is_done(cluster, number)
    assert unread(cluster, "n6") == unread(cluster, "n1") == []
    held = {each.key for each in cluster.cores["n6"].contents()}
    assert held == {key for key in KEYS if "n6" in cluster.cores["n1"]._node.ring.preference(key)}


def test_who_is_dead_keeps_nobody_waiting() -> None:
    """All that the living hold is here before the dead one is asked a second time."""
    cluster = written()
    cluster.stop("n2")
    number = begun(cluster, replace_member("n2", "n6"))
    cluster.run(400 * MS)
    (moved,) = cluster.told("ring_changed", "n6")
    assert moved.ring_changed.next_members
    core = cluster.cores["n6"]
    held = {each.key for each in core.contents()}
    assert held == {key for key in KEYS if "n6" in core._node.ring.moving(key)}
    assert number not in cluster.replies, "it may live: nobody has found it dead yet"
    cluster.run(2 * SECOND)
    assert is_done(cluster, number)


def test_it_waits_for_a_second_owner_that_is_away() -> None:
    """Of three owners one is lost; what the other two have acknowledged, both may have to tell."""
    cluster = written(misses="n4")
    cluster.stop("n2")
    cluster.run(SECOND)
    number = begun(cluster, replace_member("n2", "n6"))
    cluster.cut = {("n3", "n6"), ("n6", "n3")}
    cluster.run(100 * MS)
    cluster.stop("n3")
    cluster.run(10 * SECOND)
    assert number not in cluster.replies
    cluster.heal()
    cluster.start("n3")
    cluster.run(3 * SECOND)
    assert is_done(cluster, number)
    assert unread(cluster, "n6") == unread(cluster, "n4") == []


def test_who_was_replaced_and_comes_back_counts_for_nothing() -> None:
    cluster = written()
    cluster.stop("n2")
    cluster.run(SECOND)
    number = begun(cluster, replace_member("n2", "n6"))
    cluster.run(3 * SECOND)
    assert is_done(cluster, number)
    cluster.isolate("n2")
    cluster.start("n2")
    key = next(key for key in KEYS if "n2" in cluster.cores["n2"]._node.ring.preference(key))
    assert isinstance(cluster.result("n2", put(key, "b1")), OperationError)
    cluster.stop("n2")
    cluster.heal()
    cluster.start("n2")
    asked = cluster.send("n2", put(key, "b2"))
    cluster.deliver(only=lambda one, other: "n2" in (one, other))
    assert sum(cluster.counters(node)["stale_rings_refused"] for node in cluster.cores) == 2
    cluster.run(2 * SECOND)
    assert not cluster.cores["n2"].status().serving
    answer = cluster.replies[asked]
    assert isinstance(answer, storage_pb2.PutResponse), "by the ring of which it was told"
    assert "n2" not in {each.node for each in answer.served.replicas}
    assert unread(cluster, "n6") == []


@pytest.mark.parametrize("fanout", Fanout)
def test_a_read_under_way_at_a_node_that_owns_the_key_no_more_is_answered(fanout: Fanout) -> None:
    """Digests are compared with what its coordinator holds, also when that counts no more."""
    cluster = written(replace(SETTINGS, read_fanout=fanout))
    core = cluster.cores["n2"]
    key = next(key for key in KEYS if core._node.ring.preference(key)[0] == "n2")
    asked = cluster.send("n2", get(key))
    cluster.deliver(only=lambda one, other: one == "n2")
    owners = reclaim(core._rings.state.owners, None, "n2")
    core._rings.adopt(cluster.instant("n2"), dynamo_pb2.RingState(epoch=1, owners=owners))
    cluster.perform("n2", core.flush(cluster.instant("n2")))
    cluster.run(SECOND)
    answer = cluster.replies[asked]
    assert isinstance(answer, storage_pb2.GetResponse)
    assert [name_of(each) for each in answer.versions] == [f"a{1 + KEYS.index(key)}"]


def test_a_node_that_dies_while_another_joins_is_replaced_and_both_changes_end() -> None:
    """With R = 1 who joins has to hear every old owner, and would wait for ever."""
    cluster = written(replace(SETTINGS, r=1, w=2))
    cluster.start("n6")
    cluster.stop("n2")
    joined = cluster.send("n1", add("n6"), timeout_ns=60 * SECOND)
    cluster.run(5 * SECOND)
    assert joined not in cluster.replies
    assert "under way" in str(cluster.result("n3", add("n7")))
    number = begun(cluster, replace_member("n2", "n7"), "n3", "n7")
    cluster.run(100 * MS)
    assert joined not in cluster.replies, "epochs went on, and data moves still"
    cluster.run(5 * SECOND)
    assert is_done(cluster, number)
    assert is_done(cluster, joined)
    (state,) = {core._rings.state.SerializeToString() for core in cluster.cores.values()}
    members = {*dynamo_pb2.RingState.FromString(state).owners}
    assert members == {"n1", "n3", "n4", "n5", "n6", "n7"}
    assert unread(cluster, "n6") == unread(cluster, "n7") == []


def test_a_node_that_dies_while_it_leaves_can_be_replaced_all_the_same() -> None:
    """With W = 1 the others would wait for what only it may have; a spare comes in its place."""
    cluster = written(replace(SETTINGS, r=3, w=1))
    left = cluster.send("n1", remove("n2"), timeout_ns=60 * SECOND)
    cluster.stop("n2")
    cluster.run(5 * SECOND)
    assert left not in cluster.replies
    number = begun(cluster, replace_member("n2", "n7"), spare="n7")
    cluster.run(5 * SECOND)
    assert is_done(cluster, number)
    assert is_done(cluster, left)
    assert set(cluster.cores["n3"]._rings.state.owners) == {"n1", "n3", "n4", "n5", "n7"}
    assert unread(cluster, "n7") == []


def test_a_spare_that_dies_before_it_has_joined_is_replaced_too() -> None:
    cluster = written(replace(SETTINGS, transfer_bytes_per_s=500))
    joined = begun(cluster, add("n6"))
    cluster.run(SECOND)
    cluster.stop("n6")
    number = begun(cluster, replace_member("n6", "n7"), spare="n7")
    cluster.run(30 * SECOND)
    assert is_done(cluster, number)
    refused = cluster.replies[joined]
    assert isinstance(refused, InvalidRequest)
    assert refused.message == "n6 was replaced before it had joined"
    assert set(cluster.cores["n1"]._rings.state.owners) == {*FIVE, "n7"}
    assert unread(cluster, "n7") == []


@pytest.mark.parametrize("detector", Detection)
def test_who_lives_gives_what_only_it_has_before_it_is_replaced(detector: Detection) -> None:
    """With W = 1 one copy is all that was promised; a spare that has just come may err of it."""
    cluster = Cluster(replace(SETTINGS, r=3, w=1, detector=detector), FIVE, spares=("n6",))
    cluster.stop("n6")
    ring = cluster.cores["n2"]._node.ring
    mine = [key for key in KEYS if "n2" in ring.preference(key)]
    for number, key in enumerate(mine, 1):
        request = cluster.send("n2", put(key, f"a{number}"))
        cluster.queue.clear()
        assert isinstance(cluster.replies[request], storage_pb2.PutResponse)
        cluster.run(10 * MS)
    cluster.start("n6")
    cluster.run(10 * SECOND)
    number = cluster.send("n1", replace_member("n2", "n6"), timeout_ns=60 * SECOND)
    cluster.run(10 * SECOND)
    assert is_done(cluster, number)
    assert [key for key in mine if not cluster.read("n1", key, 3).versions] == []


def test_what_was_kept_for_the_dead_one_is_brought_to_those_who_own_it_now() -> None:
    """A stand-in has the only copy; who it stood in for never comes back for it."""
    settings = replace(SETTINGS, r=3, w=1, quorum=Quorum.SLOPPY, hints=Hints.DURABLE)
    cluster = Cluster(settings, FIVE, spares=("n6",))
    cluster.stop("n6")
    ring = cluster.cores["n1"]._node.ring
    key = next(key for key in KEYS if ring.preference(key)[0] == "n2")
    away = ring.preference(key)
    keeper = next(each for each in FIVE if each not in away)
    for node in away:
        cluster.stop(node)
    cluster.run(SECOND)
    assert cluster.write(keeper, put(key, "a1")).served.replicas[0].fallback
    for node in away[1:]:
        cluster.start(node)
    cluster.run(SECOND)
    assert [each.key for each in cluster.cores[keeper].contents() if each.stand_in] == [key]
    number = begun(cluster, replace_member("n2", "n6"), keeper)
    cluster.run(4 * SECOND)
    assert is_done(cluster, number)
    owners = cluster.cores[keeper]._node.ring.preference(key)
    assert "n6" in owners
    assert all(cluster.held(node, key) == ["a1"] for node in owners)
    assert not any(each.stand_in for each in cluster.cores[keeper].contents())
    barrier = control_pb2.AwaitBarrier(kind=control_pb2.BARRIER_HINTS_DELIVERED)
    passed = cluster.result(keeper, control_pb2.CommandRequest(barrier=barrier))
    assert isinstance(passed, control_pb2.CommandResponse)


def test_all_old_owners_together_send_no_more_than_the_rate() -> None:
    rate = 2_000
    cluster = written(replace(SETTINGS, transfer_bytes_per_s=rate))
    cluster.stop("n2")
    cluster.run(SECOND)
    number = begun(cluster, replace_member("n2", "n6"))
    began_ns, biggest, before = cluster.now_ns, 0, 0
    while not is_done(cluster, number):
        cluster.run(10 * MS)
        taken = cluster.counters("n6")["transfer_bytes"]
        biggest, before = max(biggest, taken - before), taken
        assert taken <= rate * (cluster.now_ns - began_ns) // SECOND + biggest
    assert before > 2 * biggest
