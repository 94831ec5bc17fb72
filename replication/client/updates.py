"""What a client makes of the values that it has read: counters, sets and lists over plain keys.

The store knows nothing of them, unless it applies updates itself (``PlannedOperation.applied``). A
set is its elements, joined by commas, in order; a list likewise, in the order in which they came; a
counter is a number. Siblings are merged by whoever reads them: sets by their union, lists by adding
what the longest lacks, counters by the greatest. So a set whose siblings are all read loses
nothing, and a counter loses what was counted at the same time.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from replication.errors import NothingRead
from replication.history import OperationKind
from replication.plan.model import PlannedOperation, Update

SEPARATOR = ","


def derived(
    planned: PlannedOperation, values: Sequence[str] | None
) -> tuple[PlannedOperation, NothingRead | None]:
    """Fill in what depends on the values that the client knows of (None: of none it could read).

    An operation that cannot be derived from them comes back as it was, with the reason.
    """
    if planned.update is not None and not planned.applied:
        if values is None:
            return planned, NothingRead()
        value = updated(planned.update, values, planned.value or "")
        planned = replace(planned, value=value, expects_last=True)
    if planned.kind is OperationKind.COMPARE_AND_SET and planned.expects_last:
        if values is not None and len(values) > 1:
            return planned, NothingRead("the read that it builds on found siblings")
        planned = replace(planned, expected=values[0] if values else None)
    return planned, None


def updated(update: Update, values: Sequence[str], value: str) -> str:
    """Return what to write, having read ``values`` (none: a missing key, more: siblings)."""
    match update:
        case Update.REPLACE:
            return value
        case Update.COUNT:
            return str(max(map(number, values), default=0) + int(value))
        case Update.ADD:
            found = {element for each in values for element in elements(each)}
            return SEPARATOR.join(sorted(found | {value}))
        case Update.APPEND:
            return SEPARATOR.join([*merged(values), value])


def elements(value: str) -> list[str]:
    """Return the elements of a set or a list, in order."""
    return value.split(SEPARATOR) if value else []


def number(value: str) -> int:
    """Return what a counter shows; 0 for anything that is no number."""
    return int(value) if value.isdecimal() else 0


def merged(values: Iterable[str]) -> list[str]:
    """Return the longest list, and behind it what it lacks of the others."""
    ordered = sorted(map(elements, values), key=lambda each: (-len(each), each))
    return list(dict.fromkeys(element for each in ordered for element in each))
