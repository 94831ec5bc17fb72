"""Who serves, how many replicas are waited for, what is refused and when it is given up.

With five nodes and N=3, "acorn" lives on n1, n2 and n3, in this order of preference.
"""

import pytest

from leaderless.dynamo import DynamoSettings
from leaderless.dynamo.ring import make_ring
from leaderless.dynamo.settings import CompareAndSet
from replication.errors import (
    InvalidRequest,
    Overloaded,
    QuorumTimeout,
    QuorumUnreachable,
)
from replication.protocol import Persist, Send
from replication.v1 import storage_pb2
from tests.support.dynamo_cluster import (
    FIVE,
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


# Who serves.


def test_any_node_serves_any_key() -> None:
    cluster = Cluster()
    for number, node in enumerate(FIVE, 1):
        context = cluster.read(node, KEY).context
        response = cluster.write(node, put(KEY, f"a{number}", context))
        assert response.served.node in (FIRST, OTHER, THIRD)
        assert names(cluster.read(node, KEY)) == [f"a{number}"]


def test_replica_that_is_asked_coordinates() -> None:
    cluster = Cluster()
    response = cluster.write(THIRD, put(KEY, "a1"))
    assert response.served.node == THIRD
    assert response.dot.actor.startswith(f"{THIRD}#")
    assert cluster.counters(THIRD)["writes"] == 1


def test_outsider_forwards_to_the_first_replica_that_is_alive() -> None:
    cluster = Cluster()
    assert cluster.write(OUTSIDER, put(KEY, "a1")).served.node == FIRST
    cluster.stop(FIRST)
    cluster.run(700 * MS)
    assert cluster.read(OUTSIDER, KEY).served.node == OTHER
    assert cluster.counters(OUTSIDER)["forwarded"] == 2
    assert cluster.counters(OUTSIDER)["reads"] == 0


def test_forwarded_delete_and_errors_come_back_as_they_are() -> None:
    cluster = Cluster()
    deleted = cluster.result(OUTSIDER, delete(KEY, "a1"))
    assert isinstance(deleted, storage_pb2.DeleteResponse)
    assert deleted.served.node == FIRST
    bad = cluster.result(OUTSIDER, put(KEY, "a2", context=b"made up"))
    assert isinstance(bad, InvalidRequest)
    assert bad.message == "the context is not one that a read or write returned"
    cluster.isolate(FIRST, OUTSIDER)
    cluster.run(700 * MS)
    assert cluster.result(OUTSIDER, put(KEY, "a3")) == QuorumUnreachable(2, 1)


def test_response_names_the_replicas_that_were_counted() -> None:
    cluster = Cluster()
    one = cluster.write(FIRST, put(KEY, "a1", w=1))
    assert [replica.node for replica in one.served.replicas] == [FIRST]
    three = cluster.read(FIRST, KEY, r=3)
    assert sorted(replica.node for replica in three.served.replicas) == ["n1", "n2", "n3"]
    assert not any(replica.fallback for replica in three.served.replicas)


def test_repeated_forward_is_coordinated_once() -> None:
    cluster = Cluster()
    cluster.send(OUTSIDER, put(KEY, "a1"))
    ((sender, to, message),) = [each for each in cluster.queue if each[0] == OUTSIDER]
    cluster.deliver()
    context = cluster.read(FIRST, KEY).context
    cluster.write(FIRST, put(KEY, "b1", context))
    cluster.queue.append((sender, to, message))
    cluster.deliver()
    assert names(cluster.read(FIRST, KEY)) == ["b1"]


def test_forward_to_an_earlier_life_is_ignored() -> None:
    cluster = Cluster()
    cluster.send(OUTSIDER, put(KEY, "a1"))
    late = [each for each in cluster.queue if each[0] == OUTSIDER]
    cluster.stop(FIRST)
    cluster.start(FIRST)
    cluster.queue += late
    cluster.deliver()
    assert names(cluster.read(FIRST, KEY)) == []


def test_outsider_refuses_while_it_has_heard_of_no_replica() -> None:
    cluster = Cluster()
    cluster.stop(OUTSIDER)
    cluster.isolate(OUTSIDER)
    cluster.start(OUTSIDER)
    assert cluster.result(OUTSIDER, put(KEY, "a1")) == QuorumUnreachable(2, 0)


def test_cluster_of_one_serves() -> None:
    cluster = Cluster(DynamoSettings(n=1, r=1, w=1), members=("n1",))
    context = cluster.write("n1", put(KEY, "a1")).context
    cluster.run(SECOND)
    cluster.write("n1", put(KEY, "a2", context))
    assert names(cluster.read("n1", KEY)) == ["a2"]


# How many replicas.


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (storage_pb2.CONSISTENCY_UNSPECIFIED, 2),
        (storage_pb2.CONSISTENCY_ONE, 1),
        (storage_pb2.CONSISTENCY_QUORUM, 2),
        (storage_pb2.CONSISTENCY_ALL, 3),
    ],
)
def test_level_says_how_many_replicas_are_waited_for(
    level: storage_pb2.Consistency.ValueType, expected: int
) -> None:
    cluster = Cluster()
    written = cluster.result(FIRST, put(KEY, "a1", level=level))
    assert isinstance(written, storage_pb2.PutResponse)
    assert len(written.served.replicas) == expected
    read = cluster.result(FIRST, get(KEY, level=level))
    assert isinstance(read, storage_pb2.GetResponse)
    assert len(read.served.replicas) == expected


