"""Zones in columns, the general search and its models, against the slow and obvious judges."""

import os
from collections.abc import Sequence
from itertools import permutations
from random import Random
from typing import Any

import numpy as np
import pytest

from replication.analysis.calls import Call, Calls, guess_model, judge_calls
from replication.analysis.columns import INITIAL_VALUE, RegisterColumns, contradictions
from replication.analysis.findings import Verdict
from replication.analysis.models import MODELS, UNREAD
from replication.analysis.search import Budget, Step, search
from replication.analysis.view import NEVER
from replication.history import History, Outcome
from tests.support import plain_zones
from tests.support.histories import FAIL, GET, OK, UNKNOWN, brute_force, random_register, seen
from tests.support.random_calls import cas_history

OK_, UNKNOWN_ = Outcome.OK, Outcome.UNKNOWN
# The full comparison takes minutes: CHECKER_SAMPLES=50000 (and a thirtieth of it for long ones).
SAMPLES = int(os.environ.get("CHECKER_SAMPLES", "1500"))
FIRST_SEED = int(os.environ.get("CHECKER_SEED", "1"))


def columns_of(history: History) -> RegisterColumns:
    """Return the operations that a register is judged by, as the loader numbers them."""
    keys: dict[str, int] = {}
    values: dict[str, int] = {}
    rows = [each for each in history.operations if each.kind is not GET or each.outcome is OK]

    def value(each: Any) -> int:
        write_id = each.write_id if each.kind is not GET else each.seen[0].write_id
        return values.setdefault(write_id, len(values))

    return RegisterColumns(
        np.array([keys.setdefault(each.key, len(keys)) for each in rows], dtype=np.int64),
        np.array(
            [INITIAL_VALUE if each.kind is GET and not each.seen else value(each) for each in rows],
            dtype=np.int64,
        ),
        np.array([each.kind is not GET for each in rows], dtype=np.bool_),
        np.array([each.outcome is FAIL for each in rows], dtype=np.bool_),
        np.array([each.invoke_ns for each in rows], dtype=np.int64),
        np.array(
            [
                NEVER if each.outcome is UNKNOWN or each.complete_ns is None else each.complete_ns
                for each in rows
            ],
            dtype=np.int64,
        ),
    )


def calls_of(history: History) -> Calls:
    return Calls(
        [
            Call(
                each.client,
                "read" if each.kind is GET else "write",
                None if each.kind is GET else each.write_id,
                (each.seen[0].write_id if each.seen else None) if each.kind is GET else UNREAD,
                each.key,
                each.invoke_ns,
                None if each.outcome is UNKNOWN else each.complete_ns,
                each.outcome,
                each.index + 1,
            )
            for each in history.operations
        ]
    )


def by_search(history: History) -> bool:
    """Judge by the general search, kept from taking the shorter way of zones."""
    calls = calls_of(history)
    extra = Call("x", "refused", ("never", "never"), UNREAD, "other", 0, 1, FAIL, 0)
    calls.calls.append(extra)
    finding = judge_calls(calls, "cas-register", None, Budget())
    assert finding.verdict is not Verdict.UNKNOWN
    return finding.verdict is Verdict.VALID


def test_zones_in_columns_agree_with_every_order_tried() -> None:
    rng, verdicts = Random(FIRST_SEED), {True: 0, False: 0}
    for _ in range(SAMPLES):
        history = random_register(
            rng, operations=rng.randint(1, 12), span=rng.choice((6, 12, 24)), keys=3
        )
        expected = brute_force(history.operations)
        verdicts[expected] += 1
        columns = columns_of(history)
        assert (not contradictions(columns).rows) is expected, history.operations
        assert plain_zones.holds(columns) is expected
    assert min(verdicts.values()) > SAMPLES // 8, verdicts


