"""All processes of one cluster: started together, watched, and stopped on every way out."""

import asyncio
import secrets
import signal
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from replication.cluster.control import Control
from replication.cluster.ports import LOOPBACK, Ports
from replication.cluster.process import Evidence, NodeFailed, NodeProcess
from replication.cluster.zygote import Zygote
from replication.errors import ConfigError
from replication.host.config import (
    CONFIG_FILE,
    EXIT_OK,
    EXIT_SYSTEM,
    STORE_FILE,
    SYNC_ALWAYS,
    NodeConfig,
)
from replication.plan.model import BackendChoice
from replication.protocol import Family, NodeId
from replication.v1 import control_pb2, event_pb2

READY_TIMEOUT_S = 20.0
SERVING_TIMEOUT_S = 15.0
SERVING_POLL_S = 0.01
STOP_TIMEOUT_S = 1.0  # a node stops within half a second of SIGTERM


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """What to start. Each node gets the folder ``folder/NODE``, made if need be."""

    nodes: tuple[NodeId, ...]  # the members
    backend: BackendChoice
    family: Family
    folder: Path
    sync: str = SYNC_ALWAYS  # see replication.host.config
    seed: int = 0
    spares: tuple[NodeId, ...] = ()  # not started, until ``start_node``; no members
    stamps: bool = False  # nodes measure how long messages are on their way

    @property
    def everybody(self) -> tuple[NodeId, ...]:
        """Return the members and the spares."""
        return (*self.nodes, *self.spares)


