"""Peer links: one frame outstanding, faults per direction with evidence, peers that come and go."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import grpc.aio
import pytest
from google.protobuf.message import Message

from replication.host import links as links_module
from replication.host.config import SECRET_METADATA
from replication.host.faults import Fault, Gate, by_direction, problems
from replication.host.links import Link
from replication.host.process import NodeProcess
from replication.v1 import control_pb2, event_pb2, peer_pb2, peer_pb2_grpc
from tests.support.host_cluster import (
    KNOWS_SECRET,
    SECRET,
    Client,
    Nodes,
    configs,
    eventually,
    held_ports,
    nodes_in_process,
)


class Peer(peer_pb2_grpc.PeerServiceServicer):
    """A peer that acknowledges frames when the test says so."""

    def __init__(self) -> None:
        self.frames: list[peer_pb2.ExchangeRequest] = []
        self.secrets: list[object] = []
        self.acknowledge = asyncio.Semaphore(0)
        self.answers: list[bytes] = []  # they ride on the next acknowledgement
        self.unacknowledged = 0
        self.most_unacknowledged = 0
        self.heard: list[Message] = []  # what the link handed to its node

    async def Exchange(self, _requests: object, context: grpc.aio.ServicerContext) -> None:  # type: ignore[type-arg,override]
        self.secrets.append(dict(context.invocation_metadata() or ())[SECRET_METADATA])
        await context.send_initial_metadata(())
        reading = asyncio.ensure_future(context.read())
        while (request := await reading) is not grpc.aio.EOF:
            self.frames.append(request)
            self.unacknowledged += 1
            self.most_unacknowledged = max(self.most_unacknowledged, self.unacknowledged)
            # Already waiting for the next frame: one that came too early would be seen.
            reading = asyncio.ensure_future(context.read())
            await self.acknowledge.acquire()
            self.unacknowledged -= 1
            response = peer_pb2.ExchangeResponse(frame=request.frame, messages=self.answers)
            self.answers = []
            await context.write(response)


parse = event_pb2.Event.FromString


def said(text: str) -> bytes:
    """Return a message that ``parse`` understands."""
    return event_pb2.Event(node=text).SerializeToString()


def with_peer(story: Callable[[Peer, Link], Awaitable[None]]) -> None:
    """Run ``story`` with a link to a hand-operated peer."""

    async def run() -> None:
        server = grpc.aio.server()
        peer = Peer()
        peer_pb2_grpc.add_PeerServiceServicer_to_server(peer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        link = Link("n1", "n2", f"127.0.0.1:{port}", SECRET, Random(1), parse)
        bugs: list[BaseException] = []
        link.start(lambda _, message, _stamp=None: peer.heard.append(message), bugs.append)
        try:
            async with asyncio.timeout(20):
                await story(peer, link)
        finally:
            await link.stop()
            await server.stop(None)
        assert not bugs

    asyncio.run(run())


def test_what_queues_up_until_the_acknowledgement_goes_into_the_next_frame() -> None:
    async def story(peer: Peer, link: Link) -> None:
        link.send(b"0")
        await eventually(lambda: len(peer.frames) == 1, "the first frame")
        for number in range(1, 50):
            link.send(b"%d" % number)
            await asyncio.sleep(0)
        assert len(peer.frames) == 1
        peer.acknowledge.release()
        await eventually(lambda: len(peer.frames) == 2, "the second frame")
        peer.acknowledge.release()
        await eventually(lambda: link.frames_sent == 2, "both are acknowledged")
        assert [list(frame.messages) for frame in peer.frames] == [
            [b"0"],
            [b"%d" % number for number in range(1, 50)],
        ]
        assert [frame.frame for frame in peer.frames] == [1, 2]
        assert [frame.sender for frame in peer.frames] == ["n1", ""]
        assert peer.secrets == [SECRET]
        assert (link.messages_sent, link.bytes_sent) == (50, 10 + 2 * 40)

    with_peer(story)


def test_exactly_one_frame_is_outstanding_under_load() -> None:
    async def story(peer: Peer, link: Link) -> None:
        sent = 0
        for _ in range(200):
            for _ in range(3):
                link.send(b"%d" % sent)
                sent += 1
            peer.acknowledge.release()
            await asyncio.sleep(0)
        for _ in range(200):
            peer.acknowledge.release()
        await eventually(lambda: link.messages_sent == sent, "everything arrives")
        assert peer.most_unacknowledged == 1
        arrived = [message for frame in peer.frames for message in frame.messages]
        assert arrived == [b"%d" % number for number in range(sent)]
        assert len(peer.frames) < 200

    with_peer(story)


def test_frames_are_bounded_by_bytes_and_a_larger_message_goes_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(links_module, "FRAME_BYTES", 100)

    async def story(peer: Peer, link: Link) -> None:
        link.send(b"first")
        await eventually(lambda: len(peer.frames) == 1, "the first frame")
        sizes = [40, 40, 40, 250, 60, 40, 1, 300]
        for size in sizes:
            link.send(bytes(size))
        for _ in range(10):
            peer.acknowledge.release()
        await eventually(lambda: link.messages_sent == 9, "everything arrives")
        frames = [[len(message) for message in frame.messages] for frame in peer.frames[1:]]
        assert frames == [[40, 40], [40], [250], [60, 40], [1], [300]]

    with_peer(story)


def test_a_larger_message_with_nothing_behind_it_goes_alone_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(links_module, "FRAME_BYTES", 100)

    async def story(peer: Peer, link: Link) -> None:
        link.send(bytes(101))
        await eventually(lambda: len(peer.frames) == 1, "the first frame")
        link.send(bytes(102))
        peer.acknowledge.release()
        await eventually(lambda: len(peer.frames) == 2, "the second frame")
        assert [len(frame.messages[0]) for frame in peer.frames] == [101, 102]

    with_peer(story)


def test_every_message_of_a_burst_waits_for_its_turn_on_a_narrow_link() -> None:
    async def story(peer: Peer, link: Link) -> None:
        link.set_faults(Fault(bytes_per_s=10_000_000), None)
        link.send(b"0".rjust(200_000))
        for number in range(1, 501):  # close to each other behind it
            link.send(b"%d" % number)
        assert (link.outbound.throttled, link.outbound.in_flight) == (501, 501)
        for _ in range(501):
            peer.acknowledge.release()
        await eventually(lambda: link.messages_sent == 501, "everything arrives")
        arrived = [int(each) for frame in peer.frames for each in frame.messages]
        assert arrived == list(range(501)), "nothing overtakes"

    with_peer(story)


def test_a_peer_that_acknowledges_nothing_costs_bounded_memory_and_the_newest_messages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(links_module, "QUEUE_BYTES_MAX", 1000)
    monkeypatch.setattr(links_module, "STALL_SECONDS", 0.2)

    async def story(peer: Peer, link: Link) -> None:
        link.send(b"first")
        await eventually(lambda: len(peer.frames) == 1, "the first frame")
        for _ in range(15):
            link.send(bytes(100))
        assert link.queue_dropped == 5
        await eventually(lambda: link.queue_dropped == 15, "what waits is too old by now")
        link.send(b"dropped at once")
        assert link.queue_dropped == 16
        # It was only slow: with its acknowledgement the link goes on, on the same stream.
        peer.acknowledge.release()
        await eventually(lambda: link.frames_sent == 1, "the acknowledgement")
        link.send(b"again")
        peer.acknowledge.release()
        await eventually(lambda: link.frames_sent == 2, "the next frame")
        assert list(peer.frames[1].messages) == [b"again"]
        assert len(peer.secrets) == 1

    with_peer(story)


def test_what_the_peer_says_with_an_acknowledgement_is_handed_on() -> None:
    async def story(peer: Peer, link: Link) -> None:
        link.send(b"question")
        await eventually(lambda: len(peer.frames) == 1, "the frame")
        peer.answers = [said("one"), said("two")]
        peer.acknowledge.release()
        await eventually(lambda: len(peer.heard) == 2, "the answers")
        assert peer.heard == [event_pb2.Event(node="one"), event_pb2.Event(node="two")]
        assert link.messages_received == 2
        link.set_faults(None, Fault(loss=1))
        link.send(b"question")
        peer.answers = [said("three")]
        peer.acknowledge.release()
        await eventually(lambda: link.inbound.dropped == 1, "the cut takes answers too")
        assert len(peer.heard) == 2

    with_peer(story)


def test_an_answer_that_is_no_message_ends_the_stream_and_not_the_node() -> None:
    async def story(peer: Peer, link: Link) -> None:
        link.send(b"question")
        await eventually(lambda: len(peer.frames) == 1, "the frame")
        peer.answers = [b"\xff"]
        peer.acknowledge.release()
        await eventually(lambda: len(peer.secrets) == 2, "another stream")
        await eventually(lambda: link.connected, "the link is up")
        link.send(b"again")
        peer.acknowledge.release()
        await eventually(lambda: link.frames_sent == 1, "the next frame")

    with_peer(story)


class Acknowledgements:
    """Where a link writes acknowledgements to."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.written: list[tuple[int, list[bytes]]] = []

    async def write(self, response: peer_pb2.ExchangeResponse) -> None:
        self.written.append((response.frame, list(response.messages)))

    def owe(self, frame: int) -> asyncio.Task[None]:
        return asyncio.create_task(self.link.acknowledge(frame, self.write))

    async def say(self, *messages: bytes) -> None:
        """Send, once every task made before has begun: tasks begin in the order they were made."""
        for message in messages:
            self.link.send(message)


