"""The duties of whoever runs a core (replication/protocol.py), as the simulated node keeps them."""

from dataclasses import replace
from typing import cast

import pytest

from replication.errors import Indefinite, InvalidRequest, OperationError, Overloaded
from replication.plan.model import LinkRule
from replication.plan.regions import distances
from replication.protocol import StorageRequest
from replication.simulation.delays import Constant
from replication.simulation.settings import (
    ClockSettings,
    DiskSettings,
    NetworkSettings,
    ProcessorSettings,
    SimulationSettings,
)
from replication.simulation.watching import Result
from replication.simulation.world import WALL_START_NS, ClusterSpec, World
from replication.v1 import storage_pb2
from tests.support.scripted_core import NoSettings, ScriptedCore, scripted_backend

US = 1_000
MS = 1_000_000

# Round figures, so that times can be computed by hand.
EXACT = SimulationSettings(
    network=NetworkSettings(within=Constant(100 * US), clients=Constant(200 * US)),
    disk=DiskSettings(commit=Constant(1 * MS)),
    processor=ProcessorSettings(
        turn_ns=10 * US, message_ns=1 * US, request_ns=5 * US, reconnect_ns=0
    ),
)
# From a client's put to the turn of the peer that is told: there, turn, disk, across, turn.
PUT_HEARD_NS = (200 + 15 + 1000 + 100 + 10) * US


def make_world(settings: SimulationSettings = EXACT, nodes: int = 2, seed: int = 1) -> World:
    names = tuple(f"n{number + 1}" for number in range(nodes))
    spec = ClusterSpec(scripted_backend(), NoSettings(), names)
    world = World(spec, settings, seed)
    world.start()
    world.timeline.run(10 * MS)
    return world


def core(world: World, name: str) -> ScriptedCore:
    return cast(ScriptedCore, world.nodes[name].core)


def put(key: str, sequence: int = 1) -> StorageRequest:
    identity = storage_pb2.WriteId(client_id="c1", sequence=sequence)
    return storage_pb2.PutRequest(key=key, value=b"v", write_id=identity)


class Client:
    """Sends puts to one node and notes what comes back, and when."""

    def __init__(self, world: World, node: str = "n1") -> None:
        self.world, self.node = world, node
        self.answers: list[tuple[int, Result]] = []

    def ask(self, body: StorageRequest) -> None:
        self.world.call("c1", self.node, body, 1_000 * MS, self._answered)

    def _answered(self, result: Result) -> None:
        self.answers.append((self.world.now_ns, result))


def run(world: World, for_ns: int) -> None:
    world.timeline.run(world.now_ns + for_ns)


def test_nothing_behind_a_persist_leaves_before_the_sync_has_ended() -> None:
    world = make_world()
    client = Client(world)
    begun_ns = world.now_ns
    client.ask(put("a"))
    run(world, 5 * MS)
    # 200 us there, 15 us for the turn, 1 ms for the disk, 200 us back.
    [(answered_ns, result)] = client.answers
    assert isinstance(result, storage_pb2.PutResponse)
    assert answered_ns - begun_ns == (200 + 15 + 1000 + 200) * US
    [(heard, heard_ns)] = [call for call in core(world, "n2").calls if call[0] == "receive"]
    assert (heard, heard_ns - begun_ns) == ("receive", PUT_HEARD_NS)


def test_writes_that_come_while_the_disk_is_busy_share_the_next_sync() -> None:
    world = make_world()
    client = Client(world)
    for number in range(1, 6):
        client.ask(put(f"k{number}", number))
        run(world, 50 * US)
    run(world, 10 * MS)
    assert len(client.answers) == 5
    assert len(world.nodes["n1"].disk.sync_durations_ns) == 2
    first, *others = [when_ns for when_ns, _ in client.answers]
    assert set(others) == {first + 1 * MS}


def test_what_waits_for_the_disk_dies_with_the_node() -> None:
    world = make_world()
    client = Client(world)
    client.ask(put("a"))
    run(world, 700 * US)  # the sync has begun and not ended
    world.nodes["n1"].kill()
    run(world, 5 * MS)
    [(_, result)] = client.answers
    assert isinstance(result, Indefinite)
    assert not core(world, "n2").heard


