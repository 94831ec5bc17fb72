"""Judge a stored run again, or any history file; list the checks; write histories for others."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from replication.cli.edge import exit_code
from replication.cli.options import format_option, runs_option

if TYPE_CHECKING:
    from replication.analysis.findings import Finding, RunFindings

_WIDTH = 96


@click.command("check")
@click.argument("target", metavar="[RUN|FILE]", default="latest")
@click.option("--model", metavar="NAME", help="What the objects are (default: by the operations).")
@click.option("--initial", metavar="VALUE", help="What every object held at first, as JSON.")
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="How long a search may take; past it the verdict is unknown.",
)
@click.option("--all", "all_objects", is_flag=True, help="List all bad objects, not the first.")
@runs_option
@format_option("text", "json")
def check_command(
    target: str,
    model: str | None,
    initial: str | None,
    timeout: float,
    all_objects: bool,
    runs: Path,
    output: str,
) -> None:
    """Judge a run again from its histories, or a history file of any tool.

    \b
    A run gets every check. A file is judged for linearizability: our own history.jsonl, EDN of
    Jepsen or Knossos, Porcupine's logs, JSON events as elle-cli takes them.
    \b
    $ replication check runs/latest
    $ replication check history.edn --model cas-register --initial 0
    Models: register, cas-register, counter, append, set, mutex, multi-register.
    """
    path = Path(target)
    if not path.is_file():
        if model is not None or initial is not None:
            raise click.UsageError("--model and --initial are for history files: a run knows them")
        _check_run(target, runs, output)
    from replication import api

    finding = api.check(
        path, model=model, initial=initial, timeout_s=timeout, all_objects=all_objects
    )
    if output == "json":
        click.echo(json.dumps(asdict(finding), indent=2, ensure_ascii=False))
    else:
        for line in _finding_lines("", finding):
            click.echo(line)
    raise SystemExit(int(exit_code(finding.verdict, [], False)))


def _check_run(target: str, runs: Path, output: str) -> NoReturn:
    from replication import api
    from replication.report.run_directory import find_run

    findings = api.check_run(find_run(runs, target))
    if output == "json":
        sides = {
            name: {check: asdict(each) for check, each in side.findings.items()}
            for name, side in findings.sides.items()
        }
        record = {"verdict": findings.verdict, "again": findings.again, "sides": sides}
        click.echo(json.dumps(record, indent=2, ensure_ascii=False))
    else:
        for name, side in findings.sides.items():
            for finding in side.findings.values():
                for line in _finding_lines(f"{name}  ", finding):
                    click.echo(line)
        click.echo(f"verdict: {findings.verdict.value}")
    raise SystemExit(int(_run_code(findings)))


def _run_code(findings: "RunFindings") -> int:
    problems = [each for side in findings.sides.values() for each in side.problems]
    interrupted = any(side.interrupted for side in findings.sides.values())
    return exit_code(findings.verdict, problems, interrupted)


def _finding_lines(side: str, finding: "Finding") -> list[str]:
    from replication.report.formats import sentence, verdict_mark

    mark = verdict_mark(finding.verdict, finding.promised)
    found = [f"{mark}  {side}{finding.title}: {sentence(finding.summary)}"]
    parts = [f"{amount:,} {name}" for name, amount in finding.coverage.by_kind.items()]
    parts += [f"{amount:,} {name}" for name, amount in finding.coverage.by_outcome.items()]
    if parts:
        found.append(f"   judged: {', '.join(parts)}")
    found += [f"   note: {sentence(note)}" for note in finding.coverage.notes]
    for number, witness in enumerate(finding.witnesses, 1):
        found.append(f"   {number}. {sentence(witness.words)}")
    hidden = finding.violations - len(finding.witnesses)
    if finding.witnesses and hidden > 0:
        found.append(f"   and {hidden:,} more")
    return found


@click.command("checks")
@format_option("text", "json")
def checks_command(output: str) -> None:
    """List every check: what a violation of it shows, and where it comes from.

    \b
    $ replication checks
    """
    from replication.analysis.registry import CHECKS

    if output == "json":
        rows = [
            {"name": each.name, "title": each.title, "finds": each.finds, "source": each.source}
            for each in CHECKS
        ]
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    for check in CHECKS:
        click.echo(f"{check.name}  ({check.title})")
        click.echo(click.wrap_text(f"finds {check.finds}", _WIDTH, "    ", "    "))
        click.echo(click.wrap_text(f"after {check.source}", _WIDTH, "    ", "    "))


@click.command("export")
@click.argument("run", default="latest")
@click.option("--side", type=click.Choice(["leader", "leaderless"]), default="leader")
@click.option(
    "--as",
    "form",
    type=click.Choice(["edn", "json", "porcupine"]),
    default="edn",
    show_default=True,
    help="EDN of Jepsen and Knossos, JSON events for elle-cli, or Porcupine's key-value log.",
)
@runs_option
def export_command(run: str, side: str, form: str, runs: Path) -> None:
    """Print the operations of one side of a run for the checker of another tool.

    \b
    $ replication export latest --side leader --as edn > history.edn
    """
    from replication.exchange import export
    from replication.history_files import read_history
    from replication.report.run_directory import find_run

    click.echo(export(read_history(find_run(runs, run) / side), form), nl=False)
