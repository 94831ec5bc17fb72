"""Durability, conflicts and convergence; planted defects for every check; when nothing is shown."""

import os
from collections.abc import Callable
from copy import deepcopy
from dataclasses import fields, replace
from random import Random

import pytest

from replication.analysis import CHECKS, Check, analyse
from replication.analysis.findings import Finding, Verdict
from replication.analysis.sessions import TITLES
from replication.analysis.view import View
from replication.history import History
from tests.support.histories import (
    DELETE,
    FAIL,
    UNKNOWN,
    Script,
    at,
    seen,
    valid_leaderless,
    valid_register,
)
from tests.support.planted_histories import LEADERLESS_DEFECTS, REGISTER_DEFECTS

Defect = Callable[[History], tuple[History, set[int]]]
ON_THE_LADDER = {"sequential", "causal", *TITLES}  # judged for everybody, promised by none
# More of them: CHECKER_VALID=10000.
VALID_SAMPLES = int(os.environ.get("CHECKER_VALID", "300"))
FIRST_SEED = int(os.environ.get("CHECKER_SEED", "1"))
CHECK = {check.name: check for check in CHECKS}


def check(name: str, history: History) -> Finding:
    return CHECK[name].run(history)


def checks_of(history: History) -> list[Check]:
    """Return the checks that the workload of a history has something for."""
    return [each for each in CHECKS if each.applies(View(history))]


def silent(finding: Finding) -> bool:
    """Return whether it is valid; a guarantee that bound no read has nothing to say."""
    assert not finding.violations
    return finding.verdict is Verdict.VALID or not finding.coverage.judged


def planted(
    defects: dict[str, tuple[Defect, ...]],
) -> list[tuple[str, Defect]]:
    return [(name, each) for name, several in defects.items() for each in several]


@pytest.mark.parametrize(("name", "defect"), planted(REGISTER_DEFECTS))
def test_a_defect_in_a_register_is_found_and_named(name: str, defect: Defect) -> None:
    for seed in range(10):
        history, operations = defect(valid_register(Random(seed)))
        finding = check(name, history)
        assert finding.verdict is Verdict.VIOLATED, seed
        assert finding.promised is (name not in ON_THE_LADDER)
        assert operations <= set(finding.witnesses[0].operations), finding.witnesses[0].words


@pytest.mark.parametrize(("name", "defect"), planted(LEADERLESS_DEFECTS))
def test_a_defect_in_a_leaderless_store_is_found_and_named(name: str, defect: Defect) -> None:
    for seed in range(10):
        history, operations = defect(valid_leaderless(Random(seed)))
        finding = check(name, history)
        assert finding.verdict is Verdict.VIOLATED, seed
        assert finding.violations == 1
        assert operations <= set(finding.witnesses[0].operations), finding.witnesses[0].words


def test_no_check_fires_on_valid_registers() -> None:
    for seed in range(FIRST_SEED, FIRST_SEED + VALID_SAMPLES):
        history = valid_register(Random(seed), operations=30, swaps=0.2 * (seed % 2))
        for each in checks_of(history):
            finding = each.run(history)
            assert silent(finding), (seed, each.name, finding)


def test_no_check_fires_on_valid_leaderless_stores() -> None:
    """But those of one copy, which siblings are not and which nobody promised."""
    for seed in range(FIRST_SEED, FIRST_SEED + VALID_SAMPLES):
        history = valid_leaderless(Random(seed), operations=30)
        for each in checks_of(history):
            finding = each.run(history)
            if each.name in ("linearizability", "sequential"):
                assert not finding.promised
            else:
                assert silent(finding), (seed, each.name, finding)


def test_a_defect_stays_found_when_lines_of_equal_time_are_permuted() -> None:
    for name, defect in planted(REGISTER_DEFECTS):
        history, _ = defect(valid_register(Random(4)))
        expected = check(name, history).violations
        Random(9).shuffle(history.operations)
        Random(9).shuffle(history.contents)
        assert check(name, history).violations == expected


# Durability.


def settled(script: Script, *left: str, key: str = "k") -> Finding:
    script.final(key, *left)
    return check("durability", script.history)


def test_an_overlapping_write_acquits() -> None:
    script = Script()
    script.write("c1", "k", 0, 10)
    script.write("c2", "k", 5, 6)
    assert settled(script, "c1:1").verdict is Verdict.VALID


