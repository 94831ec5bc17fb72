"""A violation explained: causes from events and faults, and the picture of its operations."""

from pathlib import Path
from random import Random

from click.testing import CliRunner

from replication.analysis import analyse, analyse_run, findings_from_json, findings_to_json
from replication.analysis.analyse import RunHeader
from replication.analysis.findings import RunFindings, Witness
from replication.cli import main
from replication.history import History
from replication.report import run_directory
from replication.report.witness_picture import text_lines
from tests.support.histories import UNKNOWN, Script, valid_register
from tests.support.planted_histories import stale_read


def cut_off() -> Script:
    """A replica that a partition kept from a write serves a read (R = W = 1)."""
    script = Script(register=False, settings={"versions": "dvv", "n": 3, "r": 1, "w": 1})
    script.fault("partition", [], 11_00, 14_00, sides=[["n1", "n2"], ["n3", "n4", "n5"]])
    script.write("c1", "k", 900, 910, node="n1", replicas=["n1", "n4"])
    script.write("c2", "k", 1_200, 1_330, node="n1", replicas=["n1", "n2"], based_on=["c1:1"])
    script.write("c4", "k", 1_320, None, node="n2", outcome=UNKNOWN, based_on=["c1:1"])
    script.event(1_390, "n1", "read_repaired", replica="n4", write_ids=["c2:1"], key="k")
    script.read("c3", "k", 1_400, 1_410, "c1:1", node="n4", replicas=["n4"])
    script.final("k", "c2:1")
    return script


def witness(history: History, check: str = "linearizability") -> Witness:
    return analyse(history).findings[check].witnesses[0]


def test_the_causes_are_who_answered_what_it_had_not_heard_and_which_fault_lay_between() -> None:
    found = witness(cut_off().history)
    assert found.causes == [
        "n4 served the read.",
        "n4 was not among the nodes that had taken c2:1 by 1.330 s: n1 and n2.",
        "n4 was cut off from n1 and n2 from 1.100 s to 1.400 s (fault 1).",
        "At 1.390 s n1 repairs n4, which lacked c2:1.",
    ]


def test_the_picture_has_the_operations_the_fault_and_when_they_may_have_acted() -> None:
    history = cut_off().history
    picture = witness(history).picture
    assert picture is not None
    assert [(bar.client, bar.proof) for bar in picture.bars] == [
        ("c1", True),
        ("c2", True),
        ("c4", False),
        ("c3", True),
    ]
    assert [bar.open_end for bar in picture.bars] == [False, False, True, False]
    assert [band.fault for band in picture.bands] == [1]
    for bar in picture.bars[:2]:
        assert bar.point_ns is not None
        assert bar.start_ns <= bar.point_ns <= bar.end_ns
    assert picture.bars[-1].point_ns is None, "no moment explains what it read"
    lines = text_lines(analyse(history), picture)
    assert any(line.startswith("* c3 read c1:1") and line.endswith("n4") for line in lines)
    assert any("fault 1" in line and "░" in line for line in lines)
    assert any("→" in line for line in lines)


def test_a_crowded_picture_says_what_it_left_out() -> None:
    script = cut_off()
    for number in range(40):
        script.read(f"d{number}", "k", 1_000, 1_350, "c1:1")
    picture = witness(script.history).picture
    assert picture is not None
    assert len(picture.bars) == 14
    assert picture.left_out == "30 further operations not drawn"


def run_of(history: History) -> RunFindings:
    header = RunHeader("sample", "A sample", "Is it?", 7, 10**18, {"replication": "0"}, "again")
    return analyse_run(header, {history.family: history})


def stored(history: History, runs: Path) -> Path:
    folder = run_directory.create(runs, "sample", 7, 10**18)
    run_directory.write_reports(folder, run_of(history))
    return folder


def test_explain_tells_the_first_violation_and_says_when_there_is_none(tmp_path: Path) -> None:
    stored(cut_off().history, tmp_path)
    result = CliRunner().invoke(main, ["explain", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert result.output.startswith("violation 1 of ")
    assert "- n4 was cut off from n1 and n2 from 1.100 s to 1.400 s (fault 1)." in result.output
    assert "* proves it" in result.output
    result = CliRunner().invoke(main, ["explain", "latest", "99", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "there is no violation 99" in result.output
    stored(valid_register(Random(1)), tmp_path / "other")
    result = CliRunner().invoke(main, ["explain", "--out", str(tmp_path / "other")])
    assert result.output == "nothing was violated in this run\n"


def test_the_page_draws_the_witness_and_links_to_it(tmp_path: Path) -> None:
    history, _ = stale_read(valid_register(Random(1)))
    history.operations[0].client = "<c&1>"
    page = (stored(history, tmp_path) / "report.html").read_text()
    assert 'class="witness-picture"' in page
    assert "Jump to the first violation" in page
    assert "<c&1>" not in page


def test_pictures_and_causes_survive_json() -> None:
    run = run_of(cut_off().history)
    assert findings_from_json(findings_to_json(run)) == run
