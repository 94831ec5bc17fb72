"""One summary feeds the terminal, the page, the Markdown and the JUnit report."""

import io
import re
from html import unescape
from xml.etree.ElementTree import fromstring

import pytest
from rich.console import Console

from replication.analysis.findings import RunFindings, Verdict
from replication.history import DriverReport
from replication.report import formats
from replication.report.junit import junit_xml
from replication.report.markdown import markdown
from replication.report.model import Summary
from replication.report.page import page
from replication.report.summary import summarize
from replication.report.terminal import print_summary
from tests.support import findings_sample as sample

RUNS = {
    "leader-crash": sample.leader_crash,
    "split-writers": sample.split_writers,
    "split-writers-lww": lambda: sample.split_writers("lww"),
    "nothing-measured": sample.nothing_measured,
    "hostile": sample.hostile,
}


def terminal(summary: Summary, width: int = 300, **options: object) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, **options)  # type: ignore[arg-type]
    print_summary(console, summary, "runs/latest/report.html")
    return stream.getvalue()


def plain_markdown(text: str) -> str:
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text)


def plain_page(text: str) -> str:
    """Return what a reader without scripts sees."""
    without = re.sub(r"<(script|style)\b.*?</\1>", " ", text, flags=re.DOTALL)
    return unescape(re.sub(r"<[^>]+>", "\n", without))


@pytest.fixture(params=sorted(RUNS))
def run(request: pytest.FixtureRequest) -> RunFindings:
    return RUNS[request.param]()


def test_every_renderer_shows_the_same_words_and_numbers(run: RunFindings) -> None:
    summary = summarize(run)
    outputs = {
        "terminal": terminal(summary),
        "page": plain_page(page(run, summary)),
        "markdown": plain_markdown(markdown(summary)),
        "junit": "\n".join(fromstring(junit_xml(summary, "")).itertext()),
    }
    wanted = {summary.again, summary.mark, summary.verdict_words}
    cells = set()
    for _, rows in summary.headlines():
        for row in rows:
            cells |= {row.text(head.side) for head in summary.heads if head.side in row.cells}
    assert len(cells) >= 2
    for name, text in outputs.items():
        # JUnit keeps the command as a property and has no verdict of the whole run.
        missing = {each for each in cells | (wanted if name != "junit" else set())
                   if " ".join(each.split()) not in " ".join(text.split())}  # fmt: skip
        # The terminal folds long cells.
        assert not {each for each in missing if name != "terminal" or len(each) < 60}, name


def test_the_terminal_names_promises_verdicts_witness_and_the_way_on() -> None:
    text = terminal(summarize(sample.split_writers("lww")), 120)
    order = [
        "Writers on both sides of a partition",
        "Who may go on writing",
        "✘ FAIL",
        sample.RAFT_PROMISE[:40],
        sample.DYNAMO_PROMISE[:40],
        "Verdicts",
        "Failover",
        "Acknowledged writes of the minority",
        "Why",
        "n1 acknowledged c1:401",
        "and 37 further violations",
        "Expectations not met",
        "page:   runs/latest/report.html",
        "again:  uv run replication compare split-writers --seed 7",
    ]
    positions = [text.index(words) for words in order]
    assert positions == sorted(positions)


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_no_line_is_wider_than_the_terminal(width: int, run: RunFindings) -> None:
    lines = terminal(summarize(run), width).splitlines()
    too_long = [line for line in lines if len(line) > width and not line.startswith("again:")]
    assert not too_long
    assert not [line for line in lines if line != line.rstrip()]


def test_the_comparison_column_needs_room() -> None:
    summary = summarize(sample.leader_crash())
    assert "leaderless is" in terminal(summary, 120)
    assert "leaderless is" not in terminal(summary, 80)


def test_no_color_loses_no_word(monkeypatch: pytest.MonkeyPatch) -> None:
    summary = summarize(sample.split_writers("lww"))
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = terminal(summary, 100, force_terminal=True, color_system="standard")
    monkeypatch.setenv("NO_COLOR", "1")
    plain = terminal(summary, 100, force_terminal=True, color_system="standard")
    colour = re.compile(r"\x1b\[[0-9;]*3[0-7][0-9;]*m")
    assert colour.search(coloured)
    assert not colour.search(plain)
    every_code = re.compile(r"\x1b\[[0-9;]*m")

    def words(text: str) -> list[str]:
        return every_code.sub("", text).split()

    assert words(plain) == words(coloured)


def test_an_ascii_terminal_gets_the_words() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    print_summary(Console(file=stream, width=100), summarize(sample.split_writers("lww")))
    stream.seek(0)
    text = stream.read()
    assert "x FAIL, 38 violations" in text
    assert "+ PASS" in text


