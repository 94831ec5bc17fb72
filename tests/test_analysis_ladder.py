"""Sequential and causal consistency, session guarantees, and the ladder that they make."""

from itertools import permutations
from random import Random

from replication.analysis import CHECKS, analyse
from replication.analysis.findings import Finding, Verdict
from replication.history import History, Operation
from tests.support.histories import (
    DELETE,
    GET,
    OK,
    UNKNOWN,
    Script,
    random_register,
    valid_leaderless,
    valid_register,
)

CHECK = {check.name: check for check in CHECKS}


def check(name: str, history: History) -> Finding:
    return CHECK[name].run(history)


def verdicts(history: History) -> dict[str, str]:
    return {rung.name: rung.verdict.value for rung in analyse(history).ladder.rungs}


def settled(script: Script, *keys: str) -> Script:
    """Let it look at the end like a run that converged."""
    script.sample(100, len(keys) or 1)
    return script


def test_a_stale_read_of_another_client_is_sequential_and_not_linearizable() -> None:
    script = settled(Script())
    script.write("c1", "k", 0, 1)
    new = script.write("c1", "k", 2, 3)
    script.read("c2", "k", 4, 5, "c1:1")
    script.read("c2", "k", 6, 7, new)
    ladder = analyse(script.history).ladder
    assert ladder.strongest == "Sequential"
    assert ladder.broke == "Linearizable"
    assert "c2 read c1:1" in ladder.why


def test_crossed_writes_are_causal_and_not_sequential() -> None:
    """Two clients write one key each and find nothing in the other's (Dekker)."""
    script = settled(Script())
    script.write("c1", "x", 0, 1)
    script.write("c2", "y", 0, 1)
    script.read("c1", "y", 2, 3)
    script.read("c2", "x", 2, 3)
    script.write("c1", "z", 4, 5)
    script.read("c1", "z", 6, 7, "c1:2")
    script.read("c2", "z", 8, 9, "c1:2")
    script.read("c2", "x", 10, 11, "c1:1")
    script.write("c2", "z", 12, 13)
    script.read("c3", "z", 14, 15, "c2:2")
    script.read("c3", "z", 16, 17, "c2:2")
    found = analyse(script.history)
    assert found.ladder.strongest == "Causal"
    assert found.ladder.broke == "Sequential"
    (witness,) = found.findings["sequential"].witnesses
    assert set(witness.operations) == {0, 1, 2, 3}
    assert "each of these comes before the next" in witness.words


def test_a_missed_cause_breaks_causality_and_no_guarantee_of_one_session() -> None:
    """Three clients: what the third can have known of went through the second."""
    script = settled(Script(register=False, settings={"versions": "dvv"}))
    script.write("c1", "x", 0, 1)
    script.write("c1", "y", 2, 3)
    script.read("c2", "y", 4, 5, "c1:2")
    script.write("c2", "z", 6, 7)
    script.read("c3", "z", 8, 9, "c2:1")
    script.read("c3", "x", 10, 11)
    found = analyse(script.history)
    assert found.ladder.broke == "Causal"
    (witness,) = found.findings["causal"].witnesses
    assert witness.operations == [0, 1, 2, 3, 4, 5]
    assert witness.words.startswith(
        "c3 read x from 0.010 s on and found nothing, although it can have known of c1:1 (put "
        "'vc1:1'): c1's c1:1 (put 'vc1:1') of x at 0.001 s, then c1's c1:2 (put 'vc1:2') of y at "
        "0.003 s, then c2 read c1:2 (put 'vc1:2') of y at 0.005 s, then c2's c2:1"
    )


def test_the_witness_of_a_guarantee_tells_how_the_session_knew() -> None:
    script = settled(Script(register=False, settings={"versions": "dvv"}))
    script.write("c1", "x", 0, 1, node="n1")
    script.write("c1", "y", 2, 3, node="n1")
    script.read("c2", "y", 4, 5, "c1:2", node="n3")
    script.read("c2", "x", 6, 7, node="n4")
    finding = check("monotonic-writes", script.history)
    assert finding.counts == {"broken": 1}
    assert finding.witnesses[0].words == (
        "c2 read x by n4 from 0.006 s on and found nothing, although it had read c1:2 (put "
        "'vc1:2') of y by n3 by 0.005 s, and c1 had written c1:1 (put 'vc1:1') before that."
    )


def test_a_sibling_may_be_replaced_by_who_had_read_it_and_by_nobody_else() -> None:
    for based_on, broken in ((["c1:1"], 0), ([], 1)):
        script = Script(register=False, settings={"versions": "dvv"})
        script.write("c1", "k", 0, 1)
        script.write("c2", "k", 2, 3, based_on=based_on)
        script.read("c1", "k", 4, 5, "c2:1")
        assert check("read-your-writes", script.history).violations == broken


def test_under_last_write_wins_the_higher_timestamp_may_stand() -> None:
    for timestamp_ns, broken in ((5, 1), (50, 0)):
        script = Script(register=False, settings={"versions": "lww"})
        script.write("c2", "k", 0, 1)
        script.write("c1", "k", 2, 3)
        own = script.read("c3", "k", 4, 5, "c1:1")
        own.seen[0].timestamp_ns = 10
        other = script.read("c1", "k", 6, 7, "c2:1")
        other.seen[0].timestamp_ns = timestamp_ns
        assert check("read-your-writes", script.history).violations == broken


