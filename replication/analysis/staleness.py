"""How old reads were: a measure for both sides, whatever they promise."""

from bisect import bisect_right

from replication.analysis.findings import Staleness, StaleRead
from replication.analysis.latency import nearest_rank
from replication.analysis.siblings import purged_deletes
from replication.analysis.view import View
from replication.history import Operation, OperationKind, Outcome, Phase

WORST_MAX = 10


def staleness(view: View) -> Staleness:
    """Return how many reads missed a newer version, and for how long that had been acknowledged."""
    found = Staleness(judged=sum(1 for each in view.history.operations if _judged(each)))
    late = view.once(stale_reads)
    found.stale = len(late)
    if found.judged:
        found.share = found.stale / found.judged
    if late:
        ages = sorted(age_ns for _, age_ns in late)
        found.p50_age_ms = nearest_rank(ages, 0.5) / 1e6
        found.p99_age_ms = nearest_rank(ages, 0.99) / 1e6
        found.max_age_ms = ages[-1] / 1e6
        found.oldest_read = late[0][0].index
        found.worst = [_told(read, age_ns) for read, age_ns in late[:WORST_MAX]]
    return found


def stale_reads(view: View) -> list[tuple[Operation, int]]:
    """Return the stale reads with their ages, the oldest first; call through ``View.once``.

    A write is newer than what a read returned if it was invoked after every version returned had
    taken effect; real time leaves no doubt then. A read is stale if such a write was acknowledged
    before the read began. Concurrent writes make no read stale.
    """
    found: list[tuple[Operation, int]] = []
    for operations in view.by_key.values():
        reads = [each for each in operations if _judged(each)]
        if not reads:
            continue
        invoked, ended = _acknowledged_writes(operations)
        for read in reads:
            newer = bisect_right(invoked, newest_seen_ns(view, read))
            if newer < len(ended) and ended[newer] < read.invoke_ns:
                found.append((read, read.invoke_ns - ended[newer]))
    return sorted(found, key=lambda each: (-each[1], each[0].index))


def _told(read: Operation, age_ns: int) -> StaleRead:
    returned = [version.write_id for version in read.seen]
    return StaleRead(read.index, read.client, read.key, read.node, read.invoke_ns, age_ns, returned)


def _judged(operation: Operation) -> bool:
    return (
        operation.kind is OperationKind.GET
        and operation.outcome is Outcome.OK
        and operation.phase is Phase.LOAD
    )


def _acknowledged_writes(operations: list[Operation]) -> tuple[list[int], list[int]]:
    """Return invocations ascending, and for each the first end of this write or a later one."""
    writes = sorted(
        (each.invoke_ns, each.complete_ns)
        for each in operations
        if each.kind is not OperationKind.GET
        and each.outcome is Outcome.OK
        and each.complete_ns is not None
    )
    ended = [end for _, end in writes]
    for index in range(len(ended) - 2, -1, -1):
        ended[index] = min(ended[index], ended[index + 1])
    return [begun for begun, _ in writes], ended


def newest_seen_ns(view: View, read: Operation) -> int:
    """Return when the last of the versions returned had taken effect; -1: the key was missing.

    A key that is missing since its delete was purged shows that delete.
    """
    newest_ns = -1
    for version in read.seen:
        end_ns = view.effective_end_ns(version.write_id)
        assert end_ns is not None, "this very read returned it"
        newest_ns = max(newest_ns, end_ns)
    if not read.seen:
        read_ns = read.invoke_ns if read.complete_ns is None else read.complete_ns
        for purged_ns, end_ns in view.once(_purged).get(read.key, ()):
            if purged_ns <= read_ns:
                newest_ns = max(newest_ns, end_ns)
    return newest_ns


def _purged(view: View) -> dict[str, list[tuple[int, int]]]:
    """Return for each key when its deletes were purged, and had taken effect."""
    found: dict[str, list[tuple[int, int]]] = {}
    for write_id, purged_ns in view.once(purged_deletes).items():
        write = view.writes.get(write_id)
        if write is not None:
            end_ns = view.effective_end_ns(write_id)
            times = (purged_ns, purged_ns if end_ns is None else end_ns)
            found.setdefault(write.key, []).append(times)
    return found
