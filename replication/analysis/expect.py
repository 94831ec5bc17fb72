"""Whether a run was what its scenario expected, and the verdict of the run as a whole.

A measure is a dotted path into ``SideFindings``::

    writes.p99_ms
    findings.durability.counts.lost
    failovers.0.write_outage_ms        (a position in a list; "failovers.count" is its length)
    availability.writes_of_the_minority_during_fault_1.ok_share

In a path "_" and "-" stand for the blanks of a name, and a field that ends in ``_ns`` may be asked
for in milliseconds by ``_ms``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from replication.analysis import words
from replication.analysis.findings import ExpectationResult, SideFindings, Verdict, combine
from replication.analysis.registry import CHECKS
from replication.plan.describe import expectation_words
from replication.plan.model import Expectation

COUNT = "count"
_NUMBERS = (int, float, bool)

_hints = cache(get_type_hints)  # every expectation of every scenario asks for the same


def known_checks() -> tuple[str, ...]:
    """Return the names that ``Expectation.check`` may have."""
    return tuple(check.name for check in CHECKS)


def measure_problem(path: str) -> str | None:
    """Return what is wrong with the path of a measure, None if it can lead to a number.

    Keys of mappings are not known before a run, but for the names of checks.
    """
    kind: Any = SideFindings
    walked: list[str] = []
    for part in path.split("."):
        kind = _without_none(kind)
        where = f"'{'.'.join(walked)}'" if walked else "the findings of a side"
        if get_origin(kind) is list:
            if part != COUNT and not part.lstrip("-").isdigit():
                return f"{where} is a list: expected a position or '{COUNT}', not {part!r}"
            kind = int if part == COUNT else get_args(kind)[0]
        elif get_origin(kind) is dict:
            if walked == ["findings"] and part not in known_checks():
                return f"{part!r} is no check{_suggestion(part, known_checks())}"
            kind = get_args(kind)[1]
        elif is_dataclass(kind) and isinstance(kind, type):
            hints = _hints(kind)
            name = _field_name(part, hints)
            if name is None:
                return f"{where} has no {part!r}{_suggestion(part, list(hints))}"
            kind = hints[name]
        else:
            return f"{where} is no group of measures: nothing can follow it"
        walked.append(part)
    kind = _without_none(kind)
    if kind is Any or (isinstance(kind, type) and issubclass(kind, _NUMBERS)):
        return None
    return f"{path!r} is not a number but a whole group of measures, or text"


def _without_none(kind: Any) -> Any:
    if get_origin(kind) in (Union, UnionType):
        return next(each for each in get_args(kind) if each is not NoneType)
    return kind


def _suggestion(part: str, known: Sequence[str]) -> str:
    close = get_close_matches(part, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; expected one of {', '.join(known)}"


def _field_name(part: str, known: Mapping[str, Any]) -> str | None:
    """Return the field that ``part`` asks for; in milliseconds where only nanoseconds exist."""
    if part in known:
        return part
    in_ns = f"{part.removesuffix('_ms')}_ns"
    return in_ns if part.endswith("_ms") and in_ns in known else None


def measure(side: SideFindings, path: str) -> float | None:
    """Return the number at ``path``; None if there is none in this run."""
    here: Any = side
    for part in path.split("."):
        here = _step(here, part)
        if here is None:
            return None
    return float(here) if isinstance(here, _NUMBERS) else None


def _step(here: Any, part: str) -> Any:
    if isinstance(here, list):
        if part == COUNT:
            return len(here)
        position = int(part) if part.lstrip("-").isdigit() else len(here)
        return here[position] if -len(here) <= position < len(here) else None
    if isinstance(here, Mapping):
        wanted = _spelled(part)
        return next((value for name, value in here.items() if _spelled(str(name)) == wanted), None)
    if not is_dataclass(here):
        return None
    name = _field_name(part, {each.name: None for each in fields(here)})
    if name is None:
        return None
    value = getattr(here, name)
    return value / 1e6 if name != part and value is not None else value


def _spelled(name: str) -> str:
    return name.replace(" ", "_").replace("-", "_")


def judge(
    expectations: Sequence[Expectation], sides: Mapping[str, SideFindings]
) -> list[ExpectationResult]:
    """Return what became of each expectation; those of a side that did not run are left out."""
    return [_judge_one(each, sides[each.side]) for each in expectations if each.side.value in sides]


def _judge_one(expectation: Expectation, side: SideFindings) -> ExpectationResult:
    if expectation.check is not None:
        verdict, observed = _judge_check(expectation, side)
    else:
        verdict, observed = _judge_measure(expectation, side)
    return ExpectationResult(
        expectation.place,
        expectation.side.value,
        expectation_words(expectation),
        verdict,
        observed,
        expectation.measure,
    )


def _judge_check(expectation: Expectation, side: SideFindings) -> tuple[Verdict, str]:
    finding = side.findings.get(expectation.check or "")
    if finding is None:
        return Verdict.UNKNOWN, f"there is no check {expectation.check!r}"
    observed = f"{finding.verdict.value}: {finding.summary}"
    if finding.verdict.value == expectation.verdict:
        return Verdict.VALID, observed
    if finding.verdict is Verdict.UNKNOWN:
        reasons = "; ".join(finding.coverage.notes)
        return Verdict.UNKNOWN, observed + (f" ({reasons})" if reasons else "")
    return Verdict.VIOLATED, observed


def _judge_measure(expectation: Expectation, side: SideFindings) -> tuple[Verdict, str]:
    value = measure(side, expectation.measure or "")
    if value is None:
        return Verdict.UNKNOWN, "not measured in this run"
    met = (
        (expectation.below is None or value < expectation.below)
        and (expectation.above is None or value > expectation.above)
        and (expectation.equals is None or value == expectation.equals)
    )
    observed = measured_words(expectation.measure or "", value)
    if not met:
        return Verdict.VIOLATED, observed
    missing = [str(each.number) for each in side.faults if not each.effective]
    if missing:
        # A bound that held without the fault that was to strain it shows nothing.
        return Verdict.UNKNOWN, f"{observed}, but without evidence of fault {', '.join(missing)}"
    return Verdict.VALID, observed


def measured_words(path: str, value: float) -> str:
    """Return a measure with its unit, as far as its name tells one."""
    unit_ns = 1 if path.endswith("_ns") else 1e6 if path.endswith("_ms") else 0
    if unit_ns:
        return words.milliseconds(round(value * unit_ns))
    return f"{value:,.0f}" if value == round(value) else f"{value:,.6g}"


def overall(
    expectations: Sequence[Expectation],
    results: Sequence[ExpectationResult],
    sides: Mapping[str, SideFindings],
) -> Verdict:
    """Return the verdict of the run: the gravest of the expectations and the promised checks.

    A check with an expectation of its own side is judged by that alone: who expects a violation is
    satisfied with one. An interrupted side is UNKNOWN at least.
    """
    expected = {(each.side.value, each.check) for each in expectations}
    verdicts = [result.verdict for result in results]
    for name, side in sides.items():
        verdicts += [
            finding.verdict
            for check, finding in side.findings.items()
            if finding.promised and (name, check) not in expected
        ]
        if side.interrupted:
            verdicts.append(Verdict.UNKNOWN)
    return combine(verdicts)
