"""What the Dynamo paper says (DeCandia et al., SOSP 2007), section by section, as far as built.

"acorn" lives on n1, n2 and n3 of five nodes.
"""

from itertools import combinations

import pytest

from leaderless.dynamo import DynamoSettings, Hints, Versions
from replication.errors import QuorumTimeout
from replication.v1 import storage_pb2
from tests.support.dynamo_cluster import FIVE, MS, Cluster, get, name_of, put

KEY = "acorn"
REPLICAS = ("n1", "n2", "n3")


def names(response: storage_pb2.GetResponse) -> list[str]:
    return sorted(name_of(version) for version in response.versions)


def talk(cluster: Cluster, among: tuple[str, ...]) -> None:
    """Deliver what these replicas say to each other, and lose the rest."""
    cluster.deliver(only=lambda sender, to: sender in among and to in among)
    cluster.queue.clear()


def read_among(cluster: Cluster, *among: str) -> storage_pb2.GetResponse:
    """Read at the first of these replicas, of which no other answers."""
    before, cluster.queue = cluster.queue, []
    number = cluster.send(among[0], get(KEY))
    talk(cluster, among)
    cluster.queue = before
    response = cluster.replies[number]
    assert isinstance(response, storage_pb2.GetResponse), response
    return response


def test_section_2_3_always_writeable_while_w_replicas_are_alive() -> None:
    """A write is accepted in any failure of N - W replicas, whichever they are."""
    for w in (1, 2, 3):
        for dead in combinations(REPLICAS, 3 - w):
            cluster = Cluster(DynamoSettings(r=1, w=w))
            for node in dead:
                cluster.stop(node)
            cluster.run(700 * MS)
            response = cluster.write("n5", put(KEY, "a1"))
            assert len(response.served.replicas) == w


def test_section_4_3_replicas_are_the_first_n_distinct_nodes() -> None:
    cluster = Cluster()
    cluster.write("n5", put(KEY, "a1", w=3))
    holding = [node for node in FIVE if cluster.held(node, KEY)]
    assert holding == list(REPLICAS)


def test_section_4_4_figure_3() -> None:
    """D1 and D2 through Sx; D3 through Sy and D4 through Sz from D2; D5 joins the two at Sx."""
    cluster = Cluster()
    context = cluster.write("n1", put(KEY, "d1")).context
    context = cluster.write("n1", put(KEY, "d2", context)).context
    cluster.write("n2", put(KEY, "d3", context))
    cluster.write("n3", put(KEY, "d4", context))
    read = cluster.read("n5", KEY)
    assert names(read) == ["d3", "d4"]
    cluster.write("n1", put(KEY, "d5", read.context))
    assert names(cluster.read("n4", KEY, r=3)) == ["d5"]


def test_section_4_4_add_to_cart_is_never_forgotten() -> None:
    """Two carts that grew apart are both returned, and one write reconciles them."""
    cluster = Cluster()
    context = cluster.write("n1", put(KEY, "a1")).context
    cluster.isolate("n3")
    cluster.write("n1", put(KEY, "b1", context))
    cluster.result("n3", put(KEY, "c1", context))  # times out, and stays on n3
    cluster.heal()
    cluster.run(600 * MS)
    read = cluster.read("n2", KEY, r=3)
    assert names(read) == ["b1", "c1"]
    cluster.write("n2", put(KEY, "a2", read.context))
    assert names(cluster.read("n3", KEY, r=3)) == ["a2"]


@pytest.mark.parametrize(("r", "w"), [(1, 3), (2, 2), (3, 1), (3, 3)])
def test_section_4_5_overlapping_quorums_see_the_last_write(r: int, w: int) -> None:
    """Whichever W replicas have the write, and whichever R answer."""
    for writers in combinations(REPLICAS, w):
        for readers in combinations(REPLICAS, r):
            cluster = Cluster(DynamoSettings(r=r, w=w))
            number = cluster.send(writers[0], put(KEY, "a1"))
            talk(cluster, writers)
            assert isinstance(cluster.replies[number], storage_pb2.PutResponse)
            assert names(read_among(cluster, *readers)) == ["a1"]


def test_section_4_5_without_overlap_reads_may_be_stale() -> None:
    cluster = Cluster(DynamoSettings(r=1, w=1))
    written = cluster.send("n1", put(KEY, "a1"))
    assert isinstance(cluster.replies[written], storage_pb2.PutResponse)
    assert names(read_among(cluster, "n3")) == []
    cluster.deliver()
    assert names(read_among(cluster, "n3")) == ["a1"]


def test_section_4_5_quorum_reads_are_not_linearizable() -> None:
    """A write that failed is seen, unseen and seen again: with neither hints nor repair."""
    cluster = Cluster(DynamoSettings(hints=Hints.OFF))
    cluster.isolate("n1")
    number = cluster.send("n1", put(KEY, "a1"))
    cluster.run(500 * MS)
    assert cluster.replies[number] == QuorumTimeout(1, 2)
    cluster.heal()
    cluster.run(300 * MS)
    seen = [
        names(read_among(cluster, *among)) for among in (("n1", "n2"), ("n2", "n3"), ("n1", "n3"))
    ]
    assert seen == [["a1"], [], ["a1"]]


def test_section_4_8_3_failure_is_a_local_notion() -> None:
    """n1 and n2 cannot reach each other; n3 trusts both. Nobody is told."""
    cluster = Cluster()
    cluster.cut |= {("n1", "n2"), ("n2", "n1")}
    cluster.run(700 * MS)
    assert [event.peer_suspected.peer for event in cluster.told("peer_suspected", "n1")] == ["n2"]
    assert [event.peer_suspected.peer for event in cluster.told("peer_suspected", "n2")] == ["n1"]
    assert len(cluster.told("peer_suspected")) == 2


def test_section_5_read_repair_happens_after_the_reply() -> None:
    cluster = Cluster()
    cluster.isolate("n3")
    cluster.write("n1", put(KEY, "a1"))
    cluster.heal()
    number = cluster.send("n1", get(KEY))
    cluster.deliver(only=lambda a, b: "n3" not in (a, b))
    assert number in cluster.replies
    cluster.deliver()
    assert cluster.held("n3", KEY) == ["a1"]


def test_section_6_timestamp_based_reconciliation_keeps_one() -> None:
    """The application that chooses last write wins keeps the value with the largest timestamp."""
    cluster = Cluster(DynamoSettings(versions=Versions.LWW))
    cluster.write("n1", put(KEY, "a1"))
    cluster.run(10 * MS)
    cluster.write("n2", put(KEY, "b1"))
    assert names(cluster.read("n3", KEY, r=3)) == ["b1"]
