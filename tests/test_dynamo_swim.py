"""Failure detection that the nodes do together, and gossip, on a small network of their own."""

from math import log
from random import Random

import pytest

from leaderless.dynamo import DynamoSettings
from leaderless.dynamo.phi import PhiDetector
from leaderless.dynamo.settings import Detection
from leaderless.dynamo.swim import ALIVE, DEAD, SUSPECT, Swim
from leaderless.dynamo.swim_config import SwimConfig, retransmissions, suspicion_timeout_ns
from leaderless.v1 import dynamo_pb2
from replication.errors import QuorumUnreachable
from tests.support.dynamo_cluster import MS, SECOND, Cluster, put
from tests.support.swim_network import SwimNetwork

LAN = SwimConfig(probe_ns=SECOND, probe_timeout_ns=500 * MS)


# The arithmetic of memberlist.


@pytest.mark.parametrize(
    ("members", "confirmations", "seconds"),
    [(3, 0, 4), (5, 0, 24), (5, 2, 4), (5, 1, 11.38), (100, 0, 48), (100, 2, 8)],
)
def test_suspicion_times_out_as_in_memberlist(
    members: int, confirmations: int, seconds: float
) -> None:
    timeout_ns = suspicion_timeout_ns(LAN, members, confirmations)
    assert timeout_ns / SECOND == pytest.approx(seconds, abs=0.01)


def test_gossip_is_sent_on_four_times_the_logarithm() -> None:
    assert [retransmissions(each) for each in (3, 9, 10, 99, 100)] == [4, 4, 8, 8, 12]


# Gossip.


def let_it_speak(network: SwimNetwork, name: str) -> None:
    """Let a node hear that it is suspected: it says that it lives."""
    suspicion = dynamo_pb2.MemberUpdate(node=name, state=SUSPECT, by="n1")
    network.nodes[name].receive(network.now_ns, "n1", dynamo_pb2.Gossip(updates=[suspicion]))


def test_news_reaches_all_without_a_full_exchange() -> None:
    network = SwimNetwork(20, config=SwimConfig(push_pull_ns=1000 * SECOND))
    let_it_speak(network, "n7")
    network.run(500 * MS)
    assert {(who, *what) for _, who, *what in network.learned} == {
        (name, "n7", 1) for name in network.nodes
    }
    before = network.sent
    network.run(SECOND)
    # Only probes and their answers are left: the news is old.
    assert network.sent - before < 20 * 2 * 6


def test_news_can_ride_on_probes_alone() -> None:
    """SWIM §4.1: with ``gossip_ns = 0`` no message is sent for the sake of gossip."""
    config = SwimConfig(push_pull_ns=1000 * SECOND, gossip_ns=0)
    network = SwimNetwork(20, config=config)
    let_it_speak(network, "n7")
    network.run(3 * SECOND)
    assert {who for _, who, *_ in network.learned} == set(network.nodes)
    assert network.sent <= 20 * 2 * 16


def test_of_very_many_nodes_a_few_are_greeted() -> None:
    for count, greeted in ((51, 50), (52, 3)):
        names = [f"n{number}" for number in range(2, count + 1)]
        swim = Swim("n1", names, SwimConfig(), Random(1), 0)
        swim.greet()
        assert len({peer for peer, _ in swim.sends}) == greeted


# Death.


@pytest.mark.parametrize("count", [3, 5, 20])
def test_dead_node_is_buried_by_all_and_nobody_else_is(count: int) -> None:
    network = SwimNetwork(count)
    network.run(SECOND)
    network.stopped.add("n2")
    network.run(8 * SECOND)
    assert network.believed("n2", DEAD)
    assert {each.node for _, _, each in network.told} == {"n2"}


def test_confirmations_make_death_certain_sooner() -> None:
    """Alone a suspicion waits six times as long as one that others share."""
    times = []
    for multiplier in (1, 0):
        network = SwimNetwork(5, seed=3)
        network.stopped.add("n2")
        if multiplier == 0:
            network.cut = {
                frozenset((one, other)) for one in ("n3", "n4", "n5") for other in network.nodes
            }
        network.run(10 * SECOND)
        times.append(
            next(
                at
                for at, who, each in network.told
                if each.node == "n2" and each.state == DEAD and who == "n1"
            )
        )
    assert times[0] * 2 < times[1]


def test_node_that_comes_back_is_alive_again() -> None:
    network = SwimNetwork(5)
    network.paused.add("n2")
    network.run(10 * SECOND)
    assert network.believed("n2", DEAD)
    network.paused.clear()
    network.run(8 * SECOND)
    assert network.believed("n2", ALIVE)
    assert network.nodes["n2"].incarnation > 0


def test_halves_that_buried_each_other_meet_again() -> None:
    network = SwimNetwork(6)
    halves = ("n1", "n2", "n3"), ("n4", "n5", "n6")
    network.cut = {frozenset((one, other)) for one in halves[0] for other in halves[1]}
    network.run(10 * SECOND)
    assert network.believed("n1", ALIVE) is False
    network.cut.clear()
    network.run(30 * SECOND)
    assert all(network.believed(node, ALIVE) for node in network.nodes)


# False suspicion.


def test_indirect_probes_spare_a_node_behind_one_bad_link() -> None:
    for probes, spared in ((3, True), (0, False)):
        network = SwimNetwork(5, config=SwimConfig(indirect_probes=probes))
        network.cut = {frozenset(("n1", "n2"))}
        network.run(20 * SECOND)
        suspicions = [each for _, _, each in network.told if each.state == SUSPECT]
        assert (not suspicions) == spared


