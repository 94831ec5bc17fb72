"""Every check there is: what it is called, what it finds, and where that comes from."""

from collections.abc import Callable
from dataclasses import dataclass

from replication.analysis import (
    causal,
    conflicts,
    convergence,
    durability,
    elements,
    freshness,
    linearizability,
    sequential,
    sessions,
)
from replication.analysis.findings import Finding
from replication.analysis.promised import reads_show_writes
from replication.analysis.view import View
from replication.history import History


@dataclass(frozen=True, slots=True)
class Check:
    """One check. ``judge`` looks at a view that checks share, ``run`` at a history alone."""

    name: str
    title: str
    finds: str  # what a VIOLATED shows
    source: str
    judge: Callable[[View], Finding]
    applies: Callable[[View], bool] = lambda _: True  # whether the workload has what it judges

    def run(self, history: History) -> Finding:
        """Return the finding of this check alone."""
        return self.judge(View(history))


CHECKS: tuple[Check, ...] = (
    Check(
        linearizability.NAME,
        linearizability.TITLE,
        "reads that contradict every order in which the operations of a key may have taken effect: "
        "stale reads, time that runs backwards, values from nowhere, siblings",
        "Herlihy and Wing 1990; zones: Gibbons and Korach 1997; search: Wing and Gong 1993, Lowe "
        "2017",
        linearizability.check,
        reads_show_writes,
    ),
    Check(
        sequential.NAME,
        sequential.TITLE,
        "operations that no single order of all explains, even if clocks are not kept: circles of "
        "orders that nobody can escape",
        "Lamport 1979; Gibbons and Korach 1997",
        sequential.check,
        reads_show_writes,
    ),
    Check(
        causal.NAME,
        causal.TITLE,
        "reads that lacked a write which they can have known of, through clients and values",
        "Ahamad et al. 1995; Bouajjani, Enea, Guerraoui and Hamza 2017 (POPL), bad patterns",
        causal.check,
        reads_show_writes,
    ),
    *(
        Check(
            name,
            sessions.TITLES[name],
            finds,
            "Terry et al. 1994 (session guarantees)",
            sessions.check(name),
            reads_show_writes,
        )
        for name, finds in (
            ("read-your-writes", "reads that lacked what their own client had written"),
            ("monotonic-reads", "reads that lacked what their own client had read before"),
            (
                "monotonic-writes",
                "reads that lacked an earlier write of somebody of whom a later one was seen",
            ),
            (
                "writes-follow-reads",
                "reads that lacked what the writer of a write that was seen had read before it",
            ),
        )
    ),
    Check(
        freshness.NAME,
        freshness.TITLE,
        "reads that missed an acknowledged write although the replicas asked and the replicas "
        "written, as claimed, overlap",
        "Gifford 1979; DeCandia et al. 2007 (Dynamo) §4.5",
        freshness.check,
        reads_show_writes,
    ),
    Check(
        durability.NAME,
        durability.TITLE,
        "acknowledged writes that neither can be read at the end nor can have been replaced, and "
        "failed writes that became visible",
        "replication.analysis.durability; after Jepsen's set workloads",
        durability.check,
        reads_show_writes,
    ),
    Check(
        conflicts.NAME,
        conflicts.TITLE,
        "acknowledged writes that were overwritten by somebody who had not read them; siblings "
        "where one order per key is promised",
        "DeCandia et al. 2007 (Dynamo) §4.4; Almeida et al. 2014 (dotted version vectors)",
        conflicts.check,
        reads_show_writes,
    ),
    Check(
        convergence.NAME,
        convergence.TITLE,
        "keys whose owners still hold different versions when the run stops watching",
        "Terry et al. 1995 (Bayou): eventual consistency; Raft §5.3",
        convergence.check,
    ),
    Check(
        elements.NAME,
        elements.TITLE,
        "elements of sets and lists that were acknowledged and are gone, stand there twice, come "
        "from nowhere, or change places",
        "Jepsen's checker set-full (jepsen.checker)",
        elements.check,
        elements.applies,
    ),
    Check(
        elements.COUNTER_NAME,
        elements.COUNTER_TITLE,
        "counters that show less than was acknowledged, or more than was begun",
        "Jepsen's checker counter (jepsen.checker)",
        elements.check_counter,
        elements.counts,
    ),
)
