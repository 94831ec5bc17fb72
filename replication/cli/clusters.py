"""Clusters to try by hand: started, looked at, stopped."""

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from replication.cli.options import format_option, runs_option
from replication.errors import ConfigError
from replication.protocol import Family

if TYPE_CHECKING:
    from rich.table import Table

    from replication.cluster.detached import Detached
    from replication.v1.control_pb2 import NodeStatus, StatusResponse

UP = "up"
WATCH_SECONDS = 0.2  # between looks
WATCH_TIMEOUT_S = 0.3  # a node that takes longer does not answer
NAME, NAME_WORDS = r"[A-Za-z0-9_][A-Za-z0-9._-]*", "letters, digits, dots, - and _"


def find_cluster(runs: Path, name: str | None) -> "Detached":
    """Return the cluster of this name, or the only one that is up; raise ConfigError."""
    found = find_clusters(runs, name)
    if len(found) > 1:
        names = ", ".join(state.name for state in found)
        raise ConfigError([f"several clusters are up: {names}; say which, by name"])
    return found[0]


def find_clusters(runs: Path, name: str | None) -> "list[Detached]":
    """Return the cluster of this name, or all that are up; raise ConfigError when there is none."""
    from replication.cluster.detached import list_states

    alive = [state for state in list_states(runs / UP) if state.alive]
    if not alive:
        raise ConfigError([f"no cluster is up in {runs / UP}; start one: replication up raft"])
    found = [state for state in alive if name in (None, state.name)]
    if not found:
        names = ", ".join(state.name for state in alive)
        raise ConfigError([f"no cluster {name!r} is up; there is {names}"])
    return found


@click.command("up")
@click.argument("backend")
@click.option("--name", help="Of the cluster; the backend's name if not given.")
@click.option("--nodes", type=click.IntRange(1, 51), default=5, show_default=True)
@click.option(
    "--set", "overrides", multiple=True, metavar="SETTING=VALUE", help="A setting of the backend."
)
@click.option(
    "--sync",
    type=click.Choice(["always", "off"]),
    default="always",
    show_default=True,
    help="Whether writes are synced to disk before they count.",
)
@runs_option
def up_command(
    backend: str, name: str | None, nodes: int, overrides: tuple[str, ...], sync: str, runs: Path
) -> None:
    """Start a cluster of BACKEND on this machine and leave it running.

    BACKEND is raft, primary_backup, raftos, dynamo, or module:attribute. The data stay in
    runs/up/NAME for the next time.

    \b
    $ replication up dynamo --set w=1 --set r=1
    dynamo is up: 5 nodes
    n1  127.0.0.1:41873
    ...
    $ replication kv put color blue
    $ replication down
    """
    from replication.cluster.detached import up
    from replication.cluster.launcher import ClusterSpec
    from replication.plan import BackendChoice, find_backend
    from replication.plan.overrides import apply_overrides
    from replication.plan.problems import Problems
    from replication.plan.settings import read_settings

    found = find_backend(backend)
    name = name or found.backend.name
    problems = Problems("up")
    if not re.fullmatch(NAME, name):  # it becomes a folder
        problems.add_sentence((), f'--name: "{name}" is no name, expected {NAME_WORDS}')
    chosen, unfit = apply_overrides({}, overrides)
    for problem in unfit:
        problems.add_sentence((), problem)
    settings = read_settings(found.backend, chosen, (found.backend.name,), nodes, problems)
    problems.raise_if_any()
    state = up(
        name,
        ClusterSpec(
            nodes=tuple(f"n{number}" for number in range(1, nodes + 1)),
            backend=BackendChoice(backend, found.path, settings),
            family=found.backend.family,
            folder=runs / UP / name,
            sync=sync,
        ),
    )
    click.echo(f"{name} is up: {nodes} nodes. {found.backend.promise(settings)}")
    for node, address in state.endpoints.items():
        click.echo(f"{node:4} {address}  pid {state.pids[node]}")


@click.command("down")
@click.argument("name", required=False)
@click.option("--all", "everything", is_flag=True, help="Every cluster that is up.")
@runs_option
def down_command(name: str | None, everything: bool, runs: Path) -> None:
    """Stop the cluster NAME (may be left out when only one is up); its data stay.

    \b
    $ replication down
    raft is down
    """
    from replication.cluster.detached import down, list_states

    states = list(list_states(runs / UP)) if everything else [find_cluster(runs, name)]
    for state in states:
        words = "is down" if down(state) else "was gone already"
        click.echo(f"{state.name} {words}")


