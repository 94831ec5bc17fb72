"""Sloppy quorums and hinted handoff: who stands in, what waits for whom, and when it goes.

"acorn" lives on n1, n2 and n3 of five nodes; n4 and n5 stand in, in this order.
"""

from dataclasses import replace

import pytest

from leaderless.dynamo import DynamoSettings, Hints, Quorum, ReadRepair
from leaderless.dynamo.targets import NOBODY, choose_targets
from replication.errors import Indefinite, InvalidRequest, Overloaded, QuorumUnreachable
from replication.v1 import control_pb2, storage_pb2
from tests.support.dynamo_cluster import MS, SECOND, Cluster, delete, get, name_of, put

KEY = "acorn"
PRIMARIES = ("n1", "n2", "n3")
STRICT = DynamoSettings(read_repair=ReadRepair.OFF, anti_entropy_ns=0)
SLOPPY = replace(STRICT, quorum=Quorum.SLOPPY)
HINTS_DELIVERED = control_pb2.CommandRequest(
    barrier=control_pb2.AwaitBarrier(kind=control_pb2.BARRIER_HINTS_DELIVERED)
)


def without(settings: DynamoSettings, *dead: str) -> Cluster:
    """Return a cluster that knows that these nodes are dead."""
    cluster = Cluster(settings)
    for node in dead:
        cluster.stop(node)
    cluster.run(700 * MS)
    return cluster


def counted(response: storage_pb2.PutResponse | storage_pb2.GetResponse) -> dict[str, bool]:
    return {replica.node: replica.fallback for replica in response.served.replicas}


def names(response: storage_pb2.GetResponse) -> list[str]:
    return sorted(name_of(version) for version in response.versions)


def test_nobody_stands_in_for_the_living() -> None:
    targets = choose_targets(PRIMARIES, ("n4",), lambda node: True, "n1")
    assert targets.asked == PRIMARIES
    assert targets.stand_ins == NOBODY


def test_healthy_nodes_stand_in_for_the_dead_in_order_of_the_walk() -> None:
    targets = choose_targets(PRIMARIES, ("n4", "n5"), lambda node: node not in ("n1", "n4"), "n2")
    assert targets.asked == ("n2", "n3", "n5")
    assert targets.stand_ins == {"n5": "n1"}


def test_a_dead_primary_for_whom_nobody_is_left_is_asked_all_the_same() -> None:
    targets = choose_targets(PRIMARIES, (), lambda node: node != "n3", "n1")
    assert targets.asked == PRIMARIES
    assert targets.stand_ins == NOBODY


def test_a_coordinator_that_is_no_primary_takes_part() -> None:
    targets = choose_targets(PRIMARIES, ("n4", "n5"), lambda node: True, "n5")
    assert targets.asked == ("n1", "n2", "n5")
    assert targets.stand_ins == {"n5": "n3"}


def test_sloppy_quorum_counts_stand_ins_and_says_so() -> None:
    cluster = without(SLOPPY, "n1", "n2")
    written = cluster.write("n3", put(KEY, "a1", w=3))
    assert counted(written) == {"n3": False, "n4": True, "n5": True}
    assert {event.hint_stored.target for event in cluster.told("hint_stored")} == {"n1", "n2"}
    assert names(cluster.read("n3", KEY, r=3)) == ["a1"]


def test_strict_quorum_refuses_the_same_with_the_numbers() -> None:
    cluster = without(STRICT, "n1", "n2")
    assert cluster.result("n3", put(KEY, "a1")) == QuorumUnreachable(2, 1)


def test_a_write_without_any_primary_alive_is_taken_by_those_who_stand_in() -> None:
    cluster = without(SLOPPY, *PRIMARIES)
    assert set(counted(cluster.write("n4", put(KEY, "a1"))).values()) == {True}
    assert names(cluster.read("n5", KEY)) == ["a1"]
    for node in PRIMARIES:
        cluster.start(node)
    cluster.run(SECOND)
    assert [cluster.held(node, KEY) for node in ("n1", "n2", "n3", "n4")] == [["a1"]] * 2 + [
        cluster.held("n3", KEY),
        [],
    ]
    assert names(cluster.read("n1", KEY, r=2)) == ["a1"]


