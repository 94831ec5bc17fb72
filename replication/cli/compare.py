"""Running a scenario on real processes: both sides, or one."""

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
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


def each_variant(options: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the options once for each variant of the scenario; as they are if it has none."""
    scenario, _ = loaded(options)
    names = [f"{options['scenario']}:{variant}" for variant in scenario.variants]
    return [{**options, "scenario": name} for name in names] or [options]


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
    from replication.run.both import refuse

    variants = [(chosen, *loaded(chosen)) for chosen in each_variant(options)]
    for _, scenario, _ in variants:
        refuse(scenario.plan)  # before any of them begins
    found: list[Any] = []
    done: list[Scenario] = []
    for chosen, scenario, seed in variants:
        sides = changed_sides(scenario, done, families)
        done.append(scenario)
        if not sides:
            continue
        words = again(command, families, chosen, ("--seed", str(seed)))
        with progress_line(Console(stderr=True), options["quiet"]) as tell:
            found.append(api.run(scenario, sides, seed, options["runs"], tell, words))
        end_early_if_interrupted(found, options["output"])
    print_findings(found, options["output"])


def changed_sides(
    scenario: "Scenario", done: "Sequence[Scenario]", families: Sequence[Family]
) -> list[Family]:
    """Return the sides that no earlier variant had planned just so: the others need no new run."""

    def side(scenario: "Scenario", family: Family) -> Any:
        plan = scenario.plan
        chosen = {family: plan.backends[family]}
        return replace(plan, name="", title="", expectations=(), scenario={}, backends=chosen)

    return [
        family
        for family in scenario.plan.sides(families)
        if not any(side(scenario, family) == side(earlier, family) for earlier in done)
    ]


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


def end_early_if_interrupted(found: Sequence[Any], output: str) -> None:
    """Print what there is and end, if the last run was interrupted: no variant comes after it."""
    if any(side.interrupted for side in found[-1].sides.values()):
        print_findings(found, output)


def print_findings(found: Sequence[Any], output: str) -> None:
    """Print the reports of one or more runs in one of the formats, and end with the exit code.

    Several runs are the variants of a scenario: a table of all comes last, and the gravest verdict
    counts. As JSON they are a list.
    """
    from rich.console import Console

    from replication.analysis.findings import combine
    from replication.analysis.findings_json import findings_to_json
    from replication.cli.edge import exit_code
    from replication.report import variants
    from replication.report.markdown import markdown
    from replication.report.summary import summarize
    from replication.report.terminal import print_summary

    if output == JSON:
        documents = [findings_to_json(each) for each in found]
        many = len(documents) > 1
        sys.stdout.write(f"[{','.join(documents)}]\n" if many else documents[0])
    elif output == MARKDOWN:
        sys.stdout.write("\n".join(markdown(summarize(each)) for each in found))
        sys.stdout.write(variants.markdown_table(found) if len(found) > 1 else "")
    else:
        for each in found:
            page = None if each.folder is None else f"{each.folder}/report.html"
            print_summary(Console(), summarize(each), page)
        if len(found) > 1:
            variants.print_table(Console(), found)
    sides = [side for each in found for side in each.sides.values()]
    problems = [problem for side in sides for problem in side.problems]
    for problem in problems:
        click.echo(f"the run broke: {problem}", err=True)
    interrupted = any(side.interrupted for side in sides)
    verdict = combine(each.verdict for each in found)
    raise SystemExit(int(exit_code(verdict, problems, interrupted)))