def test_a_write_after_what_is_left_is_lost_and_told() -> None:
    script = Script()
    script.write("c1", "k", 0, 10, node="n1", term=1)
    script.write("c2", "k", 20, 30, node="n1", term=1)
    script.read("c3", "k", 40, 50, "c2:1")
    script.event(3_000, "n1", "log_truncated", from_index=7, entries=1, write_ids=["c2:1"])
    finding = settled(script, "c1:1")
    assert finding.counts["lost"] == 1
    (witness,) = finding.witnesses
    assert witness.operations == [0, 1, 3]
    assert witness.words == (
        "c2's c2:1 (put 'vc2:1') of k was acknowledged by n1 in term 1 at 0.030 s and is lost: all "
        "that can be read at the end is c1:1 (put 'vc1:1'), which was there before c2 began to "
        "write at 0.020 s. It was last read at 0.050 s. n1 dropped it from its log at 3.000 s, "
        "never having committed it."
    )


def test_an_unknown_write_acquits_until_somebody_has_read_it() -> None:
    script = Script()
    script.write("c1", "k", 0, None, outcome=UNKNOWN)
    script.write("c2", "k", 20, 30)
    assert settled(script, "c1:1").verdict is Verdict.VALID
    script.read("c3", "k", 12, 15, "c1:1")
    assert check("durability", script.history).counts["lost"] == 1


def test_nothing_left_is_explained_by_a_delete_only() -> None:
    script = Script()
    script.write("c1", "k", 0, 10)
    assert settled(script).counts["lost"] == 1
    script.write("c2", "k", 5, None, DELETE, outcome=UNKNOWN)
    assert check("durability", script.history).counts["lost"] == 0
    early = Script()
    early.write("c2", "k", 0, 1, DELETE)
    early.write("c1", "k", 5, 10)
    assert settled(early).counts["lost"] == 1


def test_one_owner_that_holds_it_saves_a_leaderless_write_only() -> None:
    for register, lost in ((False, 0), (True, 1)):
        script = Script(register=register)
        script.write("c1", "k", 0, 10)
        script.write("c2", "k", 20, 30)
        script.held("n1", "k", "c1:1")
        script.held("n2", "k", "c2:1")
        assert settled(script, "c1:1").counts["lost"] == lost


def test_writes_of_keys_that_nobody_read_at_the_end_are_not_kept_by_assumption() -> None:
    script = Script()
    script.write("c1", "k", 0, 10)
    finding = check("durability", script.history)
    assert finding.verdict is Verdict.UNKNOWN
    assert "nobody read k at the end" in finding.coverage.notes[0]
    script.held("n1", "k", "c1:1")
    assert check("durability", script.history).verdict is Verdict.VALID
    script.history.interrupted = True
    assert check("durability", script.history).verdict is Verdict.UNKNOWN


def test_a_failed_write_that_only_a_replica_holds_is_visible() -> None:
    script = Script(register=False)
    script.write("c1", "k", 0, 10, outcome=FAIL, error="QuorumUnreachable")
    script.held("n3", "k", "c1:1")
    finding = check("durability", script.history)
    assert finding.counts["failed_visible"] == 1
    assert "failed with QuorumUnreachable" in finding.witnesses[0].words
    assert "n3 still held it" in finding.witnesses[0].words


def test_unknown_writes_that_took_effect_are_counted() -> None:
    script = Script()
    script.write("c1", "k", 0, None, outcome=UNKNOWN)
    script.write("c2", "j", 0, None, outcome=UNKNOWN)
    finding = settled(script, "c1:1")
    assert (finding.counts["unknown"], finding.counts["unknown_took_effect"]) == (2, 1)


# Conflicts.


def split(versions: str) -> Script:
    """Two blind writes on both sides of a partition, and one that had read the first."""
    script = Script(register=False, settings={"versions": versions})
    script.write("c1", "k", 0, 1, node="n1", dot="n1:1" if versions == "dvv" else None)
    script.write("c2", "k", 100, 101, node="n4", dot="n4:1" if versions == "dvv" else None)
    return script


def version(write_id: str, timestamp_ns: int = 0) -> dict[str, object]:
    return {"write_id": write_id, "tombstone": False, "dot": None, "timestamp_ns": timestamp_ns}