def test_an_acknowledgement_takes_replies_along_and_waits_for_them_only_a_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story(peer: Peer, link: Link) -> None:
        made = Acknowledgements(link)
        monkeypatch.setattr(links_module, "ANSWER_SECONDS", 60)
        await asyncio.gather(made.owe(1), made.say(b"one", b"two"))
        assert made.written == [(1, [b"one", b"two"])]
        assert (link.frames_sent, link.messages_sent, link.bytes_sent) == (1, 2, 6)
        monkeypatch.setattr(links_module, "ANSWER_SECONDS", 0.001)
        await made.owe(2)
        assert made.written[1:] == [(2, [])]
        link.send(b"late")
        await eventually(lambda: len(peer.frames) == 1, "its own frame")
        assert list(peer.frames[0].messages) == [b"late"], "and nothing twice"
        peer.acknowledge.release()

    with_peer(story)


def test_replies_that_could_not_ride_go_by_the_own_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story(peer: Peer, link: Link) -> None:
        made = Acknowledgements(link)
        monkeypatch.setattr(links_module, "ANSWER_SECONDS", 60)
        monkeypatch.setattr(links_module, "FRAME_BYTES", 10)
        await asyncio.gather(made.owe(1), made.say(*(letter * 6 for letter in (b"a", b"b", b"c"))))
        assert made.written == [(1, [b"a" * 6])], "no larger than a frame"
        for _ in range(3):
            peer.acknowledge.release()
        await eventually(lambda: len(peer.frames) == 2, "the others")
        assert [list(each.messages) for each in peer.frames] == [[b"b" * 6], [b"c" * 6]]
        owed = made.owe(2)

        async def reply_to_nobody() -> None:
            link.send(b"reply")
            owed.cancel()  # the peer is gone from that stream

        await asyncio.create_task(reply_to_nobody())
        await eventually(lambda: len(peer.frames) == 3, "the reply")
        assert list(peer.frames[2].messages) == [b"reply"]

    with_peer(story)


