"""Roles become nodes when a fault is due, on both sides the same ones where they are shared."""

from collections.abc import Mapping
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.plan import (
    ClusterView,
    Direction,
    FaultKind,
    LinkRule,
    PartitionShape,
    PlannedFault,
    ResolvedFault,
    Unresolvable,
    resolve,
)
from replication.protocol import Family

NODES = ("n1", "n2", "n3", "n4", "n5")
DIVIDING = (
    PartitionShape.ISOLATE,
    PartitionShape.HALVES,
    PartitionShape.MINORITY_WITH_LEADER,
    PartitionShape.NODES,
)
CLIENTS = {f"c{number}": f"n{(number - 1) % 5 + 1}" for number in range(1, 8)}


def view(
    family: Family = Family.LEADER,
    *,
    leader: str | None = "n3",
    down: frozenset[str] = frozenset(),
    owners: Mapping[str, tuple[str, ...]] | None = None,
) -> ClusterView:
    return ClusterView(family, NODES, frozenset(NODES) - down, leader, CLIENTS, owners or {})


LEADER_VIEW = view()
LEADERLESS_VIEW = view(Family.LEADERLESS, leader=None, owners={"k1": ("n4", "n2", "n5")})


def fault(
    target: str | tuple[str, str] = "leader",
    kind: FaultKind = FaultKind.KILL,
    shape: PartitionShape | None = None,
    sides: tuple[tuple[str, ...], ...] = (),
) -> PlannedFault:
    shared = not isinstance(target, tuple)
    pair = target if isinstance(target, tuple) else (target, target)
    targets = dict(zip(Family, pair, strict=True))
    return PlannedFault(1, kind, 0, None, targets, shared, shape, sides)


def cut(
    shape: PartitionShape, target: str = "all", sides: tuple[tuple[str, ...], ...] = ()
) -> PlannedFault:
    return fault(target, FaultKind.PARTITION, shape, sides)


def resolved(
    planned: PlannedFault, seen: ClusterView, earlier: ResolvedFault | None = None, seed: int = 1
) -> ResolvedFault:
    return resolve(planned, seen, Random(seed), earlier)


def test_a_named_node_is_that_node_on_both_sides() -> None:
    first = resolved(fault("n2"), LEADER_VIEW)
    assert (first.nodes, first.words, first.links, first.sides) == (("n2",), "kill n2", (), ())
    assert resolved(fault("n2"), LEADERLESS_VIEW, first).words == "kill n2"


def test_the_leader_is_hit_and_the_other_side_loses_the_same_node() -> None:
    first = resolved(fault("leader", FaultKind.PAUSE), LEADER_VIEW)
    assert first.nodes == ("n3",)
    assert first.words == "pause the leader (n3)"
    other = resolved(fault("leader", FaultKind.PAUSE), LEADERLESS_VIEW, first)
    assert other.nodes == ("n3",)
    assert other.words == "pause n3 (on the other side the leader)"


def test_a_follower_is_never_the_leader_and_always_alive() -> None:
    seen = view(down=frozenset({"n1"}))
    found = {resolved(fault("follower"), seen, seed=seed).nodes for seed in range(60)}
    assert found == {("n2",), ("n4",), ("n5",)}
    first = resolved(fault("follower"), seen)
    assert first.words == f"kill a follower ({first.nodes[0]})"
    other = resolved(fault("follower"), LEADERLESS_VIEW, first)
    assert other.words == f"kill {first.nodes[0]} (on the other side a follower)"


def test_a_random_node_is_alive_and_the_same_for_the_same_seed() -> None:
    seen = view(down=frozenset({"n1", "n2"}))
    found = {resolved(fault("random"), seen, seed=seed).nodes for seed in range(60)}
    assert found == {("n3",), ("n4",), ("n5",)}
    first = resolved(fault("random"), seen, seed=4)
    assert first == resolved(fault("random"), seen, seed=4)
    assert first.words == f"kill {first.nodes[0]} (drawn at random)"
    other = resolved(fault("random"), LEADERLESS_VIEW, first, seed=99)
    assert other.nodes == first.nodes
    assert other.words == f"kill {first.nodes[0]} (drawn at random on the other side)"


@pytest.mark.parametrize(
    ("target", "lacks"), [("leader", "no leader"), ("follower", "no followers")]
)
def test_a_leaderless_cluster_alone_draws_a_node_and_says_so(target: str, lacks: str) -> None:
    found = resolved(fault(target), LEADERLESS_VIEW)
    assert found.nodes[0] in NODES
    assert found.words == (
        f"kill {found.nodes[0]} (drawn at random: a leaderless cluster has {lacks})"
    )


