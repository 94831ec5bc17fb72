"""The summary of a run as plain data: what every renderer shows.

Plain data: all text is final (formatted, shortened, printable) and not yet escaped for any
language. Rows stand side by side, one cell per side; tables belong to one side.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from replication.analysis.findings import Verdict
from replication.report import formats


@dataclass(frozen=True, slots=True)
class Cell:
    """One value of one side; ``verdict`` colours it where the renderer has colours."""

    text: str
    verdict: Verdict | None = None
    promised: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the side-by-side table."""

    label: str
    cells: dict[str, Cell]  # side -> value; a side that is absent shows a dash
    note: str = ""  # what leaderless is next to leader: "2.4 times longer"
    headline: bool = True  # belongs on the first screen; the others only where there is room

    def text(self, side: str) -> str:
        """Return the value of ``side``, a dash when it has none."""
        return self.cells[side].text if side in self.cells else formats.DASH


@dataclass(frozen=True, slots=True)
class Section:
    """Rows under one heading. ``about`` says in a sentence how to read them."""

    name: str
    title: str
    rows: list[Row]
    about: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A ledger of one side: columns and rows of text, with what was left out said in ``note``."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Chapter:
    """What one side has to say on a subject: sentences, then tables."""

    side: str
    sentences: list[str]
    tables: list[Table] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class WitnessText:
    """One witness, ready to be read."""

    anchor: str
    words: str
    place: str  # "key k7, at 4.312 s, operations 512, 518"
    at_s: float | None  # after the load began
    causes: list[str] = field(default_factory=list)
    drawing: str = ""  # SVG, everything in it escaped


@dataclass(frozen=True, slots=True)
class Judgement:
    """One check of one side, in full."""

    side: str
    check: str
    title: str
    mark: str  # "✘ FAIL"
    verdict: Verdict
    promised: bool
    summary: str
    coverage: list[str]
    notes: list[str]  # why it is inconclusive
    witnesses: list[WitnessText]
    more: str  # "and 12 more violations"
    seconds: float

    @property
    def needs_words(self) -> bool:
        """Whether a reader of the first screen must be told why."""
        return self.verdict is Verdict.VIOLATED or (
            self.verdict is Verdict.UNKNOWN and self.promised
        )


@dataclass(frozen=True, slots=True)
class ExpectationText:
    """One expectation and what became of it."""

    place: str
    side: str
    words: str
    verdict: Verdict
    mark: str  # "✔ met"
    observed: str


@dataclass(frozen=True, slots=True)
class TrustMark:
    """Something to know before trusting the numbers. ``serious`` ones stand beside the verdict."""

    side: str | None  # None: the whole run
    words: str
    serious: bool


@dataclass(frozen=True, slots=True)
class SideHead:
    """The heading of one column."""

    side: str  # "leader"
    title: str  # "Raft"
    promise: str
    verdict: Verdict
    kept: str  # "Raft kept its promises"
    broken: list[str]  # what went wrong with the run itself; empty: it completed


@dataclass(frozen=True, slots=True)
class Summary:
    """Everything that is said of a run in words and numbers."""

    name: str
    title: str
    question: str
    seed: str
    started: str
    again: str
    folder: str | None
    verdict: Verdict
    mark: str  # "✔ PASS"
    verdict_words: str
    heads: list[SideHead]
    sections: list[Section]
    expectations: list[ExpectationText]
    judgements: list[Judgement]
    failovers: list[Chapter]
    conflicts: list[Chapter]
    freshness: list[Chapter]
    convergence: list[Chapter]
    trust: list[TrustMark]
    common_settings: list[tuple[str, str]]
    versions: list[tuple[str, str]]

    @property
    def note_title(self) -> str:
        """The heading over the comparisons: which side they speak of."""
        return f"{self.heads[1].side} is" if len(self.heads) == 2 else ""

    def headlines(self) -> Iterator[tuple[Section, list[Row]]]:
        """Yield the sections of the first screen with the rows that belong there."""
        for section in self.sections:
            rows = [row for row in section.rows if row.headline]
            if rows:
                yield section, rows

    def measures(self) -> Iterator[tuple[Section, list[Row]]]:
        """Yield the sections of measures with all their rows."""
        for section in self.sections:
            if section.rows and section.name not in ("verdicts", "expectations", "settings"):
                yield section, section.rows

    def section(self, name: str) -> Section | None:
        """Return the section called ``name``, None when the run has none."""
        return next((each for each in self.sections if each.name == name), None)


def headline_lines(sections: Iterable[tuple[Section, list[Row]]], side: str) -> list[str]:
    """Return "label: value" lines of one side, for outputs that know no tables."""
    return [
        f"{row.label}: {row.text(side)}"
        for _, rows in sections
        for row in rows
        if side in row.cells
    ]
