"""The anomalies that settings of a leaderless cluster buy: each is seen, and has its cure.

One seed each, and the cures that no other test shows on a whole cluster. All variants over as many
seeds as one likes: ``tests/support/scenario_seeds.py``.
"""

import pytest

from replication.plan import make_plan
from tests.support.scenario_seeds import leaderless, scenario

ANOMALIES = (
    "clock-skew-lww:lww",
    "concurrent-writers:lww",
    "counters-and-sets:put-dvv",
    "hint-loss:buffered",
    "hint-storm:unthrottled",
    "non-monotonic-reads:one-of-three",
    "quorum-table:n3-w1-r1",
    "shopping-cart:lww",
    "sibling-explosion:version-vector",
    "sloppy-stale:sloppy",
    "split-writers-sloppy:sloppy-lww",
    "write-timeout-appears:plain",
    "zombie-delete:by-time",
)
CURES = (
    "counters-and-sets:type",
    "hint-loss:durable",
    "hint-storm:throttled",
    "hint-storm:capped",
    "quorum-table:n3-w2-r2",
    "sloppy-stale:strict",
    "write-timeout-appears:conditional",
    "zombie-delete:after-repair",
)


@pytest.mark.parametrize("name", [*ANOMALIES, *CURES])
def test_it_shows_what_it_is_about(name: str) -> None:
    results = leaderless(name, seed=3)
    assert results
    for result in results:
        assert result.verdict == "valid", f"{result.words}: {result.observed}"


@pytest.mark.parametrize("name", [name for name in ANOMALIES if ":" in name])
def test_each_variant_expects_something_of_its_own(name: str) -> None:
    base, _, weak = name.partition(":")
    variants = scenario(base).variants
    assert weak in variants
    plans = [make_plan(scenario(f"{base}:{variant}"), 1) for variant in variants]
    sides = [[each for each in plan.expectations if each.side != "leader"] for plan in plans]
    assert all(sides)
    assert len({repr(side) for side in sides}) == len(variants)
