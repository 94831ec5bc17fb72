"""Who was served when: outcomes per 100 ms and the longest outage, by kind and side of a partition.

A side of a partition is the clients that stand on it, while the partition lasts. It is called the
majority if most nodes are on it, so that both sides of a comparison have the same names.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from replication.analysis.findings import Availability
from replication.analysis.roles import nodes_on_sides, window_end_ns
from replication.analysis.view import FAIL, NEVER, OK, UNKNOWN, Columns, Times, View, columns
from replication.history import FaultRecord

BUCKET_NS = 100_000_000
BUCKETS_MAX = 360_000  # ten hours; what is later counts into the last one

Mask = NDArray[np.bool_]


def availability(view: View) -> dict[str, Availability]:
    """Return "reads", "writes", and both for each side of every partition."""
    history, loaded = view.history, view.once(columns)
    found: dict[str, Availability] = {}
    for name, mask in _kinds(loaded):
        chosen = mask & loaded.measured
        found[name] = _group(view, name, chosen, history.measure_start_ns, history.load_end_ns)
    for fault in history.faults:
        if fault.kind != "partition" or fault.injected_ns is None:
            continue
        start_ns = max(fault.injected_ns, history.measure_start_ns)
        end_ns = min(window_end_ns(view, fault), history.load_end_ns)
        during = loaded.measured & (loaded.intended >= start_ns) & (loaded.intended < end_ns)
        # What waited for the partition to be healed was not served by its side.
        during &= (loaded.outcome != OK) | (loaded.complete <= end_ns)
        for title, side in zip(_side_names(view, fault), fault.sides, strict=True):
            there = np.isin(loaded.client, _clients(view, loaded, fault, side))
            for kind, mask in _kinds(loaded):
                name = f"{kind} of {title} during fault {fault.number}"
                found[name] = _group(view, name, mask & there & during, start_ns, end_ns)
    return found


def _kinds(loaded: Columns) -> tuple[tuple[str, Mask], tuple[str, Mask]]:
    return ("reads", ~loaded.write), ("writes", loaded.write)


def _side_names(view: View, fault: FaultRecord) -> list[str]:
    """Return "the majority" for the side with more than half of the nodes, "the minority" ..."""
    nodes = nodes_on_sides(view, fault)
    large = [2 * len(set(side) & nodes) > len(nodes) for side in fault.sides]
    if True not in large:
        return [f"side {number}" for number in range(1, len(large) + 1)]
    if len(large) == 2:
        return ["the majority" if is_large else "the minority" for is_large in large]
    return [
        "the majority" if is_large else f"minority {number}"
        for number, is_large in enumerate(large, 1)
    ]


def _clients(view: View, loaded: Columns, fault: FaultRecord, side: Sequence[str]) -> list[int]:
    """Return the clients of a side; where the fault names none, they stand beside their node."""
    homes = view.history.clients
    named = any(name in homes for each in fault.sides for name in each)
    return [
        index
        for index, client in enumerate(loaded.clients)
        if (client if named else homes.get(client)) in side
    ]


def _group(view: View, name: str, mask: Mask, start_ns: int, end_ns: int) -> Availability:
    loaded = view.once(columns)
    intended, complete, outcome = loaded.intended[mask], loaded.complete[mask], loaded.outcome[mask]
    ok, fail, unknown = (int(np.count_nonzero(outcome == code)) for code in (OK, FAIL, UNKNOWN))
    found = Availability(name, ok, fail, unknown)
    if not len(intended):
        return found
    found.ok_share = ok / len(intended)
    acknowledged = np.sort(complete[outcome == OK])
    # Before anything was due and after everything had ended nobody waited for an acknowledgement.
    first_ns = max(start_ns, int(intended.min()))
    last_ns = min(end_ns, int(complete.max()))
    found.longest_outage_ns, found.outage_start_ns = longest_gap(acknowledged, first_ns, last_ns)
    origin_ns = view.history.measure_start_ns
    found.buckets = _buckets(complete, outcome, origin_ns, view.history.load_end_ns)
    found.unavailable_buckets = _unavailable(
        intended - origin_ns, complete - origin_ns, outcome, (end_ns - 1 - origin_ns) // BUCKET_NS
    )
    return found


def longest_gap(moments: Times, start_ns: int, end_ns: int) -> tuple[int, int | None]:
    """Return the longest stretch of [start, end] without one of the ascending moments, and where.

    The stretches before the first and after the last moment count too: a group that is never
    served has one outage from start to end. (0, None) if the stretch is empty.
    """
    if end_ns <= start_ns:
        return 0, None
    inside = moments[(moments > start_ns) & (moments < end_ns)]
    edges = np.concatenate(([start_ns], inside, [end_ns]))
    gaps = np.diff(edges)
    longest = int(np.argmax(gaps))
    return int(gaps[longest]), int(edges[longest])


def _buckets(
    complete: Times, outcome: NDArray[np.int8], origin_ns: int, load_end_ns: int
) -> list[tuple[int, int, int]]:
    """Return (ok, fail, unknown) per 100 ms after the warm-up, by when the operations ended.

    What ended with the load, or later, or never, is in the buckets behind; there are as many as
    there is something to count.
    """
    ended = np.where(complete == NEVER, load_end_ns, complete)
    bucket = np.clip((ended - origin_ns) // BUCKET_NS, 0, BUCKETS_MAX - 1)
    length = min(
        max(-(-(load_end_ns - origin_ns) // BUCKET_NS), int(bucket.max()) + 1), BUCKETS_MAX
    )
    counts = [
        np.bincount(bucket[outcome == code], minlength=length) for code in (OK, FAIL, UNKNOWN)
    ]
    return list(zip(*(each.tolist() for each in counts), strict=True))


def _unavailable(
    intended: Times, complete: Times, outcome: NDArray[np.int8], last_bucket: int
) -> int:
    """Return how many buckets had operations due and none acknowledged.

    Due in a bucket is what was to start in it, or waited all through it. Acknowledged is what was
    acknowledged in it, or was to start in it and was acknowledged within 100 ms of that: at one
    operation per bucket, one that straddles two buckets is no outage.
    """
    length = min(max(last_bucket, 0), BUCKETS_MAX - 1) + 1
    start = np.clip(intended // BUCKET_NS, 0, length - 1)
    end = np.clip(complete // BUCKET_NS, 0, length)  # length: after the last bucket
    due = np.bincount(start, minlength=length)
    edges = np.zeros(length + 2, dtype=np.int64)
    np.add.at(edges, start + 1, 1)
    np.add.at(edges, np.maximum(end, start + 1), -1)
    waiting = np.cumsum(edges)[:length]
    ok = outcome == OK
    served = np.bincount(end[ok], minlength=length + 1)[:length]
    prompt = ok & (complete - intended <= BUCKET_NS)
    served = served + np.bincount(start[prompt], minlength=length)
    return int(np.count_nonzero((due + waiting > 0) & (served == 0)))