@pytest.mark.parametrize("seed", range(6))
def test_a_kill_during_a_sync_leaves_all_or_nothing_of_a_commit(seed: int) -> None:
    world = make_world(seed=seed)
    client = Client(world)
    client.ask(put("a"))
    run(world, 5 * MS)
    client.ask(put("b", 2))
    run(world, 700 * US)
    lost = world.nodes["n1"].kill()
    world.nodes["n1"].start()
    found = core(world, "n1").found
    assert found[b"a"] == b"v"  # it was synced
    assert (b"b" in found) == (lost == 0)


def test_both_ends_of_a_torn_commit_are_seen() -> None:
    lost = set()
    for seed in range(12):
        world = make_world(seed=seed)
        Client(world).ask(put("a"))
        run(world, 700 * US)
        lost.add(world.nodes["n1"].kill())
    assert lost == {0, 1}


def test_without_sync_a_kill_loses_nothing_and_a_power_cut_may() -> None:
    settings = replace(EXACT, disk=DiskSettings(commit=Constant(1 * MS), sync=False))
    kept = set()
    for seed in range(12):
        for power_cut in (False, True):
            world = make_world(settings, seed=seed)
            client = Client(world)
            client.ask(put("a"))
            run(world, 1 * MS)
            assert len(client.answers) == 1  # it did not wait for the disk
            world.nodes["n1"].kill(lose_unsynced=power_cut)
            world.nodes["n1"].start()
            kept.add((power_cut, b"a" in core(world, "n1").found))
    assert kept == {(False, True), (True, True), (True, False)}


def test_a_full_disk_ends_the_process_and_answers_nobody() -> None:
    world = make_world()
    world.nodes["n1"].disk.full = True
    client = Client(world)
    client.ask(put("a"))
    run(world, 5 * MS)
    assert "n1" not in world.alive()
    [(_, result)] = client.answers
    assert isinstance(result, Indefinite)
    world.nodes["n1"].disk.full = False
    world.nodes["n1"].start()
    assert core(world, "n1").found == {}


def test_a_wiped_disk_is_empty() -> None:
    world = make_world()
    Client(world).ask(put("a"))
    run(world, 5 * MS)
    world.nodes["n1"].kill()
    assert world.nodes["n1"].wipe() == 1
    world.nodes["n1"].start()
    assert core(world, "n1").found == {}


def test_a_turn_takes_everything_that_has_arrived_and_flushes_once() -> None:
    settings = replace(EXACT, processor=replace(EXACT.processor, turn_ns=100 * US))
    world = make_world(settings)
    client = Client(world)
    before = len(core(world, "n1").calls)
    client.ask(put("k1", 1))
    run(world, 90 * US)
    client.ask(put("k2", 2))  # arrives while the node is on its way to the turn
    run(world, 20 * US)
    for number in range(3, 6):
        client.ask(put(f"k{number}", number))
        run(world, 1 * US)
    run(world, 5 * MS)
    calls = [what for what, _ in core(world, "n1").calls[before:]]
    assert calls == ["submit"] * 2 + ["flush"] + ["submit"] * 3 + ["flush"]


def test_a_busy_node_saturates_and_refuses_what_it_has_no_room_for() -> None:
    slow = replace(EXACT.processor, request_ns=1 * MS, requests_max=3)
    world = make_world(replace(EXACT, processor=slow))
    client = Client(world)
    for number in range(1, 11):
        client.ask(put(f"k{number}", number))
    run(world, 50 * MS)
    refused = [result for _, result in client.answers if isinstance(result, Overloaded)]
    assert len(client.answers) == 10
    # The first has its turn as it arrives and waits for the disk, two more wait in line.
    assert len(refused) == 7


def test_a_paused_node_does_nothing_and_then_everything_at_once() -> None:
    world = make_world()
    client = Client(world)
    world.pause("n1")
    for number in range(1, 4):
        client.ask(put(f"k{number}", number))
        run(world, 100 * MS)
    assert client.answers == []
    world.resume("n1")
    run(world, 5 * MS)
    assert len(client.answers) == 3
    assert [what for what, _ in core(world, "n1").calls[-4:]] == ["submit"] * 3 + ["flush"]


