"""Contexts, retries, read repair, and what is told when writes meet.

With five nodes and N=3, "acorn" lives on n1, n2 and n3, in this order of preference.
"""

from leaderless.dynamo import DynamoSettings, ReadRepair, Versions
from leaderless.v1 import dynamo_pb2
from replication.errors import (
    QuorumTimeout,
)
from replication.v1 import storage_pb2
from tests.support.dynamo_cluster import (
    MS,
    SECOND,
    Cluster,
    delete,
    get,
    name_of,
    put,
    write_id,
)

KEY = "acorn"
FIRST, OTHER, THIRD = "n1", "n2", "n3"
OUTSIDER, STRANGER = "n4", "n5"


def names(response: storage_pb2.GetResponse) -> list[str]:
    return sorted(name_of(version) for version in response.versions)


# Contexts.


def test_context_after_a_put_does_not_cover_the_unread_sibling() -> None:
    """Otherwise a's second put would erase b's, which a has never read."""
    cluster = Cluster()
    cluster.write(FIRST, put(KEY, "b1"))
    context = cluster.write(FIRST, put(KEY, "a1")).context
    cluster.write(OTHER, put(KEY, "a2", context))
    assert names(cluster.read(FIRST, KEY, r=3)) == ["a2", "b1"]


def test_context_after_a_put_replaces_what_was_read_before() -> None:
    cluster = Cluster()
    cluster.write(FIRST, put(KEY, "b1"))
    context = cluster.read(THIRD, KEY).context
    context = cluster.write(FIRST, put(KEY, "a1", context)).context
    cluster.write(OTHER, put(KEY, "a2", context))
    assert names(cluster.read(FIRST, KEY, r=3)) == ["a2"]


def test_read_covers_all_siblings_it_shows() -> None:
    cluster = Cluster()
    cluster.write(FIRST, put(KEY, "a1"))
    cluster.write(THIRD, put(KEY, "b1"))
    read = cluster.read(OUTSIDER, KEY)
    assert names(read) == ["a1", "b1"]
    cluster.write(OTHER, put(KEY, "c1", read.context))
    assert names(cluster.read(FIRST, KEY, r=3)) == ["c1"]


def test_delete_is_a_version_like_any_other() -> None:
    cluster = Cluster()
    context = cluster.write(FIRST, put(KEY, "a1")).context
    deleted = cluster.result(FIRST, delete(KEY, "a2", context))
    assert isinstance(deleted, storage_pb2.DeleteResponse)
    (tombstone,) = cluster.read(THIRD, KEY).versions
    assert tombstone.tombstone
    assert name_of(tombstone) == "a2"
    assert tombstone.value == b""
    cluster.write(FIRST, put(KEY, "b1"))
    assert names(cluster.read(THIRD, KEY)) == ["a2", "b1"]


def test_missing_key_is_a_result() -> None:
    response = Cluster().read(OUTSIDER, KEY)
    assert list(response.versions) == []
    assert response.context == b""


# Retries.


def test_retry_at_the_coordinator_makes_no_sibling() -> None:
    cluster = Cluster()
    first = cluster.write(FIRST, put(KEY, "a1"))
    second = cluster.write(FIRST, put(KEY, "a1"))
    assert second.dot == first.dot
    assert cluster.counters(FIRST)["writes_recognised"] == 1
    assert names(cluster.read(FIRST, KEY)) == ["a1"]


def test_retry_at_another_replica_that_holds_it_keeps_its_dot() -> None:
    cluster = Cluster()
    first = cluster.write(FIRST, put(KEY, "a1"))
    again = cluster.write(THIRD, put(KEY, "a1"))
    assert again.dot == first.dot
    assert again.served.node == THIRD


def test_retry_spreads_a_write_that_was_cut_off() -> None:
    cluster = Cluster()
    cluster.isolate(FIRST)
    number = cluster.send(FIRST, put(KEY, "a1"))
    cluster.run(500 * MS)
    assert isinstance(cluster.replies[number], QuorumTimeout)
    cluster.heal()
    cluster.run(300 * MS)
    cluster.write(FIRST, put(KEY, "a1"))
    assert all(cluster.held(node, KEY) == ["a1"] for node in (FIRST, OTHER, THIRD))