def test_overlapping_operations_of_a_client_bind_each_other_to_nothing() -> None:
    script = Script()
    script.write("c1", "k", 0, 5)
    script.read("c1", "k", 3, 9)
    for name in ("read-your-writes", "causal", "sequential"):
        assert check(name, script.history).violations == 0


def test_an_unknown_write_binds_nothing_that_its_client_does_later() -> None:
    script = Script()
    script.write("c1", "k", 0, 1, outcome=UNKNOWN)
    script.read("c1", "k", 2, 3)
    script.read("c2", "k", 4, 5, "c1:1")
    for name in ("read-your-writes", "causal", "sequential"):
        assert check(name, script.history).violations == 0


def test_a_delete_that_may_have_come_later_excuses_a_read_of_nothing() -> None:
    script = Script(register=False, settings={"versions": "dvv"})
    script.write("c1", "k", 0, 1)
    script.read("c1", "k", 4, 5)
    assert check("read-your-writes", script.history).violations == 1
    script.history.operations[0].index = 9
    script.write("c2", "k", 2, 3, DELETE, based_on=["c1:1"])
    assert check("read-your-writes", script.history).violations == 0


def test_a_delete_that_was_purged_is_missed_by_nobody_but_who_reads_what_it_had_read() -> None:
    for purged_ms, got, broken in ((20, (), 0), (20, ("c2:1",), 0), (20, ("c1:1",), 1),
                                   (60, ("c2:1",), 1)):  # fmt: skip
        script = Script(register=False, settings={"versions": "dvv", "purge": "after_repair"})
        script.write("c1", "k", 0, 1)
        delete = script.write("c1", "k", 2, 3, DELETE, based_on=["c1:1"])
        script.read("c3", "k", 4, 5, delete)
        script.event(purged_ms, "n1", "tombstone_purged", key="k", write_ids=[delete])
        script.write("c2", "k", 30, 31)
        script.read("c1", "k", 40, 41, *got)
        script.read("c3", "k", 40, 41, *got)
        for name in ("read-your-writes", "monotonic-reads", "causal"):
            assert bool(check(name, script.history).violations) == broken, (name, purged_ms, got)


def some_sequential_order(operations: list[Operation]) -> bool:
    """Try every order that keeps each client's own."""
    ok = [each for each in operations if each.outcome is OK]
    for order in permutations(ok):
        holds: dict[str, str | None] = {}
        for position, each in enumerate(order):
            if any(
                later.client == each.client and (later.complete_ns or 0) < each.invoke_ns
                for later in order[position + 1 :]
            ):
                break
            if each.kind is GET:
                if [version.write_id for version in each.seen] != (
                    [holds[each.key]] if each.key in holds else []
                ):
                    break
            else:
                holds[each.key] = each.write_id
        else:
            return True
    return False


def test_sequential_agrees_with_every_order_tried() -> None:
    rng, found = Random(3), dict.fromkeys(Verdict, 0)
    for _ in range(900):
        history = random_register(rng, operations=rng.randint(3, 6), span=10)
        if any(each.outcome is not OK for each in history.operations):
            continue
        finding = check("sequential", history)
        if finding.violations:
            assert not some_sequential_order(history.operations), history.operations
            found[Verdict.VIOLATED] += 1
        elif "explains" in finding.summary or "real time" in finding.summary:
            assert some_sequential_order(history.operations), history.operations
            found[Verdict.VALID] += 1
        else:
            found[Verdict.UNKNOWN] += 1
    assert found[Verdict.VIOLATED] > 80, found
    assert found[Verdict.VALID] > 80, found
    assert found[Verdict.UNKNOWN] < 20, found


def test_what_is_stronger_implies_what_is_weaker() -> None:
    """A history that is linearizable is sequential, causal, and keeps every guarantee."""
    rng, broke = Random(4), dict.fromkeys(CHECK, 0)
    order = ("linearizability", "sequential", "causal")
    weaker = ("read-your-writes", "monotonic-reads", "monotonic-writes", "writes-follow-reads")
    for _ in range(300):
        history = random_register(rng, operations=rng.randint(4, 24), span=40)
        found = {name: check(name, history) for name in (*order, *weaker)}
        for name, finding in found.items():
            broke[name] += finding.violations > 0
        for name in (*order[1:], *weaker):
            if not found["linearizability"].violations:
                assert not found[name].violations, (name, history.operations)
        for name in weaker:
            if found[name].violations:
                assert found["causal"].violations, (name, history.operations)
    assert all(broke[name] > 2 for name in (*order, *weaker)), broke


def test_the_ladder_of_single_copies_and_of_siblings() -> None:
    ladder = analyse(valid_register(Random(2))).ladder
    assert (ladder.strongest, ladder.broke, ladder.why) == ("Linearizable", None, "")
    ladder = analyse(valid_leaderless(Random(2))).ladder
    assert (ladder.strongest, ladder.broke) == ("Causal", "Sequential")
    assert "siblings" in ladder.why
