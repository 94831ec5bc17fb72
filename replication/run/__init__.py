"""Executes a plan on a cluster of real processes.

timers    a heap of moments on one kernel timer, precise to a tenth of a millisecond
wires     the network between clients and nodes: what partitions do to it
load      the load driver: performs the sessions of all clients, on time
cuts      link faults in force, and what they did
nemesis   all faults of a plan, in step with its schedule
settle    after healing: when do all replicas hold the same
record    what else the history holds: events of the nodes, counters, the disk's own speed
progress  what is told while it works
execute   one side of a run from start to end
both      both sides, with the same faults
"""

from replication.run.both import execute_both
from replication.run.execute import Execution, execute
from replication.run.progress import Progress, Stage

__all__ = ["Execution", "Progress", "Stage", "execute", "execute_both"]
