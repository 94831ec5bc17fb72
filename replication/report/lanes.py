"""Marks and stretches on lanes: what the large pictures of a failover and of a key are made of."""

from collections.abc import Iterable, Sequence

from replication.analysis.pictures import NodeMark, OperationMark
from replication.report import formats, panels, svg

CLIENT_PITCH = 14
BAR_HEIGHTS = {"get": 5.0}  # reads are thin, what writes is thick
WRITE_HEIGHT = 9.0

# The shape of each kind of mark, drawn around its point; the words are those of the legend.
_MARKS: dict[str, tuple[str, str]] = {
    "pre-vote": ("m0-4.5a4.5 4.5 0 1 1 0 9a4.5 4.5 0 1 1 0-9z", "asks for pre-votes"),
    "stood": ("m0-5.5l5 9.5h-10z", "stands for election"),
    "pre-granted": ("m-4.5-.5l3.5 4l6-8", "grants a pre-vote"),
    "pre-refused": ("m-4-4l8 8m-8 0l8-8", "refuses a pre-vote"),
    "granted": ("m-4.5-.5l3.5 4l6-8", "grants its vote"),
    "refused": ("m-4-4l8 8m-8 0l8-8", "refuses its vote"),
    "leads": ("m0-6.5l6.5 6.5l-6.5 6.5l-6.5-6.5z", "leads"),
    "suspects": ("m-4-4h8v8h-8z", "suspects a peer"),
    "trusts": ("m-4-4h8v8h-8zm1.5 4l2 2l3-4.5", "trusts it again"),
    "starts": ("m-3.5-5.5l9 5.5l-9 5.5z", "starts"),
    "lease": ("m-4.5 4h9m-9-8h9m-4.5 0v8", "gains or loses its lease"),
    "transfer": ("m-5-3h7m-3-3l4 3l-4 3m7 0h-7m3-3l-4 3l4 3", "hands leadership over"),
    "truncated": ("m0 5.5l-5-9.5h10z", "drops log entries"),
    "siblings": ("m-5-3h6v6h-6zm4 0h6v6h-6z", "holds siblings"),
    "resolved": ("m-5 0h10m-4-4l4 4l-4 4", "a write replaces siblings"),
    "dropped": (
        "m-4-4l8 8m-8 0l8-8m-9.5 4a5.5 5.5 0 1 1 11 0a5.5 5.5 0 1 1-11 0",
        "drops a version",
    ),
    "repaired": ("m-5 0h10m-5-5v10", "read repair"),
    "hint": ("m-4.5-4.5h9v9h-9zm0 0l4.5 4.5l4.5-4.5", "keeps a hint for another node"),
    "undone": ("m4-4a5 5 0 1 0 1 4m-1-7v3.5h-3.5", "takes a deleted version back"),
    "event": ("m0-3a3 3 0 1 1 0 6a3 3 0 1 1 0-6z", "another event"),
}
_SOLID = ("stood", "leads", "starts", "truncated")


def mark(each: NodeMark, x: float, y: float, origin_ns: int) -> str:
    """Return the shape of what a node told, with its words on hover."""
    shape, _ = _MARKS.get(each.kind, _MARKS["event"])
    solid = "solid" if each.kind in _SOLID else "open"
    at = formats.moment(each.at_ns, origin_ns)
    words = f"{formats.value_text(each.node)} {formats.sentence(each.words)}, at {at}"
    return svg.element(
        "path",
        svg.tooltip(words),
        d=f"M{svg.number(x)} {svg.number(y)}{shape}",
        class_=f"mark {solid} {each.kind}",
    )


def mark_key(kind: str) -> tuple[str, str]:
    """Return the drawing of a legend's entry and its words."""
    shape, words = _MARKS.get(kind, _MARKS["event"])
    solid = "solid" if kind in _SOLID else "open"
    return svg.path([f"M11 6{shape}"], f"mark {solid} {kind}"), words


def kinds(marks: Iterable[NodeMark]) -> list[str]:
    """Return the kinds that occur, in the order of the legend."""
    present = {each.kind if each.kind in _MARKS else "event" for each in marks}
    return [kind for kind in _MARKS if kind in present]


