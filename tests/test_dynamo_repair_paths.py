"""Each way of repair makes all replicas equal by itself, where it can: many seeds for each.

The judge of the simulation holds every promise against a seed while it runs, and at the end whether
the replicas became equal. Here all ways of repair but one are off. What one cannot do is shown too.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest

from leaderless.dynamo import DynamoSettings, Hints, Purge, Quorum, ReadRepair
from tests.support.dynamo_cluster import MS
from tests.support.dynamo_options import Options
from tests.support.dynamo_simulation import World, simulate

SEEDS = range(7000, 7040)
CRASHES = ("crash", "cut", "pause")


def off(settings: DynamoSettings) -> DynamoSettings:
    """Return the settings without any repair, and so without what relies on it."""
    return replace(
        settings,
        hints=Hints.OFF,
        read_repair=ReadRepair.OFF,
        anti_entropy_ns=0,
        quorum=Quorum.STRICT,
        purge=Purge.NEVER,
    )


def nothing(options: Options) -> Options:
    return replace(options, settings=off(options.settings), any_share=0.0)


def hints_alone(options: Options) -> Options:
    """Nobody crashes: that forgets for whom a write under way was to leave a hint."""
    settings = replace(off(options.settings), hints=Hints.DURABLE, quorum=options.settings.quorum)
    return replace(options, settings=settings, faults=("cut", "pause"))


def hints_too_short(options: Options) -> Options:
    """No hint is taken for a node while an older one has waited for a tenth of a second."""
    options = hints_alone(options)
    return replace(options, settings=replace(options.settings, hint_window_ns=100 * MS))


def reads_alone(options: Options) -> Options:
    repair = options.settings.read_repair
    repair = ReadRepair.ASYNC if repair is ReadRepair.OFF else repair
    settings = replace(off(options.settings), read_repair=repair)
    return replace(options, settings=settings, faults=CRASHES, any_share=0.0)


def trees_alone(options: Options) -> Options:
    settings = replace(off(options.settings), anti_entropy_ns=100 * MS)
    return replace(options, settings=settings, faults=CRASHES, any_share=0.0)


def hints_too_short_and_trees(options: Options) -> Options:
    options = hints_too_short(options)
    return replace(options, settings=replace(options.settings, anti_entropy_ns=100 * MS))


@cache
def worlds_after(alone: Callable[[Options], Options]) -> list[World]:
    """Return what became of every seed; to be looked at only."""
    return [simulate(seed, adjust=alone) for seed in SEEDS]


@pytest.mark.parametrize("alone", [hints_alone, reads_alone, trees_alone])
def test_one_way_of_repair_is_enough(alone: Callable[[Options], Options]) -> None:
    worlds = worlds_after(alone)
    assert [world.differing() for world in worlds] == [[]] * len(SEEDS)
    # There was something to repair in many of them.
    assert sum(bool(world.differed) for world in worlds) > len(SEEDS) // 4


def test_without_any_the_replicas_stay_apart() -> None:
    worlds = [simulate(seed, adjust=nothing) for seed in SEEDS]
    apart = [world for world in worlds if world.differing()]
    assert len(apart) > len(SEEDS) // 4
    assert all(set(world.differing()) <= set(world.differed) for world in apart)


def test_what_no_hint_was_taken_for_is_not_brought_by_hints_but_by_trees() -> None:
    behind = [seed for seed in SEEDS if simulate(seed, adjust=hints_too_short).differing()]
    assert len(behind) > len(SEEDS) // 10
    for seed in behind:
        assert simulate(seed, adjust=hints_too_short_and_trees).differing() == []


def test_what_nobody_reads_is_not_repaired_by_reads() -> None:
    worlds = worlds_after(reads_alone)
    assert sum(bool(world.differed_unread) for world in worlds) > len(SEEDS) // 10
