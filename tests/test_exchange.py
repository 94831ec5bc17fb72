"""Histories of other tools: read with the place of every mistake, judged, and written for them."""

import json
from dataclasses import asdict
from pathlib import Path
from random import Random

import pytest
from click.testing import CliRunner

from replication import api
from replication.analysis import linearizability
from replication.analysis.calls import judge_calls
from replication.analysis.findings import Verdict
from replication.analysis.search import Budget
from replication.analysis.view import View
from replication.cli import main
from replication.errors import ConfigError
from replication.exchange import FORMATS, export, parse_history
from replication.exchange.json_lines import judge_lines
from replication.history import History
from replication.history_files import write_history
from tests.support.histories import (
    SWAP,
    Script,
    random_register,
    seen,
    valid_leaderless,
    valid_register,
)

KNOSSOS = """\
; a compare-and-set register
{:process 0, :type :invoke, :f :write, :value 1, :time 10, :index 0}
#jepsen.history.Op{:process 1, :type :invoke, :f :read, :value nil}
{:process 0, :type :ok, :f :write, :value 1}
{:process 1, :type :ok, :f :read, :value 1}
{:process :nemesis, :type :info, :f :start, :value "cut off #{n1}"}
{:process 2, :type :invoke, :f :cas, :value [1 2]}
{:process 2, :type :ok, :f :cas, :value [1 2]}
{:process 3, :type :invoke, :f :cas, :value [7 8]}
{:process 3, :type :fail, :f :cas, :value [7 8]}
{:process 4, :type :invoke, :f :write, :value 9}
{:process 4, :type :info, :f :write, :value 9, :error "timed out"}
{:process 1, :type :invoke, :f :read, :value nil}
{:process 1, :type :ok, :f :read, :value VALUE}
"""
PORCUPINE = """\
INFO  jepsen.core - setting up
INFO  jepsen.util - 4	:invoke	:write	3
INFO  jepsen.util - 4	:ok	:write	3
INFO  jepsen.util - 1	:invoke	:cas	[0 3]
INFO  jepsen.util - 1	:RESULT	:cas	[0 3]
INFO  jepsen.util - 2	:invoke	:read	nil
INFO  jepsen.util - 2	:fail	:read	:timed-out
INFO  jepsen.util - :nemesis	:info	:stop	nil
INFO  jepsen.util - 4	:invoke	:read	nil
INFO  jepsen.util - 4	:ok	:read	3
"""
PORCUPINE_KV = """\
{:process 0, :type :invoke, :f :put, :key "a", :value "x"}
{:process 0, :type :ok, :f :put, :key "a", :value "x"}
{:process 1, :type :invoke, :f :append, :key "a", :value "y"}
{:process 2, :type :invoke, :f :get, :key "b", :value nil}
{:process 2, :type :ok, :f :get, :key "b", :value ""}
{:process 1, :type :ok, :f :append, :key "a", :value "y"}
{:process 0, :type :invoke, :f :get, :key "a", :value nil}
{:process 0, :type :ok, :f :get, :key "a", :value "VALUE"}
"""


def verdict(text: str, model: str, initial: object = None) -> Verdict:
    return judge_calls(parse_history(text, "h"), model, initial, Budget()).verdict


@pytest.mark.parametrize(("value", "expected"), [(2, "valid"), (9, "valid"), (1, "violated")])
def test_knossos_edn_is_judged(value: int, expected: str) -> None:
    text = KNOSSOS.replace("VALUE", str(value))
    assert verdict(text, "cas-register", 0) == expected


def test_a_failed_compare_and_set_of_jepsen_says_nothing_one_of_porcupine_does() -> None:
    text = KNOSSOS.replace("VALUE", "2").replace("[7 8]", "[2 8]")
    assert verdict(text, "cas-register") == "valid"
    assert verdict(PORCUPINE.replace("RESULT", "fail"), "cas-register") == "valid"
    assert verdict(PORCUPINE.replace("RESULT", "ok"), "cas-register") == "violated"
    refused = PORCUPINE.replace("RESULT", "fail").replace("[0 3]", "[3 0]")
    assert verdict(refused, "cas-register") == "violated"


@pytest.mark.parametrize(("value", "expected"), [("xy", "valid"), ("y", "violated")])
def test_the_key_value_log_of_porcupine_is_judged(value: str, expected: str) -> None:
    assert verdict(PORCUPINE_KV.replace("VALUE", value), "append", "") == expected


def test_independent_keys_are_told_apart() -> None:
    text = """[
      {:process 0 :type :invoke :f :write :value [:x 1]}
      {:process 0 :type :ok :f :write :value [:x 1]}
      {:process 0 :type :invoke :f :read :value [:y nil]}
      {:process 0 :type :ok :f :read :value [:y nil]}
      {:process 0 :type :invoke :f :cas :value [:x [1 2]]}
      {:process 0 :type :ok :f :cas :value [:x [1 2]]}]"""
    history = parse_history(text, "h")
    assert {call.key for call in history.calls} == {"x", "y"}
    assert verdict(text, "cas-register") == "valid"


