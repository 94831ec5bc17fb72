"""The failover of both sides, step by step on one axis that starts with the fault."""

from collections.abc import Iterable

from replication.analysis.findings import Failover, RunFindings
from replication.report import formats, svg
from replication.report.model import Summary

WIDTH = 1040
LEFT = 210
RIGHT = 90  # room for the last number
ROW_HEIGHT = 24
BAR_HEIGHT = 12
HEAD_HEIGHT = 28
AXIS_HEIGHT = 30


def waterfalls(run: RunFindings, summary: Summary) -> list[tuple[str, str]]:
    """Return (title, drawing) for every fault that has a step to show."""
    numbers = sorted({each.fault for side in run.sides.values() for each in side.failovers})
    found = []
    for number in numbers:
        blocks = [
            (f"{head.side}: {head.title}", failover)
            for head, side in zip(summary.heads, run.sides.values(), strict=True)
            for failover in side.failovers
            if failover.fault == number and _reached(failover)
        ]
        if blocks:
            words = formats.sentence(blocks[0][1].words)
            found.append((f"Fault {number}: {words}", _drawing(blocks)))
    return found


def _reached(failover: Failover) -> list[tuple[str, int]]:
    """Return (name, nanoseconds after the fault) of the steps that were seen, by time."""
    found = [
        (formats.sentence(step.name), step.after_fault_ns)
        for step in failover.steps
        if step.after_fault_ns is not None
    ]
    return sorted(found, key=lambda each: each[1])


def _drawing(blocks: list[tuple[str, Failover]]) -> str:
    longest = max(after for _, failover in blocks for _, after in _reached(failover))
    span_ms = max(longest / 1_000_000, 1)
    x = svg.Linear(0.0, span_ms, LEFT, WIDTH - RIGHT)
    parts: list[str] = []
    top = 0.0
    for title, failover in blocks:
        parts.extend(_block(title, failover, x, top))
        top += HEAD_HEIGHT + len(_reached(failover)) * ROW_HEIGHT + 8
    grid: list[str] = []
    for tick in x.ticks(8):
        grid.append(svg.line(x.at(tick), 4, x.at(tick), top, "grid"))
        label = formats.setting_duration(tick * 1_000_000) if tick else "fault"
        grid.append(svg.text(label, x.at(tick), top + 16, "tick middle"))
    return svg.element(
        "svg",
        "".join([*grid, *parts]),
        class_="figure",
        viewBox=f"0 0 {WIDTH} {svg.number(top + AXIS_HEIGHT)}",
        role="img",
        aria_label="Steps of the failover after the fault; the table below has the same numbers",
    )


def _block(title: str, failover: Failover, x: svg.Linear, top: float) -> Iterable[str]:
    yield svg.text(title, LEFT, top + 18, "side-title")
    y = top + HEAD_HEIGHT
    before = x.at(0)
    for name, after_ns in _reached(failover):
        here = x.at(after_ns / 1_000_000)
        bar_top, baseline = y + (ROW_HEIGHT - BAR_HEIGHT) / 2, y + ROW_HEIGHT / 2 + 4
        words = f"{name}: {formats.duration_ns(after_ns)} after the fault"
        yield svg.text(formats.shortened(name, 30), LEFT - 12, baseline, "tick end")
        # Pale: the time that earlier steps took. Strong: what this step added.
        yield svg.rect(x.at(0), bar_top, before - x.at(0), BAR_HEIGHT, "step-before", words)
        yield svg.rect(before, bar_top, max(here - before, 2), BAR_HEIGHT, "step", words, rx=2)
        yield svg.text(formats.duration_ns(after_ns), max(here, before + 2) + 8, baseline, "value")
        before = here
        y += ROW_HEIGHT
