"""Plans made in code, for tests that need one and no scenario file."""

from typing import Any

from replication.history import OperationKind
from replication.plan.backends import find_backend
from replication.plan.model import (
    BackendChoice,
    PlannedClient,
    PlannedFault,
    Route,
    Timing,
)
from replication.plan.plan import Plan
from replication.plan.workload import ClosedArrival, Keys, OpenArrival, RegisterWorkload, Workload
from replication.protocol import Family

SECOND_NS = 1_000_000_000
MILLISECOND_NS = 1_000_000


def make_plan(
    *,
    seed: int = 1,
    nodes: int = 5,
    clients: int = 4,
    rate_per_s: float | None = 200,
    keys: int = 20,
    seconds: float = 3,
    faults: tuple[PlannedFault, ...] = (),
    leader: str = "raft",
    leaderless: str = "dynamo",
    leader_settings: dict[str, Any] | None = None,
    leaderless_settings: dict[str, Any] | None = None,
    workload: Workload | None = None,
    route: Route = Route.FOLLOW,
    settle_seconds: float = 1,
) -> Plan:
    """Return a plan; ``rate_per_s=None`` makes the clients a closed loop."""
    names = tuple(f"n{number + 1}" for number in range(nodes))
    made = workload or RegisterWorkload(
        mix=(
            (OperationKind.GET, 0.5),
            (OperationKind.PUT, 0.45),
            (OperationKind.DELETE, 0.05),
        ),
        keys=Keys(keys),
        arrival=ClosedArrival() if rate_per_s is None else OpenArrival(rate_per_s),
        clients=clients,
        value_bytes=16,
        with_context=True,
    )
    return Plan(
        name="made-in-a-test",
        title="Made in a test",
        question="Does it work?",
        seed=seed,
        nodes=names,
        clients=tuple(
            PlannedClient(f"c{number + 1}", names[number % nodes], route)
            for number in range(clients)
        ),
        faults=faults,
        timing=Timing(
            warmup_ns=0,
            duration_ns=int(seconds * SECOND_NS),
            settle_ns=int(settle_seconds * SECOND_NS),
            operation_timeout_ns=SECOND_NS,
        ),
        sync="always",
        backends={
            Family.LEADER: _choice(leader, leader_settings or {}),
            Family.LEADERLESS: _choice(leaderless, leaderless_settings or {}),
        },
        expectations=(),
        workload=made,
        scenario={},
    )


def _choice(name: str, settings: dict[str, Any]) -> BackendChoice:
    found = find_backend(name)
    return BackendChoice(name, found.path, found.backend.settings_type(**settings))