def heard(nodes: Nodes, listener: str, sender: str) -> int:
    """Return how many messages of ``sender`` the core of ``listener`` received."""
    core = nodes.processes[listener].node.core
    return core.status().counters[f"heard_{sender}"]


def test_messages_reach_all_peers(tmp_path: Path) -> None:
    async def run() -> None:
        async with asyncio.timeout(20), nodes_in_process(tmp_path, 3) as nodes:
            for name, client in nodes.clients.items():
                await client.put(f"from {name}")
            for listener in nodes.processes:
                for sender in nodes.processes.keys() - {listener}:
                    await eventually(
                        lambda one=listener, other=sender: heard(nodes, one, other) == 1,
                        f"{listener} hears {sender}",
                    )
            links = (await nodes.clients["n1"].status()).host.links
            assert [link.peer for link in links] == ["n2", "n3"]
            assert all(link.messages_sent == 1 and link.bytes_sent > 10 for link in links)
            assert all(link.messages_received == 1 for link in links)

    asyncio.run(run())


async def set_faults(client: Client, *faults: event_pb2.LinkFault) -> None:
    request = control_pb2.SetLinkFaultsRequest(faults=faults)
    await client.control.SetLinkFaults(request, metadata=KNOWS_SECRET)


@pytest.mark.parametrize("inbound", [False, True])
def test_a_cut_drops_one_direction_and_counts_until_it_is_healed(
    tmp_path: Path, inbound: bool
) -> None:
    async def run() -> None:
        async with asyncio.timeout(20), nodes_in_process(tmp_path, 2) as nodes:
            n1, n2 = nodes.clients["n1"], nodes.clients["n2"]
            await set_faults(n1, event_pb2.LinkFault(peer="n2", inbound=inbound, loss=1))
            for number in range(10):
                await n1.put(f"a{number}")
                await n2.put(f"b{number}")
            open_way = ("n1", "n2") if inbound else ("n2", "n1")
            await eventually(lambda: heard(nodes, open_way[1], open_way[0]) == 10, "open way")

            async def dropped() -> tuple[int, int]:
                (link,) = (await n1.status()).host.links
                return link.outbound_dropped, link.inbound_dropped

            async def all_dropped() -> bool:
                return await dropped() == ((0, 10) if inbound else (10, 0))

            await eventually(all_dropped, "the other way is cut")
            assert heard(nodes, open_way[0], open_way[1]) == 0
            await set_faults(n1)
            await n1.put("after")
            await n2.put("after")
            await eventually(lambda: heard(nodes, open_way[0], open_way[1]) == 1, "healed")
            assert sum(await dropped()) == 10

    asyncio.run(run())


