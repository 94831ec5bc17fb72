"""One node process; started by launchers, not by people."""

import click


@click.command("node", hidden=True)
@click.argument("config", type=click.Path(exists=True, dir_okay=False))
def node_command(config: str) -> None:
    """Be the node that CONFIG (JSON) describes, until SIGTERM."""
    from replication.host.main import main

    raise SystemExit(main(config))
