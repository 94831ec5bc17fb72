"""Fresh reads by the time since the write: what is measured, and that the prediction is true."""

from pathlib import Path

import pytest

from replication.analysis.staleness_findings import Pbs
from replication.analysis.t_visibility import pbs
from replication.analysis.view import View
from replication.history import History
from replication.plan.load import load_scenario
from replication.plan.scenario import make_plan
from replication.protocol import Family
from replication.simulation.delays import Exponential
from replication.simulation.execute import simulate
from replication.simulation.legs import Legs
from replication.simulation.settings import DiskSettings, NetworkSettings, SimulationSettings
from tests.support.histories import DELETE, FAIL, MS, UNKNOWN, Script

QUORUM = {"n": 3, "r": 1, "w": 1, "versions": "lww"}
DELAYS = {leg: [MS] for leg in ("write", "acknowledgement", "read", "response")}
SCENARIO = """
title = "Partial quorums without repair"
question = "How fresh are reads?"
[run]
duration = "{seconds}s"
warmup = "500ms"
settle = "1s"
operation_timeout = "2s"
[cluster]
nodes = 5
[leaderless.dynamo]
r = {r}
w = {w}
versions = "lww"
read_repair = "off"
anti_entropy = "0s"
[workload]
clients = 60
arrival = {{ kind = "open", rate = "{rate}/s" }}
mix = {{ get = 0.8, put = 0.2 }}
keys = {{ count = 24, pick = "uniform" }}
value_bytes = 10
"""


def simulated(
    folder: Path, r: int, w: int, seconds: int, rate: int, *, sync: bool = True
) -> History:
    """Return a run without repair on links that take 5 ms on average and vary widely."""
    path = folder / "partial-quorums.toml"
    path.write_text(SCENARIO.format(r=r, w=w, seconds=seconds, rate=rate))
    room = SimulationSettings(
        network=NetworkSettings(within=Exponential(0, 5 * MS)), disk=DiskSettings(sync=sync)
    )
    plan = make_plan(load_scenario(path), 3)
    return simulate(plan, Family.LEADERLESS, room, invariants=False, closely=True).history


def found(script: Script) -> Pbs:
    result = pbs(View(script.history))
    assert result is not None
    return result


def leaderless(**fields: object) -> Script:
    return Script(register=False, **{"settings": QUORUM, **fields})


def test_prediction_and_measurement_differ_by_less_than_a_percentage_point(tmp_path: Path) -> None:
    """20 s of 2,000 operations/s: 18,762 reads, 0.49 points; so few would differ by 0.52 anyway."""
    result = pbs(View(simulated(tmp_path, r=1, w=1, seconds=20, rate=2000)))
    assert result is not None
    assert result.rmse is not None
    assert result.rmse_by_chance is not None
    assert result.rmse < 0.01
    assert result.rmse < 1.5 * result.rmse_by_chance
    assert min(each.share for each in result.bins) < 0.7
    reads = sum(each.reads for each in result.bins)
    fresh = sum(each.fresh for each in result.bins)
    expected = sum(each.reads * (each.predicted or 0) for each in result.bins)
    stale = sum(each.reads * (each.predicted or 0) * (1 - (each.predicted or 0))
                for each in result.bins)  # fmt: skip
    assert abs(fresh - expected) < 4 * stale**0.5  # four standard deviations
    assert fresh < reads  # links are slow enough to show something
    assert set(result.drawn_from) == {
        "write", "acknowledgement", "read", "response", "forward", "backward", "own", "request",
        "reply",
    }  # fmt: skip


def test_overlapping_quorums_are_predicted_and_found_never_stale(tmp_path: Path) -> None:
    result = pbs(View(simulated(tmp_path, r=2, w=2, seconds=3, rate=1000)))
    assert result is not None
    assert result.bins
    assert all(each.fresh == each.reads for each in result.bins)
    assert {each.predicted for each in result.bins} == {1.0}
    assert result.rmse == 0.0


def test_the_own_copy_of_a_coordinator_takes_a_sync_if_there_are_any(tmp_path: Path) -> None:
    synced = simulated(tmp_path, r=1, w=1, seconds=1, rate=500).delays["own"]
    assert MS // 4 < sorted(synced)[len(synced) // 2] < MS, "half a millisecond"
    at_once = simulated(tmp_path, r=1, w=1, seconds=1, rate=500, sync=False).delays["own"]
    assert set(at_once) == {0}


def test_delays_of_the_time_while_a_fault_lasted_are_left_out() -> None:
    legs = Legs({})
    for at_ns, delay_ns in ((0, 5), (90, 20), (150, 80), (150, 500), (310, 7)):
        legs.replied(at_ns, delay_ns)
    assert legs.delays([(100, 300)]) == {"reply": [5, 7]}
    assert legs.delays([(0, 900)]) == {}


