"""From the tables of a TOML file to a ``Document``, with every mistake of form in plain words."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from datetime import date, time
from math import isfinite
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from replication.plan.problems import Path, Problems, closest, one_of, path_text, unknown_key
from replication.plan.schema import PLAIN
from replication.plan.swarm import ScenarioDocument
from replication.plan.units import shown

_KINDS = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "dict_type": "a table",
    "model_type": "a table",
    "list_type": "a list",
}
_TABLE_LISTS: tuple[Path, ...] = (
    ("fault",),
    ("expect",),
    ("workload", "operation"),
    ("variant",),
)


def read_document(raw: Mapping[str, Any], problems: Problems) -> ScenarioDocument:
    """Return the document with whatever is sound in ``raw``; the rest is at its default.

    Every mistake goes to ``problems``.
    """
    tables = deepcopy(dict(raw))
    for path, value in list(_odd_values(tables, ())):
        problems.add(path, f"{shown(value)} cannot be used here, expected text or a number")
        _prune(tables, path, a_table=False)
    try:
        return ScenarioDocument.model_validate(tables)
    except ValidationError as error:
        details = error.errors(include_url=False)
    sound = deepcopy(tables)
    for detail in details:
        path = _path_in(tables, detail["loc"])
        if detail["type"] == "missing":
            path = (*path, detail["loc"][-1])
        _complain(path, dict(detail), problems)
        _prune(sound, path, a_table=detail["type"] == "model_type")
    try:
        return ScenarioDocument.model_validate(sound)
    except ValidationError as error:
        # What is left of a table may be no whole one any more: then its section goes.
        for detail in error.errors(include_url=False):
            sound.pop(str(detail["loc"][0]), None)
    return ScenarioDocument.model_validate(sound)


def _odd_values(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """Yield what TOML allows and no scenario can mean: dates, times, nan and inf."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _odd_values(each, (*path, key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _odd_values(each, (*path, index))
    elif isinstance(value, date | time) or (isinstance(value, float) and not isfinite(value)):
        yield path, value


def _path_in(tables: Any, location: tuple[int | str, ...]) -> Path:
    """Return where in the file an error of pydantic's is; its names of alternatives fall away."""
    path: list[str | int] = []
    here = tables
    for part in location:
        inside = part in here if isinstance(here, dict) else isinstance(here, list)
        if inside and isinstance(part, int if isinstance(here, list) else str):
            path.append(part)
            here = here[part]
    return tuple(path)


def _prune(tables: Any, path: Path, a_table: bool) -> None:
    """Take the value at ``path`` out, or the list that it is in, but never move a table."""
    if a_table and isinstance(path[-1], int):
        _at(tables, path[:-1])[path[-1]] = {}
        return
    last_key = max(index for index, part in enumerate(path) if isinstance(part, str))
    parent = _at(tables, path[:last_key])
    if isinstance(parent, dict):
        parent.pop(path[last_key], None)


def _at(tables: Any, path: Path) -> Any:
    """Return what is at ``path``, None when an earlier prune took it away."""
    here = tables
    for part in path:
        try:
            here = here[part]
        except (KeyError, IndexError, TypeError):
            return None
    return here


def _complain(path: Path, detail: dict[str, Any], problems: Problems) -> None:
    value = detail["input"]
    if detail["type"] == "extra_forbidden":
        _complain_of_key(path, problems)
    elif detail["type"] == "list_type" and path in _TABLE_LISTS and isinstance(value, dict):
        problems.add(path, f"one table, write [[{path_text(path)}]] with double brackets")
    else:
        problems.add(path, complaint(detail["type"], detail.get("ctx", {}), value))


def complaint(kind: str, context: Mapping[str, Any], value: object) -> str:
    """Return the words for one error of pydantic's."""
    match kind:
        case _ if kind == PLAIN:
            return str(context["words"])
        case "enum" | "literal_error":
            expected = str(context["expected"]).replace("'", '"')
            meant = closest(value, expected.split('"')[1::2]) if isinstance(value, str) else None
            hint = f"; did you mean {one_of([meant])}?" if meant else f", expected {expected}"
            return f"{shown(value)} is unknown{hint}"
        case "greater_than_equal":
            return f"{shown(value)} is too small, expected {_limit(context['ge'])} or more"
        case "less_than_equal":
            return f"{shown(value)} is too large, expected at most {_limit(context['le'])}"
        case "string_too_short":
            return "empty, expected text"
        case "missing":
            return "missing"
        case _ if kind in _KINDS:
            it = shown(value) if not isinstance(value, dict) else ""
            return f"{it} is {_kind_words(value)}, expected {_KINDS[kind]}".removeprefix(" is ")
    return f"{shown(value)} cannot be used here ({kind.replace('_', ' ')})"


def _limit(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _kind_words(value: object) -> str:
    match value:
        case bool():
            return "no more than true or false"
        case str():
            return "text"
        case int() | float():
            return "a number"
        case list():
            return "a list"
    return "a table"


def _complain_of_key(path: Path, problems: Problems) -> None:
    *parents, key = path
    known = _keys_at(tuple(parents))
    elsewhere = next((each for each in _all_keys() if each.split(".")[-1] == key), None)
    if elsewhere is not None and key != "kind":  # many tables have a kind
        problems.add(path, f'unknown key; did you mean "{elsewhere}"?')
        return
    problems.add(path, unknown_key(str(key), known))
    meant = closest(str(key), known)
    if meant is not None:
        problems.excuse((*parents, meant))


def _keys_at(parents: Path) -> list[str]:
    """Return the keys that the table at ``parents`` may have."""
    model: type[BaseModel] | None = ScenarioDocument
    for part in parents:
        if model is not None and isinstance(part, str):
            model = next(
                (_model_in(each.annotation) for name, each in _fields(model) if name == part), None
            )
    return [] if model is None else [name for name, _ in _fields(model)]


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, Any]]:
    for name, each in model.model_fields.items():
        yield each.alias or name, each


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model that an annotation such as ``list[FaultTable]`` is about."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_model_in(each) for each in get_args(annotation))
    return next((each for each in found if each is not None), None)


def _all_keys(model: type[BaseModel] = ScenarioDocument, prefix: str = "") -> Iterator[str]:
    for name, each in _fields(model):
        inner = _model_in(each.annotation)
        if inner is None:
            yield prefix + name
        elif get_args(each.annotation)[:1] != (inner,):
            yield from _all_keys(inner, f"{prefix}{name}.")
