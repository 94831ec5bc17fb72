"""How much faster than real time the simulation is, and how that grows with the cluster.

    uv run python -m tests.benchmarks.simulation_speed [--nodes 3 5 9] [--rate 1000] [--seconds 5]

One core, CPU time, the median of a few rounds. "load" is the ratio of virtual to real time under
load alone; "events" are actions of the timeline a second, start-up, settling and reading back
included. "bare" is without the invariants of the family. The reference is a loop of additions in
the same process: what ten million of them take says how fast this machine is just now. "per event"
is in additions, so it means the same on another machine. "none" is the emptiest core that copies a
write to all others (``relay_core.py``): what is faster than that is no simulation of a protocol.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from statistics import median
from time import process_time

from replication.plan.plan import Plan
from replication.protocol import Family
from replication.simulation.execute import simulate
from tests.support.plans import make_plan

ADDITIONS = 10_000_000


def measure(plan: Plan, family: Family, invariants: bool) -> tuple[float, float]:
    """Return (virtual over real time under load, events a second over all)."""
    marks: list[tuple[int, float]] = []
    begun = process_time()
    simulated = simulate(
        plan,
        family,
        invariants=invariants,
        progress=lambda now_ns, _: marks.append((now_ns, process_time())),
    )
    seconds = process_time() - begun
    assert simulated.broken is None, simulated.broken
    assert not simulated.history.problems, simulated.history.problems
    (first_ns, first_s), (last_ns, last_s) = marks[0], marks[-1]
    return (last_ns - first_ns) / 1e9 / (last_s - first_s), simulated.actions / seconds


def reference_s() -> float:
    """Return the CPU seconds that ADDITIONS additions take."""
    begun = process_time()
    total = 0
    for number in range(ADDITIONS):
        total += number
    return process_time() - begun


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one line per size and family."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, nargs="+", default=[3, 5, 9, 51])
    parser.add_argument("--rate", type=float, default=1000.0, help="operations a second in all")
    parser.add_argument("--seconds", type=float, default=5.0, help="of virtual time")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    addition_s = reference_s() / ADDITIONS
    print(f"reference: {addition_s * ADDITIONS:.2f} s for {ADDITIONS:,} additions")
    print("nodes  protocol    ops/s   load    load, bare   events/s  per event")
    for nodes in options.nodes:
        load = partial(
            make_plan,
            nodes=nodes,
            clients=20,
            keys=200,
            rate_per_s=options.rate,
            seconds=options.seconds,
            settle_seconds=0.5,
        )
        for name, family, plan in (
            ("leader", Family.LEADER, load()),
            ("leaderless", Family.LEADERLESS, load()),
            ("none", Family.LEADERLESS, load(leaderless="tests.benchmarks.relay_core:backend")),
        ):
            rounds = [
                (measure(plan, family, True), measure(plan, family, False))
                for _ in range(options.rounds)
            ]
            ratio, events = (median(full[part] for full, _ in rounds) for part in (0, 1))
            bare = median(without[0] for _, without in rounds)
            print(
                f"{nodes:5}  {name:10}  {options.rate:5.0f}  {ratio:5.1f} x  "
                f"{bare:8.1f} x  {events:10,.0f}  {1 / events / addition_s:9,.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