class Cluster:
    """The nodes of one cluster on this machine, as processes that do not outlive this one.

    Use it as ``async with Cluster(spec) as cluster``: the nodes are started, and whatever happens
    inside, none is left. A cancellation while they are being stopped kills them at once.
    """

    def __init__(self, spec: ClusterSpec) -> None:
        self.spec = spec
        self.secret = secrets.token_hex(16)
        self.endpoints: Mapping[NodeId, str] = {}
        self.control = Control({}, self.secret)
        self.surprises: list[NodeFailed] = []  # nodes that ended without being asked to
        self.surprised = asyncio.Event()
        self._ports: Ports | None = None
        self._zygote: Zygote | None = None
        self._paused: set[NodeId] = set()
        self._starting: set[NodeId] = set()  # started again, and not yet to be asked anything
        self._processes = {
            node: NodeProcess(node, spec.folder / node, self._on_end) for node in spec.everybody
        }

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self._leave()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._leave()

    async def start(self) -> None:
        """Start all members at once and wait until each serves its API.

        Raises NodeFailed when one does not, with the reason. They know each other but need not have
        elected anybody yet: see ``wait_until_serving``.
        """
        # First, since it takes as long to import what nodes need as all the rest does.
        self._zygote = Zygote(self.spec.backend.path, self.spec.folder)
        self._ports = Ports(len(self.spec.everybody))
        self.endpoints = {
            node: f"{LOOPBACK}:{port}"
            for node, port in zip(self.spec.everybody, self._ports.numbers, strict=True)
        }
        self.control = Control(self.endpoints, self.secret)
        for node in self.spec.everybody:
            self._write_config(node)
        members = [self._processes[node] for node in self.spec.nodes]
        await asyncio.gather(*map(self._start, members))

    async def _start(self, process: NodeProcess) -> None:
        assert self._zygote is not None, "the cluster was started and not stopped"
        await process.spawn(self._zygote)
        await process.ready(READY_TIMEOUT_S)

    def _write_config(self, node: NodeId) -> None:
        spec = self.spec
        folder = spec.folder / node
        folder.mkdir(parents=True, exist_ok=True)
        config = NodeConfig(
            node=node,
            addresses=dict(self.endpoints),
            spares=list(spec.spares),
            backend=spec.backend.path,
            # The process is started in another folder than this one at will.
            folder=str(folder.resolve()),
            secret=self.secret,
            settings=asdict(spec.backend.settings),
            sync=spec.sync,
            seed=spec.seed,
            stamps=spec.stamps,
        )
        path = folder / CONFIG_FILE
        path.touch(mode=0o600)  # it holds the secret
        path.write_text(config.to_json())

    async def wait_until_serving(self, timeout_s: float = SERVING_TIMEOUT_S) -> None:
        """Wait until clients can be served: a leader that all know, or all replicas in touch.

        Raises NodeFailed with what is missing when that takes longer than ``timeout_s``.
        """
        missing = "no answer"
        try:
            async with asyncio.timeout(timeout_s):
                while missing:
                    found = await self.control.statuses(self.spec.nodes)
                    missing = what_is_missing(self.spec.nodes, self.spec.family, found)
                    if self.surprises:
                        raise self.surprises[0]
                    if missing:
                        await asyncio.sleep(SERVING_POLL_S)
        except TimeoutError:
            raise NodeFailed(
                "", f"the cluster does not serve after {timeout_s:g} s: {missing}"
            ) from None

    # What is done to single nodes.

    def is_up(self, node: NodeId) -> bool:
        """Whether there is a process that answers: not paused, and no longer starting."""
        running = self._processes[node].pid is not None
        return running and node not in self._paused and node not in self._starting

    def is_running(self, node: NodeId) -> bool:
        """Whether there is a process, paused or not."""
        return self._processes[node].pid is not None

    def pids(self) -> dict[NodeId, int]:
        """Return the process ids of the nodes that run."""
        found = {node: process.pid for node, process in self._processes.items()}
        return {node: pid for node, pid in found.items() if pid is not None}

    async def kill(self, node: NodeId) -> Evidence:
        """End a node with SIGKILL, as if its power were gone but not its page cache."""
        self._paused.discard(node)
        evidence = await self._processes[node].kill()
        await self.control.forget(node)
        return evidence

    async def terminate(self, node: NodeId) -> Evidence:
        """Ask a node to end with SIGTERM; kill it when it does not within STOP_TIMEOUT_S."""
        process = self._processes[node]
        pid = process.pid
        await self.resume(node)
        code = await self._end(process)
        await self.control.forget(node)
        return Evidence(f"{node} (pid {pid}) ended with exit code {code}", code == EXIT_OK)

    async def start_node(self, node: NodeId) -> Evidence:
        """Start a node that is down; return when it serves."""
        process = self._processes[node]
        if process.pid is not None:
            return Evidence(f"{node} runs already (pid {process.pid})", False)
        again = " again" if process.lives else ""
        self._starting.add(node)
        try:
            await self.control.forget(node)
            await self._start(process)
        finally:
            self._starting.discard(node)
        return Evidence(f"{node} serves{again} as pid {process.pid}", True)

    def expect_failure(self, node: NodeId, expected: bool = True) -> None:
        """The node may end by itself from now on (its disk is full), or may not any more."""
        self._processes[node].expect_end(expected)

    def has_failed(self, node: NodeId) -> Evidence:
        """Return whether the node ended by itself because a write was refused."""
        return self._processes[node].ended_by(EXIT_SYSTEM)

    def wipe(self, node: NodeId) -> Evidence:
        """Delete what a node that is down has stored; what it told of stays."""
        assert self._processes[node].pid is None, "a running node's store is not taken away"
        path = self.spec.folder / node / STORE_FILE
        size = path.stat().st_size if path.exists() else 0
        path.unlink(missing_ok=True)
        return Evidence(f"the store of {node} ({size} bytes) is gone", size > 0)

    async def pause(self, node: NodeId) -> Evidence:
        """Stop a node in its tracks with SIGSTOP; its connections stay open."""
        if self._processes[node].pid is not None:
            self._paused.add(node)
        return await self._processes[node].pause()

    async def resume(self, node: NodeId) -> Evidence:
        """Let a paused node go on."""
        if node not in self._paused:
            return Evidence(f"{node} was not paused", False)
        self._paused.discard(node)
        return await self._processes[node].resume()

    # The end.

    async def stop_all(self) -> None:
        """Stop every node and give the ports back. May be called again, and after a failed start.

        Paused nodes are continued first. Bounded: who has not ended after STOP_TIMEOUT_S is killed.
        """
        for process in self._processes.values():
            process.expect_end()
            process.send(signal.SIGCONT)
        self._paused.clear()
        await asyncio.gather(*(self._end(process) for process in self._processes.values()))
        await self.control.close()
        self._release()

    async def _end(self, process: NodeProcess) -> int | None:
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                return await process.end(signal.SIGTERM)
        except TimeoutError:
            return await process.end(signal.SIGKILL)

    async def _leave(self) -> None:
        stopping = asyncio.ensure_future(self.stop_all())
        try:
            await asyncio.shield(stopping)
        except BaseException:
            stopping.cancel()
            self.kill_now()
            raise

    def kill_now(self) -> None:
        """Kill every node without a running loop: for the last way out."""
        for process in self._processes.values():
            process.expect_end()
        self._release()

    def _release(self) -> None:
        if self._zygote is not None:
            self._zygote.close()
            self._zygote = None
        if self._ports is not None:
            self._ports.release()
            self._ports = None

    def _on_end(self, process: NodeProcess, code: int) -> None:
        self.surprises.append(NodeFailed(process.node, process.words_of_end(code)))
        self.surprised.set()


def what_is_missing(
    nodes: Iterable[NodeId], family: Family, found: Mapping[NodeId, control_pb2.StatusResponse]
) -> str:
    """Return why the cluster does not serve its clients yet, or in full again; "" when it does."""
    for node in nodes:
        if node not in found:
            return f"{node} does not answer"
        status = found[node].status
        if not status.serving:
            return f"{node} is not serving yet"
        lost = [peer.node for peer in status.peers if not peer.alive]
        if family is Family.LEADERLESS and lost:
            return f"{node} does not see {', '.join(lost)}"
    roles = [each.status.role for each in found.values()]
    if family is Family.LEADER and event_pb2.ROLE_LEADER not in roles:
        return "nobody leads"
    # The first messages to a node that is not reached yet would be lost. A leaderless node serves
    # all the same, it believes that all others are alive.
    for node, answer in found.items():
        for link in answer.host.links:
            if link.peer in found and not link.connected:
                return f"{node} is not connected to {link.peer}"
    return ""


def check_folder(folder: Path, nodes: Iterable[NodeId]) -> None:
    """Raise ConfigError when ``folder`` holds a store of one of the nodes already."""
    used = [node for node in nodes if (folder / node / CONFIG_FILE).exists()]
    if used:
        raise ConfigError([f"{folder} holds the nodes of an earlier run: {', '.join(used)}"])
