"""One conflicting key in space and time: its writes and reads, the nodes, and who knew what.

Not to scale: whatever happens gets the same room, in its order. Operations take a millisecond and
minutes may pass between them; what a reader has to see is what came before what. The table tells
the same in words, for renderers that cannot draw.
"""

from collections.abc import Iterable, Sequence
from string import ascii_uppercase

from replication.analysis.findings import RunFindings, SideFindings
from replication.analysis.pictures import NodeMark, OperationMark, SpaceTime
from replication.report import formats, lanes, panels, svg
from replication.report.failover_picture import Drawing
from replication.report.model import Summary, Table

WIDTH = 1040
LEFT = 78
RIGHT = 20
CLIENT_PITCH = 22
NODE_PITCH = 36
TOP = 16
GAP = 18
AXIS_HEIGHT = 26
LABEL_SIZE = 10.5
VERSIONS_MAX = 6  # in one label


def letters(picture: SpaceTime) -> dict[str, str]:
    """Return write id -> a short name, in the order in which the picture meets them."""
    found: dict[str, str] = {}
    for each in _in_order(picture):
        for write_id in each.versions:
            if write_id not in found:
                number = len(found)
                turn, letter = divmod(number, len(ascii_uppercase))
                found[write_id] = ascii_uppercase[letter] + (str(turn) if turn else "")
    return found


def _in_order(picture: SpaceTime) -> list[OperationMark | NodeMark]:
    return sorted([*picture.operations, *picture.nodes], key=_at)


def _at(each: OperationMark | NodeMark) -> int:
    return each.start_ns if isinstance(each, OperationMark) else each.at_ns


def story(picture: SpaceTime, origin_ns: int) -> Table:
    """Return what happened to the key, step by step."""
    short = letters(picture)
    rows = []
    named: set[str] = set()
    for each in _in_order(picture):
        new = [write_id for write_id in each.versions if write_id not in named]
        named.update(new)
        who = each.client if isinstance(each, OperationMark) else each.node
        rows.append(
            [
                formats.moment(_at(each), origin_ns),
                formats.value_text(who),
                formats.sentence(each.words),
                _label(each, short),
                "; ".join(
                    f"{short[write_id]} = {formats.sentence(picture.names.get(write_id, write_id))}"
                    for write_id in new
                ),
            ]
        )
    left_out = f" {formats.sentence(picture.left_out)} not shown." if picture.left_out else ""
    return Table(
        title=f"{formats.key_text(picture.key)}, the worst key, step by step",
        columns=["at", "who", "what", "versions", "of which are new"],
        rows=rows,
        note=f"Chosen because {formats.sentence(picture.why)}.{left_out}",
    )


def _label(each: OperationMark | NodeMark, short: dict[str, str]) -> str:
    """Return "B, C → D" for a write that had read B and C, "{B C}" for what was seen or held."""
    names = [short[write_id] for write_id in each.versions if write_id in short]
    shown = " ".join(names[:VERSIONS_MAX]) + (" …" if len(names) > VERSIONS_MAX else "")
    if isinstance(each, OperationMark) and each.kind != "get":
        known = [short[write_id] for write_id in each.context if write_id in short]
        more = len(each.context) - len(known)
        read = ", ".join([*known, *([f"{more} earlier"] if more else [])])
        return f"{read} → {shown}" if read else f"→ {shown}"
    return "{" + shown + "}"


def drawings(run: RunFindings, summary: Summary) -> list[Drawing]:
    """Return a drawing for every side that has a conflicting key."""
    found = []
    for head, side in zip(summary.heads, run.sides.values(), strict=True):
        picture = side.conflicts.space_time
        if picture is not None:
            title = f"{head.side}: key {formats.key_text(picture.key)} in space and time"
            note = (
                "Not to scale: every moment has the same width, in order of time. A line joins an "
                "operation with the node that answered it, or was asked last; rings are the "
                "replicas whose answers counted. The letters are explained in the table. Chosen "
                f"because {formats.sentence(picture.why)}."
            )
            if picture.left_out:
                note += f" {formats.sentence(picture.left_out)} not shown."
            found.append(Drawing(title, _draw(side, picture), lanes.kinds(picture.nodes), note))
    return found


def _draw(side: SideFindings, picture: SpaceTime) -> str:
    drawing = _Drawing(side, picture)
    return svg.element(
        "svg",
        "".join(drawing.draw()),
        class_="figure",
        viewBox=f"0 0 {WIDTH} {svg.number(drawing.bottom)}",
        role="img",
        aria_label="Writes, reads and versions of one key; the table says the same in words",
    )