def test_retry_elsewhere_before_the_first_attempt_arrives_is_shown_once() -> None:
    """Two coordinators give one write two dots; readers see one write, and can replace it."""
    cluster = Cluster()
    cluster.isolate(FIRST)
    cluster.send(FIRST, put(KEY, "a1"))
    cluster.run(500 * MS)
    cluster.write(THIRD, put(KEY, "a1"))
    cluster.heal()
    cluster.run(300 * MS)
    read = cluster.read(OTHER, KEY, r=3)
    assert names(read) == ["a1"]
    assert cluster.told("siblings_created") == []
    cluster.write(THIRD, put(KEY, "b1", read.context))
    assert names(cluster.read(OTHER, KEY, r=3)) == ["b1"]


# Read repair.


def test_stale_replica_is_repaired_after_the_reply() -> None:
    cluster = Cluster()
    cluster.isolate(THIRD)
    cluster.write(FIRST, put(KEY, "a1"))
    cluster.heal()
    assert cluster.held(THIRD, KEY) == []
    number = cluster.send(FIRST, get(KEY))
    cluster.deliver(only=lambda sender, to: THIRD not in (sender, to))
    assert number in cluster.replies
    assert cluster.held(THIRD, KEY) == []
    cluster.deliver()
    assert cluster.held(THIRD, KEY) == ["a1"]
    (event,) = cluster.told("read_repaired")
    assert event.read_repaired.replica == THIRD
    assert [id.client_id for id in event.read_repaired.write_ids] == ["a"]
    assert cluster.counters(FIRST)["read_repairs"] == 1


def test_stale_coordinator_repairs_itself() -> None:
    cluster = Cluster()
    cluster.isolate(THIRD)
    cluster.write(FIRST, put(KEY, "a1"))
    cluster.heal()
    assert names(cluster.read(THIRD, KEY)) == ["a1"]
    assert cluster.held(THIRD, KEY) == ["a1"]
    assert [event.read_repaired.replica for event in cluster.told("read_repaired")] == [THIRD]


def test_read_repair_can_be_off_and_is_counted_all_the_same() -> None:
    cluster = Cluster(DynamoSettings(read_repair=ReadRepair.OFF))
    cluster.isolate(THIRD)
    cluster.write(FIRST, put(KEY, "a1"))
    cluster.heal()
    cluster.read(FIRST, KEY, r=3)
    assert cluster.held(THIRD, KEY) == []
    assert cluster.counters(FIRST)["read_mismatches"] == 1
    assert cluster.counters(FIRST)["read_repairs_sent"] == 0


def test_late_repair_does_not_undo_a_newer_write() -> None:
    cluster = Cluster()
    cluster.isolate(THIRD)
    old = cluster.write(FIRST, put(KEY, "a1"))
    cluster.heal()
    cluster.send(FIRST, get(KEY))
    cluster.deliver(only=lambda sender, to: to != THIRD or _is_load(cluster, sender, to))
    repair, cluster.queue = [each for each in cluster.queue if each[1] == THIRD], []
    assert [bool(each[2].batch.repairs) for each in repair] == [True]  # type: ignore[attr-defined]
    cluster.write(THIRD, put(KEY, "b1", old.context))
    cluster.write(THIRD, put(KEY, "c1"))
    cluster.queue += repair
    cluster.deliver()
    assert cluster.held(THIRD, KEY) == ["b1", "c1"]
    assert cluster.told("read_repaired") == []


def _is_load(cluster: Cluster, sender: str, to: str) -> bool:
    messages = [each[2] for each in cluster.queue if each[:2] == (sender, to)]
    return any(isinstance(each, dynamo_pb2.DynamoMessage) and each.batch.loads for each in messages)


def test_replica_that_seems_dead_does_not_hold_up_the_repair_of_others() -> None:
    cluster = Cluster()
    cluster.isolate(THIRD)
    cluster.write(FIRST, put(KEY, "a1"))
    cluster.heal()
    cluster.stop(OTHER)
    cluster.run(700 * MS)
    cluster.send(FIRST, get(KEY))
    cluster.deliver()
    assert cluster.held(THIRD, KEY) == ["a1"]


