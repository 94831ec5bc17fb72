"""What runs there were, and their reports again."""

import json
from pathlib import Path

import click

from replication.cli.options import format_option, runs_option


@click.command("runs")
@runs_option
@format_option("text", "json")
def runs_command(runs: Path, output: str) -> None:
    """List the runs, the newest first.

    \b
    $ replication runs
    2026-11-23 21:55:03 UTC  leader-crash  seed 1  valid  runs/20261123T215503Z-leader-crash-1
    """
    from replication.report.run_directory import list_runs

    found = list_runs(runs)
    if output == "json":
        rows = [
            {
                "started": each.started,
                "scenario": each.scenario,
                "seed": each.seed,
                "verdict": each.verdict,
                "folder": str(each.folder),
            }
            for each in found
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    if not found:
        click.echo(f"no runs in {runs}", err=True)
    width = max((len(each.scenario) for each in found), default=0)
    for each in found:
        columns = (each.started, f"{each.scenario:{width}}", f"seed {each.seed}", each.verdict)
        click.echo("  ".join([*columns, str(each.folder)]))


@click.command("report")
@click.argument("run", default="latest")
@click.option("--fresh", is_flag=True, help="Analyse the histories again, write all reports anew.")
@runs_option
@format_option("text", "json", "md")
def report_command(run: str, fresh: bool, runs: Path, output: str) -> None:
    """Print the report of RUN again; the exit code is the run's.

    RUN is "latest", a folder, the beginning of its name, or a scenario (its newest run).

    \b
    $ replication report
    $ replication report leader-crash --format md
    $ replication report runs/20261123T215503Z-leader-crash-1 --fresh
    """
    from replication.cli.compare import print_findings
    from replication.report.run_directory import find_run, read_findings

    folder = find_run(runs, run)
    if fresh:
        from replication import api

        findings = api.analyse(folder)
    else:
        findings = read_findings(folder)
    print_findings([findings], output)