def test_a_sync_that_ends_during_a_pause_counts_when_the_process_goes_on() -> None:
    world = make_world()
    client = Client(world)
    client.ask(put("a"))
    run(world, 700 * US)
    world.pause("n1")
    run(world, 100 * MS)
    assert client.answers == []
    world.resume("n1")
    run(world, 5 * MS)
    assert len(client.answers) == 1


def test_a_dead_node_refuses_connections_at_once() -> None:
    world = make_world()
    world.nodes["n1"].kill()
    client = Client(world)
    client.ask(put("a"))
    run(world, 1 * MS)
    [(_, result)] = client.answers
    assert isinstance(result, OperationError)
    assert (result.definite, result.reason) == (True, "Unreachable")


def test_a_malformed_request_is_refused_before_any_core_sees_it() -> None:
    world = make_world()
    client = Client(world)
    client.ask(put("k" * 2000))
    run(world, 5 * MS)
    [(_, result)] = client.answers
    assert isinstance(result, InvalidRequest)
    assert not [what for what, _ in core(world, "n1").calls if what == "submit"]


def test_a_cut_link_loses_messages_in_the_direction_that_is_cut() -> None:
    world = make_world()
    client = Client(world)
    rule = LinkRule("n1", "n2", loss=1.0)
    world.impose("cut", [rule])
    client.ask(put("a"))
    run(world, 10 * MS)
    assert core(world, "n2").heard == []
    assert world.tally([rule]).dropped == 1
    Client(world, "n2").ask(put("b"))  # n2 tells n1: the other direction
    run(world, 10 * MS)
    assert len(core(world, "n1").heard) == 1
    world.lift("cut")
    client.ask(put("c"))
    run(world, 10 * MS)
    assert len(core(world, "n2").heard) == 1


def test_a_client_that_is_cut_off_hears_nothing() -> None:
    world = make_world()
    client = Client(world)
    world.impose("cut", [LinkRule("n1", "c1", loss=1.0)])
    client.ask(put("a"))
    run(world, 100 * MS)
    assert client.answers == []
    assert len(core(world, "n2").heard) == 1  # the node did it all the same


def test_delayed_messages_are_late_by_the_delay_and_counted() -> None:
    world = make_world()
    rule = LinkRule("n1", "n2", delay_ns=50 * MS)
    world.impose("slow", [rule])
    begun_ns = world.now_ns
    Client(world).ask(put("a"))
    run(world, 200 * MS)
    [heard_ns] = [when for what, when in core(world, "n2").calls if what == "receive"]
    assert heard_ns - begun_ns == 50 * MS + PUT_HEARD_NS
    assert world.tally([rule]).delayed == 1


def test_a_slow_link_is_not_a_narrow_one() -> None:
    world = make_world()
    world.impose("slow", [LinkRule("n1", "n2", delay_ns=500 * MS)])
    client = Client(world)
    for number in range(1, 11):
        client.ask(put(f"k{number}", number))
        run(world, 10 * MS)
    run(world, 510 * MS)
    assert len(core(world, "n2").heard) == 10


def test_a_stream_keeps_its_order_unless_told_otherwise() -> None:
    def heard(settings: NetworkSettings) -> list[str]:
        world = make_world(replace(EXACT, network=settings))
        for number in range(1, 41):
            Client(world).ask(put(f"k{number:02}", number))
            run(world, 2 * MS)
        run(world, 100 * MS)
        return [message.reason for _, message in core(world, "n2").heard]  # type: ignore[attr-defined]

    steady = heard(EXACT.network)
    assert steady == sorted(steady)
    assert len(steady) == 40
    shuffled = heard(replace(EXACT.network, reorder=0.5, reorder_hold_ns=20 * MS))
    assert shuffled != sorted(shuffled)
    assert sorted(shuffled) == steady


def test_messages_are_lost_and_doubled_as_often_as_told() -> None:
    settings = replace(EXACT, network=replace(EXACT.network, loss=0.2, duplicate=0.3))
    world = make_world(settings)
    for number in range(1, 501):
        Client(world).ask(put(f"k{number}", number))
        run(world, 2 * MS)
    run(world, 100 * MS)
    heard = [message.reason for _, message in core(world, "n2").heard]  # type: ignore[attr-defined]
    assert 350 < len(set(heard)) < 450
    assert 0.2 < len(heard) / len(set(heard)) - 1 < 0.4
    assert world.network.totals().dropped == 500 - len(set(heard))


