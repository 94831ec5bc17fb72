"""Deletes: when they are forgotten, how they are undone by that, and what cures it.

"acorn" lives on n1, n2 and n3 of five nodes.
"""

from dataclasses import replace

from leaderless.dynamo import DynamoSettings, Hints, Purge, Quorum, ReadRepair, Versions
from replication.v1 import storage_pb2
from tests.support.dynamo_cluster import MS, SECOND, Cluster, delete, name_of, put

KEY = "acorn"
ALONE = DynamoSettings(hints=Hints.OFF, anti_entropy_ns=0, tombstone_grace_ns=2 * SECOND)
TIME = replace(ALONE, purge=Purge.TIME)
AFTER_REPAIR = replace(ALONE, purge=Purge.AFTER_REPAIR)


def names(response: storage_pb2.GetResponse) -> list[str]:
    return sorted(name_of(version) for version in response.versions)


def deleted_while_n3_was_away(settings: DynamoSettings) -> Cluster:
    """Return a cluster whose n3 still holds the value, long after the grace of its delete."""
    cluster = Cluster(settings)
    context = cluster.write("n1", put(KEY, "a1", w=3)).context
    cluster.stop("n3")
    cluster.run(700 * MS)
    assert isinstance(cluster.result("n1", delete(KEY, "a2", context)), storage_pb2.DeleteResponse)
    cluster.run(4 * SECOND)
    cluster.start("n3")
    cluster.run(SECOND)
    return cluster


def test_a_delete_that_is_purged_by_time_comes_back() -> None:
    cluster = deleted_while_n3_was_away(TIME)
    assert cluster.held("n1", KEY) == cluster.held("n2", KEY) == []
    assert names(cluster.read("n1", KEY, r=3)) == ["a1"]
    cluster.deliver()
    assert [cluster.held(node, KEY) for node in ("n1", "n2", "n3")] == [["a1"]] * 3
    undone = cluster.told("delete_undone")
    assert {name_of(event.delete_undone.version) for event in undone} == {"a1"}
    assert cluster.counters("n1")["deletes_undone"] == 1


def test_it_does_not_while_tombstones_are_kept_until_all_hold_them() -> None:
    for purge in (Purge.NEVER, Purge.AFTER_REPAIR):
        cluster = deleted_while_n3_was_away(replace(ALONE, purge=purge))
        assert cluster.held("n1", KEY) == ["a2"]
        assert names(cluster.read("n1", KEY, r=3)) == ["a2"]
        assert cluster.told("delete_undone") == []


def test_after_repair_the_delete_is_forgotten_everywhere() -> None:
    cluster = deleted_while_n3_was_away(AFTER_REPAIR)
    assert cluster.told("tombstone_purged") == []
    cluster.read("n1", KEY, r=3)
    cluster.run(2 * SECOND)
    assert len(cluster.told("tombstone_purged")) == 3
    for node in ("n1", "n2", "n3"):
        assert cluster.held(node, KEY) == []
        assert cluster.disks[node].spaces["kv"] == {}
    assert names(cluster.read("n2", KEY, r=3)) == []


def test_a_grace_that_outlasts_the_outage_keeps_the_delete() -> None:
    cluster = deleted_while_n3_was_away(replace(TIME, tombstone_grace_ns=60 * SECOND))
    assert names(cluster.read("n1", KEY, r=3)) == ["a2"]


def test_a_hint_for_the_key_keeps_the_tombstone() -> None:
    """n4 stands in for n3 with the old value, and cannot reach n3; all others agree."""
    settings = replace(AFTER_REPAIR, hints=Hints.DURABLE, quorum=Quorum.SLOPPY)
    cluster = Cluster(settings)
    cluster.isolate("n3")
    cluster.run(700 * MS)
    context = cluster.write("n1", put(KEY, "a1", w=3)).context
    cluster.heal()
    cluster.cut |= {("n4", "n3")}
    cluster.run(200 * MS)
    cluster.result("n1", delete(KEY, "a2", context))
    cluster.run(4 * SECOND)
    assert cluster.held("n3", KEY) == ["a2"]
    assert cluster.told("tombstone_purged") == []
    cluster.heal()
    cluster.run(2 * SECOND)
    assert len(cluster.told("tombstone_purged")) == 3


