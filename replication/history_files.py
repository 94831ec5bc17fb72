"""A history on disk: two files of JSON Lines in the folder of a side.

``history.jsonl`` has a header, then operations and faults in the order in which they completed;
``events.jsonl`` has the events of the nodes in order of time.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from replication.errors import ConfigError
from replication.history import (
    ContentsSample,
    DriverReport,
    FaultRecord,
    History,
    LinkTotals,
    NodeEvent,
    Operation,
    OperationKind,
    Outcome,
    Phase,
    ReplicaContents,
    SeenVersion,
)

FORMAT = 1
T = TypeVar("T")

_HEADER_LISTS = ("operations", "faults", "events")


def write_history(history: History, folder: Path) -> None:
    """Write ``history.jsonl`` and ``events.jsonl`` into ``folder``, which exists."""
    header = {
        each.name: getattr(history, each.name)
        for each in fields(history)
        if each.name not in _HEADER_LISTS
    }
    with (folder / "history.jsonl").open("w") as stream:
        _write_line(stream, {"type": "header", "format": FORMAT, **_jsonable(header)})
        for operation in history.operations:
            _write_line(stream, {"type": "operation", **_compact(operation)})
        for fault in history.faults:
            _write_line(stream, {"type": "fault", **asdict(fault)})
    with (folder / "events.jsonl").open("w") as stream:
        for event in history.events:
            _write_line(stream, asdict(event))


def _write_line(stream: Any, record: dict[str, Any]) -> None:
    stream.write(json.dumps(record, separators=(",", ":"), ensure_ascii=False) + "\n")


def _jsonable(header: dict[str, Any]) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(each) for each in value]
        return asdict(value) if hasattr(value, "__dataclass_fields__") else value

    return {name: plain(value) for name, value in header.items()}


def _compact(operation: Operation) -> dict[str, Any]:
    """Return an operation without the fields that are at their default."""
    record = {}
    for each in fields(operation):
        value = getattr(operation, each.name)
        if value is None or value == [] or value == each.default:
            continue
        record[each.name] = [_drop_none(item) for item in value] if each.name == "seen" else value
    return record


def _drop_none(version: SeenVersion) -> dict[str, Any]:
    return {name: value for name, value in asdict(version).items() if value is not None}


def read_history(folder: Path) -> History:
    """Return what ``write_history`` wrote; raise ConfigError with the place of what is wrong."""
    lines = _read_lines(folder / "history.jsonl")
    try:
        place, header = next(lines)
    except StopIteration:
        raise ConfigError([f"{folder / 'history.jsonl'} is empty"]) from None
    if header.pop("type", None) != "header" or header.pop("format", None) != FORMAT:
        raise ConfigError([f"{place}: expected the header of a history in format {FORMAT}"])
    history = _parsed(place, header_from, header)
    for place, record in lines:
        match record.pop("type", None):
            case "operation":
                history.operations.append(_parsed(place, operation_from, record))
            case "fault":
                history.faults.append(_parsed(place, _fault, record))
            case other:
                raise ConfigError([f"{place}: type is {other!r}, expected operation or fault"])
    for place, record in _read_lines(folder / "events.jsonl"):
        history.events.append(_parsed(place, _event, record))
    return history


def _parsed(place: str, parse: Callable[[dict[str, Any]], T], record: dict[str, Any]) -> T:
    try:
        return parse(record)
    except (TypeError, ValueError, KeyError) as error:
        raise ConfigError([f"{place}: {error}"]) from None


def _fault(record: dict[str, Any]) -> FaultRecord:
    return FaultRecord(**record)


def _event(record: dict[str, Any]) -> NodeEvent:
    return NodeEvent(**record)


def _read_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with path.open() as stream:
            for number, line in enumerate(stream, 1):
                place = f"{path}:{number}"
                try:
                    record = json.loads(line)
                except json.JSONDecodeError as error:
                    raise ConfigError(
                        [f"{place}: column {error.colno}: {error.msg}, expected one JSON object"]
                    ) from None
                if not isinstance(record, dict):
                    raise ConfigError([f"{place}: expected a JSON object"])
                yield place, record
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from None


def header_from(record: dict[str, Any]) -> History:
    record["driver"] = DriverReport(**record["driver"])
    record["links"] = LinkTotals(**record["links"])
    record["samples"] = [ContentsSample(**each) for each in record["samples"]]
    record["contents"] = [
        ReplicaContents(**{**each, "versions": _versions(each["versions"])})
        for each in record["contents"]
    ]
    return History(**record)


def operation_from(record: dict[str, Any]) -> Operation:
    record["kind"] = OperationKind(record["kind"])
    record["outcome"] = Outcome(record["outcome"])
    record["phase"] = Phase(record["phase"])
    record["seen"] = _versions(record.get("seen", ()))
    record.setdefault("complete_ns", None)
    return Operation(**record)


def _versions(records: Iterable[dict[str, Any]]) -> list[SeenVersion]:
    return [SeenVersion(**each) for each in records]
