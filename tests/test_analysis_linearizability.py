"""Zones and search against the slow and obvious judge, against each other, and in words."""

from dataclasses import replace
from random import Random
from time import perf_counter

import numpy as np
import pytest

from replication.analysis import linearizability
from replication.analysis.findings import Finding, Verdict
from replication.analysis.registers import registers
from replication.analysis.search import Action, Budget, Order, Step, search
from replication.analysis.versions import INITIAL, Versions, steps_of
from replication.analysis.view import View
from replication.analysis.zones import BEFORE_ALL, Clusters, exclusions
from replication.history import History, Operation, Phase
from tests.support.histories import (
    DELETE,
    FAIL,
    GET,
    OK,
    PUT,
    SWAP,
    UNKNOWN,
    Script,
    at,
    brute_force,
    random_register,
    seen,
    valid_register,
)


def check(history: History) -> Finding:
    return linearizability.check(View(history))


def holds(history: History) -> bool:
    finding = check(history)
    assert finding.violations == 0 or finding.verdict is Verdict.VIOLATED
    return finding.violations == 0


def by_search(history: History) -> bool:
    view = View(history)
    found = registers(view)
    return not found.impossible_count and all(
        searched(view, operations).verdict is Verdict.VALID
        for operations in found.operations.values()
    )


def searched(view: View, operations: list[Operation]) -> Order:
    ordered = sorted(operations, key=lambda each: (each.invoke_ns, each.index))
    steps, model = steps_of(view, ordered)
    return search(steps, model, Budget())


def test_zones_agree_with_every_order_tried() -> None:
    rng, verdicts = Random(5), {True: 0, False: 0}
    for _ in range(3_000):
        history = random_register(rng, operations=rng.randint(1, 9))
        expected = brute_force(history.operations)
        verdicts[expected] += 1
        assert holds(history) is expected, history.operations
    assert min(verdicts.values()) > 500, verdicts


def test_zones_agree_with_the_search() -> None:
    rng, verdicts = Random(6), {True: 0, False: 0}
    for seed in range(300):
        history = valid_register(Random(seed), operations=rng.choice((30, 64)), keys=2)
        if rng.random() < 0.7:
            change_a_read(rng, history)
        expected = by_search(history)
        verdicts[expected] += 1
        assert holds(history) is expected, seed
    assert min(verdicts.values()) > 60, verdicts


def test_the_search_agrees_with_every_order_tried() -> None:
    rng, verdicts = Random(7), {True: 0, False: 0}
    for _ in range(3_000):
        history = random_register(rng, operations=rng.randint(2, 8), keys=1, swaps=0.6)
        expected = brute_force(history.operations)
        verdicts[expected] += 1
        finding = check(history)
        assert "gave up" not in finding.summary
        assert (finding.violations == 0) is expected, history.operations
    assert min(verdicts.values()) > 500, verdicts


def change_a_read(rng: Random, history: History) -> None:
    """Let a read return another write of its key, near or far."""
    read = rng.choice([each for each in history.operations if each.kind is GET and each.seen])
    before = [
        each.write_id
        for each in history.operations
        if each.key == read.key and each.write_id and each.outcome is not FAIL
    ]
    read.seen = seen(rng.choice(before))


def test_generated_single_copies_are_linearizable() -> None:
    for seed in range(500):
        assert check(valid_register(Random(seed))).verdict is Verdict.VALID, seed


def test_generated_compare_and_sets_are_linearizable() -> None:
    for seed in range(150):
        finding = check(valid_register(Random(seed), swaps=0.4))
        assert finding.verdict is Verdict.VALID, (seed, finding.witnesses)


