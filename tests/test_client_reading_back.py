"""Reading back: readers share the keys, and only what nobody answered is asked again."""

import pytest

from replication.client import reading_back
from replication.history import Operation, OperationKind, Outcome, Phase
from replication.protocol import Family
from replication.v1 import storage_pb2
from tests.support.plans import make_plan

OFFERED = frozenset((storage_pb2.CONSISTENCY_ALL, storage_pb2.CONSISTENCY_QUORUM))
NODES = ("n1", "n2", "n3")


def read(key: str, outcome: Outcome, phase: Phase = Phase.FINAL) -> Operation:
    return Operation(
        index=1,
        client="final-1",
        kind=OperationKind.GET,
        key=key,
        phase=phase,
        intended_ns=0,
        invoke_ns=0,
        complete_ns=1,
        outcome=outcome,
    )


def test_readers_share_all_keys_and_begin_at_different_nodes() -> None:
    plan = make_plan(keys=20)
    work = reading_back.readers(plan, Family.LEADERLESS, NODES, OFFERED, plan.keys(), 0)
    assert [session.client.home for session, _ in work[:4]] == ["n1", "n2", "n3", "n1"]
    asked = [each.key for _, reads in work for each in reads]
    assert sorted(asked) == sorted(plan.keys())
    assert {each.consistency for _, reads in work for each in reads} == {"all"}


def test_what_was_refused_is_asked_again_under_another_number() -> None:
    plan = make_plan(keys=20)
    keys = plan.keys()
    answered = [read(key, Outcome.OK) for key in keys[2:]]
    others = [read(keys[0], Outcome.FAIL), read(keys[1], Outcome.OK, Phase.LOAD)]
    left = reading_back.unanswered(keys, answered + others)
    assert left == list(keys[:2]), "a read of the load says nothing of the end"
    first = reading_back.readers(plan, Family.LEADERLESS, NODES, OFFERED, keys, 0)
    again = reading_back.readers(plan, Family.LEADERLESS, NODES, OFFERED, left, 1)
    assert [each.key for _, reads in again for each in reads] == left

    def ids(work: reading_back.Work) -> set[tuple[str, int]]:
        return {(each.client, each.sequence) for _, reads in work for each in reads}

    assert not ids(first) & ids(again)


@pytest.mark.parametrize(
    ("offered", "strictest"),
    [
        (("LOCAL", "LINEARIZABLE"), "linearizable"),
        (("ONE", "ALL"), "all"),
        (("LINEARIZABLE", "ALL"), "all"),
        (("LOCAL",), None),
    ],
)
def test_every_key_is_read_at_the_strictest_level(
    offered: tuple[str, ...], strictest: str | None
) -> None:
    levels = {storage_pb2.Consistency.Value(f"CONSISTENCY_{name}") for name in offered}
    reads = reading_back.reads("final", ["a", "b"], levels)
    assert [each.key for each in reads] == ["a", "b"]
    assert {each.consistency for each in reads} == {strictest}
