"""A violation as a small timeline: operations on the key as bars, faults shaded behind them."""

from collections.abc import Iterable

from replication.analysis.findings import SideFindings
from replication.analysis.pictures import WitnessBar, WitnessPicture
from replication.report import formats, svg

WIDTH = 860
LEFT = 212
RIGHT = 60
ROW_HEIGHT = 20
BAR_HEIGHT = 11
AXIS_HEIGHT = 24
BAND_HEIGHT = 16
LABEL_SIZE = 10.5
TEXT_COLUMNS = 56


def drawing(side: SideFindings, picture: WitnessPicture) -> str:
    """Return the drawing as SVG for the page."""
    x = svg.Linear(picture.start_ns, picture.end_ns, LEFT, WIDTH - RIGHT)
    top = BAND_HEIGHT * len(picture.bands) + 4
    bottom = top + ROW_HEIGHT * len(picture.bars)
    parts: list[str] = []
    for row, band in enumerate(picture.bands):
        start, end = x.at(band.start_ns), max(x.at(band.end_ns), x.at(band.start_ns) + 2)
        words = formats.shortened(f"fault {band.fault}: {formats.sentence(band.words)}", 90)
        parts.append(svg.rect(start, 0, end - start, bottom, "fault-band", words))
        parts.append(svg.line(start, 0, start, bottom, "fault-edge"))
        parts.append(svg.line(end, 0, end, bottom, "fault-edge"))
        parts.append(svg.text(words, LEFT + 4, BAND_HEIGHT * row + 11, "fault-text"))
    for row, bar in enumerate(picture.bars):
        parts += _bar(side, x, bar, top + ROW_HEIGHT * row)
    for at_ns in (picture.start_ns, picture.end_ns):
        words = formats.moment(at_ns, side.load_start_ns)
        ended = "tick end" if at_ns == picture.end_ns else "tick"
        parts.append(svg.text(words, x.at(at_ns), bottom + 16, ended))
    if picture.left_out:
        parts.append(svg.text(formats.sentence(picture.left_out), 4, bottom + 16, "tick"))
    height = bottom + AXIS_HEIGHT
    return svg.element(
        "svg",
        "".join(parts),
        viewBox=f"0 0 {WIDTH} {svg.number(height)}",
        class_="witness-picture",
        role="img",
        aria_label="Operations around the violation",
    )


def _bar(side: SideFindings, x: svg.Linear, bar: WitnessBar, y: float) -> Iterable[str]:
    start, end = x.at(bar.start_ns), x.at(bar.end_ns)
    label = formats.shortened(f"{formats.key_text(bar.client)}  {_words(bar)}", 36)
    yield svg.text(label, LEFT - 8, y + 12, "tick end" + (" proof" if bar.proof else ""))
    origin = side.load_start_ns
    served = f", served by {bar.node}" if bar.node else ""
    until = "open to the end" if bar.open_end else formats.moment(bar.end_ns, origin)
    title = (
        f"operation {bar.operation}: {bar.client} {_words(bar)}{served}, "
        f"{formats.moment(bar.start_ns, origin)} to {until}, {bar.outcome}"
    )
    known = bar.outcome if bar.outcome in ("ok", "fail", "unknown") else "unknown"
    strong = " proof" if bar.proof else ""
    yield svg.rect(start, y + 3, max(end - start, 2), BAR_HEIGHT, f"op {known}{strong}", title, 2)
    if bar.node:
        yield svg.text(formats.key_text(bar.node), max(end, start + 2) + 5, y + 12, "tick")
    if bar.point_ns is not None and bar.start_ns <= bar.point_ns:
        at = x.at(min(bar.point_ns, bar.end_ns))
        yield svg.line(at, y + 1, at, y + BAR_HEIGHT + 5, "took-effect")


def _words(bar: WitnessBar) -> str:
    return formats.sentence(bar.words)


def text_lines(side: SideFindings, picture: WitnessPicture) -> list[str]:
    """Return the same picture for a terminal."""
    span = max(picture.end_ns - picture.start_ns, 1)

    def column(at_ns: int) -> int:
        part = (at_ns - picture.start_ns) * (TEXT_COLUMNS - 1) // span
        return min(max(part, 0), TEXT_COLUMNS - 1)

    labels = [f"{bar.client} {_words(bar)}" for bar in picture.bars]
    labels += [f"fault {band.fault}" for band in picture.bands]
    width = min(max((len(each) for each in labels), default=0), 34)
    begin = formats.moment(picture.start_ns, side.load_start_ns)
    end = formats.moment(picture.end_ns, side.load_start_ns)
    found = [f"  {'':{width}}  {begin}{end:>{max(TEXT_COLUMNS - len(begin), 1)}}"]
    for band in picture.bands:
        start, stop = column(band.start_ns), column(band.end_ns)
        shade = " " * start + "░" * (stop - start + 1)
        label = f"fault {band.fault}"
        found.append(f"  {label:{width}}  {shade}")
    for bar, label in zip(picture.bars, labels, strict=False):
        line = [" "] * TEXT_COLUMNS
        start, stop = column(bar.start_ns), column(bar.end_ns)
        line[start : stop + 1] = "─" * (stop - start + 1)
        line[start] = "├" if stop > start else "┼"
        if stop > start:
            line[stop] = "→" if bar.open_end else "┤"
        if bar.point_ns is not None and bar.start_ns <= bar.point_ns:
            line[column(min(bar.point_ns, bar.end_ns))] = "●"
        mark = "*" if bar.proof else " "
        node = f" {bar.node}" if bar.node else ""
        shown = formats.shortened(label, width)
        found.append(f"{mark} {shown:{width}}  {''.join(line).rstrip()}{node}")
    notes = ["* proves it"]
    if any(bar.point_ns is not None for bar in picture.bars):
        notes.append("● when it may have taken effect, in an order of all but the last")
    if picture.left_out:
        notes.append(formats.sentence(picture.left_out))
    return found + [f"  {'':{width}}  {note}" for note in notes]
