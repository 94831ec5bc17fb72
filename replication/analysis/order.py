"""What surely came before what: the order of each client, and of each write before its reads.

Operations of a client that overlap are put into different chains, so that a chain is a total order
and the past of an operation is one number per chain (vector clocks, Fidge 1988, Mattern 1989). A
write with an unknown outcome comes after what its client had done, and before what read it, but
binds nothing that its client did later: it may take effect at any time.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from replication.analysis.view import View
from replication.history import Operation, OperationKind, Outcome

CELLS_MAX = 24_000_000  # operations times chains: 96 MB

Clocks = NDArray[np.int32]


@dataclass(slots=True)
class Order:
    """Operations as nodes of a graph, with the past of each once ``close`` was called."""

    operations: list[Operation]
    chain: list[int]  # of each; -1: an unknown write, in no chain
    position: list[int]  # in its chain, from 1
    chains: int
    before: list[list[int]]  # direct predecessors of each
    number: dict[int, int] = field(default_factory=dict)  # index of an operation -> node
    writer: dict[str, int] = field(default_factory=dict)  # write id -> node
    past: Clocks = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int32))

    def close(self) -> list[int] | None:
        """Compute every past. Return None, or the nodes of a circle if there is one."""
        after: list[list[int]] = [[] for _ in self.operations]
        missing = [len(each) for each in self.before]
        for node, several in enumerate(self.before):
            for each in several:
                after[each].append(node)
        self.past = np.zeros((len(self.operations), self.chains), dtype=np.int32)
        ready = [node for node, amount in enumerate(missing) if not amount]
        done = 0
        while ready:
            node = ready.pop()
            done += 1
            past = self.past[node]
            for each in self.before[node]:
                np.maximum(past, self.past[each], out=past)
                if self.chain[each] >= 0 and past[self.chain[each]] < self.position[each]:
                    past[self.chain[each]] = self.position[each]
            for each in after[node]:
                missing[each] -= 1
                if not missing[each]:
                    ready.append(each)
        return None if done == len(self.operations) else self._circle(missing)

    def _circle(self, missing: list[int]) -> list[int]:
        """Walk back among what could not be placed until a node comes again."""
        node = next(each for each, amount in enumerate(missing) if amount)
        walked: dict[int, int] = {}
        path: list[int] = []
        while node not in walked:
            walked[node] = len(path)
            path.append(node)
            node = next(each for each in self.before[node] if missing[each])
        return path[walked[node] :][::-1]

    def precedes(self, one: int, other: int) -> bool:
        """Return whether ``one`` is in the past of ``other``; False for what is in no chain."""
        chain = self.chain[one]
        return chain >= 0 and bool(self.past[other, chain] >= self.position[one])

    def path(self, start: int, end: int) -> list[int]:
        """Return nodes from ``start`` to ``end``, each a direct predecessor of the next."""
        came: dict[int, int] = {end: -1}
        waiting = [end]
        for node in waiting:
            if node == start:
                break
            for each in self.before[node]:
                leads = self.chain[start] < 0 or each == start or self.precedes(start, each)
                if leads and each not in came:
                    came[each] = node
                    waiting.append(each)
        found = [start]
        while found[-1] != end:
            found.append(came[found[-1]])
        return found


def causal_order(view: View, operations: Iterable[Operation]) -> Order:
    """Return the order of clients and of reads after what they read, not closed yet."""
    kept = sorted(operations, key=lambda each: (each.invoke_ns, each.index))
    order = Order(kept, [-1] * len(kept), [0] * len(kept), 0, [[] for _ in kept])
    chains_of: dict[str, list[int]] = defaultdict(list)  # client -> its chains
    last: list[int] = []  # of each chain
    length: list[int] = []
    for node, each in enumerate(kept):
        order.number[each.index] = node
        if each.kind is not OperationKind.GET and each.write_id is not None:
            order.writer.setdefault(each.write_id, node)
        mine = chains_of[each.client]
        ended = [chain for chain in mine if _ended(kept[last[chain]], each)]
        order.before[node] = [last[chain] for chain in ended]
        # Of a chain whose last operation overlaps, the ones before it came first all the same.
        order.before[node] += [
            found
            for chain in mine
            if chain not in ended and (found := _last_ended(order, last[chain], each)) is not None
        ]
        if each.outcome is not Outcome.OK:
            continue
        if ended:
            chain = ended[0]
        else:
            chain = len(last)
            mine.append(chain)
            last.append(node)
            length.append(0)
        last[chain] = node
        length[chain] += 1
        order.chain[node], order.position[node] = chain, length[chain]
    order.chains = len(last)
    _read_from(order)
    return order


def _ended(one: Operation, other: Operation) -> bool:
    return one.complete_ns is not None and one.complete_ns < other.invoke_ns


def _last_ended(order: Order, node: int, each: Operation) -> int | None:
    """Walk back along the chain of ``node`` to what had ended before ``each`` began."""
    chain = order.chain[node]
    current: int | None = node
    while current is not None and not _ended(order.operations[current], each):
        current = next(
            (other for other in order.before[current] if order.chain[other] == chain), None
        )
    return current


def _read_from(order: Order) -> None:
    """Put every write before the reads that returned it."""
    for node, each in enumerate(order.operations):
        if each.kind is OperationKind.GET:
            for version in each.seen:
                source = order.writer.get(version.write_id)
                if source is not None:
                    order.before[node].append(source)