def test_missing_measures_are_dashes_not_zeros() -> None:
    summary = summarize(sample.nothing_measured())
    rows = {row.label: row.text("leader") for section in summary.sections for row in section.rows}
    for label in (
        "Acknowledged operations",
        "Acknowledged reads",
        "Longest outage, writes",
        "Read latency p99",
        "Stale reads",
        "Vanished writes",
        "Converged after healing",
        "Messages between nodes",
        "fdatasync p50",
    ):
        assert rows[label] == formats.DASH, label
    assert "nan" not in page(sample.nothing_measured(), summary).lower()


def test_one_side_alone_has_no_comparison() -> None:
    summary = summarize(sample.nothing_measured())
    assert summary.note_title == ""
    assert all(not row.note for section in summary.sections for row in section.rows)


def test_failover_steps_that_only_one_side_has_are_dashes_on_the_other() -> None:
    section = summarize(sample.leader_crash()).section("failover")
    assert section is not None
    rows = {row.label: row for row in section.rows}
    assert rows["Elected"].text("leader") == "198 ms"
    assert rows["Elected"].text("leaderless") == formats.DASH
    assert rows["First acknowledged write"].note == "39\N{MULTIPLICATION SIGN} shorter"


def test_rows_of_several_faults_carry_their_number() -> None:
    run = sample.leader_crash()
    second = sample.crash_failover(leader=True)
    second.fault = 2
    run.sides["leader"].failovers.append(second)
    section = summarize(run).section("failover")
    assert section is not None
    labels = [row.label for row in section.rows]
    assert "Fault 1: detected" in labels
    assert "Fault 2: detected" in labels
    assert len(labels) == len(set(labels))


def test_broken_promises_come_first_and_unpromised_checks_fail_nothing() -> None:
    judgements = summarize(sample.split_writers("lww")).judgements
    first = judgements[0]
    assert (first.verdict, first.promised) == (Verdict.VIOLATED, True)
    unpromised = next(each for each in judgements if not each.promised)
    assert unpromised.mark == "○ not held"
    assert unpromised.needs_words


def test_trust_marks_name_what_cannot_be_trusted() -> None:
    run = sample.leader_crash()
    side = run.sides["leader"]
    side.generator_bound = side.interrupted = side.simulated = True
    side.problems = ["n4 stopped: the store is corrupt (DATA_LOSS)"]
    side.faults[0].effective = False
    side.findings["linearizability"].coverage.notes = ["fault 1 left no evidence"]
    summary = summarize(run)
    serious = " ".join(mark.words for mark in summary.trust if mark.serious)
    for words in ("Interrupted", "DATA_LOSS", "Generator-bound", "no evidence", "Simulated"):
        assert words in serious
        assert words in terminal(summary)
    assert any("fault 1 left no evidence" in mark.words for mark in summary.trust)


def test_a_lag_that_is_not_felt_in_the_latencies_is_no_warning() -> None:
    run = sample.leader_crash()
    side = run.sides["leader"]
    side.generator_bound = True
    side.driver = DriverReport(1000, 995, 87_000, 7_060_000, 0.107, True)
    for share, felt in ((0.03, False), (0.4, True)):
        side.lag_share = share
        marks = [each for each in summarize(run).trust if "Generator-bound" in each.words]
        assert [mark.serious for mark in marks] == [felt]
        assert "1 of 100 operations over 7.06 ms late (limit 2 ms" in marks[0].words
    side.lag_share, side.driver.cpu_share = 0.03, 0.7
    (mark,) = [each for each in summarize(run).trust if "Generator-bound" in each.words]
    assert mark.serious
    unsent = [each for each in summarize(run).trust if "never begun" in each.words]
    assert [(mark.words[:4], mark.serious) for mark in unsent] == [("5 of", False)]


def test_settings_that_differ_are_apart_from_those_in_common() -> None:
    summary = summarize(sample.leader_crash())
    section = summary.section("settings")
    assert section is not None
    differing = {row.label: (row.text("leader"), row.text("leaderless")) for row in section.rows}
    assert differing["heartbeat"] == ("30 ms", formats.DASH)
    assert differing["quorum.w"] == (formats.DASH, "2")
    assert dict(summary.common_settings) == {"nodes": "5", "sync": "on"}


def test_hostile_text_reaches_no_terminal(run: RunFindings) -> None:
    text = terminal(summarize(sample.hostile()), 100)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\\x1b[31m" in text
    assert "k" * 41 not in text


def test_what_trees_sent_is_told_beside_what_differed() -> None:
    run = sample.split_writers()
    run.sides["leaderless"].conflicts.repairs = {
        "merkle_ranges_compared": 64,
        "merkle_ranges_differing": 3,
        "merkle_bytes_sent": 2600,
        "merkle_bytes_differing": 2000,
    }
    told = " ".join(markdown(summarize(run)).split())
    assert "64 Merkle ranges compared, 3 differed;" in told
    assert "that differed (overstreaming 1.30\N{MULTIPLICATION SIGN})." in told
