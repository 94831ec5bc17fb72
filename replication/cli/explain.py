"""The story and the picture of one violation."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from replication.cli.options import runs_option
from replication.errors import ConfigError

if TYPE_CHECKING:
    from replication.analysis.findings import Finding, RunFindings, SideFindings, Witness

_WIDTH = 96


@click.command("explain")
@click.argument("run", default="latest")
@click.argument("number", metavar="[N]", type=click.IntRange(min=1), default=1)
@runs_option
def explain_command(run: str, number: int, runs: Path) -> None:
    """Tell the Nth violation of RUN (the first): as a story, with causes, and as a picture.

    Broken promises come first, then in the order of time.

    \b
    $ replication explain
    $ replication explain runs/latest 2
    """
    from replication.report.run_directory import find_run, read_findings

    found = _violations(read_findings(find_run(runs, run)))
    if not found:
        click.echo("nothing was violated in this run")
        return
    if number > len(found):
        raise ConfigError(
            [f"there is no violation {number}: the run has {len(found)} with a story"]
        )
    for line in _story(number, len(found), *found[number - 1]):
        click.echo(line)


def _violations(
    findings: "RunFindings",
) -> list[tuple[str, "SideFindings", "Finding", "Witness"]]:
    """Return every witness, of broken promises first, then in order of time.

    What several checks saw in the same operations is told once.
    """
    found = [
        (name, side, finding, witness)
        for name, side in findings.sides.items()
        for finding in side.findings.values()
        for witness in finding.witnesses
    ]
    found.sort(key=lambda each: (not each[2].promised, each[3].at_ns or 0))
    told: set[tuple[str, tuple[int, ...]]] = set()
    kept = []
    for each in found:
        proof = each[0], tuple(sorted(each[3].operations))
        if proof not in told or not proof[1]:
            told.add(proof)
            kept.append(each)
    return kept


def _story(
    number: int, total: int, name: str, side: "SideFindings", finding: "Finding", witness: "Witness"
) -> Iterator[str]:
    from replication.report import formats, witness_picture

    places = [f"violation {number} of {total}", f"{name}: {side.title}", finding.title]
    if witness.key is not None:
        places.append(f"key {formats.key_text(witness.key)}")
    if witness.at_ns is not None:
        places.append(f"at {formats.moment(witness.at_ns, side.load_start_ns)}")
    yield ", ".join(places) + ("" if finding.promised else " (no promise of this side)")
    yield ""
    yield click.wrap_text(formats.sentence(witness.words), _WIDTH, "  ", "  ")
    if witness.causes:
        yield ""
        for cause in witness.causes:
            yield click.wrap_text(formats.sentence(cause), _WIDTH, "  - ", "    ")
    if witness.picture is not None:
        yield ""
        yield from witness_picture.text_lines(side, witness.picture)
