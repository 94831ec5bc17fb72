"""Findings as JSON and back: ``findings.json`` of a run. The order is that of the fields."""

import json
from dataclasses import MISSING, asdict, fields, is_dataclass
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from replication.analysis.findings import RunFindings
from replication.errors import ConfigError

FORMAT = 1
T = TypeVar("T")

_hints = cache(get_type_hints)  # thousands of parts of a run are of a dozen kinds


def findings_to_json(run: RunFindings) -> str:
    """Return the whole run as JSON text, one field after the other as they are declared."""
    return json.dumps({"format": FORMAT, **asdict(run)}, indent=1, ensure_ascii=False) + "\n"


def findings_from_json(text: str, place: str = "findings.json") -> RunFindings:
    """Return what ``findings_to_json`` wrote; raise ConfigError that says what is wrong where."""
    try:
        record = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(
            [f"{place}: line {error.lineno}, column {error.colno}: {error.msg}, expected JSON"]
        ) from None
    if not isinstance(record, dict) or record.pop("format", None) != FORMAT:
        raise ConfigError([f"{place}: expected findings in format {FORMAT}"])
    try:
        return _read(RunFindings, record, "")
    except (TypeError, ValueError) as error:
        raise ConfigError([f"{place}: {error}"]) from None


def same(one: RunFindings, other: RunFindings) -> bool:
    """Return whether two analyses say the same, but for how long they took."""
    return _timeless(one) == _timeless(other)


def _timeless(run: RunFindings) -> dict[str, Any]:
    record = asdict(run)
    for side in record["sides"].values():
        for finding in side["findings"].values():
            finding["seconds"] = 0.0
    return record


def _read(kind: type[T], record: Any, where: str) -> T:
    value: T = _parse(kind, record, where)
    return value


def _parse(kind: Any, value: Any, where: str) -> Any:
    """Return ``value`` as the annotated ``kind``. Raises TypeError or ValueError with the place."""
    origin = get_origin(kind)
    if kind is Any:
        return value
    if origin in (Union, UnionType):
        if value is None and NoneType in get_args(kind):
            return None
        return _parse(next(each for each in get_args(kind) if each is not NoneType), value, where)
    if origin is list:
        (item,) = get_args(kind)
        return [
            _parse(item, each, f"{where}[{index}]")
            for index, each in enumerate(_expected(list, value, where))
        ]
    if origin is tuple:
        items = get_args(kind)
        values = _expected(list, value, where)
        if len(values) != len(items):
            raise ValueError(f"{where} has {len(values)} items, expected {len(items)}")
        return tuple(_parse(item, each, where) for item, each in zip(items, values, strict=True))
    if origin is dict:
        name_kind, item = get_args(kind)
        return {
            name_kind(name): _parse(item, each, f"{where}.{name}")
            for name, each in _expected(dict, value, where).items()
        }
    if is_dataclass(kind):
        return _dataclass(kind, _expected(dict, value, where), where)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(value)
    if kind is float and isinstance(value, int):
        return float(value)
    return _expected(kind, value, where)


def _dataclass(kind: Any, record: dict[str, Any], where: str) -> Any:
    hints = _hints(kind)
    known = [each.name for each in fields(kind)]
    unknown = [name for name in record if name not in known]
    if unknown:
        raise ValueError(f"{where or 'the run'} has no field {unknown[0]!r}")
    for each in fields(kind):
        needed = each.default is MISSING and each.default_factory is MISSING
        if needed and each.name not in record:
            raise ValueError(f"{where or 'the run'} lacks {each.name!r}")
    return kind(
        **{
            name: _parse(hints[name], each, f"{where}.{name}".lstrip("."))
            for name, each in record.items()
        }
    )


def _expected(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{where} is {value!r:.40}, expected {kind.__name__}")
    return value