def test_primaries_only_levels_count_no_stand_in() -> None:
    cluster = without(SLOPPY, "n1", "n2")
    body = put(KEY, "a1")
    body.pw = 2
    assert cluster.result("n3", body) == QuorumUnreachable(2, 1)
    assert cluster.result("n3", storage_pb2.GetRequest(key=KEY, pr=2)) == QuorumUnreachable(2, 1)
    body.pw = 1
    cluster.write("n3", body)


def test_settings_ask_for_primaries_too() -> None:
    cluster = without(replace(SLOPPY, pr=2, pw=2), "n1", "n2")
    assert cluster.result("n3", put(KEY, "a1")) == QuorumUnreachable(2, 1)
    assert cluster.result("n3", get(KEY)) == QuorumUnreachable(2, 1)


def test_hints_are_delivered_when_the_target_is_heard_again() -> None:
    cluster = without(SLOPPY, "n1")
    cluster.write("n2", put(KEY, "a1"))
    (stored,) = cluster.told("hint_stored")
    assert stored.hint_stored.stand_in
    assert cluster.told("hints_delivered") == []
    cluster.start("n1")
    cluster.run(300 * MS)
    (delivered,) = cluster.told("hints_delivered")
    assert (delivered.hints_delivered.target, delivered.hints_delivered.hints) == ("n1", 1)
    assert cluster.held("n1", KEY) == ["a1"]
    assert cluster.disks["n4"].spaces["hints"] == {}
    assert cluster.disks["n4"].spaces["stand-in"] == {}


def test_a_stand_in_that_became_a_primary_hands_over_what_it_took_as_one() -> None:
    cluster = Cluster(SLOPPY)
    cluster.write("n1", put(KEY, "t1"))
    node = cluster.cores["n1"]._node
    theirs, encoded = node.replica.siblings(KEY), node.replica.encoded(KEY)
    others = ("n1", "n2", "n3", "n5")
    for name in others:
        cluster.stop(name)
    cluster.run(700 * MS)
    assert counted(cluster.write("n4", put(KEY, "m1", w=1))) == {"n4": True}
    cluster.cores["n4"]._node.merge(KEY, theirs, encoded)  # as when a ring has moved it here
    assert names(cluster.read("n4", KEY, r=1)) == ["m1", "t1"]
    for name in others:
        cluster.start(name)
    cluster.run(SECOND)
    handed = {event.hint_stored.target for event in cluster.told("hint_stored")}
    assert handed
    assert all(cluster.held(name, KEY) == ["m1", "t1"] for name in handed)


def test_what_a_stand_in_keeps_is_listed_as_such() -> None:
    cluster = without(SLOPPY, "n1")
    cluster.write("n2", put(KEY, "a1"))
    (kept,) = cluster.cores["n4"].contents()
    assert (kept.key, kept.stand_in, list(kept.owners)) == (KEY, True, list(PRIMARIES))
    assert not any(each.stand_in for each in cluster.cores["n2"].contents())


def test_strict_coordinator_keeps_the_hint_and_the_barrier_waits_for_it() -> None:
    cluster = without(STRICT, "n3")
    cluster.write("n1", put(KEY, "a1"))
    number = cluster.send("n1", HINTS_DELIVERED)
    cluster.run(100 * MS)
    assert number not in cluster.replies
    cluster.start("n3")
    cluster.run(300 * MS)
    assert isinstance(cluster.replies[number], control_pb2.CommandResponse)
    assert cluster.held("n3", KEY) == ["a1"]


def test_barrier_says_what_still_waits() -> None:
    cluster = without(STRICT, "n3")
    cluster.write("n1", put(KEY, "a1"))
    missed = cluster.result("n1", HINTS_DELIVERED)
    assert isinstance(missed, Indefinite)
    assert "1 hints still wait at n1" in str(missed)
    assert isinstance(cluster.result("n2", HINTS_DELIVERED), control_pb2.CommandResponse)


