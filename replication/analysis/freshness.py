"""Reads see what was acknowledged: quorums that overlap, as far as the settings claim it.

A read is judged against a write of its key that was acknowledged before the read began, when the
number of replicas that the one had to reach and the number that the other had to ask add up to more
than N (Gifford 1979; Dynamo §4.5: R + W > N). Such a read must return the write, or a version whose
writer knew of it: siblings hide nothing (``based_on``, followed from write to write). Where a put
replaces what it has not read (one order per key, last-write-wins) a version that cannot be older
than the write will do.

What counts is what was *claimed*, by the settings of the cluster or by the request, not how many
replicas answered: a store that acknowledges after one copy and claims two is what this check is
for. Reads of a weaker level are not judged; ``staleness`` measures them.
"""

from collections.abc import Iterator

from replication.analysis import words
from replication.analysis.coverage import conclude, coverage
from replication.analysis.findings import Finding, Verdict, Witness
from replication.analysis.lineage import lineage
from replication.analysis.promised import (
    keeps_siblings,
    promises_durability,
    reads_weaker,
    setting,
)
from replication.analysis.view import View
from replication.analysis.why import reasons
from replication.history import Operation, OperationKind, Outcome

NAME = "freshness"
TITLE = "Reads see what was acknowledged"
WITNESSES_MAX = 5


def check(view: View) -> Finding:
    """Return whether every read saw the writes that it was bound to see."""
    judged = 0
    missed: list[tuple[Operation, Operation]] = []
    for operations in view.by_key.values():
        most = _most_claimed(view, operations)
        reads = [each for each in operations if _is_judged(view, each, most)]
        judged += len(reads)
        missed += _missed_on_key(view, operations, reads)
    missed.sort(key=lambda each: (each[0].invoke_ns, each[0].index))
    finding = Finding(
        NAME,
        TITLE,
        Verdict.VIOLATED if missed else Verdict.VALID,
        f"{len(missed):,} of {words.plural(judged, 'read')} missed an acknowledged write",
        coverage(view, reads=True, judged=judged),
        [_witness(view, *each) for each in missed[:WITNESSES_MAX]],
        len(missed),
        promises_freshness(view),
        counts={"missed": len(missed)},
    )
    if not judged and not view.history.single_register:
        finding.coverage.notes.append("no read asked enough replicas to be bound to meet a write")
    return conclude(view, finding)


def promises_freshness(view: View) -> bool:
    """Return whether the settings of the cluster make every read see every acknowledged write.

    With last-write-wins a clock that is ahead may let an older version win, so it promises nothing;
    nor where deletes are forgotten while a copy of what they had read may be elsewhere, nor where
    new owners answer before they have fetched what the old ones hold.
    """
    if view.history.single_register:
        return promises_durability(view) and setting(view, "default_read") != "local"
    n, r, w = view.once(_counts)
    if setting(view, "quorum") == "sloppy":
        # Others may stand in for primaries, but for so many.
        r, w = (int(setting(view, name) or 0) for name in ("pr", "pw"))
    weak = setting(view, "purge") == "time" or setting(view, "ring_changes") == "eager"
    return r + w > n and keeps_siblings(view) and not weak


def _counts(view: View) -> tuple[int, int, int]:
    """Return N, R and W of the cluster; a backend that has no such settings claims nothing."""
    found = [setting(view, name) for name in ("n", "r", "w")]
    n, r, w = (int(each) if each is not None and each.isdigit() else 0 for each in found)
    return n, r, w


def _is_judged(view: View, read: Operation, most: int) -> bool:
    """Return whether ``read`` was bound to meet a write that claimed ``most`` replicas."""
    if read.kind is not OperationKind.GET or read.outcome is not Outcome.OK:
        return False
    if view.history.single_register:
        return not reads_weaker(view, read)
    return _claimed(view, read) + most > view.once(_counts)[0]


def _most_claimed(view: View, operations: list[Operation]) -> int:
    """Return how many replicas an acknowledged write of a key claimed at most."""
    return max(
        (
            _claimed(view, each)
            for each in operations
            if each.kind.is_write and each.outcome is Outcome.OK
        ),
        default=0,
    )


