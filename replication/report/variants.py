"""The variants of one scenario in one table: a column for each run of a side, one if all share it.

Every figure stands in the report of its run as well; this only puts them side by side.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

from rich.console import Console
from rich.table import Table

from replication.analysis.expect import measure, measured_words
from replication.analysis.findings import RunFindings, SideFindings, Verdict
from replication.analysis.gossip_findings import Gossip
from replication.plan.measures import measure_words
from replication.report import formats

_FIGURES: tuple[tuple[str, Callable[[SideFindings], str]], ...] = (
    ("nodes", lambda side: _gossip(side, lambda each: formats.count(each.nodes))),
    ("rounds until all knew", lambda side: _gossip(side, _rounds)),
    ("at most", lambda side: _gossip(side, lambda each: formats.count(each.rounds_worst))),
    ("push-pull", lambda side: _gossip(side, lambda each: formats.number(each.push_pull_rounds))),
    ("log2 N", lambda side: _gossip(side, lambda each: formats.number(each.log2_nodes))),
    ("acknowledged writes", lambda side: _counted(side, "acknowledged")),
    ("of these lost", lambda side: _counted(side, "lost")),
    ("taken by an old leader beside a new one", lambda side: _split(side)),
    ("stale reads", lambda side: formats.share(side.staleness.share)),
    ("writes acknowledged", lambda side: _acknowledged(side, "writes")),
    ("reads acknowledged", lambda side: _acknowledged(side, "reads")),
    ("longest write outage", lambda side: _outage(side)),
    ("writes p50", lambda side: formats.duration_ms(side.writes.p50_ms)),
    ("writes p99", lambda side: formats.duration_ms(side.writes.p99_ms)),
    ("reads p50", lambda side: formats.duration_ms(side.reads.p50_ms)),
    ("reads p99", lambda side: formats.duration_ms(side.reads.p99_ms)),
)
_LABEL_WIDTH = 24
_COLUMN_WIDTH = 12  # the longest word: "Dynamo-style"
_FRAME = 3  # of each column
_SHOWN = ("availability.writes.ok_share", "availability.reads.ok_share", "writes.p50_ms")


@dataclass(frozen=True, slots=True)
class _Column:
    head: str
    side: SideFindings
    run: RunFindings


def _counted(side: SideFindings, name: str) -> str:
    finding = side.findings.get("durability")
    return formats.DASH if finding is None else formats.count(finding.counts.get(name))


def _split(side: SideFindings) -> str:
    if side.family != "leader":
        return formats.DASH
    return formats.count(sum(each.old_writes for each in side.split_brains))


def _acknowledged(side: SideFindings, name: str) -> str:
    found = side.availability.get(name)
    return formats.share(None if found is None else found.ok_share)


def _gossip(side: SideFindings, form: Callable[[Gossip], str]) -> str:
    return formats.DASH if side.gossip is None else form(side.gossip)


def _rounds(found: Gossip) -> str:
    return formats.number(found.rounds_mean)


def _outage(side: SideFindings) -> str:
    writes = side.availability.get("writes")
    return formats.duration_ns(None if writes is None else writes.longest_outage_ns)


def _asked(runs: Sequence[RunFindings]) -> dict[str, set[str]]:
    """Return the measures that an expectation of any run is about, with the sides it is asked of.

    Those that have a row of their own are left out.
    """
    asked: dict[str, set[str]] = {}
    for run in runs:
        for each in run.expectations:
            if each.measure is not None and each.measure not in _SHOWN:
                asked.setdefault(each.measure, set()).add(each.side)
    return asked


def _measured(side: SideFindings, path: str, families: set[str]) -> str:
    value = measure(side, path) if side.family in families else None
    return formats.DASH if value is None else measured_words(path, value)


def _columns(found: Sequence[RunFindings]) -> list[_Column]:
    """Return the sides that differ in the order of their runs, then those that ran only once."""
    times = Counter(family for run in found for family in run.sides)
    columns = []
    shared = []
    for run in found:
        variant = run.name.rpartition(":")[2]
        for family, side in run.sides.items():
            head = f"{family}\n{side.title}"
            if times[family] == 1:
                shared.append(_Column(head, side, run))
            else:
                columns.append(_Column(f"{variant}\n{side.title}", side, run))
    return columns + shared


def _rows(columns: Sequence[_Column]) -> list[list[str]]:
    rows = [["expectations", *(_expected(each) for each in columns)]]
    checks: dict[str, str] = {}
    for each in columns:
        for name, judged in each.side.findings.items():
            checks.setdefault(name, formats.sentence(judged.title))
    for name, title in checks.items():
        row = [title]
        for each in columns:
            finding = each.side.findings.get(name)
            row.append(
                formats.DASH
                if finding is None
                else formats.verdict_mark(finding.verdict, finding.promised)
            )
        rows.append(row)
    for path, families in _asked([column.run for column in columns]).items():
        figures = (_measured(each.side, path, families) for each in columns)
        rows.append([measure_words(path), *figures])
    for title, figure in _FIGURES:
        row = [figure(each.side) for each in columns]
        if any(cell != formats.DASH for cell in row):
            rows.append([title, *row])
    return rows


def _expected(column: _Column) -> str:
    mine = [each for each in column.run.expectations if each.side == column.side.family]
    met = sum(each.verdict is Verdict.VALID for each in mine)
    return f"{met} of {len(mine)} met"


def print_table(console: Console, found: Sequence[RunFindings]) -> None:
    """Print the table in a terminal: as many columns side by side as can be read, then the rest."""
    columns = _columns(found)
    rows = _rows(columns)
    longest_word = max(len(word) for label, *_ in rows for word in label.split())
    room = console.width - longest_word - _FRAME - 1
    fit = max(1, room // (_COLUMN_WIDTH + _FRAME))
    size = ceil(len(columns) / ceil(len(columns) / fit))
    most = max(1, room // size - _FRAME)
    title: str | None = found[0].question
    for first in range(0, len(columns), size):
        table = Table(title=title, title_justify="left", title_style="italic")
        table.add_column("", min_width=longest_word, max_width=max(longest_word, _LABEL_WIDTH))
        for each in columns[first : first + size]:
            head = formats.printable(each.head.partition("\n")[0])
            table.add_column(head, overflow="fold", max_width=most)
        table.add_row("", *(each.side.title for each in columns[first : first + size]))
        for label, *cells in rows:
            table.add_row(label, *cells[first : first + size])
        console.print(table)
        title = None
    console.print("○: not promised with these settings", style="dim")


def markdown_table(found: Sequence[RunFindings]) -> str:
    """Return the table in Markdown."""
    columns = _columns(found)
    heads = ["", *(each.head.replace("\n", ", ") for each in columns)]
    lines = [heads, ["---"] * len(heads), *_rows(columns)]
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"\n## All variants\n\n{body}\n"
