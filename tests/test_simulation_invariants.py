"""Every invariant of a family is broken by some mistake, and kept by the honest core."""

from contextlib import nullcontext
from typing import Any

import pytest

from leader.raft import RaftSettings
from leader.raft.invariants import RaftInvariants
from leaderless.dynamo import DynamoSettings
from leaderless.dynamo.invariants import DynamoInvariants
from replication.protocol import Family
from replication.simulation.invariants import find_invariants
from replication.simulation.pool import swarm
from replication.v1 import storage_pb2


def scenario(backend: str) -> dict[str, Any]:
    family = Family.LEADER if "raft" in backend else Family.LEADERLESS
    return {
        "title": "t",
        "question": "q",
        "cluster": {family.value: backend},
        "workload": {"mix": {"get": 0.4, "put": 0.6}},
        "swarm": {"nodes": [3], "duration": ["300ms", "1s"], "fault_length": ["20ms", "400ms"]},
    }


@pytest.mark.parametrize(
    ("name", "checks"),
    [
        (
            "raft:leads_unelected",
            # Whoever sees it first: the watcher, or the core that hears of two leaders.
            ("Election Safety", "a term has one leader at most"),
        ),
        ("raft:alters_entries", ("Log Matching",)),
        ("raft:forgets_its_term", ("Terms do not go back", "Votes are durable")),
        (
            "dynamo:keeps_one_of_two",
            ("A version goes only when a write that had read it comes",),
        ),
        ("dynamo:sends_before_it_persists", ("An acknowledged write is durable",)),
    ],
)
def test_a_mistake_breaks_its_invariant(name: str, checks: tuple[str, ...]) -> None:
    backend = f"tests.support.planted_{name}"
    family = Family.LEADER if "raft" in name else Family.LEADERLESS
    report = swarm(
        scenario(backend), name, range(1, 300), families=[family], jobs=1, stop_at_first=True
    )
    [failed] = report.failed
    assert failed.failure is not None
    assert failed.failure.in_flight
    assert failed.failure.check in checks, failed.failure


def test_invariants_are_found_beside_a_package_or_inside_a_module() -> None:
    nodes = ("n1", "n2", "n3")

    for path, settings, expected in (
        ("leader.raft:backend", RaftSettings(), RaftInvariants),
        ("tests.support.planted_raft:votes_twice", RaftSettings(), RaftInvariants),
        ("leaderless.dynamo:backend", DynamoSettings(), DynamoInvariants),
    ):
        make = find_invariants(path)
        assert make is not None
        assert isinstance(make(settings, nodes), expected)
    assert find_invariants("tests.support.scripted_core:scripted_backend") is None


@pytest.mark.parametrize(
    ("level", "ppm", "judged"),
    [
        (storage_pb2.CONSISTENCY_LEASE, 0, True),
        (storage_pb2.CONSISTENCY_LEASE, 50_000, True),
        (storage_pb2.CONSISTENCY_LEASE, 150_000, False),
        (storage_pb2.CONSISTENCY_LEASE, -100_000, False),
        (storage_pb2.CONSISTENCY_UNSPECIFIED, 150_000, True),
        (storage_pb2.CONSISTENCY_LOCAL, 0, False),
    ],
)
def test_a_lease_promises_what_the_rates_of_clocks_allow(
    level: storage_pb2.Consistency, ppm: int, judged: bool
) -> None:
    watcher = RaftInvariants(RaftSettings(clock_drift_max=0.1), ("n1", "n2"))
    written = storage_pb2.PutResponse(served=storage_pb2.Served(log_index=7))
    read = storage_pb2.GetRequest(key="k", consistency=level)
    old = storage_pb2.GetResponse(served=storage_pb2.Served(log_index=6))
    watcher.clock_runs("n1", 0)
    watcher.clock_runs("n2", ppm)
    watcher.clock_runs("n2", 0)  # a lease of that time may last on
    watcher.replied("n1", storage_pb2.PutRequest(key="k"), written)
    watcher.submitted("n1", read)

    with pytest.raises(AssertionError, match=r"§6\.4") if judged else nullcontext():
        watcher.replied("n1", read, old)
