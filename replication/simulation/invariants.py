"""Finding the invariants of a backend: what must hold at every step of a simulation.

A family states its own. For the backend at ``package.module:attribute`` they are what the function
``invariants(settings, nodes)`` returns, a ``watching.Watcher``, that is found

- as attribute ``invariants`` of ``package.module`` when that is a function or has such a function
  (so a module of one file can define or borrow it), else
- in the submodule ``package.module.invariants``.

A backend that has neither is simulated without. Nothing here knows a family by its name, and a
family needs to import nothing from here: a broken invariant is an AssertionError that says in words
which one, and who.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, cast

from replication.protocol import NodeId
from replication.simulation.watching import Watcher

MakeWatcher = Callable[[Any, tuple[NodeId, ...]], Watcher]


def find_invariants(path: str) -> MakeWatcher | None:
    """Return what makes a watcher for the backend at ``path``, None if it states no invariants."""
    module_name = path.partition(":")[0]
    module = import_module(module_name)
    found = getattr(module, "invariants", None)
    if found is None and hasattr(module, "__path__"):
        name = f"{module_name}.invariants"
        found = import_module(name) if find_spec(name) is not None else None
    if found is not None and not callable(found):
        found = getattr(found, "invariants", None)
    return cast(MakeWatcher | None, found)
