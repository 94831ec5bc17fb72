"""The backends of a scenario and their settings, each judged by the backend's own type."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from replication.errors import ConfigError
from replication.plan.backends import FindBackend, FoundBackend
from replication.plan.document import complaint
from replication.plan.model import BackendChoice
from replication.plan.problems import Path, Problems, closest, path_text, unknown_key
from replication.plan.schema import Document
from replication.plan.units import duration_ns
from replication.protocol import Backend, Family


@dataclass(frozen=True, slots=True)
class Chosen:
    """A side's backend, and its settings unless they are wrong."""

    choice: BackendChoice
    backend: Backend


def read_backends(
    document: Document, problems: Problems, find: FindBackend
) -> dict[Family, Chosen]:
    """Return the chosen backend of each side, as far as there is nothing wrong with it.

    Settings of backends that are not chosen are judged as well: they wait for ``--set
    cluster.leader=...``, and would fail then.
    """
    members = document.cluster.nodes if problems.sound(("cluster", "nodes")) else None
    chosen: dict[Family, Chosen] = {}
    for family in Family:
        tables: dict[str, dict[str, Any]] = dict(getattr(document, family.value))
        name: str = getattr(document.cluster, family.value)
        found = _find(name, family, ("cluster", family.value), problems, find)
        if found is not None:
            path: Path = (family.value, found.backend.name)
            table = tables.pop(found.backend.name, {})
            settings = read_settings(found.backend, table, path, members, problems)
            if settings is not None:
                choice = BackendChoice(name, found.path, settings)
                chosen[family] = Chosen(choice, found.backend)
        for other, table in tables.items():
            waiting = _find(other, family, (family.value, other), problems, find)
            if waiting is not None:
                read_settings(waiting.backend, table, (family.value, other), members, problems)
    return chosen


def _find(
    name: str, family: Family, path: Path, problems: Problems, find: FindBackend
) -> FoundBackend | None:
    if not problems.sound(path):
        return None
    try:
        found = find(name)
    except ConfigError as error:
        for problem in error.problems:
            problems.add(path, problem)
        return None
    if found.backend.family is not family:
        problems.add(
            path,
            f'"{name}" is a {found.backend.family.value} backend, '
            f"expected a {family.value} backend",
        )
        return None
    return found


def read_settings(
    backend: Backend, table: Mapping[str, Any], path: Path, members: int | None, problems: Problems
) -> Any | None:
    """Return the settings that ``table`` gives a backend; None, and problems, when it is wrong.

    ``members`` is how many nodes they are for, None when that is not known.
    """
    names = {each.name.removesuffix("_ns"): each.name for each in fields(backend.settings_type)}
    values: dict[str, Any] = {}
    bad: set[str] = set()
    for key, value in table.items():
        if key not in names:
            problems.add((*path, key), unknown_key(key, list(names)))
            bad |= {closest(key, names) or key}
            continue
        try:
            values[key] = duration_ns(value) if names[key].endswith("_ns") else value
        except ValueError as error:
            problems.add((*path, key), str(error))
            bad.add(key)
    adapter = _adapter(backend.settings_type)  # type: ignore[arg-type]  # types are hashable
    try:
        settings = _validated(adapter, values)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            key = str(detail["loc"][0])
            words = complaint(detail["type"], detail.get("ctx", {}), values[key])
            problems.add((*path, key), words)
            bad.add(key)
        settings = _validated(
            adapter, {key: value for key, value in values.items() if key not in bad}
        )
    misfits = list(settings.problems(members)) if members is not None else []
    for misfit in misfits:
        # In the place of a setting that could not be read stands its default: nothing follows.
        if not bad & set(re.findall(r"\w+", misfit)):
            problems.add_sentence(path, f"{path_text(path)}.{misfit}")
    return None if bad or misfits else settings


@cache  # it takes longer to make than to use, and expectations are read by it as well
def _adapter(settings_type: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(settings_type)


def _validated(adapter: TypeAdapter[Any], values: Mapping[str, Any]) -> Any:
    """Return the settings; by way of JSON, where strictness still makes enums of words."""
    return adapter.validate_json(json.dumps(values), strict=True)
