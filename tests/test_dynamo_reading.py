"""Reads: digests and their cost, hedges, repair before the reply.

"acorn" lives on n1, n2 and n3 of five nodes.
"""

from dataclasses import replace

from google.protobuf.message import Message

from leaderless.dynamo import DynamoSettings, Fanout, Hints, Quorum, ReadRepair
from leaderless.v1 import dynamo_pb2
from replication.errors import QuorumTimeout
from replication.v1 import storage_pb2
from tests.support.dynamo_cluster import MS, SECOND, Cluster, get, name_of, put

KEY = "acorn"
ALONE = DynamoSettings(hints=Hints.OFF, anti_entropy_ns=0)
BLOCKING = replace(ALONE, read_repair=ReadRepair.BLOCKING)
DIGEST = replace(ALONE, read_fanout=Fanout.DIGEST)


def names(response: storage_pb2.GetResponse) -> list[str]:
    return sorted(name_of(version) for version in response.versions)


def written_at(cluster: Cluster, *nodes: str, name: str = "b1") -> None:
    """Let a write reach these replicas only, the first of which coordinates; its writer fails."""
    cluster.send(nodes[0], put(KEY, name, w=3))
    cluster.deliver(only=lambda sender, to: sender in nodes and to in nodes)
    cluster.queue.clear()
    cluster.run(600 * MS)


def read_with(cluster: Cluster, coordinator: str, other: str) -> list[str]:
    """Read with this quorum of two: nothing of the third arrives."""
    number = cluster.send(coordinator, get(KEY, r=2))
    quorum = (coordinator, other)
    cluster.deliver(only=lambda sender, to: sender in quorum and to in quorum)
    cluster.queue.clear()
    response = cluster.replies[number]
    assert isinstance(response, storage_pb2.GetResponse)
    return names(response)


def asked(cluster: Cluster) -> list[tuple[str, bool]]:
    """Return who is about to be asked to tell what it holds, and whether a digest will do."""
    loads = []
    for _, to, message in cluster.queue:
        loads += [(to, load.digest) for load in batch_of(message).loads]
    return loads


def batch_of(message: Message) -> dynamo_pb2.Batch:
    assert isinstance(message, dynamo_pb2.DynamoMessage)
    return message.batch


def test_digest_fanout_asks_r_replicas_only_and_for_a_digest() -> None:
    cluster = Cluster(DIGEST)
    cluster.write("n1", put(KEY, "a1", w=3))
    for r, others in ((1, []), (2, [("n2", True)]), (3, [("n2", True), ("n3", True)])):
        number = cluster.send("n1", get(KEY, r=r))
        assert asked(cluster) == others
        cluster.deliver()
        response = cluster.replies[number]
        assert isinstance(response, storage_pb2.GetResponse)
        assert names(response) == ["a1"]
        assert len(response.served.replicas) == r


def test_digests_save_the_bytes_of_equal_copies() -> None:
    spent = {}
    for fanout in Fanout:
        cluster = Cluster(replace(ALONE, read_fanout=fanout))
        body = put(KEY, "a1", w=3)
        body.value = b"x" * 10_000
        cluster.write("n1", body)
        for _ in range(10):
            cluster.read("n1", KEY, r=2)
        spent[fanout] = cluster.counters("n1")["read_bytes"]
    assert spent[Fanout.DIGEST] == 10 * 8
    assert spent[Fanout.ALL] > 10 * 2 * 10_000


def test_a_digest_that_differs_costs_a_second_round_and_is_counted() -> None:
    cluster = Cluster(DIGEST)
    cluster.write("n1", put(KEY, "a1", w=3))
    written_at(cluster, "n2")
    assert names(cluster.read("n1", KEY, r=2)) == ["a1", "b1"]
    counters = cluster.counters("n1")
    assert (counters["digest_reads"], counters["digest_mismatches"]) == (1, 1)
    assert cluster.held("n1", KEY) == ["a1", "b1"]
    assert cluster.held("n3", KEY) == ["a1"]  # it was not asked: that is the price


def test_digest_fanout_asks_the_living_first() -> None:
    cluster = Cluster(DIGEST)
    cluster.write("n1", put(KEY, "a1", w=3))
    cluster.stop("n2")
    cluster.run(700 * MS)
    cluster.send("n1", get(KEY))
    assert asked(cluster) == [("n3", True)]


def test_a_hedged_read_asks_one_more_replica_after_a_while() -> None:
    cluster = Cluster(replace(DIGEST, hedge_after_ns=30 * MS))
    cluster.write("n1", put(KEY, "a1", w=3))
    cluster.stop("n2")  # and nobody has noticed
    number = cluster.send("n1", get(KEY))
    cluster.run(20 * MS)
    assert number not in cluster.replies
    cluster.run(20 * MS)
    response = cluster.replies[number]
    assert isinstance(response, storage_pb2.GetResponse)
    assert [replica.node for replica in response.served.replicas] == ["n1", "n3"]
    counters = cluster.counters("n1")
    assert (counters["hedged_reads"], counters["hedges_won"]) == (1, 1)