def test_the_grace_goes_on_after_a_restart() -> None:
    cluster = Cluster(TIME)
    context = cluster.write("n1", put(KEY, "a1", w=3)).context
    cluster.result("n1", delete(KEY, "a2", context))
    cluster.run(SECOND)
    for node in ("n1", "n2", "n3"):
        cluster.stop(node)
        cluster.start(node)
    cluster.run(500 * MS)
    assert cluster.held("n1", KEY) == ["a2"]
    cluster.run(700 * MS)
    assert cluster.held("n1", KEY) == []


def test_a_key_that_was_written_anew_is_not_purged() -> None:
    cluster = Cluster(TIME)
    context = cluster.write("n1", put(KEY, "a1", w=3)).context
    response = cluster.result("n1", delete(KEY, "a2", context))
    assert isinstance(response, storage_pb2.DeleteResponse)
    cluster.write("n1", put(KEY, "a3", response.context))
    cluster.run(4 * SECOND)
    assert cluster.held("n1", KEY) == ["a3"]


def test_a_key_that_is_deleted_again_has_its_grace_again() -> None:
    for settings in (TIME, AFTER_REPAIR):
        cluster = Cluster(settings)
        context = cluster.write("n1", put(KEY, "a1", w=3)).context
        cluster.result("n1", delete(KEY, "a2", context))
        cluster.run(1500 * MS)
        cluster.write("n1", put(KEY, "a3", w=3))
        cluster.result("n1", delete(KEY, "a4", cluster.read("n1", KEY).context))
        cluster.run(SECOND)  # the grace of the first delete is over by now
        assert cluster.held("n1", KEY) == ["a4"]
        cluster.run(2 * SECOND)
        assert cluster.held("n1", KEY) == []


def test_a_key_that_is_written_again_after_its_purge_is_not_swallowed() -> None:
    """Its dots are not given away again, so no tombstone elsewhere has seen the new write."""
    cluster = Cluster(TIME)
    cluster.write("n1", put(KEY, "a1", w=3))
    cluster.isolate("n2")
    cluster.result("n1", delete(KEY, "a2", cluster.read("n1", KEY).context))
    cluster.wall_offset_ns["n3"] = -60 * SECOND  # n3 keeps the tombstone for longer
    cluster.run(4 * SECOND)
    assert cluster.held("n1", KEY) == []
    assert cluster.held("n3", KEY) == ["a2"]
    cluster.heal()
    cluster.run(SECOND)
    written = cluster.write("n1", put(KEY, "b1", w=3))
    assert written.dot.counter == 3
    assert "b1" in names(cluster.read("n3", KEY, r=3))


def test_replicas_do_not_keep_a_tombstone_alive_for_each_other() -> None:
    """What anti-entropy brings back is as old as it was."""
    settings = replace(TIME, anti_entropy_ns=200 * MS, read_repair=ReadRepair.OFF)
    cluster = Cluster(settings)
    context = cluster.write("n1", put(KEY, "a1", w=3)).context
    cluster.result("n1", delete(KEY, "a2", context))
    cluster.wall_offset_ns["n3"] = -SECOND
    cluster.run(6 * SECOND)
    assert [cluster.held(node, KEY) for node in ("n1", "n2", "n3")] == [[], [], []]


def test_deletes_of_last_write_wins_are_purged_and_undone_alike() -> None:
    cluster = deleted_while_n3_was_away(replace(TIME, versions=Versions.LWW))
    assert names(cluster.read("n1", KEY, r=3)) == ["a1"]
    assert cluster.told("delete_undone")