def test_a_final_read_of_the_past_is_caught_among_compare_and_sets() -> None:
    caught = 0
    for seed in range(60):
        history = valid_register(Random(seed), swaps=0.4, keys=1)
        puts = [each for each in history.operations if each.kind is PUT and each.outcome is OK]
        if not puts or (puts[0].complete_ns or 0) >= puts[-1].invoke_ns:
            continue
        last = history.operations[-1]
        assert last.phase is Phase.FINAL
        last.seen = seen(puts[0].write_id or "")
        finding = check(history)
        assert finding.verdict is Verdict.VIOLATED, seed
        assert last.index in finding.witnesses[0].operations
        caught += 1
    assert caught > 40


def test_touching_intervals_overlap() -> None:
    """Equal times prove no order: both orders of write and read are allowed."""
    for first, second in ((True, False), (False, True)):
        script = Script()
        old = script.write("c1", "k", 0, 1)
        new = script.write("c2", "k", 2, 3)
        script.read("c3", "k", 3, 4, old if first else new)
        assert holds(script.history), (first, second)
    script = Script()
    old, new = script.write("c1", "k", 0, 1), script.write("c2", "k", 2, 3)
    read = script.read("c3", "k", 3, 4, old)
    read.invoke_ns += 1
    assert not holds(script.history)
    assert new in check(script.history).witnesses[0].words


def test_unknown_writes_may_act_late_or_never_but_not_after_they_were_read() -> None:
    script = Script()
    script.write("c1", "k", 0, 5, outcome=UNKNOWN)
    script.read("c2", "k", 100, 101)
    script.read("c2", "k", 200, 201, "c1:1")
    assert holds(script.history)
    script.read("c2", "k", 300, 301)
    assert not holds(script.history)


def test_a_delete_is_read_by_its_tombstone() -> None:
    script = Script()
    put = script.write("c1", "k", 0, 1)
    delete = script.write("c1", "k", 2, 3, DELETE)
    script.read("c2", "k", 4, 5, seen=seen(delete, tombstone=True))
    assert holds(script.history)
    script.read("c2", "k", 6, 7, put)
    finding = check(script.history)
    assert finding.verdict is Verdict.VIOLATED
    assert "c1:2 (delete) had been acknowledged to c1 at 0.003 s" in finding.witnesses[0].words


def test_the_witness_of_a_stale_read_is_a_story() -> None:
    """A paused leader answers a read that a later leader had already made old."""
    script = Script()
    script.role(-900, "n1", "leader", 2, "n1")
    script.role(3_000, "n4", "leader", 3, "n4")
    script.fault("pause", ["n1"], 2_000, 4_200)
    old = script.write("c1", "k7", 1_000, 1_010, node="n1", term=2)
    new = script.write("c2", "k7", 3_500, 3_510, node="n4", term=3)
    read = script.read("c3", "k7", 4_190, 4_201, old, node="n1", term=2)
    script.final("k7", new)
    finding = check(script.history)
    assert finding.verdict is Verdict.VIOLATED
    (witness,) = finding.witnesses
    assert witness.operations == [0, 1, read.index]
    assert witness.key == "k7"
    assert witness.words == (
        "c3 read c1:1 (put 'vc1:1') of k7 from n1 between 4.190 s and 4.201 s, although c2:1 (put "
        "'vc2:1') had been acknowledged to c2 by n4 in term 3 at 3.510 s. c2:1 is newer: c1:1 had "
        "been acknowledged to c1 by n1 in term 2 at 1.010 s, before c2 began to write c2:1 at "
        "3.500 s. n1, which served the read, was the leader in term 2, although n4 had been "
        "elected in term 3 at 3.000 s. n1 was paused from 2.000 s to 4.200 s."
    )


def test_the_witness_tells_that_a_quorum_did_not_meet() -> None:
    script = Script(register=False)
    script.write("c1", "k", 0, 1, node="n1", replicas=["n1", "n2"])
    script.write("c2", "k", 2, 3, node="n3", replicas=["n3"])
    script.read("c3", "k", 4, 5, "c1:1", node="n1", replicas=["n1", "n2"])
    finding = check(script.history)
    assert not finding.promised
    words = finding.witnesses[0].words
    assert "acknowledged to c2 by n3 alone at 0.003 s" in words
    assert "The read counted the answers of n1 and n2, the write c2:1 those of n3" in words


