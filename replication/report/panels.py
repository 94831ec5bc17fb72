"""The panels of the time figure: faults, outcomes, latency, roles. Each draws one side."""

from collections.abc import Iterable
from dataclasses import dataclass

from replication.analysis.findings import LatencyPoint, RolePeriod, SideFindings
from replication.history import FaultRecord
from replication.report import formats, svg

OUTCOMES = ("ok", "unknown", "fail")  # from the bottom of the stack; the first one drawn first
BUCKETS_PER_S = 10  # of Availability.buckets
BARS_MAX = 950  # more would be thinner than the screen can show
LABEL_CHARACTERS_MAX = 60
LANE_HEIGHT = 22
ROLE_HEIGHT = 18
NODES_SHOWN = 51  # as many as can be processes
ROLES = ("leader", "follower", "candidate", "replica", "down", "paused")


@dataclass(frozen=True, slots=True)
class Frame:
    """Where one side is drawn, and what its times mean."""

    side: SideFindings
    x: svg.Linear  # seconds after the load began -> coordinate

    def seconds(self, at_ns: int) -> float:
        """Return a time of the history as seconds after the load began."""
        return (at_ns - self.side.load_start_ns) / formats.NS_PER_S

    def at(self, at_ns: int) -> float:
        """Return the coordinate of a time of the history."""
        return self.x.at(self.seconds(at_ns))


@dataclass(frozen=True, slots=True)
class Bars:
    """Counts of (ok, unknown, fail) in stretches of equal length, as drawn."""

    counts: list[tuple[int, int, int]]
    seconds: float  # the length of a stretch
    start_ns: int  # of the first one

    def rate(self, amount: float) -> float:
        """Return what ``amount`` in one stretch is per second."""
        return amount / self.seconds

    def peak(self) -> tuple[float, int]:
        """Return the highest rate and where it stands; (0, 0) if there is nothing."""
        totals = [sum(each) for each in self.counts]
        if not totals:
            return 0.0, 0
        highest = max(totals)
        return self.rate(highest), totals.index(highest)


