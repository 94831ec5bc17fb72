"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

runs_option = click.option(
    "--out",
    "runs",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="Where the folders of runs are.",
)


def format_option(*formats: str) -> Decorator:
    """Return ``--format``, the first of ``formats`` being the default."""
    return click.option(
        "--format",
        "output",
        type=click.Choice(formats),
        default=formats[0],
        show_default=True,
        help="With json, only JSON is printed on standard output.",
    )
