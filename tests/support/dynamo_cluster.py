"""Dynamo cores wired together by hand: a test says what is delivered, and when."""

from collections.abc import Callable, Iterator, Sequence
from random import Random

from google.protobuf.message import Message

from leaderless.dynamo import DynamoCore, DynamoSettings
from replication.errors import OperationError
from replication.protocol import (
    Effect,
    Erase,
    Instant,
    Membership,
    NodeId,
    Observe,
    Persist,
    Reply,
    Request,
    RequestBody,
    Response,
    Send,
)
from replication.v1 import event_pb2, storage_pb2

MS = 1_000_000
SECOND = 1000 * MS
WALL_NS = 1_700_000_000 * SECOND
FIVE = ("n1", "n2", "n3", "n4", "n5")

CreateCore = Callable[[Membership, DynamoSettings, Random], DynamoCore]


class Disk:
    """What one node has made durable: a ``Saved`` that takes whole ``Persist``s."""

    def __init__(self) -> None:
        self.spaces: dict[str, dict[bytes, bytes]] = {}

    def get(self, space: str, key: bytes) -> bytes | None:
        return self.spaces.get(space, {}).get(key)

    def scan(self, space: str) -> Iterator[tuple[bytes, bytes]]:
        yield from sorted(self.spaces.get(space, {}).items())

    def apply(self, persist: Persist) -> None:
        for write in persist.writes:
            space = self.spaces.setdefault(write.space, {})
            if isinstance(write, Erase):
                for key in [
                    key for key in space if write.start <= key < (write.end or key + b"\0")
                ]:
                    del space[key]
            else:
                space[write.key] = write.value


def write_id(name: str) -> storage_pb2.WriteId:
    """Return the id that ``"a3"`` stands for: the third write of client a."""
    return storage_pb2.WriteId(client_id=name[0], sequence=int(name[1:]))


def name_of(version: storage_pb2.Version) -> str:
    return f"{version.write_id.client_id}{version.write_id.sequence}"


def put(
    key: str,
    name: str,
    context: bytes = b"",
    w: int = 0,
    level: storage_pb2.Consistency.ValueType = storage_pb2.CONSISTENCY_UNSPECIFIED,
) -> storage_pb2.PutRequest:
    return storage_pb2.PutRequest(
        key=key,
        value=name.encode(),
        context=context,
        write_id=write_id(name),
        w=w,
        consistency=level,
    )


def delete(key: str, name: str, context: bytes = b"") -> storage_pb2.DeleteRequest:
    return storage_pb2.DeleteRequest(key=key, context=context, write_id=write_id(name))


def get(
    key: str,
    r: int = 0,
    level: storage_pb2.Consistency.ValueType = storage_pb2.CONSISTENCY_UNSPECIFIED,
) -> storage_pb2.GetRequest:
    return storage_pb2.GetRequest(key=key, r=r, consistency=level)