class _Drawing:
    """Clients above, nodes below; time goes to the right, by rank."""

    def __init__(self, side: SideFindings, picture: SpaceTime) -> None:
        self.side, self.picture, self.short = side, picture, letters(picture)
        moments = {each.at_ns for each in picture.nodes}
        for operation in picture.operations:
            moments |= {operation.start_ns, min(operation.end_ns, picture.end_ns)}
        self.ranks = {at_ns: rank for rank, at_ns in enumerate(sorted(moments), 1)}
        self.x = svg.Linear(0, len(self.ranks) + 1, LEFT, WIDTH - RIGHT)
        clients = sorted(
            {each.client for each in picture.operations}, key=lambda name: (len(name), name)
        )
        self.clients = {
            name: TOP + row * CLIENT_PITCH + CLIENT_PITCH / 2 for row, name in enumerate(clients)
        }
        names = side.nodes
        if len(names) > panels.NODES_SHOWN:  # only those that have a part in it
            parts = {each.node for each in picture.nodes}
            parts.update(*([each.node or "", *each.replicas] for each in picture.operations))
            names = [each for each in names if each in parts]
        nodes_top = TOP + len(clients) * CLIENT_PITCH + GAP
        self.nodes = {
            name: nodes_top + row * NODE_PITCH + NODE_PITCH / 2 for row, name in enumerate(names)
        }
        self.lanes_bottom = nodes_top + len(names) * NODE_PITCH
        self.bottom = self.lanes_bottom + AXIS_HEIGHT

    def at(self, at_ns: int) -> float:
        """Return where a moment stands."""
        return self.x.at(self.ranks.get(min(at_ns, self.picture.end_ns), 0))

    def draw(self) -> Iterable[str]:
        """Yield the layers from the back to the front."""
        yield from self._faults()
        for name, y in [*self.clients.items(), *self.nodes.items()]:
            yield svg.text(formats.key_text(name), LEFT - 10, y + 4, "tick end")
            yield svg.line(LEFT, y, WIDTH - RIGHT, y, "lane")
        yield from self._moments()
        for each in self.picture.operations:
            yield from self._operation(each)
        for mark in self.picture.nodes:
            if mark.node in self.nodes:
                x, y = self.at(mark.at_ns), self.nodes[mark.node]
                yield lanes.mark(mark, x, y, self.side.load_start_ns)
        yield from self._labels()

    def _faults(self) -> Iterable[str]:
        """Yield a band over the moments that lie within a fault."""
        for fault in self.side.faults:
            if fault.injected_ns is None:
                continue
            end_ns = self.side.heal_ns if fault.healed_ns is None else fault.healed_ns
            inside = [rank for at_ns, rank in self.ranks.items()
                      if fault.injected_ns <= at_ns <= end_ns]  # fmt: skip
            if inside:
                start, end = self.x.at(inside[0] - 0.5), self.x.at(inside[-1] + 0.5)
                words = f"fault {fault.number}: {formats.sentence(fault.words)}"
                height = self.lanes_bottom - TOP
                yield svg.rect(start, TOP, end - start, height, "fault-band", words)
                label = formats.shortened(words, 60)
                fits = start + svg.text_width(label) < WIDTH - RIGHT
                at, anchor = (start, "fault-text") if fits else (end, "fault-text end")
                yield svg.text(label, at, TOP - 2, anchor)

    def _moments(self) -> Iterable[str]:
        """Yield the time of every so manieth moment below."""
        free = 0.0
        for at_ns, rank in self.ranks.items():
            x = self.x.at(rank)
            if x >= free and x + 26 < WIDTH:
                words = formats.moment(at_ns, self.side.load_start_ns)
                yield svg.line(x, TOP, x, self.lanes_bottom + 4, "grid")
                yield svg.text(words, x, self.lanes_bottom + 17, "tick middle")
                free = x + svg.text_width(words) + 26

    def _operation(self, each: OperationMark) -> Iterable[str]:
        y = self.clients[each.client]
        start, end = self.at(each.start_ns), self.at(each.end_ns)
        if each.node in self.nodes:
            kind = "read" if each.kind == "get" else "write"
            yield svg.line(end, y, end, self.nodes[each.node], f"served {kind}")
        for replica in each.replicas:
            if replica in self.nodes:
                ring = svg.element(
                    "circle",
                    cx=end,
                    cy=self.nodes[replica],
                    r=4 if replica == each.node else 3,
                    class_="replica-ring coordinator" if replica == each.node else "replica-ring",
                )
                yield ring
        yield lanes.operation_bar(each, start, end, y, self.side.load_start_ns)

    def _labels(self) -> Iterable[str]:
        """Yield the versions beside each operation, and beside a mark where there is room."""
        for name, y in self.clients.items():
            mine = sorted(
                (each for each in self.picture.operations if each.client == name), key=_at
            )
            yield from self._beside([(each, each.end_ns) for each in mine], y + 4)
        for name, y in self.nodes.items():
            told = sorted((each for each in self.picture.nodes if each.node == name), key=_at)
            yield from self._beside([(each, each.at_ns) for each in told], y - 6)

    def _beside(
        self, found: Sequence[tuple[OperationMark | NodeMark, int]], y: float
    ) -> Iterable[str]:
        """Yield the labels of one lane: behind its mark if there is room, else in front of it."""
        taken = float(LEFT)
        for number, (each, until_ns) in enumerate(found):
            words = _label(each, self.short)
            start, end = self.at(_at(each)), self.at(until_ns)
            width = svg.text_width(words, LABEL_SIZE)
            last = number + 1 == len(found)
            following = WIDTH if last else self.at(_at(found[number + 1][0]))
            if words == "{}":
                taken = end
            elif end + width + 10 <= following:
                yield svg.text(words, end + 6, y, "mark-text")
                taken = end + width + 6
            else:
                if start - width - 10 >= taken:
                    yield svg.text(words, start - 6, y, "mark-text end")
                taken = end
