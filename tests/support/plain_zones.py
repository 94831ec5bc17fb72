"""Zones in plain Python: the obvious loop over one key after the other, to measure and to check."""

from collections import defaultdict
from itertools import pairwise

from replication.analysis.columns import INITIAL_VALUE, RegisterColumns
from replication.analysis.view import NEVER

_BEFORE_ALL = -1


def holds(columns: RegisterColumns) -> bool:
    """Return whether the history is linearizable (Gibbons and Korach 1997)."""
    begun: dict[int, tuple[int, int, bool]] = {}  # value -> key, invocation, failed
    rows = list(
        zip(
            columns.key.tolist(),
            columns.value.tolist(),
            columns.write.tolist(),
            columns.failed.tolist(),
            columns.invoke.tolist(),
            columns.complete.tolist(),
            strict=True,
        )
    )
    for key, value, write, failed, invoke, _ in rows:
        if write:
            begun[value] = key, invoke, failed
    clusters: dict[int, dict[int, list[int]]] = defaultdict(dict)
    for key, value, write, failed, invoke, complete in rows:
        if write and failed:
            continue
        if not write and value != INITIAL_VALUE:
            source = begun.get(value)
            if source is None or source[0] != key or source[2] or complete < source[1]:
                return False
        first = _BEFORE_ALL if value == INITIAL_VALUE else complete
        zone = clusters[key].setdefault(value, [first, invoke])
        zone[0] = min(zone[0], first)
        zone[1] = max(zone[1], invoke)
    return all(_apart(list(zones.values())) for zones in clusters.values())


def _apart(zones: list[list[int]]) -> bool:
    """Return whether no two zones of a key exclude each other."""
    forward = sorted(zone for zone in zones if zone[0] < zone[1] and zone[0] != NEVER)
    for one, other in pairwise(forward):
        if other[0] < one[1]:
            return False
    starts = [zone[0] for zone in forward]
    for first, last in zones:
        if first < last:
            continue
        # The last forward zone that starts before the backward one does.
        low, high = 0, len(starts)
        while low < high:
            middle = (low + high) // 2
            if starts[middle] < last:
                low = middle + 1
            else:
                high = middle
        if low and forward[low - 1][1] > first:
            return False
    return True