def test_equal_answers_cause_no_repair() -> None:
    cluster = Cluster()
    cluster.write(FIRST, put(KEY, "a1"))
    cluster.read(FIRST, KEY, r=3)
    assert cluster.counters(FIRST)["read_mismatches"] == 0


# Events.


def test_siblings_are_told_once_by_each_replica() -> None:
    cluster = Cluster()
    cluster.write(FIRST, put(KEY, "a1"))
    cluster.write(THIRD, put(KEY, "b1"))
    cluster.read(FIRST, KEY, r=3)
    for node in (FIRST, OTHER, THIRD):
        (event,) = cluster.told("siblings_created", node)
        told = event.siblings_created.versions
        assert sorted(map(name_of, told)) == ["a1", "b1"]
        assert all(version.value == b"" for version in told)
        assert cluster.counters(node)["siblings_created"] == 1


def test_resolution_is_told_with_what_it_dropped() -> None:
    cluster = Cluster()
    cluster.write(FIRST, put(KEY, "a1"))
    cluster.write(THIRD, put(KEY, "b1"))
    context = cluster.read(FIRST, KEY).context
    cluster.write(FIRST, put(KEY, "c1", context))
    event = cluster.told("siblings_resolved", FIRST)[0].siblings_resolved
    assert event.resolved_by == write_id("c1")
    assert sorted(map(name_of, event.dropped)) == ["a1", "b1"]
    assert len(cluster.told("siblings_resolved")) == 3


def test_overwriting_what_was_read_tells_nothing() -> None:
    cluster = Cluster()
    context = cluster.write(FIRST, put(KEY, "a1")).context
    cluster.write(FIRST, put(KEY, "a2", context))
    kinds = {event.WhichOneof("kind") for _, event in cluster.events}
    assert kinds == {"role_changed"}


def test_suspicion_and_trust_are_told_once_each() -> None:
    cluster = Cluster()
    cluster.isolate("n5")
    cluster.run(2 * SECOND)
    assert [event.peer_suspected.peer for event in cluster.told("peer_suspected", "n1")] == ["n5"]
    assert len(cluster.told("peer_suspected", "n5")) == 4
    status = cluster.cores["n1"].status()
    assert {peer.node: peer.alive for peer in status.peers} == {
        "n2": True,
        "n3": True,
        "n4": True,
        "n5": False,
    }
    cluster.heal()
    cluster.run(200 * MS)
    assert [event.peer_trusted.peer for event in cluster.told("peer_trusted", "n1")] == ["n5"]


# Last write wins.


def test_write_with_a_slow_clock_is_acknowledged_and_lost() -> None:
    """Leaderless facts: lost update by clock skew. The event names what vanished."""
    cluster = Cluster(DynamoSettings(versions=Versions.LWW))
    cluster.wall_offset_ns[FIRST] = 5 * SECOND
    cluster.write(FIRST, put(KEY, "a1"))
    cluster.run(SECOND)
    context = cluster.read(THIRD, KEY).context
    acknowledged = cluster.write(THIRD, put(KEY, "b1", context, w=3))
    assert len(acknowledged.served.replicas) == 3
    assert names(cluster.read(OUTSIDER, KEY, r=3)) == ["a1"]
    (event,) = cluster.told("version_dropped")
    assert name_of(event.version_dropped.dropped) == "b1"
    assert name_of(event.version_dropped.winner) == "a1"
    assert event.version_dropped.dropped.timestamp_ns < event.version_dropped.winner.timestamp_ns


def test_last_write_wins_returns_one_version() -> None:
    cluster = Cluster(DynamoSettings(versions=Versions.LWW))
    cluster.write(FIRST, put(KEY, "a1"))
    cluster.run(10 * MS)
    cluster.write(THIRD, put(KEY, "b1"))
    assert names(cluster.read(OUTSIDER, KEY, r=3)) == ["b1"]
    dropped = cluster.told("version_dropped")
    assert {name_of(event.version_dropped.dropped) for event in dropped} == {"a1"}
    assert len(dropped) == 3