def test_a_narrow_link_takes_its_time() -> None:
    settings = replace(EXACT.network, bandwidth_bytes_per_second=1_000)
    world = make_world(replace(EXACT, network=settings))
    Client(world).ask(put("k" * 98))  # 100 bytes as a message, 0.1 s on the link
    begun_ns = world.now_ns
    run(world, 1_000 * MS)
    [heard_ns] = [when for what, when in core(world, "n2").calls if what == "receive"]
    assert heard_ns - begun_ns == 100 * MS + PUT_HEARD_NS


def test_one_frame_is_outstanding_and_the_next_carries_what_queued_up() -> None:
    far = replace(EXACT.network, within=Constant(50 * MS))
    world = make_world(replace(EXACT, network=far))
    client = Client(world)
    for number in range(1, 9):
        client.ask(put(f"k{number}", number))
        run(world, 5 * MS)
    run(world, 500 * MS)
    assert len(core(world, "n2").heard) == 8
    assert world.network.totals().frames == 2


def test_a_core_is_woken_when_its_own_clock_says_so() -> None:
    world = make_world()
    node = world.nodes["n1"]
    node.clock.drift(world.now_ns, 100_000)  # a tenth fast
    now_local_ns = node.clock.local_ns(world.now_ns)
    core(world, "n1").alarm_ns = now_local_ns + 110 * MS
    node.clock_changed()
    begun_ns = world.now_ns
    run(world, 200 * MS)
    [(_, woken_ns)] = [call for call in core(world, "n1").calls if call[0] == "wake"]
    assert woken_ns == now_local_ns + 110 * MS
    assert node.clock.when(woken_ns) - begun_ns == 100 * MS


def test_a_jump_moves_the_wall_clock_and_nothing_else() -> None:
    world = make_world()
    clock = world.nodes["n1"].clock
    before = clock.instant(world.now_ns)
    clock.jump(-3_600_000 * MS)
    after = clock.instant(world.now_ns)
    assert after.monotonic_ns == before.monotonic_ns
    assert after.wall_ns == before.wall_ns - 3_600_000 * MS


def test_clocks_are_wrong_within_their_bounds() -> None:
    settings = replace(EXACT, clock=ClockSettings(offset_ns_max=500 * MS, drift_ppm_max=200))
    world = make_world(settings, nodes=5)
    offsets = [node.clock.wall_offset_ns - WALL_START_NS for node in world.nodes.values()]
    drifts = [node.clock.ppm for node in world.nodes.values()]
    assert all(abs(offset) <= 500 * MS for offset in offsets)
    assert all(abs(drift) <= 200 for drift in drifts)
    assert len(set(offsets)) == len(set(drifts)) == 5


def test_a_clean_stop_answers_what_is_in_flight_and_keeps_everything() -> None:
    world = make_world()
    client = Client(world)
    client.ask(put("a"))
    run(world, 700 * US)
    stopped: list[bool] = []
    world.stop("n1", stopped.append)
    client.ask(put("b", 2))
    run(world, 500 * MS)
    answers = sorted(type(result).__name__ for _, result in client.answers)
    assert answers == ["Overloaded", "PutResponse"]
    assert stopped == [True]
    assert "n1" not in world.alive()
    world.nodes["n1"].start()
    assert core(world, "n1").found == {b"a": b"v"}


def test_regions_are_as_far_apart_as_the_table_says() -> None:
    world = make_world()
    world.impose("regions", distances(("eu-west", "us-east"), world.spec.nodes, {}))
    Client(world).ask(put("a"))
    begun_ns = world.now_ns
    run(world, 1_000 * MS)
    [heard_ns] = [when for what, when in core(world, "n2").calls if what == "receive"]
    assert heard_ns - begun_ns == 40_500 * US + PUT_HEARD_NS


def test_a_stalled_disk_lets_go_when_it_goes_on() -> None:
    world = make_world()
    client = Client(world)
    world.nodes["n1"].disk.stalled = True
    client.ask(put("a"))
    run(world, 100 * MS)
    assert client.answers == []
    world.nodes["n1"].unstall()
    run(world, 5 * MS)
    assert len(client.answers) == 1
