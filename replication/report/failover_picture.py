"""The failover of both sides, magnified: a lane per node and per client, aligned at the fault.

Below a leader side stands its election once more, larger by as much again: in the window of a
failover it is a line as thin as a hair.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from replication.analysis.findings import Failover, RunFindings, SideFindings
from replication.analysis.pictures import FailoverPicture, NodeMark
from replication.report import formats, lanes, panels, svg
from replication.report.model import Summary

WIDTH = 1040
LEFT = 78
RIGHT = 14
HEAD_HEIGHT = 30
NODE_PITCH = 22
LARGE_PITCH = 34
AXIS_HEIGHT = 30
PANEL_GAP = 20
CLIENTS_MAX = 16
MIN_SPAN_NS = 200_000_000
LABEL_SIZE = 10.5


@dataclass(frozen=True, slots=True)
class Drawing:
    """A drawing with what a reader needs beside it."""

    title: str
    drawing: str
    kinds: list[str]  # of marks, for the legend
    note: str


@dataclass(frozen=True, slots=True)
class _Subject:
    """One side's failover with its picture."""

    title: str
    side: SideFindings
    failover: Failover
    picture: FailoverPicture
    fault_ns: int


def drawings(run: RunFindings, summary: Summary) -> list[Drawing]:
    """Return a drawing for every fault that has a picture."""
    numbers = sorted({each.fault for side in run.sides.values() for each in side.failovers})
    found = []
    for number in numbers:
        subjects = list(_subjects(run, summary, number))
        if subjects:
            words = formats.sentence(subjects[0].failover.words)
            marks = [each for subject in subjects for each in subject.picture.nodes]
            drawing, notes = _draw(subjects)
            found.append(
                Drawing(f"Fault {number}: {words}", drawing, lanes.kinds(marks), " ".join(notes))
            )
    if found and len(found) < len(numbers):
        hidden = formats.plural(len(numbers) - len(found), "further fault")
        found[-1] = replace(found[-1], note=f"{found[-1].note} {hidden} not drawn.".strip())
    return found


def _subjects(run: RunFindings, summary: Summary, number: int) -> Iterable[_Subject]:
    for head, side in zip(summary.heads, run.sides.values(), strict=True):
        faults = {fault.number: fault.injected_ns for fault in side.faults}
        fault_ns = faults.get(number)
        for failover in side.failovers:
            picture = failover.picture
            if failover.fault == number and picture is not None and fault_ns is not None:
                yield _Subject(f"{head.side}: {head.title}", side, failover, picture, fault_ns)


def _draw(subjects: list[_Subject]) -> tuple[str, list[str]]:
    before_ns = max(each.fault_ns - each.picture.start_ns for each in subjects)
    after_ns = max(_last_step_ns(each) for each in subjects)
    parts: list[str] = []
    notes: list[str] = []
    top = 0.0
    for subject in subjects:
        block = _Block(subject, subject.fault_ns - before_ns, subject.fault_ns + after_ns, top)
        parts.append(svg.group(list(block.draw()), "side"))
        notes += block.notes
        top = block.bottom + PANEL_GAP
        picture = subject.picture
        if picture.election_start_ns is not None and picture.election_end_ns is not None:
            election = _Election(subject, picture.election_start_ns, picture.election_end_ns, top)
            parts.append(svg.group(list(election.draw()), "side"))
            top = election.bottom + PANEL_GAP
    label = "Nodes and clients around the fault; the tables say the same in words"
    drawing = svg.element(
        "svg",
        "".join(parts),
        class_="figure",
        viewBox=f"0 0 {WIDTH} {svg.number(top)}",
        role="img",
        aria_label=label,
    )
    return drawing, notes


