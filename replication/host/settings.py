"""A backend's settings, from the plain values of the configuration file."""

import types
from collections.abc import Iterator, Mapping
from dataclasses import fields
from enum import StrEnum
from typing import Any, Union, get_args, get_origin, get_type_hints

from replication.errors import ConfigError
from replication.protocol import Backend


def build_settings(backend: Backend, values: Mapping[str, Any], members: int) -> Any:
    """Return the frozen settings; raise ConfigError with everything that is wrong.

    The runner has parsed durations and words long before; this guards against a file written by
    hand or by another release.
    """
    settings_type = backend.settings_type
    hints = get_type_hints(settings_type)
    names = {each.name for each in fields(settings_type)}
    problems = [
        f"settings.{name} is not a setting of {backend.name}"
        for name in sorted(values.keys() - names)
    ]
    resolved: dict[str, Any] = {}
    for name in sorted(values.keys() & names):
        try:
            resolved[name] = _resolve(hints[name], values[name])
        except ValueError as error:
            problems.append(f"settings.{name}: {error}")
    if not problems:
        try:
            settings = settings_type(**resolved)
        except TypeError as error:
            raise ConfigError([f"settings: {error}"]) from None
        problems = [f"settings.{problem}" for problem in settings.problems(members)]
        if not problems:
            return settings
    raise ConfigError(problems)


def _resolve(hint: Any, value: Any) -> Any:
    """Return ``value`` as the type of the field; raise ValueError when it is of another."""
    kinds = tuple(_kinds(hint))
    for kind in kinds:
        if issubclass(kind, StrEnum) and isinstance(value, str):
            return kind(value)
        if type(value) is kind or (kind is float and type(value) is int):
            return value
    names = " or ".join(kind.__name__ for kind in kinds)
    raise ValueError(f"{value!r} is of type {type(value).__name__}, expected {names}")


def _kinds(hint: Any) -> Iterator[type]:
    if get_origin(hint) in (Union, types.UnionType):
        for each in get_args(hint):
            yield from _kinds(each)
    else:
        yield hint