def test_the_replicas_of_a_key_are_found_by_its_preference_list() -> None:
    first = resolved(fault("first-replica-of:k1"), LEADERLESS_VIEW)
    assert (first.nodes, first.words) == (("n4",), "kill the first replica of k1 (n4)")
    coordinator = resolved(fault("coordinator-of:k1"), LEADERLESS_VIEW)
    assert (coordinator.nodes, coordinator.words) == (("n4",), "kill the coordinator of k1 (n4)")
    without = replace(LEADERLESS_VIEW, alive=frozenset(NODES) - {"n4"})
    assert resolved(fault("coordinator-of:k1"), without).nodes == ("n2",)
    assert resolved(fault("first-replica-of:k1"), without).nodes == ("n4",)


@pytest.mark.parametrize("target", ["first-replica-of:k1", "coordinator-of:k1"])
def test_where_all_keys_have_one_leader_it_serves_every_key(target: str) -> None:
    assert resolved(fault(target), LEADER_VIEW).words == "kill the leader (n3)"


def test_a_target_for_each_side_is_resolved_on_each_side() -> None:
    planned = fault(("leader", "first-replica-of:k1"))
    first = resolved(planned, LEADER_VIEW)
    assert first.nodes == ("n3",)
    assert resolved(planned, LEADERLESS_VIEW, first).nodes == ("n4",)


@pytest.mark.parametrize(
    ("target", "seen", "reason"),
    [
        ("leader", view(leader=None), "no leader is known"),
        ("leader", view(down=frozenset({"n3"})), "the last known leader, n3, is down"),
        ("follower", view(leader=None), "no leader is known, so nobody is its follower"),
        ("follower", view(down=frozenset(NODES) - {"n3"}), "no follower is alive"),
        ("random", view(down=frozenset(NODES)), "no node is alive"),
        ("first-replica-of:k2", LEADERLESS_VIEW, "who holds k2 is not known"),
        (
            "coordinator-of:k1",
            replace(LEADERLESS_VIEW, alive=frozenset({"n1"})),
            "no replica of k1 is alive",
        ),
    ],
)
def test_a_role_that_nobody_plays_is_unresolvable(
    target: str, seen: ClusterView, reason: str
) -> None:
    rng = Random(1)
    with pytest.raises(Unresolvable) as caught:
        resolve(fault(target), seen, rng)
    assert caught.value.reason == reason
    # Asking again later must not depend on how often it was asked.
    assert rng.random() == Random(1).random()


def test_isolating_a_node_takes_its_clients_along() -> None:
    found = resolved(cut(PartitionShape.ISOLATE, "leader"), LEADER_VIEW)
    assert found.nodes == ("n3",)
    assert found.sides == (
        ("n3", "c3"),
        ("n1", "n2", "n4", "n5", "c1", "c2", "c4", "c5", "c6", "c7"),
    )
    assert found.words == (
        "cut the leader (n3) and client c3 off from n1, n2, n4, n5 "
        "and clients c1, c2, c4, c5, c6, c7"
    )


def test_the_minority_with_the_leader_is_as_large_as_a_minority_can_be() -> None:
    found = resolved(cut(PartitionShape.MINORITY_WITH_LEADER, "leader"), LEADER_VIEW)
    assert found.nodes == ("n3", "n4")
    assert found.sides == (
        ("n3", "n4", "c3", "c4"),
        ("n1", "n2", "n5", "c1", "c2", "c5", "c6", "c7"),
    )
    assert found.words == (
        "cut n3, n4 (with the leader (n3)) and clients c3, c4 off from n1, n2, n5 "
        "and clients c1, c2, c5, c6, c7"
    )
    other = resolved(cut(PartitionShape.MINORITY_WITH_LEADER, "leader"), LEADERLESS_VIEW, found)
    assert (other.nodes, other.sides, other.links) == (found.nodes, found.sides, found.links)
    assert other.words.startswith("cut n3, n4 and clients c3, c4 off from n1, n2, n5")
    assert other.words.endswith("; n3 (on the other side the leader)")


def test_there_is_no_minority_with_a_node_that_has_left() -> None:
    with pytest.raises(Unresolvable, match="n6 has left the cluster"):
        resolve(cut(PartitionShape.MINORITY_WITH_LEADER, "n6"), LEADER_VIEW, Random(1))