def test_siblings_are_listed_with_dots_and_writers() -> None:
    script = split("dvv")
    for node in ("n2", "n3"):
        script.event(
            5_000, node, "siblings_created", key="k", versions=[version("c1:1"), version("c2:1")]
        )
    script.final("k", "c1:1", "c2:1")
    finding = check("conflicts", script.history)
    assert finding.verdict is Verdict.VALID
    assert finding.promised
    ledger = analyse(script.history).conflicts
    assert (ledger.sibling_sets, ledger.siblings_at_end, ledger.sibling_count_max) == (1, 1, 2)
    (conflict,) = ledger.conflicts
    assert conflict.ended == "left as siblings"
    assert conflict.at_ns == at(5_000)
    assert [each["dot"] for each in conflict.versions] == ["n1:1", "n4:1"]
    assert [each["client"] for each in conflict.versions] == ["c1", "c2"]
    assert [each["node"] for each in conflict.versions] == ["n1", "n4"]


def test_a_resolved_conflict_names_who_resolved_it() -> None:
    script = split("dvv")
    script.event(
        200, "n2", "siblings_created", key="k", versions=[version("c1:1"), version("c2:1")]
    )
    script.read("c3", "k", 300, 301, "c1:1", "c2:1")
    script.write("c3", "k", 302, 303, based_on=["c1:1", "c2:1"])
    script.event(
        303, "n2", "siblings_resolved", key="k", resolved_by="c3:1",
        dropped=[version("c1:1"), version("c2:1")],
    )  # fmt: skip
    script.final("k", "c3:1")
    ledger = analyse(script.history).conflicts
    assert (ledger.sibling_sets, ledger.resolved, ledger.siblings_at_end) == (1, 1, 0)
    assert ledger.conflicts[0].ended == "resolved by c3:1"
    assert ledger.conflicts[0].ended_at_ns == at(303)
    assert check("conflicts", script.history).verdict is Verdict.VALID


def test_last_write_wins_counts_what_it_dropped() -> None:
    script = split("lww")
    script.event(
        5_000, "n2", "version_dropped", key="k",
        dropped=version("c1:1", 7), winner=version("c2:1", 9),
    )  # fmt: skip
    script.final("k", "c2:1")
    finding = check("conflicts", script.history)
    assert finding.verdict is Verdict.VIOLATED
    assert not finding.promised
    assert finding.counts["vanished"] == 1
    ledger = analyse(script.history).conflicts
    assert ledger.dropped_by_timestamp == 1
    (gone,) = ledger.vanished
    assert (gone.write_id, gone.winner, gone.acknowledged_by) == ("c1:1", "c2:1", "n1")
    assert gone.why == (
        "dropped by last-write-wins for c2:1 of c2, which had not read it; it began 99 ms after "
        "the acknowledgement"
    )
    assert ledger.conflicts[0].ended == "dropped by timestamp: c2:1 won"
    assert check("durability", script.history).verdict is Verdict.VALID


def test_a_writer_who_had_read_it_makes_nothing_vanish() -> None:
    script = split("dvv")
    script.write("c3", "k", 200, 201, based_on=["c1:1"])
    script.write("c3", "k", 210, 211, based_on=["c3:1", "c2:1"])
    script.final("k", "c3:2")
    assert check("conflicts", script.history).verdict is Verdict.VALID


def test_an_unknown_writer_that_nobody_noticed_excuses_nothing() -> None:
    script = split("dvv")
    script.write("c3", "k", 200, None, based_on=["c1:1"], outcome=UNKNOWN)
    script.final("k", "c2:1")
    assert check("conflicts", script.history).counts["vanished"] == 1
    script.write("c4", "k", 300, 301, based_on=["c3:1", "c2:1"])
    script.history.operations[-2].seen = seen("c4:1")  # the final read
    assert check("conflicts", script.history).counts["vanished"] == 0


def test_concurrent_writes_are_those_that_overlap_unseen() -> None:
    script = Script(register=False)
    script.write("c1", "k", 0, 10)
    script.write("c2", "k", 5, 15)  # overlaps c1:1
    script.write("c3", "k", 14, 20, based_on=["c2:1"])  # has read c2:1 while it was under way
    script.write("c4", "k", 30, 31)
    script.write("c5", "j", 0, 99)
    assert analyse(script.history).conflicts.concurrent_writes == 2
    script.write("c5", "k", 8, 19, based_on=["c1:1"])  # overlaps c2:1 and c3:1
    assert analyse(script.history).conflicts.concurrent_writes == 4


def test_overwriting_is_what_put_means_where_there_is_one_order() -> None:
    script = Script()
    script.write("c1", "k", 0, 1)
    script.write("c2", "k", 2, 3)
    script.final("k", "c2:1")
    finding = check("conflicts", script.history)
    assert (finding.verdict, finding.counts["vanished"]) == (Verdict.VALID, 0)


