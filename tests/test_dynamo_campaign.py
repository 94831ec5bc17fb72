"""Swarms of leaderless clusters with members that come and go: every seed that ever failed."""

import pytest

from tests.support.dynamo_campaign import FIRST_KINDS, KINDS, LATER, drawn, failure, kind_of, run

# In each of them a check took what is right for wrong: final reads asked a majority and so repaired
# nothing (1000004, 1000018, 1000032), a compare-and-set was not known to have read what it expected
# (1000019, 1000026, 1000033), a purged delete was missed (1000021, 1000039), eager rings were to
# give fresh reads (1060458, 1061298), a delete that a crash left on the disk, purged at the start,
# was called forgotten (1062219, 1062389).
# The others are mistakes of the core: a node that had been a primary and stood in gave a dot away
# again (1001274), one that dropped a key had not yet written what it acknowledged of it (1010042),
# and one left a hint of an old write for a key that was purged meanwhile (1030001).
FAILED = (
    1000004,
    1000018,
    1000019,
    1000021,
    1000026,
    1000032,
    1000033,
    1000039,
    1001274,
    1010042,
    1030001,
    1060458,
    1061298,
    1062219,
    1062389,
)


@pytest.mark.parametrize("seed", FAILED)
def test_a_seed_that_failed_fails_no_more(seed: int) -> None:
    simulated = run(seed)
    assert simulated.history.operations
    assert failure(seed, simulated) is None


@pytest.mark.parametrize("name", KINDS)
def test_promises_hold_whatever_befalls_a_cluster(name: str) -> None:
    seeds = (*range(1, FIRST_KINDS + 1), *range(LATER, LATER + len(KINDS)))
    seed = next(seed for seed in seeds if kind_of(seed) == name)
    simulated = run(seed)
    assert failure(seed, simulated) is None
    assert any(fault.effective for fault in simulated.history.faults)


def test_fewer_disks_are_wiped_than_acknowledge_a_write() -> None:
    wipes = []
    for seed in range(FIRST_KINDS * 30):
        if kind_of(seed) == "wipes":
            tables = drawn(seed)
            wiped = [each for each in tables["fault"] if each["kind"] == "wipe"]
            assert len(wiped) < tables["leaderless"]["dynamo"]["w"]
            wipes += wiped
    assert wipes