def test_a_replica_that_did_not_answer_in_time_is_left_a_hint() -> None:
    """Nobody suspected n3, and the write was acknowledged long before."""
    cluster = Cluster(STRICT)
    cluster.isolate("n3")
    cluster.write("n1", put(KEY, "a1"))
    assert cluster.told("hint_stored") == []
    cluster.run(500 * MS)
    assert [event.hint_stored.target for event in cluster.told("hint_stored")] == ["n3"]


def test_any_takes_a_hint_for_a_write() -> None:
    cluster = without(STRICT, *PRIMARIES)
    written = cluster.write("n4", put(KEY, "a1", level=storage_pb2.CONSISTENCY_ANY))
    assert counted(written) == {"n4": True}
    cluster.start("n2")
    cluster.run(SECOND)
    assert cluster.held("n2", KEY) == ["a1"]
    cluster.start("n1")
    cluster.start("n3")
    cluster.run(SECOND)
    assert cluster.held("n1", KEY) == cluster.held("n3", KEY) == ["a1"]
    assert cluster.disks["n4"].spaces["stand-in"] == {}


def test_any_is_refused_to_reads_and_where_there_are_no_hints() -> None:
    level = storage_pb2.CONSISTENCY_ANY
    assert isinstance(Cluster(STRICT).result("n4", get(KEY, level=level)), InvalidRequest)
    cluster = Cluster(replace(STRICT, hints=Hints.OFF))
    assert isinstance(cluster.result("n4", put(KEY, "a1", level=level)), InvalidRequest)


def test_stand_ins_never_give_a_dot_away_twice() -> None:
    """Although they forget the key each time it was handed over, and after a restart."""
    cluster = without(SLOPPY, *PRIMARIES)
    dots = []
    for round_number in range(1, 5):
        written = cluster.write("n4", put(KEY, f"a{round_number}"))
        dots.append((written.dot.actor, written.dot.counter))
        for node in PRIMARIES:
            cluster.start(node)
        cluster.run(SECOND)
        assert cluster.disks["n4"].spaces["stand-in"] == {}
        for node in PRIMARIES:
            cluster.stop(node)
        if round_number == 2:
            cluster.stop("n4")
            cluster.start("n4")
        cluster.run(700 * MS)
    assert len(set(dots)) == 4
    for node in PRIMARIES:
        cluster.start(node)
    cluster.run(SECOND)
    assert names(cluster.read("n1", KEY, r=3)) == ["a1", "a2", "a3", "a4"]


@pytest.mark.parametrize(("hints", "kept"), [(Hints.BUFFERED, 0), (Hints.DURABLE, 1)])
def test_a_crash_loses_buffered_hints(hints: Hints, kept: int) -> None:
    cluster = without(replace(STRICT, hints=hints), "n3")
    cluster.write("n1", put(KEY, "a1"))
    cluster.stop("n1")
    cluster.start("n1")
    cluster.start("n3")
    cluster.run(SECOND)
    assert len(cluster.held("n3", KEY)) == kept


def test_buffered_hints_are_written_in_time() -> None:
    cluster = without(replace(STRICT, hints=Hints.BUFFERED, hint_flush_ns=SECOND), "n3")
    cluster.write("n1", put(KEY, "a1"))
    assert "hints" not in cluster.disks["n1"].spaces
    cluster.run(1_300 * MS)
    assert len(cluster.disks["n1"].spaces["hints"]) == 1


def test_what_counts_for_the_quorum_is_never_buffered() -> None:
    cluster = without(replace(SLOPPY, hints=Hints.BUFFERED), "n1")
    cluster.write("n2", put(KEY, "a1"))
    assert len(cluster.disks["n4"].spaces["hints"]) == 1


def test_no_hint_is_taken_after_the_window() -> None:
    cluster = without(replace(STRICT, hint_window_ns=2 * SECOND), "n3")
    keys = [f"k{number}" for number in range(300)]
    mine = [key for key in keys if cluster.cores["n1"]._node.ring.preference(key) == PRIMARIES][:4]
    for number, key in enumerate(mine, 1):
        cluster.write("n1", put(key, f"a{number}"))
        cluster.run(SECOND + 50 * MS)
    refused = [event.hint_refused for event in cluster.told("hint_refused", "n1")]
    assert {(each.key, each.reason) for each in refused} == {
        (mine[2], "window"),
        (mine[3], "window"),
    }
    cluster.start("n3")
    cluster.run(SECOND)
    assert [len(cluster.held("n3", key)) for key in mine] == [1, 1, 0, 0]


