"""What a node keeps over a restart, in which order it lets things out, what it tells of itself.

With five nodes and N=3, "acorn" lives on n1, n2 and n3, in this order of preference.
"""

from dataclasses import replace
from random import Random

import pytest

from leaderless.dynamo import DynamoCore, DynamoSettings, Versions, backend
from replication.errors import (
    ConfigError,
)
from replication.protocol import (
    Effect,
    Membership,
    Observe,
    Persist,
    Reply,
    Request,
    Send,
    load_backend,
)
from replication.v1 import event_pb2, storage_pb2
from tests.support.dynamo_cluster import (
    FIVE,
    MS,
    SECOND,
    Cluster,
    Disk,
    name_of,
    put,
)

KEY = "acorn"
FIRST, OTHER, THIRD = "n1", "n2", "n3"
OUTSIDER, STRANGER = "n4", "n5"


def names(response: storage_pb2.GetResponse) -> list[str]:
    return sorted(name_of(version) for version in response.versions)


def request_of(body: storage_pb2.PutRequest) -> Request:
    return Request(body, SECOND)


# Persistence and restart.


def test_no_answer_leaves_before_what_it_speaks_of_is_durable() -> None:
    """In each list: what asks others, the write of the own copy, answers to nodes and clients."""
    cluster = Cluster()
    for effects in cluster.effects.values():
        effects.clear()
    cluster.write(FIRST, put(KEY, "a1"))
    first = [type(effect) for effect in cluster.effects[FIRST]]
    assert first[:3] == [Send, Send, Persist]
    assert Reply in first
    assert [type(effect) for effect in cluster.effects[THIRD]] == [Persist, Send]
    core = cluster.cores[FIRST]
    request = [put(KEY, "b1", w=1), put("lime", "b2", w=1)]
    for number, body in enumerate(request):
        cluster.perform(FIRST, core.submit(cluster.instant(FIRST), 900 + number, request_of(body)))
    order = [type(effect) for effect in core.flush(cluster.instant(FIRST))]
    ranks = [[Send, Persist, Reply, Observe].index(kind) for kind in order]
    assert ranks == sorted(ranks)
    assert order.count(Persist) == 1


def test_restarted_node_has_its_keys_and_is_a_new_actor() -> None:
    cluster = Cluster()
    before = cluster.write(FIRST, put(KEY, "a1"))
    cluster.stop(FIRST)
    cluster.start(FIRST)
    cluster.deliver()
    assert cluster.held(FIRST, KEY) == ["a1"]
    after = cluster.write(FIRST, put(KEY, "a2", before.context))
    assert after.dot.actor != before.dot.actor
    assert names(cluster.read(THIRD, KEY, r=3)) == ["a2"]


def test_a_write_leaves_before_it_is_synced_here_and_is_answered_after() -> None:
    """All replicas sync at once: a coordinator that synced first would cost a sync more."""
    cluster = Cluster()
    core = cluster.cores[FIRST]
    cluster.perform(FIRST, core.submit(cluster.instant(FIRST), 900, request_of(put(KEY, "a1"))))
    order = [type(effect) for effect in core.flush(cluster.instant(FIRST))]
    assert order == [Send, Send, Persist]


def test_a_dot_that_a_crash_forgot_is_not_given_away_again() -> None:
    """The coordinator dies between sending a write and syncing it."""
    cluster = Cluster()
    core = cluster.cores[FIRST]
    cluster.perform(FIRST, core.submit(cluster.instant(FIRST), 900, request_of(put(KEY, "a1"))))
    effects = core.flush(cluster.instant(FIRST))
    cluster.perform(FIRST, effects[: effects.index(next(filter(is_persist, effects)))])
    cluster.stop(FIRST)
    cluster.deliver()
    cluster.start(FIRST)
    cluster.deliver()
    assert cluster.held(FIRST, KEY) == []
    cluster.write(FIRST, put(KEY, "b1"))
    assert names(cluster.read(THIRD, KEY, r=3)) == ["a1", "b1"]


def is_persist(effect: Effect) -> bool:
    return isinstance(effect, Persist)


def test_wiped_node_is_a_new_actor() -> None:
    """The same node may start with the same random numbers: the clock makes the difference."""
    cluster = Cluster()
    before = cluster.write(FIRST, put(KEY, "a1"))
    wipe(cluster, FIRST)
    after = cluster.write(FIRST, put(KEY, "b1"))
    assert after.dot.actor != before.dot.actor
    assert names(cluster.read(THIRD, KEY, r=3)) == ["a1", "b1"]


def wipe(cluster: Cluster, node: str) -> None:
    """Stop a node, take its disk away, and start it with the random numbers it had before."""
    cluster.stop(node)
    cluster.disks[node] = Disk()
    cluster.run(MS)
    cluster._starts = FIVE.index(node)
    cluster.start(node)
    cluster.deliver()


