"""Around raftos: its messages, requests and roles in the terms of ``replication.protocol``."""

import asyncio
import base64
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random
from typing import Any

from google.protobuf.message import Message

from leader.raftos.settings import RaftosSettings
from leader.v1 import raftos_pb2
from replication.errors import (
    ConfigError,
    InvalidRequest,
    LeadershipLost,
    NotLeader,
    OperationError,
    Overloaded,
    QuorumTimeout,
)
from replication.protocol import (
    Effect,
    Instant,
    Membership,
    NodeId,
    Observe,
    Reply,
    Request,
    RequestId,
    Saved,
    Send,
    StorageResponse,
)
from replication.v1 import control_pb2, event_pb2, storage_pb2

log = logging.getLogger("replication.raftos")

PORT = 0  # raftos names nodes by host and port; here by name and this
_ROLES = {
    "Leader": event_pb2.ROLE_LEADER,
    "Candidate": event_pb2.ROLE_CANDIDATE,
    "Follower": event_pb2.ROLE_FOLLOWER,
}


class Server:
    """Stands in for ``raftos.server.Node``: what its ``State`` asks of it, without the sockets."""

    def __init__(
        self, membership: Membership, loop: asyncio.AbstractEventLoop, send: Callable[..., None]
    ) -> None:
        self.host, self.port = membership.node, PORT
        self.cluster = {(each, PORT) for each in membership.members if each != membership.node}
        self.loop = loop
        self._send = send

    @property
    def cluster_count(self) -> int:
        """As raftos counts: the others."""
        return len(self.cluster)

    async def send(self, data: dict[str, Any], destination: str | tuple[str, int]) -> None:
        """Send as a datagram is sent: at once, and nobody hears whether it arrived."""
        name = destination.partition(":")[0] if isinstance(destination, str) else destination[0]
        self._send(name, data)

    def broadcast(self, data: dict[str, Any]) -> None:
        """Send to all others."""
        for name, _ in self.cluster:
            self._send(name, data)


def load(folder: Path, settings: RaftosSettings) -> tuple[Any, Any]:
    """Return raftos' ``State`` class and its serializer, configured; one node per process."""
    if not hasattr(asyncio.futures, "InvalidStateError"):
        setattr(asyncio.futures, "InvalidStateError", asyncio.InvalidStateError)  # noqa: B010
    try:
        from raftos.conf import config
        from raftos.serializers import JSONSerializer
        from raftos.state import State
    except ImportError as error:
        raise ConfigError([f"raftos cannot be loaded ({error}): uv sync --extra raftos"]) from None
    config.configure(
        {
            "log_path": str(folder),
            "serializer": JSONSerializer,
            "heartbeat_interval": settings.heartbeat_interval_ns / 1e9,
            "step_down_missed_heartbeats": settings.step_down_missed_heartbeats,
            "election_interval_spread": settings.election_interval_spread,
        }
    )
    return State, JSONSerializer