def test_explicit_number_comes_before_the_level() -> None:
    cluster = Cluster()
    all_but = put(KEY, "a1", w=1, level=storage_pb2.CONSISTENCY_ALL)
    assert len(cluster.write(FIRST, all_but).served.replicas) == 1
    assert cluster.read(FIRST, KEY, r=3).served.replicas[2].node


@pytest.mark.parametrize("node", [FIRST, OUTSIDER])
def test_more_replicas_than_n_are_refused_with_the_number(node: str) -> None:
    cluster = Cluster()
    result = cluster.result(node, put(KEY, "a1", w=4))
    assert isinstance(result, InvalidRequest)
    assert result.message == "w is 4, expected 1 to n = 3"
    assert isinstance(cluster.result(node, get(KEY, r=4)), InvalidRequest)


def test_write_is_acknowledged_by_w_replicas_and_not_before() -> None:
    cluster = Cluster()
    number = cluster.send(FIRST, put(KEY, "a1"))
    assert number not in cluster.replies
    cluster.deliver(only=lambda sender, to: {sender, to} == {FIRST, THIRD})
    response = cluster.replies[number]
    assert isinstance(response, storage_pb2.PutResponse)
    assert [replica.node for replica in response.served.replicas] == [FIRST, THIRD]


def test_repeated_acknowledgement_counts_once() -> None:
    cluster = Cluster(DynamoSettings(w=3))
    number = cluster.send(FIRST, put(KEY, "a1"))
    cluster.deliver(only=lambda sender, to: sender == FIRST and to == THIRD)
    (answer,) = [each for each in cluster.queue if each[0] == THIRD]
    cluster.queue += [answer, answer]
    cluster.deliver(only=lambda sender, to: sender == THIRD)
    assert number not in cluster.replies


# Refusals and timeouts.


def test_too_few_alive_is_refused_before_anything_is_stored_or_sent() -> None:
    cluster = Cluster()
    cluster.stop(OTHER)
    cluster.stop(THIRD)
    cluster.run(700 * MS)
    cluster.effects[FIRST].clear()
    number = cluster.send(FIRST, put(KEY, "a1"))
    assert cluster.replies[number] == QuorumUnreachable(2, 1)
    assert not any(isinstance(effect, Persist | Send) for effect in cluster.effects[FIRST])
    assert cluster.result(FIRST, get(KEY)) == QuorumUnreachable(2, 1)
    assert cluster.counters(FIRST)["quorum_unreachable"] == 2
    assert names(cluster.read(FIRST, KEY, r=1)) == []


def test_fallback_nodes_do_not_count_for_a_strict_quorum() -> None:
    """n4 and n5 are alive and reachable, and of no help to the key."""
    cluster = Cluster()
    cluster.isolate(FIRST, OUTSIDER, STRANGER)
    cluster.run(700 * MS)
    for node in (FIRST, OUTSIDER, STRANGER):
        assert cluster.result(node, put(KEY, "a1")) == QuorumUnreachable(2, 1)


