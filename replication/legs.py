"""How long the legs of operations took, one way: PBS predicts from it (``analysis.t_visibility``).

Both ends of a leg are read on one clock: the virtual one of a simulation, or the monotonic one of
the machine that all processes of a run share.

``write`` (a copy on its way to a replica) and the answers of coordinators, ``backward`` and
``reply``, count from the moment they left, the others from the moment the core decided. ``own`` is
the acknowledgement of the coordinator's own copy: how long after the others had left it was
durable, 0 if they waited for the same sync.

A leg ends when the core has what came. But a busy node takes a copy and a read that wait for it in
the order in which they came, so on real processes ``write``, ``read``, ``forward`` and ``request``,
which race each other, end when they were handed to the connection; ``queue`` is the rest.

What was on its way while a fault lasted is left out: the reads that are predicted are those while
nothing failed.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import inf

from google.protobuf.message import Message

from replication.history import History

SAMPLES_MAX = 4_000  # of each leg; above it every second one is dropped, evenly in time
COPY = "write"
OWN = "own"
QUEUE = "queue"
FROM_LEAVING = frozenset({COPY, "backward"})
TAKEN_IN_ORDER = frozenset({COPY, "read", "forward"})


class Thinned:
    """(begin, end) of which at most ``SAMPLES_MAX`` are kept, at even distances."""

    __slots__ = ("_seen", "spans", "stride")

    def __init__(self, spans: Sequence[tuple[int, int]] = (), stride: int = 1) -> None:
        self.spans = list(spans)
        self.stride = stride  # each one kept stands for so many
        self._seen = 0

    def add(self, begin_ns: int, end_ns: int) -> None:
        """Take the next one, in the order of their ends."""
        if self._seen % self.stride == 0:
            self.spans.append((begin_ns, end_ns))
            if len(self.spans) > SAMPLES_MAX:
                self.spans = self.spans[::2]
                self.stride *= 2
        self._seen += 1


class LegDelays:
    """The delays found at one place. ``fields`` says which part of a message travels which leg."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._legs: dict[str, list[tuple[str, str]]] = {}  # kind of message -> (part of it, leg)
        for leg, path in fields.items():
            kind, part = path.split(".")
            self._legs.setdefault(kind, []).append((part, leg))
        self.found = {leg: Thinned() for leg in (*fields, OWN, QUEUE, "request", "reply")}

    def add(self, leg: str, begin_ns: int, end_ns: int) -> None:
        """Take one delay."""
        self.found[leg].add(begin_ns, end_ns)

    def message(
        self,
        message: Message,
        decided_ns: int,
        left_ns: int,
        at_ns: int,
        sent_ns: int | None = None,
    ) -> None:
        """Take what a peer message that a core has at ``at_ns`` says of every leg it travelled.

        ``sent_ns`` is when it was handed to the connection; without it nothing queues.
        """
        for leg in self.travelled(message):
            begin_ns = left_ns if leg in FROM_LEAVING else decided_ns
            if sent_ns is None or leg not in TAKEN_IN_ORDER:
                self.found[leg].add(begin_ns, at_ns)
            else:
                self.found[leg].add(begin_ns, sent_ns)
                self.found[QUEUE].add(sent_ns, at_ns)

    def travelled(self, message: Message) -> Iterator[str]:
        """Yield the legs that a peer message travels."""
        for kind, parts in self._legs.items():
            if message.HasField(kind):
                found = getattr(message, kind)
                for part, leg in parts:
                    if len(getattr(found, part)):
                        yield leg


def merged(found: Sequence[Mapping[str, Thinned]]) -> dict[str, list[tuple[int, int]]]:
    """Return leg -> (begin, end) in the order of their ends, as if found at one place."""
    result = {}
    for leg in dict.fromkeys(leg for each in found for leg in each):
        parts = [each[leg] for each in found if leg in each]
        stride = max(part.stride for part in parts)
        spans = [span for part in parts for span in part.spans[:: stride // part.stride]]
        everything = Thinned()
        for span in sorted(spans, key=lambda span: span[1]):
            everything.add(*span)
        result[leg] = everything.spans
    return result


def fault_windows(history: History) -> list[tuple[int, int]]:
    """Return (begin, end) of every fault; what was not healed before lasted to the end.

    A fault of links is healed when the first node is told so, and in force until the last one says
    that it is not.
    """
    begun = sorted(each.injected_ns for each in history.faults if each.injected_ns is not None)
    told = [each.time_ns for each in history.events if each.name == "link_faults_changed"]
    windows = []
    for fault in history.faults:
        if fault.injected_ns is not None:
            end_ns = history.heal_ns if fault.healed_ns is None else fault.healed_ns
            following = min((each for each in begun if each > end_ns), default=inf)
            late = [each for each in told if end_ns < each < following]
            windows.append((fault.injected_ns, max([end_ns, *late])))
    return windows


def undisturbed(
    spans: Mapping[str, Iterable[tuple[int, int]]], windows: Sequence[tuple[int, int]]
) -> dict[str, list[int]]:
    """Return leg -> delays, without those during ``windows``. A leg without any is left out."""
    found = {
        leg: [
            end_ns - begin_ns
            for begin_ns, end_ns in each
            if not any(begin_ns <= last and first <= end_ns for first, last in windows)
        ]
        for leg, each in spans.items()
    }
    return {leg: delays for leg, delays in found.items() if delays}
