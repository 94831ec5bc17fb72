"""Where errors become messages and verdicts become exit codes."""

from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NoReturn

import click

from replication.errors import ConfigError, OperationError, ReplicationError

if TYPE_CHECKING:
    from replication.analysis.findings import Verdict


class ExitCode(IntEnum):
    """What a command tells its shell."""

    MET = 0
    VIOLATED = 1
    USAGE = 2
    UNKNOWN = 3
    BROKEN = 4
    INTERRUPTED = 130


def exit_code(verdict: "Verdict", problems: Sequence[str], interrupted: bool) -> ExitCode:
    """Return the exit code of a run. A violation counts even if the run broke later on."""
    if interrupted:
        return ExitCode.INTERRUPTED
    if verdict == "violated":
        return ExitCode.VIOLATED
    if problems:
        return ExitCode.BROKEN
    return ExitCode.MET if verdict == "valid" else ExitCode.UNKNOWN


def fail(message: str, code: ExitCode) -> NoReturn:
    """Say on standard error what is wrong, and end."""
    for line in message.splitlines():
        click.echo(line, err=True)
    raise SystemExit(int(code))


class Edge(click.Command):
    """A command whose known errors are one-line messages, never tracebacks."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """See click; Ctrl-C ends with 130 wherever it comes."""
        try:
            return super().main(*args, **kwargs)
        except KeyboardInterrupt:
            fail("interrupted", ExitCode.INTERRUPTED)

    def invoke(self, ctx: click.Context) -> Any:
        """See click."""
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            fail("\n".join(error.problems), ExitCode.USAGE)
        except OperationError as error:
            fail(f"{error.reason}: {error.message}", ExitCode.VIOLATED)
        except ReplicationError as error:
            fail(str(error), ExitCode.BROKEN)
        except (click.Abort, KeyboardInterrupt):  # else click's main makes a 1 of it
            fail("interrupted", ExitCode.INTERRUPTED)
