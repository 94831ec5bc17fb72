"""Single operations on a cluster that is up."""

import asyncio
import base64
import binascii
import json
import secrets
from typing import TYPE_CHECKING, Any, NoReturn

import click

from replication.cli.edge import ExitCode
from replication.cli.options import runs_option
from replication.history import Operation, OperationKind, Outcome

if TYPE_CHECKING:
    from replication.cluster.detached import Detached
    from replication.plan import PlannedOperation
    from replication.protocol import StorageResponse

LEVELS = ("one", "quorum", "all", "any", "linearizable", "lease", "local")


class Context(click.ParamType[bytes]):
    """A context as ``kv get`` printed it."""

    name = "context"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> bytes:
        """Return the bytes of a base64 text."""
        try:
            return value if isinstance(value, bytes) else base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            self.fail("not a context as 'kv get' prints it", param, ctx)


def _options(function: Any) -> Any:
    """Add the options of every operation."""
    decorators = (
        click.option("--cluster", metavar="NAME", help="Which, when several are up."),
        click.option("--node", metavar="NODE", help="Ask this node and no other."),
        click.option("--consistency", type=click.Choice(LEVELS), help="Else as the cluster is."),
        click.option(
            "--timeout", type=click.FloatRange(0.01, 60), default=2.0, show_default=True, help="s"
        ),
        click.option("--json", "as_json", is_flag=True, help="Everything the answer says."),
        runs_option,
    )
    for decorator in reversed(decorators):
        function = decorator(function)
    return function


replicas_option = click.option(
    "--replicas", type=click.IntRange(1, 51), help="Leaderless: an explicit R or W."
)
context_option = click.option(
    "--context",
    type=Context(),
    default=b"",
    help="Of the read that this write is based on; it supersedes what that read saw.",
)


@click.group("kv")
def kv_command() -> None:
    """Read and write keys of a cluster that is up (see `replication up`).

    \b
    $ replication up raft
    $ replication kv put color blue
    ok by n2, term 1, log index 4
    $ replication kv get color
    blue
    """


@kv_command.command("get")
@click.argument("key")
@replicas_option
@_options
def get_command(key: str, replicas: int | None, **options: Any) -> None:
    """Print every live value of KEY, one per line; siblings are several.

    Ends with 1 when the key is missing. With --json there is the context to pass to a later write.

    \b
    $ replication kv get color
    blue
    """
    operation, response = _perform(OperationKind.GET, key, options, replicas=replicas)
    live = [each for each in operation.seen if not each.tombstone]
    if options["as_json"]:
        _print_json(operation, response)
    for version in () if options["as_json"] else live:
        click.echo(version.value)
    if len(live) > 1:
        click.echo(f"{len(live)} siblings: concurrent writes that nobody has reconciled", err=True)
    if not live:
        click.echo(f"{key} is missing", err=True)
        raise SystemExit(1)


@kv_command.command("put")
@click.argument("key")
@click.argument("value")
@replicas_option
@context_option
@_options
def put_command(key: str, value: str, **options: Any) -> None:
    """Store VALUE under KEY.

    \b
    $ replication kv put color blue
    ok by n2, term 1, log index 4
    """
    _write(OperationKind.PUT, key, options, value=value)


@kv_command.command("delete")
@click.argument("key")
@replicas_option
@context_option
@_options
def delete_command(key: str, **options: Any) -> None:
    """Delete KEY; a tombstone stays in its place.

    \b
    $ replication kv delete color
    ok by n2, term 1, log index 5
    """
    _write(OperationKind.DELETE, key, options)


@kv_command.command("cas")
@click.argument("key")
@click.argument("value")
@click.option("--expected", help="What the key must hold; left out: it must be missing.")
@_options
def cas_command(key: str, value: str, expected: str | None, **options: Any) -> None:
    """Store VALUE under KEY if it still holds what is expected (compare-and-set).

    \b
    $ replication kv cas color green --expected blue
    ok by n2, term 1, log index 6
    """
    _write(OperationKind.COMPARE_AND_SET, key, options, value=value, expected=expected)


