"""Prints a digest of each seed's history: ``python -m tests.support.history_digests 1 20``."""

import sys
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from replication.history_files import write_history
from replication.plan.model import FaultKind, PartitionShape, PlannedFault
from replication.protocol import Family
from replication.simulation.delays import Lognormal
from replication.simulation.execute import simulate
from replication.simulation.settings import ClockSettings, NetworkSettings, SimulationSettings
from tests.support.plans import MILLISECOND_NS, make_plan

# Every source of chance is in use.
ROUGH = SimulationSettings(
    network=NetworkSettings(
        within=Lognormal(200_000, 0.5), loss=0.01, duplicate=0.01, reorder=0.02
    ),
    clock=ClockSettings(offset_ns_max=10 * MILLISECOND_NS, drift_ppm_max=100),
)


def fault(
    number: int, kind: FaultKind, at_ms: int, until_ms: int, target: str, **details: object
) -> PlannedFault:
    """Return a planned fault with one target for both sides."""
    return PlannedFault(
        number,
        kind,
        at_ms * MILLISECOND_NS,
        until_ms * MILLISECOND_NS,
        dict.fromkeys(Family, target),
        True,
        **details,  # type: ignore[arg-type]
    )


def digests(first: int, last: int) -> list[str]:
    """Return one line per seed and side: seed, side, digest of both history files."""
    lines = []
    for seed in range(first, last + 1):
        faults = (
            fault(1, FaultKind.KILL, 150, 350, "leader"),
            fault(2, FaultKind.PARTITION, 400, 550, "random", shape=PartitionShape.ISOLATE),
            fault(3, FaultKind.PAUSE, 420, 500, "random"),
        )
        plan = make_plan(
            seed=seed, seconds=0.6, rate_per_s=120, keys=4, faults=faults, settle_seconds=0.3
        )
        resolved = None
        for family in Family:
            simulated = simulate(plan, family, ROUGH, resolved)
            resolved = simulated.resolved
            assert simulated.broken is None, (seed, simulated.broken)
            with TemporaryDirectory() as folder:
                write_history(simulated.history, Path(folder))
                digest = sha256()
                for name in ("history.jsonl", "events.jsonl"):
                    digest.update((Path(folder) / name).read_bytes())
            lines.append(f"{seed} {family.value} {digest.hexdigest()}")
    return lines


if __name__ == "__main__":
    print("\n".join(digests(int(sys.argv[1]), int(sys.argv[2]))))
