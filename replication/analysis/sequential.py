"""Sequentially consistent: one order of all operations on all keys that keeps every client's own.

(Lamport 1979.) Weaker than linearizable, since real time is not kept between clients. Deciding it
is NP-complete even with unique write ids (Gibbons and Korach 1997, theorem 4.1), so this check has
three answers, each with a proof or none:

- VALID if the history is linearizable, or an order was found that explains it;
- VIOLATED if orders that nobody can escape form a circle. From the order of clients and of writes
  before their reads follows more, until nothing does: what a read that returned w1 knew of was
  written before w1, and what was written knowing of w1 comes after that read;
- UNKNOWN if neither was found.
"""

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush

from replication.analysis import words
from replication.analysis.coverage import conclude, coverage
from replication.analysis.findings import Finding, Verdict, Witness
from replication.analysis.linearizability import contradicted
from replication.analysis.order import CELLS_MAX, Order, causal_order
from replication.analysis.registers import Registers, registers, version_read
from replication.analysis.sessions import PROMISED
from replication.analysis.view import View
from replication.history import Operation, OperationKind, Outcome

NAME = "sequential"
TITLE = "Sequentially consistent"
_ROUNDS_MAX = 12
_WITNESSES_MAX = 5
_CIRCLE_MAX = 12


@dataclass(slots=True)
class _Judged:
    verdict: Verdict
    summary: str
    witnesses: list[Witness] = field(default_factory=list)
    violations: int = 0


def check(view: View) -> Finding:
    """Return whether some order of all operations explains every read."""
    judged = _judge(view)
    finding = Finding(
        NAME,
        TITLE,
        judged.verdict,
        judged.summary,
        coverage(view, reads=True),
        judged.witnesses,
        judged.violations,
        PROMISED,
    )
    return conclude(view, finding)


def _judge(view: View) -> _Judged:
    found = registers(view)
    if found.impossible_count:
        told = [each.witness(view) for several in found.impossible.values() for each in several]
        told.sort(key=lambda each: each.at_ns or 0)
        return _Judged(
            Verdict.VIOLATED,
            f"{words.plural(found.impossible_count, 'read')} returned what no single copy holds",
            told[:_WITNESSES_MAX],
            found.impossible_count,
        )
    if view.once(contradicted) is False:
        return _Judged(Verdict.VALID, "one order per key in real time is one order for all")
    return _saturated(view, found)


def _saturated(view: View, found: Registers) -> _Judged:
    kept = [each for operations in found.operations.values() for each in operations]
    kept = [each for each in kept if each.outcome is not Outcome.FAIL]
    order = causal_order(view, kept)
    if len(kept) * order.chains > CELLS_MAX:
        return _Judged(Verdict.UNKNOWN, "too many operations of too many clients at once")
    inference = _Inference(order)
    for _ in range(_ROUNDS_MAX):
        circle = order.close()
        if circle is not None:
            return _circular(view, order, circle)
        impossible = inference.impossible()
        if impossible is not None:
            return _circular(view, order, impossible)
        if not inference.more():
            break
    else:
        return _Judged(Verdict.UNKNOWN, f"orders still followed after {_ROUNDS_MAX} rounds")
    if _explains(order):
        return _Judged(
            Verdict.VALID,
            f"one order of {words.plural(len(kept), 'operation')} explains every read",
        )
    return _Judged(
        Verdict.UNKNOWN, "no order was found that explains every read, and none was ruled out"
    )


