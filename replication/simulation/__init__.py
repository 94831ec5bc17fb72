"""The same cores, the same plans, in virtual time, from one seed.

A simulation executes a Plan as ``replication.run`` does on real processes, and leaves the same
History; only ``simulated`` tells them apart. It has no clock, no thread and no task: one queue of
actions in integer nanoseconds (``timeline``), and chance from named streams of the seed. Equal
arguments give equal histories, byte for byte, in every process.

    one side of a plan        ``simulate`` (execute), with ``clients``, ``nemesis``
    the world                 ``world``: ``node`` (turns, timer) with ``effects`` (order, group
                              commit), ``disk``, ``clock``; ``network`` with ``delays``
    what it is like           ``settings``, read from a scenario's ``[simulation]`` by ``tables``
    what must hold            ``invariants`` finds a family's own, ``watching`` shows them each step
    many seeds                ``pool`` and ``seeds``: ``draw`` a scenario for each within
                              ``[swarm]``, simulate, judge (``judging``)
    a failure made small      ``shrinking``, told by ``telling``, written down by ``toml``

What a virtual node does is what the real host does, in the words of ``replication.protocol``: a
turn takes everything that has arrived and flushes once; nothing behind a ``Persist`` leaves before
the sync that covers it; what comes while a sync is in flight shares the next. A process that dies
loses its memory and what it had not written; of a sync in flight a random part survives. A process
that is paused goes on with everything that queued up, its timers overdue.

What differs from real processes: the costs of processing are constants, clients cost nothing, and
nobody else uses the machine. So latencies are of the right size and have no long tail of their own.
"""

from replication.simulation.draw import draw_scenario
from replication.simulation.execute import Broken, Simulated, refuse, simulate, simulate_both
from replication.simulation.judging import Failure, judge
from replication.simulation.pool import swarm
from replication.simulation.seeds import SeedResult, SwarmReport, simulate_seed
from replication.simulation.settings import (
    ClockSettings,
    DiskSettings,
    NetworkSettings,
    ProcessorSettings,
    SimulationSettings,
)
from replication.simulation.shrinking import Shrunk, shrink, shrink_seed
from replication.simulation.telling import story

__all__ = [
    "Broken",
    "ClockSettings",
    "DiskSettings",
    "Failure",
    "NetworkSettings",
    "ProcessorSettings",
    "SeedResult",
    "Shrunk",
    "Simulated",
    "SimulationSettings",
    "SwarmReport",
    "draw_scenario",
    "judge",
    "refuse",
    "shrink",
    "shrink_seed",
    "simulate",
    "simulate_both",
    "simulate_seed",
    "story",
    "swarm",
]
