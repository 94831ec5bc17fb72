"""The figure of the page: both sides above each other on one time axis.

Time 0 is the start of each side's load, so the same operation and the same fault stand at the same
place. Both sides share the scale of every axis: what looks longer is longer.
"""

from collections.abc import Iterable, Mapping

from replication.analysis.findings import RunFindings, SideFindings
from replication.report import flags, formats, panels, svg
from replication.report.model import Judgement, Summary
from replication.report.panels import Frame

WIDTH = 1040
LEFT = 78
RIGHT = 12
OUTCOMES_HEIGHT = 96
LATENCY_HEIGHT = 150
HEAD_HEIGHT = 30
PANEL_TITLE_HEIGHT = 22
AXIS_HEIGHT = 34
SIDE_GAP = 22


class Scales:
    """The ranges that all sides share."""

    def __init__(self, sides: Mapping[str, SideFindings]) -> None:
        """Find the ranges; a run without operations still gets drawable ones."""
        ends = [side.settle_end_ns - side.load_start_ns for side in sides.values()]
        self.seconds = max([*ends, formats.NS_PER_S]) / formats.NS_PER_S
        most = max((panels.bucket_count(side) for side in sides.values()), default=0)
        joined = max(-(-most // panels.BARS_MAX), 1)
        self.bars = {name: panels.bars(side, joined) for name, side in sides.items()}
        self.bar_seconds = joined / panels.BUCKETS_PER_S
        self.rate_max = _rate_max(
            [found.rate(sum(each)) for found in self.bars.values() for each in found.counts]
        )
        self.latency_ms = svg.log_range(
            [point.latency_ms for side in sides.values() for point in side.latency_points]
        )


def _rate_max(rates: list[float]) -> float:
    """Return the top of the rate axis: the peak, unless a few bars tower over all others.

    After an outage the backlog is served at once; that peak must not squash the rest of the run.
    What is higher is cut, and its number printed.
    """
    ascending = sorted(rate for rate in rates if rate)
    if not ascending:
        return 1.0
    usual = ascending[len(ascending) * 19 // 20 if len(ascending) > 20 else -1]
    return svg.nice_ceiling(min(ascending[-1], usual * 1.4), 3)


def figure(run: RunFindings, summary: Summary) -> tuple[str, dict[str, object]]:
    """Return the drawing, and for the page's script where each side's marks lie."""
    scales = Scales(run.sides)
    parts = [_definitions()]
    marks: list[dict[str, object]] = []
    top = 0.0
    for (name, side), head in zip(run.sides.items(), summary.heads, strict=True):
        frame = Frame(side, svg.Linear(0.0, scales.seconds, LEFT, WIDTH - RIGHT))
        judgements = [each for each in summary.judgements if each.side == head.side]
        block = Block(frame, name, f"{head.side}: {head.title}", scales, judgements, top)
        parts.append(svg.group(list(block.draw()), "side"))
        marks.append(block.marks())
        top = block.bottom + SIDE_GAP
    height = max(top - SIDE_GAP, 1)
    label = "Outcomes, latency and roles of both sides over time; the tables say the same in words"
    drawing = svg.element(
        "svg",
        "".join(parts),
        class_="figure",
        viewBox=f"0 0 {WIDTH} {svg.number(height)}",
        role="img",
        aria_label=label,
        id="figure",
    )
    axis = {"left": LEFT, "right": WIDTH - RIGHT, "span": scales.seconds}
    return drawing, {"axis": axis, "seconds": scales.bar_seconds, "sides": marks}


def _definitions() -> str:
    hatch = svg.element(
        "pattern",
        svg.element("path", d="M0 4L4 0", class_="hatch-line"),
        id="hatch",
        width=4,
        height=4,
        patternUnits="userSpaceOnUse",
    )
    stripes = svg.element(
        "pattern",
        svg.element("path", d="M0 0v7", class_="stripe-line"),
        id="stripes",
        width=5,
        height=7,
        patternUnits="userSpaceOnUse",
        patternTransform="rotate(45)",
    )
    return svg.element("defs", hatch + stripes)


class Block:
    """One side: its faults, outcomes, latency, roles and time axis, from ``top`` down."""

    def __init__(
        self,
        frame: Frame,
        name: str,
        title: str,
        scales: Scales,
        judgements: Iterable[Judgement],
        top: float,
    ) -> None:
        """Lay the panels out."""
        self.frame, self.name, self.title, self.scales, self.top = frame, name, title, scales, top
        self.lanes = panels.fault_lanes(frame)
        self.lanes_top = top + HEAD_HEIGHT
        self.flags_top = self.lanes_top + len(self.lanes) * panels.LANE_HEIGHT
        self.flags = flags.flags_of(frame, judgements)
        self.plots_top = self.flags_top + flags.place(self.flags, WIDTH) * flags.ROW_HEIGHT
        outcomes_top = self.plots_top + PANEL_TITLE_HEIGHT
        self.rate = svg.Linear(0.0, scales.rate_max, outcomes_top + OUTCOMES_HEIGHT, outcomes_top)
        latency_top = self.rate.start + PANEL_TITLE_HEIGHT + 6
        self.latency = svg.Log(*scales.latency_ms, latency_top + LATENCY_HEIGHT, latency_top)
        self.roles_top = self.latency.start + PANEL_TITLE_HEIGHT + 6
        rows = len(panels.shown_nodes(frame.side))
        self.roles_bottom = self.roles_top + rows * panels.ROLE_HEIGHT
        self.bottom = self.roles_bottom + AXIS_HEIGHT

    def draw(self) -> Iterable[str]:
        """Yield the layers from the back to the front."""
        yield svg.text(self.title, LEFT, self.top + 16, "side-title")
        yield from self._phases()
        yield from panels.fault_bands(self.frame, self.lanes_top, self.roles_bottom)
        yield from self._time_axis()
        yield from self._outcomes()
        yield from self._latency()
        shown, nodes = len(panels.shown_nodes(self.frame.side)), len(self.frame.side.nodes)
        whose = "each node" if shown == nodes else f"the first {shown} of {nodes:,} nodes"
        yield self._panel_title(f"role of {whose}", self.roles_top)
        yield from panels.roles(self.frame, self.roles_top)
        yield from panels.fault_labels(self.frame, self.lanes, self.lanes_top)
        for flag in self.flags:
            yield flags.draw(flag, self.flags_top, self.roles_bottom)

    def marks(self) -> dict[str, object]:
        """Return what the script needs to answer a pointer; numbers only, and short words."""
        side = self.frame.side
        return {
            "side": self.title,
            "top": round(self.plots_top, 1),
            "bottom": round(self.roles_bottom, 1),
            "start": self.frame.seconds(side.measure_start_ns),
            "buckets": self.scales.bars[self.name].counts,
            "kinds": _distinct(point.kind for point in side.latency_points),
            "outcomes": _distinct(point.outcome for point in side.latency_points),
            "points": self._points(),
        }

    def _points(self) -> list[list[float]]:
        kinds = _distinct(point.kind for point in self.frame.side.latency_points)
        outcomes = _distinct(point.outcome for point in self.frame.side.latency_points)
        return [
            [
                round(self.frame.at(point.at_ns), 1),
                round(self.latency.at(point.latency_ms), 1),
                round(point.latency_ms, 3),
                outcomes.index(formats.value_text(point.outcome)),
                kinds.index(formats.value_text(point.kind)),
                point.operation,
            ]
            for point in self.frame.side.latency_points
        ]

    def _panel_title(self, words: str, panel_top: float) -> str:
        return svg.text(words, LEFT, panel_top - 7, "panel-title")

    def _phases(self) -> Iterable[str]:
        """Shade what no measure counts: the warm-up, and the time after the load."""
        side = self.frame.side
        for name, start_ns, end_ns in (
            ("warm-up", side.load_start_ns, side.measure_start_ns),
            ("settling", side.load_end_ns, side.settle_end_ns),
        ):
            start, end = self.frame.at(start_ns), self.frame.at(end_ns)
            if end - start < 1:
                continue
            height = self.roles_bottom - self.plots_top
            yield svg.rect(start, self.plots_top, end - start, height, "phase")
            if svg.fits(name, end - start, 10):
                middle = (self.rate.start + self.rate.end) / 2 + 4
                yield svg.text(name, (start + end) / 2, middle, "phase-text")

    def _time_axis(self) -> Iterable[str]:
        for second in self.frame.x.ticks(12):
            x = self.frame.x.at(second)
            yield svg.line(x, self.plots_top, x, self.roles_bottom + 4, "grid")
            yield svg.text(f"{second:g} s", x, self.roles_bottom + 17, "tick middle")
        words = "time since the load began"
        yield svg.text(words, WIDTH - RIGHT, self.roles_bottom + 31, "panel-title end")

    def _outcomes(self) -> Iterable[str]:
        yield self._panel_title("outcomes, operations per second", self.rate.end)
        for rate in self.rate.ticks(3):
            y = self.rate.at(rate)
            yield svg.line(LEFT, y, WIDTH - RIGHT, y, "grid" if rate else "base")
            yield svg.text(f"{rate:,.10g}/s", LEFT - 10, y + 4, "tick end")
        found = self.scales.bars[self.name]
        yield from panels.outcomes(self.frame, found, self.rate)
        if not found.counts:
            middle = (self.rate.start + self.rate.end) / 2
            yield svg.text("no operation was measured", (LEFT + WIDTH) / 2, middle, "phase-text")

    def _latency(self) -> Iterable[str]:
        title = "latency from the intended start, logarithmic"
        yield self._panel_title(title, self.latency.end)
        for milliseconds in self.latency.ticks():
            y = self.latency.at(milliseconds)
            yield svg.line(LEFT, y, WIDTH - RIGHT, y, "grid")
            yield svg.text(_tick_ms(milliseconds), LEFT - 10, y + 4, "tick end")
        yield from panels.latency(self.frame, self.frame.side.latency_points, self.latency)


def _distinct(words: Iterable[str]) -> list[str]:
    return sorted({formats.value_text(each) for each in words})


def _tick_ms(milliseconds: float) -> str:
    return formats.setting_duration(milliseconds * 1_000_000)
