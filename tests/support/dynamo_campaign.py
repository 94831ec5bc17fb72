"""Everything at once on leaderless clusters: swarms of the simulation, judged by their kind.

A seed draws a kind of swarm and then a scenario within its limits: members that come and go, every
fault of links, machines, disks and clocks, every setting. ``judge`` of the simulation finds what is
broken in any case; here is judged what only holds since the kind leaves something out.

python -m tests.support.dynamo_campaign 1000-1999
"""

import sys
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from replication.analysis import Verdict, analyse
from replication.history import History
from replication.plan.scenario import read_scenario
from replication.protocol import Family
from replication.simulation.draw import draw_scenario
from replication.simulation.execute import Simulated, simulate
from replication.simulation.judging import Failure, judge

Tables = dict[str, Any]

LINKS = (
    *("partition", "one-way", "bridge", "majorities-ring"),
    *("delay", "jitter", "loss", "duplicate", "reorder", "bandwidth"),
)
MACHINES = ("kill", "restart", "pause", "power-loss", "slow-disk", "stalled-disk")
CLOCKS = ("clock-jump", "clock-drift")
MEMBERS = ("join", "join", "leave")  # joins are twice as likely: they bring new disks

SETTINGS: Tables = {
    "n": [3],
    "r": [1, 2, 2, 2, 3],
    "w": [1, 2, 2, 2, 3],
    "quorum": ["strict"],
    "versions": ["dvv", "dvv", "hlc", "lww"],
    "hints": ["off", "buffered", "durable"],
    "read_repair": ["off", "async", "blocking"],
    "read_fanout": ["all", "digest"],
    "anti_entropy": ["0s", "100ms", "1s"],
    "detector": ["silence", "phi", "swim"],
    "purge": ["never", "after_repair"],
    "tombstone_grace": ["100ms", "600ms"],
    "transfer_bytes_per_s": [2_000, 100_000, 8_000_000],
    "partitions": [8, 64],
}


@dataclass(frozen=True)
class Kind:
    """A kind of swarm: what befalls a cluster, with which settings."""

    faults: tuple[str, ...]
    settings: Tables
    conditional: bool = False  # all writes are compare-and-set, all reads linearizable


KINDS = {
    "strict": Kind((*LINKS, *MACHINES, *CLOCKS, *MEMBERS), {}),
    "sloppy": Kind(
        (*LINKS, *MACHINES, *CLOCKS, *MEMBERS),
        {"quorum": ["sloppy"], "hints": ["buffered", "durable"]},
    ),
    "wipes": Kind(
        (*LINKS, *MACHINES, *CLOCKS, *MEMBERS, "wipe", "wipe", "wipe"),
        {"w": [2, 3], "r": [2, 3], "versions": ["dvv"]},
    ),
    "merkle": Kind(
        (*LINKS, *MACHINES, *CLOCKS, *MEMBERS),
        {"hints": ["off"], "read_repair": ["off"], "anti_entropy": ["100ms", "300ms"]},
    ),
    "hints": Kind(
        (*LINKS, "pause", "slow-disk", "stalled-disk", *CLOCKS),
        {
            "hints": ["buffered", "durable"],
            "quorum": ["strict", "sloppy"],
            "read_repair": ["off"],
            "anti_entropy": ["0s"],
            # No hint tells a replica that it may forget a key, when the word of it was lost.
            "purge": ["never"],
        },
    ),
    "reads": Kind(
        (*LINKS, *MACHINES, *CLOCKS, *MEMBERS),
        {"hints": ["off"], "read_repair": ["async", "blocking"], "anti_entropy": ["0s"]},
    ),
    "conditional": Kind((*LINKS, *MACHINES, *CLOCKS, *MEMBERS), {}, conditional=True),
    # Drawn from LATER on: what earlier seeds draw stays what it is.
    "replaced": Kind((*LINKS, *MACHINES, *CLOCKS, *MEMBERS, "replace"), {}),
    "eager": Kind((*LINKS, *MACHINES, *CLOCKS, *MEMBERS), {"ring_changes": ["eager"]}),
    "timed": Kind((*LINKS, *MACHINES, *CLOCKS, *MEMBERS), {"purge": ["time"]}),
}
FIRST_KINDS = 7
LATER = 1_060_000