def test_zones_in_columns_agree_with_the_general_search() -> None:
    rng, verdicts = Random(FIRST_SEED), {True: 0, False: 0}
    for _ in range(SAMPLES // 10):
        history = random_register(rng, operations=64, span=300, keys=rng.randint(1, 4))
        mend(rng, history)
        expected = by_search(history)
        verdicts[expected] += 1
        assert (not contradictions(columns_of(history)).rows) is expected
    assert min(verdicts.values()) > SAMPLES // 80, verdicts


def mend(rng: Random, history: History) -> None:
    """Let most reads return what is likely, or a long history is never right."""
    keep = rng.random() < 0.5
    for read in history.operations:
        if read.kind is not GET or (keep and rng.random() < 0.05):
            continue
        ended = [
            each
            for each in history.operations
            if each.key == read.key
            and each.write_id
            and each.outcome is OK
            and (each.complete_ns or 0) < read.invoke_ns
        ]
        newest = max(ended, key=lambda each: each.invoke_ns, default=None)
        read.seen = seen(newest.write_id or "") if newest else []


@pytest.mark.parametrize("model", sorted(MODELS))
def test_the_search_agrees_with_every_order_of_any_model(model: str) -> None:
    rng, verdicts = Random(FIRST_SEED), {True: 0, False: 0}
    for _ in range(max(60, SAMPLES // 10)):
        calls = random_calls(rng, model, rng.randint(2, 6))
        expected = some_order(calls, model)
        verdicts[expected] += 1
        finding = judge_calls(Calls(calls), model, None, Budget())
        assert (finding.verdict is Verdict.VALID) is expected, calls
        if not expected:
            assert finding.witnesses
    assert min(verdicts.values()) > 10, verdicts


def some_order(calls: Sequence[Call], model: str) -> bool:
    """Try every subset that has all completed operations, in every order that time allows."""
    made = MODELS[model].make(None)
    ended = [each for each in calls if each.complete_ns is not None]
    open_calls = [each for each in calls if each.complete_ns is None]
    for chosen in range(1 << len(open_calls)):
        taken = [each for bit, each in enumerate(open_calls) if chosen >> bit & 1]
        for order in permutations([*ended, *taken]):
            if all(
                later.complete_ns is None or later.complete_ns >= earlier.invoke_ns
                for position, earlier in enumerate(order)
                for later in order[position + 1 :]
            ):
                state: Any = made.initial
                for each in order:
                    state = made.apply(state, each.action)
                    if state is None:
                        break
                if state is not None:
                    return True
    return False


def random_calls(rng: Random, model: str, amount: int) -> list[Call]:
    """Return operations of ``model`` that may be right or wrong, some of them open to the end."""
    calls = []
    for number in range(amount):
        start = rng.randrange(8)
        end = None if rng.random() < 0.2 else start + rng.randrange(5)
        name = rng.choice(MODELS[model].operations)
        if model == "multi-register":
            name = "txn"
        if model == "append" and name == "write":
            name = "append"
        argument: Any = None
        result: Any = UNREAD
        if name == "read":
            result = random_result(rng, model, amount)
        elif name == "cas":
            argument = (rng.choice((None, 0, 1)), rng.choice((0, 1)))
            if rng.random() < 0.2 and end is not None:
                name = "refused"
        elif name == "txn":
            argument = tuple(
                (rng.choice("rw"), rng.choice("xy"), rng.choice((None, 1, 2))) for _ in range(2)
            )
        elif name in ("write", "add", "append"):
            argument = number if model in ("set", "append") else rng.choice((0, 1, 2))
        outcome = OK_ if end is not None else UNKNOWN_
        calls.append(Call(f"p{number}", name, argument, result, None, start, end, outcome, number))
    return calls


def random_result(rng: Random, model: str, amount: int) -> Any:
    if model in ("set", "append"):
        return tuple(rng.sample(range(amount), rng.randrange(min(3, amount))))
    return rng.choice((None, 0, 1, 2) if model != "counter" else (0, 1, 2, 3))


def test_valid_compare_and_sets_of_many_clients_are_decided() -> None:
    for seed in range(12):
        calls = cas_history(Random(seed), 90, 20, 0.05)
        finding = judge_calls(Calls(calls), "cas-register", None, Budget())
        assert finding.verdict is Verdict.VALID, seed


def test_a_read_of_a_value_that_was_gone_is_found_among_compare_and_sets() -> None:
    for seed in range(12):
        calls = cas_history(Random(seed), 90, 5, 0.02)
        last = max(each.complete_ns or each.invoke_ns for each in calls)
        calls += [
            Call("w", "write", 7, UNREAD, None, last + 1, last + 2, OK_, 900),
            Call("w", "write", 6, UNREAD, None, last + 3, last + 4, OK_, 901),
            Call("r", "read", None, 7, None, last + 5, last + 6, OK_, 902),
        ]
        finding = judge_calls(Calls(calls), "cas-register", None, Budget())
        assert finding.verdict is Verdict.VIOLATED, seed
        assert 902 in finding.witnesses[0].operations


def test_bounds_hold_inside_one_object_and_mean_unknown() -> None:
    calls = [Call(f"p{n}", "add", 1 << n, UNREAD, None, 0, 1_000, OK_, n) for n in range(40)]
    calls.append(Call("r", "read", None, 3**20, None, 1, 999, OK_, 99))
    for budget in (
        Budget(steps=3_000),
        Budget(memory_bytes=100_000),
        Budget(expired=lambda: True),
    ):
        finding = judge_calls(Calls(calls), "counter", None, budget)
        assert finding.verdict is Verdict.UNKNOWN
        assert "gave up" in finding.summary


def test_all_bad_objects_are_listed_on_request() -> None:
    calls = []
    for number, key in enumerate(("a", "b", "c")):
        calls += [
            Call("p", "acquire", None, UNREAD, key, 10 * number, 10 * number + 1, OK_, 3 * number),
            Call("q", "acquire", None, UNREAD, key, 10 * number + 2, 10 * number + 3, OK_, 1),
        ]
    first = judge_calls(Calls(calls), "mutex", None, Budget())
    assert (first.violations, first.verdict) == (1, Verdict.VIOLATED)
    assert "2 not looked at" in first.summary
    every = judge_calls(Calls(calls), "mutex", None, Budget(), all_objects=True)
    assert every.violations == 3
    assert [each.key for each in every.witnesses] == ["a", "b", "c"]
    assert "process q acquired of a" in every.witnesses[0].words


@pytest.mark.parametrize(
    ("names", "result", "expected"),
    [
        (("read", "write"), 1, "register"),
        (("read", "write", "cas"), 1, "cas-register"),
        (("read", "add"), 1, "counter"),
        (("read", "add"), (1,), "set"),
        (("read", "append"), (1,), "append"),
        (("acquire", "release"), None, "mutex"),
        (("txn",), None, "multi-register"),
    ],
)
def test_the_model_is_told_by_the_operations(
    names: tuple[str, ...], result: Any, expected: str
) -> None:
    calls = [Call("p", each, 1, result, None, 0, 1, OK_, 1) for each in names]
    assert guess_model(calls) == expected


def test_a_search_says_how_far_an_order_goes() -> None:
    made = MODELS["register"].make(0)
    steps = [
        Step(call.invoke_ns, call.complete_ns, call.action)
        for call in (
            Call("p", "write", 1, UNREAD, None, 0, 1, OK_, 1),
            Call("q", "read", None, 5, None, 2, 3, OK_, 2),
        )
    ]
    order = search(steps, made, Budget())
    assert (order.verdict, order.placed) == (Verdict.VIOLATED, [0])