# Convergence.


def test_convergence_is_the_first_sample_from_which_on_none_differs() -> None:
    script = Script()
    script.write("c1", "k", 0, 1)
    for ms, differing in ((0, ["k"]), (100, []), (200, ["k"]), (300, []), (400, [])):
        script.sample(ms, 1, *differing)
    report = analyse(script.history).convergence
    assert (report.after_heal_ns, report.differing_at_heal) == (300_000_000, 1)
    assert check("convergence", script.history).verdict is Verdict.VALID


def test_replicas_that_stay_apart_are_named_with_what_they_hold() -> None:
    script = Script(register=False)
    script.write("c1", "k", 0, 1)
    script.sample(0, 1, "k")
    script.sample(900, 1, "k")
    script.held("n2", "k", "c1:1")
    script.held("n1", "k")
    finding = check("convergence", script.history)
    assert finding.verdict is Verdict.VIOLATED
    assert not finding.promised
    assert finding.witnesses[0].words.endswith(
        "At the end n1 held nothing; n2 held c1:1 (put 'vc1:1')."
    )
    script.history.samples[-1].unreachable = ["n4"]
    assert check("convergence", script.history).verdict is Verdict.UNKNOWN
    script.history.samples.clear()
    assert check("convergence", script.history).verdict is Verdict.UNKNOWN


# When nothing is shown.


def test_a_fault_without_evidence_makes_no_check_pass() -> None:
    history = valid_register(Random(1))
    history.faults[0].effective = False
    for each in checks_of(history):
        finding = each.run(history)
        assert finding.verdict is Verdict.UNKNOWN, each.name
        assert finding.coverage.notes == ["fault 1 (kill n2) left no evidence that it took effect"]


def test_a_fault_that_was_not_injected_makes_no_check_pass() -> None:
    history = valid_register(Random(1))
    history.faults[0].injected_ns = None
    history.faults[0].problem = "no leader was known"
    finding = check("linearizability", history)
    assert finding.verdict is Verdict.UNKNOWN
    assert "was not injected: no leader was known" in finding.coverage.notes[0]


def test_a_window_without_an_acknowledged_operation_makes_no_check_pass() -> None:
    script = Script()
    script.write("c1", "k", 0, 1)
    script.write("c1", "k", 2, 6)  # ends in the window, but began before it
    script.write("c1", "k", 7, 12)  # began in the window, but ends after it
    script.fault("kill", ["n2"], 5, 10)
    finding = check("linearizability", script.history)
    assert finding.verdict is Verdict.UNKNOWN
    assert finding.coverage.by_fault == {1: 0}
    script.read("c2", "k", 6, 7, "c1:2")
    finding = check("linearizability", script.history)
    assert (finding.verdict, finding.coverage.by_fault) == (Verdict.VALID, {1: 1})


def test_a_restart_is_judged_by_what_comes_after_it() -> None:
    script = Script()
    script.fault("restart", ["n2"], 5, 6)
    script.write("c1", "k", 7, 12)
    assert check("linearizability", script.history).coverage.by_fault == {1: 1}


def test_a_violation_stays_one_without_evidence_of_the_fault() -> None:
    history, _ = REGISTER_DEFECTS["linearizability"][0](valid_register(Random(1)))
    history.faults[0].effective = False
    assert check("linearizability", history).verdict is Verdict.VIOLATED


def test_an_empty_history_proves_nothing() -> None:
    for each in checks_of(Script().history):
        assert each.run(Script().history).verdict is Verdict.UNKNOWN


def test_coverage_counts_what_was_judged() -> None:
    script = Script()
    script.write("c1", "k", 0, 1)
    script.write("c1", "k", 2, 3, outcome=UNKNOWN)
    script.write("c1", "k", 4, 5, outcome=FAIL)
    script.read("c2", "k", 6, 7, "c1:1")
    script.read("c2", "k", 8, 9, outcome=FAIL)
    coverage = check("linearizability", script.history).coverage
    assert coverage.judged == 3
    assert coverage.by_outcome == {"ok": 2, "fail": 2, "unknown": 1}
    assert coverage.by_kind == {"get": 1, "put": 2}
    assert coverage.keys == 1


def test_a_run_that_broke_shows_no_pass() -> None:
    history = valid_register(Random(1))
    history.problems.append("n3 ended by itself")
    for each in checks_of(history):
        finding = each.run(history)
        assert finding.verdict is Verdict.UNKNOWN, each.name
        assert finding.coverage.notes == ["the run broke: n3 ended by itself"]


