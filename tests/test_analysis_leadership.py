"""Elections over a whole load, and snapshots that brought followers up to date."""

import pytest

from replication.analysis import analyse
from replication.analysis.findings import Leadership
from replication.analysis.meanwhile import SnapshotInstall
from replication.report.leader_rows import election_rows, snapshot_rows, snapshot_table
from tests.support.histories import LOAD_START_NS, MS, Script, at


def led(**fields: object) -> Script:
    """n1 leads term 3 from before the load on."""
    script = Script(load_ms=5_000, **fields)
    script.role(-500, "n1", "leader", 3, "n1")
    return script


def stands(script: Script, at_ms: int, node: str, term: int, *, pre_vote: bool = False) -> None:
    script.event(at_ms, node, "election_started", term=term, pre_vote=pre_vote, silence_ns=MS)


def leadership(script: Script) -> Leadership:
    found = analyse(script.history).leadership
    assert found is not None
    return found


def test_an_election_against_a_leader_that_nothing_befell_is_needless() -> None:
    script = led()
    stands(script, 900, "n2", 4, pre_vote=True)
    stands(script, 1_000, "n2", 4)
    script.role(1_010, "n1", "follower", 4, "")
    script.role(1_020, "n2", "leader", 4, "n2")
    assert leadership(script) == Leadership(
        elections=1, needless=1, pre_votes=1, split_votes=0, terms=1, changes=1
    )


def test_the_fault_that_takes_the_majority_takes_the_leader_away() -> None:
    """Three of five die one after the other: the third leaves the living leader without votes."""
    script = led()
    for number, node in enumerate(("n3", "n4", "n5")):
        script.fault("kill", [node], 1_000 + 100 * number, 3_000)
    script.role(1_500, "n1", "follower", 3, "")
    stands(script, 1_600, "n2", 4, pre_vote=True)
    stands(script, 3_050, "n1", 4)
    script.role(3_060, "n1", "leader", 4, "n1")
    found = analyse(script.history)
    assert found.leadership is not None
    assert (found.leadership.elections, found.leadership.needless) == (1, 0)
    assert [each.left_the_leader_alone for each in found.failovers] == [True, True, False]
    third = found.failovers[-1]
    assert third.took_the_majority
    assert {step.name: step.after_fault_ns for step in third.steps if step.after_fault_ns} == {
        "detected": 400 * MS,
        "elected": 1_860 * MS,
    }
    assert third.prediction is None


def test_a_fault_that_leaves_a_majority_leaves_the_leader_alone() -> None:
    script = led()
    script.fault("kill", ["n3"], 1_000, 1_500)
    script.fault("kill", ["n4"], 1_100, 3_000)
    script.fault("kill", ["n5"], 1_600, 3_000)  # n3 is back
    stands(script, 1_700, "n2", 4)
    assert leadership(script).needless == 1
    assert all(each.left_the_leader_alone for each in analyse(script.history).failovers)


def test_terms_that_nobody_won_are_burnt_and_split() -> None:
    script = led()
    for turn in range(3):
        stands(script, 1_000 + 300 * turn, "n5", 4 + turn)
    script.role(2_000, "n2", "leader", 7, "n2")
    found = leadership(script)
    assert (found.elections, found.split_votes, found.terms, found.changes) == (3, 3, 4, 1)


@pytest.mark.parametrize(
    ("kind", "nodes", "sides", "needless"),
    [
        ("kill", ["n1"], [], 0),
        ("pause", ["n1"], [], 0),
        ("pause", ["n3"], [], 1),
        ("transfer", [], [], 0),
        ("loss", ["n1"], [], 1),
        ("partition", ["n1"], [["n1", "n2"], ["n3", "n4", "n5"]], 0),
        ("partition", ["n5"], [["n1", "n2", "n3", "n4"], ["n5"]], 1),
    ],
)
def test_an_election_has_a_reason_if_a_fault_had_taken_the_leader_away(
    kind: str, nodes: list[str], sides: list[list[str]], needless: int
) -> None:
    script = led()
    script.fault(kind, nodes, 1_000, 3_000, sides=sides)
    stands(script, 1_500, "n5", 4)
    assert leadership(script).needless == needless


def test_elections_before_the_load_and_after_it_do_not_count() -> None:
    script = led()
    stands(script, -600, "n1", 3)
    stands(script, 5_100, "n2", 4)
    assert leadership(script) == Leadership()


def test_where_nobody_leads_there_is_no_leadership() -> None:
    assert analyse(Script(register=False).history).leadership is None
    rows = list(election_rows({"leaderless": analyse(Script(register=False).history)}))
    assert rows == []


def lagging() -> Script:
    """Before the fault a write takes 4 ms; while n5 gets a snapshot, from 3.0 to 3.5 s, 20 ms."""
    script = led()
    for start in range(0, 4_900, 50):
        script.write("c1", "k", start, start + (20 if 2_980 < start < 3_500 else 4), term=3)
    script.fault("kill", ["n5"], 1_000, 2_900)
    script.event(
        3_500, "n5", "snapshot_installed", sender="n1", index=40, bytes=2**20, duration_ns=500 * MS
    )
    script.event(3_400, "n1", "snapshot_sent", to="n5", index=20, bytes=7, duration_ns=MS)
    script.event(3_502, "n1", "snapshot_sent", to="n5", index=40, bytes=2**21, duration_ns=MS)
    return script


def test_a_snapshot_is_told_with_its_size_its_time_and_what_clients_saw_meanwhile() -> None:
    (install,) = analyse(lagging().history).snapshots
    assert (install.node, install.sender, install.index) == ("n5", "n1", 40)
    assert (install.start_ns, install.end_ns) == (at(3_000), at(3_500))
    assert (install.bytes, install.bytes_sent) == (2**20, 2**21)
    assert (install.during.count, install.during.p99_ms, install.before.p99_ms) == (10, 20, 4)


def test_the_report_tells_a_snapshot_in_words() -> None:
    side = analyse(lagging().history)
    cells = [row.cells["leader"].text for row in snapshot_rows({"leader": side})]
    assert cells == ["1", "1.00 MiB to n5 in 500 ms", "20.0 ms (4.00 ms before any fault)"]
    (row,) = snapshot_table(side).rows
    assert row[:7] == ["n5", "n1", "40", "3.000 s", "500 ms", "1.00 MiB", "2.00 MiB"]


def test_snapshots_of_before_the_load_are_left_out() -> None:
    script = led()
    script.event(-100, "n5", "snapshot_installed", sender="n1", index=9, bytes=1, duration_ns=MS)
    side = analyse(script.history)
    assert side.snapshots == []
    assert list(snapshot_rows({"leader": side})) == []


def test_a_sender_that_did_not_tell_leaves_what_it_sent_open() -> None:
    script = led()
    script.event(100, "n5", "snapshot_installed", sender="n1", index=9, bytes=1, duration_ns=MS)
    assert analyse(script.history).snapshots == [
        SnapshotInstall("n5", "n1", 9, at(99), at(100), MS, 1)
    ]
    assert script.history.load_start_ns == LOAD_START_NS
