"""Clusters of real node processes: started, hurt, and never left behind."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from replication.cluster.launcher import Cluster, ClusterSpec
from replication.cluster.ports import LOOPBACK, Ports
from replication.cluster.process import NodeFailed, NodeProcess, process_state
from replication.cluster.zygote import ForkRefused, Zygote
from replication.host.config import CONFIG_FILE, EXIT_DATA_LOSS, STORE_FILE
from replication.plan.model import BackendChoice
from replication.protocol import Family, load_backend
from replication.v1 import event_pb2

NODES = ("n1", "n2", "n3")
RAFT = "leader.raft:backend"

pytestmark = pytest.mark.processes


def spec(folder: Path, path: str = RAFT, nodes: tuple[str, ...] = NODES) -> ClusterSpec:
    backend = load_backend(RAFT)
    choice = BackendChoice(path, path, backend.settings_type())
    return ClusterSpec(nodes, choice, Family.LEADER, folder)


def gone(pids: Iterable[int], within_s: float) -> bool:
    """Whether all processes end in time. A zombie that nobody has reaped yet has ended."""
    deadline = time.monotonic() + within_s
    left = set(pids)
    while True:
        left = {pid for pid in left if process_state(pid) not in "XZ"}
        if not left or time.monotonic() >= deadline:
            return not left
        time.sleep(0.01)


def shown_name(pid: int) -> str:
    """Return what ps and top call a process."""
    return Path(f"/proc/{pid}/comm").read_text().strip()


async def until(holds: Callable[[], bool]) -> None:
    """Return as soon as something holds; it must not be missed by a poll that is late."""
    while True:
        if holds():
            return
        await asyncio.sleep(0)


def test_ports_stay_ours_while_nobody_listens() -> None:
    ports = Ports(3)
    try:
        assert len(set(ports.numbers)) == 3
        with socket.socket() as client, pytest.raises(ConnectionRefusedError):
            client.connect((LOOPBACK, ports.numbers[0]))
        with socket.socket() as thief, pytest.raises(OSError, match="in use"):
            thief.bind((LOOPBACK, ports.numbers[0]))
        with socket.socket() as node:
            node.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            node.bind((LOOPBACK, ports.numbers[0]))
            node.listen()
            with socket.socket() as client:
                client.connect((LOOPBACK, ports.numbers[0]))
    finally:
        ports.release()


def test_a_process_that_is_gone_has_no_state() -> None:
    assert process_state(os.getpid()) == "R"
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert process_state(ended.pid) == "X"


def test_nodes_are_killed_paused_and_restarted_with_evidence(tmp_path: Path) -> None:
    async def work() -> list[int]:
        async with Cluster(spec(tmp_path)) as cluster:
            await cluster.wait_until_serving()
            first = cluster.pids()
            assert sorted(first) == list(NODES)
            assert [shown_name(first[node]) for node in NODES] == ["node n1", "node n2", "node n3"]

            paused = await cluster.pause("n1")
            assert paused.shown
            assert process_state(first["n1"]) == "T"
            assert not cluster.is_up("n1")
            resumed = await cluster.resume("n1")
            assert resumed.shown
            assert process_state(first["n1"]) != "T"

            killed = await cluster.kill("n2")
            assert killed.shown
            assert "signal 9" in killed.words
            assert process_state(first["n2"]) == "X"
            starting = asyncio.create_task(cluster.start_node("n2"))
            await until(lambda: cluster.is_running("n2"))
            assert not cluster.is_up("n2"), "it is not to be asked before it serves"
            again = await starting
            assert again.shown
            assert cluster.is_up("n2")
            assert cluster.pids()["n2"] not in first.values()

            ended = await cluster.terminate("n3")
            assert ended.shown, ended.words
            await cluster.start_node("n3")
            await cluster.wait_until_serving()
            assert not cluster.surprises, "all of that was asked for"
            await cluster.pause("n3")  # to be stopped all the same
            return [*first.values(), *cluster.pids().values()]

    pids = asyncio.run(work())
    assert len(set(pids)) == 5
    assert gone(pids, 0)


def test_a_cluster_serves_when_every_node_reaches_every_other(tmp_path: Path) -> None:
    async def work() -> list[tuple[str, str]]:
        async with Cluster(spec(tmp_path)) as cluster:
            await cluster.wait_until_serving()
            found = await cluster.control.statuses(NODES)
            return [
                (node, link.peer)
                for node, answer in found.items()
                for link in answer.host.links
                if link.connected
            ]

    assert sorted(asyncio.run(work())) == [(a, b) for a in NODES for b in NODES if a != b]


def test_a_killed_cluster_keeps_its_ports_and_link_faults_reach_it(tmp_path: Path) -> None:
    async def work() -> None:
        async with Cluster(spec(tmp_path)) as cluster:
            await cluster.wait_until_serving()
            fault = event_pb2.LinkFault(peer="n2", loss=1)
            await cluster.control.set_link_faults("n1", [fault])
            async for event in cluster.control.watch_events("n1"):
                if event.WhichOneof("kind") == "link_faults_changed":
                    assert list(event.link_faults_changed.faults) == [fault]
                    break
            assert await cluster.control.contents("n1") == []
            await cluster.kill("n1")
            statuses = await cluster.control.statuses(NODES, 0.2)
            assert sorted(statuses) == ["n2", "n3"]
            host, _, port = cluster.endpoints["n1"].rpartition(":")
            with socket.socket() as client, pytest.raises(ConnectionRefusedError):
                client.connect((host, int(port)))

    asyncio.run(work())


def test_an_exception_inside_leaves_no_process(tmp_path: Path) -> None:
    pids: list[int] = []

    async def work() -> None:
        async with Cluster(spec(tmp_path)) as cluster:
            pids.extend(cluster.pids().values())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(work())
    assert len(pids) == 3
    assert gone(pids, 0)


def test_a_cancelled_start_leaves_no_process(tmp_path: Path) -> None:
    async def work() -> Cluster:
        cluster = Cluster(spec(tmp_path))
        starting = asyncio.create_task(cluster.__aenter__())
        await until(lambda: len(cluster.pids()) == 3)
        pids.extend(cluster.pids().values())
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        return cluster

    pids: list[int] = []
    cluster = asyncio.run(work())
    assert gone(pids, 0)
    assert not cluster.surprises


def test_a_node_that_ends_unasked_is_a_surprise(tmp_path: Path) -> None:
    async def work() -> NodeFailed:
        async with Cluster(spec(tmp_path)) as cluster:
            os.kill(cluster.pids()["n2"], signal.SIGKILL)
            async with asyncio.timeout(5):
                await cluster.surprised.wait()
            return cluster.surprises[0]

    surprise = asyncio.run(work())
    assert surprise.node == "n2"
    assert "signal 9" in str(surprise)


def test_a_corrupt_store_is_told_with_the_place_to_look(tmp_path: Path) -> None:
    async def work(folder: Path) -> None:
        async with Cluster(spec(folder)):
            pass

    (tmp_path / "n2").mkdir()
    (tmp_path / "n2" / STORE_FILE).write_bytes(b"this was never a store, whatever it is")
    with pytest.raises(NodeFailed) as caught:
        asyncio.run(work(tmp_path))
    assert caught.value.node == "n2"
    assert f"exit code {EXIT_DATA_LOSS} (DATA_LOSS)" in str(caught.value)
    assert str(tmp_path / "n2" / "node.log") in str(caught.value)


def test_a_process_that_never_serves_is_told_apart(tmp_path: Path) -> None:
    async def work() -> None:
        folder = tmp_path / "n1"
        folder.mkdir()
        (folder / CONFIG_FILE).write_text("{}")
        process = NodeProcess("n1", folder, lambda *_: None)
        with contextlib.closing(Zygote(RAFT, tmp_path)) as zygote:
            await process.spawn(zygote)
            await process.ready(10)

    with pytest.raises(NodeFailed, match="its configuration is wrong"):
        asyncio.run(work())


def test_a_start_that_was_cancelled_before_there_was_a_process_leaves_none(tmp_path: Path) -> None:
    async def work() -> None:
        async with Cluster(spec(tmp_path)) as cluster:
            await cluster.terminate("n1")
            zygote = cluster._zygote
            assert zygote is not None
            starting = asyncio.create_task(zygote.fork("n1", tmp_path / "n1" / "node.log"))
            await asyncio.sleep(0)
            starting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await starting
            again = await cluster.start_node("n1")
            assert again.shown, "its address is not taken"

    asyncio.run(work())


def test_without_a_zygote_no_node_is_left_and_none_is_started(tmp_path: Path) -> None:
    async def work() -> None:
        async with Cluster(spec(tmp_path)) as cluster:
            zygote = cluster._zygote
            assert zygote is not None
            pids = cluster.pids().values()
            await cluster.pause("n1")
            os.kill(zygote.pid, signal.SIGKILL)
            async with asyncio.timeout(5):
                while len(cluster.surprises) < 3:
                    await cluster.surprised.wait()
                    cluster.surprised.clear()
            assert gone(pids, 2)
            with pytest.raises(NodeFailed, match="was not started"):
                await cluster.start_node("n2")

    asyncio.run(work())


def test_a_zygote_that_cannot_start_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        monkeypatch.setattr(sys, "executable", "/bin/false")
        with contextlib.closing(Zygote(RAFT, tmp_path)) as zygote:
            await zygote.fork("n1", tmp_path / "log")

    with pytest.raises(ForkRefused, match="has ended"):
        asyncio.run(work())


RUNNER = """
import asyncio, sys
from pathlib import Path
from replication.cluster.launcher import Cluster
sys.path.insert(0, {tests!r})
from test_cluster_processes import spec

async def main():
    async with Cluster(spec(Path({folder!r}))) as cluster:
        await cluster.pause("n1")
        print(*cluster.pids().values(), flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_no_node_survives_its_runner(tmp_path: Path, number: signal.Signals) -> None:
    """A paused one neither: it cannot notice anything, the kernel has to end it."""
    code = RUNNER.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    runner = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert runner.stdout is not None
    pids = [int(word) for word in runner.stdout.readline().split()]
    assert len(pids) == 3
    runner.send_signal(number)
    runner.communicate(timeout=10)
    assert gone(pids, 2)