def kind_of(seed: int) -> str:
    """Return the kind that a seed draws."""
    names = list(KINDS)
    return names[seed % (FIRST_KINDS if seed < LATER else len(names))]


def drawn(seed: int) -> Tables:
    """Return the scenario of a seed."""
    kind = KINDS[kind_of(seed)]
    workload: Tables = {"mix": {"get": 0.4, "put": 0.45, "delete": 0.15}}
    if kind.conditional:
        workload = {
            "mix": {"get": 0.4, "compare-and-set": 0.6},
            "consistency": {"leaderless": {"get": "linearizable"}},
        }
    raw: Tables = {
        "run": {"settle": "4s", "operation_timeout": "1s"},
        "workload": workload,
        "swarm": {
            "nodes": [3, 4, 5],
            "faults": [2, 9],
            "fault_kinds": list(kind.faults),
            "leaderless": {"dynamo": {**SETTINGS, **kind.settings}},
        },
    }
    tables = draw_scenario(raw, kind_of(seed), seed)
    settings = tables["leaderless"]["dynamo"]
    if settings["hints"] == settings["read_repair"] == "off" and settings["anti_entropy"] == "0s":
        # A replica that nothing repairs holds at the end what was deleted long ago (1050063).
        settings["anti_entropy"] = "100ms"
    # Fewer disks than W: what more lose, nobody promises.
    wipes = [each for each in tables["fault"] if each["kind"] == "wipe"]
    for each in wipes[settings["w"] - 1 :]:
        tables["fault"].remove(each)
    return tables


def run(seed: int) -> Simulated:
    """Simulate the leaderless side of a seed."""
    name = kind_of(seed)
    return simulate(read_scenario(drawn(seed), name, f"seed {seed}").plan, Family.LEADERLESS)


def failure(seed: int, simulated: Simulated) -> Failure | None:
    """Return what is broken, by what the kind of the seed promises."""
    history, name = simulated.history, kind_of(seed)
    found = judge(simulated)
    if found is not None and not _is_zombie(name, found, history):
        return found
    findings = analyse(history).findings
    demanded = []
    if name in ("merkle", "hints", "reads"):
        demanded.append("convergence")
    alone = name == "replaced" and history.settings["w"] == 1
    if history.settings["versions"] == "dvv" and not (name == "timed" or alone):
        # Also where a disk was wiped: fewer than W were.
        demanded.append("durability")
    if name == "conditional":
        demanded.append("linearizability")
    for check in demanded:
        finding = findings[check]
        if finding.verdict is Verdict.VIOLATED:
            words = finding.witnesses[0].words if finding.witnesses else ""
            return Failure(check, f"{finding.summary}. {words}")
    return None


def _is_zombie(name: str, found: Failure, history: History) -> bool:
    """Tell whether nothing is wrong but a deleted version that came back, as it may by time."""
    if name != "timed" or found.check != "durability":
        return False
    return analyse(history).findings["durability"].counts["lost"] == 0


def main(first: int, last: int) -> None:
    """Try seeds, print those that fail, and sums."""
    began = time.process_time()
    sums: dict[str, Counter[str]] = {name: Counter() for name in KINDS}
    for seed in range(first, last + 1):
        simulated = run(seed)
        broken = failure(seed, simulated)
        count = sums[kind_of(seed)]
        history = simulated.history
        count["seeds"] += 1
        count["failed"] += broken is not None
        count["faults"] += sum(fault.effective for fault in history.faults)
        for fault in history.faults:
            if fault.kind in ("join", "leave", "replace", "wipe"):
                count[fault.kind] += fault.effective
        count["operations"] += len(history.operations)
        count["acknowledged"] += sum(each.outcome.value == "ok" for each in history.operations)
        if broken is not None:
            print(f"{seed} {kind_of(seed)}: {broken.check}: {broken.text}"[:900], flush=True)
    for name, count in sums.items():
        print(name, dict(count))
    print(f"seeds {first}-{last}: {time.process_time() - began:.0f} s of CPU", flush=True)


if __name__ == "__main__":
    low, _, high = sys.argv[1].partition("-")
    main(int(low), int(high))