def test_nothing_acknowledged_is_nothing_kept() -> None:
    script = Script()
    script.read("c1", "k", 0, 1)
    script.write("c1", "k", 2, None, outcome=UNKNOWN)
    finding = settled(script)
    assert finding.verdict is Verdict.UNKNOWN
    assert "no write was acknowledged" in finding.coverage.notes[0]


def test_a_conflict_lasts_until_one_version_is_left() -> None:
    """A writer who had read two of three siblings leaves two; later siblings are another story."""
    script = Script(register=False)
    for client in ("c1", "c2", "c3"):
        script.write(client, "k", 0, 1)
    three = [version(f"c{number}:1") for number in (1, 2, 3)]
    script.event(2, "n1", "siblings_created", key="k", versions=three[:2])
    script.event(3, "n1", "siblings_created", key="k", versions=three)
    script.write("c4", "k", 10, 11, based_on=["c1:1", "c2:1"])
    script.event(10, "n1", "siblings_created", key="k", versions=[three[2], version("c4:1")])
    script.event(
        10, "n1", "siblings_resolved", key="k", resolved_by="c4:1", dropped=three[:2]
    )  # fmt: skip
    script.final("k", "c3:1", "c4:1")
    ledger = analyse(script.history).conflicts
    assert (ledger.sibling_sets, ledger.resolved, ledger.siblings_at_end) == (1, 0, 1)
    assert [each["write_id"] for each in ledger.conflicts[0].versions] == [
        "c1:1", "c2:1", "c3:1", "c4:1",
    ]  # fmt: skip
    assert ledger.conflicts[0].ended == "left as siblings"

    script.write("c5", "k", 20, 21, based_on=["c3:1", "c4:1"])
    script.event(
        20, "n1", "siblings_resolved", key="k", resolved_by="c5:1",
        dropped=[three[2], version("c4:1")],
    )  # fmt: skip
    script.event(25, "n2", "siblings_created", key="k", versions=three)  # n2 is late: old news
    script.write("c6", "k", 30, 31)
    script.event(30, "n1", "siblings_created", key="k", versions=[version("c5:1"), version("c6:1")])
    script.history.operations[4].seen = seen("c5:1", "c6:1")  # the final read
    ledger = analyse(script.history).conflicts
    assert (ledger.sibling_sets, ledger.resolved, ledger.siblings_at_end) == (2, 1, 1)
    assert [each.ended for each in ledger.conflicts] == ["resolved by c5:1", "left as siblings"]


def moved(history: History, by_ns: int) -> History:
    """Return the history at another time, its clients under other names."""

    def name(client: str) -> str:
        return f"z{client[::-1]}"

    def write_id(text: str) -> str:
        client, _, sequence = text.rpartition(":")
        return f"{name(client)}:{sequence}"

    copy = deepcopy(history)
    for record in (copy, *copy.operations, *copy.faults, *copy.events, *copy.samples):
        for each in fields(record):
            value = getattr(record, each.name)
            if each.name.endswith("_ns") and isinstance(value, int):
                setattr(record, each.name, value + by_ns)
    copy.clients = {name(client): node for client, node in copy.clients.items()}
    for operation in copy.operations:
        operation.client = name(operation.client)
        operation.write_id = operation.write_id and write_id(operation.write_id)
        operation.based_on = [write_id(each) for each in operation.based_on]
        operation.seen = [
            replace(each, write_id=write_id(each.write_id)) for each in operation.seen
        ]
    for contents in copy.contents:
        contents.versions = [
            replace(each, write_id=write_id(each.write_id)) for each in contents.versions
        ]
    for event in copy.events:
        for told in event.fields.get("versions", ()):
            told["write_id"] = write_id(told["write_id"])
    return copy


def test_no_verdict_depends_on_names_or_on_when_it_was() -> None:
    histories = [valid_register(Random(1)), valid_leaderless(Random(1))]
    histories += [defect(histories[0])[0] for _, defect in planted(REGISTER_DEFECTS)]
    histories += [defect(histories[1])[0] for _, defect in planted(LEADERLESS_DEFECTS)]
    for history in histories:
        other = moved(history, 86_400_000_000_123)
        Random(2).shuffle(other.operations)
        for each in checks_of(history):
            here, there = each.run(history), each.run(other)
            assert (here.verdict, here.violations) == (there.verdict, there.violations), each.name
