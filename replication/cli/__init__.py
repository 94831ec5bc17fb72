"""The command line. One file per group of commands; the edge where errors become one-line messages.

Exit codes: 0 all expectations met, 1 violated, 2 usage, 3 unknown or inconclusive, 4 the run itself
broke, 130 interrupted (after healing).
"""

from difflib import get_close_matches
from importlib import import_module

import click

from replication.cli.edge import Edge, ExitCode

# Command -> module. A command's module is imported when it is called: `kv get` must not wait for
# the plotting of reports.
COMMANDS = {
    "compare": "compare",
    "run": "compare",
    "simulate": "simulate",
    "scenarios": "scenarios",
    "show": "scenarios",
    "validate": "scenarios",
    "report": "reports",
    "runs": "reports",
    "check": "check",
    "explain": "explain",
    "checks": "check",
    "export": "check",
    "up": "clusters",
    "down": "clusters",
    "status": "clusters",
    "fault": "fault",
    "kv": "kv",
    "node": "node",
}

EPILOG = """\b
First steps:
  replication compare leader-crash      both clusters, the same crash, side by side
  replication scenarios                 what else there is to ask
  replication up raft                   a cluster to try by hand: kv, fault, status

\b
Exit codes: 0 all expectations met, 1 violated, 2 usage, 3 unknown or inconclusive,
4 the run itself broke, 130 interrupted.
"""


class LazyGroup(Edge, click.Group):
    """Knows its commands by name and loads the module of the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command called ``cmd_name``, None when there is none."""
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        command = getattr(import_module(f"replication.cli.{module}"), f"{cmd_name}_command")
        assert isinstance(command, click.Command), f"{cmd_name} is not a command"
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """See click; an unknown command is told with the one that was probably meant."""
        meant = get_close_matches(args[0], COMMANDS, n=1)
        if args[0] not in COMMANDS and meant:
            ctx.fail(f"No such command '{args[0]}'. Did you mean '{meant[0]}'?")
        return super().resolve_command(ctx, args)


@click.command(
    cls=LazyGroup,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="replication")
def main() -> None:
    """Leader-based and leaderless replication side by side: same work, same faults, measured."""


__all__ = ["ExitCode", "main"]
