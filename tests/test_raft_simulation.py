"""Raft under everything at once: many seeds, each another world; and broken cores are caught.

A failure prints its seed: ``Simulation(seed).run()`` repeats it exactly.
"""

from random import Random

import pytest

from leader.raft import RaftCore
from replication.protocol import load_backend
from tests.support import broken_raft
from tests.support.raft_judge import Violation
from tests.support.raft_simulation import Simulation
from tests.support.raft_workload import Options

SEEDS_PER_TEST = 25


@pytest.mark.parametrize("first", range(0, 150, SEEDS_PER_TEST))
def test_raft_is_safe_and_makes_progress_after_healing(first: int) -> None:
    """The five properties of Raft figure 3, durable acknowledgements, linearizable reads."""
    operations = 0
    for seed in range(first, first + SEEDS_PER_TEST):
        simulation = Simulation(seed).run()
        operations += sum(each.ok for each in simulation.judge.history)
    assert operations > 100 * SEEDS_PER_TEST, "a world in which nothing happens judges nothing"


@pytest.mark.parametrize("first", [0, 80])
def test_raft_is_safe_where_leaders_die_young(first: int) -> None:
    """The seeds around those at which a core that counts old entries is caught."""
    for seed in range(first, first + 10):
        Simulation(seed, options=Options.hostile(Random(seed))).run()


def test_a_seed_is_repeated_exactly() -> None:
    first, second = Simulation(7).run(), Simulation(7).run()
    assert first.steps == second.steps
    assert first.judge.history == second.judge.history


def caught(core_type: type[RaftCore], seeds: range) -> str:
    """Return what the judge says of the first seed at which it objects."""
    for seed in seeds:
        try:
            Simulation(seed, core_type).run()
        except Violation as violation:
            return str(violation)
    return ""


def test_a_core_that_acknowledges_before_commit_is_caught() -> None:
    said = caught(broken_raft.AcknowledgesBeforeCommit, range(5))
    assert "was acknowledged and is on" in said


def test_a_core_that_answers_before_its_write_is_durable_is_caught() -> None:
    assert caught(broken_raft.SendsBeforePersist, range(10))


def test_a_core_that_answers_from_any_replica_is_caught() -> None:
    assert "not linearizable" in caught(broken_raft.StaleReads, range(10))


def test_a_leader_that_does_not_confirm_its_reads_is_caught() -> None:
    """Seed 22 is the first that shows it, and the search starts a little before it."""
    assert "not linearizable" in caught(broken_raft.ReadsUnconfirmed, range(20, 100))


def test_a_core_that_votes_twice_is_caught() -> None:
    assert "Election Safety" in caught(broken_raft.VotesTwice, range(100))


def test_a_core_that_commits_older_terms_by_counting_is_caught() -> None:
    """Raft figure 8 needs a leader to die at the right moment: about 1 hostile seed in 100 has it.

    These were found by trying 100; after a change to the simulation they have to be looked for
    again.
    """
    said = []
    for seed in (2, 37, 85):
        options = Options.hostile(Random(seed))
        try:
            Simulation(seed, broken_raft.CommitsOlderTerms, options).run()
        except Violation as violation:
            said.append(str(violation))
    assert any("Leader Completeness" in each for each in said)


@pytest.mark.parametrize("name", ["acknowledges_before_commit", "stale_reads"])
def test_broken_backends_load_by_path(name: str) -> None:
    backend = load_backend(f"tests.support.broken_raft:{name}")
    assert backend.title == "Raft, broken"
