"""Primary-backup under everything at once, many seeds, each another world; and its wounds shown."""

from collections.abc import Mapping
from typing import Any

import pytest

from replication.analysis import SideFindings, Verdict, analyse
from replication.api import load_scenario
from replication.protocol import Family
from replication.simulation import simulate
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
    for seed in range(1, 4):
        result = run_seed(swarm(**settings), "backups", seed, Family.LEADER)
        assert result.failure is None, f"seed {seed}: {result.failure}"
        acknowledged += result.acknowledged
    assert acknowledged > 250, "a world in which nothing happens judges nothing"


def test_it_serves_again_after_disks_were_lost() -> None:
    """At seed 23 an acknowledged write is gone with a disk: told, and no reason to stop."""
    raw = dict(swarm(log_records_max=20))
    raw["swarm"] = {"fault_kinds": ["kill", "wipe", "partition", "loss", "delay"]}
    for seed in (22, 23):
        assert run_seed(raw, "backups", seed, Family.LEADER).failure is None


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


FEWER_KEYS = ["workload.keys.count=300"]  # to read back


def side(scenario: str) -> SideFindings:
    found = analyse(simulate(load_scenario(scenario, FEWER_KEYS).plan, Family.LEADER).history)
    assert found.findings["convergence"].verdict is Verdict.VALID
    return found


def lost(found: SideFindings) -> int:
    return found.findings["durability"].counts["lost"]


def test_async_loses_acknowledged_writes_and_the_old_primary_names_them() -> None:
    """In 20 seeds async lost 7 to 16 of them each time, the other modes none."""
    scenario = load_scenario("async-loses-writes:async", FEWER_KEYS)
    history = simulate(scenario.plan, Family.LEADER).history
    found = analyse(history)
    assert lost(found) > 0
    assert not found.findings["durability"].promised
    named = {
        each["write_id"]
        for event in history.events
        if event.name == "log_truncated"
        for each in event.fields["acknowledged"]
    }
    for witness in found.findings["durability"].witnesses:
        assert "having acknowledged it" in witness.words
    acknowledged = {each.write_id for each in history.operations if each.outcome == "ok"}
    assert len(named & acknowledged) >= lost(found)


@pytest.mark.parametrize("mode", ["semi-sync", "sync"])
def test_synchronous_modes_lose_nothing_in_the_same_schedule(mode: str) -> None:
    found = side(f"async-loses-writes:{mode}")
    assert lost(found) == 0
    assert found.findings["durability"].promised
    assert found.verdict is Verdict.VALID


def test_without_fencing_two_primaries_acknowledge_at_once_and_every_loss_is_named() -> None:
    found = side("split-brain:fencing-off")
    (split,) = found.split_brains
    assert split.old_writes > 10
    assert split.new_writes > 10
    assert 0 < split.lost_count == len(split.lost)
    assert lost(found) > 0


@pytest.mark.parametrize("variant", ["fencing-on", "raft"])
def test_with_fencing_one_leader_acknowledges_and_nothing_is_lost(variant: str) -> None:
    found = side(f"split-brain:{variant}")
    assert not found.split_brains
    assert lost(found) == 0
