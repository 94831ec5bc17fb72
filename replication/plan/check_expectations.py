"""The expectations of a scenario: what is wrong with them, and which of them apply."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from replication.plan.model import Expectation
from replication.plan.problems import Path, Problems, hint_at, path_text, unknown_key
from replication.plan.schema import Bound, Document, ExpectTable, Section
from replication.plan.settings import Chosen, read_settings
from replication.plan.units import duration_ns
from replication.protocol import Family

_BOUNDS = ("below", "above", "equals")
# What a duration counts in a measure whose name ends so.
_UNITS_NS = {"_ns": 1, "_us": 1_000, "_ms": 1_000_000}


@dataclass(frozen=True, slots=True)
class Known:
    """What the analysis can find; None: not known here, everything passes."""

    checks: Collection[str] | None = None
    measure_problem: Callable[[str], str | None] | None = None  # what is wrong with a path, or None


def read_expectations(
    document: Document, problems: Problems, backends: Mapping[Family, Chosen], known: Known
) -> tuple[Expectation, ...]:
    """Return the expectations that apply, one for each side; report what is wrong with any."""
    found: list[Expectation] = []
    for index, table in enumerate(document.expect):
        path: Path = ("expect", index)
        if not problems.sound(path):
            continue
        applies = _applies(table.when or {}, (*path, "when"), document, problems, backends)
        bounds = dict(_bounds(table, path, problems))
        _judge(table, path, problems, known)
        if applies and problems.sound(path):
            verdict = (table.verdict or "valid") if table.check is not None else None
            sides = list(Family) if table.side == "both" else [Family(table.side)]
            found += [
                Expectation(path_text(path), side, table.check, verdict, table.measure, **bounds)
                for side in sides
            ]
    return tuple(found)


def _judge(table: ExpectTable, path: Path, problems: Problems, known: Known) -> None:
    given = [name for name in _BOUNDS if getattr(table, name) is not None]
    if (table.check is None) == (table.measure is None):
        what = "neither is set" if table.check is None else "both are set"
        problems.add(path, f"expected either a check or a measure, {what}")
    elif table.check is not None:
        for name in given:
            problems.add((*path, name), "belongs to a measure, not to a check")
        if known.checks is not None and table.check not in known.checks:
            names = sorted(known.checks)
            hint = hint_at(table.check, names) or f", expected one of {', '.join(names)}"
            problems.add((*path, "check"), f'"{table.check}" is no check{hint}')
    else:
        assert table.measure is not None
        if table.verdict is not None:
            problems.add((*path, "verdict"), "belongs to a check, not to a measure")
        if not given:
            problems.add(path, "the measure has no bound, expected below, above or equals")
        if "equals" in given and len(given) > 1:
            problems.add((*path, "equals"), "goes with neither below nor above")
        wrong = known.measure_problem(table.measure) if known.measure_problem else None
        if wrong is not None:
            problems.add((*path, "measure"), wrong)


def _bounds(table: ExpectTable, path: Path, problems: Problems) -> Iterator[tuple[str, float]]:
    """Yield the bounds as numbers; a duration is counted in the unit of the measure."""
    for name in _BOUNDS:
        value: Bound | None = getattr(table, name)
        if isinstance(value, str):
            unit_ns = next(
                (ns for end, ns in _UNITS_NS.items() if (table.measure or "").endswith(end)), None
            )
            if unit_ns is None:
                problems.add((*path, name), f'"{value}" is text, expected a number')
                continue
            try:
                yield name, duration_ns(value) / unit_ns
            except ValueError as error:
                problems.add((*path, name), str(error))
        elif value is not None:
            yield name, float(value)


def _applies(
    when: Mapping[str, Any],
    path: Path,
    document: Document,
    problems: Problems,
    backends: Mapping[Family, Chosen],
) -> bool:
    """Return whether all that is named in ``when`` has the value given there."""
    applies = True
    for section, inner in when.items():
        here = (*path, section)
        if section == "workload":
            applies &= _is(document.workload, inner, here, problems)
            continue
        if section not in [*Family]:
            problems.add(here, unknown_key(section, [*Family, "workload"]))
            continue
        chosen = backends.get(Family(section))
        if not isinstance(inner, dict):
            problems.add(here, f'expected settings such as {section}.NAME.SETTING = "value"')
            continue
        for name, table in inner.items():
            fits = chosen is not None and name == chosen.backend.name
            if chosen is None or not fits or not _has(chosen, table, (*here, name), problems):
                applies = False
    return applies


def _is(section: Section, wanted: Any, path: Path, problems: Problems) -> bool:
    """Return whether a section of the scenario has the values of ``wanted``."""
    if not isinstance(wanted, dict):
        problems.add(path, f"expected keys and values of it, such as {path[-1]}.KEY = VALUE")
        return False
    known = sorted(type(section).model_fields)
    fits = True
    for key, value in wanted.items():
        here = (*path, key)
        found = getattr(section, key, None)
        if key not in known:
            problems.add(here, unknown_key(key, known))
            fits = False
        elif isinstance(found, Section):
            fits &= _is(found, value, here, problems)
        else:
            fits &= found == value
    return fits


def _has(chosen: Chosen, table: Any, path: Path, problems: Problems) -> bool:
    """Return whether the chosen settings are as ``table`` says, read as settings are."""
    if not isinstance(table, dict):
        problems.add(path, "expected a table of settings")
        return False
    wanted = read_settings(chosen.backend, table, path, None, problems)
    if wanted is None:
        return False
    return all(
        getattr(wanted, name) == getattr(chosen.choice.settings, name)
        for name in chosen.backend.settings_type.__dataclass_fields__
        if name.removesuffix("_ns") in table
    )
