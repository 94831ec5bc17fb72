"""Classic mistakes, planted in otherwise honest cores: the swarm finds each and makes it small.

Two thousand seeds are the limit for finding one; the first that fails is named here so that the
suite stays quick, and the search starts a little before it.
"""

import tomllib
from dataclasses import dataclass, field
from typing import Any

import pytest

from replication.plan.scenario import read_scenario
from replication.protocol import Family
from replication.simulation.execute import simulate
from replication.simulation.judging import judge
from replication.simulation.pool import swarm
from replication.simulation.shrinking import shrink_seed

SEEDS_MAX = 2_000
FAULTS_MAX = 5
OPERATIONS_MAX = 20


@dataclass(frozen=True)
class Planted:
    backend: str
    checks: tuple[str, ...]  # one of them is broken
    first_seed: int  # that fails, or a few before
    tables: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, Any] = field(default_factory=dict)

    @property
    def family(self) -> Family:
        return Family.LEADER if "planted_raft" in self.backend else Family.LEADERLESS

    def scenario(self) -> dict[str, Any]:
        return {
            "title": f"Planted: {self.backend}",
            "question": "Is it found?",
            "run": {"settle": "10s"},
            "cluster": {self.family.value: self.backend},
            "workload": {"mix": {"get": 0.4, "put": 0.6}},
            **self.tables,
            "swarm": {
                "duration": ["500ms", "2s"],
                "rate": ["50/s", "150/s"],
                **self.limits,
            },
        }


SMALL = {"nodes": [3], "clients": [2, 3], "keys": [1, 1], "duration": ["400ms", "1s"]}
PLANTED = [
    Planted("tests.support.planted_raft:votes_twice", ("One vote per term",), 90),
    Planted(
        "tests.support.planted_raft:commits_older_terms",
        ("Leader Completeness", "State Machine Safety"),
        885,
        # Entries one by one over a slow network, and deaths close to each other: a leader has to
        # die between the first entry that it sends and its own. Otherwise an entry of the new term
        # commits in the same message.
        tables={
            "workload": {"mix": {"get": 0.1, "put": 0.9}},
            "leader": {
                "raft-commits-older-terms": {
                    "heartbeat": "10ms",
                    "election_timeout_min": "40ms",
                    "election_timeout_max": "90ms",
                    "append_entries_max": 1,
                    "inflight_appends_max": 1,
                }
            },
            "simulation": {
                "network": {"delay": {"low": "1ms", "high": "15ms"}},
                "processor": {"start": "3ms"},
            },
        },
        limits={
            "nodes": [3],
            "clients": [2, 3],
            "keys": [1, 2],
            "duration": ["400ms", "700ms"],
            "rate": ["100/s", "200/s"],
            "faults": [4, 7],
            "fault_kinds": ["kill"],
            "fault_length": ["40ms", "160ms"],
            "reorder": 0.0,
            "duplicate": 0.0,
        },
    ),
    Planted(
        "tests.support.planted_raft:sends_before_persist",
        ("An entry is durable before it is acknowledged",),
        1,
        limits=SMALL,
    ),
    Planted("tests.support.planted_raft:cuts_what_matches", ("Only a conflict cuts a log",), 1),
    Planted(
        "tests.support.planted_raft:reads_unconfirmed",
        ("Linearizable reads see acknowledged writes",),
        20,
        limits={**SMALL, "rate": ["20/s", "60/s"]},
    ),
    Planted(
        "tests.support.planted_dynamo:repair_overwrites",
        ("What a replica has seen only grows",),
        10,
    ),
    Planted("tests.support.planted_dynamo:loses_contexts", ("Contexts only grow",), 1),
    Planted(
        "tests.support.planted_dynamo:forgets_its_incarnation",
        ("A dot names one write",),
        20,
        limits={"fault_kinds": ["kill", "pause", "partition", "wipe"]},
    ),
]


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.backend.split(":")[1])
def test_a_planted_mistake_is_found_and_made_small(planted: Planted) -> None:
    raw, family = planted.scenario(), planted.family
    found = swarm(
        raw,
        "planted",
        range(planted.first_seed, SEEDS_MAX + 1),
        families=[family],
        jobs=1,
        stop_at_first=True,
    )
    [failed] = found.failed
    assert failed.failure is not None
    assert failed.failure.check in planted.checks

    shrunk = shrink_seed(raw, "planted", failed.seed, family, enough=(FAULTS_MAX, OPERATIONS_MAX))
    assert shrunk is not None
    assert shrunk.failure.check == failed.failure.check
    assert shrunk.faults <= FAULTS_MAX
    assert shrunk.operations <= OPERATIONS_MAX
    assert shrunk.failure.check in shrunk.story[-1]

    tables = tomllib.loads(shrunk.toml())
    for _ in range(3):
        again = judge(simulate(read_scenario(tables, "planted", "shrunk.toml").plan, family))
        assert again == shrunk.failure
