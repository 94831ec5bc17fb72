"""``--set path=value``: one value of a scenario file replaced before anything is judged."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

_PART = re.compile(r"([A-Za-z0-9_-]+)(?:\[([0-9]+)\])?")


def apply_overrides(
    raw: Mapping[str, Any], overrides: Sequence[str]
) -> tuple[dict[str, Any], list[str]]:
    """Return the tables of a scenario with ``overrides`` put in, and what of them fits nowhere.

    An override is ``path=value``. A path is dotted and counts lists from 1, as messages do:
    ``fault[1].at=3s``. A value is read as TOML, and as text where it is none, so
    ``run.duration=5s`` needs no quotes.
    """
    tables: dict[str, Any] = dict(raw)
    problems = []
    for override in overrides:
        changed = deepcopy(tables)  # one that does not fit leaves nothing behind
        try:
            path, value = _parsed(override)
            _put(changed, path, value)
        except ValueError as error:
            problems.append(f"--set {override}: {error}")
        else:
            tables = changed
    return tables, problems


def _parsed(override: str) -> tuple[list[str | int], Any]:
    text, equals, value = override.partition("=")
    if not equals or not text.strip():
        raise ValueError("expected PATH=VALUE, such as run.duration=5s")
    path: list[str | int] = []
    for part in text.strip().split("."):
        match = _PART.fullmatch(part)
        if match is None:
            raise ValueError(f'"{part}" is no key, expected a path such as fault[1].at')
        path.append(match[1])
        if match[2] is not None:
            path.append(int(match[2]) - 1)
    return path, _value(value.strip())


def _value(text: str) -> Any:
    try:
        tables = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    # A line break in the text could bring more keys along: then it is no single value.
    return tables["value"] if len(tables) == 1 else text


def _put(tables: dict[str, Any], path: list[str | int], value: Any) -> None:
    here: Any = tables
    for depth, part in enumerate(path):
        last = depth == len(path) - 1
        place = "".join(
            f"[{each + 1}]" if isinstance(each, int) else f".{each}" for each in path[:depth]
        )
        if isinstance(part, int):
            if not isinstance(here, list) or not 0 <= part < len(here):
                size = len(here) if isinstance(here, list) else 0
                raise ValueError(f"there is no {place[1:]}[{part + 1}], the file has {size}")
        elif isinstance(here, dict):
            if not last:
                here.setdefault(part, {})
        else:
            what = (
                "a list, expected a position such as [1]" if isinstance(here, list) else "no table"
            )
            raise ValueError(f"{place[1:]} is {what}")
        if last:
            here[part] = value
        else:
            here = here[part]
