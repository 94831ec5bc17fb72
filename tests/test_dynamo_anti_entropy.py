"""Replicas become equal by comparing their trees alone: read repair is off in every test here."""

from dataclasses import replace
from random import Random

import pytest

from leaderless.dynamo import DynamoSettings, ReadRepair, Versions
from leaderless.dynamo.merkle import FIRST_LEAF, NODES, MerkleForest, MerkleTree
from leaderless.dynamo.vector import NOTHING, VersionVector
from leaderless.dynamo.versions import Version, encode, single_write
from replication.errors import InvalidRequest, QuorumTimeout
from replication.protocol import Send
from replication.v1 import control_pb2, storage_pb2
from tests.support.dynamo_cluster import MS, SECOND, Cluster, delete, put

KEY = "acorn"  # with five nodes on n1, n2 and n3
SETTINGS = DynamoSettings(
    read_repair=ReadRepair.OFF, anti_entropy_ns=200 * MS, suspect_after_ns=300 * MS
)
REPAIRED = control_pb2.CommandRequest(
    barrier=control_pb2.AwaitBarrier(kind=control_pb2.BARRIER_REPAIRED)
)


# The tree.


def test_tree_kept_up_is_the_tree_built_anew() -> None:
    rng = Random(5)
    kept, held = MerkleForest(4), {}
    for _ in range(3000):
        key = f"k{rng.randrange(400)}"
        held[key] = rng.randbytes(rng.choice((0, 8)))
        kept.update(key, held[key])
    built = MerkleForest(4)
    built.load({key: encoded for key, encoded in held.items() if encoded})
    for partition in range(4):
        one, two = kept.tree(partition), built.tree(partition)
        assert one.root == two.root != 0
        for node in range(FIRST_LEAF):
            assert one.digests_below(node) == two.digests_below(node)
        assert [one.keys_of(leaf) for leaf in range(FIRST_LEAF, NODES)] == [
            two.keys_of(leaf) for leaf in range(FIRST_LEAF, NODES)
        ]
    assert sum(len(kept.tree(each)) for each in range(4)) == sum(map(bool, held.values()))


def test_descent_ends_at_exactly_the_leaves_that_differ() -> None:
    rng = Random(6)
    one, two = MerkleTree(), MerkleTree()
    changed = set()
    for number in range(2000):
        leaf, digest = rng.randrange(FIRST_LEAF, NODES), rng.getrandbits(64)
        one.update(leaf, f"k{number}", digest)
        differs = rng.random() < 0.01
        two.update(leaf, f"k{number}", rng.getrandbits(64) if differs else digest)
        changed |= {leaf} if differs else set()
    found, level = set(), [0]
    while level:
        below = [child for node in level for child in one.differing(node, two.digests_below(node))]
        found |= {node for node in below if node >= FIRST_LEAF}
        level = [node for node in below if node < FIRST_LEAF]
    assert found == changed


# How much it moves.


def loaded(keys: int, stale: int) -> Cluster:
    """Return two replicas of ``keys`` keys, the second of which lacks ``stale`` new versions."""
    settings = DynamoSettings(
        n=2, r=1, w=1, read_repair=ReadRepair.OFF, anti_entropy_bytes_per_s=100_000_000
    )
    cluster = Cluster(settings, members=("n1", "n2"))
    old = Version(value=b"x" * 100, dot=storage_pb2.Dot(actor="n1#1", counter=1))
    new = Version(value=b"y" * 100, dot=storage_pb2.Dot(actor="n1#1", counter=2))
    for version in (old, new):
        version.write_id.client_id, version.write_id.sequence = "a", version.dot.counter
    before = encode(single_write(old, NOTHING))
    after = encode(single_write(new, VersionVector({"n1#1": 1})))
    for node in ("n1", "n2"):
        cluster.stop(node)
        held = cluster.disks[node].spaces.setdefault("kv", {})
        for number in range(keys):
            fresh = node == "n1" and number < stale
            held[b"user-%06d" % number] = after if fresh else before
    cluster.start("n1")
    cluster.start("n2")
    return cluster


def total(cluster: Cluster, name: str) -> int:
    return sum(cluster.counters(node)[name] for node in cluster.members)


@pytest.mark.parametrize("stale", [1, 1000])
def test_exchange_moves_little_more_than_what_differs(stale: int) -> None:
    cluster = loaded(100_000, stale)
    cluster.run(4 * SECOND)
    sent = total(cluster, "merkle_bytes_sent")
    on_the_wire = sum(
        effect.message.anti_entropy.ByteSize()  # type: ignore[attr-defined]
        for effects in cluster.effects.values()
        for effect in effects
        if isinstance(effect, Send)
    )
    assert sent == on_the_wire
    assert total(cluster, "merkle_keys_synced") == stale
    differing = total(cluster, "merkle_bytes_differing")
    assert differing > stale * 100
    assert sent < (32 * 1024 if stale == 1 else 3 * differing)


