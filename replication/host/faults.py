"""Loss and delay of peer messages, on purpose: enforced by the node that was told, per direction.

Delayed messages keep their own due times, so that many are in flight and a slow link is not also a
narrow one; with jitter they overtake each other, as packets do.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

from replication.v1 import event_pb2

DELAYED_MAX = 100_000  # per gate; beyond it a message counts as lost


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to each message of one direction of one link."""

    loss: float = 0.0  # probability, 0 to 1
    delay_ns: int = 0
    jitter_ns: int = 0  # uniform, 0 to this, added to the delay

    def joined(self, other: "Fault") -> "Fault":
        """Return both faults together: chances to survive multiply, delays add up."""
        return Fault(
            1 - (1 - self.loss) * (1 - other.loss),
            self.delay_ns + other.delay_ns,
            self.jitter_ns + other.jitter_ns,
        )


class Gate:
    """One direction of one link: decides for each message whether it passes and how late."""

    __slots__ = ("_rng", "delayed", "dropped", "fault", "in_flight")

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self.fault: Fault | None = None  # None: nothing to decide, the way most messages go
        self.dropped = 0
        self.delayed = 0
        self.in_flight = 0  # delayed and not yet due; the caller counts them

    def verdict(self) -> int | None:
        """Return by how many nanoseconds to delay the next message; None to drop it. Counts."""
        fault = self.fault
        if fault is None:
            return 0
        if self._rng.random() < fault.loss or self.in_flight >= DELAYED_MAX:
            self.dropped += 1
            return None
        delay_ns = fault.delay_ns
        if fault.jitter_ns:
            delay_ns += self._rng.randrange(fault.jitter_ns + 1)
        if delay_ns:
            self.delayed += 1
        return delay_ns


def by_direction(faults: Iterable[event_pb2.LinkFault]) -> dict[tuple[str, bool], Fault]:
    """Return the faults by (peer, inbound); several of one direction are joined."""
    joined: dict[tuple[str, bool], Fault] = {}
    for each in faults:
        fault = Fault(each.loss, each.delay_ns, each.jitter_ns)
        place = (each.peer, each.inbound)
        joined[place] = joined[place].joined(fault) if place in joined else fault
    return joined


def problems(faults: Iterable[event_pb2.LinkFault]) -> list[str]:
    """Return what is out of range, empty when all is well."""
    found = []
    for each in faults:
        if not 0 <= each.loss <= 1:
            found.append(f"loss of {each.peer} is {each.loss}, expected 0 to 1")
        if each.delay_ns < 0 or each.jitter_ns < 0:
            found.append(f"delay and jitter of {each.peer} must not be negative")
    return found
