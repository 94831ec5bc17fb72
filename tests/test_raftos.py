"""raftos behind the same API: it serves, and it has a leader in each half of an even cluster."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from leader.raftos import RaftosSettings, backend, settings
from leader.raftos.adapter import RaftosCore
from leader.v1 import raftos_pb2
from replication.errors import ConfigError, InvalidRequest, NotLeader, OperationError
from replication.plan import load_scenario
from replication.protocol import (
    Effect,
    Family,
    Instant,
    Membership,
    NodeId,
    Observe,
    Reply,
    Request,
    RequestBody,
    Response,
    Send,
)
from replication.simulation import simulate
from replication.v1 import event_pb2, storage_pb2
from tests.support.raft_cluster import MemoryDisk, compare_and_set, get, put

pytest.importorskip("raftos", reason="uv sync --extra raftos")

MS = 1_000_000
# As published: a heartbeat, and an election after 5 to 15 of them; only all of it 20 times faster.
FAST = RaftosSettings(heartbeat_interval_ns=15 * MS)
Result = Response | OperationError


class Cluster:
    """Nodes in one process and on one loop; ``cut`` are pairs that do not hear each other."""

    def __init__(self, folder: Path, size: int) -> None:
        self.members = tuple(f"n{number}" for number in range(1, size + 1))
        self.cut: set[frozenset[NodeId]] = set()
        self.events: list[tuple[NodeId, event_pb2.Event]] = []
        self._waiting: dict[int, asyncio.Future[Result]] = {}
        self._requests = 0
        self._loop = asyncio.get_running_loop()
        self.cores: dict[NodeId, RaftosCore] = {}
        for name in self.members:
            core = backend.create(Membership(name, self.members), FAST, Random(1))
            assert isinstance(core, RaftosCore)
            core.attach(folder / name, self._performer(name))
            self.cores[name] = core
        for core in self.cores.values():
            assert core.start(self.now(), MemoryDisk()) == []

    def now(self) -> Instant:
        return Instant(int(self._loop.time() * 1e9), 0)

    def _performer(self, name: NodeId) -> Callable[[list[Effect]], None]:
        return lambda effects: self._perform(name, effects)

    def _perform(self, name: NodeId, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(to, message):
                    if frozenset((name, to)) not in self.cut:
                        data = message.SerializeToString()
                        self._loop.call_soon(self._arrive, name, to, data)
                case Reply(request_id, result):
                    self._waiting.pop(request_id).set_result(result)
                case Observe(event):
                    self.events.append((name, event))

    def _arrive(self, sender: NodeId, to: NodeId, data: bytes) -> None:
        message = raftos_pb2.RaftosDatagram.FromString(data)
        self._perform(to, self.cores[to].receive(self.now(), sender, message))

    async def ask(self, node: NodeId, body: RequestBody) -> Result:
        self._requests += 1
        number = self._requests
        future = self._waiting[number] = self._loop.create_future()
        request = Request(body, self.now().monotonic_ns + 2_000 * MS)
        self._perform(node, self.cores[node].submit(self.now(), number, request))
        return await future

    async def leaders(self, count: int) -> list[NodeId]:
        """Wait until so many nodes lead."""
        async with asyncio.timeout(20):
            while True:
                leading = [
                    name
                    for name, core in self.cores.items()
                    if core.status().role == event_pb2.ROLE_LEADER
                ]
                if len(leading) >= count:
                    return leading
                await asyncio.sleep(0.01)

    def stop(self) -> None:
        for core in self.cores.values():
            core._state.stop()


def test_it_elects_writes_reads_and_redirects(tmp_path: Path) -> None:
    async def story() -> None:
        cluster = Cluster(tmp_path, 3)
        (leader,) = await cluster.leaders(1)
        for sequence in range(1, 8):
            answer = await cluster.ask(leader, put("k", b"%d" % sequence, "c", sequence))
            assert isinstance(answer, storage_pb2.PutResponse), answer
        assert answer.served.log_index == 7
        found = await cluster.ask(leader, storage_pb2.GetRequest(key="k"))
        assert isinstance(found, storage_pb2.GetResponse)
        assert found.versions[0].value == b"7"
        assert found.versions[0].write_id.sequence == 7
        other = next(name for name in cluster.members if name != leader)
        refused = await cluster.ask(other, put("k", b"8", "d"))
        assert isinstance(refused, NotLeader)
        assert refused.leader == leader
        assert isinstance(await cluster.ask(other, get("k", local=True)), storage_pb2.GetResponse)
        refused = await cluster.ask(leader, compare_and_set("k", None, b"9"))
        assert isinstance(refused, InvalidRequest)
        (held,) = cluster.cores[leader].contents()
        assert held.versions[0].write_id.sequence == 7
        roles = [event.role_changed.role for name, event in cluster.events if name == leader]
        assert event_pb2.ROLE_CANDIDATE in roles
        cluster.stop()

    asyncio.run(story())


def test_both_halves_of_four_nodes_have_a_leader_that_acknowledges(tmp_path: Path) -> None:
    """Of the three others a majority is two with itself: half of the cluster."""

    async def story() -> None:
        cluster = Cluster(tmp_path, 4)
        # Two may lead from the start, each with the vote of one other.
        first, *more = await cluster.leaders(1)
        beside = next(name for name in cluster.members if name not in (first, *more))
        half = {first, beside}
        rest = [name for name in cluster.members if name not in half]
        cluster.cut = {frozenset((one, other)) for one in half for other in rest}
        leaders = await cluster.leaders(2)
        assert len(half & set(leaders)) == 1
        answers = await asyncio.gather(
            *(cluster.ask(name, put("k", name.encode(), name)) for name in leaders)
        )
        assert all(isinstance(answer, storage_pb2.PutResponse) for answer in answers), answers
        cluster.stop()

    asyncio.run(story())


def test_it_is_not_simulated_and_says_so() -> None:
    plan = load_scenario("raftos-specimen:raftos").plan
    with pytest.raises(ConfigError, match="raftos runs code of its own"):
        simulate(plan, Family.LEADER)


def test_without_the_package_the_scenario_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settings, "find_spec", lambda name: None)
    with pytest.raises(ConfigError) as caught:
        load_scenario("raftos-specimen:raftos")
    assert caught.value.problems == (
        "raftos-specimen.toml:raftos: leader.raftos.heartbeat_interval: raftos is not installed, "
        "expected uv sync --extra raftos",
    )


def test_every_problem_names_its_setting() -> None:
    wrong = RaftosSettings(0, 0, 1)
    assert list(wrong.problems(3)) == [
        "heartbeat_interval is 0, expected at least 1",
        "step_down_missed_heartbeats is 0, expected at least 1",
        "election_interval_spread is 1, expected 2 or more",
    ]
    assert "Raft" in backend.promise(RaftosSettings())


logging.getLogger("raftos").setLevel(logging.ERROR)
