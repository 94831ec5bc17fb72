"""Which scenarios there are, what one does, and whether a file is one."""

import json

import click

from replication.cli.options import format_option
from replication.errors import ConfigError

set_option = click.option(
    "--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Change a setting."
)


@click.command("scenarios")
@format_option("text", "json")
def scenarios_command(output: str) -> None:
    """List the scenarios and what each asks.

    \b
    $ replication scenarios
    follower-crash    What does the crash of a node that does not lead cost?
    leader-crash      For how long can nobody write after the leader has died?
    ...
    """
    from replication.plan import list_scenarios

    found = list_scenarios()
    if output == "json":
        rows = [
            {"name": each.name, "title": each.title, "question": each.question} for each in found
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    width = max((len(each.name) for each in found), default=0)
    for each in found:
        click.echo(f"{each.name:{width}}  {each.question}")


@click.command("show")
@click.argument("scenario")
@set_option
def show_command(scenario: str, overrides: tuple[str, ...]) -> None:
    """Tell in words what SCENARIO does: load, faults, expectations, settings.

    \b
    $ replication show leader-crash
    The leader crashes and comes back
    For how long can nobody write after the leader has died?
    ...
    """
    from replication.api import load_scenario
    from replication.plan import describe

    found = load_scenario(scenario, overrides)
    for line in describe(found.plan):
        click.echo(line)
    if found.variants:
        click.echo("Variants, each run by itself:")
        for variant in found.variants:
            click.echo(f"  {scenario}:{variant}")


@click.command("validate")
@click.argument("files", nargs=-1, required=True)
@set_option
def validate_command(files: tuple[str, ...], overrides: tuple[str, ...]) -> None:
    """Check scenario FILES; every mistake gets a line with its place, and the exit code is 2.

    \b
    $ replication validate mine.toml
    mine.toml: fault[1].at: "-1s" is negative, expected 0s or more
    """
    from replication.api import load_scenario

    problems: list[str] = []
    for name in files:
        try:
            scenario = load_scenario(name, overrides)
        except ConfigError as error:
            problems += error.problems
        else:
            click.echo(f"{name}: valid: {scenario.title}")
    if problems:
        raise ConfigError(problems)
