"""Raft cores wired by hand: the test decides which message arrives, what is lost, what time it is.

Disks are instant here: a ``Persist`` is durable at once. ``raft_simulation`` has slow ones.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

from google.protobuf.message import Message

from leader.raft import RaftCore, RaftSettings
from leader.v1 import raft_pb2
from replication.errors import OperationError
from replication.protocol import (
    Effect,
    Instant,
    Membership,
    NodeId,
    Observe,
    Persist,
    Put,
    Reply,
    Request,
    RequestBody,
    Response,
    Send,
    Write,
)
from replication.v1 import event_pb2, storage_pb2

MS = 1_000_000
SECOND = 1_000 * MS


class MemoryDisk:
    """The durable state of one node; implements ``Saved``."""

    def __init__(self) -> None:
        self.spaces: dict[str, dict[bytes, bytes]] = {}

    def write(self, writes: Iterable[Write]) -> None:
        for each in writes:
            space = self.spaces.setdefault(each.space, {})
            if isinstance(each, Put):
                space[each.key] = each.value
            else:
                for key in [key for key in space if key >= each.start]:
                    if each.end is None or key < each.end:
                        del space[key]

    def get(self, space: str, key: bytes) -> bytes | None:
        return self.spaces.get(space, {}).get(key)

    def scan(self, space: str) -> Iterator[tuple[bytes, bytes]]:
        yield from sorted(self.spaces.get(space, {}).items())

    @property
    def snapshot_index(self) -> int:
        """Return the index of the valid snapshot, 0 if there is none."""
        return raft_pb2.Snapshot.FromString(self.get("meta", b"snapshot") or b"").index

    def entry(self, index: int) -> bytes | None:
        """Return the log entry at ``index``."""
        return self.get("log", index.to_bytes(8, "big"))


@dataclass
class Envelope:
    """A message on its way."""

    sender: NodeId
    to: NodeId
    message: raft_pb2.RaftMessage

    @property
    def kind(self) -> str:
        return self.message.WhichOneof("kind") or ""


Rule: TypeAlias = Callable[[Envelope], bool]


def put(key: str, value: bytes, client: str = "c", sequence: int = 1) -> storage_pb2.PutRequest:
    write_id = storage_pb2.WriteId(client_id=client, sequence=sequence)
    return storage_pb2.PutRequest(key=key, value=value, write_id=write_id)


def delete(key: str, client: str = "c", sequence: int = 1) -> storage_pb2.DeleteRequest:
    write_id = storage_pb2.WriteId(client_id=client, sequence=sequence)
    return storage_pb2.DeleteRequest(key=key, write_id=write_id)


def compare_and_set(
    key: str, expected: bytes | None, value: bytes, client: str = "c", sequence: int = 1
) -> storage_pb2.CompareAndSetRequest:
    return storage_pb2.CompareAndSetRequest(
        key=key,
        expected=expected,
        value=value,
        write_id=storage_pb2.WriteId(client_id=client, sequence=sequence),
    )


def get(key: str, local: bool = False) -> storage_pb2.GetRequest:
    level = storage_pb2.CONSISTENCY_LOCAL if local else storage_pb2.CONSISTENCY_LINEARIZABLE
    return storage_pb2.GetRequest(key=key, consistency=level)


def entry(term: int, value: bytes = b"", client: str = "c", sequence: int = 1) -> bytes:
    """Return a log entry as bytes; without a value the no-op of ``term``."""
    if not value:
        return raft_pb2.Entry(term=term).SerializeToString()
    body = put("k", value, client, sequence)
    return raft_pb2.Entry(term=term, put=body).SerializeToString()


def append_entries(
    term: int,
    prev: tuple[int, int] = (0, 0),
    entries: tuple[bytes, ...] = (),
    commit_index: int = 0,
) -> raft_pb2.RaftMessage:
    """``prev`` is (index, term)."""
    append = raft_pb2.AppendEntries(
        prev_log_index=prev[0],
        prev_log_term=prev[1],
        commit_index=commit_index,
        round=1,
        entries=entries,
    )
    return raft_pb2.RaftMessage(term=term, append_entries=append)


def request_vote(term: int, last: tuple[int, int] = (0, 0)) -> raft_pb2.RaftMessage:
    """``last`` is (index, term) of the candidate's last entry."""
    request = raft_pb2.RequestVote(
        campaign_term=term, last_log_index=last[0], last_log_term=last[1]
    )
    return raft_pb2.RaftMessage(term=term, request_vote=request)