def clients(operations: Iterable[OperationMark], most: int) -> tuple[list[str], int]:
    """Return the clients to give a lane, in the order of their names, and how many have none.

    Those who met trouble come first when there is not room for all.
    """
    trouble: dict[str, int] = {}
    for each in operations:
        bad = (each.outcome != "ok") + each.redirects + (each.attempts > 1)
        trouble[each.client] = trouble.get(each.client, 0) + bad
    chosen = sorted(trouble, key=lambda name: (-trouble[name], len(name), name))[:most]
    return sorted(chosen, key=lambda name: (len(name), name)), len(trouble) - len(chosen)


def client_lanes(
    frame: panels.Frame, names: Sequence[str], operations: Iterable[OperationMark], top: float
) -> Iterable[str]:
    """Yield a lane per client with its operations; a chevron where it turned to another node."""
    rows = {name: top + row * CLIENT_PITCH for row, name in enumerate(names)}
    for name, y in rows.items():
        middle = y + CLIENT_PITCH / 2
        yield svg.text(formats.key_text(name), frame.x.start - 10, middle + 4, "tick end")
        yield svg.line(frame.x.start, middle, frame.x.end, middle, "lane")
    for each in operations:
        begun, ended = frame.seconds(each.start_ns), frame.seconds(each.end_ns)
        if each.client in rows and begun < frame.x.high and ended > frame.x.low:
            yield from operation(frame, each, rows[each.client] + CLIENT_PITCH / 2)


def operation(frame: panels.Frame, each: OperationMark, middle: float) -> Iterable[str]:
    """Yield one operation, with a chevron where its client turned to another node."""
    start, end = frame.at(each.start_ns), frame.at(each.end_ns)
    yield operation_bar(each, start, end, middle, frame.side.load_start_ns)
    if each.turned_ns is not None and frame.x.start < frame.at(each.turned_ns) < frame.x.end:
        x = frame.at(each.turned_ns)
        chevron = f"M{svg.number(x - 2)} {svg.number(middle - 4.5)}l4 4.5l-4 4.5"
        yield svg.path([chevron], "turn")


def operation_bar(
    each: OperationMark, start: float, end: float, middle: float, origin_ns: int
) -> str:
    """Return one operation: colour and pattern are its outcome, thickness whether it writes."""
    height = BAR_HEIGHTS.get(each.kind, WRITE_HEIGHT)
    outcome = each.outcome if each.outcome in panels.OUTCOMES else "unknown"
    begun = formats.moment(each.start_ns, origin_ns)
    box = (start, middle - height / 2, max(end - start, 2.0), height)
    bar = svg.rect(*box, f"op {outcome}", f"{formats.sentence(each.words)}; begun at {begun}", rx=2)
    return bar + (svg.rect(*box, "hatched passive", rx=2) if outcome == "fail" else "")


def vote_line(x1: float, y1: float, x2: float, y2: float, granted: bool) -> str:
    """Return the way of a candidate's question to a voter, with an arrow at the voter."""
    kind = "granted" if granted else "refused"
    return svg.element(
        "path",
        d=f"M{svg.number(x1)} {svg.number(y1)}L{svg.number(x2)} {svg.number(y2)}",
        class_=f"message {kind}",
    )


def time_axis(
    frame: panels.Frame, zero_s: float, top: float, bottom: float, zero: str
) -> Iterable[str]:
    """Yield the grid and its ticks, counted from ``zero_s`` (seconds after the load began)."""
    shifted = svg.Linear(frame.x.low - zero_s, frame.x.high - zero_s, frame.x.start, frame.x.end)
    for second in shifted.ticks(9):
        x = shifted.at(second)
        yield svg.line(x, top, x, bottom + 4, "grid")
        label = zero if abs(second) < 1e-9 else _signed(second)
        yield svg.text(label, x, bottom + 17, "tick middle")


def _signed(seconds: float) -> str:
    text = formats.setting_duration(round(abs(seconds) * 1e9))
    return f"-{text}" if seconds < 0 else text