def test_halves_leave_the_odd_node_in_the_second_half() -> None:
    found = resolved(cut(PartitionShape.HALVES), LEADERLESS_VIEW)
    assert found.sides == (
        ("n1", "n2", "c1", "c2", "c6", "c7"),
        ("n3", "n4", "n5", "c3", "c4", "c5"),
    )
    assert found.nodes == ("n1", "n2")


def test_nodes_that_are_not_listed_make_one_more_side() -> None:
    found = resolved(cut(PartitionShape.NODES, sides=(("n1",), ("n2", "c1"))), LEADER_VIEW)
    assert found.sides == (
        ("n1", "c6"),
        ("n2", "c1", "c2", "c7"),
        ("n3", "n4", "n5", "c3", "c4", "c5"),
    )
    assert found.nodes == ("n1", "n2")
    assert found.words == (
        "cut n1 and client c6; n2 and clients c1, c2, c7; n3, n4, n5 and clients c3, c4, c5 "
        "off from each other"
    )


def test_a_client_alone_can_be_cut_off() -> None:
    found = resolved(cut(PartitionShape.NODES, sides=(("c2",),)), LEADER_VIEW)
    assert found.sides[0] == ("c2",)
    assert {rule.source for rule in found.links if rule.destination == "c2"} == set(NODES)
    assert found.nodes == ()
    assert found.words.startswith("cut client c2 off from n1")


def test_where_no_side_has_a_majority_all_are_cut_off() -> None:
    found = resolved(
        cut(PartitionShape.NODES, sides=(("n1", "n2"), ("n3", "n4"))), view(leader=None)
    )
    assert found.nodes == NODES


def test_a_slow_node_is_slow_both_ways_and_to_nodes_only() -> None:
    planned = replace(fault("n2", FaultKind.DELAY), delay_ns=100_000_000, jitter_ns=20_000_000)
    found = resolved(planned, LEADER_VIEW)
    assert found.nodes == ("n2",)
    assert {(rule.source, rule.destination) for rule in found.links} == {
        pair for other in ("n1", "n3", "n4", "n5") for pair in (("n2", other), (other, "n2"))
    }
    assert set(found.links) == {
        LinkRule(rule.source, rule.destination, 0.0, 100_000_000, 20_000_000)
        for rule in found.links
    }
    assert found.words == "delay messages by 100ms to 120ms on every link of n2 to other nodes"


def test_loss_on_all_links_names_every_ordered_pair_once() -> None:
    found = resolved(replace(fault("all", FaultKind.LOSS), loss=0.25), LEADERLESS_VIEW)
    assert len(found.links) == len(set(found.links)) == 20
    assert {rule.loss for rule in found.links} == {0.25}
    assert found.nodes == NODES
    assert found.words == "lose 25% of the messages on every link between nodes"


def test_a_crowd_of_clients_is_not_listed_in_full() -> None:
    clients = {f"c{number}": "n1" for number in range(1, 31)}
    found = resolved(cut(PartitionShape.HALVES), replace(LEADER_VIEW, clients=clients))
    assert found.words == (
        "cut n1, n2 and clients c1, c2, c3 ... c30 (30 in all) off from n3, n4, n5"
    )


def test_several_nodes_are_named_or_found_together() -> None:
    named = resolved(fault("n2, n5"), LEADER_VIEW)
    assert (named.nodes, named.words) == (("n2", "n5"), "kill n2, n5")
    everybody = resolved(fault("all", FaultKind.PAUSE), LEADER_VIEW)
    assert everybody.nodes == NODES
    minority = resolved(fault("minority-with-leader", FaultKind.WIPE), LEADER_VIEW)
    assert minority.nodes == ("n3", "n4")
    assert minority.words == "wipe the disk of n3, n4 (a minority with the leader n3)"
    other = resolved(fault("minority-with-leader", FaultKind.WIPE), LEADERLESS_VIEW, minority)
    assert other.nodes == ("n3", "n4")
    assert other.words.endswith("n3, n4 (on the other side the leader and a minority with it)")


def test_a_clients_links_are_those_to_every_node() -> None:
    found = resolved(replace(fault("c2", FaultKind.LOSS), loss=0.5), LEADER_VIEW)
    pairs = {(rule.source, rule.destination) for rule in found.links}
    assert pairs == {pair for node in NODES for pair in (("c2", node), (node, "c2"))}
    assert found.nodes == ()
    assert found.words == "lose 50% of the messages on every link of c2 to the nodes"