def test_delayed_messages_have_their_own_due_times(tmp_path: Path) -> None:
    """A slow link is not a narrow one: 50 messages behind each other take one delay, not 50."""

    async def run() -> None:
        async with asyncio.timeout(20), nodes_in_process(tmp_path, 2) as nodes:
            n1 = nodes.clients["n1"]
            delay_ns = 150_000_000
            for fault in (
                event_pb2.LinkFault(peer="n2", delay_ns=delay_ns),
                event_pb2.LinkFault(peer="n2", inbound=True, delay_ns=delay_ns),
            ):
                await set_faults(n1, fault)
                sender = nodes.clients["n2" if fault.inbound else "n1"]
                way = ("n1", "n2") if fault.inbound else ("n2", "n1")
                before = time.monotonic()
                for number in range(50):
                    await sender.put(f"k{number}")
                assert heard(nodes, *way) < 50
                await eventually(lambda way=way: heard(nodes, *way) == 50, "all arrive")
                assert 0.15 <= time.monotonic() - before < 5
            (link,) = (await n1.status()).host.links
            assert link.delayed == 100
            assert link.outbound_dropped == link.inbound_dropped == 0

    asyncio.run(run())


def test_loss_drops_about_its_share_and_the_same_messages_for_the_same_seed() -> None:
    def verdicts(seed: int) -> list[tuple[int, ...]]:
        gate = Gate(Random(seed))
        gate.fault = Fault(loss=0.3, delay_ns=5, jitter_ns=10)
        made = [gate.delays_ns(1, 0) for _ in range(2000)]
        assert gate.dropped == made.count(())
        assert gate.delayed == 2000 - gate.dropped
        return made

    made = verdicts(1)
    assert 500 < made.count(()) < 700
    assert {each for (each,) in filter(None, made)} == set(range(5, 16))
    assert made == verdicts(1) != verdicts(2)


def test_copies_and_messages_held_back_come_within_the_hold() -> None:
    gate = Gate(Random(3))
    gate.fault = Fault(duplicate=0.25, reorder=0.25, hold_ns=100)
    made = [gate.delays_ns(1, 0) for _ in range(2000)]
    twice = [each for each in made if len(each) == 2]
    late = [each for each in made if each[0] > 0]
    assert gate.duplicated == len(twice)
    assert 400 < len(twice) < 600
    assert 400 < gate.reordered < 600
    assert len(late) <= gate.reordered
    assert all(0 <= copy - original <= 100 for original, copy in twice)
    assert gate.delayed == gate.dropped == 0