def test_a_value_that_comes_back_names_four_operations() -> None:
    script = Script()
    script.write("c1", "k", 0, 1)
    script.write("c2", "k", 2, 9)
    script.read("c3", "k", 3, 4, "c2:1")
    script.read("c4", "k", 5, 6, "c1:1")
    (witness,) = check(script.history).witnesses
    assert witness.operations == [0, 1, 2, 3]
    assert "c4 read c1:1" in witness.words
    assert "had been read by c3 by 0.004 s" in witness.words


def test_weak_reads_break_no_promise() -> None:
    script = Script()
    old, new = script.write("c1", "k", 0, 1), script.write("c1", "k", 2, 3)
    weak = script.read("c2", "k", 4, 5, old, consistency="local")
    finding = check(script.history)
    assert finding.verdict is Verdict.VIOLATED
    assert not finding.promised
    assert "asked for 'local'" in finding.witnesses[0].words
    strong = script.read("c2", "k", 6, 7, old, consistency="linearizable")
    finding = check(script.history)
    assert finding.promised
    assert finding.violations == 1
    assert strong.index in finding.witnesses[0].operations
    assert weak.index not in finding.witnesses[0].operations
    strong.seen = seen(new)
    script.history.settings = {"raft": {"default_read": "local"}}
    weak.consistency = None
    assert not check(script.history).promised


def test_siblings_are_no_register_and_the_rest_is_still_judged() -> None:
    script = Script(register=False)
    script.write("c1", "k", 0, 5)
    script.write("c2", "k", 1, 4)
    script.read("c3", "k", 6, 7, "c1:1", "c2:1")
    finding = check(script.history)
    assert finding.violations == 1
    assert "2 values of k at once" in finding.witnesses[0].words
    assert finding.witnesses[0].operations == [0, 1, 2]


def test_the_search_keeps_its_bounds_and_calls_it_unknown() -> None:
    """Compare-and-sets of which none can be placed: the worst case of any search."""
    script = Script()
    for number in range(40):
        script.write(f"c{number}", "k", 0, 1_000, value=f"v{number}")
    for number in range(40):
        script.write(f"d{number}", "k", 0, 1_000, SWAP, expected=f"v{number}", value=f"w{number}")
    script.write("e", "k", 0, 1_000, SWAP, expected="never", value="x")
    budget = Budget(steps=20_000)
    finding = linearizability.check(View(script.history), budget)
    assert -100 < budget.steps <= 0
    assert finding.verdict is Verdict.UNKNOWN
    assert "gave up" in finding.summary
    budget = Budget(memory_bytes=100_000)
    assert linearizability.check(View(script.history), budget).verdict is Verdict.UNKNOWN
    assert budget.steps > 1_000_000


def test_a_lost_compare_and_set_is_told_with_what_the_key_held() -> None:
    script = Script()
    script.write("c1", "k", 0, 1, value="a")
    script.write("c2", "k", 2, 3, SWAP, expected="a", value="b")
    script.write("c3", "k", 4, 5, SWAP, expected="a", value="c", node="n3", term=2)
    (witness,) = check(script.history).witnesses
    assert witness.operations == [2]
    assert witness.words == (
        "c3:1 (compare-and-set from 'a' to 'c') was acknowledged by n3 in term 2 at 0.005 s, and "
        "no order of the operations on k until then explains it. Up to 0.003 s there is such an "
        "order; it ends with c2:1 (compare-and-set to 'b')."
    )


def test_a_refused_compare_and_set_must_have_had_a_reason() -> None:
    script = Script()
    script.write("c1", "k", 0, 1, value="a")
    script.write("c2", "k", 2, 3, SWAP, expected="a", value="b", outcome=FAIL, error="Conflict")
    finding = check(script.history)
    assert finding.verdict is Verdict.VIOLATED
    assert "c2 was refused" in finding.witnesses[0].words
    script.history.operations[-1].attempts = 2  # an earlier attempt may have won unheard
    assert check(script.history).violations == 0


