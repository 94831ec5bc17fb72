"""Faults of a cluster that is up, struck by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from replication.cli.clusters import find_cluster
from replication.cli.options import runs_option


def _options(function: Any) -> Any:
    """Add the options of every fault."""
    cluster = click.option("--cluster", metavar="NAME", help="Which, when several are up.")
    return cluster(runs_option(function))


_nodes = click.argument("nodes", nargs=-1, required=True, metavar="NODE...")


@click.group("fault")
def fault_command() -> None:
    """Hurt a cluster that is up, and heal it (see `replication up`).

    NODE is a name, or "leader": whoever leads now. `replication status --watch` in another
    terminal shows what the others make of it.

    \b
    $ replication fault kill leader
    n3 (pid 4715) is gone: SIGKILL
    $ replication kv put color green
    ok by n1, term 2, log index 9
    $ replication fault start
    n3 (pid 4802) runs again
    """


def _strike(
    how: "Callable[[Any, list[str]], list[str]]",
    nodes: tuple[str, ...],
    name: str | None,
    runs: Path,
) -> None:
    from replication.cluster.by_hand import resolve

    state = find_cluster(runs, name)
    for words in how(state, resolve(state, nodes)):
        click.echo(words)


@fault_command.command("kill")
@_nodes
@_options
def kill_command(nodes: tuple[str, ...], cluster: str | None, runs: Path) -> None:
    """End nodes with SIGKILL, as a crash does; their data stay.

    \b
    $ replication fault kill n1 n2
    n1 (pid 4711) is gone: SIGKILL
    n2 (pid 4713) is gone: SIGKILL
    """
    from replication.cluster.by_hand import kill

    _strike(kill, nodes, cluster, runs)


@fault_command.command("pause")
@_nodes
@_options
def pause_command(nodes: tuple[str, ...], cluster: str | None, runs: Path) -> None:
    """Stop nodes in their tracks with SIGSTOP; they do not know it when they go on.

    \b
    $ replication fault pause leader
    n3 (pid 4715) stands still: SIGSTOP
    """
    from replication.cluster.by_hand import pause

    _strike(pause, nodes, cluster, runs)


@fault_command.command("resume")
@_nodes
@_options
def resume_command(nodes: tuple[str, ...], cluster: str | None, runs: Path) -> None:
    """Let paused nodes go on.

    \b
    $ replication fault resume n3
    n3 (pid 4715) runs: SIGCONT
    """
    from replication.cluster.by_hand import resume

    _strike(resume, nodes, cluster, runs)


@fault_command.command("cut")
@_nodes
@_options
def cut_command(nodes: tuple[str, ...], cluster: str | None, runs: Path) -> None:
    """Cut nodes off from all others, in the place of an earlier cut.

    Clients still reach everybody: `replication kv put KEY VALUE --node NODE` asks one side. Nodes
    that are down or paused are not told, those on the other side are.

    \b
    $ replication fault cut leader n2
    n3, n2 cut off from n1, n4, n5; told n1, n2, n3, n4, n5
    """
    from replication.cluster.by_hand import cut

    _strike(cut, nodes, cluster, runs)


@fault_command.command("start")
@_options
def start_command(cluster: str | None, runs: Path) -> None:
    """Start all nodes that are down.

    \b
    $ replication fault start
    n3 (pid 4802) runs again
    """
    from replication.cluster.by_hand import start

    for words in start(find_cluster(runs, cluster)):
        click.echo(words)


@fault_command.command("heal")
@_options
def heal_command(cluster: str | None, runs: Path) -> None:
    """Undo everything: resume who is paused, start who is down, take cuts back.

    \b
    $ replication fault heal
    n3 (pid 4802) runs again
    no links are cut; told n1, n2, n3, n4, n5
    """
    from replication.cluster.by_hand import heal

    for words in heal(find_cluster(runs, cluster)):
        click.echo(words)
