"""What befalls peer messages on purpose: enforced by the node that was told, per direction.

Delayed messages keep their own due times, so that many are in flight and a slow link is not also a
narrow one; with jitter they overtake each other, as packets do. A narrow link is a queue: each
message waits for those before it to be sent.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

from replication.v1 import event_pb2

DELAYED_MAX = 100_000  # per gate; beyond it a message counts as lost
BACKLOG_NS_MAX = 2_000_000_000  # of a narrow link; what would wait longer finds its queue full

_AT_ONCE = (0,)
_LOST = ()


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to each message of one direction of one link."""

    loss: float = 0.0  # probability, 0 to 1
    delay_ns: int = 0
    jitter_ns: int = 0  # uniform, 0 to this, added to the delay
    duplicate: float = 0.0  # probability; the copy comes up to hold_ns later
    reorder: float = 0.0  # probability to be held back by up to hold_ns
    hold_ns: int = 0
    bytes_per_s: int = 0  # 0: no limit

    def joined(self, other: "Fault") -> "Fault":
        """Return both faults together: chances to escape multiply, delays add up."""
        limits = [each for each in (self.bytes_per_s, other.bytes_per_s) if each]
        return Fault(
            loss=_either(self.loss, other.loss),
            delay_ns=self.delay_ns + other.delay_ns,
            jitter_ns=self.jitter_ns + other.jitter_ns,
            duplicate=_either(self.duplicate, other.duplicate),
            reorder=_either(self.reorder, other.reorder),
            hold_ns=max(self.hold_ns, other.hold_ns),
            bytes_per_s=min(limits, default=0),
        )


def _either(one: float, other: float) -> float:
    return 1 - (1 - one) * (1 - other)


class Gate:
    """One direction of one link: decides for each message whether it passes and how late."""

    __slots__ = (
        *("_free_ns", "_rng", "delayed", "dropped", "duplicated", "fault", "in_flight"),
        *("reordered", "throttled"),
    )

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._free_ns = 0  # when a narrow link has sent what it was given
        self.fault: Fault | None = None  # None: nothing to decide, the way most messages go
        self.dropped = 0
        self.delayed = 0
        self.duplicated = 0
        self.reordered = 0
        self.throttled = 0
        self.in_flight = 0  # delayed and not yet due; the caller counts them

    def delays_ns(self, size: int, now_ns: int) -> tuple[int, ...]:
        """Return how late each copy of the next message arrives; none when it is lost. Counts."""
        fault = self.fault
        if fault is None:
            return _AT_ONCE
        chance = self._rng.random
        if chance() < fault.loss or self.in_flight >= DELAYED_MAX:
            self.dropped += 1
            return _LOST
        delay_ns = fault.delay_ns
        if fault.jitter_ns:
            delay_ns += self._rng.randrange(fault.jitter_ns + 1)
        self.delayed += delay_ns > 0
        if fault.bytes_per_s:
            free_ns = max(self._free_ns, now_ns) + size * 1_000_000_000 // fault.bytes_per_s
            if free_ns - now_ns > BACKLOG_NS_MAX:
                self.dropped += 1
                return _LOST
            self._free_ns = free_ns
            self.throttled += 1
            delay_ns += free_ns - now_ns
        if fault.reorder and chance() < fault.reorder:
            self.reordered += 1
            delay_ns += self._rng.randrange(fault.hold_ns + 1)
        if fault.duplicate and chance() < fault.duplicate:
            self.duplicated += 1
            return (delay_ns, delay_ns + self._rng.randrange(fault.hold_ns + 1))
        return (delay_ns,)


def by_direction(faults: Iterable[event_pb2.LinkFault]) -> dict[tuple[str, bool], Fault]:
    """Return the faults by (peer, inbound); several of one direction are joined."""
    joined: dict[tuple[str, bool], Fault] = {}
    for each in faults:
        fault = Fault(
            each.loss,
            each.delay_ns,
            each.jitter_ns,
            each.duplicate,
            each.reorder,
            each.hold_ns,
            each.bytes_per_s,
        )
        place = (each.peer, each.inbound)
        joined[place] = joined[place].joined(fault) if place in joined else fault
    return joined


def problems(faults: Iterable[event_pb2.LinkFault]) -> list[str]:
    """Return what is out of range, empty when all is well."""
    found = []
    for each in faults:
        for name in ("loss", "duplicate", "reorder"):
            share = getattr(each, name)
            if not 0 <= share <= 1:
                found.append(f"{name} of {each.peer} is {share}, expected 0 to 1")
        if min(each.delay_ns, each.jitter_ns, each.hold_ns) < 0:
            found.append(f"delay, jitter and hold of {each.peer} must not be negative")
    return found
