"""How far from one copy each key was: by time and by versions.

*Delta-atomicity* (Golab, Li and Shah 2011): the least D such that the key is linearizable if every
read may have begun D earlier. *k-atomicity* (Aiyer, Alvisi and Bazzi 2005): the least k such that
every read returns one of the last k versions of some order. The first is found by halving over the
zones, of all keys in one pass; of the second a lower bound that nobody can dispute: one more than
the writes which had begun after what a read returned had taken effect, and ended before it began.
"""

import numpy as np

from replication.analysis.columns import INITIAL_VALUE, RegisterColumns, contradictions
from replication.analysis.registers import registers, version_read
from replication.analysis.staleness import newest_seen_ns, stale_reads
from replication.analysis.staleness_findings import KeyAtomicity
from replication.analysis.view import NEVER, View
from replication.history import Operation, OperationKind, Outcome

KEYS_MAX = 10
_ROUNDS_MAX = 48
_EXACT_NS = 1_000


def key_atomicity(view: View) -> list[KeyAtomicity]:
    """Return the keys that were not like one copy, the worst first; call through ``View.once``."""
    deltas = _deltas(view)
    behind: dict[str, int] = {}
    for read, _ in view.once(stale_reads):
        behind[read.key] = max(behind.get(read.key, 0), _versions_behind(view, read))
    found = [
        KeyAtomicity(key, deltas.get(key), 1 + behind.get(key, 0))
        for key in dict.fromkeys([*deltas, *behind])
    ]
    return sorted(found, key=lambda each: (-(each.delta_ns or 0), -each.k_at_least, each.key))


def _versions_behind(view: View, read: Operation) -> int:
    seen_ns = newest_seen_ns(view, read)
    return sum(
        1
        for each in view.by_key[read.key]
        if each.kind.is_write
        and each.outcome is Outcome.OK
        and each.invoke_ns > seen_ns
        and (each.complete_ns or NEVER) < read.invoke_ns
    )


def _deltas(view: View) -> dict[str, int | None]:
    """Return the least D of every key in conflict; None where no D helps (a value from nowhere).

    Keys with compare-and-set are left out, and reads of several values.
    """
    columns, names = _columns(view)
    first = contradictions(columns)
    sick = {int(columns.key[row]) for rows in first.exclusive.tolist() for row in rows}
    hopeless = np.concatenate((first.nowhere, first.failed, first.early))
    found: dict[str, int | None] = {names[key]: None for key in columns.key[hopeless].tolist()}
    sick -= {int(key) for key in columns.key[hopeless].tolist()}
    if not sick:
        return found
    rows = np.flatnonzero(np.isin(columns.key, sorted(sick)))
    columns = RegisterColumns(
        columns.key[rows],
        columns.value[rows],
        columns.write[rows],
        columns.failed[rows],
        columns.invoke[rows],
        columns.complete[rows],
    )
    low = np.zeros(len(names), dtype=np.int64)
    span = int(columns.invoke.max() - columns.invoke.min()) + 1
    high = np.full(len(names), span, dtype=np.int64)  # then every read may precede every write
    begun = columns.invoke.copy()
    for _ in range(_ROUNDS_MAX):
        if int((high - low).max()) <= _EXACT_NS:
            break
        middle = (low + high) // 2
        columns.invoke = np.where(columns.write, begun, begun - middle[columns.key])
        bad = {int(columns.key[row]) for each in contradictions(columns).exclusive for row in each}
        refused = np.isin(np.arange(len(names)), sorted(bad))
        low, high = np.where(refused, middle, low), np.where(refused, high, middle)
    return found | {names[key]: int(high[key]) for key in sick}


def _columns(view: View) -> tuple[RegisterColumns, list[str]]:
    kept: list[Operation] = []
    names: list[str] = []
    keys: list[int] = []
    for key, operations in view.once(registers).operations.items():
        if not any(each.kind is OperationKind.COMPARE_AND_SET for each in operations):
            keys += [len(names)] * len(operations)
            names.append(key)
            kept += operations
    numbers: dict[str | None, int] = {None: INITIAL_VALUE}
    for each in kept:
        if each.kind.is_write:
            numbers[each.write_id] = len(numbers) - 1
    values = [numbers[each.write_id if each.kind.is_write else version_read(each)] for each in kept]
    return (
        RegisterColumns(
            np.array(keys, dtype=np.int64),
            np.array(values, dtype=np.int64),
            np.array([each.kind.is_write for each in kept], dtype=np.bool_),
            np.zeros(len(kept), dtype=np.bool_),
            np.array([each.invoke_ns for each in kept], dtype=np.int64),
            np.array(
                [
                    NEVER
                    if each.outcome is Outcome.UNKNOWN or each.complete_ns is None
                    else each.complete_ns
                    for each in kept
                ],
                dtype=np.int64,
            ),
        ),
        names,
    )