@pytest.mark.parametrize(("seen_list", "expected"), [([1, 2], "valid"), ([2], "violated")])
def test_transactions_of_elle_are_judged_as_one_object(seen_list: list[int], expected: str) -> None:
    events = [
        {"process": 0, "type": "invoke", "f": "txn", "value": [["append", 5, 1], ["r", 6, None]]},
        {"process": 0, "type": "ok", "f": "txn", "value": [["append", 5, 1], ["r", 6, None]]},
        {"process": 1, "type": "invoke", "f": "txn", "value": [["append", 5, 2]]},
        {"process": 1, "type": "ok", "f": "txn", "value": [["append", 5, 2]]},
        {"process": 0, "type": "invoke", "f": "txn", "value": [["r", 5, None]]},
        {"process": 0, "type": "ok", "f": "txn", "value": [["r", 5, seen_list]]},
    ]
    assert verdict(json.dumps(events), "multi-register") == expected
    lines = "\n".join(json.dumps(each) for each in events)
    assert verdict(lines, "multi-register") == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "h: the file is empty"),
        ("hello", "h:1: column 1: found 'hello', expected our JSON Lines"),
        ("{:process 0\n :type }}", "h:1: column 1: a map with a key but no value"),
        ("{:process 0 :type\n]", "h:2: column 1: found ']', expected '}'"),
        ("{:process 0", "h:1: column 1: the file ends inside what begins here with '{'"),
        ('{:process 0 :f "x', "h:1: column 16: the text never ends"),
        ("{:process 0 :type :maybe :f :read}", "h:1: the type is 'maybe', expected one of invoke"),
        ("{:process 0 :type :ok :f :dance}", "h:1: the operation is 'dance', expected one of"),
        ("{:process 0 :f :read}", "h:1: an event without type"),
        ("{:process 0 :type :ok :f :read :value 1}", "h:1: process 0 completes read, expected"),
        ("7", "h:1: column 1: found '7'"),
        ('[{"process": 0,', "h:1: column 16: Expecting"),
        ('{"process": 0}\n{"process" 0}', "h:2: column 12: Expecting"),
        (
            "{:process 0 :type :invoke :f :cas :value 3}",
            "h:1: the value of cas is 3, expected [from to]",
        ),
        ("INFO jepsen.util - 0 :invoke :write [3", "h:1: column 37: the file ends inside"),
    ],
)
def test_what_is_no_history_is_refused_with_its_place(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_history(text, "h")
    assert raised.value.problems[0].startswith(problem), raised.value.problems


def test_a_process_has_one_operation_under_way_and_all_mistakes_are_told() -> None:
    invoke = "{:process 0 :type :invoke :f :read :value nil}\n"
    with pytest.raises(ConfigError) as raised:
        parse_history(invoke * 3, "h")
    assert len(raised.value.problems) == 2
    assert "h:2: process 0 invokes again, expected the end of what it invoked in line 1" in (
        raised.value.problems
    )


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_what_was_exported_is_judged_as_it_was(form: str) -> None:
    verdicts = set()
    for seed in range(60):
        swaps = 0.3 if form != "porcupine" else 0.0
        history = (
            valid_register(Random(seed), operations=8 + seed % 9, swaps=swaps)
            if seed % 2
            else random_register(Random(seed), operations=10)
        )
        if any(version.write_id == "c9:9" for each in history.operations for version in each.seen):
            continue
        for each in history.operations:
            if each.error == "Conflict":
                each.error = "NotLeader"  # their failures say nothing of the value
            for version in each.seen:
                written = next(w for w in history.operations if w.write_id == version.write_id)
                version.value, version.tombstone = written.value, written.value is None
        deletes = any(each.value is None and each.write_id for each in history.operations)
        if deletes:
            continue  # a deleted key reads like one that was never written
        expected = linearizability.check(View(history)).violations == 0
        initial = "" if form == "porcupine" else None
        model = "cas-register"
        text = export(history, form)
        assert (verdict(text, model, initial) is Verdict.VALID) is expected, seed
        verdicts.add(expected)
    assert verdicts == {True, False}


def test_siblings_and_compare_and_set_have_no_word_elsewhere() -> None:
    script = Script(register=False)
    script.read("c1", "k", 0, 1, "c2:1", "c3:1")
    with pytest.raises(ConfigError, match="several values"):
        export(script.history, "edn")
    script = Script()
    script.write("c1", "k", 0, 1, SWAP, expected="a")
    with pytest.raises(ConfigError, match="no compare-and-set"):
        export(script.history, "porcupine")


# Our own format, at speed.


def lines_of(history: History, folder: Path) -> list[bytes]:
    write_history(history, folder)
    return (folder / "history.jsonl").read_bytes().splitlines(keepends=True)


def test_columns_judge_our_own_lines_as_the_check_does(tmp_path: Path) -> None:
    verdicts = {True: 0, False: 0}
    for seed in range(150):
        rng = Random(seed)
        history = (
            random_register(rng, operations=14, swaps=0.2 * (seed % 3 == 0))
            if seed % 2
            else valid_register(rng, operations=30, swaps=0.2 * (seed % 3 == 0))
        )
        history.faults = []
        lines = lines_of(history, tmp_path)
        expected = linearizability.check(View(history))
        finding = judge_lines(lambda lines=lines: iter(lines), "h", Budget())
        assert (finding.violations == 0) is (expected.violations == 0), seed
        assert finding.coverage.judged == expected.coverage.judged
        verdicts[expected.violations == 0] += 1
        if expected.violations:
            assert finding.violations == expected.violations
            numbers = {each + 2 for each in expected.witnesses[0].operations}
            assert numbers == set(finding.witnesses[0].operations), "they are lines here"
    assert min(verdicts.values()) > 20, verdicts


def test_siblings_in_our_own_lines_are_no_register(tmp_path: Path) -> None:
    lines = lines_of(valid_leaderless(Random(4)), tmp_path)
    finding = judge_lines(lambda: iter(lines), "h", Budget())
    assert finding.verdict is Verdict.VIOLATED
    assert "values of" in finding.witnesses[0].words


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda line: line.replace(b'"get"', b'"got"'), "h:2: invalid enum value 'got'"),
        (lambda line: line[:-9], "h:2: "),
        (lambda line: line.replace(b'"outcome"', b'"outcome" x'), "h:2: column "),
        (lambda line: b"[]\n", "h:2: expected `object`, got `array`"),
    ],
)
def test_broken_lines_of_our_own_have_their_place(
    change: object, problem: str, tmp_path: Path
) -> None:
    script = Script()
    script.read("c1", "k", 0, 1)
    lines = lines_of(script.history, tmp_path)
    assert callable(change)
    lines[1] = change(lines[1])
    with pytest.raises(ConfigError) as raised:
        judge_lines(lambda: iter(lines), "h", Budget())
    assert raised.value.problems[0].startswith(problem), raised.value.problems


