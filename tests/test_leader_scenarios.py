"""What leaders promise and cost: each story is seen with the weak setting and not with its cure.

One seed each. All variants over as many seeds as one likes: ``tests/support/scenario_seeds.py``.
"""

import pytest

from replication.plan import make_plan
from replication.protocol import Family
from tests.support.scenario_seeds import leader, measured, scenario

STORIES = (
    "old-leader-returns",
    "one-way-leader",
    "leader-flapping",
    "reads-from-followers",
    "majority-lost",
    "election-timeouts",
    "lagging-follower",
)


@pytest.mark.parametrize(
    "name", [f"{story}:{variant}" for story in STORIES for variant in scenario(story).variants]
)
def test_it_shows_what_it_is_about(name: str) -> None:
    results = leader(name, seed=3)
    assert results
    for result in results:
        assert result.verdict == "valid", f"{result.words}: {result.observed}"


@pytest.mark.parametrize("seed", [1, 8])
def test_a_follower_that_was_brought_a_snapshot_needs_no_second_one(seed: int) -> None:
    """Seeds in which it did: the leader's next snapshot was complete before it had caught up."""
    found = measured("lagging-follower:compacted", seed, Family.LEADER, "snapshots.count")
    assert found == 1


@pytest.mark.parametrize("story", STORIES)
def test_each_variant_expects_something_of_its_own(story: str) -> None:
    variants = scenario(story).variants
    plans = [make_plan(scenario(f"{story}:{variant}"), 1) for variant in variants]
    sides = [[each for each in plan.expectations if each.side == "leader"] for plan in plans]
    assert len({repr(side) for side in sides}) == len(variants)
