"""Clients that send a write of unknown fate again: same write id, bounded, no false failure."""

from replication.client.session import Session
from replication.client.steps import Attempt, Finished, Wait
from replication.errors import Conflict, Indefinite, LeadershipLost, NotLeader, Overloaded
from replication.history import OperationKind, Outcome, Phase
from replication.plan.model import PlannedClient, PlannedOperation, Route
from replication.protocol import Family
from replication.v1 import storage_pb2

NODES = ("n1", "n2", "n3", "n4", "n5")
TIMEOUT_NS = 1_000_000_000


def put(sequence: int = 1) -> PlannedOperation:
    return PlannedOperation("c1", sequence, None, OperationKind.PUT, "k", value="v")


def stored(node: str, term: int) -> storage_pb2.PutResponse:
    return storage_pb2.PutResponse(served=storage_pb2.Served(node=node, term=term, log_index=7))


def retrying(retries: int = 2, family: Family = Family.LEADER) -> Session:
    return Session(
        PlannedClient("c1", "n1", Route.FOLLOW, retries=retries), family, NODES, TIMEOUT_NS
    )


def test_a_client_with_retries_sends_a_write_again_with_the_same_write_id() -> None:
    one = retrying()
    first = one.begin(0, put(), index=0, phase=Phase.LOAD)
    assert isinstance(first, Attempt)
    second = one.answered(10, LeadershipLost(3))
    assert isinstance(second, Attempt)
    assert second.node != first.node
    assert second.request == first.request
    third = one.answered(20, NotLeader("n3", 4))
    assert isinstance(third, Attempt)
    assert third.node == "n3"
    done = one.answered(30, stored("n3", 4))
    assert isinstance(done, Finished)
    assert (done.operation.outcome, done.operation.attempts) == (Outcome.OK, 3)


def test_retries_are_bounded_and_the_fate_of_the_write_stays_unknown() -> None:
    one = retrying(1)
    one.begin(0, put(), index=0, phase=Phase.LOAD)
    assert isinstance(one.answered(10, LeadershipLost(3)), Attempt)
    done = one.answered(20, LeadershipLost(4))
    assert isinstance(done, Finished)
    assert done.operation.outcome is Outcome.UNKNOWN


def test_a_refusal_of_the_retry_does_not_tell_what_came_of_the_first() -> None:
    one = retrying()
    one.begin(0, put(), index=0, phase=Phase.LOAD)
    one.answered(10, LeadershipLost(3))
    done = one.answered(20, Conflict("it holds something else"))
    assert isinstance(done, Finished)
    assert done.operation.outcome is Outcome.UNKNOWN
    one.begin(30, put(2), index=1, phase=Phase.LOAD)
    one.answered(40, LeadershipLost(3))
    waiting = one.answered(50, Overloaded())
    assert isinstance(waiting, Wait)
    abandoned = one.abandon()
    assert abandoned is not None
    assert abandoned.outcome is Outcome.UNKNOWN


def test_an_attempt_that_may_be_repeated_does_not_take_all_the_time() -> None:
    one = retrying()
    first = one.begin(0, put(), index=0, phase=Phase.LOAD)
    assert isinstance(first, Attempt)
    assert first.deadline_ns < TIMEOUT_NS
    second = one.timed_out(first.deadline_ns)
    assert isinstance(second, Attempt)


def test_a_leaderless_cluster_gets_no_write_twice() -> None:
    one = retrying(family=Family.LEADERLESS)
    one.begin(0, put(), index=0, phase=Phase.LOAD)
    done = one.answered(10, Indefinite("CODE"))
    assert isinstance(done, Finished)
    assert done.operation.outcome is Outcome.UNKNOWN
