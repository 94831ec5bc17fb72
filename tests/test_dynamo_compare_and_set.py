"""Compare-and-set by Paxos per key: one order, whoever proposes, crashes or comes too late.

With five nodes "acorn" lives on n1, n2 and n3.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from leaderless.dynamo import DynamoCore, DynamoSettings, Versions
from leaderless.dynamo.paxos import Acceptors
from leaderless.v1 import dynamo_pb2
from replication.errors import (
    Conflict,
    InvalidRequest,
    OperationError,
    Overloaded,
    QuorumTimeout,
    QuorumUnreachable,
)
from replication.protocol import Effect, Instant, NodeId, Saved, Send
from replication.v1 import storage_pb2
from tests.support.cas_world import CasWorld, compare_and_set, get_serial
from tests.support.dynamo_cluster import MS, SECOND, Cluster, put

KEY = "acorn"
SETTINGS = DynamoSettings(anti_entropy_ns=0)


def swap(
    cluster: Cluster, node: str, client: str, sequence: int, expected: str | None, value: str
) -> object:
    return cluster.result(node, compare_and_set(client, sequence, expected, value))


def serial(cluster: Cluster, node: str = "n5") -> list[str]:
    response = cluster.result(node, get_serial())
    assert isinstance(response, storage_pb2.GetResponse), response
    return [version.value.decode() for version in response.versions]


@contextmanager
def only(cluster: Cluster, *steps: str) -> Iterator[None]:
    """Lose every message of Paxos but those of these steps."""
    perform = cluster.perform

    def perform_some(node: NodeId, effects: list[Effect]) -> None:
        perform(node, [each for each in effects if not isinstance(each, Send) or passes(each)])

    def passes(send: Send) -> bool:
        assert isinstance(send.message, dynamo_pb2.DynamoMessage)
        step = send.message.paxos.WhichOneof("step")
        return step is None or step in steps

    cluster.perform = perform_some  # type: ignore[method-assign]
    yield
    cluster.perform = perform  # type: ignore[method-assign]


# What it does.


def test_condition_decides_whichever_node_is_asked() -> None:
    cluster = Cluster(SETTINGS)
    assert isinstance(swap(cluster, "n4", "a", 1, None, "one"), storage_pb2.CompareAndSetResponse)
    assert swap(cluster, "n1", "b", 1, None, "two") == Conflict("the key exists")
    assert swap(cluster, "n2", "b", 2, "zero", "two") == Conflict("")
    assert isinstance(swap(cluster, "n3", "b", 3, "one", "two"), storage_pb2.CompareAndSetResponse)
    assert serial(cluster) == ["two"]
    # A quorum of plain reads sees it, too.
    assert [each.value for each in cluster.read("n5", KEY).versions] == [b"two"]


def test_majority_is_enough_and_less_is_refused() -> None:
    cluster = Cluster(SETTINGS)
    cluster.stop("n3")
    assert isinstance(swap(cluster, "n1", "a", 1, None, "one"), storage_pb2.CompareAndSetResponse)
    cluster.stop("n2")
    cluster.run(SECOND)
    assert swap(cluster, "n1", "a", 2, "one", "two") == QuorumUnreachable(2, 1)


def test_a_clock_that_is_behind_loses_nothing() -> None:
    """The ballots order the writes; last-write-wins must not undo that."""
    cluster = Cluster(DynamoSettings(versions=Versions.LWW, anti_entropy_ns=0))
    cluster.wall_offset_ns["n1"] = 5 * SECOND
    swap(cluster, "n1", "a", 1, None, "one")
    swap(cluster, "n2", "b", 1, "one", "two")
    assert serial(cluster) == ["two"]
    assert [each.value for each in cluster.read("n5", KEY).versions] == [b"two"]


def test_retry_of_a_write_that_was_replaced_takes_effect_once() -> None:
    cluster = Cluster(SETTINGS)
    swap(cluster, "n1", "a", 1, None, "one")
    swap(cluster, "n1", "b", 1, "one", "two")
    swap(cluster, "n1", "b", 2, "two", "one")
    assert isinstance(swap(cluster, "n2", "a", 1, None, "one"), storage_pb2.CompareAndSetResponse)
    assert serial(cluster) == ["one"]
    late = swap(cluster, "n2", "b", 1, "one", "two")
    assert isinstance(late, OperationError)
    assert not late.definite
    assert serial(cluster) == ["one"]


# What was left half done.


def test_outcome_is_unknown_when_the_accepted_are_not_heard() -> None:
    """Some replica may have accepted it: whoever comes next may complete it."""
    cluster = Cluster(SETTINGS)
    with only(cluster, "prepare", "promise", "propose"):
        lost = swap(cluster, "n1", "a", 1, None, "one")
    assert isinstance(lost, QuorumTimeout)
    assert serial(cluster, "n2") == ["one"]
    assert len(cluster.told("proposal_recovered")) == 1
    # The client tries again, and is told that it was done.
    assert isinstance(swap(cluster, "n3", "a", 1, None, "one"), storage_pb2.CompareAndSetResponse)


def test_nothing_was_done_when_nothing_was_proposed() -> None:
    cluster = Cluster(SETTINGS)
    with only(cluster, "prepare"):
        refused = swap(cluster, "n1", "a", 1, None, "one")
    assert isinstance(refused, Overloaded)
    assert serial(cluster) == []


def test_chosen_write_is_acknowledged_although_nobody_confirms_the_commit() -> None:
    cluster = Cluster(SETTINGS)
    with only(cluster, "prepare", "promise", "propose", "accepted"):
        done = swap(cluster, "n1", "a", 1, None, "one")
    assert isinstance(done, storage_pb2.CompareAndSetResponse)
    cluster.stop("n1")
    cluster.run(SECOND)
    assert serial(cluster, "n2") == ["one"]


def test_acceptor_remembers_across_a_restart() -> None:
    cluster = Cluster(SETTINGS)
    with only(cluster, "prepare", "promise", "propose"):
        swap(cluster, "n1", "a", 1, None, "one")
    for node in ("n1", "n2", "n3"):
        cluster.stop(node)
    for node in ("n2", "n3"):
        cluster.start(node)
    cluster.run(100 * MS)
    assert serial(cluster, "n2") == ["one"]


def test_acceptor_refuses_what_is_below_its_promise() -> None:
    held: dict[str, bytes] = {}
    acceptors = Acceptors(lambda key: held.get(key, b""), held.__setitem__)
    low, high = (dynamo_pb2.Ballot(round=each, actor="n1#1") for each in (1, 2))
    assert acceptors.prepare(KEY, high).verdict.granted
    assert not acceptors.prepare(KEY, low).verdict.granted
    assert not acceptors.prepare(KEY, high).verdict.granted
    refused = acceptors.propose(KEY, dynamo_pb2.Proposal(ballot=low, siblings=b"x"))
    assert not refused.granted
    assert refused.promised == high
    assert acceptors.propose(KEY, dynamo_pb2.Proposal(ballot=high, siblings=b"y")).granted
    acceptors.commit(KEY, dynamo_pb2.Proposal(ballot=high, siblings=b"y"))
    acceptors.commit(KEY, dynamo_pb2.Proposal(ballot=low, siblings=b"x"))
    assert held[KEY] == b"y"


# Contention, and mixing.


def test_of_many_proposers_each_gets_through() -> None:
    """They back off at random; who lost to another value is told of a conflict."""
    cluster = Cluster(SETTINGS)
    numbers = [
        cluster.send("n1" if number % 2 else "n2", compare_and_set(f"c{number}", 1, None, "x"))
        for number in range(6)
    ]
    cluster.run(SECOND)
    results = [cluster.replies[number] for number in numbers]
    done = [each for each in results if isinstance(each, storage_pb2.CompareAndSetResponse)]
    assert len(done) == 1
    assert all(isinstance(each, Conflict) for each in results if each not in done)
    assert sum(cluster.counters(node)["ballots_lost"] for node in ("n1", "n2", "n3")) > 0


def test_mixing_plain_and_conditional_writes_is_told_once() -> None:
    cluster = Cluster(SETTINGS)
    swap(cluster, "n1", "a", 1, None, "one")
    assert not cluster.told("writes_mixed")
    for number in (1, 2):
        cluster.write("n1", put(KEY, f"b{number}"))
    (mixed,) = cluster.told("writes_mixed")
    assert mixed.writes_mixed.key == KEY
    other = Cluster(SETTINGS)
    other.write("n1", put(KEY, "b1"))
    swap(other, "n2", "a", 1, "b1", "one")
    assert len(other.told("writes_mixed")) == 1


def test_siblings_are_nothing_to_compare_with() -> None:
    cluster = Cluster(SETTINGS)
    cluster.write("n1", put(KEY, "a1"))
    cluster.write("n2", put(KEY, "b1"))
    refused = swap(cluster, "n1", "c", 1, "a1", "one")
    assert isinstance(refused, Conflict)
    assert "2 siblings" in refused.message


def test_linearizable_is_a_level_of_reads_only() -> None:
    cluster = Cluster(SETTINGS)
    body = put(KEY, "a1", level=storage_pb2.CONSISTENCY_LINEARIZABLE)
    assert isinstance(cluster.result("n1", body), InvalidRequest)


# Seeds.


def test_every_seed_is_linearizable() -> None:
    worlds = [CasWorld(seed) for seed in range(30)]
    for world in worlds:
        world.run()
    assert sum(world.outcomes["ok"] for world in worlds) > 30 * 30
    assert sum(world.outcomes["unknown"] for world in worlds) > 20
    assert sum(world.told.count("proposal_recovered") for world in worlds) > 20


class _Forgetful(DynamoCore):
    """Its acceptors promise to everybody and accept everything."""

    def start(self, now: Instant, saved: Saved) -> list[Effect]:
        effects = super().start(now, saved)
        acceptors = self._acceptors
        prepare, propose = acceptors.prepare, acceptors.propose

        def forget(key: str) -> None:
            if acceptors.knows(key):
                acceptors._records[key].ClearField("promised")

        def prepare_anew(key: str, ballot: dynamo_pb2.Ballot) -> dynamo_pb2.Promise:
            forget(key)
            return prepare(key, ballot)

        def propose_anew(key: str, proposal: dynamo_pb2.Proposal) -> dynamo_pb2.Verdict:
            forget(key)
            return propose(key, proposal)

        acceptors.prepare, acceptors.propose = prepare_anew, propose_anew  # type: ignore[method-assign]
        return effects


class _LeavesItHalfDone(DynamoCore):
    """Its acceptors do not tell what they have accepted."""

    def start(self, now: Instant, saved: Saved) -> list[Effect]:
        effects = super().start(now, saved)
        prepare = self._acceptors.prepare

        def silent(key: str, ballot: dynamo_pb2.Ballot) -> dynamo_pb2.Promise:
            promise = prepare(key, ballot)
            promise.ClearField("accepted")
            return promise

        self._acceptors.prepare = silent  # type: ignore[method-assign]
        return effects


@pytest.mark.parametrize("broken", [_Forgetful, _LeavesItHalfDone])
def test_broken_acceptors_are_caught(broken: type[DynamoCore]) -> None:
    def shows(seed: int) -> bool:
        try:
            CasWorld(seed, broken).run()
        except AssertionError:
            return True
        return False

    assert any(shows(seed) for seed in range(10))


def test_seed_repeats_itself() -> None:
    one, two = CasWorld(7), CasWorld(7)
    one.run()
    two.run()
    assert one.steps == two.steps
