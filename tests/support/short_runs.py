"""Plans of a second or two for real processes, and what must not be left of them."""

import json
from pathlib import Path
from typing import Any

from replication.cluster.process import process_state
from replication.plan.plan import Plan
from replication.plan.scenario import read_scenario


def plan(
    *faults: dict[str, Any],
    duration: str = "1500ms",
    cluster: dict[str, Any] | None = None,
    **workload: Any,
) -> Plan:
    scenario = {
        "title": "A short run",
        "question": "Does the runner do what the plan says?",
        "run": {
            "duration": duration,
            "warmup": "200ms",
            "settle": "1s",
            "operation_timeout": "1s",
        },
        "cluster": cluster or {"nodes": 3},
        "workload": {
            "clients": 6,
            "mix": {"get": 0.5, "put": 0.5},
            "keys": {"count": 10},
            "arrival": {"kind": "open", "rate": "200/s"},
            **workload,
        },
        "fault": list(faults),
    }
    return read_scenario(scenario, "short", "short.toml").plan


def pids(folder: Path, nodes: str = "n*") -> list[int]:
    """Return every process id that the nodes below ``folder`` have told of."""
    found = []
    for path in folder.rglob(f"{nodes}/events.jsonl"):
        events = map(json.loads, path.read_text().splitlines())
        found += [event["pid"] for event in events if event["event"] == "node_started"]
    return found


def assert_nothing_left(folder: Path) -> None:
    left = [pid for pid in pids(folder) if process_state(pid) not in "XZ"]
    assert not left