def bars(side: SideFindings, joined: int) -> Bars:
    """Return reads and writes together, ``joined`` buckets of 100 ms to a bar.

    The buckets begin with the measuring; what ended after the load is in those behind it.
    """
    found = [[0, 0, 0] for _ in range(-(-bucket_count(side) // joined))]
    for name in ("reads", "writes"):
        group = side.availability.get(name)
        for index, (ok, fail, unknown) in enumerate(group.buckets if group else ()):
            total = found[index // joined]
            total[0] += ok
            total[1] += unknown
            total[2] += fail
    counts = [(ok, unknown, fail) for ok, unknown, fail in found]
    return Bars(counts, joined / BUCKETS_PER_S, side.measure_start_ns)


def bucket_count(side: SideFindings) -> int:
    """Return how many buckets of 100 ms the outcomes of a side fill."""
    groups = [side.availability[name] for name in ("reads", "writes") if name in side.availability]
    return max((len(each.buckets) for each in groups), default=0)


def outcomes(frame: Frame, found: Bars, y: svg.Linear) -> Iterable[str]:
    """Yield the stacked outcomes per second, one path for each outcome."""
    parts: dict[str, list[str]] = {outcome: [] for outcome in OUTCOMES}
    begin = frame.seconds(found.start_ns)
    width = frame.x.at(begin + found.seconds) - frame.x.at(begin)
    gap = 0.6 if width > 3 else 0
    for index, counts in enumerate(found.counts):
        left = frame.x.at(begin + index * found.seconds)
        below = 0
        for outcome, amount in zip(OUTCOMES, counts, strict=True):
            if amount:
                bottom, top = y.at(found.rate(below)), y.at(found.rate(below + amount))
                parts[outcome].append(_box(left, top, width - gap, bottom - top))
            below += amount
    for outcome in OUTCOMES:
        yield svg.path(parts[outcome], f"bar {outcome}")
        if outcome == "fail":  # a pattern besides the colour
            yield svg.path(parts[outcome], "hatched")
    yield from _cut_peak(frame, found, y)


def _cut_peak(frame: Frame, found: Bars, y: svg.Linear) -> Iterable[str]:
    """Print the rate of the highest bar if it does not fit under the axis."""
    rate, index = found.peak()
    if rate > y.high:
        x = frame.x.at(frame.seconds(found.start_ns) + (index + 1) * found.seconds)
        yield svg.text(f"▲ {formats.rate(rate)}", x + 4, y.end + 9, "peak")


def _box(x: float, y: float, width: float, height: float) -> str:
    w = svg.number(width)
    return f"M{svg.number(x)} {svg.number(y)}h{w}v{svg.number(height)}h-{w}z"


# The shape of each kind, drawn around the point it stands for; colour is the outcome.
_SHAPES = {
    "get": "h0",  # a stroke without length and with round ends: a dot
    "put": "m0-2.8l2.7 4.8h-5.4z",
    "delete": "m-2.2-2.2l4.4 4.4m-4.4 0l4.4-4.4",
    "compare-and-set": "m0-3l3 3l-3 3l-3-3z",
}
_OTHER_SHAPE = "m-2.2-2.2h4.4v4.4h-4.4z"


def shape_class(kind: str) -> str:
    """Return the style class of a kind's mark: whether it is a dot, a cross or a filled shape."""
    return {"get": "dot", "delete": "cross"}.get(kind, "shape")


def shape(kind: str, x: float, y: float) -> str:
    """Return the part of a path that marks one operation."""
    return f"M{svg.number(x)} {svg.number(y)}{_SHAPES.get(kind, _OTHER_SHAPE)}"


def latency(frame: Frame, points: list[LatencyPoint], y: svg.Log) -> Iterable[str]:
    """Yield the latency points: one path per outcome and kind, the rare outcomes on top."""
    parts: dict[tuple[str, str], list[str]] = {}
    for point in points:
        mark = shape(point.kind, frame.at(point.at_ns), y.at(point.latency_ms))
        parts.setdefault((point.outcome, point.kind), []).append(mark)
    order = {outcome: index for index, outcome in enumerate(OUTCOMES)}
    for outcome, kind in sorted(parts, key=lambda each: (order.get(each[0], 9), each[1])):
        known = outcome if outcome in OUTCOMES else "unknown"
        marks = parts[outcome, kind]
        if shape_class(kind) == "dot" and known != "ok":
            yield svg.path(marks, f"dot halo {known}")
        yield svg.path(marks, f"{shape_class(kind)} {known}")


def shown_nodes(side: SideFindings) -> list[str]:
    """Return the nodes that have a row: of very many the first ones."""
    return side.nodes[:NODES_SHOWN]


def roles(frame: Frame, top: float, pitch: float = ROLE_HEIGHT) -> Iterable[str]:
    """Yield a row per node with what it was over time; the term stands on a leader's periods.

    ``pitch`` is the distance from one node to the next; the strip stands in the middle of it.
    """
    for row, node in enumerate(shown_nodes(frame.side)):
        y = top + row * pitch + (pitch - ROLE_HEIGHT) / 2
        yield svg.text(formats.key_text(node), frame.x.start - 10, y + 13, "tick end")
        for period in frame.side.roles:
            if period.node == node:
                yield from _role(frame, period, y)


def _role(frame: Frame, period: RolePeriod, y: float) -> Iterable[str]:
    start, end = frame.at(period.start_ns), frame.at(period.end_ns)
    if (
        frame.seconds(period.end_ns) <= frame.x.low
        or frame.seconds(period.start_ns) >= frame.x.high
    ):
        return
    # An election takes milliseconds: never thinner than can be seen.
    width = max(end - start, 2.0)
    known = period.role if period.role in ROLES else "other"
    origin = frame.side.load_start_ns
    term = f", term {period.term}" if period.term else ""
    role = formats.sentence(period.role)
    title = (
        f"{formats.key_text(period.node)}: {role}{term}, "
        f"{formats.moment(period.start_ns, origin)} to {formats.moment(period.end_ns, origin)}"
    )
    yield svg.rect(start, y + 1.5, width, ROLE_HEIGHT - 3, f"role {known}", title, rx=2)
    words = _role_words(period, role, width)
    if words:
        yield svg.text(words, start + width / 2, y + 13, f"role-text on-{known}")


def _role_words(period: RolePeriod, role: str, width: float) -> str:
    """Return the longest label that fits; followers and replicas need none."""
    choices: list[str] = []
    if period.role == "leader":
        choices = [f"leader, term {period.term}", f"term {period.term}", str(period.term)]
    elif period.role not in ("follower", "replica"):
        choices = [role]
    return next((words for words in choices if svg.fits(words, width - 6, 10.5)), "")


def fault_lanes(frame: Frame) -> list[list[FaultRecord]]:
    """Return the faults in as few lanes as keep overlapping windows and their words apart."""
    lanes: list[list[FaultRecord]] = []
    taken: list[list[tuple[float, float]]] = []  # of each lane
    for fault in sorted(frame.side.faults, key=_fault_start):
        low, high = _extent(frame, fault)
        for lane, others in zip(lanes, taken, strict=True):
            if all(high < start or low > end for start, end in others):
                lane.append(fault)
                others.append((low, high))
                break
        else:
            lanes.append([fault])
            taken.append([(low, high)])
    return lanes


def _extent(frame: Frame, fault: FaultRecord) -> tuple[float, float]:
    """Return from where to where the bar of a fault and its words reach, with a gap."""
    start, end = window(frame, fault)
    words, x, class_ = _placed(frame, fault)
    width = svg.text_width(words)
    low, high = (x - width, x) if class_.endswith("end") else (x, x + width)
    return min(start, low), max(end, high) + 8


def _placed(frame: Frame, fault: FaultRecord) -> tuple[str, float, str]:
    """Return the words of a fault, where they stand, and their class.

    Inside the bar, else behind it, else in front of it, else cut where most room is.
    """
    start, end = window(frame, fault)
    label = _fault_label(fault)
    places = (
        (end - start - 12, start + 7, "fault-text"),
        (frame.x.end - end - 8, end + 6, "fault-text"),
        (start - 8, start - 6, "fault-text end"),
    )
    width = svg.text_width(label)
    room, x, class_ = next((each for each in places if each[0] >= width), max(places))
    return _cut(label, room), x, class_


def _fault_start(fault: FaultRecord) -> int:
    return fault.planned_ns if fault.injected_ns is None else fault.injected_ns


def window(frame: Frame, fault: FaultRecord) -> tuple[float, float]:
    """Return where a fault begins and ends; one that nobody healed lasts to the end."""
    start = frame.at(_fault_start(fault))
    end_ns = frame.side.settle_end_ns if fault.healed_ns is None else fault.healed_ns
    return start, max(frame.at(end_ns), start + 1.5)


def _fault_label(fault: FaultRecord, characters_max: int | None = LABEL_CHARACTERS_MAX) -> str:
    words = formats.sentence(fault.words)
    if characters_max is not None and len(words) > characters_max:
        words = words[: characters_max - 1].rstrip() + "…"
    if fault.injected_ns is None:
        return f"{fault.number}. {words} (not injected)"
    return f"{fault.number}. {words}" + ("" if fault.effective else " (no evidence)")


def fault_bands(frame: Frame, top: float, bottom: float) -> Iterable[str]:
    """Yield the shading of every fault window, behind everything else."""
    for fault in frame.side.faults:
        if fault.injected_ns is None:
            continue
        start, end = window(frame, fault)
        yield svg.rect(start, top, end - start, bottom - top, "fault-band")
        yield svg.line(start, top, start, bottom, "fault-edge")
        yield svg.line(end, top, end, bottom, "fault-edge")


def fault_labels(frame: Frame, lanes: list[list[FaultRecord]], top: float) -> Iterable[str]:
    """Yield the bars above the plots that name each fault."""
    origin = frame.side.load_start_ns
    for row, lane in enumerate(lanes):
        y = top + row * LANE_HEIGHT
        for fault in lane:
            start, end = window(frame, fault)
            label = _fault_label(fault, None)
            healed = "not healed" if fault.healed_ns is None else (
                f"healed at {formats.moment(fault.healed_ns, origin)}"
            )  # fmt: skip
            title = f"{label}: at {formats.moment(_fault_start(fault), origin)}, {healed}"
            proven = "" if fault.effective else " unproven"
            yield svg.rect(
                start, y + 2, end - start, LANE_HEIGHT - 6, f"fault-bar{proven}", title, 2
            )
            words, x, class_ = _placed(frame, fault)
            yield svg.text(words, x, y + 14, class_)


def _cut(label: str, room: float) -> str:
    """Return what of ``label`` fits; the bar's title has it whole."""
    while svg.text_width(label) > room and len(label) > 2:
        label = label[:-2].rstrip() + "…"
    return label
