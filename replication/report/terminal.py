"""The report in a terminal: both sides in one table, then the reasons, then where to read on.

Words and symbols carry every verdict; colour only repeats them (NO_COLOR and pipes lose nothing).
No text of a run is ever read as markup.
"""

from collections.abc import Iterable

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from replication.analysis.findings import Verdict
from replication.report import formats
from replication.report.model import Cell, Judgement, Row, Summary

STYLES = {Verdict.VALID: "green", Verdict.VIOLATED: "bold red", Verdict.UNKNOWN: "yellow"}
UNPROMISED_STYLE = "cyan"
NOTE_WIDTH_MIN = 100  # columns of the terminal from which the comparison has a column of its own
WIDTH_MAX = 140  # longer lines are hard to follow across
_ASCII = str.maketrans(
    {
        "✔": "+",
        "✘": "x",
        "○": "o",
        "µ": "u",
        "…": "...",
        "─": "-",
        "━": "-",
        formats.DASH: "-",
        formats.MULTIPLE: "x",
    }
)


def print_summary(console: Console, summary: Summary, page: str | None = None) -> None:
    """Print the whole report; ``page`` is the path of the HTML report when there is one."""
    width = min(console.width, WIDTH_MAX)
    with console.capture() as capture:
        console.print(Group(*_parts(summary, width)), width=width)
        for line in _paths(summary, page):
            # For copying: a command that is cut or wrapped is a command that fails.
            console.print(line, soft_wrap=True)
    text = "".join(line.rstrip(" ") + "\n" for line in capture.get().splitlines())
    if "utf" not in console.encoding.lower():
        # An ASCII terminal must not turn a verdict into a UnicodeEncodeError.
        text = text.translate(_ASCII).encode(console.encoding, "replace").decode(console.encoding)
    console.file.write(text)
    console.file.flush()


def _parts(summary: Summary, width: int) -> Iterable[RenderableType]:
    yield from _heading(summary)
    yield from _promises(summary)
    yield _table(summary, width)
    reasons = [each for each in summary.judgements if each.needs_words]
    if reasons:
        yield _title("Why")
        for judgement in reasons:
            yield from _reason(judgement)
    yield from _missed(summary)
    yield from _trust(summary)


def _heading(summary: Summary) -> Iterable[RenderableType]:
    yield Text(summary.title, style="bold")
    if summary.question:
        yield Text(summary.question, style="italic")
    yield Text("")
    mark = Text(summary.mark, style=STYLES[summary.verdict])
    yield Text.assemble(mark, "  ", summary.verdict_words)


def _promises(summary: Summary) -> Iterable[RenderableType]:
    yield Text("")
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column()
    for head in summary.heads:
        promise = Text.assemble((head.title, "bold"), f": {head.promise}")
        grid.add_row(Text(head.side, style="bold"), promise)
    yield grid
    yield Text("")


def _table(summary: Summary, width: int) -> Table:
    with_notes = width >= NOTE_WIDTH_MIN and len(summary.heads) == 2
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), expand=False)
    table.add_column("", max_width=max(26, width * 32 // 100), overflow="fold")
    for head in summary.heads:
        table.add_column(Text(f"{head.side}: {head.title}"), overflow="fold")
    if with_notes:
        table.add_column(Text(summary.note_title), style="dim")
    for section, rows in summary.headlines():
        empty = [""] * (len(table.columns) - 1)
        table.add_row(Text(section.title, style="bold underline"), *empty)
        for row in rows:
            table.add_row(*_cells(row, summary, with_notes))
        table.add_row("", *empty)
    return table


def _cells(row: Row, summary: Summary, with_notes: bool) -> Iterable[Text]:
    yield Text(row.label)
    for head in summary.heads:
        yield _styled(row.cells.get(head.side, Cell(formats.DASH)))
    if with_notes:
        yield Text(row.note)


def _styled(cell: Cell) -> Text:
    if cell.verdict is None:
        return Text(cell.text)
    return Text(cell.text, style=STYLES[cell.verdict] if cell.promised else UNPROMISED_STYLE)


def _title(words: str) -> Text:
    return Text(words, style="bold underline")


def _reason(judgement: Judgement) -> Iterable[RenderableType]:
    style = STYLES[judgement.verdict] if judgement.promised else UNPROMISED_STYLE
    promised = "" if judgement.promised else " (not promised)"
    yield Text.assemble(
        (judgement.mark, style), f"  {judgement.side}, {judgement.title}{promised}: ",
        judgement.summary,
    )  # fmt: skip
    if judgement.verdict is Verdict.UNKNOWN:
        for note in judgement.notes:
            yield Padding(Text(note), (0, 0, 0, 4))
    for witness in judgement.witnesses[:1]:
        place = f"  [{witness.place}]" if witness.place else ""
        yield Padding(Text.assemble(witness.words, (place, "dim")), (0, 0, 0, 4))
    if judgement.more:
        yield Padding(Text(judgement.more, style="dim"), (0, 0, 0, 4))


def _missed(summary: Summary) -> Iterable[RenderableType]:
    missed = [each for each in summary.expectations if each.verdict is not Verdict.VALID]
    if not missed:
        return
    yield Text("")
    yield _title("Expectations not met")
    for each in missed:
        yield Text.assemble(
            (each.mark, STYLES[each.verdict]),
            f"  {each.side}: {each.words}; observed: {each.observed or formats.DASH}",
            (f"  [{each.place}]", "dim"),
        )


def _trust(summary: Summary) -> Iterable[RenderableType]:
    serious = [mark for mark in summary.trust if mark.serious]
    if not serious:
        return
    yield Text("")
    yield _title("Before you trust the numbers")
    for mark in serious:
        who = f"{mark.side}: " if mark.side else ""
        yield Text.assemble(("!", "bold yellow"), f"  {who}{mark.words}")


def _paths(summary: Summary, page: str | None) -> Iterable[Text]:
    yield Text("")
    if page:
        yield Text(f"page:   {page}")
    yield Text(f"again:  {summary.again}")
