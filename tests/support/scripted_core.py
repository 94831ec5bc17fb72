"""A core without a protocol, for tests of what surrounds a core."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from google.protobuf.message import Message

from replication.protocol import (
    Backend,
    Core,
    Effect,
    Family,
    Instant,
    Membership,
    NodeId,
    Persist,
    Put,
    Reply,
    Request,
    RequestId,
    Saved,
    Send,
)
from replication.v1 import control_pb2, event_pb2, storage_pb2


@dataclass(frozen=True)
class NoSettings:
    def problems(self, members: int) -> Iterable[str]:
        return ()


@dataclass
class ScriptedCore:
    """Stores each put under its key, tells the next member, and answers; notes every call."""

    membership: Membership
    calls: list[tuple[str, int]] = field(default_factory=list)  # (what, monotonic_ns)
    found: dict[bytes, bytes] = field(default_factory=dict)  # on its disk when it started
    heard: list[tuple[NodeId, Message]] = field(default_factory=list)
    alarm_ns: int | None = None
    wall_ns: int = 0

    def _note(self, what: str, now: Instant) -> None:
        self.calls.append((what, now.monotonic_ns))
        self.wall_ns = now.wall_ns

    def start(self, now: Instant, saved: Saved) -> list[Effect]:
        self._note("start", now)
        self.found = dict(saved.scan("kv"))
        return []

    def receive(self, now: Instant, sender: NodeId, message: Message) -> list[Effect]:
        self._note("receive", now)
        self.heard.append((sender, message))
        return []

    def submit(self, now: Instant, request_id: RequestId, request: Request) -> list[Effect]:
        self._note("submit", now)
        body = request.body
        if not isinstance(body, storage_pb2.PutRequest):
            return [Reply(request_id, storage_pb2.GetResponse())]
        members = self.membership.members
        after = members[(members.index(self.membership.node) + 1) % len(members)]
        effects: list[Effect] = [Persist([Put("kv", body.key.encode(), body.value)])]
        if after != self.membership.node:
            effects.append(Send(after, event_pb2.NodeStopping(reason=body.key)))
        return [*effects, Reply(request_id, storage_pb2.PutResponse())]

    def wake(self, now: Instant) -> list[Effect]:
        self._note("wake", now)
        if self.alarm_ns is not None and self.alarm_ns <= now.monotonic_ns:
            self.alarm_ns = None
        return []

    def wake_at(self) -> int | None:
        return self.alarm_ns

    def flush(self, now: Instant) -> list[Effect]:
        self._note("flush", now)
        return []

    def status(self) -> control_pb2.NodeStatus:
        return control_pb2.NodeStatus(node=self.membership.node, serving=True)

    def contents(self) -> Iterable[control_pb2.KeyContents]:
        return ()


def scripted_backend(
    create: Callable[[Membership], Core] = ScriptedCore,  # type: ignore[assignment]
) -> Backend:
    """Return a backend of scripted cores."""

    def make(membership: Membership, settings: Any, rng: Random) -> Core:
        return create(membership)

    return Backend(
        name="scripted",
        family=Family.LEADERLESS,
        title="Scripted",
        message_type=event_pb2.NodeStopping,
        settings_type=NoSettings,
        create=make,
        consistencies=frozenset(),
        single_register=False,
        promise=lambda settings: "Nothing.",
    )
