"""Rounds of gossip: the oracle, and what is made of the nodes' events."""

import pytest

from replication.analysis.gossip import gossip, push_pull_rounds
from replication.analysis.view import View
from tests.support.histories import Script

MS = 1_000_000


@pytest.mark.parametrize(("nodes", "rounds"), [(3, 1.5), (5, 2.4), (50, 5.7), (1000, 9.1)])
def test_push_pull_takes_as_long_as_it_is_known_to(nodes: int, rounds: float) -> None:
    assert push_pull_rounds(nodes) == pytest.approx(rounds, abs=0.05)


def test_nobody_has_to_be_told_where_there_is_one() -> None:
    assert push_pull_rounds(1) == 0


def scripted() -> Script:
    return Script(settings={"probe_ns": 10 * MS})


def learned(script: Script, node: str, peer: str, incarnation: int, ms: float) -> None:
    script.event(ms, node, "incarnation_learned", peer=peer, incarnation=incarnation)


def test_rounds_are_counted_until_the_last_one_knows() -> None:
    script = scripted()
    learned(script, "n2", "n2", 1, 1_000)
    for node, ms in (("n1", 1_003), ("n3", 1_010), ("n4", 1_021), ("n5", 1_009)):
        learned(script, node, "n2", 1, ms)
    found = gossip(View(script.history))
    assert found is not None
    assert (found.nodes, found.count, found.unheard, found.rounds_worst) == (5, 1, 0, 3)
    (spread,) = found.spreads
    assert (spread.last, spread.rounds, spread.heard, spread.of) == ("n4", 3, 4, 4)
    assert found.push_pull_ratio == pytest.approx(3 / found.push_pull_rounds)


def test_who_hears_of_a_later_incarnation_knows_that_the_node_lived() -> None:
    script = scripted()
    learned(script, "n2", "n2", 1, 1_000)
    for node in ("n1", "n3", "n4"):
        learned(script, node, "n2", 1, 1_005)
    learned(script, "n2", "n2", 2, 1_008)
    learned(script, "n5", "n2", 2, 1_012)
    found = gossip(View(script.history))
    assert found is not None
    assert [(each.rounds, each.heard) for each in found.spreads] == [(2, 4), (None, 1)]
    assert (found.count, found.unheard, found.rounds_mean) == (2, 1, 2)


def test_who_is_down_need_not_know() -> None:
    script = scripted()
    script.fault("kill", ["n5"], 500, 5_000, takes_down=True)
    learned(script, "n2", "n2", 1, 1_000)
    for node in ("n1", "n3", "n4"):
        learned(script, node, "n2", 1, 1_005)
    found = gossip(View(script.history))
    assert found is not None
    assert [(each.rounds, each.of) for each in found.spreads] == [(1, 3)]


def test_where_nobody_says_anything_there_is_nothing_to_tell() -> None:
    assert gossip(View(scripted().history)) is None
    quiet = scripted()
    learned(quiet, "n1", "n2", 1, 1_000)
    assert gossip(View(quiet.history)) is None
