"""Every kind of fault on real processes: what it does and the evidence it leaves."""

import asyncio
from pathlib import Path

import pytest

from replication.protocol import Family
from replication.run.execute import execute
from tests.support.short_runs import assert_nothing_left, plan

pytestmark = pytest.mark.processes


def test_every_fault_of_links_counts_what_it_did(tmp_path: Path) -> None:
    window = {"at": "200ms", "for": "900ms"}
    faults = [
        {"kind": "jitter", "target": "all", "jitter": "2ms", **window},
        {"kind": "duplicate", "target": "leader", "duplicate": 0.5, **window},
        {"kind": "reorder", "target": "leader", "reorder": 0.5, "hold": "2ms", **window},
        {"kind": "bandwidth", "target": "leader", "bandwidth": "200KB/s", **window},
        {"kind": "loss", "target": "c1,c2", "loss": 0.3, **window},
    ]
    history = asyncio.run(execute(plan(*faults), Family.LEADER, tmp_path)).history
    assert_nothing_left(tmp_path)
    assert history.problems == []
    verbs = ("delayed", "duplicated", "reordered", "throttled", "dropped")
    for found, verb in zip(history.faults, verbs, strict=True):
        assert found.effective, found
        (words,) = found.evidence
        assert f" {verb} on " in words
    assert "between clients and nodes" in history.faults[-1].evidence[0]


def test_clocks_and_disks_go_wrong_and_are_put_right_again(tmp_path: Path) -> None:
    """Every node has something else; the one whose disk is full ends, and comes back."""
    window = {"at": "200ms", "for": "700ms"}
    faults = [
        {"kind": "clock", "target": "n1", "offset": "-2s", **window},
        {"kind": "clock", "target": "n1", "drift_ppm": 100000, **window},
        {"kind": "disk", "effect": "slow", "delay": "5ms", "target": "n1", **window},
        {"kind": "disk", "effect": "stall", "target": "n2", **window},
        {"kind": "disk", "effect": "full", "target": "n3", **window},
    ]
    echo = {"nodes": 3, "leaderless": "tests.support.echo_core:backend"}
    history = asyncio.run(execute(plan(*faults, cluster=echo), Family.LEADERLESS, tmp_path)).history
    assert_nothing_left(tmp_path)
    assert history.problems == []
    for found in history.faults:
        assert found.effective, found
    offset, drift, slow, stall, full = (each.evidence for each in history.faults)
    assert "behind now" in offset[0]
    assert offset[-1].endswith(" again")
    assert "ahead" in drift[-1] or "behind" in drift[-1]
    assert "syncs of n1 took 5ms longer" in slow[0]
    assert "syncs of n2 were stuck" in stall[0]
    assert "n3 ended by exit code 71 (the operating system refused a write)" in full[0]
    assert "n3 serves again" in full[1]


def test_power_loss_takes_what_was_not_synced(tmp_path: Path) -> None:
    lose = {"kind": "disk", "effect": "lose-unsynced", "target": "n1", "at": "700ms", "for": "1ms"}
    cluster = {"nodes": 3, "leaderless": "tests.support.echo_core:backend", "sync": "off"}
    history = asyncio.run(execute(plan(lose, cluster=cluster), Family.LEADERLESS, tmp_path)).history
    assert_nothing_left(tmp_path)
    assert history.problems == []
    (lost,) = history.faults
    assert lost.effective, lost
    assert "n1 lost " in lost.evidence[0]
    assert "n1 lost 0 bytes" not in lost.evidence[0]
    assert "signal 9" in lost.evidence[1]
    assert "serves again" in lost.evidence[2]
    starts = [each for each in history.events if each.name == "node_started"]
    recovered = [each.fields["recovered_records"] for each in starts if each.node == "n1"]
    assert recovered == [0, 0]
