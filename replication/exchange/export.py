"""Our histories for the checkers of others."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from replication.errors import ConfigError
from replication.exchange.edn import text_of
from replication.history import History, Operation, OperationKind, Outcome

_FUNCTIONS = {
    OperationKind.GET: "read",
    OperationKind.PUT: "write",
    OperationKind.DELETE: "write",
    OperationKind.COMPARE_AND_SET: "cas",
}
_TYPES = {Outcome.OK: "ok", Outcome.FAIL: "fail", Outcome.UNKNOWN: "info"}


def export(history: History, form: str) -> str:
    """Return the operations of a side as ``form``, one of ``FORMATS``.

    A value is what was written, a delete writes nothing (nil). Keys are pairs with the values, as
    in jepsen.independent. Raises ConfigError where the form cannot say what happened.
    """
    siblings = [each for each in history.operations if _live(each) > 1]
    if siblings:
        raise ConfigError(
            [
                f"operation {siblings[0].index} and {len(siblings) - 1} more read several values "
                "at once, and no register does: other checkers have no word for siblings"
            ]
        )
    return FORMATS[form](history)


def _live(operation: Operation) -> int:
    return sum(not version.tombstone for version in operation.seen)


def _events(history: History) -> Iterator[tuple[int, str, Operation]]:
    """Yield (time, type, operation) in order; in the same nanosecond invocations come first."""
    moments: list[tuple[int, int, int, str, Operation]] = []
    for each in history.operations:
        moments.append((each.invoke_ns, 0, each.index, "invoke", each))
        if each.complete_ns is not None:
            moments.append((each.complete_ns, 1, each.index, _TYPES[each.outcome], each))
    for time_ns, _, _, kind, operation in sorted(moments, key=lambda each: each[:3]):
        yield time_ns, kind, operation


def _records(history: History) -> Iterator[dict[str, Any]]:
    """Yield events as Jepsen has them. Overlapping operations of a client get processes of their
    own, and so does what follows an operation of unknown outcome.
    """
    count = 0
    process: dict[int, int] = {}
    idle: list[int] = []
    for index, (time_ns, kind, operation) in enumerate(_events(history)):
        if kind == "invoke":
            if not idle:
                idle.append(count)
                count += 1
            process[operation.index] = idle.pop()
        mine = process[operation.index]
        if kind in ("ok", "fail"):
            idle.append(mine)
        yield {
            "index": index,
            "time": time_ns,
            "type": kind,
            "process": mine,
            "f": _FUNCTIONS[operation.kind],
            "value": [operation.key, _value(operation, kind)],
        }


def _value(operation: Operation, kind: str) -> Any:
    match operation.kind:
        case OperationKind.COMPARE_AND_SET:
            return [operation.expected, operation.value]
        case OperationKind.GET if kind == "ok":
            live = [version for version in operation.seen if not version.tombstone]
            return _text(live[0].value, live[0].write_id) if live else None
        case OperationKind.PUT:
            return _text(operation.value, operation.write_id)
    return None


def _text(value: str | None, write_id: str | None) -> str | None:
    return write_id if value is None else value


def _edn(history: History) -> str:
    keywords = ("type", "f")
    lines = []
    for record in _records(history):
        parts = (
            f":{name} {':' + each if name in keywords else text_of(each)}"
            for name, each in record.items()
        )
        lines.append("{" + ", ".join(parts) + "}\n")
    return "".join(lines)


def _json(history: History) -> str:
    lines = [json.dumps(record, ensure_ascii=False) for record in _records(history)]
    return "[" + ",\n".join(lines) + "]\n"


def _porcupine(history: History) -> str:
    """Lines of Porcupine's key-value logs. They know get and put, and a missing key as ""."""
    lines = []
    for record in _records(history):
        if record["f"] == "cas":
            raise ConfigError(["Porcupine's key-value log has no compare-and-set: take edn"])
        key, value = record["value"]
        name = "get" if record["f"] == "read" else "put"
        said = text_of("" if value is None else value)
        if name == "get" and record["type"] == "invoke":
            said = "nil"
        lines.append(
            f"{{:process {record['process']}, :type :{record['type']}, :f :{name}, "
            f":key {text_of(key)}, :value {said}}}\n"
        )
    return "".join(lines)


FORMATS: dict[str, Callable[[History], str]] = {
    "edn": _edn,
    "json": _json,
    "porcupine": _porcupine,
}
