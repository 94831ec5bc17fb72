"""Primary-backup under everything at once, many seeds, each another world; and its wounds shown."""

from collections.abc import Mapping
from typing import Any

import pytest

from replication.protocol import Family
from replication.simulation.seeds import run_seed

FAULT_KINDS = [
    *("kill", "restart", "pause", "partition", "delay", "loss"),
    *("power-loss", "clock-jump", "clock-drift", "slow-disk", "stalled-disk"),
]


def swarm(**settings: Any) -> Mapping[str, Any]:
    return {
        "title": "A swarm of primaries",
        "question": "Does anything break?",
        "run": {"settle": "3s", "operation_timeout": "600ms"},
        "cluster": {"leader": "primary_backup"},
        "leader": {"primary_backup": settings},
        "workload": {
            "clients": 4,
            "keys": {"count": 3},
            "mix": {"get": 0.5, "put": 0.4, "delete": 0.1},
            "arrival": {"kind": "open", "rate": "100/s"},
        },
        "swarm": {"fault_kinds": FAULT_KINDS},
    }


SETTINGS: list[dict[str, Any]] = [
    {},
    {"log_records_max": 20},
    {"mode": "sync", "remove_standby_after": "300ms"},
    {"mode": "sync"},
    {"mode": "async"},
    {"mode": "async", "fencing": False, "log_records_max": 20},
    {"async_after": "150ms", "fencing": False},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_it_keeps_its_promise_and_serves_after_healing(settings: dict[str, Any]) -> None:
    """Epochs, logs and, where nothing may be lost, every acknowledged write and every read."""
    acknowledged = 0
    for seed in range(1, 6):
        result = run_seed(swarm(**settings), "backups", seed, Family.LEADER)
        assert result.failure is None, f"seed {seed}: {result.failure}"
        acknowledged += result.acknowledged
    assert acknowledged > 400, "a world in which nothing happens judges nothing"


@pytest.mark.parametrize(
    ("seed", "settings"),
    [
        # A late copy of the last chunk of an old transfer took a standby back to where it had been.
        (12, {"log_records_max": 20}),
        (93, {"log_records_max": 20}),
        (16, {"mode": "async", "fencing": False, "log_records_max": 20}),
        (78, {"mode": "async", "fencing": False, "log_records_max": 20}),
    ],
)
def test_seeds_that_failed_once(seed: int, settings: dict[str, Any]) -> None:
    assert run_seed(swarm(**settings), "backups", seed, Family.LEADER).failure is None
