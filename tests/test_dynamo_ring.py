"""The ring: everybody computes the same preference lists, and the load is even."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from leaderless.dynamo.ring import claim, make_ring, position, preference_list

ROOT = Path(__file__).resolve().parents[1]
FIVE = ("n1", "n2", "n3", "n4", "n5")
MEMBERS = st.lists(st.text("abcn123", min_size=1, max_size=4), min_size=1, max_size=9, unique=True)


@given(MEMBERS, st.integers(9, 80), st.integers(1, 5))
@settings(max_examples=50)
def test_preference_lists_have_n_distinct_nodes(
    members: list[str], partitions: int, n: int
) -> None:
    ring = make_ring(members, partitions, n)
    assert len(ring.preferences) == partitions
    for preference in ring.preferences:
        assert len(set(preference)) == len(preference) == min(n, len(members))
        assert set(preference) <= set(members)


@given(MEMBERS, st.integers(9, 80))
@settings(max_examples=50)
def test_every_node_owns_its_share_of_partitions(members: list[str], partitions: int) -> None:
    counts = Counter(claim(members, partitions))
    share = partitions // len(members)
    assert all(counts[member] in (share, share + 1) for member in members)


def test_order_of_members_does_not_matter() -> None:
    assert claim(FIVE, 64) == claim(reversed(FIVE), 64)


def test_preference_list_goes_clockwise_and_skips_nodes_it_has() -> None:
    assert preference_list("abacb", 2, 3) == ("a", "c", "b")
    assert preference_list("abacb", 4, 3) == ("b", "a", "c")
    assert preference_list("aab", 0, 3) == ("a", "b")


def test_replicas_are_spread_evenly() -> None:
    """With 64 partitions and N=3 on five nodes, no node holds 10 % more than its share."""
    held = Counter(node for each in make_ring(FIVE, 64, 3).preferences for node in each)
    assert max(held.values()) <= 1.1 * 64 * 3 / 5


def test_failed_nodes_load_falls_on_all_others() -> None:
    """Dynamo §4.2: evenly dispersed across the remaining nodes."""
    ring = make_ring(FIVE, 64, 3)
    for failed in FIVE:
        heirs = {each[1] for each in ring.preferences if each[0] == failed}
        assert heirs == set(FIVE) - {failed}


def test_keys_spread_over_partitions() -> None:
    ring = make_ring(FIVE, 64, 3)
    counts = Counter(ring.partition(f"key-{number}") for number in range(64_000))
    assert len(counts) == 64
    assert max(counts.values()) < 1.15 * 1000


def test_partitions_are_equal_ranges_in_ring_order() -> None:
    ring = make_ring(FIVE, 64, 3)
    by_position = sorted((position(f"key-{n}"), ring.partition(f"key-{n}")) for n in range(2000))
    partitions = [partition for _, partition in by_position]
    assert partitions == sorted(partitions)
    assert ring.preference("kiwi") == ring.preferences[ring.partition("kiwi")]


def test_ring_is_the_same_in_every_process() -> None:
    """Also with another PYTHONHASHSEED; the values are fixed, or old stores would be misread."""
    assert position("kiwi") == 3_267_921_644_270_338_051
    program = (
        "from leaderless.dynamo.ring import make_ring;"
        "print(make_ring(['n1','n2','n3','n4','n5'], 64, 3).preferences)"
    )
    for seed in ("1", "2"):
        printed = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert printed.strip() == str(make_ring(FIVE, 64, 3).preferences)