def test_an_unread_unknown_put_may_feed_a_compare_and_set() -> None:
    script = Script()
    script.write("c1", "k", 0, 5, value="a", outcome=UNKNOWN)
    script.write("c2", "k", 100, 101, SWAP, expected="a", value="b")
    script.read("c3", "k", 102, 103, "c2:1")
    assert holds(script.history)


def test_a_search_finds_the_order_that_it_returns() -> None:
    steps = [
        Step(0, 10, Action("write", 0)),
        Step(1, 9, Action("cas", ("a", 1))),
        Step(2, 8, Action("read", result=INITIAL)),
    ]
    order = search(steps, Versions(["a", "b"]), Budget())
    assert order.verdict is Verdict.VALID
    assert order.placed == [2, 0, 1]


def test_times_too_wide_for_shifting_are_ranked() -> None:
    clusters = Clusters(
        np.array([0, 0, 1, 1, 2], dtype=np.int64),
        np.array([BEFORE_ALL, 5, 2**62, 7, 3], dtype=np.int64),
        np.array([6, 1, 1, 2**61, 2], dtype=np.int64),
    )
    assert exclusions(clusters).tolist() == [[0, 1]]
    clusters.first[3] = 2**62 + 5
    clusters.first[2], clusters.last[2] = 3, 2**62 + 9
    assert exclusions(clusters).tolist() == [[0, 1], [2, 3]]


def test_a_write_id_used_twice_makes_no_pass() -> None:
    script = Script()
    script.write("c1", "k", 0, 1)
    script.write("c1", "k", 2, 3)
    script.history.operations[1].write_id = "c1:1"
    finding = check(script.history)
    assert finding.verdict is Verdict.UNKNOWN
    assert "repeats or lacks a write id" in finding.coverage.notes[0]


@pytest.mark.timing
def test_one_hot_key_is_judged_in_no_time() -> None:
    history = valid_register(Random(3), operations=20_000, clients=16, keys=1)
    begun = perf_counter()
    assert check(history).verdict is Verdict.VALID
    assert perf_counter() - begun < 2


def test_renaming_shifting_and_permuting_changes_no_verdict() -> None:
    for seed in range(150):
        rng = Random(seed)
        history = random_register(rng, operations=10)
        expected = check(history)
        moved = random_register(Random(seed), operations=10)
        names = {f"c{number}": f"z{9 - number}" for number in range(10)}
        for each in moved.operations:
            each.client = names[each.client]
            each.write_id = each.write_id and renamed(each.write_id, names)
            for version in each.seen:
                version.write_id = renamed(version.write_id, names)
            for name in ("intended_ns", "invoke_ns", "complete_ns"):
                value = getattr(each, name)
                setattr(each, name, value and value + at(12_345))
        rng.shuffle(moved.operations)
        found = check(moved)
        assert (found.verdict, found.violations) == (expected.verdict, expected.violations), seed


def renamed(write_id: str, names: dict[str, str]) -> str:
    client, _, sequence = write_id.partition(":")
    return f"{names[client]}:{sequence}"


def test_every_witness_is_a_proof_by_itself() -> None:
    """The operations it names, and nothing else, fit no order: at most four of them."""
    rng, judged = Random(8), 0
    for _ in range(1_500):
        history = random_register(rng, operations=rng.randint(3, 16))
        for witness in check(history).witnesses:
            assert 1 <= len(witness.operations) <= 4
            named = [history.operations[index] for index in witness.operations]
            returned = {version.write_id for each in named for version in each.seen}
            # That the values which were read had been written at all is no secret.
            known = [
                replace(each, outcome=UNKNOWN, complete_ns=None)
                for each in history.operations
                if each.write_id in returned and each not in named
            ]
            assert not brute_force([*named, *known]), witness.words
            judged += 1
    assert judged > 500
