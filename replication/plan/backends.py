"""Backends as scenarios name them: an installed one by its name, anybody's by its path."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TypeAlias

from replication.protocol import Backend, load_backend


@dataclass(frozen=True, slots=True)
class FoundBackend:
    """A backend and where it was found."""

    path: str  # "package.module:attribute"
    backend: Backend


FindBackend: TypeAlias = Callable[[str], FoundBackend]


def find_backend(name: str) -> FoundBackend:
    """Return the backend registered as ``name``, or the one at ``package.module:attribute``.

    Raises ConfigError as ``load_backend`` does. Imports the module of the backend.
    """
    backend = load_backend(name)
    if ":" in name:
        return FoundBackend(name, backend)
    paths = {each.name: each.value for each in entry_points(group="replication.backends")}
    return FoundBackend(paths[name], backend)
