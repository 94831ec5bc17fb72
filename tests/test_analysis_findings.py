"""The run as a whole: expectations, the overall verdict, JSON, and the same findings every time."""

import json
from copy import deepcopy
from pathlib import Path
from random import Random

import pytest

from replication.analysis import (
    CHECKS,
    RunFindings,
    RunHeader,
    Verdict,
    analyse,
    analyse_run,
    findings_from_json,
    findings_to_json,
    known_checks,
    measure_problem,
)
from replication.analysis.expect import measure
from replication.analysis.findings_json import same
from replication.errors import ConfigError
from replication.history import History
from replication.history_files import read_history, write_history
from replication.plan.model import Expectation
from replication.protocol import Family
from tests.support.histories import MS, Script, valid_leaderless, valid_register
from tests.support.planted_histories import backward_read, lost_write, vanished_write

LEADER, LEADERLESS = Family.LEADER, Family.LEADERLESS


def valid_sides() -> dict[str, History]:
    return {"leaderless": valid_leaderless(Random(1)), "leader": valid_register(Random(1))}


def run(sides: dict[str, History], *expectations: Expectation) -> RunFindings:
    header = RunHeader(
        "sample", "A sample", "Is it?", 7, 0, {"replication": "0"}, "again", expectations
    )
    return analyse_run(header, sides)


def expects(side: Family, check: str, verdict: str) -> Expectation:
    return Expectation("expect[1]", side, check=check, verdict=verdict)


# The verdict of a run.


def test_a_run_without_a_broken_promise_is_valid() -> None:
    found = run(valid_sides())
    assert list(found.sides) == ["leader", "leaderless"]
    assert found.verdict is Verdict.VALID
    assert found.sides["leaderless"].verdict is Verdict.VALID


def test_what_nobody_promised_fails_no_run() -> None:
    sides = valid_sides()
    sides["leaderless"], _ = vanished_write(sides["leaderless"])
    assert run(sides).verdict is Verdict.VIOLATED  # siblings promise it
    sides["leaderless"].settings["versions"] = "lww"
    found = run(sides)
    assert found.sides["leaderless"].findings["conflicts"].verdict is Verdict.VIOLATED
    assert found.verdict is Verdict.VALID


def test_a_broken_promise_fails_a_run_unless_it_was_expected() -> None:
    sides = valid_sides()
    sides["leader"], _ = backward_read(sides["leader"])
    assert run(sides).verdict is Verdict.VIOLATED
    expected = expects(LEADER, "linearizability", "violated")
    assert run(sides, expected).verdict is Verdict.VALID
    other_side = expects(LEADERLESS, "durability", "valid")
    assert run(sides, other_side).verdict is Verdict.VIOLATED


def test_an_expectation_that_is_not_met_fails_the_run() -> None:
    found = run(valid_sides(), expects(LEADER, "durability", "violated"))
    (result,) = found.expectations
    assert (result.verdict, result.words) == (Verdict.VIOLATED, "durability is violated")
    assert result.observed.startswith("valid: 0 of")
    assert found.verdict is Verdict.VIOLATED


def test_what_is_unknown_is_neither_met_nor_broken() -> None:
    sides = valid_sides()
    sides["leader"].faults[0].effective = False
    expectations = [
        expects(LEADER, "linearizability", "valid"),
        expects(LEADER, "linearizability", "violated"),
        Expectation("expect[3]", LEADER, measure="writes.p99_ms", below=1e9),
        Expectation("expect[4]", LEADER, measure="writes.p99_ms", below=0),
        Expectation("expect[5]", LEADER, measure="failovers.9.write_outage_ms", below=1),
    ]
    found = run(sides, *expectations)
    assert [each.verdict for each in found.expectations] == [
        *(Verdict.UNKNOWN,) * 3,
        Verdict.VIOLATED,
        Verdict.UNKNOWN,
    ]
    assert "left no evidence" in found.expectations[0].observed
    assert "without evidence of fault 1" in found.expectations[2].observed
    assert run(sides, expectations[0]).verdict is Verdict.UNKNOWN


def test_an_interrupted_run_is_unknown_and_one_without_sides_too() -> None:
    sides = valid_sides()
    sides["leader"].interrupted = True
    assert run(sides).verdict is Verdict.UNKNOWN
    assert run({}).verdict is Verdict.UNKNOWN


def test_a_side_that_did_not_run_is_not_judged() -> None:
    sides = valid_sides()
    del sides["leaderless"]
    found = run(sides, expects(LEADERLESS, "durability", "valid"))
    assert found.expectations == []
    assert found.verdict is Verdict.VALID


# Measures.