@pytest.mark.parametrize("direction", Direction)
def test_a_one_way_partition_cuts_one_direction_of_every_link(direction: Direction) -> None:
    planned = replace(cut(PartitionShape.ONE_WAY, "leader"), direction=direction)
    found = resolved(planned, LEADER_VIEW)
    here, there = found.sides
    assert here == ("n3", "c3")
    lost = {(rule.source, rule.destination) for rule in found.links}
    crossing = {(one, other) for one in here for other in there} - {
        ("c3", client) for client in there if client in CLIENTS
    }
    if direction is Direction.INBOUND:
        crossing = {(other, one) for one, other in crossing}
        assert found.words.startswith("cut one way: the leader (n3) and client c3 send, and hear ")
    assert lost == crossing


def test_a_bridge_is_reached_by_both_halves() -> None:
    found = resolved(cut(PartitionShape.BRIDGE), LEADER_VIEW)
    assert found.sides == (("n1", "n2", "c1", "c2", "c6", "c7"), ("n4", "n5", "c4", "c5"))
    touched = {name for rule in found.links for name in (rule.source, rule.destination)}
    assert not touched & {"n3", "c3"}
    assert found.words.endswith("; n3 reaches both")
    led = resolved(cut(PartitionShape.BRIDGE, "leader"), view(leader="n1"))
    assert led.words.endswith("; the leader (n1) reaches both")


@pytest.mark.parametrize("size", range(3, 10))
def test_in_a_ring_every_node_hears_a_majority_and_no_two_the_same(size: int) -> None:
    nodes = tuple(f"n{number + 1}" for number in range(size))
    seen = replace(LEADER_VIEW, nodes=nodes, alive=frozenset(nodes), clients={"c1": "n1"})
    found = resolved(cut(PartitionShape.MAJORITIES_RING), seen)
    lost = {(rule.source, rule.destination) for rule in found.links}
    heard = {node: {each for each in nodes if (each, node) not in lost} for node in nodes}
    assert all(len(each) == size // 2 + 1 and node in each for node, each in heard.items())
    assert len({frozenset(each) for each in heard.values()}) == size
    assert {node for node in nodes if (node, "c1") not in lost} == heard["n1"]


@st.composite
def partitions(draw: st.DrawFn) -> tuple[PlannedFault, ClusterView]:
    nodes = tuple(f"n{number + 1}" for number in range(draw(st.integers(3, 9))))
    homes = draw(st.lists(st.sampled_from(nodes), max_size=8))
    clients = {f"c{number + 1}": home for number, home in enumerate(homes)}
    family = draw(st.sampled_from(Family))
    seen = ClusterView(family, nodes, frozenset(nodes), draw(st.sampled_from(nodes)), clients)
    shape = draw(st.sampled_from(DIVIDING))
    if shape is not PartitionShape.NODES:
        target = draw(st.sampled_from(["leader", "follower", "random", *nodes]))
        return cut(shape, "all" if shape is PartitionShape.HALVES else target), seen
    names = draw(st.lists(st.sampled_from([*nodes, *clients]), unique=True, min_size=1))
    parts = draw(st.lists(st.integers(0, 2), min_size=len(names), max_size=len(names)))
    sides = (tuple(n for n, p in zip(names, parts, strict=True) if p == part) for part in range(3))
    return cut(shape, sides=tuple(side for side in sides if side)), seen


@given(partitions(), st.integers(0, 99))
def test_a_partition_divides_everybody_and_cuts_exactly_what_crosses(
    planned: tuple[PlannedFault, ClusterView], seed: int
) -> None:
    partition, seen = planned
    found = resolved(partition, seen, seed=seed)
    everybody = [name for side in found.sides for name in side]
    assert sorted(everybody) == sorted([*seen.nodes, *seen.clients])
    side_of = {name: number for number, side in enumerate(found.sides) for name in side}
    expected = {
        (one, other)
        for one in everybody
        for other in everybody
        if side_of[one] != side_of[other] and not {one, other} <= set(seen.clients)
    }
    cut_pairs = [(rule.source, rule.destination) for rule in found.links]
    assert len(cut_pairs) == len(set(cut_pairs))
    assert set(cut_pairs) == expected
    assert {(other, one) for one, other in cut_pairs} == set(cut_pairs)
    assert {rule.loss for rule in found.links} <= {1.0}
    other_family = next(family for family in Family if family is not seen.family)
    other = resolved(partition, replace(seen, family=other_family, leader=None), found)
    assert (other.nodes, other.sides, other.links) == (found.nodes, found.sides, found.links)