class Cluster:
    """Cores with perfect disks, and links that can be cut or held. Time moves when told to."""

    def __init__(
        self,
        settings: DynamoSettings | None = None,
        members: Sequence[NodeId] = FIVE,
        create: CreateCore = DynamoCore,
        spares: Sequence[NodeId] = (),
    ) -> None:
        self.members = tuple(members)  # at the start
        self.settings = settings or DynamoSettings()
        self.create = create
        self.now_ns = 0
        self.wall_offset_ns = dict.fromkeys((*members, *spares), 0)
        self.cores: dict[NodeId, DynamoCore] = {}
        self.disks = {node: Disk() for node in (*members, *spares)}
        self.queue: list[tuple[NodeId, NodeId, Message]] = []
        self.cut: set[tuple[NodeId, NodeId]] = set()  # from, to
        self.replies: dict[int, Response | OperationError] = {}
        self.events: list[tuple[NodeId, event_pb2.Event]] = []
        self.effects: dict[NodeId, list[Effect]] = {node: [] for node in (*members, *spares)}
        self._request_id = 0
        self._starts = 0
        for node in (*members, *spares):
            self.start(node)
        self.deliver()

    def instant(self, node: NodeId) -> Instant:
        return Instant(self.now_ns, WALL_NS + self.now_ns + self.wall_offset_ns[node])

    def start(self, node: NodeId) -> None:
        """Start a node, or start it again, from its disk."""
        self._starts += 1
        core = self.create(Membership(node, self.members), self.settings, Random(self._starts))
        self.cores[node] = core
        self.perform(node, core.start(self.instant(node), self.disks[node]))
        self.perform(node, core.flush(self.instant(node)))

    def stop(self, node: NodeId) -> None:
        """Kill a node. What it has sent is still under way, what it was sent is lost."""
        del self.cores[node]
        self.queue = [message for message in self.queue if message[1] != node]

    def isolate(self, *nodes: NodeId) -> None:
        """Cut the links between ``nodes`` and the others."""
        for node in nodes:
            for other in self.disks:
                if other not in nodes:
                    self.cut |= {(node, other), (other, node)}

    def heal(self) -> None:
        self.cut.clear()

    def send(self, node: NodeId, body: RequestBody, timeout_ns: int = SECOND) -> int:
        """Submit an operation and flush; nothing is delivered. Returns the number of its reply."""
        self._request_id += 1
        request = Request(body, self.now_ns + timeout_ns)
        core = self.cores[node]
        self.perform(node, core.submit(self.instant(node), self._request_id, request))
        self.perform(node, core.flush(self.instant(node)))
        return self._request_id

    def result(self, node: NodeId, body: RequestBody) -> Response | OperationError:
        """Submit an operation, deliver everything, and let the time pass until it is answered."""
        number = self.send(node, body)
        self.deliver()
        for _ in range(50):
            if number in self.replies:
                break
            self.run(20 * MS)
        return self.replies[number]

    def read(self, node: NodeId, key: str, r: int = 0) -> storage_pb2.GetResponse:
        response = self.result(node, get(key, r))
        assert isinstance(response, storage_pb2.GetResponse), response
        return response

    def write(self, node: NodeId, body: storage_pb2.PutRequest) -> storage_pb2.PutResponse:
        response = self.result(node, body)
        assert isinstance(response, storage_pb2.PutResponse), response
        return response

    def deliver(self, *, only: Callable[[NodeId, NodeId], bool] = lambda a, b: True) -> None:
        """Deliver what is under way, and what that causes, over the links that ``only`` allows."""
        while ready := [each for each in self.queue if only(each[0], each[1])]:
            self.queue = [each for each in self.queue if not only(each[0], each[1])]
            for sender, to, message in ready:
                if to in self.cores and (sender, to) not in self.cut:
                    core = self.cores[to]
                    self.perform(to, core.receive(self.instant(to), sender, message))
                    self.perform(to, core.flush(self.instant(to)))

    def run(self, duration_ns: int) -> None:
        """Let the time pass, in steps of 10 ms, delivering everything at once."""
        end_ns = self.now_ns + duration_ns
        while self.now_ns < end_ns:
            self.now_ns = min(end_ns, self.now_ns + 10 * MS)
            for node, core in list(self.cores.items()):
                due_ns = core.wake_at()
                if due_ns is not None and due_ns <= self.now_ns:
                    self.perform(node, core.wake(self.instant(node)))
                    self.perform(node, core.flush(self.instant(node)))
            self.deliver()

    def perform(self, node: NodeId, effects: list[Effect]) -> None:
        self.effects[node] += effects
        for effect in effects:
            match effect:
                case Persist():
                    self.disks[node].apply(effect)
                case Send():
                    self.queue.append((node, effect.to, effect.message))
                case Reply():
                    assert effect.request_id not in self.replies, "answered twice"
                    self.replies[effect.request_id] = effect.result
                case Observe():
                    self.events.append((node, effect.event))

    def told(self, kind: str, node: NodeId | None = None) -> list[event_pb2.Event]:
        """Return the events of one kind, of one node or of all."""
        return [
            event
            for teller, event in self.events
            if event.WhichOneof("kind") == kind and node in (None, teller)
        ]

    def held(self, node: NodeId, key: str) -> list[str]:
        """Return the names of the writes whose versions a replica holds."""
        for contents in self.cores[node].contents():
            if contents.key == key and not contents.stand_in:
                return sorted(name_of(version) for version in contents.versions)
        return []

    def counters(self, node: NodeId) -> dict[str, int]:
        return dict(self.cores[node].status().counters)