def test_hints_expire_and_are_counted() -> None:
    cluster = without(replace(STRICT, hint_expiry_ns=2 * SECOND), "n3")
    cluster.write("n1", put(KEY, "a1"))
    cluster.run(2_500 * MS)
    (expired,) = cluster.told("hint_expired")
    assert expired.hint_expired.age_ns >= 2 * SECOND
    assert cluster.counters("n1")["hints_expired"] == 1
    assert cluster.disks["n1"].spaces["hints"] == {}


def test_a_stand_in_without_room_does_not_acknowledge() -> None:
    cluster = without(replace(SLOPPY, hints_max=1, w=3), "n1")
    other = next(
        key
        for key in (f"k{number}" for number in range(300))
        if cluster.cores["n2"]._node.ring.preference(key) == PRIMARIES
        and cluster.cores["n2"]._node.ring.beyond(key)[0] == "n4"
    )
    cluster.write("n2", put(KEY, "a1"))
    assert not isinstance(cluster.result("n2", put(other, "b1")), storage_pb2.PutResponse)
    (refused,) = cluster.told("hint_refused", "n4")
    assert refused.hint_refused.reason == "full"


def test_replay_keeps_to_its_rate() -> None:
    """Keys of 2,000 bytes to n3 at 10,000 bytes/s a source: one of them each 200 ms.

    A page is no more than the rate allows in 50 ms: what clients send waits behind it.
    """
    settings = replace(STRICT, hint_bytes_per_s=40_000)
    cluster = without(settings, "n3")
    ring = cluster.cores["n1"]._node.ring
    keys = [
        key for key in (f"k{number}" for number in range(2_000)) if "n3" in ring.preference(key)
    ]
    for number, key in enumerate(keys[:120], 1):
        body = put(key, f"a{number}")
        body.value = b"x" * 2_000
        cluster.write("n1", body)
    waiting = len(cluster.told("hint_stored", "n1"))
    assert waiting > 40
    cluster.start("n3")
    cluster.run(300 * MS)
    first = cluster.counters("n1")["hints_delivered"]
    assert 0 < first <= 2
    cluster.run(SECOND)
    assert first < cluster.counters("n1")["hints_delivered"] <= first + 5
    cluster.run(20 * SECOND)
    assert cluster.counters("n1")["hints_delivered"] == waiting


def test_replay_waits_while_clients_keep_the_node_busy() -> None:
    cluster = without(replace(STRICT, pending_max=100), "n3")
    cluster.write("n1", put(KEY, "a1"))
    cluster.run(600 * MS)
    cluster.start("n3")
    cluster.cut |= {("n2", "n1"), ("n3", "n1")}
    cluster.deliver()
    cluster.cut.clear()
    for _ in range(30):
        cluster.send("n1", get(KEY, r=2), timeout_ns=400 * MS)
    cluster.queue.clear()
    cluster.run(200 * MS)
    assert cluster.counters("n1")["hint_replays_deferred"] >= 1
    assert cluster.told("hints_delivered") == []
    cluster.run(SECOND)
    assert len(cluster.told("hints_delivered")) == 1


def test_an_overloaded_node_refuses_before_it_does_anything() -> None:
    cluster = Cluster(replace(STRICT, pending_max=100))
    numbers = [cluster.send("n1", put(KEY, f"a{number}")) for number in range(1, 103)]
    refused = [cluster.replies[number] for number in numbers if number in cluster.replies]
    assert len(refused) == 2
    assert all(isinstance(each, Overloaded) for each in refused)
    assert cluster.counters("n1")["overloaded"] == 2


def test_a_deleted_key_is_handed_over_as_its_tombstone() -> None:
    cluster = Cluster(SLOPPY)
    context = cluster.write("n1", put(KEY, "a1", w=3)).context
    cluster.stop("n1")
    cluster.run(700 * MS)
    cluster.result("n2", delete(KEY, "b1", context))
    cluster.start("n1")
    cluster.run(SECOND)
    assert cluster.held("n1", KEY) == ["b1"]