def test_a_narrow_link_sends_one_message_after_the_other_and_its_queue_is_bounded() -> None:
    gate = Gate(Random(1))
    gate.fault = Fault(bytes_per_s=1000)
    assert gate.delays_ns(500, 0) == (500_000_000,)
    assert gate.delays_ns(500, 0) == (1_000_000_000,)
    assert gate.delays_ns(500, 400_000_000) == (1_100_000_000,), "it waits for those before it"
    assert gate.delays_ns(2000, 400_000_000) == (), "the queue is full"
    assert gate.delays_ns(500, 5_000_000_000) == (500_000_000,), "it was idle meanwhile"
    assert (gate.throttled, gate.dropped) == (4, 1)


def test_faults_of_one_direction_add_up() -> None:
    joined = by_direction(
        [
            event_pb2.LinkFault(peer="n2", loss=0.5, delay_ns=1),
            event_pb2.LinkFault(peer="n2", loss=0.5, jitter_ns=2, duplicate=0.1, hold_ns=3),
            event_pb2.LinkFault(peer="n2", bytes_per_s=9, hold_ns=2),
            event_pb2.LinkFault(peer="n2", bytes_per_s=8),
            event_pb2.LinkFault(peer="n2", inbound=True, loss=1),
        ]
    )
    assert joined == {
        ("n2", False): Fault(0.75, 1, 2, duplicate=pytest.approx(0.1), hold_ns=3, bytes_per_s=8),
        ("n2", True): Fault(loss=1),
    }
    assert problems([event_pb2.LinkFault(peer="n2", loss=-1, delay_ns=-1)]) == [
        "loss of n2 is -1.0, expected 0 to 1",
        "delay, jitter and hold of n2 must not be negative",
    ]


def test_a_cut_takes_what_waits_for_the_next_frame_too() -> None:
    async def story(peer: Peer, link: Link) -> None:
        link.send(b"on its way")
        await eventually(lambda: len(peer.frames) == 1, "the first frame")
        link.send(b"waiting")
        link.set_faults(Fault(loss=1), None)
        link.send(b"later")
        assert link.outbound.dropped == 2
        peer.acknowledge.release()
        await eventually(lambda: link.frames_sent == 1, "the acknowledgement")
        link.set_faults(None, None)
        link.send(b"healed")
        await eventually(lambda: len(peer.frames) == 2, "the second frame")
        assert list(peer.frames[1].messages) == [b"healed"]
        peer.acknowledge.release()

    with_peer(story)


def test_a_restarted_peer_is_reached_again_without_help(tmp_path: Path) -> None:
    async def run() -> None:
        with held_ports(2) as ports:
            made = configs(tmp_path, ports)
            n1 = NodeProcess(made["n1"])
            await n1.start()
            client = Client(made["n1"].address)
            heard_by: list[int] = []
            for life in range(3):
                n2 = NodeProcess(made["n2"])
                await n2.start()

                async def reached(n2: NodeProcess = n2, life: int = life) -> bool:
                    # Messages to a peer that is down are dropped, so keep sending.
                    await client.put(f"life {life}")
                    return n2.node.core.status().counters["heard_n1"] > 0

                await eventually(reached, f"life {life}")
                heard_by.append(n2.node.core.status().counters["heard_n1"])
                await n2.stop("test")
            assert all(heard_by)
            (link,) = (await client.status()).host.links
            # A frame that a dying peer took and did not acknowledge counts as dropped.
            assert link.messages_sent + link.queue_dropped >= sum(heard_by)
            await client.channel.close()
            await n1.stop("test")

    asyncio.run(asyncio.wait_for(run(), 20))


def test_a_wrong_secret_keeps_a_peer_out(tmp_path: Path) -> None:
    async def run() -> None:
        with held_ports(2) as ports:
            made = configs(tmp_path, ports)
            n1 = NodeProcess(made["n1"])
            n2 = NodeProcess(replace(made["n2"], secret="another"))
            await n1.start()
            await n2.start()
            client = Client(made["n1"].address)

            async def dropped() -> bool:
                await client.put("k")
                (link,) = (await client.status()).host.links
                return link.queue_dropped > 3

            await eventually(dropped, "n2 takes nothing")
            assert not n2.node.core.status().counters
            await client.channel.close()
            await n1.stop("test")
            await n2.stop("test")

    asyncio.run(asyncio.wait_for(run(), 20))
