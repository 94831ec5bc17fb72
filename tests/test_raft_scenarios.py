"""Raft through whole scenarios: writes that are sent again, and leases under clocks that lie."""

from typing import Any

from replication.analysis import Verdict, analyse
from replication.plan.scenario import read_scenario
from replication.protocol import Family
from replication.simulation.execute import Simulated, simulate
from replication.simulation.judging import judge

RETRIED: dict[str, Any] = {
    "title": "Answers are lost",
    "question": "Does a write that is sent again take effect once?",
    "run": {"duration": "4s", "warmup": "0s", "settle": "1s", "operation_timeout": "1s"},
    "cluster": {"nodes": 3},
    "workload": {
        "clients": 12,
        "keys": {"count": 1},
        "mix": {"get": 0.5, "put": 0.5},
        "arrival": {"kind": "closed", "think": "10ms"},
        "retries": 5,
    },
    "fault": [
        {
            "kind": "loss",
            "target": [f"c{number}" for number in range(1, 9)],
            "at": "200ms",
            "for": "3600ms",
            "loss": 0.4,
        }
    ],
}
LEASED: dict[str, Any] = {
    "title": "Clocks run apart",
    "question": "Do reads by lease see every write?",
    "run": {"duration": "4s", "warmup": "0s", "settle": "1s"},
    "cluster": {"nodes": 3},
    "workload": {
        "clients": 6,
        "keys": {"count": 1},
        "mix": {"get": 0.6, "put": 0.4},
        "arrival": {"kind": "open", "rate": "300/s"},
        "consistency": {"leader": {"get": "lease"}},
    },
}


def simulated(tables: dict[str, Any], **settings: object) -> Simulated:
    raft = {**tables, "leader": {"raft": settings}}
    result = simulate(read_scenario(raft, "raft", "raft").plan, Family.LEADER)
    assert result.broken is None, result.broken
    assert not result.history.problems
    return result


def test_a_write_that_is_sent_again_takes_effect_once_with_sessions_and_twice_without() -> None:
    with_sessions, without = simulated(RETRIED), simulated(RETRIED, sessions=False)
    for each in (with_sessions, without):
        writes = [operation for operation in each.history.operations if operation.kind.is_write]
        assert sum(write.attempts > 1 for write in writes) > 10
    once, twice = analyse(with_sessions.history).findings, analyse(without.history).findings
    assert once["linearizability"].promised
    assert once["linearizability"].verdict is Verdict.VALID
    assert once["durability"].counts["duplicated"] == 0
    assert twice["linearizability"].verdict is Verdict.VIOLATED
    assert twice["durability"].counts["duplicated"] > 0
    assert "writes took effect twice" in twice["durability"].summary
    assert not twice["linearizability"].promised
    assert not twice["durability"].promised
    assert judge(without) is None
    assert "may take effect twice" in without.history.promise


def test_clocks_that_drift_apart_by_more_than_the_bound_end_leases_and_by_less_do_not() -> None:
    drifts = {"n1": 100_000, "n2": 100_000, "n3": -100_000}
    faults = [
        {"kind": "clock", "target": node, "at": "500ms", "for": "3s", "drift_ppm": ppm}
        for node, ppm in drifts.items()
    ]
    isolated = {"kind": "partition", "shape": "isolate", "target": "leader"}
    faults.append({**isolated, "at": "2500ms", "for": "700ms"})
    degraded = []
    for bound in (0.01, 0.3):
        found = simulated({**LEASED, "fault": faults}, clock_drift_max=bound)
        counters = found.history.counters.values()
        assert sum(each["lease_reads"] for each in counters) > 100
        degraded.append(sum(each["lease_reads_degraded"] for each in counters))
        assert analyse(found.history).findings["linearizability"].verdict is Verdict.VALID
    assert degraded[0] > 10 > degraded[1]


def test_a_leader_that_is_restarted_hands_over_before_as_a_process_does() -> None:
    mix = {**LEASED["workload"], "mix": {"get": 0.2, "put": 0.8}}
    restart = [{"kind": "restart", "at": "1s", "target": "leader"}]
    found = simulated({**LEASED, "workload": mix, "fault": restart})
    assert found.history.faults[0].evidence[0].endswith("ended cleanly")
    analysis = analyse(found.history)
    assert analysis.availability["writes"].longest_outage_ns < 100_000_000  # no election timeout
    assert analysis.findings["linearizability"].verdict is Verdict.VALID
