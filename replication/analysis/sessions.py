"""The four session guarantees (Terry et al. 1994), read by read, with a witness for each.

- *Read your writes*: a read sees the last write of its own client, or what replaced it.
- *Monotonic reads*: a read sees what the last read of its client had seen, or what replaced it.
- *Monotonic writes*: who has seen a write sees what its writer had written before it.
- *Writes follow reads*: who has seen a write sees what its writer had read before it.

A session is a client. Operations of one that overlap are not in order, so neither of them binds the
other. Only acknowledged operations bind; what can stand in for what is told by ``lineage``.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from replication.analysis import words
from replication.analysis.coverage import conclude, coverage
from replication.analysis.findings import Finding, Verdict, Witness
from replication.analysis.lineage import Latest, Lineage, lineage
from replication.analysis.view import View
from replication.analysis.why import reasons
from replication.history import Operation, OperationKind, Outcome

# Where they are promised it is because one order per key is: that check fails the run, these say
# how far down the ladder it fell.
PROMISED = False
WITNESSES_MAX = 5
TITLES = {
    "read-your-writes": "Read your writes",
    "monotonic-reads": "Monotonic reads",
    "monotonic-writes": "Monotonic writes",
    "writes-follow-reads": "Writes follow reads",
}


@dataclass(slots=True)
class Broken:
    """A read that lacks a write which it was bound to see."""

    read: Operation
    missed: Operation  # the write
    through: list[Operation]  # how the session came to know: its own earlier read, the seen write


@dataclass(slots=True)
class Guarantees:
    """What became of each guarantee: reads that it bound, and those that broke it."""

    judged: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TITLES, 0))
    broken: dict[str, list[Broken]] = field(default_factory=lambda: {name: [] for name in TITLES})


@dataclass(slots=True)
class _Index:
    """Acknowledged operations of each client and key, by when they had ended."""

    writes: dict[str, dict[str, Latest]]  # key -> client -> its writes
    reads: dict[str, dict[str, Latest]]


def guarantees(view: View) -> Guarantees:
    """Return the judgement on every acknowledged read; call through ``View.once``."""
    found = Guarantees()
    index = _index(view)
    by_client: dict[str, list[Operation]] = defaultdict(list)
    for each in view.history.operations:
        if each.kind is OperationKind.GET and each.outcome is Outcome.OK:
            by_client[each.client].append(each)
    judges = view.once(lineage)
    for client, reads in by_client.items():
        reads.sort(key=lambda each: (each.invoke_ns, each.index))
        for read, seen_of in _with_what_was_seen(view, client, reads):
            for name, broken in _judge(view, judges, index, read, seen_of):
                found.judged[name] += 1
                if broken is not None:
                    found.broken[name].append(broken)
    return found


def _index(view: View) -> _Index:
    index = _Index({}, {})
    for key, operations in view.by_key.items():
        writes: dict[str, list[Operation]] = defaultdict(list)
        reads: dict[str, list[Operation]] = defaultdict(list)
        for each in operations:
            if each.outcome is Outcome.OK:
                mine = reads if each.kind is OperationKind.GET else writes
                mine[each.client].append(each)
        index.writes[key] = {client: Latest(each) for client, each in writes.items()}
        index.reads[key] = {client: Latest(each) for client, each in reads.items()}
    return index


def _with_what_was_seen(
    view: View, client: str, reads: list[Operation]
) -> Iterator[tuple[Operation, dict[str, tuple[Operation, Operation]]]]:
    """Yield each read with the newest write of every other client that its session had seen.

    ``{writer: (write, the read that showed it)}``, of reads that had ended before it began.
    """
    ended = sorted(reads, key=lambda each: (each.complete_ns or 0, each.index))
    position = 0
    seen_of: dict[str, tuple[Operation, Operation]] = {}
    for read in reads:
        while position < len(ended) and (ended[position].complete_ns or 0) < read.invoke_ns:
            for version in ended[position].seen:
                write = view.writes.get(version.write_id)
                if write is None or write.client == client:
                    continue
                known = seen_of.get(write.client)
                if known is None or known[0].invoke_ns < write.invoke_ns:
                    seen_of[write.client] = write, ended[position]
            position += 1
        yield read, seen_of


def _judge(
    view: View,
    judges: Lineage,
    index: _Index,
    read: Operation,
    seen_of: dict[str, tuple[Operation, Operation]],
) -> Iterator[tuple[str, Broken | None]]:
    """Yield for each guarantee that binds ``read`` whether it broke it, and by what."""
    writes, reads = index.writes[read.key], index.reads[read.key]
    own = _latest(writes, read.client, read.invoke_ns)
    if own is not None:
        yield "read-your-writes", Broken(read, own, []) if judges.lacks(read, own) else None
    before = _latest(reads, read.client, read.invoke_ns)
    if before is not None and before.seen:
        yield "monotonic-reads", _missed(view, judges, read, before, [before])
    bound: dict[str, Broken | None] = {}
    for writer, (write, shown) in seen_of.items():
        earlier = _latest(writes, writer, write.invoke_ns)
        if earlier is not None:
            broken = judges.lacks(read, earlier)
            through = [shown, write]
            found = Broken(read, earlier, through) if broken else None
            bound["monotonic-writes"] = bound.get("monotonic-writes") or found
        known = _latest(reads, writer, write.invoke_ns)
        if known is not None and known.seen:
            found = _missed(view, judges, read, known, [known, write, shown])
            bound["writes-follow-reads"] = bound.get("writes-follow-reads") or found
    yield from bound.items()


def _latest(of_clients: dict[str, Latest], client: str, at_ns: int) -> Operation | None:
    mine = of_clients.get(client)
    return None if mine is None else mine.before(at_ns, bisect_left)


def _missed(
    view: View, judges: Lineage, read: Operation, known: Operation, through: list[Operation]
) -> Broken | None:
    """Return what ``known`` had seen and ``read`` lacks."""
    for version in known.seen:
        write = view.writes.get(version.write_id)
        if write is not None and write.key == read.key and judges.lacks(read, write):
            return Broken(read, write, through)
    return None


def check(name: str) -> Callable[[View], Finding]:
    """Return the check of one guarantee."""
    return partial(_check, name)


def _check(name: str, view: View) -> Finding:
    found = view.once(guarantees)
    broken = sorted(found.broken[name], key=lambda each: (each.read.invoke_ns, each.read.index))
    judged = found.judged[name]
    finding = Finding(
        name,
        TITLES[name],
        Verdict.VIOLATED if broken else Verdict.VALID,
        f"{len(broken):,} of {words.plural(judged, 'read')} that it binds broke it",
        coverage(view, reads=True, judged=judged),
        [_witness(view, name, each) for each in broken[:WITNESSES_MAX]],
        len(broken),
        PROMISED,
        {"broken": len(broken)},
    )
    return conclude(view, finding)


def _witness(view: View, name: str, broken: Broken) -> Witness:
    read, missed = broken.read, broken.missed
    got = f"got {words.versions(view, read.seen)}" if read.seen else "found nothing"
    begun = words.moment(view, read.invoke_ns)
    text = (
        f"{read.client} read {read.key}{words.served(read)} from {begun} on and {got}, although "
        f"{_because(view, name, broken)}."
    )
    shown = {each.index: each for each in (missed, *broken.through, read)}
    ordered = sorted(shown.values(), key=lambda each: (each.invoke_ns, each.index))
    text += reasons(view, read, ordered)
    return Witness(text, read.key, [each.index for each in ordered], read.invoke_ns)


def _because(view: View, name: str, broken: Broken) -> str:
    missed = words.write(view, broken.missed.write_id or "")
    match name:
        case "read-your-writes":
            return f"its own {missed} had been {words.effect(view, broken.missed)}"
        case "monotonic-reads":
            return f"it had {_saw(view, broken.through[0], missed)}"
        case "monotonic-writes":
            shown, write = broken.through
            return (
                f"it had {_saw(view, shown, words.write(view, write.write_id or ''))}, and "
                f"{write.client} had written {missed} before that"
            )
    known, write, shown = broken.through
    return (
        f"it had {_saw(view, shown, words.write(view, write.write_id or ''))}, and {write.client} "
        f"had {_saw(view, known, missed)} before it wrote that"
    )


def _saw(view: View, read: Operation, what: str) -> str:
    end_ns = read.invoke_ns if read.complete_ns is None else read.complete_ns
    return f"read {what} of {read.key}{words.served(read)} by {words.moment(view, end_ns)}"