def test_measures_are_found_by_their_path() -> None:
    script = Script(load_ms=1_000)
    script.fault("partition", ["n1"], 100, 900, sides=[["n1", "c1"], ["n2", "n3", "n4", "n5"]])
    script.write("c1", "k", 200, 212)
    script.final("k", "c1:1")
    side = analyse(script.history)
    for path, value in {
        "writes.p99_ms": 12,
        "reads.p99_ms": None,
        "availability.writes_of_the_minority_during_fault_1.ok_share": 1,
        "availability.writes-of-the-minority-during-fault-1.ok": 1,
        "availability.writes.longest_outage_ms": 12,
        "availability.writes.longest_outage_ns": 12 * MS,
        "findings.durability.counts.acknowledged": 1,
        "findings.linearizability.violations": 0,
        "failovers.count": 1,
        "failovers.0.steps.1.after_fault_ms": None,
        "failovers.0.steps.3.after_fault_ms": 112,
        "failovers.-1.failed": 0,
        "failovers.1.failed": None,
        "conflicts.vanished_count": 0,
        "operations.ok": 1,
        "throughput_per_s": 1,
    }.items():
        assert measure_problem(path) is None, path
        assert measure(side, path) == value, path


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("write.p99_ms", "the findings of a side has no 'write'; did you mean 'writes'?"),
        ("writes.p98_ms", "'writes' has no 'p98_ms'; did you mean 'p99_ms'?"),
        ("findings.durabilty.violations", "'durabilty' is no check; did you mean 'durability'?"),
        ("failovers.first.failed", "'failovers' is a list: expected a position or 'count'"),
        ("writes", "not a number but a whole group"),
        ("title", "not a number but a whole group"),
        ("writes.count.more", "'writes.count' is no group of measures"),
        ("", "has no ''"),
    ],
)
def test_a_path_that_leads_nowhere_is_told_before_the_run(path: str, problem: str) -> None:
    told = measure_problem(path)
    assert told is not None
    assert problem in told
    assert measure(analyse(valid_register(Random(1))), path) is None


def test_bounds_are_open_and_equality_is_exact() -> None:
    sides = valid_sides()
    faults = {"below": 1, "above": 1, "equals": 1}
    for bound, verdict in (("below", "violated"), ("above", "violated"), ("equals", "valid")):
        expectation = Expectation(
            "expect[1]", LEADER, measure="failovers.count", **{bound: faults[bound]}
        )
        assert run(sides, expectation).expectations[0].verdict.value == verdict
    both = Expectation("expect[1]", LEADER, measure="failovers.count", above=0.5, below=2)
    assert run(sides, both).expectations[0].words == "number of failovers is above 0.5 and below 2"


def test_every_check_says_what_it_finds_and_where_that_comes_from() -> None:
    names = known_checks()
    assert len(set(names)) == len(names)
    assert {"linearizability", "durability", "conflicts", "convergence"} <= set(names)
    for check in CHECKS:
        finding = check.run(valid_register(Random(1)))
        assert (finding.check, finding.title) == (check.name, check.title)
        assert check.finds
        assert check.source


# The same findings, every time and everywhere.


def test_findings_survive_json() -> None:
    for seed in range(20):
        sides = {
            "leader": valid_register(Random(seed)),
            "leaderless": valid_leaderless(Random(seed)),
        }
        sides["leader"], _ = lost_write(sides["leader"])
        found = run(sides, expects(LEADER, "durability", "violated"))
        text = findings_to_json(found)
        assert findings_from_json(text) == found
        assert findings_to_json(findings_from_json(text)) == text


def test_findings_that_are_none_are_refused_with_their_place() -> None:
    record = json.loads(findings_to_json(run(valid_sides())))
    slow = deepcopy(record)
    slow["sides"]["leader"]["writes"]["p99_ms"] = "fast"
    buckets = deepcopy(record)
    buckets["sides"]["leader"]["availability"]["reads"]["buckets"] = [[1, 2]]
    for bad, told in (
        ("{", "x.json: line 1, column 2"),
        ("[]", "x.json: expected findings in format 1"),
        (json.dumps(slow), "x.json: sides.leader.writes.p99_ms is 'fast', expected float"),
        (json.dumps(buckets), "buckets[0] has 2 items, expected 3"),
        (json.dumps(record | {"verdict": "fine"}), "'fine' is not a valid Verdict"),
        (json.dumps(record | {"extra": 1}), "the run has no field 'extra'"),
        (json.dumps(record | {"seed": True}), "seed is True, expected int"),
        (json.dumps({"format": 1}), "x.json: the run lacks 'name'"),
    ):
        with pytest.raises(ConfigError) as caught:
            findings_from_json(bad, "x.json")
        assert told in str(caught.value)


def test_a_stored_history_gives_the_same_findings(tmp_path: Path) -> None:
    for seed, make in ((1, valid_register), (2, valid_leaderless)):
        history = make(Random(seed))
        write_history(history, tmp_path)
        assert analyse(read_history(tmp_path)) == analyse(history)


def test_only_the_seconds_differ_between_analyses() -> None:
    header = RunHeader("sample", "A sample", "Is it?", 7, 0, {}, "again")
    ticks = iter(range(1_000))
    timed = analyse_run(header, valid_sides(), clock=lambda: float(next(ticks)))
    plain = analyse_run(header, valid_sides())
    assert timed.sides["leader"].findings["durability"].seconds == 1
    assert timed != plain
    assert same(timed, plain)
    changed = deepcopy(plain)
    changed.sides["leader"].findings["durability"].violations = 1
    assert not same(changed, plain)


def test_analysis_changes_no_history() -> None:
    for history in valid_sides().values():
        before = deepcopy(history)
        analyse(history)
        assert history == before


def test_nothing_of_a_run_is_needed_to_be_analysed() -> None:
    """An interrupted start leaves no operations, no events, no samples: no check may fall over."""
    for register in (True, False):
        history = Script(register=register, load_ms=0).history
        history.interrupted = True
        found = analyse(history)
        assert found.verdict is Verdict.UNKNOWN
        assert found.throughput_per_s == 0