def _claimed(view: View, operation: Operation) -> int:
    """Return how many of the key's replicas the operation was to reach.

    Nodes that stood in for them in a sloppy quorum are none of them.
    """
    return max(0, _asked(view, operation) - len(operation.fallbacks))


def _asked(view: View, operation: Operation) -> int:
    n, r, w = view.once(_counts)
    if operation.replicas_asked:
        return operation.replicas_asked
    match operation.consistency:
        case "one" | "any":
            return 1
        case "quorum":
            return n // 2 + 1
        case "all":
            return n
    return w if operation.kind.is_write else r


class _Newest:
    """What must be seen where a put replaces everything: the write that began last."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._newest: Operation | None = None

    def acknowledged(self, write: Operation) -> None:
        if self._newest is None or write.invoke_ns > self._newest.invoke_ns:
            self._newest = write

    def missed_by(self, read: Operation) -> Operation | None:
        """Return the write if it began when every version returned had taken effect already."""
        write = self._newest
        if write is None or not _overlap(self._view, read, write):
            return None
        ends = [self._view.effective_end_ns(version.write_id) for version in read.seen]
        older = all(end is not None and end < write.invoke_ns for end in ends)
        return write if older else None


class _Uncovered:
    """What must be seen where siblings are kept: every write that no later one had read.

    A write that another acknowledged write covers is judged by way of that one.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self._covered: set[str] = set()
        self._uncovered: dict[str, Operation] = {}

    def acknowledged(self, write: Operation) -> None:
        assert write.write_id is not None, "a write has an id"
        for covered in write.based_on:
            self._uncovered.pop(covered, None)
        self._covered.update(write.based_on)
        if write.write_id not in self._covered:
            self._uncovered[write.write_id] = write

    def missed_by(self, read: Operation) -> Operation | None:
        """Return a write that was not returned, and that no version returned descends from."""
        judges = self._view.once(lineage)
        for write in self._uncovered.values():
            if (
                _overlap(self._view, read, write)
                and not any(judges.descends(version.write_id, write) for version in read.seen)
                and not judges.forgotten(read, write)
            ):
                return write
        return None


def _missed_on_key(
    view: View, operations: list[Operation], reads: list[Operation]
) -> Iterator[tuple[Operation, Operation]]:
    """Yield each read that missed something, with one write that it missed."""
    kept = not view.history.single_register and keeps_siblings(view)
    bound = _Uncovered(view) if kept else _Newest(view)
    writes = [
        (each.complete_ns, each.index, each)
        for each in operations
        if each.kind.is_write and each.outcome is Outcome.OK and each.complete_ns is not None
    ]
    writes.sort(key=lambda each: each[:2])
    position = 0
    for read in sorted(reads, key=lambda each: (each.invoke_ns, each.index)):
        while position < len(writes) and writes[position][0] < read.invoke_ns:
            bound.acknowledged(writes[position][2])
            position += 1
        missed = bound.missed_by(read)
        if missed is not None:
            yield read, missed


def _overlap(view: View, read: Operation, write: Operation) -> bool:
    if view.history.single_register:
        return True
    return _claimed(view, read) + _claimed(view, write) > view.once(_counts)[0]


def _witness(view: View, read: Operation, write: Operation) -> Witness:
    assert write.write_id is not None, "a write has an id"
    assert write.complete_ns is not None, "an acknowledged write has ended"
    got = f"got {words.versions(view, read.seen)}" if read.seen else "found nothing"
    begun = words.moment(view, read.invoke_ns)
    text = (
        f"{read.client} read {read.key}{words.served(read)} from {begun} on and {got}, "
        f"although {words.write(view, write.write_id)} had been acknowledged"
        f"{words.served(write)} at {words.moment(view, write.complete_ns)}"
        f"{_arithmetic(view, read, write)}.{reasons(view, read, (write, read))}"
    )
    return Witness(text, read.key, [write.index, read.index], read.invoke_ns)


def _arithmetic(view: View, read: Operation, write: Operation) -> str:
    if view.history.single_register:
        return ""
    n, r, w = view.once(_counts)[0], _claimed(view, read), _claimed(view, write)
    return f"; R={r} and W={w} of N={n} replicas were claimed, so one of them had both"