def test_each_key_is_writable_on_the_side_that_has_w_of_its_replicas() -> None:
    cluster = Cluster()
    cluster.isolate("n1", "n2")
    cluster.run(700 * MS)
    for number in range(1, 30):
        key = f"key-{number}"
        owners = set(make_ring(FIVE, 64, 3).preference(key))
        left = cluster.result("n2", put(key, f"a{number}"))
        right = cluster.result("n5", put(key, f"b{number}"))
        left_has_two = len(owners & {"n1", "n2"}) >= 2
        assert isinstance(left, storage_pb2.PutResponse) == left_has_two
        assert isinstance(right, storage_pb2.PutResponse) == (not left_has_two)


def test_silent_replicas_that_are_not_suspected_yet_cost_a_timeout() -> None:
    """The write stays where it arrived: unknown is the honest word for it."""
    cluster = Cluster()
    cluster.isolate(FIRST)
    number = cluster.send(FIRST, put(KEY, "a1"))
    cluster.run(490 * MS)
    assert number not in cluster.replies
    cluster.run(20 * MS)
    assert cluster.replies[number] == QuorumTimeout(1, 2)
    assert cluster.held(FIRST, KEY) == ["a1"]
    assert cluster.counters(FIRST)["quorum_timeouts"] == 1
    assert cluster.counters(FIRST)["writes_incomplete"] == 1


def test_sooner_deadline_of_the_client_comes_first() -> None:
    cluster = Cluster()
    cluster.isolate(FIRST)
    number = cluster.send(FIRST, get(KEY), timeout_ns=100 * MS)
    cluster.run(100 * MS)
    assert cluster.replies[number] == QuorumTimeout(1, 2)


def test_deadline_that_has_passed_is_refused() -> None:
    cluster = Cluster()
    cluster.run(SECOND)
    number = cluster.send(FIRST, put(KEY, "a1"), timeout_ns=0)
    assert isinstance(cluster.replies[number], Overloaded)
    assert cluster.held(FIRST, KEY) == []


def test_coordinators_own_word_arrives_before_the_forwarder_gives_up() -> None:
    cluster = Cluster()
    cluster.isolate(FIRST, OUTSIDER)
    number = cluster.send(OUTSIDER, put(KEY, "a1"))
    cluster.run(600 * MS)
    assert cluster.replies[number] == QuorumTimeout(1, 2)


def test_forwarder_gives_up_on_a_silent_coordinator() -> None:
    cluster = Cluster()
    cluster.isolate(OUTSIDER)
    number = cluster.send(OUTSIDER, put(KEY, "a1"))
    cluster.run(600 * MS)
    assert cluster.replies[number] == QuorumTimeout(0, 2)


def test_answer_after_the_deadline_is_not_a_second_reply() -> None:
    cluster = Cluster()
    number = cluster.send(FIRST, get(KEY))
    held_back, cluster.queue = cluster.queue, []
    cluster.run(600 * MS)
    cluster.queue += held_back
    cluster.deliver()
    assert cluster.replies[number] == QuorumTimeout(1, 2)


def test_compare_and_set_can_be_refused() -> None:
    cluster = Cluster(DynamoSettings(compare_and_set=CompareAndSet.REFUSED))
    body = storage_pb2.CompareAndSetRequest(key=KEY, value=b"x", write_id=write_id("a1"))
    assert isinstance(cluster.result(FIRST, body), InvalidRequest)
    assert isinstance(cluster.result(OUTSIDER, body), InvalidRequest)


def test_key_full_of_siblings_refuses_blind_writes_only() -> None:
    cluster = Cluster(DynamoSettings(siblings_max=3))
    for number in (1, 2, 3):
        cluster.write(FIRST, put(KEY, f"a{number}"))
    refused = cluster.result(FIRST, put(KEY, "a4"))
    assert isinstance(refused, InvalidRequest)
    assert "read it and write with the context" in refused.message
    read = cluster.read(FIRST, KEY)
    assert names(read) == ["a1", "a2", "a3"]
    cluster.write(FIRST, put(KEY, "a5", read.context))
    assert names(cluster.read(FIRST, KEY)) == ["a5"]
