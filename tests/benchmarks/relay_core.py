"""The emptiest core that replicates: what a put costs when there is no protocol at all.

A put is persisted by the node that takes it and by its peers, and answered when it is durable here
and at one of them. A get is answered from memory. No log, no terms, no versions, no reads that
anybody could rely on. The process around it, its links, its disk and its services are those of
every node, so that what is between this and the bare gRPC echo is the host's, and the rest of a put
is its protocol's.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar, TypeAlias

from google.protobuf.message import Message

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

_Response: TypeAlias = storage_pb2.PutResponse | storage_pb2.DeleteResponse


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """There are none."""

    __pydantic_config__: ClassVar[dict[str, Any]] = SETTINGS_CONFIG

    def problems(self, members: int) -> Iterable[str]:
        """Yield nothing: everything goes."""
        return ()


class RelayCore:
    """See the module."""

    def __init__(self, membership: Membership, settings: RelaySettings, rng: Random) -> None:
        self._node = membership.node
        self._peers = [name for name in membership.members if name != self._node]
        self._waiting: dict[RequestId, type[_Response]] = {}
        self._values: dict[str, bytes] = {}

    def start(self, now: Instant, saved: Saved) -> list[Effect]:
        event = event_pb2.RoleChanged(role=event_pb2.ROLE_REPLICA)
        return [Observe(event_pb2.Event(role_changed=event))]

    def submit(self, now: Instant, request_id: RequestId, request: Request) -> list[Effect]:
        body = request.body
        if isinstance(body, storage_pb2.GetRequest):
            value = self._values.get(body.key)
            versions = [] if value is None else [storage_pb2.Version(value=value)]
            return [Reply(request_id, storage_pb2.GetResponse(versions=versions))]
        copy = storage_pb2.PipelineOperation(number=request_id)
        if isinstance(body, storage_pb2.DeleteRequest):
            copy.delete.CopyFrom(body)
            self._waiting[request_id] = storage_pb2.DeleteResponse
        else:
            assert isinstance(body, storage_pb2.PutRequest), "it knows nothing else"
            copy.put.CopyFrom(body)
            self._waiting[request_id] = storage_pb2.PutResponse
        # The peers have it while this node's own copy is on its way to the disk.
        return [*(Send(peer, copy) for peer in self._peers), self._keep(copy)]

    def receive(self, now: Instant, sender: str, message: Message) -> list[Effect]:
        assert isinstance(message, storage_pb2.PipelineOperation)
        if message.WhichOneof("request") is not None:
            done = storage_pb2.PipelineOperation(number=message.number)
            return [self._keep(message), Send(sender, done)]
        response = self._waiting.pop(message.number, None)
        if response is None:
            return []  # there are two copies already
        return [Reply(message.number, response(served=storage_pb2.Served(node=self._node)))]

    def _keep(self, copy: storage_pb2.PipelineOperation) -> Persist:
        if copy.HasField("delete"):
            self._values.pop(copy.delete.key, None)
            return Persist([Put("kv", copy.delete.key.encode(), b"")])
        self._values[copy.put.key] = copy.put.value
        return Persist([Put("kv", copy.put.key.encode(), copy.put.value)])

    def wake(self, now: Instant) -> list[Effect]:
        return []

    def wake_at(self) -> int | None:
        return None

    def flush(self, now: Instant) -> list[Effect]:
        return []

    def status(self) -> control_pb2.NodeStatus:
        return control_pb2.NodeStatus(node=self._node, backend="relay", serving=True)

    def contents(self) -> Iterable[control_pb2.KeyContents]:
        return ()


backend = Backend(
    name="relay",
    family=Family.LEADERLESS,
    title="Relay",
    message_type=storage_pb2.PipelineOperation,
    settings_type=RelaySettings,
    create=RelayCore,
    consistencies=frozenset({storage_pb2.CONSISTENCY_ONE}),
    single_register=False,
    promise=lambda settings: "Nothing.",
)
