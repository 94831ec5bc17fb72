"""A history of registers as columns: a million operations are judged in a fraction of a second.

A row is an acknowledged read or any write. Rows, keys and values are numbered; a value belongs to
one write, so that a read says which write it saw.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from replication.analysis.zones import BEFORE_ALL, Clusters, Ints, exclusions

INITIAL_VALUE = -1  # what a key held before anything was written

Bools = NDArray[np.bool_]


@dataclass(slots=True)
class RegisterColumns:
    """One row per operation. Nothing here names anything: whoever numbered it can."""

    key: Ints  # from 0
    value: Ints  # that was written, or read; INITIAL_VALUE for reads only
    write: Bools
    failed: Bools  # writes that never took effect
    invoke: Ints
    complete: Ints  # NEVER for a write with an unknown outcome


@dataclass(slots=True)
class Contradictions:
    """What no single copy does. Each names rows."""

    nowhere: Ints  # reads of a value that nobody wrote to their key
    failed: Ints  # reads of a write that never took effect
    early: Ints  # reads that ended before their write began
    exclusive: Ints  # pairs of values that exclude each other: (n, 4) rows, two of each value
    repeated: Ints  # writes of a value that was written before: nothing can be said of them

    @property
    def rows(self) -> list[list[int]]:
        """The rows of each contradiction."""
        single = np.concatenate((self.nowhere, self.failed, self.early))
        return [[row] for row in single.tolist()] + [
            list(dict.fromkeys(each)) for each in self.exclusive.tolist()
        ]


def contradictions(columns: RegisterColumns) -> Contradictions:
    """Return every contradiction; none: the history is linearizable (see ``zones``)."""
    values = int(columns.value.max(initial=-1)) + 1
    keys = int(columns.key.max(initial=-1)) + 1
    write_rows = np.flatnonzero(columns.write)
    writer = np.full(values, -1, dtype=np.int64)  # the row that wrote each value
    writer[columns.value[write_rows]] = write_rows
    repeated = write_rows[writer[columns.value[write_rows]] != write_rows]

    read_rows = np.flatnonzero(~columns.write)
    seen = columns.value[read_rows]
    source = np.where(seen == INITIAL_VALUE, -1, writer[seen] if values else -1)
    wrote = source >= 0
    foreign = np.zeros(len(read_rows), dtype=np.bool_)
    foreign[wrote] = columns.key[source[wrote]] != columns.key[read_rows[wrote]]
    nowhere = foreign | (~wrote & (seen != INITIAL_VALUE))
    failed = wrote & ~foreign
    failed[failed] = columns.failed[source[failed]]
    early = wrote & ~foreign & ~failed
    early[early] = columns.complete[read_rows[early]] < columns.invoke[source[early]]

    judged = np.ones(len(columns.key), dtype=np.bool_)
    judged[read_rows[nowhere | failed | early]] = False
    judged[columns.failed] = False
    judged[repeated] = False
    rows = np.flatnonzero(judged)
    # The clusters: the values, then the initial value of each key.
    number = np.where(
        columns.value[rows] == INITIAL_VALUE, values + columns.key[rows], columns.value[rows]
    )
    used, cluster = np.unique(number, return_inverse=True)
    owner = np.empty(len(used), dtype=np.int64)
    owner[cluster] = columns.key[rows]
    assert keys == 0 or owner.max(initial=-1) < keys, "keys are numbered from 0"
    invoke, complete = columns.invoke[rows], columns.complete[rows]
    clusters = Clusters.of(owner, used >= values, cluster, invoke, complete)
    pairs = exclusions(clusters)
    ends = _rows_at_the_ends(clusters, cluster, invoke, complete, np.unique(pairs))
    exclusive = [[int(rows[row]) for each in pair for row in ends[each]] for pair in pairs.tolist()]
    return Contradictions(
        read_rows[nowhere],
        read_rows[failed],
        read_rows[early],
        np.array(exclusive, dtype=np.int64).reshape(len(exclusive), 4),
        repeated,
    )


def _rows_at_the_ends(
    clusters: Clusters, cluster: Ints, invoke: Ints, complete: Ints, wanted: Ints
) -> dict[int, tuple[int, int]]:
    """Return for each wanted cluster the row that ended first and the row that began last."""
    found: dict[int, tuple[int, int]] = {}
    if len(wanted) == 0:
        return found
    order = np.argsort(cluster, kind="stable")
    bounds = np.searchsorted(cluster[order], np.stack((wanted, wanted + 1)))
    for each, start, end in zip(wanted.tolist(), *bounds.tolist(), strict=True):
        mine = order[start:end]
        last = int(mine[np.argmax(invoke[mine])])
        first = last if clusters.first[each] == BEFORE_ALL else int(mine[np.argmin(complete[mine])])
        found[each] = first, last
    return found
