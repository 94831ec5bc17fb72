"""Classic mistakes planted in primary-backup: its invariants name each."""

import pytest

from replication.protocol import Family
from replication.simulation.pool import swarm


@pytest.mark.parametrize(
    ("name", "said", "first_seed"),
    [
        ("leads_unelected", "An epoch has one primary", 1),
        ("promotes_anybody", "No acknowledged write is lost", 5),
        ("never_resigns", "Reads of a primary see acknowledged writes", 75),
        ("forgets_its_epoch", "CorruptStore: log has epoch 1, the node is at 0", 1),
        ("alters_records", "Logs that agree somewhere agree before", 1),
    ],
)
def test_a_mistake_breaks_its_invariant(name: str, said: str, first_seed: int) -> None:
    raw = {
        "title": "Planted",
        "question": "Is it found?",
        "run": {"settle": "5s", "operation_timeout": "600ms"},
        "cluster": {"leader": f"tests.support.planted_backups:{name}"},
        "workload": {"mix": {"get": 0.4, "put": 0.6}},
        "swarm": {
            "nodes": [3, 5],
            "clients": [2, 4],
            "keys": [1, 2],
            "duration": ["800ms", "2s"],
            "rate": ["50/s", "150/s"],
            "fault_kinds": [
                *("kill", "restart", "pause", "partition", "delay", "loss", "power-loss")
            ],
        },
    }
    seeds = range(first_seed, first_seed + 100)
    report = swarm(raw, name, seeds, families=[Family.LEADER], jobs=1, stop_at_first=True)
    [failed] = report.failed
    assert failed.failure is not None
    assert failed.failure.in_flight
    assert failed.failure.check == said, failed.failure
