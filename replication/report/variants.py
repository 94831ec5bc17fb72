"""The variants of one scenario in one table: a column for each run, and the leaderless side once.

Every figure stands in the report of its run as well; this only puts them side by side.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from replication.analysis.expect import measure, measured_words
from replication.analysis.findings import RunFindings, SideFindings, Verdict
from replication.report import formats

_FIGURES: tuple[tuple[str, Callable[[SideFindings], str]], ...] = (
    ("acknowledged writes", lambda side: _counted(side, "acknowledged")),
    ("of these lost", lambda side: _counted(side, "lost")),
    ("taken by an old leader beside a new one", lambda side: _split(side)),
    ("longest write outage", lambda side: _outage(side)),
    ("writes p50", lambda side: formats.duration_ms(side.writes.p50_ms)),
    ("writes p99", lambda side: formats.duration_ms(side.writes.p99_ms)),
)


@dataclass(frozen=True, slots=True)
class _Column:
    head: str
    side: SideFindings
    run: RunFindings | None  # None: a side that all runs share


def _counted(side: SideFindings, name: str) -> str:
    finding = side.findings.get("durability")
    return formats.DASH if finding is None else formats.count(finding.counts.get(name))


def _split(side: SideFindings) -> str:
    if side.family != "leader":
        return formats.DASH
    return formats.count(sum(each.old_writes for each in side.split_brains))


def _outage(side: SideFindings) -> str:
    writes = side.availability.get("writes")
    return formats.duration_ns(None if writes is None else writes.longest_outage_ns)


def _asked(runs: Iterable[RunFindings | None]) -> list[str]:
    """Return the measures of the leader side that an expectation of any run is about."""
    return list(
        dict.fromkeys(
            each.measure
            for run in runs
            if run is not None
            for each in run.expectations
            if each.measure is not None and each.side == "leader"
        )
    )


def _named(path: str) -> str:
    """Return the path of a measure in words, which a narrow column can break."""
    return path.removesuffix("_ns").replace("_", " ").replace(".", " ")


def _measured(side: SideFindings, path: str) -> str:
    value = measure(side, path) if side.family == "leader" else None
    return formats.DASH if value is None else measured_words(path, value)


def _columns(found: Sequence[RunFindings]) -> list[_Column]:
    columns = []
    shared: list[_Column] = []
    for run in found:
        variant = run.name.rpartition(":")[2]
        for family, side in run.sides.items():
            if family == "leader":
                columns.append(_Column(f"{variant}\n{side.title}", side, run))
            elif not shared:
                shared.append(_Column(f"leaderless\n{side.title}", side, None))
    return columns + shared


def _rows(columns: Sequence[_Column]) -> list[list[str]]:
    rows = [["expectations", *(_expected(each) for each in columns)]]
    checks = dict.fromkeys(name for each in columns for name in each.side.findings)
    for name in checks:
        row = [name]
        for each in columns:
            finding = each.side.findings.get(name)
            row.append(
                formats.DASH
                if finding is None
                else formats.verdict_mark(finding.verdict, finding.promised)
            )
        rows.append(row)
    for path in _asked(column.run for column in columns):
        rows.append([_named(path), *(_measured(each.side, path) for each in columns)])
    for title, figure in _FIGURES:
        rows.append([title, *(figure(each.side) for each in columns)])
    return rows


def _expected(column: _Column) -> str:
    if column.run is None:
        return formats.DASH
    mine = [each for each in column.run.expectations if each.side == column.side.family]
    met = sum(each.verdict is Verdict.VALID for each in mine)
    return f"{met} of {len(mine)} met"


def print_table(console: Console, found: Sequence[RunFindings]) -> None:
    """Print the table in a terminal."""
    columns = _columns(found)
    table = Table(title=found[0].question, title_justify="left", title_style="italic")
    table.add_column("", overflow="fold")
    for each in columns:
        table.add_column(formats.printable(each.head.partition("\n")[0]), overflow="fold")
    table.add_row("", *(each.side.title for each in columns))
    for row in _rows(columns):
        table.add_row(*row)
    console.print(table)
    console.print("○: not promised with these settings", style="dim")


def markdown_table(found: Sequence[RunFindings]) -> str:
    """Return the table in Markdown."""
    columns = _columns(found)
    heads = ["", *(each.head.replace("\n", ", ") for each in columns)]
    lines = [heads, ["---"] * len(heads), *_rows(columns)]
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"\n## All variants\n\n{body}\n"
