"""How long messages and operations were on their way, as nodes measure it when they are told to."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from replication.host.effects import Performer
from replication.host.stamps import WINDOW_NS, WINDOW_STAMPS, Chosen, Stamped, Stamps, stamps_of
from replication.host.store import Store
from replication.legs import undisturbed
from replication.protocol import Observe, Persist, Put, Reply, Send
from replication.v1 import control_pb2, event_pb2, peer_pb2, storage_pb2
from tests.support.host_cluster import KNOWS_SECRET, Client, Nodes, eventually, nodes_in_process

MS = 1_000_000
DYNAMO = "leaderless.dynamo:backend"
# Any message with a repeated part will do.
FIELDS = {"write": "link_faults_changed.faults"}
COPY = event_pb2.Event(
    link_faults_changed=event_pb2.LinkFaultsChanged(faults=[event_pb2.LinkFault(peer="n2")])
)
OTHER = event_pb2.Event(node_stopping=event_pb2.NodeStopping())


@dataclass
class World:
    """The effects of one core with a disk that is as slow as the test wants."""

    store: Store
    stamps: Stamps = field(default_factory=lambda: Stamps(FIELDS))
    left: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.performer = Performer(self.store, self, self, self.stamps)

    def request(self) -> None:
        pass

    def turn(self, now_ns: int, *effects: Send | Persist) -> None:
        self.stamps.turn(now_ns)
        self.performer.perform(effects, now_ns)
        self.performer.commit()

    def finish_sync(self, now_ns: int) -> None:
        sequence = self.store.sync()
        self.stamps.now_ns = now_ns
        self.performer.synced(sequence)

    def send(self, effect: Send) -> None:
        data = effect.message.SerializeToString()
        self.left.append(self.stamps.left(effect, data) if isinstance(effect, Chosen) else data)

    def reply(self, effect: Reply) -> None:
        raise AssertionError("nobody asked")

    def observe(self, effect: Observe) -> None:
        raise AssertionError("nothing was told")

    def own(self) -> list[tuple[int, int]]:
        return self.stamps.delays.found["own"].spans


def world(folder: Path) -> World:
    return World(Store(folder / "store.log"))


PERSIST = Persist([Put("kv", b"k", b"v")])


def test_a_stamp_says_when_it_was_decided_and_when_its_writes_were_durable(tmp_path: Path) -> None:
    here = world(tmp_path)
    here.turn(10, PERSIST, Send("n2", OTHER))
    assert not here.left
    here.finish_sync(30)
    here.turn(40, Send("n3", OTHER))
    (first,), (second,) = (list(stamps_of([each], 50)) for each in here.left)
    assert (first.decided_ns, first.left_ns, first.sent_ns) == (10, 30, 50)
    assert (second.decided_ns, second.left_ns, second.sent_ns) == (40, 40, 50)
    assert here.own() == [], "it was no copy"


def test_the_own_copy_is_durable_after_the_others_left_or_with_them(tmp_path: Path) -> None:
    here = world(tmp_path)
    here.turn(10, Send("n2", COPY), Send("n3", COPY), PERSIST)  # they need not wait for it
    here.turn(20, Send("n2", COPY), PERSIST)  # waits for the sync in flight, not for its own
    here.turn(25, Send("n2", COPY))  # a copy of what this node does not hold
    here.performer.synced(1)
    assert here.own() == [(10, 25)], "once for both"
    here.stamps.now_ns = 30
    here.finish_sync(60)
    assert here.own() == [(10, 25), (25, 60)]
    here.turn(70, PERSIST, Send("n2", COPY))  # its message says more than "store this"
    here.finish_sync(90)
    assert here.own()[2:] == [(90, 90)]


def test_stamps_keep_a_rate_and_are_of_every_message_below_it() -> None:
    stamps = Stamps(FIELDS)
    send = Send("n2", OTHER)

    def stamped(number: int) -> int:
        stamps.now_ns += WINDOW_NS
        return sum(isinstance(stamps.choose(send), Chosen) for _ in range(number))

    assert stamped(WINDOW_STAMPS // 2) == WINDOW_STAMPS // 2
    assert stamped(WINDOW_STAMPS * 40) == WINDOW_STAMPS * 40, "nobody could know"
    assert 0.9 * WINDOW_STAMPS < stamped(WINDOW_STAMPS * 40) <= WINDOW_STAMPS
    assert stamped(WINDOW_STAMPS // 2) <= 2, "nobody could know"
    assert stamped(WINDOW_STAMPS // 2) == WINDOW_STAMPS // 2


def test_a_frame_says_which_of_its_messages_are_stamped() -> None:
    stamped = Stamped(b"b")
    stamped.decided_ns, stamped.left_ns = 5, 7
    assert list(stamps_of([b"a", stamped, b"c"], 9)) == [
        peer_pb2.Stamp(position=1, decided_ns=5, left_ns=7, sent_ns=9)
    ]
    assert list(stamps_of([b"a", b"b"], 9)) == []


def on_dynamo(
    folder: Path, story: Callable[[Nodes, Client], Awaitable[None]], *, stamps: bool
) -> None:
    async def run() -> None:
        async with (
            asyncio.timeout(20),
            nodes_in_process(folder, 3, backend=DYNAMO, stamps=stamps) as nodes,
        ):
            await story(nodes, nodes.clients["n1"])

    asyncio.run(run())


async def by_pipeline(client: Client, *requests: object) -> list[storage_pb2.PipelineResult]:
    """Perform puts and gets by the stream, one after the other."""
    stream = client.storage.Pipeline()
    results = []
    for number, request in enumerate(requests, 1):
        operation = storage_pb2.PipelineOperation(number=number)
        kind = "put" if isinstance(request, storage_pb2.PutRequest) else "get"
        getattr(operation, kind).CopyFrom(request)
        await stream.write(storage_pb2.PipelineRequest(operations=[operation]))
        response = await stream.read()
        results += list(response.results)
    await stream.done_writing()
    return results


async def delays(client: Client) -> dict[str, list[int]]:
    response = await client.control.ListDelays(
        control_pb2.ListDelaysRequest(), metadata=KNOWS_SECRET
    )
    return {each.leg: list(each.delay_ns) for each in response.legs if each.delay_ns}


def test_nodes_tell_how_long_every_leg_took(tmp_path: Path) -> None:
    async def story(nodes: Nodes, client: Client) -> None:
        put = client.put_request("k")
        stored, read = await by_pipeline(client, put, storage_pb2.GetRequest(key="k"))
        assert 0 < stored.left_ns < read.left_ns

        async def arrived() -> bool:
            at = {name: await delays(each) for name, each in nodes.clients.items()}
            asked = {"write", "read", "queue"}
            others = all(asked <= at[name].keys() for name in ("n2", "n3"))
            answers = {"acknowledgement", "response", "own"}
            return others and answers <= at["n1"].keys()

        await eventually(arrived, "every leg was travelled")
        for each in nodes.clients.values():
            for found in (await delays(each)).values():
                assert all(0 <= delay_ns < 20_000 * MS for delay_ns in found)

    on_dynamo(tmp_path, story, stamps=True)


def test_nodes_that_were_not_told_to_measure_say_nothing(tmp_path: Path) -> None:
    async def story(nodes: Nodes, client: Client) -> None:
        put = client.put_request("k")
        for result in await by_pipeline(client, put, storage_pb2.GetRequest(key="k")):
            assert result.left_ns == 0
        for each in nodes.clients.values():
            assert await delays(each) == {}
        for process in nodes.processes.values():
            assert process.node.stamps is None

    on_dynamo(tmp_path, story, stamps=False)


def test_what_a_fault_delays_counts_as_what_it_took_and_is_left_out(tmp_path: Path) -> None:
    async def story(nodes: Nodes, client: Client) -> None:
        fault = event_pb2.LinkFault(peer="n2", delay_ns=150 * MS)
        request = control_pb2.SetLinkFaultsRequest(faults=[fault])
        await client.control.SetLinkFaults(request, metadata=KNOWS_SECRET)
        await client.put("k")
        other = nodes.clients["n2"]

        async def arrived() -> bool:
            return "write" in await delays(other)

        await eventually(arrived, "the copy came in the end")
        assert min((await delays(other))["write"]) >= 150 * MS
        stamps = nodes.processes["n2"].node.stamps
        assert stamps is not None
        (span,) = stamps.delays.found["write"].spans
        spans = {"write": [span]}
        assert undisturbed(spans, [(span[0] - 1, span[0] + MS)]) == {}
        assert undisturbed(spans, [(span[1] + 1, span[1] + MS)]) == {"write": [span[1] - span[0]]}

    on_dynamo(tmp_path, story, stamps=True)


def test_a_clock_fault_does_not_touch_the_stamps(tmp_path: Path) -> None:
    async def story(nodes: Nodes, client: Client) -> None:
        request = control_pb2.SetClockFaultRequest(offset_ns=3600 * 1000 * MS, drift_ppm=200_000)
        await client.control.SetClockFault(request, metadata=KNOWS_SECRET)
        before_ns = time.monotonic_ns()
        (result,) = await by_pipeline(client, client.put_request("k"))
        stamps = nodes.processes["n2"].node.stamps
        assert stamps is not None
        await eventually(lambda: stamps.delays.found["write"].spans, "the copy came")
        (begin_ns, end_ns) = stamps.delays.found["write"].spans[0]
        assert before_ns <= begin_ns <= end_ns
        assert before_ns <= result.left_ns

    on_dynamo(tmp_path, story, stamps=True)