def test_a_read_is_held_against_the_newest_write_that_nothing_overlaps() -> None:
    script = leaderless()
    old = script.write("c1", "k", 0, 2, node="n1")
    new = script.write("c1", "k", 10, 12, node="n1")
    script.read("c2", "k", 14, 15, old, node="n2")  # stale, 2 ms after
    script.read("c2", "k", 16, 17, new, node="n2")  # fresh, 4 ms after
    script.write("c1", "k", 30, 40, node="n1")
    script.write("c3", "k", 35, 38, node="n3")  # overlaps: nobody can say which is newest
    script.read("c2", "k", 50, 51, new, node="n2")
    result = found(script)
    assert [(each.reads, each.fresh) for each in result.bins] == [(1, 0), (1, 1)]
    assert result.rmse is None
    assert "not recorded" in result.note


def test_what_may_have_happened_leaves_no_certain_newest_write() -> None:
    script = leaderless()
    first = script.write("c1", "k", 0, 2)
    script.write("c3", "k", 5, 900, outcome=UNKNOWN)
    script.write("c3", "other", 5, 8, outcome=FAIL)  # never happened
    script.write("c1", "other", 10, 11)
    script.read("c2", "k", 20, 21, first)
    script.read("c2", "other", 20, 21)
    assert [(each.reads, each.fresh) for each in found(script).bins] == [(1, 0)]


def test_reads_while_a_fault_lasts_are_left_out() -> None:
    script = leaderless()
    write = script.write("c1", "k", 0, 2)
    script.fault("kill", ["n1"], 100, 200)
    for start in (50, 99.5, 150, 250):
        script.read("c2", "k", start, start + 1, write)
    assert sum(each.reads for each in found(script).bins) == 2


def test_reads_while_hints_follow_a_fault_are_left_out_and_purged_deletes_count_as_seen() -> None:
    script = leaderless()
    write = script.write("c1", "k", 0, 2)
    script.fault("kill", ["n1"], 100, 200)
    script.event(300, "n2", "hints_delivered", target="n1", hints=1, bytes=9)
    for start in (50, 250, 350):
        script.read("c2", "k", start, start + 1, write)
    delete = script.write("c1", "gone", 400, 402, DELETE)
    script.event(500, "n1", "tombstone_purged", key="gone", write_ids=[delete])
    script.read("c2", "gone", 600, 601)
    result = found(script)
    assert sum(each.reads for each in result.bins) == 3
    assert all(each.fresh == each.reads for each in result.bins)
    assert result.within_measured[0] == 1.0


def test_nothing_is_said_without_quorums_and_overlap_needs_no_delays() -> None:
    assert pbs(View(Script().history)) is None
    assert pbs(View(leaderless(settings={}).history)) is None
    script = leaderless(settings={"n": 3, "r": 2, "w": 2})
    script.read("c2", "k", 5, 6, script.write("c1", "k", 0, 2))
    assert [each.predicted for each in found(script).bins] == [1.0]


def test_the_clients_own_ways_make_reads_fresher() -> None:
    script = leaderless()
    write = script.write("c1", "k", 0, 2, node="n1")
    script.read("c2", "k", 2.5, 3, write, node="n2")  # half a millisecond after
    script.history.delays = dict(DELAYS)
    assert [each.predicted for each in found(script).bins] == [0.0]  # the copy takes 1 ms
    script.history.delays |= {"reply": [MS // 3], "request": [MS // 3]}
    assert [each.predicted for each in found(script).bins] == [1.0]


def test_a_read_that_is_passed_on_waits_for_its_first_node_before() -> None:
    script = leaderless()
    write = script.write("c1", "k", 0, 2, node="n1")
    script.history.clients["c2"] = "n3"
    script.read("c2", "k", 2.5, 3, write, node="n2")  # half a millisecond after
    script.history.delays = DELAYS | {"forward": [MS // 3]}
    assert [each.predicted for each in found(script).bins] == [0.0]  # the copy takes 1 ms
    script.history.delays |= {"queue": [MS // 3]}
    assert [each.predicted for each in found(script).bins] == [1.0]


@pytest.mark.parametrize(("seen", "behind"), [(2, 0), (1, 1), (0, 2)])
def test_versions_behind_are_counted(seen: int, behind: int) -> None:
    script = leaderless()
    writes = [script.write("c1", "k", ms, ms + 1) for ms in (0, 10, 20)]
    script.read("c2", "k", 30, 31, writes[seen])
    within = found(script).within_measured
    assert [round(each) for each in within] == [0] * behind + [1] * (10 - behind)
