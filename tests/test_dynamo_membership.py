"""Nodes come and go: rings by epoch, data that moves, and what is acknowledged meanwhile."""

from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from leaderless.dynamo import DynamoSettings, Purge, ReadRepair
from leaderless.dynamo.ring import claim, reclaim, ring_of
from leaderless.dynamo.settings import RingChanges
from leaderless.dynamo.vector import NOTHING
from leaderless.v1 import dynamo_pb2
from replication.client.command import add, remove
from replication.client.command import replace as replace_member
from replication.errors import InvalidRequest, Overloaded, QuorumTimeout
from replication.protocol import Send
from replication.v1 import control_pb2, storage_pb2
from tests.support.cas_world import compare_and_set
from tests.support.dynamo_cluster import MS, SECOND, Cluster, delete, put

KEYS = [f"k{number}" for number in range(60)]
SETTINGS = DynamoSettings(anti_entropy_ns=0, read_repair=ReadRepair.OFF)
FOUR = ("n1", "n2", "n3", "n4")


def filled(settings: DynamoSettings = SETTINGS, spares: tuple[str, ...] = ("n5", "n6")) -> Cluster:
    """Return a cluster with a write of each key, at W=2: most are at two replicas only."""
    cluster = Cluster(settings, members=FOUR, spares=spares)
    rng = Random(4)
    for number, key in enumerate(KEYS, 1):
        lost = rng.choice(FOUR)
        cluster.send("n1" if lost != "n1" else "n2", put(key, f"a{number}"))
        cluster.queue = [each for each in cluster.queue if each[1] != lost]
        cluster.deliver()
        cluster.run(20 * MS)
    cluster.run(SECOND)
    return cluster


def acknowledged(cluster: Cluster) -> list[str]:
    return [
        key
        for number, key in enumerate(KEYS, 1)
        if isinstance(cluster.replies[number], storage_pb2.PutResponse)
    ]


def lost(cluster: Cluster, node: str = "n1") -> list[str]:
    """Return the acknowledged keys that a quorum of reads does not find."""
    return [key for key in acknowledged(cluster) if not cluster.read(node, key).versions]


def done(cluster: Cluster, node: str, body: control_pb2.CommandRequest) -> str:
    number = cluster.send(node, body, timeout_ns=20 * SECOND)
    cluster.deliver()
    while number not in cluster.replies:
        cluster.run(50 * MS)
    response = cluster.replies[number]
    assert isinstance(response, control_pb2.CommandResponse), response
    return response.words


# The table of owners.


def test_only_what_has_to_move_does() -> None:
    before = claim(FOUR, 64)
    joined = reclaim(before, "n5", None)
    assert {new for old, new in zip(before, joined, strict=True) if old != new} == {"n5"}
    assert set(Counter(joined).values()) <= {12, 13}
    left = reclaim(joined, None, "n2")
    assert all(old == new or old == "n2" for old, new in zip(joined, left, strict=True))
    assert set(Counter(left).values()) == {16}
    replaced = reclaim(left, "n9", "n1")
    assert [each.replace("n1", "n9") for each in left] == list(replaced)


def test_preferences_stay_distinct_after_many_changes() -> None:
    rng, owners = Random(1), claim(FOUR, 32)
    for step in range(30):
        members = sorted(set(owners))
        joining = f"m{step}" if rng.random() < 0.5 or len(members) < 4 else None
        owners = reclaim(owners, joining, None if joining else rng.choice(members))
        assert all(len(set(each)) == 3 for each in ring_of(owners, 3).preferences)
        shares = Counter(owners).values()
        assert max(shares) - min(shares) <= 3


# Changes.


def test_node_joins_and_holds_what_it_owns() -> None:
    cluster = filled()
    assert not cluster.cores["n5"].status().serving
    assert done(cluster, "n2", add("n5")) == "n5 has joined"
    cluster.run(200 * MS)
    assert {core.status().counters["ring_epoch"] for core in cluster.cores.values()} == {2}
    assert cluster.cores["n5"].status().serving
    owned = {each.key for each in cluster.cores["n5"].contents() if "n5" in each.owners}
    everywhere = {
        each.key
        for core in cluster.cores.values()
        for each in core.contents()
        if "n5" in each.owners
    }
    assert owned == everywhere
    assert owned
    assert lost(cluster) == []
    (moved,) = cluster.told("partitions_moved", "n5")
    assert moved.partitions_moved.keys >= len(owned)


