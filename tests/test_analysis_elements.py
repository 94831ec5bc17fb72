"""Sets, lists and counters as Jepsen judges them; how far keys were from one copy."""

from random import Random

import pytest

from replication.analysis import analyse
from replication.analysis.atomicity import key_atomicity
from replication.analysis.elements import Addition, Look, judge_counter, judge_elements
from replication.analysis.findings import Verdict
from replication.analysis.view import View
from replication.client.updates import updated
from replication.history import History, SeenVersion
from replication.plan.model import Update
from tests.support.histories import FAIL, OK, UNKNOWN, Script, valid_leaderless, valid_register
from tests.support.planted_histories import REGISTER_DEFECTS


def add(number: int, start: int, end: int | None, *, failed: bool = False) -> Addition:
    return Addition(number, f"e{number}", start, end, failed)


def look(start: int, *shown: int, number: int = 0) -> Look:
    return Look(100 + start, start, start + 1, tuple(f"e{each}" for each in shown), number)


def test_an_element_that_a_later_read_lacks_is_lost_and_one_that_comes_back_was_stale() -> None:
    additions = [add(1, 0, 1), add(2, 0, 1)]
    found = judge_elements(additions, [look(10, 1), look(20, 1, 2)])
    assert (found.stable, found.lost) == (2, [])
    assert [(each.element, ns) for each, ns in found.stale] == [("e2", 9)]
    found = judge_elements(additions, [look(10, 1, 2), look(20, 1)])
    assert [each.element for each, _ in found.lost] == ["e2"]
    assert found.lost[0][1].invoke_ns == 20


def plainly(additions: list[Addition], looks: list[Look]) -> tuple[set[str], set[str], set[str]]:
    """Return what is lost, stale and never read, by looking at every read for every element."""
    lost, stale, never = set(), set(), set()
    for addition in additions:
        shown = [each for each in looks if addition.element in each.shown]
        ends = [each.complete_ns for each in shown]
        ends += [addition.complete_ns] if addition.complete_ns is not None else []
        if not ends:
            continue
        absent = [
            each.invoke_ns
            for each in looks
            if each.invoke_ns > min(ends) and addition.element not in each.shown
        ]
        if absent and max(absent) > max((each.invoke_ns for each in shown), default=-1):
            lost.add(addition.element)
        elif not shown:
            never.add(addition.element)
        elif absent:
            stale.add(addition.element)
    return lost, stale, never


def test_what_changes_from_look_to_look_says_as_much_as_all_looks() -> None:
    rng, seen = Random(1), [0, 0, 0]
    for _ in range(1_500):
        amount = rng.randint(1, 5)
        additions, looks = [], []
        for number in range(amount):
            start = rng.randrange(20)
            end = None if rng.random() < 0.2 else start + rng.randrange(6)
            additions.append(add(number, start, end))
        for number in range(rng.randint(0, 6)):
            start = rng.randrange(25)
            shown = tuple(f"e{each}" for each in range(amount) if rng.random() < 0.6)
            looks.append(Look(100 + number, start, start + 1 + rng.randrange(6), shown))
        found = judge_elements(additions, looks)
        expected = plainly(additions, looks)
        assert {each.element for each, _ in found.lost} == expected[0]
        assert {each.element for each, _ in found.stale} == expected[1]
        assert {each.element for each in found.never_read} == expected[2]
        seen = [before + bool(each) for before, each in zip(seen, expected, strict=True)]
    assert min(seen) > 100, seen


def test_what_nobody_looked_at_is_never_read_and_what_nobody_saw_may_not_have_happened() -> None:
    found = judge_elements([add(1, 5, 9), add(2, 0, None)], [look(8)])
    assert [each.element for each in found.never_read] == ["e1"]
    assert found.stable == 0
    found = judge_elements([add(2, 0, None)], [look(8, 2), look(12)])
    assert [each.element for each, _ in found.lost] == ["e2"], "known from the first read of it"


def test_duplicates_strangers_and_failed_additions_are_found() -> None:
    found = judge_elements([add(1, 0, 1), add(3, 0, 1, failed=True)], [look(5, 1, 1, 2, 3)])
    assert [each for each, _ in found.duplicated] == ["e1"]
    assert [each for each, _ in found.unexpected] == ["e2", "e3"]


def test_elements_of_a_list_keep_their_places() -> None:
    additions = [add(1, 0, 1), add(2, 0, 1)]
    assert not judge_elements(additions, [look(5, 1), look(7, 1, 2)], ordered=True).reordered
    assert judge_elements(additions, [look(5, 2, 1), look(7, 1, 2)], ordered=True).reordered


def test_a_counter_lies_between_what_was_acknowledged_and_what_was_begun() -> None:
    additions = [add(1, 0, 1), add(2, 2, None), add(3, 4, 6), add(4, 0, 1, failed=True)]
    for number, outside in ((0, True), (1, False), (3, False), (4, True)):
        assert bool(judge_counter(additions, [look(5, number=number)])) is outside
    assert judge_counter(additions, [look(8, number=1)]) == [(look(8, number=1), 2, 3)]


