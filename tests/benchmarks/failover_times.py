"""How long a failover takes, simulated and on real processes, as two distributions.

    uv run python -m tests.benchmarks.failover_times [--simulated 200] [--real 20]

Both execute the leader side of leader-crash, each with a seed of its own per run: the same plan for
a seed wherever it runs. "detected" is the first election after the crash, "elected" a leader of a
later term, "write" the first write that it acknowledged, all counted from the crash; "outage" is
the longest stretch without an acknowledged write. "expected" is what the timeouts alone predict.

What differs, and why: real nodes detect later by what SIGKILL, the wake-up of a timer and a busy
machine take, and their votes and first writes wait for a disk that other processes use too. The
simulated machine room has no neighbours, so its tail is that of the randomised timeouts alone.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from replication import api
from replication.analysis.failover import failovers
from replication.analysis.findings import Failover
from replication.analysis.view import View
from replication.plan import Scenario, make_plan
from replication.protocol import Family
from replication.simulation.execute import simulate

SCENARIO = "leader-crash"
STEPS = {"detected": "detected", "elected": "elected", "first acknowledged write": "write"}
COLUMNS = ("detected", "elected", "write", "outage")


def simulated(scenario: Scenario, seed: int) -> Failover:
    """Return the failover of one seed in virtual time."""
    side = simulate(make_plan(scenario, seed), Family.LEADER, load_only=True)
    assert side.broken is None, side.broken
    return failovers(View(side.history))[0]


def real(scenario: Scenario, seed: int) -> Failover:
    """Return the failover of one seed on real processes."""
    with TemporaryDirectory() as folder:
        findings = api.run(scenario, (Family.LEADER,), seed, Path(folder))
    side = findings.sides[Family.LEADER.value]
    assert not side.problems, side.problems
    return side.failovers[0]


def times_ms(ledger: Failover) -> dict[str, float]:
    """Return what was measured of one failover; a step that was not seen is missing."""
    found = {
        STEPS[step.name]: step.after_fault_ns / 1e6
        for step in ledger.steps
        if step.name in STEPS and step.after_fault_ns is not None
    }
    return {**found, "outage": ledger.write_outage_ns / 1e6}


def show(title: str, ledgers: Sequence[Failover]) -> None:
    """Print the distribution of every step."""
    measured = [times_ms(each) for each in ledgers]
    print(f"{title}, {len(ledgers)} runs (ms)")
    print(f"  {'':9}  {'min':>6}  {'p10':>6}  {'p50':>6}  {'p90':>6}  {'max':>6}")
    for column in COLUMNS:
        values = sorted(each[column] for each in measured if column in each)
        if not values:
            print(f"  {column:9}  not seen")
            continue
        at = [values[round(share * (len(values) - 1))] for share in (0, 0.1, 0.5, 0.9, 1)]
        print(f"  {column:9}  {'  '.join(f'{each:6.0f}' for each in at)}")
    expected = [each.prediction for each in ledgers if each.prediction is not None]
    if expected:
        low, mean, high = (
            median(getattr(each, name) for each in expected) / 1e6
            for name in ("detected_low_ns", "detected_ns", "detected_high_ns")
        )
        print(f"  expected   detected after {mean:.0f}, nine times in ten {low:.0f} to {high:.0f}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both distributions."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulated", type=int, default=200, help="seeds 1 to this one")
    parser.add_argument("--real", type=int, default=20, help="likewise; 0 for none")
    options = parser.parse_args(arguments)
    scenario = api.load_scenario(SCENARIO)
    show("simulated", [simulated(scenario, seed) for seed in range(1, options.simulated + 1)])
    if options.real:
        show("real", [real(scenario, seed) for seed in range(1, options.real + 1)])


if __name__ == "__main__":
    main()