def test_node_leaves_and_another_is_replaced_also_when_it_is_dead() -> None:
    cluster = filled()
    done(cluster, "n1", add("n5"))
    assert done(cluster, "n1", remove("n3")) == "n3 has left"
    assert lost(cluster) == []
    cluster.stop("n2")
    cluster.run(SECOND)
    assert done(cluster, "n1", replace_member("n2", "n6")) == "n6 has joined and n2 has left"
    assert lost(cluster, "n6") == []
    peers = {peer.node for peer in cluster.cores["n1"].status().peers}
    assert peers == {"n4", "n5", "n6"}


def test_what_is_written_while_data_moves_is_there_afterwards() -> None:
    cluster = filled(replace(SETTINGS, transfer_bytes_per_s=3000))
    number = cluster.send("n1", add("n5"), timeout_ns=60 * SECOND)
    cluster.deliver()
    written = []
    for count in range(1, 200):
        if number in cluster.replies:
            break
        key = f"new{count}"
        result = cluster.result(FOUR[count % 4], put(key, f"b{count}"))
        if isinstance(result, storage_pb2.PutResponse):
            written.append(key)
        cluster.run(20 * MS)
    cluster.run(SECOND)
    assert isinstance(cluster.replies[number], control_pb2.CommandResponse)
    assert len(written) > 20
    assert [key for key in written if not cluster.read("n5", key).versions] == []
    assert lost(cluster) == []


def test_transfer_goes_on_after_the_joiner_was_away() -> None:
    cluster = filled(replace(SETTINGS, transfer_bytes_per_s=3000))
    number = cluster.send("n1", add("n5"), timeout_ns=60 * SECOND)
    cluster.deliver()
    cluster.run(300 * MS)
    cluster.isolate("n5")
    cluster.run(2 * SECOND)
    assert number not in cluster.replies
    cluster.heal()
    cluster.run(SECOND)
    cluster.stop("n5")
    cluster.start("n5")
    cluster.run(10 * SECOND)
    assert isinstance(cluster.replies[number], control_pb2.CommandResponse)
    assert lost(cluster) == []


def test_pending_replicas_count_while_data_moves() -> None:
    """A write needs its quorum among those who hold the key and those who are to hold it."""
    cluster = filled(spares=("n5",))
    cluster.send("n1", add("n5"), timeout_ns=60 * SECOND)
    cluster.deliver(only=lambda one, other: "n5" not in (one, other))
    core = cluster.cores["n1"]
    ring = core._node.ring
    assert ring.next_preferences
    partition = next(
        each
        for each, coming in enumerate(ring.next_preferences)
        if "n5" in coming and "n1" in coming and "n1" in ring.preferences[each]
    )
    key = next(
        f"x{number}" for number in range(10_000) if ring.partition(f"x{number}") == partition
    )
    cluster.queue.clear()
    number = cluster.send("n1", put(key, "b1"))
    holder = next(
        each
        for each in ring.preferences[partition]
        if each != "n1" and each not in ring.next_preferences[partition]
    )
    cluster.deliver(only=lambda one, other: {one, other} <= {"n1", holder})
    assert number not in cluster.replies, "two of the old owners, but one of the new"
    cluster.deliver()
    assert isinstance(cluster.replies[number], storage_pb2.PutResponse)


def test_one_change_at_a_time() -> None:
    cluster = filled()
    cluster.send("n1", add("n5"), timeout_ns=60 * SECOND)
    cluster.deliver(only=lambda one, other: "n5" not in (one, other))
    refused = cluster.result("n2", add("n6"))
    assert isinstance(refused, Overloaded)
    assert "under way" in refused.message


