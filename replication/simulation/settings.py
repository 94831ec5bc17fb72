"""What a simulated machine room is like; the defaults resemble node processes on one machine.

Everything here is a figure of the world, not of a protocol: delays, disks, processors, clocks.
"""

from dataclasses import dataclass, field

from replication.simulation.delays import Delay, Exponential, Lognormal

MICROSECOND_NS = 1_000
MILLISECOND_NS = 1_000_000


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """Delays are one way. A stream between two nodes keeps its order unless ``reorder`` says no.

    ``loss``, ``duplicate`` and ``reorder`` are probabilities per message between nodes, all the
    time; link faults of the plan come on top. A reordered message is held back by up to
    ``reorder_hold_ns`` while later ones pass. ``bandwidth_bytes_per_second`` is per link, 0 for
    no limit. What lies between regions comes from the plan.
    ``count_bytes`` measures messages for the history; without it bytes are reported as 0.
    """

    within: Delay = field(
        default_factory=lambda: Exponential(90 * MICROSECOND_NS, 40 * MICROSECOND_NS)
    )
    clients: Delay = field(
        default_factory=lambda: Exponential(120 * MICROSECOND_NS, 60 * MICROSECOND_NS)
    )
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    reorder_hold_ns: int = 5 * MILLISECOND_NS
    bandwidth_bytes_per_second: int = 0
    count_bytes: bool = True


@dataclass(frozen=True, slots=True)
class DiskSettings:
    """``commit`` is how long one sync takes, however much it covers (group commit).

    With ``sync`` off nothing waits for the disk, and losing power loses what the operating system
    had not written back by itself, which it does after ``write_back_ns``.
    """

    commit: Delay = field(default_factory=lambda: Lognormal(500 * MICROSECOND_NS, 0.35))
    sync: bool = True
    write_back_ns: int = 5_000 * MILLISECOND_NS


@dataclass(frozen=True, slots=True)
class ProcessorSettings:
    """What a node's one thread pays: per turn, per message of a peer, per operation of a client.

    A turn begins ``turn_ns`` after the first input of it has arrived and takes along what arrived
    until then. Effects leave at the end of the turn; inputs wait while it lasts, so a node that is
    asked more than ``1 / request_ns`` saturates. ``requests_max`` bounds the operations
    that are accepted and not answered, ``messages_max`` the frames that wait for a turn. Peers give
    up a connection that takes nothing for ``stall_ns``, and find a process that has come (back)
    within ``reconnect_ns``; what they send in between is lost.
    """

    turn_ns: int = 100 * MICROSECOND_NS
    message_ns: int = 10 * MICROSECOND_NS
    request_ns: int = 150 * MICROSECOND_NS
    requests_max: int = 8192
    messages_max: int = 16_384
    stall_ns: int = 500 * MILLISECOND_NS
    reconnect_ns: int = 80 * MILLISECOND_NS
    start_ns: int = 350 * MILLISECOND_NS  # from exec to serving, of a restarted process
    start_jitter_ns: int = 100 * MILLISECOND_NS
    start_spread_ns: int = 5 * MILLISECOND_NS  # within which the members of a cluster start


@dataclass(frozen=True, slots=True)
class ClockSettings:
    """Every node draws its wall clock's offset and its drift uniformly within these bounds."""

    offset_ns_max: int = 0
    drift_ppm_max: int = 0


@dataclass(frozen=True, slots=True)
class SimulationSettings:
    """The whole world."""

    network: NetworkSettings = field(default_factory=NetworkSettings)
    disk: DiskSettings = field(default_factory=DiskSettings)
    processor: ProcessorSettings = field(default_factory=ProcessorSettings)
    clock: ClockSettings = field(default_factory=ClockSettings)