def _write(kind: OperationKind, key: str, options: dict[str, Any], **what: Any) -> None:
    what["replicas"] = options.pop("replicas", None)
    what["context"] = options.pop("context", b"")
    operation, response = _perform(kind, key, options, **what)
    if options["as_json"]:
        _print_json(operation, response)
    else:
        click.echo(f"ok by {served_by(operation)}")


def served_by(operation: Operation) -> str:
    """Return who served an operation, in words."""
    words = operation.node or "?"
    if operation.term is not None:
        words += f", term {operation.term}, log index {operation.log_index}"
    if operation.replicas:
        words += f", replicas {', '.join(operation.replicas)}"
    if operation.dot is not None:
        words += f", dot {operation.dot}"
    return words


def _perform(
    kind: OperationKind,
    key: str,
    options: dict[str, Any],
    replicas: int | None = None,
    context: bytes = b"",
    **what: Any,
) -> "tuple[Operation, StorageResponse]":
    from replication.cli.clusters import find_cluster
    from replication.errors import ConfigError
    from replication.plan import PlannedOperation
    from replication.protocol import Family

    state = find_cluster(options["runs"], options["cluster"])
    problems = []
    if options["node"] not in (None, *state.endpoints):
        problems.append(f"no node {options['node']!r}; there is {', '.join(state.endpoints)}")
    if replicas is not None and state.family is Family.LEADER:
        problems.append(f"--replicas is an R or W of a leaderless cluster, this is {state.backend}")
    if problems:
        raise ConfigError(problems)
    planned = PlannedOperation(
        client=f"cli-{secrets.token_hex(4)}",
        sequence=1,
        due_ns=None,
        kind=kind,
        key=key,
        consistency=options["consistency"],
        replicas=replicas or 0,
        **what,
    )
    call = _call(state, planned, options["node"], options["timeout"], context)
    operation, response = asyncio.run(call)
    if operation.outcome is not Outcome.OK or response is None:
        _refuse(operation)
    return operation, response


async def _call(
    state: "Detached",
    planned: "PlannedOperation",
    node: str | None,
    timeout_s: float,
    context: bytes,
) -> "tuple[Operation, StorageResponse | None]":
    from replication.client.grpc_client import UnaryClient
    from replication.client.session import Session
    from replication.plan import PlannedClient, Route

    nodes = tuple(state.endpoints)
    client = PlannedClient(planned.client, node or nodes[0], Route.PINNED if node else Route.FOLLOW)
    session = Session(client, state.family, nodes, int(timeout_s * 1e9))
    if context:
        session.carry(planned.key, context)
    calls = UnaryClient(state.endpoints)
    try:
        finished, response = await calls.run(session, planned)
    finally:
        await calls.close()
    return finished.operation, response


def _refuse(operation: Operation) -> NoReturn:
    """End with what is known: a definite failure is not an unknown outcome."""
    sure = operation.outcome is Outcome.FAIL
    fate = "failed" if sure else "unknown: it may have taken effect, or may yet"
    click.echo(f"{fate}: {operation.error}: {operation.message}", err=True)
    if operation.error == "InvalidRequest":
        raise SystemExit(int(ExitCode.USAGE))
    raise SystemExit(int(ExitCode.VIOLATED if sure else ExitCode.UNKNOWN))


def _print_json(operation: Operation, response: "StorageResponse") -> None:
    from dataclasses import asdict

    record: dict[str, Any] = {
        "key": operation.key,
        "outcome": operation.outcome.value,
        "served_by": operation.node,
        "attempts": operation.attempts,
    }
    for name in ("term", "log_index", "replicas", "fallbacks", "dot", "write_id"):
        record[name] = getattr(operation, name)
    record["versions"] = [asdict(version) for version in operation.seen]
    context = getattr(response, "context", b"")
    record["context"] = base64.b64encode(context).decode() if context else None
    click.echo(json.dumps(record, indent=2))