class RaftosCore:
    """One node; implements ``replication.protocol.HostedCore``."""

    def __init__(self, membership: Membership, settings: RaftosSettings) -> None:
        self._membership = membership
        self._settings = settings
        self._counters: Counter[str] = Counter()
        self._writes: deque[tuple[RequestId, Request]] = deque()  # the first is under way
        self._writing: asyncio.Task[None] | None = None
        self._open: set[RequestId] = set()
        self._told: tuple[event_pb2.Role.ValueType, int, NodeId] | None = None
        self._heard = 0.0

    def attach(self, folder: Path, perform: Callable[[list[Effect]], None]) -> None:
        """See ``HostedCore``."""
        self._folder = folder / "raftos"
        self._perform = perform

    def start(self, now: Instant, saved: Saved) -> list[Effect]:
        """See ``Core``. It begins to act by itself from here on."""
        self._loop = asyncio.get_running_loop()
        state_type, self._serializer = load(self._folder, self._settings)
        changed = self._changed

        class ObservedState(state_type):  # type: ignore[misc, valid-type]
            """Tells of every change of role, which raftos announces by naming the leader."""

            def set_leader(self, leader: Any) -> None:
                super().set_leader(leader)
                changed()

        self._state_type = ObservedState
        self._state = ObservedState(Server(self._membership, self._loop, self._send))
        self._watch_erasures()
        self._heard = self._loop.time()
        self._state.start()
        self._changed()
        return []

    def receive(self, now: Instant, sender: NodeId, message: Message) -> list[Effect]:
        """See ``Core``. What raftos raises it raises in a datagram callback: logged, and over."""
        assert isinstance(message, raftos_pb2.RaftosDatagram), "of this backend"
        data = self._serializer.unpack(message.data)
        data["sender"] = (sender, PORT)
        if data.get("type") == "append_entries":
            self._heard = self._loop.time()
        try:
            self._state.request_handler(data)
        except Exception as error:
            self._counters["handler_errors"] += 1
            log.warning("raftos raised %r on %s from %s", error, data.get("type"), sender)
        self._changed()
        return []

    def submit(self, now: Instant, request_id: RequestId, request: Request) -> list[Effect]:
        """See ``Core``."""
        body = request.body
        if isinstance(body, storage_pb2.GetRequest):
            return [Reply(request_id, self._read(body))]
        if not isinstance(body, storage_pb2.PutRequest | storage_pb2.DeleteRequest):
            return [Reply(request_id, InvalidRequest("raftos puts and deletes, nothing else"))]
        if not self._leads():
            return [Reply(request_id, self._not_leader())]
        self._writes.append((request_id, request))
        self._open.add(request_id)
        left_ns = max(0, request.deadline_ns - now.monotonic_ns)
        self._loop.call_later(left_ns / 1e9, self._expire, request_id)
        self._write_next()
        return []

    def wake(self, now: Instant) -> list[Effect]:
        """See ``Core``: raftos has timers of its own."""
        return []

    def wake_at(self) -> int | None:
        """See ``Core``."""
        return None

    def flush(self, now: Instant) -> list[Effect]:
        """See ``Core``: nothing is kept back."""
        return []

    def status(self) -> control_pb2.NodeStatus:
        """See ``Core``."""
        role, term, leader = self._role()
        state_log = self._state.log
        return control_pb2.NodeStatus(
            node=self._membership.node,
            backend="raftos",
            role=role,
            serving=bool(leader),
            term=term,
            leader=leader,
            last_index=state_log.last_log_index,
            commit_index=state_log.commit_index,
            applied_index=state_log.last_applied,
            keys=len(self._applied()),
            counters=dict(self._counters),
        )

    def contents(self) -> Iterable[control_pb2.KeyContents]:
        """See ``Core``: what this node has applied."""
        for key, record in sorted(self._applied().items()):
            version = _version(record)
            version.ClearField("value")
            members = self._membership.members
            yield control_pb2.KeyContents(key=key, owners=members, versions=[version])

    # Requests.

    def _read(self, body: storage_pb2.GetRequest) -> StorageResponse | OperationError:
        if body.consistency != storage_pb2.CONSISTENCY_LOCAL and not self._leads():
            return self._not_leader()
        response = storage_pb2.GetResponse()
        record = self._applied().get(body.key)
        if record is not None:
            response.versions.append(_version(record))
        self._served(response, self._state.log.last_applied, self._state.storage.term)
        return response

    def _served(self, response: Any, index: int, term: int) -> None:
        response.served.node = self._membership.node
        response.served.term = term
        response.served.log_index = index

    def _applied(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = self._state.state_machine._get_file_content()
        except FileNotFoundError:
            return {}
        return found

    def _write_next(self) -> None:
        """Begin the next write if none is under way; whose time has passed did not happen."""
        while self._writing is None and self._writes:
            request_id, request = self._writes[0]
            if request_id in self._open:
                self._writing = self._loop.create_task(self._write(request_id, request))
            else:
                self._writes.popleft()

    async def _write(self, request_id: RequestId, request: Request) -> None:
        body = request.body
        assert isinstance(body, storage_pb2.PutRequest | storage_pb2.DeleteRequest), "checked"
        index, term = self._state.log.last_log_index + 1, self._state.storage.term
        await self._state_type.set_value(body.key, _record(body))
        self._writes.popleft()
        self._writing = None
        response: storage_pb2.PutResponse | storage_pb2.DeleteResponse
        if isinstance(body, storage_pb2.PutRequest):
            response = storage_pb2.PutResponse()
        else:
            response = storage_pb2.DeleteResponse()
        self._served(response, index, term)
        self._reply(request_id, response)
        self._write_next()

    def _expire(self, request_id: RequestId) -> None:
        begun = self._writing is not None and self._writes and self._writes[0][0] == request_id
        if begun:
            needed = len(self._membership.members) // 2 + 1
            self._reply(request_id, QuorumTimeout(1, needed))
        else:
            self._reply(request_id, Overloaded("the write before it has not ended yet"))

    def _reply(self, request_id: RequestId, result: StorageResponse | OperationError) -> None:
        if request_id in self._open:
            self._open.discard(request_id)
            self._perform([Reply(request_id, result)])

    def _not_leader(self) -> NotLeader:
        _, term, leader = self._role()
        return NotLeader("" if leader == self._membership.node else leader, term)

    # What raftos does by itself.

    def _send(self, to: NodeId, data: dict[str, Any]) -> None:
        datagram = raftos_pb2.RaftosDatagram(data=self._serializer.pack(data))
        self._perform([Send(to, datagram)])

    def _leads(self) -> bool:
        return self._role()[0] == event_pb2.ROLE_LEADER

    def _role(self) -> tuple[event_pb2.Role.ValueType, int, NodeId]:
        name = type(self._state.state).__name__
        leader = self._state_type.get_leader()
        term = self._state.storage.term if self._state.storage.exists("term") else 0
        return _ROLES[name], term, str(leader or "").partition(":")[0]

    def _changed(self) -> None:
        """Tell of a role, a term or a leader that is another than last told."""
        state = self._role()
        if state == self._told:
            return
        before, self._told = self._told, state
        role, term, leader = state
        if role == event_pb2.ROLE_CANDIDATE:
            silence_ns = int((self._loop.time() - self._heard) * 1e9)
            started = event_pb2.ElectionStarted(term=term, silence_ns=silence_ns)
            self._perform([Observe(event_pb2.Event(election_started=started))])
        changed = event_pb2.RoleChanged(role=role, term=term, leader=leader)
        self._perform([Observe(event_pb2.Event(role_changed=changed))])
        if before is not None and before[0] == event_pb2.ROLE_LEADER != role:
            self._abdicated(before[1])

    def _abdicated(self, term: int) -> None:
        """Answer who waits: raftos drops the future of a write with the leader that made it."""
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
            self._reply(self._writes.popleft()[0], LeadershipLost(term))
        while self._writes:
            self._reply(self._writes.popleft()[0], self._not_leader())

    def _watch_erasures(self) -> None:
        """Tell of committed entries that raftos erases from its log."""
        state_log = self._state.log
        erase = state_log.erase_from

        def erase_from(index: int) -> None:
            dropped = state_log.cache[index - 1 :]
            committed = state_log.commit_index - index + 1
            erase(index)
            if committed <= 0:
                return
            self._counters["committed_entries_erased"] += committed
            event = event_pb2.LogTruncated(from_index=index, entries=len(dropped))
            for place, entry in enumerate(dropped):
                ((key, record),) = entry["command"].items()
                write_id = _version(record).write_id
                event.write_ids.append(write_id)
                if place < committed:
                    event.acknowledged.add(write_id=write_id, key=key)
            self._perform([Observe(event_pb2.Event(log_truncated=event))])

        state_log.erase_from = erase_from


def _record(body: storage_pb2.PutRequest | storage_pb2.DeleteRequest) -> dict[str, Any]:
    """Return a version as raftos can store it, in JSON."""
    record: dict[str, Any] = {"c": body.write_id.client_id, "s": body.write_id.sequence}
    if isinstance(body, storage_pb2.PutRequest):
        record["v"] = base64.b64encode(body.value).decode()
    return record


def _version(record: dict[str, Any]) -> storage_pb2.Version:
    version = storage_pb2.Version(tombstone="v" not in record)
    version.write_id.client_id, version.write_id.sequence = record["c"], record["s"]
    version.value = base64.b64decode(record.get("v", ""))
    return version


def create(membership: Membership, settings: RaftosSettings, rng: Random) -> RaftosCore:
    """Make a node; raftos draws its timeouts itself, so ``rng`` is not used."""
    return RaftosCore(membership, settings)
