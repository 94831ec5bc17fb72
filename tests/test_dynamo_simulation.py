"""Seeds: crashes, cuts, pauses, a bad network and slow disks, judged by causal histories.

``simulate(seed)`` repeats a failing seed.
"""

import re

import pytest

from leaderless.dynamo import DynamoCore, Fanout, ReadRepair, Versions, replica
from tests.support.broken_dynamo import (
    AcknowledgesAfterOne,
    ContextCoversTheUnread,
    KeepsOneOfTwo,
    RepairOverwrites,
    ReplicatesInTheBackground,
    RepliesAndNeverRepairs,
    ReusesDots,
    SendsBeforeItPersists,
)
from tests.support.dynamo_judge import Violation
from tests.support.dynamo_simulation import simulate


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_promises_hold_in_every_seed(first: int) -> None:
    worlds = [simulate(seed) for seed in range(first, first + 50)]
    # The seeds have to be worth something: work done, conflicts met, repair needed.
    assert sum(world.acknowledged for world in worlds) > 50 * 30
    assert max(world.judge.siblings_most for world in worlds) > 2
    kinds = {world.options.settings.versions for world in worlds}
    repairs = {world.options.settings.read_repair for world in worlds}
    fanouts = {world.options.settings.read_fanout for world in worlds}
    assert fanouts == set(Fanout)
    assert kinds == set(Versions)
    assert repairs == set(ReadRepair)
    assert sum(world.synced for world in worlds) > 20
    assert sum(world.retries for world in worlds) > 50
    assert sum(len(world.judge.refusals) for world in worlds) > 10


def test_promises_hold_while_decoded_keys_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a store of more keys than are kept decoded: with one of two, each use forgets."""
    monkeypatch.setattr(replica, "DECODED_MAX", 1)
    for seed in range(500, 510):
        simulate(seed)


def test_seed_repeats_itself() -> None:
    one, two = simulate(7), simulate(7)
    assert one.judge.acknowledged == two.judge.acknowledged
    assert one.judge.owners == two.judge.owners
    assert one.now_ns == two.now_ns


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (AcknowledgesAfterOne, "was acknowledged, only|was acknowledged, an older"),
        (ReplicatesInTheBackground, "was acknowledged, only|was acknowledged, an older"),
        (RepairOverwrites, "forgot dots"),
        (RepliesAndNeverRepairs, "differ in|was shown before"),
        (ReusesDots, "names"),
        (SendsBeforeItPersists, "before it was durable"),
        (ContextCoversTheUnread, "holds|covers|nobody has written|is not"),
        (KeepsOneOfTwo, "holds|nobody has written"),
    ],
)
def test_broken_core_is_caught(broken: type[DynamoCore], message: str) -> None:
    """One of the first seeds shows each of them (they show in 20 to 100 of 100)."""
    for seed in range(40):
        try:
            simulate(seed, broken)
        except Violation as violation:
            if re.search(message, str(violation)):
                return
    pytest.fail("nobody has noticed")