def workload(rng: Random, kind: Update, updates: int = 30) -> Script:
    """Return what one copy would have recorded of clients that update it by compare-and-set."""
    script = Script()
    script.history.workload = {Update.ADD: "set", Update.APPEND: "append", Update.COUNT: "counter"}[
        kind
    ]
    held: tuple[str, str] | None = None  # write id, value
    for number in range(updates):
        client, start = f"c{rng.randint(1, 4)}", 10 * number
        values = [] if held is None else [held[1]]
        script.read(client, "k", start, start + 2, seen=versions(held))
        amount = "1" if kind is Update.COUNT else f"{client}-{sequence(script, client)}"
        outcome = rng.choice((OK, OK, OK, UNKNOWN, FAIL))
        value = updated(kind, values, amount)
        write_id = script.write(client, "k", start + 3, start + 5, value=value, outcome=outcome)
        if outcome is OK or (outcome is UNKNOWN and rng.random() < 0.5):
            held = write_id, value
    script.final("k", seen=versions(held))
    return script


def versions(held: tuple[str, str] | None) -> list[SeenVersion]:
    return [] if held is None else [SeenVersion(held[0], value=held[1])]


def sequence(script: Script, client: str) -> int:
    writes = [each for each in script.history.operations if each.write_id]
    return 1 + sum(each.client == client for each in writes)


NAMES = {Update.ADD: "elements", Update.APPEND: "elements", Update.COUNT: "counter"}


@pytest.mark.parametrize("kind", list(NAMES))
def test_one_copy_loses_nothing_and_a_defect_is_named(kind: Update) -> None:
    for seed in range(40):
        script = workload(Random(seed), kind)
        history = script.history
        finding = analyse(history).findings[NAMES[kind]]
        assert not finding.violations, (seed, finding.summary)
        final = history.operations[-1]
        value = final.seen[0].value or ""
        wrong = str(int(value) + 40) if kind is Update.COUNT else ",".join(value.split(",")[1:])
        final.seen = [SeenVersion(final.seen[0].write_id, value=wrong)]
        finding = analyse(history).findings[NAMES[kind]]
        assert finding.verdict is Verdict.VIOLATED
        assert final.index in finding.witnesses[0].operations
        if kind is not Update.COUNT:
            first = value.split(",")[0].replace("-", ":")
            write = next(each for each in history.operations if each.write_id == first)
            assert write.index in finding.witnesses[0].operations


def test_workloads_of_registers_have_no_elements() -> None:
    findings = analyse(valid_register(Random(1))).findings
    assert "elements" not in findings
    assert "counter" not in findings


# How far from one copy.


def test_delta_is_how_much_earlier_reads_would_have_had_to_begin() -> None:
    script = Script()
    script.write("c1", "k", 0, 1)
    script.write("c1", "k", 10, 11)
    script.write("c1", "k", 20, 21)
    script.read("c2", "k", 50, 51, "c1:1")
    script.read("c2", "j", 0, 1)
    (found,) = key_atomicity(View(script.history))
    assert found.key == "k"
    assert found.k_at_least == 3
    # Begun at 11 ms or before, it overlaps the second write's end.
    assert found.delta_ns == pytest.approx(39_000_000, abs=1_000)


def test_no_delta_mends_a_value_from_nowhere_before_it_was_written() -> None:
    script = Script()
    script.read("c2", "k", 0, 1, "c1:1")
    script.write("c1", "k", 5, 6)
    (found,) = key_atomicity(View(script.history))
    assert found.delta_ns is None


def test_what_is_one_copy_needs_no_delta() -> None:
    for seed in range(30):
        staleness = analyse(valid_register(Random(seed))).staleness
        assert (staleness.inconsistent_keys, staleness.k_at_least) == (0, 1)
        assert staleness.max_delta_ms is None
    history, _ = REGISTER_DEFECTS["linearizability"][0](valid_register(Random(1)))
    staleness = analyse(history).staleness
    assert [each.key for each in staleness.keys] == ["w"]
    assert staleness.k_at_least == 2


# Coverage.


def test_coverage_tells_both_sides_of_a_partition_and_what_a_pass_could_not_have_missed() -> None:
    script = Script()
    script.fault("partition", [], 0, 100, sides=[["n1", "n2", "c1"], ["n3", "n4", "n5", "c2"]])
    for number in range(30):
        script.write("c2", "k", number, number + 0.5)
    script.read("c1", "k", 0, 1, outcome=FAIL)
    script.final("k", "c2:30")
    coverage = analyse(script.history).findings["linearizability"].coverage
    assert coverage.by_side == {"fault 1, beside n1, n2": 0, "fault 1, beside n3, n4, n5": 30}
    assert coverage.smallest == (
        "had one in 10 gone wrong, it would have shown with a chance of 95 %"
    )


def test_a_violation_says_nothing_of_what_it_could_have_missed() -> None:
    history: History = valid_leaderless(Random(1))
    assert analyse(history).findings["linearizability"].coverage.smallest == ""