def test_change_that_is_asked_for_again_is_answered_like_the_first() -> None:
    cluster = filled()
    first = cluster.send("n1", add("n5"), timeout_ns=20 * SECOND)
    cluster.deliver(only=lambda one, other: "n5" not in (one, other))
    again = cluster.send("n2", add("n5"), timeout_ns=20 * SECOND)
    assert again not in cluster.replies
    cluster.run(2 * SECOND)
    assert cluster.replies[first].words == cluster.replies[again].words == "n5 has joined"  # type: ignore[union-attr]
    assert done(cluster, "n3", add("n5")) == "n5 has joined"


def test_two_proposals_make_one_ring_of_each_epoch() -> None:
    cluster = filled()
    first = cluster.send("n1", add("n5"), timeout_ns=20 * SECOND)
    second = cluster.send("n3", add("n6"), timeout_ns=20 * SECOND)
    cluster.run(10 * SECOND)
    results = [cluster.replies[first], cluster.replies[second]]
    assert sum(isinstance(each, control_pb2.CommandResponse) for each in results) == 1
    assert sum(isinstance(each, Overloaded) for each in results) == 1
    states = {
        core._rings.state.SerializeToString()
        for core in cluster.cores.values()
        if core.status().serving
    }
    assert len(states) == 1
    assert lost(cluster) == []


def test_ring_needs_a_majority_of_its_members() -> None:
    cluster = filled()
    cluster.isolate("n1", "n5")
    assert isinstance(cluster.result("n1", add("n5")), QuorumTimeout)
    assert cluster.cores["n1"].status().counters["ring_epoch"] == 0


def test_stale_ring_is_refused_and_refreshed() -> None:
    cluster = filled()
    cluster.cut = {(one, "n4") for one in (*FOUR, "n5", "n6")}
    done(cluster, "n1", replace_member("n2", "n5"))  # n4 gains nothing, and is not waited for
    assert cluster.cores["n4"].status().counters["ring_epoch"] == 0
    cluster.heal()
    stale = dynamo_pb2.DynamoMessage(life=1, batch=dynamo_pb2.Batch())
    stale.batch.stores.add(number=7, key="k3", siblings=cluster.cores["n1"]._node.encoded("k3"))
    core = cluster.cores["n1"]
    core.receive(cluster.instant("n1"), "n4", stale)
    sends = [each for each in core.flush(cluster.instant("n1")) if isinstance(each, Send)]
    answers = [each.message for each in sends if each.to == "n4"]
    assert all(isinstance(each, dynamo_pb2.DynamoMessage) for each in answers)
    assert [each.movement.ring.epoch for each in answers if each.HasField("movement")] == [2]  # type: ignore[attr-defined]
    assert not any(each.batch.stored for each in answers)  # type: ignore[attr-defined]
    assert cluster.counters("n1")["stale_rings_refused"] > 0
    cluster.run(500 * MS)
    assert cluster.cores["n4"].status().counters["ring_epoch"] == 2
    assert lost(cluster, "n4") == []


def test_ring_survives_a_restart_of_all() -> None:
    cluster = filled()
    done(cluster, "n1", add("n5"))
    for node in list(cluster.cores):
        cluster.stop(node)
    for node in cluster.disks:
        cluster.start(node)
    cluster.run(SECOND)
    assert cluster.cores["n5"].status().serving
    assert cluster.counters("n3")["ring_epoch"] == 2
    assert lost(cluster, "n5") == []


def test_compare_and_set_moves_with_its_key() -> None:
    cluster = filled()
    for number in range(1, 9):
        body = compare_and_set("c", number, None, f"v{number}")
        body.key = f"cas{number}"
        assert isinstance(cluster.result("n1", body), storage_pb2.CompareAndSetResponse)
    done(cluster, "n1", replace_member("n2", "n5"))
    for number in range(1, 9):
        again = compare_and_set("c", number, None, f"v{number}")
        again.key = f"cas{number}"
        assert isinstance(cluster.result("n5", again), storage_pb2.CompareAndSetResponse)
        other = compare_and_set("d", number, None, "other")
        other.key = f"cas{number}"
        assert not isinstance(cluster.result("n5", other), storage_pb2.CompareAndSetResponse)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (replace_member("n1", "n2"), "n2 is a member already, it cannot replace n1"),
        (remove("n9"), "n9 is no member"),
    ],
)
def test_impossible_changes_are_refused(body: control_pb2.CommandRequest, words: str) -> None:
    refused = Cluster(SETTINGS, members=FOUR).result("n1", body)
    assert isinstance(refused, InvalidRequest)
    assert words in refused.message


