"""Scenarios in files: the one place of this package that reads any."""

import json
import tomllib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from replication.errors import ConfigError
from replication.plan.backends import FindBackend, find_backend
from replication.plan.overrides import apply_overrides
from replication.plan.plan import Plan
from replication.plan.problems import closest
from replication.plan.scenario import Scenario, read_scenario

_PACKAGE = Path(__file__).resolve().parents[1]
# In a wheel the scenarios lie inside the package, in a checkout beside it.
FOLDERS = (_PACKAGE / "scenarios", _PACKAGE.parent / "scenarios")


@dataclass(frozen=True, slots=True)
class ScenarioSummary:
    """One line of a list of scenarios; of a broken file, what it says of itself."""

    name: str
    title: str
    question: str
    path: Path


def list_scenarios() -> list[ScenarioSummary]:
    """Return the scenarios that come with this package, in order of name.

    Raises ConfigError when one of them is no TOML.
    """
    summaries = []
    for name, path in sorted(_shipped().items()):
        raw = _read_toml(path)
        title, question = (str(raw.get(key, "")) for key in ("title", "question"))
        summaries.append(ScenarioSummary(name, title, question, path))
    return summaries


def find_scenario(name_or_path: str | Path) -> Path:
    """Return the file of a scenario: a path that exists, or the name of one that is shipped.

    Raises ConfigError with the closest name and the list of all.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    shipped = _shipped()
    name = str(name_or_path).removesuffix(".toml")
    if name in shipped:
        return shipped[name]
    if path.is_dir():
        raise ConfigError([f"{path} is a folder, expected a scenario file or a name"])
    meant = closest(path.stem, shipped)
    hint = f"did you mean {meant}? " if meant else ""
    raise ConfigError(
        [f'no scenario and no file "{name_or_path}"; {hint}There are: {", ".join(sorted(shipped))}']
    )


def load_scenario(
    name_or_path: str | Path,
    overrides: Sequence[str] = (),
    *,
    find: FindBackend = find_backend,
    known_checks: Collection[str] | None = None,
    measure_problem: Callable[[str], str | None] | None = None,
) -> Scenario:
    """Return the scenario in a file, with ``path=value`` overrides applied before it is judged.

    ``NAME:VARIANT`` is one of its variants: what the variant sets comes before ``overrides``.
    Without one, its variants are judged too. Raises ConfigError with every problem of the file. See
    ``read_scenario`` for the names that expectations may use.
    """
    name, variant = str(name_or_path), ""
    if not Path(name).is_file() and ":" in name:
        name, _, variant = name.rpartition(":")
    path = find_scenario(name)
    tables = _read_toml(path)

    def read(variant: str) -> Scenario:
        raw = tables if not variant else _varied(tables, variant, path.name)
        changed, problems = apply_overrides(raw, overrides)
        try:
            found = read_scenario(
                changed,
                f"{path.stem}:{variant}" if variant else path.stem,
                f"{path.name}:{variant}" if variant else path.name,
                find=find,
                known_checks=known_checks,
                measure_problem=measure_problem,
            )
        except ConfigError as error:
            raise ConfigError([*problems, *error.problems]) from None
        if problems:
            raise ConfigError(problems)
        return found

    scenario = read(variant)
    problems: list[str] = []
    for each in scenario.variants:
        try:
            read(each)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return scenario


def _varied(tables: dict[str, Any], name: str, source: str) -> dict[str, Any]:
    """Return the tables as the variant ``name`` sets them; it has no variants of its own."""
    listed = tables.get("variant", [])
    variants = {
        each.get("name"): each.get("set", [])
        for each in (listed if isinstance(listed, list) else [])
        if isinstance(each, dict)
    }
    if name not in variants:
        known = ", ".join(str(each) for each in variants) or "none"
        raise ConfigError([f'{source}: there is no variant "{name}"; there are: {known}'])
    varied, problems = apply_overrides(tables, variants[name])
    if problems:
        raise ConfigError([f"{source}: {problem}" for problem in problems])
    varied.pop("variant", None)
    varied["title"] = f"{varied.get('title', '')}: {name}"
    return varied


def read_plan(path: Path, *, find: FindBackend = find_backend) -> Plan:
    """Return the plan in a plan.json; raise ConfigError when there is none."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from None
    except ValueError as error:
        raise ConfigError([f"{path}: {error}"]) from None
    if not isinstance(record, dict):
        raise ConfigError([f"{path}: expected a JSON object"])
    return Plan.from_json(record, find)


def _shipped() -> dict[str, Path]:
    folder = next((each for each in FOLDERS if each.is_dir()), None)
    return {} if folder is None else {path.stem: path for path in folder.glob("*.toml")}


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path.name}: not UTF-8 text: {error.reason}"]) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{path.name}: {error}"]) from None