@click.command("status")
@click.argument("name", required=False)
@click.option("--watch", is_flag=True, help="Go on showing it, until Ctrl-C.")
@runs_option
@format_option("text", "json")
def status_command(name: str | None, watch: bool, runs: Path, output: str) -> None:
    """Show what each node of a cluster believes: role, term, leader, positions in the log.

    Without NAME, of every cluster that is up.

    \b
    $ replication status
    raft (runs/up/raft)
    node  role      term  leader  commit  applied  behind  keys  pid
    n1    follower     1  n3           7        7             3  4711
    n3    leader       1  n3           7        7  n2 4       3  4715
    ...
    """
    if watch and output == "json":
        raise ConfigError(["--watch shows a table, expected --format text with it"])
    if watch:
        asyncio.run(_watch(find_clusters(runs, name)))
        return
    if output == "json":
        from google.protobuf.json_format import MessageToDict

        statuses = asyncio.run(_statuses(find_cluster(runs, name)))
        record = {
            node: MessageToDict(answer, preserving_proto_field_name=True)
            for node, answer in statuses.items()
        }
        click.echo(json.dumps(record, indent=2))
        return
    from rich.console import Console

    for state in find_clusters(runs, name):
        click.echo(f"{state.name} ({state.folder})")
        Console().print(_table(state, asyncio.run(_statuses(state))))


async def _statuses(state: "Detached") -> "dict[str, StatusResponse]":
    from replication.cluster.control import Control

    control = Control(state.endpoints, state.secret)
    try:
        return await control.statuses(state.endpoints)
    finally:
        await control.close()


async def _watch(states: "list[Detached]") -> None:
    """Show the tables until Ctrl-C, or until all of these clusters are down."""
    from rich.console import Group
    from rich.live import Live

    from replication.cluster.control import Control

    controls = {state.name: Control(state.endpoints, state.secret) for state in states}

    async def look(state: "Detached") -> "dict[str, StatusResponse]":
        control = controls[state.name]
        found = await control.statuses(state.endpoints, WATCH_TIMEOUT_S)
        # A node that is started again is found by a fresh connection at once.
        for node in state.endpoints.keys() - found.keys():
            await control.forget(node)
        return found

    try:
        with Live(auto_refresh=False) as live:
            while up := [state for state in states if state.alive]:
                found = await asyncio.gather(*map(look, up))
                parts: list[Table | str] = []
                for state, statuses in zip(up, found, strict=True):
                    parts += [state.name, _table(state, statuses)]
                live.update(Group(*parts), refresh=True)
                await asyncio.sleep(WATCH_SECONDS)
    finally:
        for control in controls.values():
            await control.close()
    click.echo("nothing is up any more")


def _table(state: "Detached", statuses: "dict[str, StatusResponse]") -> "Table":
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    columns = _COLUMNS[state.family]
    for title in ("node", *columns, "pid"):
        table.add_column(title, no_wrap=title == "role")
    for node in state.endpoints:
        answer = statuses.get(node)
        if answer is None:
            table.add_row(node, "does not answer")
        else:
            cells = [str(show(answer.status)) for show in columns.values()]
            table.add_row(node, *cells, str(answer.host.pid))
    return table


def _role(status: "NodeStatus") -> str:
    from replication.v1 import event_pb2

    return event_pb2.Role.Name(status.role).removeprefix("ROLE_").lower().replace("_", "-")


def _alive(status: "NodeStatus") -> str:
    return f"{sum(peer.alive for peer in status.peers)} of {len(status.peers)} peers"


def _behind(status: "NodeStatus") -> str:
    """Return which followers of a leader lack entries that it has, and how many."""
    from replication.v1 import event_pb2

    if status.role != event_pb2.ROLE_LEADER:
        return ""
    lags = [(peer.node, status.last_index - peer.match_index) for peer in status.peers]
    return ", ".join(f"{node} {lag}" for node, lag in lags if lag > 0) or "nobody"


_COLUMNS: "dict[Family, dict[str, Callable[[NodeStatus], object]]]" = {
    Family.LEADER: {
        "role": _role,
        "term": lambda status: status.term,
        "leader": lambda status: status.leader or "unknown",
        "commit": lambda status: status.commit_index,
        "applied": lambda status: status.applied_index,
        "behind": _behind,
        "keys": lambda status: status.keys,
    },
    Family.LEADERLESS: {
        "role": _role,
        "sees alive": _alive,
        "keys": lambda status: status.keys,
    },
}
