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