def test_suspicion_is_refuted_in_time_and_told() -> None:
    network = SwimNetwork(5, seed=2)
    network.run(SECOND)
    network.paused.add("n2")
    network.run(1_000 * MS)
    network.paused.clear()
    network.run(2 * SECOND)
    assert network.refuted("n2") > 0
    assert network.buried("n2") == []
    assert network.believed("n2", ALIVE)


def test_node_with_a_bad_network_doubts_itself_first() -> None:
    """Lifeguard: whoever does not hear the others becomes patient with them."""
    accused, buried = {}, {}
    for health in (7, 0):
        networks = [SwimNetwork(8, seed, SwimConfig(health_max=health)) for seed in range(3)]
        for network in networks:
            network.loss["n1"] = 0.5
            network.run(20 * SECOND)
        told = [each for network in networks for _, _, each in network.told]
        accused[health] = sum(each.state == SUSPECT and each.by == "n1" for each in told)
        buried[health] = sum(each.state == DEAD and each.node != "n1" for each in told)
    assert accused[7] < accused[0] / 2
    assert buried[7] == 0 < buried[0]


def test_own_pause_is_nobody_elses_death() -> None:
    swim = Swim("n1", ["n2", "n3"], SwimConfig(), Random(1), 0)
    for now_ms in range(0, 400, 10):
        swim.tick(now_ms * MS)
        for peer, gossip in swim.sends:
            if gossip.ping:
                swim.receive(now_ms * MS, peer, type(gossip)(ack=gossip.ping))
        swim.sends = []
    swim.tick(60 * SECOND)
    assert swim.transitions == []
    assert swim.health == 1


# Phi.


def test_phi_suspects_after_so_many_mean_gaps() -> None:
    detector = PhiDetector(["n2"], 100 * MS, 8.0, 0)
    now_ns = 0
    for _ in range(2000):
        now_ns += 100 * MS
        detector.check(now_ns)
        detector.heard("n2", now_ns)
    heard_ns = now_ns
    while not (suspected := detector.check(now_ns)):
        now_ns += 10 * MS
    # Cassandra: t > 8 ln 10 mean gaps.
    assert (now_ns - heard_ns) / (100 * MS) == pytest.approx(8 * log(10), abs=0.2)
    assert suspected[0][0] == "n2"
    assert detector.phi("n2", now_ns) >= 8
    assert detector.heard("n2", now_ns)


def test_phi_is_not_made_impatient_by_load_nor_patient_by_an_outage() -> None:
    detector = PhiDetector(["n2"], 100 * MS, 8.0, 0)
    now_ns = 0
    for step in range(20_000):
        now_ns += MS if step != 10_000 else 60 * SECOND
        detector.heard("n2", now_ns)
    assert 50 * MS <= detector.silence_max_ns("n2") / (8 * log(10)) <= 110 * MS


# In a cluster.


@pytest.mark.parametrize("kind", [Detection.PHI, Detection.SWIM])
def test_cluster_notices_death_and_return(kind: Detection) -> None:
    cluster = Cluster(DynamoSettings(detector=kind, anti_entropy_ns=0, push_pull_ns=SECOND))
    cluster.run(SECOND)
    cluster.stop("n2")
    cluster.run(8 * SECOND)
    for node in ("n1", "n3", "n4", "n5"):
        alive = {peer.node: peer.alive for peer in cluster.cores[node].status().peers}
        assert [peer for peer, each in alive.items() if not each] == ["n2"]
    assert cluster.told("peer_suspected")
    cluster.start("n2")
    cluster.run(5 * SECOND)
    for node in ("n1", "n3", "n4", "n5"):
        assert all(peer.alive for peer in cluster.cores[node].status().peers)
        assert cluster.counters(node)["false_suspicions"] == 0
    cluster.write("n4", put("acorn", "a1", w=3))


def test_false_suspicion_is_counted_and_told() -> None:
    cluster = Cluster(DynamoSettings(detector=Detection.SWIM, anti_entropy_ns=0))
    cluster.run(SECOND)
    cluster.isolate("n2")
    cluster.run(1_500 * MS)
    cluster.heal()
    cluster.run(3 * SECOND)
    assert cluster.told("suspicion_raised")
    (refuted, *_) = cluster.told("suspicion_refuted")
    assert refuted.suspicion_refuted.same_life
    assert "n2" in {each.incarnation_learned.peer for each in cluster.told("incarnation_learned")}
    assert sum(cluster.counters(node)["false_suspicions"] for node in cluster.members) > 0


def among_very_many() -> tuple[Cluster, str]:
    """Return a cluster that has just started, and a key whose replicas n1 has not heard of."""
    settings = DynamoSettings(detector=Detection.SWIM, gossip_ns=0, anti_entropy_ns=0)
    cluster = Cluster(settings, [f"n{number}" for number in range(1, 61)])
    node = cluster.cores["n1"]._node
    keys = (f"k{number}" for number in range(1_000))
    known = {"n1", *node.lives}
    return cluster, next(key for key in keys if not known & {*node.ring.preference(key)})


def test_node_among_very_many_serves_before_it_has_heard_of_the_replicas() -> None:
    """It greets a few at the start, and those that it needs when it needs them."""
    cluster, key = among_very_many()
    cluster.write("n1", put(key, "a1", w=3))
    assert cluster.now_ns == 0
    assert cluster.counters("n1")["forwarded"] == 1


def test_node_among_very_many_gives_up_replicas_that_do_not_speak() -> None:
    cluster, key = among_very_many()
    node = cluster.cores["n1"]._node
    for replica in node.ring.preference(key):
        cluster.stop(replica)
    assert isinstance(cluster.result("n1", put(key, "a1")), QuorumUnreachable)
    assert len(node.pending) == 0
