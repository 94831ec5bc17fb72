"""Which nodes serve one operation: the primaries of its key, or who stands in for them.

A strict quorum is made of primaries alone. A sloppy one (Dynamo §4.6) is made of the first N
healthy nodes of the walk around the ring: each node past the primaries that is needed stands in
for a primary that seems dead, and keeps what it gets for that one, with a hint.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from replication.protocol import NodeId

NOBODY: Final[Mapping[NodeId, NodeId]] = MappingProxyType({})


@dataclass(slots=True)
class Targets:
    """Who is asked, primaries first, and which of them stands in for whom.

    Not to be changed after it was made: a frozen class takes twice as long to make.
    """

    primaries: tuple[NodeId, ...]
    asked: tuple[NodeId, ...]
    stand_ins: Mapping[NodeId, NodeId]  # a fallback, and the primary it stands in for
    joint: tuple[tuple[NodeId, ...], ...] = ()  # while data moves: both sets need their quorum


def choose_targets(
    primaries: tuple[NodeId, ...],
    fallbacks: Sequence[NodeId],
    alive: Callable[[NodeId], bool],
    coordinator: NodeId,
) -> Targets:
    """Return the targets of an operation when ``fallbacks`` may stand in, in this order.

    A coordinator that is no primary takes part itself: who asked it could reach no primary. A dead
    primary for whom nobody is left stays among those that are asked.
    """
    dead = [primary for primary in primaries if not alive(primary)]
    free = [node for node in fallbacks if node != coordinator and alive(node)]
    if coordinator not in primaries:
        free.insert(0, coordinator)
        dead = dead or [primaries[-1]]
    elif not dead:
        return Targets(primaries, primaries, NOBODY)
    stand_ins = dict(zip(free, dead, strict=False))
    absent = stand_ins.values()
    present = [primary for primary in primaries if primary not in absent]
    return Targets(primaries, (*present, *stand_ins), stand_ins)
