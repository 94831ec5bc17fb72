"""What came of many seeds: in words, and as JSON."""

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from replication.protocol import Family

if TYPE_CHECKING:
    from replication.simulation import SeedResult, SwarmReport

NS_PER_S = 1_000_000_000
HEADINGS = ("side", "seeds", "failed", "operations", "acknowledged", "faults", "virtual time")


@dataclass(slots=True)
class Told:
    """A failure, and what somebody needs to look into it."""

    result: "SeedResult"
    replay: str  # the command that repeats it
    story: tuple[str, ...] = ()  # what happened, line by line
    file: str | None = None  # the small scenario that fails alike
    size: tuple[int, int, int] = (0, 0, 0)  # its faults and operations; how many were tried


def in_words(
    report: "SwarmReport", seeds: range, failures: Sequence[Told], *, markdown: bool
) -> str:
    """Return a table with a line for each side, and every failure with the command to repeat it."""
    lines = [_title(report, seeds, markdown), "", *_table(report, markdown), ""]
    if not failures:
        lines.append("no seed failed" if report.results else "no seed was tried to its end")
    for told in failures:
        lines += [*_failure(told), ""]
    text = "\n".join(lines).rstrip("\n")
    return f"{text}\n"


def as_json(
    report: "SwarmReport", seeds: range, interrupted: bool, failures: Sequence[Told]
) -> str:
    """Return the same as one JSON object."""
    record = {
        "scenario": report.name,
        "seeds": [seeds[0], seeds[-1]],
        "interrupted": interrupted,
        "sides": {family.value: totals for family, totals in _totals(report)},
        "failed": [_failure_json(told) for told in failures],
    }
    return json.dumps(record, indent=2) + "\n"


def _title(report: "SwarmReport", seeds: range, markdown: bool) -> str:
    which = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]}-{seeds[-1]}"
    return f"{'## ' if markdown else ''}{report.name}, {which}, simulated"


def _totals(report: "SwarmReport") -> Iterator[tuple[Family, dict[str, Any]]]:
    for family in Family:
        results = [each for each in report.results if each.family is family]
        if results:
            yield (
                family,
                {
                    "seeds": len(results),
                    "failed": sum(each.failure is not None for each in results),
                    "operations": sum(each.operations for each in results),
                    "acknowledged": sum(each.acknowledged for each in results),
                    "faults": sum(each.faults for each in results),
                    "effective_faults": sum(each.effective_faults for each in results),
                    "virtual_seconds": round(sum(each.virtual_ns for each in results) / NS_PER_S),
                },
            )


def _table(report: "SwarmReport", markdown: bool) -> Iterator[str]:
    rows = [HEADINGS]
    for family, totals in _totals(report):
        share = totals["acknowledged"] / max(totals["operations"], 1)
        rows.append(
            (
                family.value,
                f"{totals['seeds']:,}",
                f"{totals['failed']:,}",
                f"{totals['operations']:,}",
                f"{share * 100:.1f} %",
                f"{totals['effective_faults']:,}",
                f"{totals['virtual_seconds']:,} s",
            )
        )
    if markdown:
        yield f"| {' | '.join(rows[0])} |"
        yield f"|---|{'---:|' * (len(HEADINGS) - 1)}"
        yield from (f"| {' | '.join(row)} |" for row in rows[1:])
        return
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    for row in rows:
        cells = [f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True)]
        yield "  ".join((f"{row[0]:{widths[0]}}", *cells))


def _failure(told: Told) -> Iterator[str]:
    result, failure = told.result, told.result.failure
    assert failure is not None, "this one has failed"
    yield f"seed {result.seed}, {result.family.value}: {failure.check}"
    yield f"    {failure.text}"
    yield f"    again: {told.replay}"
    if told.file is not None:
        faults, operations, simulations = told.size
        yield (
            f"    small: {told.file} ({faults} faults and {operations} operations, after "
            f"{simulations:,} simulations)"
        )
        side = result.family.value
        yield f"           {shlex.join(('replication', 'simulate', told.file, '--side', side))}"
        yield f"           {shlex.join(('replication', 'compare', told.file))}"
    if told.story:
        yield ""
        yield from (f"    {line}" for line in told.story)


def _failure_json(told: Told) -> dict[str, Any]:
    result, failure = told.result, told.result.failure
    assert failure is not None, "this one has failed"
    faults, operations, simulations = told.size
    small = {"file": told.file, "faults": faults, "operations": operations}
    return {
        "seed": result.seed,
        "side": result.family.value,
        "check": failure.check,
        "text": failure.text,
        "time_ns": failure.time_ns,
        "in_flight": failure.in_flight,
        "again": told.replay,
        "shrunk": None if told.file is None else {**small, "simulations": simulations},
        "story": list(told.story),
    }
