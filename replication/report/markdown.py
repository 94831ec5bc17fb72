"""report.md: the page's twin for pull requests, in GitHub's tables."""

from collections.abc import Iterable

from replication.analysis.findings import Verdict
from replication.report.glossary import GLOSSARY
from replication.report.model import Chapter, Judgement, Summary, Table

ROWS_MAX = 20  # of a ledger: a pull request is read, not searched; the page has more
# Backslash escapes work for every ASCII punctuation sign (CommonMark §2.4); "|" ends a table cell
# even inside code.
_ESCAPES = str.maketrans({each: f"\\{each}" for each in "\\`*_{}[]<>#|~$@!&"})


def markdown(summary: Summary) -> str:
    """Return the whole report as GitHub-flavoured Markdown."""
    return "\n".join(_lines(summary)) + "\n"


def _lines(summary: Summary) -> Iterable[str]:
    yield f"# {_text(summary.title)}"
    yield ""
    if summary.question:
        yield f"*{_text(summary.question)}*"
        yield ""
    yield f"**{_text(summary.mark)}**: {_text(summary.verdict_words)}"
    yield ""
    yield f"Seed {summary.seed}, started {summary.started}. Again: {_code(summary.again)}"
    yield ""
    for head in summary.heads:
        yield f"- **{_text(head.side)}, {_text(head.title)}**: {_text(head.promise)}"
    yield ""
    yield from _trust(summary, serious=True)
    yield from _side_by_side(summary)
    yield from _why(summary)
    yield from _chapters("Failover", summary.failovers)
    yield from _chapters("Conflicts", summary.conflicts)
    if summary.freshness:
        yield from _chapters("Freshness of reads", summary.freshness)
    yield from _chapters("Convergence", summary.convergence)
    yield from _checks(summary)
    yield from _trust(summary, serious=False)
    yield from _settings(summary)
    yield from _glossary()


def _side_by_side(summary: Summary) -> Iterable[str]:
    columns = ["", *(f"{head.side}: {head.title}" for head in summary.heads)]
    if summary.note_title:
        columns.append(summary.note_title)
    for section in summary.sections:
        if not section.rows or section.name == "settings":
            continue
        yield f"## {_text(section.title)}"
        yield ""
        if section.about:
            yield _text(section.about)
            yield ""
        rows = [
            [
                row.label,
                *(row.text(head.side) for head in summary.heads),
                *([row.note] if summary.note_title else []),
            ]
            for row in section.rows
        ]
        yield from _table(columns, rows)


def _why(summary: Summary) -> Iterable[str]:
    reasons = [each for each in summary.judgements if each.needs_words]
    if not reasons:
        return
    yield "## Why"
    yield ""
    for judgement in reasons:
        yield from _judgement(judgement)
    yield ""


def _judgement(judgement: Judgement) -> Iterable[str]:
    promised = "" if judgement.promised else " (not promised)"
    yield (
        f"- **{_text(judgement.mark)}** {_text(judgement.side)}, {_text(judgement.title)}"
        f"{promised}: {_text(judgement.summary)}"
    )
    for witness in judgement.witnesses:
        yield f"  - {_text(witness.words)} ({_text(witness.place)})"
    if judgement.more:
        yield f"  - {_text(judgement.more)}"
    if judgement.verdict is Verdict.UNKNOWN:
        for note in judgement.notes:
            yield f"  - {_text(note)}"


def _chapters(title: str, chapters: list[Chapter]) -> Iterable[str]:
    yield f"## {title}, step by step" if title == "Failover" else f"## {title} in full"
    yield ""
    for chapter in chapters:
        yield f"### {_text(chapter.side)}"
        yield ""
        for words in chapter.sentences:
            yield _text(words)
            yield ""
        for table in chapter.tables:
            yield from _ledger(table)


def _ledger(table: Table) -> Iterable[str]:
    yield f"**{_text(table.title)}**"
    yield ""
    yield from _table(table.columns, table.rows[:ROWS_MAX])
    hidden = len(table.rows) - ROWS_MAX
    if hidden > 0:
        yield f"{hidden} more rows are in the page."
        yield ""
    if table.note:
        yield _text(table.note)
        yield ""


def _checks(summary: Summary) -> Iterable[str]:
    yield "## What the verdicts rest on"
    yield ""
    rows = [
        [each.side, each.title, each.mark, "; ".join(each.coverage), f"{each.seconds:.2f} s"]
        for each in summary.judgements
    ]
    yield from _table(["side", "check", "verdict", "coverage", "time to check"], rows)


def _trust(summary: Summary, serious: bool) -> Iterable[str]:
    marks = [mark for mark in summary.trust if mark.serious is serious]
    if not marks:
        return
    yield "> **Before you trust the numbers**" if serious else "## To know before trusting it"
    yield ">" if serious else ""
    for mark in marks:
        who = f"{_text(mark.side)}: " if mark.side else ""
        yield f"{'> ' if serious else ''}- {who}{_text(mark.words)}"
    yield ""


def _settings(summary: Summary) -> Iterable[str]:
    section = summary.section("settings")
    if section is not None and section.rows:
        yield f"## {section.title}"
        yield ""
        columns = ["setting", *(f"{head.side}: {head.title}" for head in summary.heads)]
        rows = [[row.label, *(row.text(head.side) for head in summary.heads)]
                for row in section.rows]  # fmt: skip
        yield from _table(columns, rows)
    shared = [*summary.common_settings, *summary.versions]
    if shared:
        yield "In common: " + ", ".join(f"{_text(name)} {_text(value)}" for name, value in shared)
        yield ""


def _glossary() -> Iterable[str]:
    yield "<details><summary>The words</summary>"
    yield ""
    for word, meaning in GLOSSARY:
        yield f"- **{word}**: {_text(meaning)}"
    yield ""
    yield "</details>"


def _table(columns: list[str], rows: list[list[str]]) -> Iterable[str]:
    yield "| " + " | ".join(_text(column) for column in columns) + " |"
    yield "|" + " --- |" * len(columns)
    for row in rows:
        yield "| " + " | ".join(_text(cell) for cell in row) + " |"
    yield ""


def _text(text: str) -> str:
    """Escape every sign that Markdown or GitHub (mentions, HTML, mathematics) could act on."""
    return text.translate(_ESCAPES)


def _code(text: str) -> str:
    """Return a code span that its content cannot leave (CommonMark §6.1)."""
    fence = "`"
    while fence in text:
        fence += "`"
    return f"{fence} {text} {fence}" if "`" in text else f"{fence}{text}{fence}"