def _last_step_ns(subject: _Subject) -> int:
    """Return how long after the fault the axis has to reach, with some room behind."""
    span_ns = subject.picture.end_ns - subject.fault_ns
    inside = [
        each.after_fault_ns
        for each in subject.failover.steps
        if each.after_fault_ns is not None and each.after_fault_ns < span_ns
    ]
    return max([min(max(inside, default=0) * 5 // 4, span_ns), MIN_SPAN_NS])


def _frame(side: SideFindings, start_ns: int, end_ns: int) -> panels.Frame:
    low, high = ((each - side.load_start_ns) / formats.NS_PER_S for each in (start_ns, end_ns))
    return panels.Frame(side, svg.Linear(low, max(high, low + 1e-6), LEFT, WIDTH - RIGHT))


class _Block:
    """One side: nodes above, clients below, on one axis that counts from the fault."""

    def __init__(self, subject: _Subject, start_ns: int, end_ns: int, top: float) -> None:
        self.subject, self.top = subject, top
        self.frame = _frame(subject.side, start_ns, end_ns)
        self.names, hidden = lanes.clients(subject.picture.operations, CLIENTS_MAX)
        self.nodes_top = top + HEAD_HEIGHT
        self.nodes_bottom = self.nodes_top + len(panels.shown_nodes(subject.side)) * NODE_PITCH
        self.clients_top = self.nodes_bottom + 10
        self.clients_bottom = self.clients_top + len(self.names) * lanes.CLIENT_PITCH
        self.bottom = self.clients_bottom + AXIS_HEIGHT
        self.notes = []
        side = subject.title.partition(":")[0]
        if hidden:
            self.notes.append(
                f"{side}: {formats.plural(hidden, 'further client')} without trouble not shown."
            )
        if subject.picture.left_out:
            self.notes.append(f"{side}: only {formats.sentence(subject.picture.left_out)} shown.")

    def draw(self) -> Iterable[str]:
        """Yield the layers from the back to the front."""
        frame, subject = self.frame, self.subject
        yield svg.text(subject.title, LEFT, self.top + 16, "side-title")
        bottom = self.clients_bottom
        zero_s = frame.seconds(subject.fault_ns)
        yield from lanes.time_axis(frame, zero_s, self.nodes_top, bottom, "fault")
        yield from panels.roles(frame, self.nodes_top, NODE_PITCH)
        for each in subject.failover.steps:
            if each.at_ns is not None and frame.x.low <= frame.seconds(each.at_ns) <= frame.x.high:
                x = frame.at(each.at_ns)
                after = formats.duration_ns(each.after_fault_ns)
                words = f"{formats.sentence(each.name)}: {after} after the fault"
                line = svg.line(x, self.nodes_top, x, bottom, "step-line")
                yield svg.group([svg.tooltip(words), line])
        end = frame.at(subject.picture.end_ns)
        if end < frame.x.end - 1:
            height = self.clients_bottom - self.clients_top
            words = "operations from here on are not drawn"
            width = frame.x.end - end
            yield svg.rect(end, self.clients_top, width, height, "phase", words)
        x = frame.at(subject.fault_ns)
        yield svg.line(x, self.nodes_top - 4, x, bottom + 4, "fault-line")
        operations = subject.picture.operations
        yield from lanes.client_lanes(frame, self.names, operations, self.clients_top)
        yield from _marks(frame, subject, self.nodes_top, NODE_PITCH)


class _Election:
    """The election alone, with its messages."""

    def __init__(self, subject: _Subject, start_ns: int, end_ns: int, top: float) -> None:
        self.subject, self.top = subject, top
        room_ns = max(end_ns - start_ns, 100_000) // 12
        self.start_ns = start_ns
        self.frame = _frame(subject.side, start_ns - room_ns, end_ns + 2 * room_ns)
        self.nodes_top = top + HEAD_HEIGHT
        self.nodes_bottom = self.nodes_top + len(panels.shown_nodes(subject.side)) * LARGE_PITCH
        self.bottom = self.nodes_bottom + AXIS_HEIGHT

    def draw(self) -> Iterable[str]:
        """Yield the layers from the back to the front."""
        frame, subject = self.frame, self.subject
        after = formats.duration_ns(self.start_ns - subject.fault_ns)
        title = f"the election, which began {after} after the fault"
        yield svg.text(title, LEFT, self.top + 18, "panel-title")
        zero_s = frame.seconds(self.start_ns)
        yield from lanes.time_axis(frame, zero_s, self.nodes_top, self.nodes_bottom, "first asked")
        yield from panels.roles(frame, self.nodes_top, LARGE_PITCH)
        rows = _rows(subject.side, self.nodes_top, LARGE_PITCH)
        inside = [each for each in subject.picture.nodes if _inside(frame, each)]
        for each in inside:
            if each.sent_ns is not None and each.sender in rows and each.node in rows:
                yield lanes.vote_line(
                    frame.at(each.sent_ns), rows[each.sender],
                    frame.at(each.at_ns), rows[each.node], each.kind.endswith("granted"),
                )  # fmt: skip
        yield from _marks(frame, subject, self.nodes_top, LARGE_PITCH)
        yield from self._labels(inside, rows)

    def _labels(self, inside: list[NodeMark], rows: dict[str, float]) -> Iterable[str]:
        """Yield the words of a mark where nothing else of its lane stands in their way."""
        for each in inside:
            x = self.frame.at(each.at_ns) + 9
            _, words = lanes.mark_key(each.kind)
            width = svg.text_width(words, LABEL_SIZE)
            others = [
                self.frame.at(other.at_ns)
                for other in inside
                if other.node == each.node and other is not each
            ]
            free = not any(x - 4 < other < x + width + 6 for other in others)
            if free and x + width < self.frame.x.end and each.node in rows:
                yield svg.text(words, x, rows[each.node] - 9, "mark-text")


def _inside(frame: panels.Frame, each: NodeMark) -> bool:
    return frame.x.low <= frame.seconds(each.at_ns) <= frame.x.high


def _rows(side: SideFindings, top: float, pitch: float) -> dict[str, float]:
    nodes = panels.shown_nodes(side)
    return {node: top + row * pitch + pitch / 2 for row, node in enumerate(nodes)}


def _marks(frame: panels.Frame, subject: _Subject, top: float, pitch: float) -> Iterable[str]:
    rows = _rows(subject.side, top, pitch)
    for each in subject.picture.nodes:
        if each.node in rows and _inside(frame, each):
            x, y = frame.at(each.at_ns), rows[each.node]
            yield lanes.mark(each, x, y, subject.side.load_start_ns)