def test_wiped_node_coordinates_for_others_at_once() -> None:
    cluster = Cluster()
    for number in range(1, 6):
        cluster.stop(FIRST)
        cluster.start(FIRST)
        cluster.deliver()
        cluster.write(OUTSIDER, put(KEY, f"a{number}"))
    wipe(cluster, FIRST)
    assert cluster.write(OUTSIDER, put(KEY, "b1")).served.node == FIRST


def test_operations_of_a_wiped_node_do_not_pass_for_repeated_ones() -> None:
    cluster = Cluster()
    for number in range(1, 6):
        cluster.write(OUTSIDER, put(KEY, f"a{number}"))
    wipe(cluster, OUTSIDER)
    assert cluster.write(OUTSIDER, put(KEY, "b1")).served.node == FIRST


def test_answers_to_an_earlier_life_are_not_counted() -> None:
    """The acknowledgement of an old write must not pass for one of a new write."""
    cluster = Cluster()
    cluster.send(FIRST, put(KEY, "a1"))
    cluster.deliver(only=lambda sender, to: sender == FIRST)
    late = [each for each in cluster.queue if each[1] == FIRST]
    assert len(late) == 2
    cluster.stop(FIRST)
    cluster.start(FIRST)
    cluster.queue.clear()
    number = cluster.send(FIRST, put(KEY, "b1"))
    cluster.queue = late
    cluster.deliver()
    assert number not in cluster.replies


def test_restart_counts_its_lives() -> None:
    cluster = Cluster()
    life = cluster.disks["n1"].get("meta", b"life")
    assert life is not None
    cluster.stop("n1")
    cluster.start("n1")
    assert cluster.disks["n1"].get("meta", b"life") == b"%d" % (int(life) + 1)


def test_store_of_another_node_or_kind_is_refused() -> None:
    cluster = Cluster()
    disk, now = cluster.disks["n1"], cluster.instant("n1")
    stranger = DynamoCore(Membership("n2", FIVE), DynamoSettings(), Random(1))
    with pytest.raises(ConfigError, match="this node is n2"):
        stranger.start(now, disk)
    lww = DynamoCore(Membership("n1", FIVE), DynamoSettings(versions=Versions.LWW), Random(1))
    with pytest.raises(ConfigError, match="versions"):
        lww.start(now, disk)


# Around.


def test_contents_are_in_order_with_owners_and_without_values() -> None:
    cluster = Cluster()
    for number, key in enumerate(("plum", "fig", KEY, "lime"), 1):
        cluster.write("n1", put(key, f"a{number}"))
    for node in FIVE:
        contents = list(cluster.cores[node].contents())
        assert [each.key for each in contents] == sorted(each.key for each in contents)
        for each in contents:
            assert node in each.owners
            assert len(each.owners) == 3
            assert [version.value for version in each.versions] == [b""]
    acorn = [each for each in cluster.cores[FIRST].contents() if each.key == KEY]
    assert list(acorn[0].owners) == [FIRST, OTHER, THIRD]


def test_status_tells_role_keys_and_counters() -> None:
    cluster = Cluster()
    cluster.write(FIRST, put(KEY, "a1"))
    status = cluster.cores[FIRST].status()
    assert (status.node, status.backend, status.role) == (FIRST, "dynamo", event_pb2.ROLE_REPLICA)
    assert status.serving
    assert status.keys == 1
    assert status.counters["writes"] == 1


def test_large_values_do_not_make_one_large_message() -> None:
    cluster = Cluster()
    core = cluster.cores[FIRST]
    for number in range(1, 6):
        body = put(KEY, f"a{number}")
        body.value = b"x" * 400_000
        core.submit(cluster.instant(FIRST), 900 + number, request_of(body))
    sizes = [
        effect.message.ByteSize()
        for effect in core.flush(cluster.instant(FIRST))
        if isinstance(effect, Send)
    ]
    assert len(sizes) == 10
    assert max(sizes) < 2**19


def test_idle_node_beats_once_per_interval_to_each_peer() -> None:
    cluster = Cluster(DynamoSettings(anti_entropy_ns=0))
    cluster.effects["n1"].clear()
    cluster.run(SECOND)
    sends = [effect for effect in cluster.effects["n1"] if isinstance(effect, Send)]
    assert len(sends) == 4 * 10


def test_backends_are_found_by_name() -> None:
    assert load_backend("dynamo") is backend
    broken = load_backend("tests.support.broken_dynamo:acknowledges_after_one")
    assert broken == replace(backend, name=broken.name, create=broken.create)
    assert issubclass(broken.create, DynamoCore)  # type: ignore[arg-type]