class _Inference:
    """Draws edges that every order must have, from those that are there."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._reads: list[tuple[int, int | None]] = []  # node, node of what it read
        # key -> chain -> positions and nodes of its writes
        self._writes: dict[str, dict[int, tuple[list[int], list[int]]]] = defaultdict(dict)
        self._drawn: set[tuple[int, int]] = set()
        for node, each in enumerate(order.operations):
            if each.kind is OperationKind.GET:
                seen = version_read(each)
                source = None if seen is None else order.writer.get(seen)
                if seen is None or source is not None:
                    self._reads.append((node, source))
            elif order.chain[node] >= 0:
                mine = self._writes[each.key].setdefault(order.chain[node], ([], []))
                mine[0].append(order.position[node])
                mine[1].append(node)

    def impossible(self) -> list[int] | None:
        """Return the way from a write to a read that comes after it and found nothing."""
        for read, source in self._reads:
            if source is None:
                for write in self._known(read):
                    return self._order.path(write, read)
        return None

    def more(self) -> bool:
        """Draw what follows by now; return whether anything did."""
        drawn = False
        for read, source in self._reads:
            if source is not None:
                for write in self._known(read):
                    if write != source:
                        drawn |= self._draw(write, source)
            for write in self._after(read, source):
                drawn |= self._draw(read, write)
        return drawn

    def _draw(self, one: int, other: int) -> bool:
        if (one, other) in self._drawn:
            return False
        self._drawn.add((one, other))
        if self._order.precedes(one, other):
            return False
        self._order.before[other].append(one)
        return True

    def _known(self, read: int) -> Iterator[int]:
        """Yield the last write of each chain that comes before ``read``."""
        past = self._order.past[read]
        for chain, (positions, nodes) in self._writes[self._order.operations[read].key].items():
            amount = bisect_right(positions, int(past[chain]))
            if amount:
                yield nodes[amount - 1]

    def _after(self, read: int, source: int | None) -> Iterator[int]:
        """Yield the first write of each chain that comes after what ``read`` returned."""
        order = self._order
        for _, nodes in self._writes[order.operations[read].key].values():
            if source is None:
                yield nodes[0]
            elif order.chain[source] >= 0:
                chain, position = order.chain[source], order.position[source]
                # What a chain knows only grows along it.
                first = bisect_left(nodes, position, key=lambda node: int(order.past[node, chain]))
                if first < len(nodes):
                    yield nodes[first]


def _explains(order: Order) -> bool:
    """Return whether operations in order of time, where possible, give every read what it got."""
    placing = _Placing(order)
    while placing.ready:
        placing.next()
    return placing.placed == len(order.operations)


class _Placing:
    """Places operations one after the other; what does not fit yet waits for its key to change."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._after: list[list[int]] = [[] for _ in order.operations]
        self._missing = [len(each) for each in order.before]
        for node, several in enumerate(order.before):
            for each in several:
                self._after[each].append(node)
        self._nothing = {each.key: -1 - n for n, each in enumerate(order.operations)}
        self._source = [self._read_by(each) for each in order.operations]
        self._unread = Counter(each for each in self._source if each is not None)
        self._holds: dict[str, int] = dict(self._nothing)
        self._waiting: dict[str, list[int]] = defaultdict(list)
        self.ready: list[tuple[int, int]] = []
        self.placed = 0
        for node, amount in enumerate(self._missing):
            if not amount:
                self._offer(node)

    def _read_by(self, operation: Operation) -> int | None:
        """Return the node of the write that a read returned; None: it is no read."""
        if operation.kind is not OperationKind.GET:
            return None
        seen = version_read(operation)
        return self._nothing[operation.key] if seen is None else self._order.writer[seen]

    def _offer(self, node: int) -> None:
        heappush(self.ready, (self._order.operations[node].invoke_ns, node))

    def next(self) -> None:
        """Place the first that is ready, or let it wait."""
        _, node = heappop(self.ready)
        operation = self._order.operations[node]
        if not self._fits(node, operation):
            self._waiting[operation.key].append(node)
            return
        self.placed += 1
        source = self._source[node]
        if source is None:
            self._holds[operation.key] = node
        else:
            self._unread[source] -= 1
        for each in self._after[node]:
            self._missing[each] -= 1
            if not self._missing[each]:
                self._offer(each)
        for each in self._waiting.pop(operation.key, ()):
            self._offer(each)

    def _fits(self, node: int, operation: Operation) -> bool:
        """Return whether it may come now: a write only once what it replaces was read by all."""
        held = self._holds[operation.key]
        source = self._source[node]
        if source is not None:
            return held == source
        if operation.kind is OperationKind.COMPARE_AND_SET:
            value = None if held < 0 else self._order.operations[held].value
            if value != operation.expected:
                return False
        return not self._unread[held]


def _circular(view: View, order: Order, circle: list[int]) -> _Judged:
    shown = [order.operations[node] for node in circle[:_CIRCLE_MAX]]
    told = "; ".join(words.told(view, each) for each in shown)
    rest = f"; and {len(circle) - len(shown)} more" if len(circle) > len(shown) else ""
    text = (
        "In every order that keeps what each client did one after the other, each of these comes "
        f"before the next, and the last before the first: {told}{rest}."
    )
    ordered = sorted(shown, key=lambda each: (each.invoke_ns, each.index))
    at_ns = max((each.complete_ns or each.invoke_ns) for each in shown)
    witness = Witness(text, shown[-1].key, [each.index for each in ordered], at_ns)
    return _Judged(
        Verdict.VIOLATED,
        f"no order of all operations explains {words.plural(len(circle), 'operation')} in a circle",
        [witness],
        1,
    )
