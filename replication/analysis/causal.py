"""Causally consistent: a read sees all that it can have known of, or what replaced it.

An operation knows of what its client had done before, of the writes that it read, and of all that
those knew of (Lamport 1978; Ahamad et al. 1995). With unique write ids a history is checked by
looking for bad patterns, in polynomial time (Bouajjani, Enea, Guerraoui and Hamza, "On verifying
causal consistency", POPL 2017, table 1):

- CyclicCO: an operation that knows of itself;
- WriteCOInitRead: a read that found nothing although it knew of a write of the key;
- WriteCORead: a read of w1 although it knew of w2, which cannot have been replaced by w1;
- ThinAirRead: a read of what nobody wrote (``linearizability`` names those).

In the paper w1 was known to the writer of w2. Here a store is also held to its own way of deciding
between two versions (``lineage``), which makes the check stronger and fits siblings too: a read of
several values is one of all of them.
"""

from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass, field

from replication.analysis import words
from replication.analysis.coverage import conclude, coverage
from replication.analysis.findings import Finding, Verdict, Witness
from replication.analysis.lineage import Lineage, lineage
from replication.analysis.order import CELLS_MAX, Order, causal_order
from replication.analysis.sessions import PROMISED
from replication.analysis.view import View
from replication.analysis.why import reasons
from replication.history import Operation, OperationKind, Outcome

NAME = "causal"
TITLE = "Causally consistent"
WITNESSES_MAX = 5
_PATH_MAX = 8


@dataclass(slots=True)
class Judgement:
    """Reads that lack what they knew of: node of the read, node of the write."""

    order: Order
    circle: list[int] | None = None
    lacking: list[tuple[int, int]] = field(default_factory=list)
    bound: int = 0  # reads that knew of a write of their key
    too_long: bool = False


def judgement(view: View) -> Judgement:
    """Return every bad pattern; call through ``View.once``."""
    kept = [
        each
        for each in view.history.operations
        if each.outcome is Outcome.OK
        or (each.outcome is Outcome.UNKNOWN and each.write_id in view.first_seen_ns)
    ]
    order = causal_order(view, kept)
    found = Judgement(order)
    if len(kept) * order.chains > CELLS_MAX:
        found.too_long = True
        return found
    found.circle = order.close()
    if found.circle is not None:
        return found
    judges = view.once(lineage)
    written = _written(order)
    for node, each in enumerate(order.operations):
        if each.kind is not OperationKind.GET:
            continue
        known = _known(order, written[each.key], node)
        found.bound += bool(known)
        lacking = next((write for write in known if _lacks(order, judges, node, write)), None)
        if lacking is not None:
            found.lacking.append((node, lacking))
    return found


def _written(order: Order) -> dict[str, dict[int, tuple[list[int], list[int]]]]:
    """Return for each key and chain the positions from which writes are known, and their nodes.

    An acknowledged write is known where it stands, one with an unknown outcome where it was read.
    """
    found: dict[str, dict[int, tuple[list[int], list[int]]]] = defaultdict(dict)
    for node, each in enumerate(order.operations):
        chain = order.chain[node]
        if chain < 0:
            continue
        known = [node]
        if each.kind is OperationKind.GET:
            sources = (order.writer.get(version.write_id) for version in each.seen)
            known = [source for source in sources if source is not None and order.chain[source] < 0]
        for write in known:
            positions, nodes = found[each.key].setdefault(chain, ([], []))
            positions.append(order.position[node])
            nodes.append(write)
    return found


def _known(order: Order, of_chains: dict[int, tuple[list[int], list[int]]], node: int) -> list[int]:
    """Return of each chain the last write that ``node`` knew of."""
    past = order.past[node]
    found = []
    for chain, (positions, nodes) in of_chains.items():
        amount = bisect_right(positions, int(past[chain]))
        if amount:
            found.append(nodes[amount - 1])
    return found


def _lacks(order: Order, judges: Lineage, read: int, write: int) -> bool:
    """Return whether a read shows a state without a write: by lineage, or by what knew of what."""
    operation, missed = order.operations[read], order.operations[write]
    if judges.lacks(operation, missed):
        return True
    if not operation.seen or any(each.write_id == missed.write_id for each in operation.seen):
        return False
    sources = [order.writer.get(each.write_id) for each in operation.seen]
    return all(each is not None and order.precedes(each, write) for each in sources)


def check(view: View) -> Finding:
    """Return whether every read saw all that it can have known of."""
    found = view.once(judgement)
    violations = len(found.lacking) + (found.circle is not None)
    finding = Finding(
        NAME,
        TITLE,
        Verdict.VIOLATED if violations else Verdict.UNKNOWN if found.too_long else Verdict.VALID,
        _summary(found),
        coverage(view, reads=True, judged=found.bound if not found.circle else None),
        _witnesses(view, found),
        violations,
        PROMISED,
        {"lacking": len(found.lacking)},
    )
    return conclude(view, finding)


def _summary(found: Judgement) -> str:
    if found.too_long:
        return "too many operations of too many clients at once to compare all with all"
    if found.circle is not None:
        return f"{len(found.circle)} operations each know of the next, in a circle"
    return (
        f"{len(found.lacking):,} of {words.plural(found.bound, 'read')} lacked what they had known "
        "of"
    )


def _witnesses(view: View, found: Judgement) -> list[Witness]:
    order = found.order
    if found.circle is not None:
        circle = [order.operations[node] for node in found.circle]
        told = "; ".join(words.told(view, each) for each in circle)
        text = f"Each of these comes before the next, and the last before the first: {told}."
        return [Witness(text, circle[0].key, [each.index for each in circle], circle[0].invoke_ns)]
    return [_witness(view, order, *each) for each in found.lacking[:WITNESSES_MAX]]


def _witness(view: View, order: Order, read_node: int, write_node: int) -> Witness:
    read, write = order.operations[read_node], order.operations[write_node]
    path = [order.operations[node] for node in order.path(write_node, read_node)]
    got = f"got {words.versions(view, read.seen)}" if read.seen else "found nothing"
    text = (
        f"{read.client} read {read.key}{words.served(read)} from "
        f"{words.moment(view, read.invoke_ns)} on and {got}, although it can have known of "
        f"{words.write(view, write.write_id or '')}: {_how(view, path)}."
    )
    sources = [view.writes[each.write_id] for each in read.seen if each.write_id in view.writes]
    shown = {each.index: each for each in (*path, *sources)}
    ordered = sorted(shown.values(), key=lambda each: (each.invoke_ns, each.index))
    text += reasons(view, read, ordered)
    return Witness(text, read.key, [each.index for each in ordered], read.invoke_ns)


def _how(view: View, path: list[Operation]) -> str:
    """Tell the steps from the write to the read."""
    steps = [words.told(view, each) for each in path[:-1]]
    if len(steps) > _PATH_MAX:
        left_out = len(steps) - _PATH_MAX
        steps = [*steps[: _PATH_MAX // 2], f"{left_out} more", *steps[-_PATH_MAX // 2 :]]
    return ", then ".join(steps)
