"""How far apart the replicas were over time: keys that differed, sibling sets that stood open."""

from collections.abc import Iterable, Sequence

from replication.analysis.findings import RunFindings, SideFindings
from replication.report import formats, lanes, panels, svg
from replication.report.model import Summary

WIDTH = 1040
LEFT = 78
RIGHT = 12
PLOT_HEIGHT = 70
TITLE_HEIGHT = 22
HEAD_HEIGHT = 26
AXIS_HEIGHT = 30
SIDE_GAP = 18


def drawing(run: RunFindings, summary: Summary) -> str:
    """Return both sides above each other on one time axis, or nothing when nobody looked."""
    shown = [
        (f"{head.side}: {head.title}", side)
        for head, side in zip(summary.heads, run.sides.values(), strict=True)
        if side.convergence.watched or side.conflicts.open_sets
    ]
    if not shown:
        return ""
    span_s = max(side.settle_end_ns - side.load_start_ns for _, side in shown) / formats.NS_PER_S
    watched = [at for _, side in shown for at, _ in side.convergence.watched]
    last_s = max((at - shown[0][1].load_start_ns for at in watched), default=0) / formats.NS_PER_S
    x = svg.Linear(0.0, max(span_s, last_s, 1.0), LEFT, WIDTH - RIGHT)
    most = {
        name: max((count for _, side in shown for _, count in _series(side, name)), default=0)
        for name in _TITLES
    }
    parts: list[str] = []
    top = 0.0
    for title, side in shown:
        block, bottom = _block(title, panels.Frame(side, x), most, top)
        parts.append(svg.group(block, "side"))
        top = bottom + SIDE_GAP
    return svg.element(
        "svg",
        "".join(parts),
        class_="figure",
        viewBox=f"0 0 {WIDTH} {svg.number(top)}",
        role="img",
        aria_label="Keys whose replicas differed and open sibling sets over time",
    )


_TITLES = {
    "differing": "keys whose replicas differ",
    "siblings": "sibling sets that nobody has resolved",
}


def _series(side: SideFindings, name: str) -> Sequence[tuple[int, int]]:
    return side.convergence.watched if name == "differing" else side.conflicts.open_sets


def _block(
    title: str, frame: panels.Frame, most: dict[str, int], top: float
) -> tuple[list[str], float]:
    parts = [svg.text(title, LEFT, top + 16, "side-title")]
    plots_top = y_top = top + HEAD_HEIGHT
    names = [name for name in _TITLES if _series(frame.side, name)]
    bottom = plots_top + len(names) * (PLOT_HEIGHT + TITLE_HEIGHT)
    parts += panels.fault_bands(frame, plots_top, bottom)
    parts += lanes.time_axis(frame, 0.0, plots_top, bottom, "0 s")
    for name in names:
        scale = svg.Linear(
            0.0, max(most[name], 1), y_top + TITLE_HEIGHT + PLOT_HEIGHT, y_top + TITLE_HEIGHT
        )
        parts.append(svg.text(_TITLES[name], LEFT, y_top + TITLE_HEIGHT - 7, "panel-title"))
        for tick in scale.ticks(3):
            if tick == round(tick):
                y = scale.at(tick)
                parts.append(svg.line(LEFT, y, WIDTH - RIGHT, y, "grid" if tick else "base"))
                parts.append(svg.text(f"{tick:,.0f}", LEFT - 10, y + 4, "tick end"))
        parts += _steps(frame, _series(frame.side, name), scale, name)
        y_top += TITLE_HEIGHT + PLOT_HEIGHT
    converged_ns = frame.side.convergence.converged_ns
    if converged_ns is not None:
        at = frame.at(converged_ns)
        parts.append(svg.line(at, plots_top, at, bottom, "converged"))
        end = at + svg.text_width("all equal") + 10 > frame.x.end
        parts.append(svg.text("all equal", at - 6 if end else at + 6, plots_top + 12,
                              "converged-text end" if end else "converged-text"))  # fmt: skip
    return parts, bottom + AXIS_HEIGHT


def _steps(
    frame: panels.Frame, series: Sequence[tuple[int, int]], scale: svg.Linear, name: str
) -> Iterable[str]:
    """Yield a stair and the area below; each count stands until the next time somebody looked."""
    points: list[str] = []
    begin, end = frame.at(series[0][0]), frame.at(series[-1][0])
    for number, (at_ns, count) in enumerate(series):
        x, y = svg.number(frame.at(at_ns)), svg.number(scale.at(count))
        points.append(f"M{x} {y}" if number == 0 else f"H{x}V{y}")
    stair = "".join(points)
    base = svg.number(scale.start)
    area = f"{stair}H{svg.number(end)}V{base}H{svg.number(begin)}Z"
    yield svg.element("path", d=area, class_=f"area {name}")
    yield svg.element("path", d=stair, class_=f"stair {name}")
    looks = "".join(
        f"M{svg.number(frame.at(at_ns))} {svg.number(scale.at(count))}h0" for at_ns, count in series
    )
    if name == "differing":
        yield svg.element("path", d=looks, class_="look")
