"""Effects leave in the order the core listed them, and none before what it rests on is durable."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.errors import Overloaded
from replication.host.effects import Performer
from replication.host.store import Store
from replication.protocol import Effect, Observe, Persist, Put, Reply, Send
from replication.v1 import event_pb2, storage_pb2


@dataclass
class World:
    """A performer with a disk that is as slow as the test wants."""

    store: Store
    left: list[Effect] = field(default_factory=list)
    syncs_requested: int = 0

    def __post_init__(self) -> None:
        self.performer = Performer(self.store, self, self)

    def request(self) -> None:
        self.syncs_requested += 1

    def turn(self, *effects: Effect, now_ns: int = 0) -> None:
        self.performer.perform(effects, now_ns)
        self.performer.commit()

    def finish_sync(self) -> None:
        self.performer.synced(self.store.sync())

    def send(self, effect: Send) -> None:
        self.left.append(effect)

    def reply(self, effect: Reply) -> None:
        self.left.append(effect)

    def observe(self, effect: Observe) -> None:
        self.left.append(effect)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(Store(tmp_path / "store.log"))


def persist(key: bytes = b"k") -> Persist:
    return Persist([Put("kv", key, b"v")])


def send(number: int) -> Send:
    return Send("n2", storage_pb2.Dot(actor="n1", counter=number))


def reply(number: int) -> Reply:
    return Reply(number, Overloaded())


def observe() -> Observe:
    return Observe(event_pb2.Event(peer_trusted=event_pb2.PeerTrusted(peer="n2")))


def test_nothing_behind_a_persist_leaves_before_the_sync(world: World) -> None:
    early, late = send(1), [send(2), reply(3), observe()]
    world.turn(early, persist(), *late)
    assert world.left == [early]
    world.finish_sync()
    assert world.left == [early, *late]
    assert world.performer.idle


def test_a_later_call_does_not_overtake_the_sync_of_an_earlier_one(world: World) -> None:
    """What a core does next rests on its own unsynced write: it may have counted its own copy."""
    world.turn(persist(), send(1))
    world.turn(send(2), reply(3))
    assert world.left == []
    world.finish_sync()
    assert world.left == [send(1), send(2), reply(3)]


def test_what_comes_during_a_sync_waits_for_the_next_and_all_of_it_shares_one(
    world: World, tmp_path: Path
) -> None:
    world.turn(persist(b"1"), reply(1))
    covered_by_first = world.store.sync()
    for number in range(2, 10):
        world.turn(persist(b"%d" % number), reply(number))
    assert world.syncs_requested == 1
    world.performer.synced(covered_by_first)
    assert world.left == [reply(1)]
    assert world.syncs_requested == 2
    world.finish_sync()
    assert world.left == [reply(number) for number in range(1, 10)]
    assert world.syncs_requested == 2


def test_effects_without_a_persist_leave_at_once(world: World) -> None:
    world.turn(send(1), reply(2))
    assert world.left == [send(1), reply(2)]
    assert world.syncs_requested == 0


def test_an_event_carries_the_time_at_which_the_core_decided(world: World) -> None:
    world.turn(persist(), observe(), now_ns=17)
    world.turn(send(1), now_ns=99)
    world.finish_sync()
    (event, _) = world.left
    assert isinstance(event, Observe)
    assert event.event.monotonic_ns == 17


def test_without_syncs_effects_leave_once_the_write_is_with_the_operating_system(
    tmp_path: Path,
) -> None:
    path = tmp_path / "store.log"
    world = World(Store(path, "off"))
    world.performer = Performer(world.store, world, None)
    world.turn(persist(), reply(1))
    assert world.left == [reply(1)]
    assert path.stat().st_size == world.store.stored_bytes > world.store.synced_bytes


effects = st.sampled_from("PSRO")
steps = st.lists(st.one_of(st.lists(effects, max_size=6), st.just("sync")), max_size=30)


@given(steps=steps)
def test_order_and_durability_hold_whenever_syncs_end(
    tmp_path_factory: pytest.TempPathFactory, steps: list[list[str] | str]
) -> None:
    """The list of effects that left is a prefix of the list the core made, persists left out, and
    each persist in front of the last one that left was synced before."""
    world = World(Store(tmp_path_factory.mktemp("order") / "store.log", "off"))
    made: list[Effect] = []
    batches = durable = requested = 0
    for step in steps:
        if step == "sync":
            if world.syncs_requested > requested:
                requested += 1
                durable = world.store.sync()
                world.performer.synced(durable)
        else:
            turn: list[Effect] = []
            for kind in step:
                batches += kind == "P"
                number = len(made) + len(turn)
                turn.append(
                    {"P": persist(), "S": send(number), "R": reply(number), "O": observe()}[kind]
                )
            made += turn
            world.turn(*turn)
        # At most one sync is ever asked for at a time.
        assert world.syncs_requested - requested in (0, 1)
        _judge(made, world.left, durable)
    while world.syncs_requested > requested:
        requested += 1
        world.finish_sync()
    assert len(world.left) == sum(not isinstance(each, Persist) for each in made)
    world.store.abandon()


def _judge(made: list[Effect], left: list[Effect], durable: int) -> None:
    persists = 0
    allowed = []
    for effect in made:
        if isinstance(effect, Persist):
            persists += 1
        elif persists <= durable:
            allowed.append(effect)
    # All that may leave has left, nothing else has, and in this order.
    assert [id(each) for each in left] == [id(each) for each in allowed]
