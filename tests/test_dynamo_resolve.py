"""Kinds of versions side by side, merges on read, and keys with too many siblings.

"acorn" lives on n1, n2 and n3 of five nodes.
"""

from dataclasses import replace

import pytest

from leaderless.dynamo import DynamoSettings, Resolve, Versions, backend
from leaderless.dynamo.resolve import resolved_of
from replication.errors import InvalidRequest
from replication.v1 import storage_pb2
from tests.support.dynamo_cluster import SECOND, Cluster, delete, name_of, put

KEY = "acorn"


def names(response: storage_pb2.GetResponse) -> list[str]:
    return sorted(name_of(version) for version in response.versions)


def conflict(settings: DynamoSettings, *values: bytes) -> Cluster:
    """Return a cluster in which each value was written without having read the others."""
    cluster = Cluster(settings)
    for number, value in enumerate(values):
        body = put(KEY, f"{'abc'[number]}1")
        body.value = value
        cluster.write(("n1", "n2", "n3")[number], body)
        cluster.run(SECOND)
    return cluster


@pytest.mark.parametrize(
    ("kind", "left"), [(Versions.LWW, ["a1"]), (Versions.HLC, ["b1"]), (Versions.DVV, ["b1"])]
)
def test_a_fast_clock_wins_over_who_has_read_it_only_without_a_hybrid_clock(
    kind: Versions, left: list[str]
) -> None:
    """The reader's context carries the timestamp: n2 itself never held what it wins over."""
    cluster = Cluster(DynamoSettings(versions=kind, anti_entropy_ns=0))
    cluster.wall_offset_ns["n1"] = 5 * SECOND
    cluster.isolate("n2")
    cluster.write("n1", put(KEY, "a1"))
    context = cluster.read("n1", KEY).context
    cluster.heal()
    cluster.run(SECOND)
    cluster.cut |= {("n1", "n2"), ("n3", "n2")}
    number = cluster.send("n2", put(KEY, "b1", context, w=1))
    assert isinstance(cluster.replies[number], storage_pb2.PutResponse)
    cluster.deliver()
    cluster.heal()
    assert names(cluster.read("n3", KEY, r=3)) == left


def test_concurrent_writes_vanish_under_a_hybrid_clock_too() -> None:
    cluster = Cluster(DynamoSettings(versions=Versions.HLC))
    one, other = cluster.send("n1", put(KEY, "a1")), cluster.send("n2", put(KEY, "b1"))
    cluster.deliver()
    assert {one, other} <= set(cluster.replies)
    assert len(names(cluster.read("n3", KEY, r=3))) == 1
    assert cluster.told("version_dropped")


@pytest.mark.parametrize(("kind", "most"), [(Versions.VERSION_VECTOR, 40), (Versions.DVV, 2)])
def test_two_clients_who_never_read(kind: Versions, most: int) -> None:
    """Each goes on from its own last reply, all through n1."""
    cluster = Cluster(DynamoSettings(versions=kind))
    contexts = {"a": b"", "b": b""}
    for turn in range(40):
        client = "ab"[turn % 2]
        body = put(KEY, f"{client}{turn // 2 + 1}", contexts[client])
        contexts[client] = cluster.write("n1", body).context
    assert len(names(cluster.read("n2", KEY, r=3))) == most


def test_a_key_is_warned_of_and_refused_at_its_limits() -> None:
    settings = DynamoSettings(siblings_warn=3, siblings_max=5)
    cluster = Cluster(settings)
    for number in range(1, 6):
        cluster.write("n1", put(KEY, f"a{number}"))
    warned = [event.siblings_excessive for event in cluster.told("siblings_excessive", "n1")]
    assert [(each.siblings, each.refused) for each in warned] == [(4, False)]
    assert isinstance(cluster.result("n1", put(KEY, "a6")), InvalidRequest)
    refused = cluster.told("siblings_excessive", "n1")[-1].siblings_excessive
    assert (refused.siblings, refused.refused) == (5, True)
    context = cluster.read("n1", KEY, r=3).context
    cluster.write("n1", put(KEY, "a6", context))


@pytest.mark.parametrize(
    ("resolve", "shown", "resolved"),
    [
        (Resolve.SIBLINGS, ["a1", "b1", "c1"], None),
        (Resolve.LWW, ["c1"], b"ham"),
        (Resolve.MAX, ["b1"], b"jam\nbread"),
        (Resolve.UNION, ["a1", "b1", "c1"], b"bread\negg\nham\njam"),
    ],
)
def test_a_read_resolves_as_the_cluster_is_set(
    resolve: Resolve, shown: list[str], resolved: bytes | None
) -> None:
    cluster = conflict(DynamoSettings(resolve=resolve), b"egg\nham", b"jam\nbread", b"ham")
    read = cluster.read("n2", KEY, r=3)
    assert names(read) == shown
    assert (read.resolved if read.HasField("resolved") else None) == resolved
    cluster.write("n3", put(KEY, "c2", read.context))
    assert names(cluster.read("n1", KEY, r=3)) == ["c2"]


def test_a_delete_may_win_by_time_and_never_by_value() -> None:
    for resolve, shown in ((Resolve.LWW, ["b1"]), (Resolve.MAX, ["a1"])):
        cluster = conflict(DynamoSettings(resolve=resolve), b"egg")
        cluster.result("n2", delete(KEY, "b1"))
        assert names(cluster.read("n3", KEY, r=3)) == shown


def test_tombstones_alone_are_left_to_the_reader() -> None:
    tombstone = storage_pb2.Version(tombstone=True)
    for resolve in Resolve:
        assert resolved_of(resolve, [tombstone]) == ([tombstone], None)


def test_one_version_kinds_refuse_merges() -> None:
    for kind in (Versions.LWW, Versions.HLC):
        (problem,) = DynamoSettings(versions=kind, resolve=Resolve.UNION).problems(5)
        assert problem.startswith(f"resolve is union and versions is {kind}")


def test_promises_name_what_each_kind_loses() -> None:
    default = DynamoSettings()
    hybrid = backend.promise(replace(default, versions=Versions.HLC))
    assert "hybrid clock wins" in hybrid
    assert "superseded are kept" in backend.promise(
        replace(default, versions=Versions.VERSION_VECTOR)
    )
    buried = backend.promise(replace(default, resolve=Resolve.MAX))
    assert "buries the others" in buried
    assert "or one that wins over it" in buried
