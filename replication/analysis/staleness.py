"""How old reads were: a measure for both sides, whatever they promise."""

from bisect import bisect_right

from replication.analysis.findings import Staleness
from replication.analysis.latency import nearest_rank
from replication.analysis.view import View
from replication.history import Operation, OperationKind, Outcome, Phase


def staleness(view: View) -> Staleness:
    """Return how many reads missed a newer version, and for how long that had been acknowledged.

    A write is newer than what a read returned if it was invoked after every version returned had
    taken effect; real time leaves no doubt then. A read is stale if such a write was acknowledged
    before the read began. Concurrent writes make no read stale.
    """
    found = Staleness()
    ages: list[int] = []
    oldest_ns = -1
    for operations in view.by_key.values():
        reads = [each for each in operations if _judged(each)]
        found.judged += len(reads)
        if not reads:
            continue
        invoked, ended = _acknowledged_writes(operations)
        for read in reads:
            newer = bisect_right(invoked, _newest_seen_ns(view, read))
            if newer < len(ended) and ended[newer] < read.invoke_ns:
                age_ns = read.invoke_ns - ended[newer]
                ages.append(age_ns)
                if age_ns > oldest_ns:
                    oldest_ns, found.oldest_read = age_ns, read.index
    found.stale = len(ages)
    if found.judged:
        found.share = found.stale / found.judged
    if ages:
        ages.sort()
        found.p50_age_ms = nearest_rank(ages, 0.5) / 1e6
        found.p99_age_ms = nearest_rank(ages, 0.99) / 1e6
        found.max_age_ms = ages[-1] / 1e6
    return found


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


def _newest_seen_ns(view: View, read: Operation) -> int:
    """Return when the last of the versions returned had taken effect; -1: the key was missing."""
    newest_ns = -1
    for version in read.seen:
        end_ns = view.effective_end_ns(version.write_id)
        assert end_ns is not None, "this very read returned it"
        newest_ns = max(newest_ns, end_ns)
    return newest_ns