# The commands.


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, list(arguments))
    return result.exit_code, result.output


def test_check_judges_a_file_and_says_so_with_its_exit_code(tmp_path: Path) -> None:
    path = tmp_path / "h.edn"
    path.write_text(KNOSSOS.replace("VALUE", "1"))
    code, text = run("check", str(path), "--model", "cas-register", "--initial", "0")
    assert code == 1
    assert "✘ FAIL  Linearizable as cas-register" in text
    assert "process 1 read 1 (lines 13, 14), and no order" in text
    path.write_text(KNOSSOS.replace("VALUE", "2"))
    code, text = run("check", str(path), "--format", "json")
    assert code == 0
    assert json.loads(text)["coverage"]["by_outcome"] == {"ok": 4, "fail": 1, "unknown": 1}
    path.write_text("{:process")
    code, text = run("check", str(path))
    assert (code, text) == (2, f"{path}:1: column 1: the file ends inside what begins here "
                               "with '{'\n")  # fmt: skip
    code, text = run("check", str(path), "--model", "registr")
    assert (code, text) == (2, "there is no model 'registr'; did you mean 'register'?\n")


def test_check_gives_up_in_time(tmp_path: Path) -> None:
    path = tmp_path / "h.edn"
    events = [f"{{:process {n} :type :invoke :f :add :value {1 << n}}}" for n in range(40)]
    events.append("{:process 99 :type :invoke :f :read :value nil}")
    events += [f"{{:process {n} :type :ok :f :add :value {1 << n}}}" for n in range(40)]
    events.append("{:process 99 :type :ok :f :read :value 1234567}")
    events += ["{:process 9 :type :invoke :f :read}", "{:process 9 :type :ok :f :read :value 1}"]
    path.write_text("\n".join(events))
    code, text = run("check", str(path), "--timeout", "0.2")
    assert code == 3, text
    assert "gave up" in text


def test_check_reads_our_own_file_and_export_writes_for_others(tmp_path: Path) -> None:
    script = Script()
    first = script.write("c1", "k", 0, 1)
    script.write("c1", "k", 2, 3)
    script.read("c2", "k", 4, 5, seen=seen(first))
    write_history(script.history, tmp_path)
    finding = api.check(tmp_path / "history.jsonl")
    assert finding.verdict is Verdict.VIOLATED
    assert finding.witnesses[0].operations == [2, 3, 4]
    assert json.dumps(asdict(finding))
    text = export(script.history, "edn")
    assert text.splitlines()[0] == (
        '{:index 0, :time 1000000000, :type :invoke, :process 0, :f :write, :value ["k" "vc1:1"]}'
    )


def test_checks_lists_the_registry() -> None:
    from replication.analysis import CHECKS

    code, text = run("checks")
    assert code == 0
    for check in CHECKS:
        assert f"{check.name}  ({check.title})" in text
    code, text = run("checks", "--format", "json")
    assert [each["name"] for each in json.loads(text)] == [each.name for each in CHECKS]
