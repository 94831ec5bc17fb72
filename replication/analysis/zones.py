"""Linearizability of registers by zones (Gibbons and Korach, "Testing Shared Memories", 1997).

The operations of one value form a cluster: its write and the reads that returned it. A cluster is
known to have been the current value from the first completion of any of its operations, ``first``,
to the last invocation, ``last``. Two clusters of a key exclude each other if and only if each had
an operation that ended before one of the other began::

    first(A) < last(B)  and  first(B) < last(A)

since then the key would have had to go from A to B and back. With unique values a history in which
no read precedes its write is linearizable exactly when no two clusters of a key exclude each other.
A cluster with first < last is a *forward zone*; others are *backward zones*, which exclude each
other never. So it is enough to look for two forward zones that overlap, and for a backward zone
inside a forward one. All keys are looked at in one sort, each shifted into a range of its own:
O(n log n) for n operations, whatever their concurrency.

The initial value is a cluster whose write completed before everything. A write with an unknown
outcome never completes: unread it excludes nobody and may be left out, read it is bounded by its
first read, so nothing else needs to be done.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]

BEFORE_ALL = np.iinfo(np.int64).min


@dataclass(slots=True)
class Clusters:
    """One row per value that was written or read."""

    key: Ints  # a number per key, from 0
    first: Ints  # the first completion; BEFORE_ALL for the initial value
    last: Ints  # the last invocation

    @classmethod
    def of(
        cls, key: Ints, initial: NDArray[np.bool_], cluster: Ints, invoke: Ints, complete: Ints
    ) -> "Clusters":
        """Group operations: ``cluster`` says for each which row of ``key`` it belongs to.

        Every cluster has at least one operation. ``initial`` marks the clusters of the value that
        a key had before anything was written.
        """
        first = np.full(len(key), np.iinfo(np.int64).max, dtype=np.int64)
        last = np.full(len(key), BEFORE_ALL, dtype=np.int64)
        np.minimum.at(first, cluster, complete)
        np.maximum.at(last, cluster, invoke)
        first[initial] = BEFORE_ALL
        return cls(key, first, last)


def exclusions(clusters: Clusters) -> Ints:
    """Return pairs (A, B) of clusters that exclude each other, one for each B that is out of place.

    No row: no two exclude each other. B is the one whose zone starts later, or the backward one.
    """
    if len(clusters.key) == 0:
        return np.empty((0, 2), dtype=np.int64)
    first, last = _shifted(clusters)
    forward = np.flatnonzero(first < last)
    backward = np.flatnonzero(first >= last)
    forward = forward[np.argsort(first[forward], kind="stable")]
    starts, ends = first[forward], last[forward]
    # For each forward zone the one that reaches furthest among those which start no later. Zones
    # of keys before it end before its own range: they reach nothing here.
    furthest = np.maximum.accumulate(ends)
    rank = np.arange(len(forward))
    leads = np.ones(len(forward), dtype=np.bool_)
    leads[1:] = ends[1:] > furthest[:-1]
    holder = np.maximum.accumulate(np.where(leads, rank, 0))

    overlapping = 1 + np.flatnonzero(starts[1:] < furthest[:-1])
    pairs = [np.stack((forward[holder[overlapping - 1]], forward[overlapping]), axis=1)]
    if len(forward):
        before = np.searchsorted(starts, last[backward], side="left") - 1
        inside = (before >= 0) & (furthest[before] > first[backward])
        pairs.append(np.stack((forward[holder[before[inside]]], backward[inside]), axis=1))
    found: Ints = np.concatenate(pairs)
    return found


def _shifted(clusters: Clusters) -> tuple[Ints, Ints]:
    """Return first and last with every key in a range of times of its own."""
    initial = clusters.first == BEFORE_ALL
    times = np.concatenate((clusters.first[~initial], clusters.last))
    earliest, latest = int(times.min()), int(times.max())
    first, last = clusters.first, clusters.last
    if (latest - earliest + 2) * (int(clusters.key.max()) + 1) >= 2**63:
        # Too wide for 64 bits: only the order of the times matters.
        _, ranks = np.unique(times, return_inverse=True)
        last = ranks[len(first) - int(initial.sum()) :].astype(np.int64)
        first = np.zeros(len(first), dtype=np.int64)
        first[~initial] = ranks[: len(first) - int(initial.sum())]
        earliest, latest = 0, len(times)
    width = latest - earliest + 2
    base = clusters.key * width
    started = np.where(initial, earliest - 1, first)
    return base + (started - earliest + 1), base + (last - earliest + 1)
