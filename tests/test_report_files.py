"""junit.xml and report.md as the systems that read them see them."""

import re
from xml.etree.ElementTree import Element, fromstring

import pytest

from replication.analysis.findings import RunFindings, Verdict
from replication.report.junit import junit_xml
from replication.report.markdown import ROWS_MAX, markdown
from replication.report.summary import summarize
from tests.support import findings_sample as sample


def junit(run: RunFindings) -> Element:
    return fromstring(junit_xml(summarize(run), "2026-11-23T21:55:03Z"))


def cases(root: Element, side: str) -> dict[str, Element]:
    suite = next(each for each in root if each.attrib["name"].endswith(f".{side}"))
    return {case.attrib["name"]: case for case in suite.findall("testcase")}


def result(case: Element) -> str | None:
    return next((each.tag for each in case if each.tag != "system-out"), None)


def test_a_suite_per_side_and_a_case_per_check_and_expectation() -> None:
    root = junit(sample.leader_crash())
    assert [suite.attrib["name"] for suite in root] == [
        "leader-crash.leader",
        "leader-crash.leaderless",
    ]
    leader = cases(root, "leader")
    assert "Linearizable" in leader
    assert "expect[1]: linearizability is valid" in leader
    assert all(result(case) is None for case in leader.values())


def test_violated_is_a_failure_with_its_witness() -> None:
    found = cases(junit(sample.split_writers("lww")), "leaderless")
    failure = found["Acknowledged writes kept"].find("failure")
    assert failure is not None
    assert "38 of 1,902" in failure.attrib["message"]
    assert "n1 acknowledged c1:401" in (failure.text or "")
    assert result(found["expect[2]: durability is valid"]) == "failure"


def test_unknown_is_an_error_and_never_a_pass() -> None:
    run = sample.leader_crash()
    finding = run.sides["leader"].findings["linearizability"]
    finding.verdict, finding.coverage.notes = Verdict.UNKNOWN, ["the search ran out of memory"]
    case = cases(junit(run), "leader")["Linearizable"]
    assert result(case) == "error"
    assert "the search ran out of memory" in "".join(case.itertext())


def test_what_is_not_promised_is_skipped_with_what_was_found() -> None:
    case = cases(junit(sample.leader_crash()), "leaderless")["Linearizable"]
    assert result(case) == "skipped"
    skipped = case.find("skipped")
    assert skipped is not None
    assert "not promised by this side" in skipped.attrib["message"]


def test_a_run_that_broke_is_an_error_although_nothing_was_judged() -> None:
    root = junit(sample.nothing_measured())
    assert result(cases(root, "leader")["run completed"]) == "error"
    assert root.attrib["errors"] == "1"


@pytest.mark.parametrize("build", [sample.leader_crash, sample.hostile, sample.nothing_measured])
def test_the_counts_are_those_of_the_cases(build: object) -> None:
    root = junit(build())  # type: ignore[operator]
    for element, suites in [(root, list(root)), *((suite, [suite]) for suite in root)]:
        found = [case for suite in suites for case in suite.findall("testcase")]
        assert element.attrib["tests"] == str(len(found))
        for attribute, tag in (
            ("failures", "failure"),
            ("errors", "error"),
            ("skipped", "skipped"),
        ):
            assert element.attrib[attribute] == str(sum(result(case) == tag for case in found))


def table_rows(text: str) -> list[list[list[str]]]:
    """Return the tables of a Markdown text, as GitHub would cut them into cells."""
    tables: list[list[list[str]]] = [[]]
    for line in text.splitlines():
        if line.startswith("|"):
            tables[-1].append(re.split(r"(?<!\\)\|", line)[1:-1])
        elif tables[-1]:
            tables.append([])
    return [table for table in tables if table]


@pytest.mark.parametrize("build", [sample.leader_crash, sample.hostile, sample.split_writers])
def test_every_row_of_a_table_has_the_columns_of_its_head(build: object) -> None:
    tables = table_rows(markdown(summarize(build())))  # type: ignore[operator]
    assert len(tables) > 6
    for table in tables:
        assert {len(row) for row in table} == {len(table[0])}
        assert set("".join(table[1]).replace(" ", "")) == {"-"}


def test_markdown_obeys_no_markup_of_a_run() -> None:
    text = markdown(summarize(sample.hostile()))
    assert not re.search(r"(?<!\\)<(?!details>|summary>|/details>|/summary>)", text)
    assert "\\<script\\>" in text
    assert "\x1b" not in text


def test_a_long_ledger_is_cut_and_says_so() -> None:
    run = sample.split_writers()
    ledger = run.sides["leaderless"].conflicts
    ledger.conflicts = ledger.conflicts * 5  # 30 conflicts of 2 versions
    text = markdown(summarize(run))
    assert f"{60 - ROWS_MAX} more rows are in the page." in text