def test_throttle_spreads_the_bytes_over_time() -> None:
    cluster = Cluster(
        DynamoSettings(
            read_repair=ReadRepair.OFF, anti_entropy_ns=200 * MS, anti_entropy_bytes_per_s=4000
        )
    )
    cluster.run(10 * SECOND)
    for node in cluster.members:
        assert 0 < cluster.counters(node)["merkle_bytes_sent"] < 10 * 4000 + 4000


# What it repairs.


def stale_third(cluster: Cluster, writes: int = 20) -> None:
    """Write while n3 is cut off, then heal."""
    cluster.isolate("n3")
    for number in range(1, writes + 1):
        cluster.write("n1", put(f"{KEY}", f"a{number}", w=1))
    cluster.heal()


def test_replica_that_missed_writes_gets_them() -> None:
    cluster = Cluster(SETTINGS)
    stale_third(cluster, 3)
    assert cluster.held("n3", KEY) == []
    cluster.run(2 * SECOND)
    assert cluster.held("n3", KEY) == ["a1", "a2", "a3"]
    (synced,) = cluster.told("replica_synced", "n3")
    assert [each.sequence for each in synced.replica_synced.write_ids] == [1, 2, 3]
    assert cluster.told("ranges_compared")


def test_siblings_of_both_sides_survive() -> None:
    cluster = Cluster(SETTINGS)
    cluster.isolate("n3")
    cluster.write("n1", put(KEY, "a1", w=1))
    cluster.write("n3", put(KEY, "b1", w=1))
    cluster.heal()
    cluster.run(2 * SECOND)
    for node in ("n1", "n2", "n3"):
        assert cluster.held(node, KEY) == ["a1", "b1"]


def test_node_that_lost_its_disk_gets_everything_back() -> None:
    cluster = Cluster(SETTINGS)
    for number in range(1, 31):
        cluster.write("n1", put(f"k{number}", f"a{number}", w=3))
    cluster.result("n1", delete("k7", "a31", cluster.read("n1", "k7").context))
    before = {each.key: len(each.versions) for each in cluster.cores["n2"].contents()}
    cluster.stop("n2")
    cluster.disks["n2"].spaces.clear()
    cluster.start("n2")
    cluster.run(3 * SECOND)
    assert {each.key: len(each.versions) for each in cluster.cores["n2"].contents()} == before


def test_write_under_way_is_doubted_and_moves_nothing() -> None:
    """A difference counts if it is still there at the second look."""
    cluster = Cluster(SETTINGS)
    cluster.cut = {("n1", "n2"), ("n1", "n3"), ("n1", "n4"), ("n1", "n5")}
    cluster.send("n1", put(KEY, "a1", w=1))
    late = [each for each in cluster.queue if each[0] == "n1"]
    cluster.queue.clear()
    cluster.cut.clear()
    while not total(cluster, "merkle_keys_doubted"):
        cluster.run(10 * MS)
    cluster.queue += late
    cluster.deliver()
    cluster.run(SECOND)
    assert total(cluster, "merkle_keys_synced") == 0
    assert total(cluster, "merkle_keys_differing") == 0
    assert total(cluster, "merkle_keys_settled") > 0


# What others may rely on.


def test_barrier_is_answered_when_all_replicas_are_equal() -> None:
    cluster = Cluster(SETTINGS)
    stale_third(cluster)
    response = cluster.result("n5", REPAIRED)
    assert isinstance(response, control_pb2.CommandResponse)
    assert cluster.held("n3", KEY) == cluster.held("n1", KEY)


def test_barrier_is_not_answered_while_a_replica_is_away() -> None:
    cluster = Cluster(SETTINGS)
    stale_third(cluster)
    cluster.isolate("n3")
    assert isinstance(cluster.result("n1", REPAIRED), QuorumTimeout)


def test_barrier_needs_anti_entropy() -> None:
    cluster = Cluster(DynamoSettings(anti_entropy_ns=0))
    assert isinstance(cluster.result("n1", REPAIRED), InvalidRequest)


def test_last_write_wins_agrees_whatever_the_vectors_say() -> None:
    """A vector may cover a version that the replica has never held, and that wins elsewhere."""
    cluster = Cluster(replace(SETTINGS, versions=Versions.LWW))
    cluster.wall_offset_ns["n1"] = 10 * SECOND
    cluster.isolate("n1")
    seen = cluster.result("n1", put(KEY, "a1", w=1))
    assert isinstance(seen, storage_pb2.PutResponse)
    cluster.write("n2", put(KEY, "b1", seen.context, w=1))
    cluster.heal()
    cluster.run(2 * SECOND)
    for node in ("n1", "n2", "n3"):
        assert cluster.held(node, KEY) == ["a1"]
