"""How long operations took, from the moment the plan wanted them to start."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from replication.analysis.findings import LatencyPoint
from replication.analysis.meanwhile import Percentiles
from replication.analysis.view import FAIL, NEVER, OK, Columns, Times, View, columns
from replication.history import Operation

POINTS_MAX = 4_000
_FAILURES_MAX = 1_000  # of the points
_SLOWEST_MAX = 500  # of the points
_OUTCOMES = ("ok", "fail", "unknown")


def nearest_rank(ascending: Sequence[int] | Times, share: float) -> int:
    """Return the smallest value that at least ``share`` of the values do not exceed."""
    assert len(ascending), "there is no percentile of nothing"
    # A share like 0.07 of 100 is 7.000000000000001 in binary: that is rank 7.
    rank = int(np.ceil(round(share * len(ascending), 9)))
    return int(ascending[max(rank, 1) - 1])


def percentiles(view: View, *, writes: bool) -> Percentiles:
    """Return the latencies of acknowledged reads or writes while measuring (nearest rank)."""
    loaded = view.once(columns)
    return _of(view, loaded.measured & (loaded.write == writes))


def percentiles_within(view: View, start_ns: int, end_ns: int) -> Percentiles:
    """Return the latencies of all operations that were acknowledged in a stretch of the load."""
    ended = view.once(columns).complete
    return _of(view, (ended >= start_ns) & (ended <= end_ns))


def _of(view: View, chosen: NDArray[np.bool_]) -> Percentiles:
    loaded = view.once(columns)
    chosen = chosen & (loaded.outcome == OK)
    taken = np.sort(loaded.complete[chosen] - loaded.intended[chosen])
    if not len(taken):
        return Percentiles()
    return Percentiles(
        count=len(taken),
        p50_ms=nearest_rank(taken, 0.5) / 1e6,
        p90_ms=nearest_rank(taken, 0.9) / 1e6,
        p99_ms=nearest_rank(taken, 0.99) / 1e6,
        p999_ms=nearest_rank(taken, 0.999) / 1e6,
        max_ms=int(taken[-1]) / 1e6,
    )


def lag_share(view: View) -> float | None:
    """Return how much of the latencies is the driver's own lag: the worse of p50 and p99.

    Next to the faster of reads and writes; None where nothing completed.
    """
    driver = view.history.driver
    found = [percentiles(view, writes=writes) for writes in (False, True)]
    shares = [
        lag_ns / 1e6 / min(measured)
        for lag_ns, measured in (
            (driver.send_lag_ns_p50, [each.p50_ms for each in found if each.p50_ms]),
            (driver.send_lag_ns_p99, [each.p99_ms for each in found if each.p99_ms]),
        )
        if measured
    ]
    return max(shares, default=None)


def throughput_per_s(view: View) -> float:
    """Return acknowledged operations per second between warm-up and the end of the load."""
    history = view.history
    duration_ns = history.load_end_ns - history.measure_start_ns
    if duration_ns <= 0:
        return 0.0
    loaded = view.once(columns)
    inside = (loaded.outcome == OK) & (loaded.complete > history.measure_start_ns)
    inside &= loaded.complete <= history.load_end_ns
    return int(np.count_nonzero(inside)) * 1e9 / duration_ns


def latency_points(view: View) -> tuple[list[LatencyPoint], str | None]:
    """Return the operations while measuring for the plot, and what was left out of it.

    Above ``POINTS_MAX`` failures and the slowest are kept as long as there is room for them, the
    others thinned out evenly in order of time. An operation that never ended counts until the end
    of the load.
    """
    loaded = view.once(columns)
    ended = np.where(
        loaded.complete == NEVER,
        np.maximum(loaded.intended, view.history.load_end_ns),
        loaded.complete,
    )
    taken = ended - loaded.intended
    measured = np.flatnonzero(loaded.measured)
    order = measured[np.argsort(loaded.intended[measured], kind="stable")]
    thinned = None
    if len(order) > POINTS_MAX:
        order, thinned = _thinned(loaded, order, taken)
    points = [
        _point(loaded.operations[index], int(taken[index]), int(loaded.outcome[index]))
        for index in order.tolist()
    ]
    return points, thinned


def _thinned(loaded: Columns, order: Times, taken: Times) -> tuple[Times, str]:
    failed = order[loaded.outcome[order] >= FAIL]
    fine = order[loaded.outcome[order] == OK]
    shown_failures = _evenly(failed, _FAILURES_MAX)
    by_latency = fine[np.argsort(taken[fine], kind="stable")]
    slowest = by_latency[-min(_SLOWEST_MAX, len(by_latency)) :] if len(by_latency) else by_latency
    rest = fine[~np.isin(fine, slowest)]
    shown = _evenly(rest, POINTS_MAX - len(shown_failures) - len(slowest))
    kept = np.concatenate((shown_failures, slowest, shown))
    kept = kept[np.argsort(loaded.intended[kept], kind="stable")]
    text = (
        f"{len(kept):,} of {len(order):,} operations shown: {len(shown_failures):,} of "
        f"{len(failed):,} not acknowledged, the {len(slowest):,} slowest, and the others thinned "
        "out evenly"
    )
    return kept, text


def _evenly(indexes: Times, count: int) -> Times:
    """Return at most ``count`` of the indexes, at even distances."""
    if len(indexes) <= count:
        return indexes
    return indexes[np.arange(count, dtype=np.int64) * len(indexes) // count]


def _point(operation: Operation, taken_ns: int, outcome: int) -> LatencyPoint:
    return LatencyPoint(
        operation.intended_ns,
        taken_ns / 1e6,
        _OUTCOMES[outcome],
        operation.kind.value,
        operation.index,
    )
