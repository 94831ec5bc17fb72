"""Counters, sets and lists on both sides: what is added is kept where somebody promises it."""

from dataclasses import replace
from itertools import islice, pairwise
from typing import Any

import pytest

from leaderless.dynamo.versions import Versions
from replication.analysis import Verdict, analyse
from replication.client.updates import elements, number
from replication.history import History, Operation, OperationKind, Outcome, Phase
from replication.plan.model import Update
from replication.plan.workload import ClosedArrival, Keys, RegisterWorkload, UpdateWorkload
from replication.protocol import Family
from replication.simulation.execute import simulate
from replication.simulation.seeds import run_seed
from tests.support.plans import MILLISECOND_NS, make_plan


def run(family: Family, update: Update, kind: OperationKind, **settings: object) -> History:
    """Return what four clients left that update the same key as fast as they can."""
    work = UpdateWorkload(update, 0.8, Keys(1), ClosedArrival(10 * MILLISECOND_NS), 4, 16)
    plan = make_plan(
        seconds=0.4,
        clients=4,
        workload=work,
        settle_seconds=0.3,
        leaderless_settings=dict(settings),
    )
    plan = replace(plan, update_kinds=dict.fromkeys(Family, kind))
    history = simulate(plan, family).history
    assert not history.problems
    return history


def writes(history: History, outcome: Outcome = Outcome.OK) -> list[Operation]:
    found = [each for each in history.operations if each.kind.is_write]
    return [each for each in found if each.outcome is outcome]


def added(history: History) -> set[str]:
    return {(each.write_id or "").replace(":", "-") for each in writes(history)}


def finals(history: History) -> list[Operation]:
    return [each for each in history.operations if each.phase is Phase.FINAL]


def there(history: History) -> set[str]:
    values = [seen.value or "" for read in finals(history) for seen in read.seen]
    return {element for value in values for element in elements(value)}


@pytest.mark.parametrize("update", [Update.ADD, Update.APPEND])
def test_compare_and_set_on_the_leader_side_loses_nothing(update: Update) -> None:
    history = run(Family.LEADER, update, OperationKind.COMPARE_AND_SET)
    assert history.workload == {Update.ADD: "set", Update.APPEND: "append"}[update]
    assert len(added(history)) > 20
    assert added(history) == there(history)
    conflicts = [each for each in writes(history, Outcome.FAIL) if each.error == "Conflict"]
    assert conflicts, "who had read an older value was refused"


def test_plain_puts_on_the_leader_side_lose_what_was_added_at_the_same_time() -> None:
    history = run(Family.LEADER, Update.ADD, OperationKind.PUT)
    assert added(history) > there(history)


def test_siblings_keep_what_was_added_at_the_same_time_and_the_last_writer_does_not() -> None:
    kept = run(Family.LEADERLESS, Update.ADD, OperationKind.PUT)
    assert added(kept) == there(kept)
    lost = run(Family.LEADERLESS, Update.ADD, OperationKind.PUT, versions=Versions.LWW)
    assert added(lost) > there(lost)


def test_a_counter_loses_what_siblings_counted_at_the_same_time() -> None:
    counts = {}
    for family, kind in (
        (Family.LEADER, OperationKind.COMPARE_AND_SET),
        (Family.LEADERLESS, OperationKind.PUT),
    ):
        history = run(family, Update.COUNT, kind)
        shown = [max(number(seen.value or "") for seen in read.seen) for read in finals(history)]
        counts[family] = (sum(shown), len(writes(history)))
    final, acknowledged = counts[Family.LEADER]
    assert final == acknowledged > 20
    final, acknowledged = counts[Family.LEADERLESS]
    assert 0 < final < acknowledged


@pytest.mark.parametrize("update", [Update.COUNT, Update.ADD])
def test_what_the_replicas_merge_is_all_there_and_nobody_reads_before(update: Update) -> None:
    work = UpdateWorkload(update, 0.8, Keys(1), ClosedArrival(10 * MILLISECOND_NS), 4, 16)
    plan = make_plan(seconds=0.4, clients=4, workload=work, settle_seconds=0.3)
    plan = replace(plan, updates_applied=(Family.LEADERLESS,))
    history = simulate(plan, Family.LEADERLESS).history
    acknowledged = added(history)
    assert len(acknowledged) > 20
    if update is Update.ADD:
        assert there(history) == acknowledged
    else:
        (seen,) = finals(history)[0].seen
        assert seen.value == str(len(acknowledged))
    planned = list(islice(plan.operations("c1", Family.LEADERLESS), 100))
    alone = list(islice(plan.operations("c1"), 200))
    before = {b.sequence for b, a in pairwise(alone) if a.update is not None}
    assert before, "elsewhere each update follows a read"
    assert not before & {each.sequence for each in planned}


MERGED: dict[str, Any] = {
    "title": "Updates that are merged",
    "question": "Is each of them there, once?",
    "workload": {
        "kind": "counter",
        "update": {"leaderless": "type"},
        "mix": {"get": 0.3, "add": 0.7},
    },
    "swarm": {"duration": ["400ms", "800ms"], "rate": ["60/s", "150/s"]},
}


@pytest.mark.parametrize("kind", ["counter", "set"])
def test_merged_updates_keep_their_promises_under_every_fault(kind: str) -> None:
    raw = {**MERGED, "workload": {**MERGED["workload"], "kind": kind}}
    for seed in range(1, 14):
        result = run_seed(raw, "merged", seed, Family.LEADERLESS)
        assert result.failure is None, f"seed {seed}: {result.failure}"
        assert result.acknowledged > 0


def test_compare_and_set_in_a_mix_is_judged_as_what_it_is() -> None:
    mix = tuple(
        (kind, share) for kind, share in zip(OperationKind, (0.4, 0.2, 0.1, 0.3), strict=True)
    )
    work = RegisterWorkload(mix, Keys(2), ClosedArrival(10 * MILLISECOND_NS), 4, 8, True)
    plan = make_plan(seconds=0.4, clients=4, workload=work, settle_seconds=0.3)
    history = simulate(plan, Family.LEADER).history
    tried = [each for each in history.operations if each.kind is OperationKind.COMPARE_AND_SET]
    assert {each.outcome for each in tried} == {Outcome.OK, Outcome.FAIL}
    assert analyse(history).findings["linearizability"].verdict is Verdict.VALID