def test_last_n_members_stay() -> None:
    cluster = Cluster(SETTINGS, members=("n1", "n2", "n3"))
    refused = cluster.result("n1", remove("n2"))
    assert isinstance(refused, InvalidRequest)
    assert "2 members would be left, expected n = 3" in refused.message


# The anomaly.


def two_joins(kind: RingChanges) -> list[str]:
    """Let two nodes join, one after the other, while hardly anything moves; return what is lost."""
    settings = replace(SETTINGS, ring_changes=kind, transfer_bytes_per_s=50)
    cluster = filled(settings)
    for node in ("n5", "n6"):
        cluster.send("n1", add(node), timeout_ns=SECOND)
        cluster.run(100 * MS)
    return lost(cluster)


def test_two_joins_lose_sight_of_acknowledged_writes_unless_both_rings_count() -> None:
    assert two_joins(RingChanges.EAGER)
    assert two_joins(RingChanges.JOINT) == []


# What a node no longer owns.


def test_what_moved_away_is_dropped_once_the_new_owners_have_it() -> None:
    cluster = filled()
    before = {each.key for each in cluster.cores["n4"].contents()}
    done(cluster, "n1", add("n5"))
    cluster.run(SECOND)
    for node in (*FOUR, "n5"):
        for each in cluster.cores[node].contents():
            assert node in each.owners, (node, each.key)
    assert before - {each.key for each in cluster.cores["n4"].contents()}
    assert lost(cluster) == []


def test_with_eager_rings_others_may_still_fetch_what_moved_away() -> None:
    cluster = filled(replace(SETTINGS, ring_changes=RingChanges.EAGER))
    before = {each.key for each in cluster.cores["n4"].contents()}
    done(cluster, "n1", add("n5"))
    cluster.run(SECOND)
    assert before <= {each.key for each in cluster.cores["n4"].contents()}


@pytest.mark.parametrize("alive", [True, False])
def test_a_node_that_comes_back_does_not_undo_deletes(alive: bool) -> None:
    """Neither one that left in good order, nor one that was dead and hears of it when it returns.

    While it is no member it is not asked whether a tombstone may be purged.
    """
    settings = replace(SETTINGS, w=3, purge=Purge.AFTER_REPAIR, tombstone_grace_ns=100 * MS)
    cluster = Cluster(settings, members=(*FOUR, "n5"))
    contexts = {
        key: cluster.write("n1", put(key, f"a{number}")).context
        for number, key in enumerate(KEYS, 1)
    }
    held = {each.key for each in cluster.cores["n5"].contents()}
    if not alive:
        cluster.stop("n5")
        cluster.run(SECOND)
    done(cluster, "n1", remove("n5"))
    cluster.run(SECOND)
    for number, key in enumerate(held):
        cluster.result("n1", delete(key, f"d{number}", contexts[key]))
    cluster.run(3 * SECOND)
    assert all(not cluster.held(node, key) for node in FOUR for key in held)
    if not alive:
        cluster.start("n5")
    done(cluster, "n1", add("n5"))
    cluster.run(SECOND)
    assert {each.key for each in cluster.cores["n5"].contents()}.isdisjoint(held)
    assert len(held) > 5
    assert all(not cluster.read("n1", key, 3).versions for key in held)


def test_a_node_that_stands_in_where_it_was_a_primary_gives_no_dot_away_twice() -> None:
    """Its own dots of before are in its replica, not among what it keeps for others."""
    cluster = Cluster(DynamoSettings(anti_entropy_ns=0), members=FOUR)
    node = cluster.cores["n1"]._node
    key = next(each for each in KEYS if "n1" in node.ring.preference(each))
    first = cluster.write("n1", put(key, "a1"))
    second = (node.actor, first.dot.counter + 1)
    assert node.next_dot(key, NOTHING) == second
    siblings, encoded = node.replica.siblings(key), node.replica.encoded(key)
    node.replica.drop(key)
    node.merge(key, siblings, encoded, node.stand_ins)
    assert node.next_dot(key, NOTHING) == second
