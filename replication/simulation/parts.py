"""The parts of a scenario that can be taken away or changed: operations, faults, disorders.

A scenario is tables as in its file. Nothing here changes what it is given.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from itertools import combinations, pairwise
from typing import Any, TypeVar

from replication.history import History, Operation
from replication.plan.units import duration_ns, duration_text
from replication.simulation.draw import Tables

MILLISECOND_NS = 1_000_000
WHEN = ("at", "for")  # what two faults that can be one differ in
T = TypeVar("T")


def listed(operation: Operation, start_ns: int) -> Tables:
    """Return an operation as an explicit workload lists it, at the moment it was meant for."""
    table = {
        "client": operation.client,
        "at": duration_text(max(0, operation.intended_ns - start_ns)),
        "kind": operation.kind.value,
        "key": operation.key,
        "value": None if operation.value is None else operation.value.rstrip("."),
        "expected": operation.expected,
    }
    return {key: value for key, value in table.items() if value is not None}


def operations_of(tables: Mapping[str, Any]) -> list[Tables]:
    """Return the operations that are listed one by one."""
    return list(tables["workload"].get("operation", ()))


def with_operations(tables: Tables, operations: list[Tables]) -> Tables:
    """Return the scenario with these operations instead of its own."""
    changed = deepcopy({**tables, "workload": {**tables["workload"], "operation": []}})
    changed["workload"]["operation"] = operations
    return changed


def at_whole(operations: Sequence[Tables], tick_ns: int) -> list[Tables]:
    """Return operations whose times are whole ticks."""
    return [{**each, "at": _floor(each["at"], tick_ns)} for each in operations]


def faults_of(tables: Mapping[str, Any]) -> list[Tables]:
    """Return all faults."""
    return [*tables.get("fault", ())]


def with_faults(tables: Tables, faults: list[Tables]) -> Tables:
    """Return the scenario with these of its faults only."""
    kept = {id(each) for each in faults}
    return _map_faults(tables, lambda each: each if id(each) in kept else None)


def with_changed(tables: Tables, fault: Tables, **changes: str) -> Tables:
    """Return the scenario with another time or length of one of its faults."""
    return _map_faults(tables, lambda each: {**each, **changes} if each is fault else each)


def with_nodes_named(tables: Tables, history: History) -> Tables:
    """Return the scenario with the nodes and times that its roles came to, instead of the roles.

    So nothing depends any more on who leads when, nor on what another side did to whom.
    """
    ordered = sorted(tables.get("fault", ()), key=lambda each: duration_ns(each["at"]))
    records = {record.number: record for record in history.faults}
    named: dict[int, Tables] = {}
    for number, fault in enumerate(ordered, 1):
        record = records.get(number)
        if fault.get("target") != "leader" or record is None or record.injected_ns is None:
            continue
        at_ns = record.injected_ns - history.load_start_ns
        named[id(fault)] = {**fault, "at": duration_text(at_ns), "target": record.nodes[0]}
        if "for" in fault:
            named[id(fault)]["for"] = duration_text(end_ns(fault) - at_ns)
    return _map_faults(tables, lambda each: named.get(id(each), each))


def end_ns(fault: Tables) -> int:
    """Return when a fault is over; when it begins if it does not say."""
    return duration_ns(fault["at"]) + duration_ns(fault.get("for", "0s"))


def merged(tables: Tables) -> Iterator[Tables]:
    """Yield the scenario with one fault less: two of the same kind and target last as one."""
    for one, other in combinations(faults_of(tables), 2):
        if "for" not in one or _what(one) != _what(other):
            continue
        at_ns = min(duration_ns(each["at"]) for each in (one, other))
        until_ns = max(end_ns(each) for each in (one, other))
        longer = with_changed(
            tables, one, at=duration_text(at_ns), **{"for": duration_text(until_ns - at_ns)}
        )
        yield with_faults(longer, [each for each in faults_of(longer) if each is not other])


def tidied(tables: Tables, fault: Tables) -> Iterator[Tables]:
    """Yield the scenario with the fault shorter, then at rounder times; the boldest first."""
    length_ns = duration_ns(fault.get("for", "0s"))
    for divisor in (8, 2):
        if length_ns // divisor >= MILLISECOND_NS:
            shorter_ns = length_ns // divisor // MILLISECOND_NS * MILLISECOND_NS
            yield with_changed(tables, fault, **{"for": duration_text(shorter_ns)})
    for tick_ns in (100 * MILLISECOND_NS, 10 * MILLISECOND_NS):
        rounder = {name: _floor(fault[name], tick_ns) for name in WHEN if name in fault}
        if rounder.get("for") != "0s" and any(fault[name] != rounder[name] for name in rounder):
            yield with_changed(tables, fault, **rounder)


def without(tables: Tables, table: str, key: str | None = None) -> Tables:
    """Return the scenario without a table of its machine room, or without one key of it."""
    changed = deepcopy(tables)
    if key is None:
        changed["simulation"].pop(table)
    else:
        changed["simulation"][table].pop(key)
    return changed


def split(parts: Sequence[T], pieces: int) -> list[Sequence[T]]:
    """Return the parts in so many pieces of about the same size, none empty."""
    bounds = [round(number * len(parts) / pieces) for number in range(pieces + 1)]
    return [parts[low:high] for low, high in pairwise(bounds) if low < high]


def _map_faults(tables: Tables, change: Callable[[Tables], Tables | None]) -> Tables:
    changed = map(change, tables.get("fault", ()))
    return {**tables, "fault": [each for each in changed if each is not None]}


def _what(fault: Tables) -> Tables:
    return {key: value for key, value in fault.items() if key not in WHEN}


def _floor(duration: str, tick_ns: int) -> str:
    return duration_text(duration_ns(duration) // tick_ns * tick_ns)
