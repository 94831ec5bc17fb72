"""Starting, watching, pausing, killing and asking the processes of one cluster on this machine.

    ports       loopback ports that stay reserved while their node is down
    zygote      where nodes come from: a process that has imported what they need, and forks
    process     one node process: its life, and the evidence of what was done to it
    control     the control calls, with the cluster's secret and a deadline on each
    launcher    ``Cluster``: all nodes of one cluster, started together, stopped on every way out
    detached    clusters that outlive the command that started them (``up``, ``down``, ``status``)
    supervisor  the process that owns a detached cluster
    by_hand     what a person does to one: kill, pause, cut, heal

No node survives its owner. The owner stops all of them on every way out; when it is killed itself,
each node sees the end of its standard input, and on Linux gets a signal (``replication.host``).
"""

import replication.client  # noqa: F401  (tells gRPC to be quiet, which must come before its import)
