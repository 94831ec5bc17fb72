"""How likely a read is fresh, by the time since the write: measured beside predicted (PBS)."""

from collections.abc import Iterable
from math import sqrt

from replication.analysis.findings import RunFindings, SideFindings
from replication.analysis.staleness_findings import Pbs, VisibilityBin
from replication.report import formats, svg
from replication.report.model import Chapter, Summary, Table

WIDTH = 1040
LEFT = 78
RIGHT = 24
HEIGHT = 190
TOP = 34
AXIS_HEIGHT = 44
Z95 = 1.96


def chapters(run: RunFindings) -> list[Chapter]:
    """Return what is to be said of every side that has partial quorums."""
    return [
        Chapter(name, list(_sentences(side.pbs)), list(_tables(side.pbs)))
        for name, side in run.sides.items()
        if side.pbs is not None
    ]


def _sentences(found: Pbs) -> Iterable[str]:
    n, r, w = found.n, found.r, found.w
    reads = sum(each.reads for each in found.bins)
    if r + w > n:
        yield (
            f"R={r} and W={w} of N={n} replicas overlap: by the model no read is ever stale while "
            f"nothing fails. Of {formats.plural(reads, 'read')} then "
            f"{formats.count(sum(each.reads - each.fresh for each in found.bins))} missed the "
            "newest write."
        )
    else:
        yield (
            f"R={r} and W={w} of N={n} replicas need not overlap: a read may miss the newest write "
            f"with probability {formats.share(1 - found.within_predicted[0])} if nobody waits, and "
            "less the longer ago the write was."
        )
    if r + w <= n and found.rmse is not None and found.rmse_by_chance is not None:
        yield (
            f"Over {formats.plural(reads, 'read')} while nothing failed, prediction and "
            f"measurement differ by {_points(found.rmse)} (root mean square over the rows with at "
            f"least 30 reads); so few reads would differ by {_points(found.rmse_by_chance)} if the "
            "prediction were true."
        )
    if found.drawn_from:
        delays = sum(found.drawn_from.values())
        yield (
            f"Predicted by drawing from {formats.plural(delays, 'one-way delay')} of the run's own "
            "messages. The model knows no read repair, no hints, no anti-entropy and no faults: "
            "where those run, reads are fresher than predicted."
        )
    if found.note:
        yield f"No prediction: {formats.sentence(found.note)}."


def _points(share: float) -> str:
    return f"{share * 100:.2f} percentage points"


def _tables(found: Pbs) -> Iterable[Table]:
    if found.bins:
        yield Table(
            title="Fresh reads by the time since the write was acknowledged",
            columns=["since the write", "reads", "fresh, measured", "95 % of such samples",
                     "fresh, predicted"],
            rows=[_bin_row(each) for each in found.bins],
        )  # fmt: skip
    if found.within_measured:
        yield Table(
            title="Reads within the last k versions",
            columns=["k", "measured", "at least, by the closed form"],
            rows=[
                [str(k), formats.share(measured), formats.share(predicted)]
                for k, (measured, predicted) in enumerate(
                    zip(found.within_measured, found.within_predicted, strict=True), 1
                )
                if k in (1, 2, 3, 5, 10)
            ],
            note="The closed form supposes that a write never reaches more replicas than its "
            "quorum; here every write is sent to all of them.",
        )


def _bin_row(each: VisibilityBin) -> list[str]:
    low, high = interval(each)
    return [
        f"{formats.number(each.from_ms)} to {formats.number(each.to_ms)} ms",
        formats.count(each.reads),
        formats.share(each.share),
        f"{formats.share(low)} to {formats.share(high)}",
        formats.share(each.predicted),
    ]


def interval(each: VisibilityBin) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927); narrow where there are many reads."""
    n, share = each.reads, each.share
    middle = share + Z95**2 / (2 * n)
    spread = Z95 * sqrt(share * (1 - share) / n + Z95**2 / (4 * n * n))
    scale = 1 + Z95**2 / n
    return max((middle - spread) / scale, 0.0), min((middle + spread) / scale, 1.0)


def drawing(run: RunFindings, summary: Summary) -> str:
    """Return the curve of each side whose quorums need not overlap, nothing if there is none."""
    shown = [
        (f"{head.side}: {head.title}", side)
        for head, side in zip(summary.heads, run.sides.values(), strict=True)
        if side.pbs is not None and len(side.pbs.bins) > 2 and side.pbs.r + side.pbs.w <= side.pbs.n
    ]
    if not shown:
        return ""
    parts: list[str] = []
    top = 0.0
    for title, side in shown:
        parts.append(svg.group(list(_curve(title, side, top)), "side"))
        top += TOP + HEIGHT + AXIS_HEIGHT
    return svg.element(
        "svg",
        "".join(parts),
        class_="figure",
        viewBox=f"0 0 {WIDTH} {svg.number(top)}",
        role="img",
        aria_label="Share of fresh reads by the time since the write; the table has the numbers",
    )


def _curve(title: str, side: SideFindings, top: float) -> Iterable[str]:
    assert side.pbs is not None, "it is shown"
    # The last bin reaches to the end of the run: what is in it is beyond the axis.
    bins = side.pbs.bins[:-1]
    lows = [interval(each)[0] for each in bins]
    lows += [each.predicted for each in bins if each.predicted is not None]
    floor = max(min(lows) - 0.05, 0.0)
    y = svg.Linear(floor, 1.0, top + TOP + HEIGHT, top + TOP)
    x = svg.Linear(0.0, bins[-1].to_ms, LEFT, WIDTH - RIGHT)
    yield svg.text(f"{title}: share of reads that are fresh", LEFT, top + 16, "side-title")
    for tick in y.ticks(4):
        yield svg.line(LEFT, y.at(tick), WIDTH - RIGHT, y.at(tick), "grid")
        yield svg.text(formats.share(tick), LEFT - 10, y.at(tick) + 4, "tick end")
    for tick in x.ticks(8):
        yield svg.line(x.at(tick), y.end, x.at(tick), y.start + 4, "grid")
        label = formats.setting_duration(round(tick * 1e6)) if tick else "0"
        yield svg.text(label, x.at(tick), y.start + 17, "tick middle")
    words = "time from the acknowledgement of the newest write to the begin of the read"
    yield svg.text(words, WIDTH - RIGHT, y.start + 34, "panel-title end")
    line = "".join(
        f"{'L' if number else 'M'}{svg.number(_middle(x, each))} {svg.number(y.at(each.predicted))}"
        for number, each in enumerate(bins)
        if each.predicted is not None
    )
    if line:
        yield svg.element("path", d=line, class_="predicted")
        last = bins[-1]
        yield svg.text("predicted", x.end - 6, y.at(last.predicted or 0) + 18, "predicted-text end")
    for each in bins:
        yield from _measured(each, x, y)


def _measured(each: VisibilityBin, x: svg.Linear, y: svg.Linear) -> Iterable[str]:
    low, high = interval(each)
    at = _middle(x, each)
    predicted = "" if each.predicted is None else f", predicted {formats.share(each.predicted)}"
    words = (
        f"{formats.number(each.from_ms)} to {formats.number(each.to_ms)} ms: "
        f"{formats.share(each.share)} of {formats.plural(each.reads, 'read')} fresh{predicted}"
    )
    bar = svg.line(at, y.at(low), at, y.at(high), "measured-bar")
    dot = svg.element("circle", cx=at, cy=y.at(each.share), r=4, class_="measured")
    yield svg.group([svg.tooltip(words), bar, dot])


def _middle(x: svg.Linear, each: VisibilityBin) -> float:
    return x.at((each.from_ms + each.to_ms) / 2)
