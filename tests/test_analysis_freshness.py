"""Reads that missed what their quorum was bound to see."""

from random import Random

import pytest

from replication.analysis import freshness
from replication.analysis.findings import Finding, Verdict
from replication.analysis.view import View
from replication.history import History, Outcome
from tests.support.histories import DELETE, Script, seen, valid_leaderless, valid_register

STRICT = {"n": 3, "r": 2, "w": 2, "versions": "dvv"}


def judge(history: History) -> Finding:
    return freshness.check(View(history))


def quorum(**settings: object) -> Script:
    return Script(register=False, settings={**STRICT, **settings})


def test_a_read_that_misses_an_acknowledged_write_is_named_with_it() -> None:
    script = quorum()
    script.write("c1", "k", 0, 10)
    script.write("c2", "k", 20, 30, based_on=["c1:1"], node="n2", replicas=["n2"])
    script.read("c3", "k", 40, 45, "c1:1", node="n4", replicas=["n4", "n5"])
    finding = judge(script.history)
    assert finding.verdict is Verdict.VIOLATED
    assert finding.promised
    (witness,) = finding.witnesses
    assert witness.operations == [1, 2]
    assert "c2:1 (put 'vc2:1') had been acknowledged by n2 alone at 0.030 s" in witness.words
    assert "R=2 and W=2 of N=3" in witness.words


def test_a_version_whose_writer_knew_of_the_write_will_do() -> None:
    script = quorum()
    script.write("c1", "k", 0, 10)
    script.write("c2", "k", 20, None, based_on=["c1:1"], outcome=Outcome.UNKNOWN)
    script.write("c3", "k", 30, 35, based_on=["c2:1"])
    script.read("c4", "k", 40, 45, "c3:1")
    assert judge(script.history).verdict is Verdict.VALID


def test_a_sibling_does_not_stand_in_for_another() -> None:
    script = quorum()
    script.write("c1", "k", 0, 10)
    script.write("c2", "k", 5, 15)
    script.read("c3", "k", 20, 25, "c2:1")
    assert judge(script.history).violations == 1


@pytest.mark.parametrize(("ring_changes", "promised"), [("joint", True), ("eager", False)])
def test_new_owners_that_answer_before_they_have_fetched_promise_nothing(
    ring_changes: str, promised: bool
) -> None:
    script = quorum(ring_changes=ring_changes)
    script.write("c1", "k", 1, 2)
    script.read("c2", "k", 3, 4, "c1:1")
    assert judge(script.history).promised is promised


def test_a_purged_delete_is_not_missed_nor_what_it_had_read() -> None:
    for purged_ms, missed in ((38, 0), (60, 1)):
        script = quorum(purge="after_repair")
        script.write("c1", "k", 0, 10)
        delete = script.write("c2", "k", 20, 30, DELETE, based_on=["c1:1"], outcome=Outcome.UNKNOWN)
        script.event(purged_ms, "n1", "tombstone_purged", key="k", write_ids=[delete])
        script.read("c3", "k", 40, 45)
        assert judge(script.history).violations == missed


def test_a_value_that_was_deleted_and_is_back_is_a_delete_missed() -> None:
    for purge in ("time", "after_repair"):
        script = quorum(purge=purge)
        script.write("c1", "k", 0, 10)
        delete = script.write("c2", "k", 20, 30, DELETE, based_on=["c1:1"])
        script.event(38, "n1", "tombstone_purged", key="k", write_ids=[delete])
        script.read("c3", "k", 40, 45, "c1:1")
        finding = judge(script.history)
        assert finding.violations == 1
        assert finding.promised is (purge != "time")


def test_a_write_that_ended_while_the_read_ran_need_not_be_seen() -> None:
    script = quorum()
    script.write("c1", "k", 0, 10)
    script.read("c2", "k", 10, 12)
    script.read("c3", "k", 5, 12)
    assert judge(script.history).verdict is Verdict.VALID


@pytest.mark.parametrize(
    ("settings", "fields", "judged"),
    [
        ({"r": 1, "w": 1}, {}, 0),
        ({}, {"consistency": "one"}, 1),
        ({}, {"replicas_asked": 1}, 1),
        ({"quorum": "sloppy", "pr": 1, "pw": 1}, {"fallbacks": ["n4"]}, 1),
    ],
)
def test_quorums_that_need_not_overlap_promise_nothing_and_are_not_judged(
    settings: dict[str, object], fields: dict[str, object], judged: int
) -> None:
    script = quorum(**settings)
    script.write("c1", "k", 0, 10)
    script.read("c2", "k", 20, 25, **fields)
    script.read("c2", "k", 30, 35, "c1:1")
    finding = judge(script.history)
    assert finding.coverage.judged == judged
    assert finding.verdict is (Verdict.VALID if judged else Verdict.UNKNOWN)
    assert finding.promised is (settings == {})


def test_a_read_of_all_sees_even_what_one_replica_acknowledged() -> None:
    script = quorum(r=1, w=1)
    script.write("c1", "k", 0, 10)
    script.read("c2", "k", 20, 25, consistency="all")
    assert judge(script.history).violations == 1


def test_last_write_wins_is_judged_by_time_and_promises_nothing() -> None:
    script = quorum(versions="lww")
    script.write("c1", "k", 0, 10)
    script.write("c2", "k", 20, 30)
    script.read("c3", "k", 40, 45, "c2:1")
    script.read("c3", "k", 50, 55, "c1:1")
    finding = judge(script.history)
    assert finding.violations == 1
    assert not finding.promised


def test_a_stale_read_of_a_leader_is_caught_but_a_local_one_is_not_judged() -> None:
    script = Script()
    script.write("c1", "k", 0, 10)
    script.write("c2", "k", 20, 30)
    script.read("c3", "k", 40, 45, "c1:1", consistency="local")
    script.read("c4", "k", 40, 45, "c1:1")
    finding = judge(script.history)
    assert finding.violations == 1
    assert finding.witnesses[0].operations == [1, 3]


def test_nothing_is_found_in_valid_histories() -> None:
    for seed in range(300):
        assert judge(valid_leaderless(Random(seed))).violations == 0, seed
        assert judge(valid_register(Random(seed))).violations == 0, seed


def test_every_planted_miss_is_found() -> None:
    """Take from a read what it had to return: the newest acknowledged version of its key."""
    planted = 0
    for seed in range(300):
        history = valid_leaderless(Random(seed))
        for read in history.operations:
            acknowledged = {
                each.write_id
                for each in history.operations
                if each.outcome is Outcome.OK
                and each.key == read.key
                and each.write_id is not None
                and each.complete_ns is not None
                and each.complete_ns < read.invoke_ns
            }
            returned = {version.write_id for version in read.seen}
            if len(returned) == 1 and returned <= acknowledged:
                planted += 1
                read.seen = seen()
                finding = judge(history)
                assert finding.violations == 1, seed
                assert read.index in finding.witnesses[0].operations, seed
                break
    assert planted > 200
