"""The flags above a side's plots: the first violation of each check, and where it lies in time."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

from replication.analysis.findings import Verdict
from replication.report import svg
from replication.report.model import Judgement
from replication.report.panels import Frame

ROW_HEIGHT = 15
FONT_SIZE = 12.5  # of words as wide as these: they are bold
GAP = 6  # between a flag's line and its words
MARGIN = 8  # between words in one row


@dataclass(slots=True)
class Flag:
    """One flag: a line at ``x`` and words to one side of it, in row 0, 1 ... from the top."""

    x: float
    words: str
    class_: str
    anchor: str
    behind: bool = False  # the words stand to the left of the line
    row: int = 0

    @property
    def span(self) -> tuple[float, float]:
        """Return from where to where the words reach, with a margin."""
        width = svg.text_width(self.words, FONT_SIZE) + GAP + MARGIN
        return (self.x - width, self.x) if self.behind else (self.x, self.x + width)


def place(flags: list[Flag], width: float) -> int:
    """Give each flag a side and a row, so that no words cover words or another flag's line.

    A line runs from its row down through everything. The words of the last few flags stand behind
    their lines, those of the others in front: as many as makes them fit into a drawing of this
    width, without a cover if there is a way, in the fewest rows. Returns the number of rows.
    """
    ordered = sorted(flags, key=lambda each: each.x)

    def cost(turned: int) -> tuple[int, int, int]:
        _arrange(ordered, turned)
        outside = sum(each.span[0] < 0 or each.span[1] > width + MARGIN for each in ordered)
        covers = sum(_cover(one, other) for one, other in combinations(ordered, 2))
        return outside, covers, max((each.row for each in ordered), default=-1) + 1

    best = min(range(len(ordered) + 1), key=cost)
    return cost(best)[2]


def _arrange(ordered: list[Flag], turned: int) -> None:
    """Place the flags with the last ``turned`` of them behind their lines."""
    front = len(ordered) - turned
    placed: list[Flag] = []
    # In this order a flag in a row of its own below all others covers none on its side.
    for flag in (*ordered[:front], *reversed(ordered[front:])):
        flag.behind = len(placed) >= front
        rows = max((each.row for each in placed), default=-1)
        for flag.row in range(rows + 2):
            if not any(_cover(flag, other) for other in placed):
                break
        placed.append(flag)


def _cover(one: Flag, other: Flag) -> bool:
    """Tell whether words of the two meet, or the line of one runs through words of the other."""
    upper, lower = (one, other) if one.row <= other.row else (other, one)
    (upper_low, upper_high), (low, high) = upper.span, lower.span
    if upper.row == lower.row:
        return upper_low < high and low < upper_high
    return low < upper.x < high


def flags_of(frame: Frame, judgements: Iterable[Judgement]) -> list[Flag]:
    """Return the flag of the first violation of every check that has one, to be placed."""
    flags = []
    for judgement in judgements:
        for witness in judgement.witnesses[:1]:
            if judgement.verdict is not Verdict.VIOLATED or witness.at_s is None:
                continue
            x = frame.x.at(witness.at_s)
            words = f"{judgement.mark[0]} {judgement.title}"
            kind = "promised" if judgement.promised else "unpromised"
            flags.append(Flag(x, words, kind, witness.anchor))
    return flags


def draw(flag: Flag, top: float, bottom: float) -> str:
    """Return the drawing of a flag whose rows begin at ``top``, with a link to its witness."""
    y = top + flag.row * ROW_HEIGHT
    x, side = (flag.x - GAP, " end") if flag.behind else (flag.x + GAP, "")
    drawn = svg.line(flag.x, y + 2, flag.x, bottom, f"violation {flag.class_}")
    drawn += svg.text(flag.words, x, y + 12, f"violation-text {flag.class_}{side}")
    return svg.element("a", drawn, href=f"#{flag.anchor}")
