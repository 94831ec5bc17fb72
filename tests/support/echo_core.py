"""A core with no protocol: for tests of the host alone.

A put is persisted, then answered; a get is answered from memory. Every put is told to all peers,
which remember it without persisting. Keys with a meaning:

    stuck-...     never answered
    bug-...       the core raises
    twice-...     answered twice, which no core may do
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from random import Random
from typing import Any, ClassVar

from google.protobuf.message import Message

from replication.errors import InvalidRequest, QuorumTimeout
from replication.protocol import (
    SETTINGS_CONFIG,
    Backend,
    Effect,
    Family,
    Instant,
    Membership,
    Observe,
    Persist,
    Put,
    Reply,
    Request,
    RequestId,
    Saved,
    Send,
)
from replication.v1 import control_pb2, event_pb2, storage_pb2


@dataclass(frozen=True, slots=True)
class EchoSettings:
    """How the core behaves."""

    __pydantic_config__: ClassVar[dict[str, Any]] = SETTINGS_CONFIG

    tell_peers: bool = True
    timeout_answers: bool = True  # a stuck operation is answered with QuorumTimeout in the end

    def problems(self, members: int) -> Iterable[str]:
        """Yield nothing: everything goes."""
        return ()


class EchoCore:
    """See the module."""

    def __init__(self, membership: Membership, settings: EchoSettings, rng: Random) -> None:
        self._node = membership.node
        self._peers = [name for name in membership.members if name != self._node]
        self._settings = settings
        self._values: dict[str, bytes] = {}
        self._heard: dict[str, int] = {}
        self._stuck: dict[RequestId, int] = {}
        self.serving = True

    def start(self, now: Instant, saved: Saved) -> list[Effect]:
        self._values = {key.decode(): value for key, value in saved.scan("kv")}
        event = event_pb2.RoleChanged(role=event_pb2.ROLE_REPLICA)
        return [Observe(event_pb2.Event(role_changed=event))]

    def receive(self, now: Instant, sender: str, message: Message) -> list[Effect]:
        assert isinstance(message, storage_pb2.PutRequest)
        self._heard[sender] = self._heard.get(sender, 0) + 1
        self._values[message.key] = message.value
        return []

    def submit(self, now: Instant, request_id: RequestId, request: Request) -> list[Effect]:
        body = request.body
        if isinstance(body, control_pb2.CommandRequest):
            served = storage_pb2.Served(node=self._node)
            words = f"heard of {body.WhichOneof('command')}"
            return [Reply(request_id, control_pb2.CommandResponse(served=served, words=words))]
        if body.key.startswith("bug-"):
            raise ValueError(f"the core does not like {body.key}")
        if body.key.startswith("stuck-"):
            self._stuck[request_id] = request.deadline_ns
            return []
        if isinstance(body, storage_pb2.GetRequest):
            return [Reply(request_id, self._read(body.key))]
        assert isinstance(body, storage_pb2.PutRequest)
        self._values[body.key] = body.value
        effects: list[Effect] = [Persist([Put("kv", body.key.encode(), body.value)])]
        if self._settings.tell_peers:
            effects += [Send(peer, body) for peer in self._peers]
        served = storage_pb2.Served(node=self._node)
        reply = Reply(request_id, storage_pb2.PutResponse(served=served))
        return [*effects, *([reply] * (2 if body.key.startswith("twice-") else 1))]

    def _read(self, key: str) -> storage_pb2.GetResponse:
        value = self._values.get(key)
        versions = [] if value is None else [storage_pb2.Version(value=value)]
        served = storage_pb2.Served(node=self._node)
        return storage_pb2.GetResponse(versions=versions, served=served)

    def wake(self, now: Instant) -> list[Effect]:
        due = [each for each, at in self._stuck.items() if at <= now.monotonic_ns]
        for request_id in due:
            del self._stuck[request_id]
        return [Reply(request_id, QuorumTimeout(got=1, needed=2)) for request_id in due]

    def wake_at(self) -> int | None:
        if not self._settings.timeout_answers:
            return None
        return min(self._stuck.values(), default=None)

    def flush(self, now: Instant) -> list[Effect]:
        return []

    def status(self) -> control_pb2.NodeStatus:
        counters = {f"heard_{sender}": count for sender, count in self._heard.items()}
        return control_pb2.NodeStatus(
            node=self._node,
            backend="echo",
            serving=self.serving,
            keys=len(self._values),
            counters=counters,
        )

    def contents(self) -> Iterable[control_pb2.KeyContents]:
        for key in sorted(self._values):
            yield control_pb2.KeyContents(key=key, owners=[self._node])


class StubbornCore(EchoCore):
    """Refuses whatever an operator asks."""

    def submit(self, now: Instant, request_id: RequestId, request: Request) -> list[Effect]:
        if isinstance(request.body, control_pb2.CommandRequest):
            return [Reply(request_id, InvalidRequest("as it is, it stays"))]
        return super().submit(now, request_id, request)


class MuteCore(EchoCore):
    """Puts one node in the place of another, and tells no operator of it."""

    def submit(self, now: Instant, request_id: RequestId, request: Request) -> list[Effect]:
        if not isinstance(request.body, control_pb2.CommandRequest):
            return super().submit(now, request_id, request)
        node, by = request.body.replace_member.node, request.body.replace_member.by
        told = storage_pb2.PutRequest(key=f"{node} by {by}")
        self._replace(node, by)
        return [Send(peer, told) for peer in self._peers]

    def receive(self, now: Instant, sender: str, message: Message) -> list[Effect]:
        assert isinstance(message, storage_pb2.PutRequest)
        node, by, spare = message.key.partition(" by ")
        if by:
            self._replace(node, spare)
            return []
        return super().receive(now, sender, message)

    def _replace(self, node: str, spare: str) -> None:
        self._peers = [peer for peer in self._peers if peer not in (node, spare)]
        self._peers += [spare] * (spare != self._node)

    def status(self) -> control_pb2.NodeStatus:
        status = super().status()
        status.peers.extend(control_pb2.PeerStatus(node=peer, alive=True) for peer in self._peers)
        return status


backend = Backend(
    name="echo",
    family=Family.LEADERLESS,
    title="Echo",
    message_type=storage_pb2.PutRequest,
    settings_type=EchoSettings,
    create=EchoCore,
    consistencies=frozenset({storage_pb2.CONSISTENCY_ONE}),
    single_register=False,
    promise=lambda settings: "Nothing.",
)
stubborn = replace(backend, create=StubbornCore)
mute = replace(backend, create=MuteCore)
