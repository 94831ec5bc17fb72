"""Counters, sets and lists on both sides: what is added is kept where somebody promises it."""

from dataclasses import replace

import pytest

from leaderless.dynamo.versions import Versions
from replication.analysis import Verdict, analyse
from replication.client.updates import elements, number
from replication.history import History, Operation, OperationKind, Outcome, Phase
from replication.plan.model import Update
from replication.plan.workload import ClosedArrival, Keys, RegisterWorkload, UpdateWorkload
from replication.protocol import Family
from replication.simulation.execute import simulate
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