class Cluster:
    """Nodes n1 to nN; nothing moves unless the test says so."""

    def __init__(
        self,
        size: int = 3,
        settings: RaftSettings | None = None,
        core_type: type[RaftCore] = RaftCore,
        terms: dict[NodeId, list[int]] | None = None,
        current_term: int = 0,
        spares: int = 0,
    ) -> None:
        """``terms``: the logs to begin with, as the terms of their entries (as in Raft's figures).

        Entries of the same index and term are the same write on all nodes.
        """
        self.settings = settings or RaftSettings()
        self.members = tuple(f"n{number}" for number in range(1, size + 1))
        self.core_type = core_type
        self.now_ns = SECOND
        self.names = tuple(f"n{number}" for number in range(1, size + spares + 1))
        self.disks = {node: MemoryDisk() for node in self.names}
        self.cores: dict[NodeId, RaftCore] = {}
        self.in_flight: list[Envelope] = []
        self.effects: list[tuple[NodeId, Effect]] = []  # everything, in order
        self.replies: dict[int, Response | OperationError] = {}
        self.events: list[tuple[NodeId, event_pb2.Event]] = []
        self.delivered: list[Envelope] = []
        self._requests = 0
        for node, log in (terms or {}).items():
            self.disks[node].write(
                Put("log", index.to_bytes(8, "big"), entry(term, b"v%d" % index, "old", index))
                for index, term in enumerate(log, 1)
            )
        if terms:
            state = raft_pb2.HardState(term=current_term).SerializeToString()
            for disk in self.disks.values():
                disk.write([Put("meta", b"hard_state", state)])
        for node in self.names:
            self.start(node)

    @property
    def now(self) -> Instant:
        return Instant(self.now_ns, self.now_ns)

    def start(self, node: NodeId) -> None:
        """Start ``node``, or start it again from its disk."""
        core = self.core_type(Membership(node, self.members), self.settings, Random(node))
        self.cores[node] = core
        self._perform(node, core.start(self.now, self.disks[node]))
        self._perform(node, core.flush(self.now))

    def elect(self, node: NodeId, drop: Rule = lambda _: False) -> None:
        """Let everybody's election timeout pass, ``node`` campaign first, and all else happen."""
        self.campaign(node)
        self.settle(drop)
        assert self.role(node) == event_pb2.ROLE_LEADER, f"{node} did not win"

    def campaign(self, node: NodeId) -> None:
        """Let everybody's election timeout pass and ``node`` notice first."""
        self.pass_time(self.settings.election_timeout_max_ns)
        self.wake(node)

    def pass_time(self, duration_ns: int) -> None:
        self.now_ns += duration_ns

    def wake(self, node: NodeId) -> None:
        self._perform(node, self.cores[node].wake(self.now))
        self._perform(node, self.cores[node].flush(self.now))

    def submit(
        self, node: NodeId, body: RequestBody, timeout_ns: int = 10 * SECOND, flush: bool = True
    ) -> int:
        """Hand a request in; its answer appears in ``replies`` under the number returned."""
        self._requests += 1
        request = Request(body, self.now_ns + timeout_ns)
        self._perform(node, self.cores[node].submit(self.now, self._requests, request))
        if flush:
            self._perform(node, self.cores[node].flush(self.now))
        return self._requests

    def answer(
        self, node: NodeId, body: RequestBody, drop: Rule = lambda _: False
    ) -> Response | OperationError:
        """Submit a request, let everything happen and return what came of it."""
        number = self.submit(node, body)
        self.settle(drop)
        return self.replies[number]

    def receive(self, node: NodeId, sender: NodeId, message: Message, flush: bool = True) -> None:
        """Hand ``node`` one message, whether anybody sent it or not."""
        self._perform(node, self.cores[node].receive(self.now, sender, message))
        if flush:
            self._perform(node, self.cores[node].flush(self.now))

    def deliver(self, which: Rule = lambda _: True, drop: Rule = lambda _: False) -> int:
        """Deliver what is in flight now and fits ``which``; the rest stays. Return how many."""
        batch, self.in_flight = self.in_flight, []
        count = 0
        for envelope in batch:
            if drop(envelope):
                continue
            if not which(envelope):
                self.in_flight.append(envelope)
                continue
            count += 1
            self.delivered.append(envelope)
            self.receive(envelope.to, envelope.sender, envelope.message)
        return count

    def settle(self, drop: Rule = lambda _: False) -> None:
        """Deliver until no message is in flight; what ``drop`` says is lost. Time stands still."""
        for _ in range(10_000):
            if not self.in_flight:
                return
            self.deliver(drop=drop)
        raise AssertionError("the cluster does not come to rest")

    def heartbeat(self, leader: NodeId, drop: Rule = lambda _: False) -> None:
        """Let a heartbeat interval pass at ``leader`` and all that follows from it happen."""
        self.pass_time(self.settings.heartbeat_ns)
        self.wake(leader)
        self.settle(drop)

    def role(self, node: NodeId) -> int:
        return self.cores[node].status().role

    def term(self, node: NodeId) -> int:
        return self.cores[node].status().term

    def log_terms(self, node: NodeId) -> list[int]:
        """Return the terms of the entries on the disk of ``node``, as Raft's figures draw logs."""
        return [raft_pb2.Entry.FromString(data).term for _, data in self.disks[node].scan("log")]

    def log(self, node: NodeId) -> list[bytes]:
        return [data for _, data in self.disks[node].scan("log")]

    def events_told(self, kind: str) -> list[tuple[NodeId, event_pb2.Event]]:
        """Return the events of one kind, each with its node."""
        return [each for each in self.events if each[1].WhichOneof("kind") == kind]

    def joint(self, node: NodeId) -> bool:
        """Return whether ``node`` goes by a joint configuration."""
        return self.cores[node].replica.configuration.is_joint

    def get_all(self, node: NodeId) -> dict[str, storage_pb2.Version]:
        """Return what ``node`` has applied."""
        return dict(self.cores[node].replica.machine.items())

    def events_of(self, kind: str, node: NodeId | None = None) -> list[event_pb2.Event]:
        return [
            event
            for who, event in self.events
            if event.WhichOneof("kind") == kind and node in (None, who)
        ]

    def _perform(self, node: NodeId, effects: list[Effect]) -> None:
        for effect in effects:
            self.effects.append((node, effect))
            match effect:
                case Persist(writes):
                    self.disks[node].write(writes)
                case Send(to, message):
                    assert isinstance(message, raft_pb2.RaftMessage)
                    self.in_flight.append(Envelope(node, to, message))
                case Reply(request_id, result):
                    assert request_id not in self.replies, "a request is answered once"
                    self.replies[request_id] = result
                case Observe(event):
                    self.events.append((node, event))


def between(*nodes: NodeId) -> Rule:
    """Messages from or to anybody outside ``nodes``: to drop them leaves ``nodes`` a partition."""
    return lambda each: each.sender not in nodes or each.to not in nodes


def to(*nodes: NodeId) -> Rule:
    return lambda each: each.to in nodes
