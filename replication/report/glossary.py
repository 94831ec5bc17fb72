"""The words that reports use, explained for somebody who sees them for the first time."""

GLOSSARY: tuple[tuple[str, str], ...] = (
    ("ok", "The client got a positive answer: a write is acknowledged, a read returned."),
    ("fail", "It did not and never will take effect. A read without an answer is a fail too."),
    (
        "unknown",
        "The client cannot tell: the write may have taken effect, or may yet. Unknown writes stay "
        "possible to the end of every check.",
    ),
    (
        "PASS, FAIL, UNKNOWN",
        "The verdict on a promise: held, violated (with witnesses), or not shown either way. "
        "UNKNOWN is never a pass.",
    ),
    (
        "○",
        "A check that the side does not promise: held or not held, it fails nothing.",
    ),
    ("witness", "The few operations that prove a violation."),
    (
        "linearizable",
        "All operations on a key fit into one order that agrees with real time, as if there were "
        "one copy.",
    ),
    (
        "detected, elected, first acknowledged write, back to 95 %",
        "The steps of a failover, each counted from the fault: a node noticed, a new leader won, "
        "the first client was served, and the rate was 95 % of what it was before.",
    ),
    (
        "outage",
        "The longest stretch without a single acknowledged operation although some were due.",
    ),
    (
        "latency",
        "From the moment the plan intended the operation to start until the client had the answer; "
        "p50 is the median, 1 of 100 takes longer than p99.",
    ),
    (
        "sibling",
        "One of several versions of a key that were written without knowing of each other.",
    ),
    ("dot", "The name of a version: the node that coordinated its write and that node's counter."),
    (
        "vanished write",
        "An acknowledged write that no later writer had seen and that nobody can read any more.",
    ),
    (
        "stale read",
        "A read that returned a version although a newer one had been acknowledged before it "
        "began; its age is how long before.",
    ),
    (
        "fresh, by the time since the write",
        "Probabilistically bounded staleness: how likely a read returns the newest acknowledged "
        "write when it begins so long after it, measured, and drawn from the run's own delays.",
    ),
    ("convergence", "The moment when all replicas of every key were equal after healing."),
    (
        "generator-bound",
        "The load driver fell behind its own plan, so the numbers say more of it than of the "
        "clusters.",
    ),
    ("fdatasync", "How long this machine's disk took to make a write durable during the run."),
)