def test_a_read_that_is_answered_in_time_is_not_hedged() -> None:
    cluster = Cluster(replace(DIGEST, hedge_after_ns=30 * MS))
    cluster.read("n1", KEY)
    cluster.run(SECOND)
    assert cluster.counters("n1")["hedged_reads"] == 0


def test_hedges_follow_the_percentile_of_the_reads_lately() -> None:
    cluster = Cluster(replace(DIGEST, hedge_percentile=90.0))
    cluster.write("n1", put(KEY, "a1", w=3))
    slow = {7, 19, 23}
    for number in range(64):
        read = cluster.send("n1", get(KEY))
        if number % 32 in slow:
            cluster.now_ns += 40 * MS
        else:
            cluster.now_ns += 2 * MS
        cluster.deliver()
        assert read in cluster.replies
    cluster.stop("n2")
    read = cluster.send("n1", get(KEY))
    cluster.run(20 * MS)
    assert read in cluster.replies
    assert cluster.counters("n1")["hedges_won"] == 1


def test_blocking_repair_makes_quorum_reads_monotonic() -> None:
    """A write that failed left one copy. Nobody sees it and then sees the older value again."""
    seen = {}
    for repair in (ReadRepair.OFF, ReadRepair.BLOCKING):
        cluster = Cluster(replace(ALONE, read_repair=repair))
        context = cluster.write("n1", put(KEY, "a1", w=3)).context
        cluster.send("n1", put(KEY, "b1", context))
        cluster.queue.clear()
        cluster.run(600 * MS)
        quorums = (("n1", "n2"), ("n2", "n3"), ("n1", "n2"), ("n2", "n3"))
        seen[repair] = [read_with(cluster, *quorum) for quorum in quorums]
    assert seen[ReadRepair.OFF] == [["b1"], ["a1"], ["b1"], ["a1"]]
    assert seen[ReadRepair.BLOCKING] == [["b1"]] * 4


def test_blocking_repair_holds_the_reply_until_r_replicas_have_it() -> None:
    cluster = Cluster(BLOCKING)
    cluster.write("n1", put(KEY, "a1", w=3))
    written_at(cluster, "n1")
    number = cluster.send("n1", get(KEY))
    for expected in (False, True):
        assert number not in cluster.replies
        cluster.deliver(only=lambda sender, to: (sender, to) == ("n1", "n2"))
        cluster.deliver(only=lambda sender, to: (sender, to) == ("n2", "n1"))
        assert (number in cluster.replies) == expected
    assert cluster.counters("n1")["blocking_repairs"] == 1
    assert cluster.held("n2", KEY) == ["a1", "b1"]


def test_a_repair_that_is_not_confirmed_fails_the_read_in_time() -> None:
    cluster = Cluster(BLOCKING)
    cluster.write("n1", put(KEY, "a1", w=3))
    written_at(cluster, "n1")
    number = cluster.send("n1", get(KEY))
    cluster.deliver(only=lambda sender, to: sender == "n1" and to == "n2")
    cluster.deliver(only=lambda sender, to: sender == "n2")
    cluster.isolate("n1")
    cluster.run(600 * MS)
    assert cluster.replies[number] == QuorumTimeout(1, 2)


def test_level_one_repairs_nothing_before_it_replies() -> None:
    cluster = Cluster(BLOCKING)
    cluster.write("n1", put(KEY, "a1", w=3))
    written_at(cluster, "n1")
    number = cluster.send("n2", get(KEY, r=1))
    response = cluster.replies[number]
    assert isinstance(response, storage_pb2.GetResponse)
    assert names(response) == ["a1"]


def test_blocking_repair_reaches_who_stands_in() -> None:
    settings = replace(BLOCKING, quorum=Quorum.SLOPPY, hints=Hints.DURABLE, r=3, hint_bytes_per_s=0)
    cluster = Cluster(settings)
    context = cluster.write("n1", put(KEY, "a1", w=3)).context
    cluster.stop("n1")
    cluster.run(700 * MS)
    read = cluster.read("n2", KEY, r=3)
    assert names(read) == ["a1"]
    assert {replica.node: replica.fallback for replica in read.served.replicas} == {
        "n2": False,
        "n3": False,
        "n4": True,
    }
    cluster.write("n2", put(KEY, "a2", context))
    cluster.start("n1")
    cluster.run(SECOND)
    assert cluster.held("n1", KEY) == ["a2"]


def test_repairs_are_shed_when_too_many_are_under_way() -> None:
    cluster = Cluster(replace(ALONE, repairs_max=1))
    ring = cluster.cores["n1"]._node.ring
    keys = [f"k{number}" for number in range(300)]
    keys = [key for key in keys if ring.preference(key) == ("n1", "n2", "n3")][:3]
    cluster.isolate("n3")
    for number, key in enumerate(keys, 1):
        cluster.write("n1", put(key, f"a{number}"))
    cluster.heal()
    cluster.run(600 * MS)
    for key in keys:
        cluster.send("n1", get(key))
    cluster.deliver()
    counters = cluster.counters("n1")
    assert (counters["read_repairs_sent"], counters["read_repairs_shed"]) == (1, 2)
    assert counters["versions_healed"] == 1
    assert sum(bool(cluster.held("n3", key)) for key in keys) == 1
