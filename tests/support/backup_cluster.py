"""Primary-backup cores wired by hand: the test decides what is cut, who is down, how late it is."""

from collections.abc import Iterator
from dataclasses import replace
from random import Random

from leader.primary_backup import PrimaryBackupCore, PrimaryBackupSettings
from leader.v1 import primary_backup_pb2
from replication.errors import OperationError
from replication.protocol import (
    Effect,
    Instant,
    Membership,
    NodeId,
    Observe,
    Persist,
    Reply,
    Request,
    Response,
    Send,
    StorageRequest,
)
from replication.v1 import event_pb2
from tests.support.raft_cluster import MS, SECOND, MemoryDisk

Result = Response | OperationError


class Cluster:
    """Nodes with instant disks and links; time moves by ``run``, a millisecond at a time."""

    def __init__(self, size: int = 3, **settings: object) -> None:
        self.settings = replace(PrimaryBackupSettings(), **settings)
        self.members = tuple(f"n{number}" for number in range(1, size + 1))
        assert not list(self.settings.problems(size)), "the settings of a test fit together"
        self.now_ns = 10 * SECOND
        self.disks = {name: MemoryDisk() for name in self.members}
        self.cores: dict[NodeId, PrimaryBackupCore] = {}
        self.cut: set[frozenset[NodeId]] = set()
        self.events: list[tuple[NodeId, event_pb2.Event]] = []
        self.results: dict[int, Result] = {}
        self._inbox: list[tuple[NodeId, NodeId, bytes]] = []
        self._requests = 0
        for name in self.members:
            self.start(name)

    @property
    def now(self) -> Instant:
        return Instant(self.now_ns, 0)

    def start(self, name: NodeId) -> None:
        core = PrimaryBackupCore(Membership(name, self.members), self.settings, Random(name))
        self.cores[name] = core
        self._perform(name, core.start(self.now, self.disks[name]))

    def kill(self, name: NodeId) -> None:
        del self.cores[name]

    def isolate(self, *side: NodeId) -> None:
        others = [name for name in self.members if name not in side]
        self.cut = {frozenset((one, other)) for one in side for other in others}

    def mend(self) -> None:
        self.cut = set()

    def run(self, milliseconds: int) -> None:
        for _ in range(milliseconds):
            self.now_ns += MS
            for name, core in list(self.cores.items()):
                due_ns = core.wake_at()
                if due_ns is not None and due_ns <= self.now_ns:
                    self._perform(name, core.wake(self.now))
            self.settle()

    def settle(self) -> None:
        """Deliver until nothing is under way."""
        while True:
            for name, core in list(self.cores.items()):
                self._perform(name, core.flush(self.now))
            if not self._inbox:
                return
            inbox, self._inbox = self._inbox, []
            for sender, to, data in inbox:
                core_or_none = self.cores.get(to)
                if core_or_none is None or frozenset((sender, to)) in self.cut:
                    continue
                message = primary_backup_pb2.PrimaryBackupMessage.FromString(data)
                self._perform(to, core_or_none.receive(self.now, sender, message))

    def _perform(self, name: NodeId, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Persist(writes):
                    self.disks[name].write(writes)
                case Send(to, message):
                    self._inbox.append((name, to, message.SerializeToString()))
                case Reply(request_id, result):
                    assert request_id not in self.results, "a request is answered once"
                    self.results[request_id] = result
                case Observe(event):
                    self.events.append((name, event))

    def ask(self, node: NodeId, body: StorageRequest, timeout_ns: int = SECOND) -> int:
        """Submit a request and let everything happen that needs no time; return its number."""
        self._requests += 1
        request = Request(body, self.now_ns + timeout_ns)
        self._perform(node, self.cores[node].submit(self.now, self._requests, request))
        self.settle()
        return self._requests

    def result(self, node: NodeId, body: StorageRequest) -> Result | None:
        """Return the answer that comes without time passing, None if there is none."""
        return self.results.get(self.ask(node, body))

    def primaries(self) -> list[NodeId]:
        return [
            name
            for name, core in self.cores.items()
            if core.primary is not None and core.primary.confirmed
        ]

    def primary(self, patience_ms: int = 3000) -> NodeId:
        """Wait for a primary and return it."""
        for _ in range(patience_ms):
            found = self.primaries()
            if found:
                return found[-1]
            self.run(1)
        raise AssertionError("nobody became the primary")

    def successor(self, old: NodeId, patience_ms: int = 3000) -> NodeId:
        """Wait for a primary other than ``old`` and return it."""
        for _ in range(patience_ms):
            found = [name for name in self.primaries() if name != old]
            if found:
                return found[0]
            self.run(1)
        raise AssertionError(f"nobody replaced {old}")

    def others(self, *names: NodeId) -> list[NodeId]:
        return [name for name in self.members if name not in names]

    def value(self, node: NodeId, key: str) -> bytes | None:
        version = self.cores[node].replica.database.get(key)
        return None if version is None or version.tombstone else version.value

    def told(self, kind: str, by: NodeId | None = None) -> Iterator[event_pb2.Event]:
        for node, event in self.events:
            if event.WhichOneof("kind") == kind and by in (None, node):
                yield event
