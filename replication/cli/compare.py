"""Running a scenario on real processes: both sides, or one."""

import json
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from replication.cli.options import Decorator, format_option, runs_option
from replication.protocol import Family

if TYPE_CHECKING:
    from replication.plan import Scenario

TEXT, JSON, MARKDOWN = "text", "json", "md"


def run_options(function: Any) -> Any:
    """Add the options that ``compare``, ``run`` and ``simulate`` share."""
    decorators: Sequence[Decorator] = (
        click.argument("scenario"),
        click.option("--leader", metavar="NAME", help="Leader backend, or module:attribute."),
        click.option("--leaderless", metavar="NAME", help="Leaderless backend, the same way."),
        click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="Other draws, same mix."),
        click.option(
            "--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Change a setting."
        ),
        runs_option,
        format_option(TEXT, JSON, MARKDOWN),
        click.option("-q", "--quiet", is_flag=True, help="No progress line."),
    )
    for decorator in reversed(decorators):
        function = decorator(function)
    return function


@click.command("compare")
@run_options
def compare_command(**options: Any) -> None:
    """Run SCENARIO on a leader-based and on a leaderless cluster and put them side by side.

    SCENARIO is a name (see `replication scenarios`) or a file. Both sides get the same operations
    and the same faults. Everything that happened is kept in a folder of its own below runs/.

    \b
    $ replication compare leader-crash
    $ replication compare split-writers --set leaderless.dynamo.w=1 --set leaderless.dynamo.r=1
    $ replication compare leader-crash --leader my_package.my_module:backend --seed 7
    """
    _run("compare", tuple(Family), options)


@click.command("run")
@click.option(
    "--side",
    type=click.Choice([each.value for each in Family]),
    required=True,
    help="Which of the two clusters.",
)
@run_options
def run_command(side: str, **options: Any) -> None:
    """Run SCENARIO on one side only; otherwise as compare.

    \b
    $ replication run leader-pause --side leader
    """
    _run("run", (Family(side),), options)


def loaded(options: dict[str, Any]) -> "tuple[Scenario, int]":
    """Return the scenario with the options applied, and the seed to use."""
    from replication import api

    overrides = list(options["overrides"])
    overrides += [
        f"cluster.{family}={json.dumps(options[family])}"
        for family in ("leader", "leaderless")
        if options[family]
    ]
    scenario = api.load_scenario(options["scenario"], overrides)
    seed = options["seed"]
    return scenario, scenario.plan.seed if seed is None else seed


def _run(command: str, families: Sequence[Family], options: dict[str, Any]) -> None:
    from rich.console import Console

    from replication import api
    from replication.cli.progress import progress_line

    scenario, seed = loaded(options)
    with progress_line(Console(stderr=True), options["quiet"]) as tell:
        findings = api.run(
            scenario,
            families,
            seed,
            options["runs"],
            tell,
            again(command, families, options, ("--seed", str(seed))),
        )
    print_findings(findings, options["output"])


def again(
    command: str, families: Sequence[Family], options: dict[str, Any], seeds: Sequence[str]
) -> str:
    """Return the command line that does the same again."""
    words = ["replication", command, options["scenario"], *seeds]
    if len(families) == 1:
        words += ["--side", families[0].value]
    for family in ("leader", "leaderless"):
        if options[family]:
            words += [f"--{family}", options[family]]
    for override in options["overrides"]:
        words += ["--set", override]
    return shlex.join(words)


def print_findings(findings: Any, output: str) -> None:
    """Print the report of a run in one of the formats, and end with its exit code."""
    from rich.console import Console

    from replication.analysis.findings_json import findings_to_json
    from replication.cli.edge import exit_code
    from replication.report.markdown import markdown
    from replication.report.summary import summarize
    from replication.report.terminal import print_summary

    if output == JSON:
        sys.stdout.write(findings_to_json(findings))
    elif output == MARKDOWN:
        sys.stdout.write(markdown(summarize(findings)))
    else:
        page = None if findings.folder is None else f"{findings.folder}/report.html"
        print_summary(Console(), summarize(findings), page)
    sides = findings.sides.values()
    problems = [problem for side in sides for problem in side.problems]
    for problem in problems:
        click.echo(f"the run broke: {problem}", err=True)
    interrupted = any(side.interrupted for side in sides)
    raise SystemExit(int(exit_code(findings.verdict, problems, interrupted)))
