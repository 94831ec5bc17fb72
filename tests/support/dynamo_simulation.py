"""A small world for Dynamo cores: slow disks, a bad network, crashes and pauses, all from a seed.

The disk holds a ``Persist`` back for a while, and everything listed behind it; a crash loses what
was not durable. The network loses, duplicates, delays and so reorders, and it is cut into halves.
After a time of chaos everything is healed and every key is read until repair is done. A judge looks
on all the while.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from heapq import heappop, heappush
from random import Random

from leaderless.dynamo import DynamoCore, Hints, ReadRepair
from leaderless.dynamo.context import decode_context
from leaderless.dynamo.ring import make_ring
from replication.errors import OperationError
from replication.protocol import (
    Effect,
    Instant,
    Membership,
    NodeId,
    Persist,
    Reply,
    Request,
    Send,
    StorageRequest,
)
from replication.v1 import storage_pb2
from tests.support.dynamo_cluster import MS, WALL_NS, CreateCore, Disk, delete, get, put
from tests.support.dynamo_judge import NOTHING_READ, History, Judge, Violation
from tests.support.dynamo_options import Options

CHAOS_NS = 2_000 * MS
TIMEOUT_NS = 250 * MS
LATE_NS = 100 * MS  # the disk may hold the answer back for so long after the deadline
KEYS = ("kiwi", "plum")
Adjust = Callable[[Options], Options]


@dataclass
class Node:
    name: NodeId
    skew_ns: int
    disk: Disk = field(default_factory=Disk)
    core: DynamoCore | None = None
    life: int = 0
    paused: bool = False
    resumed_ns: int = 0  # when the last pause ended
    syncs: int = 0  # how many of the first effects' persists the sync under way covers
    inputs: deque[Callable[[DynamoCore], list[Effect]]] = field(default_factory=deque)
    effects: deque[Effect] = field(default_factory=deque)
    flush_due: bool = False
    wake_due_ns: int | None = None


@dataclass
class Client:
    """Sends one operation after the other, each to any node, each with the context it has."""

    name: str
    writes: int = 0
    contexts: dict[str, bytes] = field(default_factory=dict)
    read: dict[str, History] = field(default_factory=dict)


@dataclass
class Operation:
    client: Client
    body: StorageRequest
    write: str  # empty: a read
    read: History
    node: NodeId
    life: int = 0
    began_ns: int = 0
    tries: int = 1
    done: bool = False


class World:
    """One run. Everything random comes from the seed, and nothing else does."""

    def __init__(self, seed: int, create: CreateCore, adjust: Adjust) -> None:
        self.rng = Random(seed)
        self.options = adjust(Options.draw(self.rng))
        self.create = create
        self.judge = Judge(self.options.settings)
        self.now_ns = 0
        skew_ns = self.options.clock_skew_ns
        self.nodes = {
            name: Node(name, self.rng.randint(-skew_ns, skew_ns)) for name in self.options.members
        }
        self.clients = [Client("abcd"[number]) for number in range(self.options.clients)]
        self.operations: dict[int, Operation] = {}
        self.cut: set[NodeId] = set()  # these nodes do not reach the others
        self.healed = False
        self.wipes_left = self.options.wipes
        self.acknowledged = 0
        self.retries = 0
        # The keys whose replicas differed when all was healed, and when they were about to be read.
        self.differed: list[str] = []
        self.differed_unread: list[str] = []
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self._order = 0

    def run(self) -> None:
        """Raises Violation when the cluster breaks a promise."""
        for node in self.nodes.values():
            self._start(node)
        for client in self.clients:
            self.after(self.rng.randint(0, 20 * MS), partial(self._next, client))
        self.after(self.options.fault_gap_ns, self._fault)
        self._run_until(CHAOS_NS)
        self._heal()
        self._run_until(CHAOS_NS + 1_000 * MS)
        self.differed_unread = self.differing()
        for key in KEYS:
            self._read_all(key)
        self._run_until(CHAOS_NS + 1_700 * MS)
        if self._compares():
            self._run_until(CHAOS_NS + 3_300 * MS)
        self._judge_the_end()

    def after(self, delay_ns: int, action: Callable[[], None]) -> None:
        self._order += 1
        heappush(self._agenda, (self.now_ns + delay_ns, self._order, action))

    def _run_until(self, end_ns: int) -> None:
        while self._agenda and self._agenda[0][0] <= end_ns:
            self.now_ns, _, action = heappop(self._agenda)
            action()
        self.now_ns = end_ns

    # The node around a core: inputs in, effects out, nothing overtakes a write to the disk.

    def _start(self, node: Node) -> None:
        node.life += 1
        members = self.options.members
        rng = Random(self.rng.getrandbits(32))
        node.core = self.create(Membership(node.name, members), self.options.settings, rng)
        self._input(node, lambda core: core.start(self._instant(node), node.disk))

    def _crash(self, node: Node) -> None:
        # Of the writes under way the first ones may have been completed, each wholly or not.
        while node.syncs and self.rng.random() < 0.5:
            self._make_durable(node)
        node.core = None
        node.paused = node.flush_due = False
        node.syncs = 0
        node.wake_due_ns = None
        node.inputs.clear()
        node.effects.clear()

    def _instant(self, node: Node) -> Instant:
        return Instant(self.now_ns, WALL_NS + self.now_ns + node.skew_ns)

    def _input(self, node: Node, call: Callable[[DynamoCore], list[Effect]]) -> None:
        if node.core is None:
            return
        if node.paused:
            node.inputs.append(call)
            return
        node.effects += call(node.core)
        self._perform(node)
        if not node.flush_due:
            node.flush_due = True
            self._later(node, self.rng.randint(0, self.options.flush_wait_ns), self._flush)
        self._plan_wake(node)

    def _flush(self, node: Node) -> None:
        if node.paused:
            self._later(node, MS, self._flush)
            return
        assert node.core is not None, "a crash forgets what was to come later"
        node.flush_due = False
        node.effects += node.core.flush(self._instant(node))
        self._perform(node)

    def _plan_wake(self, node: Node) -> None:
        due_ns = node.core.wake_at() if node.core else None
        if due_ns is not None and (node.wake_due_ns is None or due_ns < node.wake_due_ns):
            node.wake_due_ns = due_ns
            self._later(node, max(0, due_ns - self.now_ns), self._wake)

    def _wake(self, node: Node) -> None:
        node.wake_due_ns = None
        self._input(node, lambda core: core.wake(self._instant(node)))

    def _later(self, node: Node, delay_ns: int, action: Callable[[Node], None]) -> None:
        life = node.life

        def act() -> None:
            if node.life == life and node.core is not None:
                action(node)

        self.after(delay_ns, act)

    def _perform(self, node: Node) -> None:
        while node.effects and not node.syncs:
            if isinstance(node.effects[0], Persist):
                # One sync for all that wait by now.
                node.syncs = sum(isinstance(effect, Persist) for effect in node.effects)
                self._later(node, self.rng.randint(0, self.options.sync_max_ns), self._synced)
                return
            match node.effects.popleft():
                case Send() as send:
                    self._transmit(node, send)
                case Reply() as reply:
                    self._answered(reply)

    def _synced(self, node: Node) -> None:
        durable: list[Effect] = []
        while node.syncs:
            durable += self._make_durable(node)
        node.effects.extendleft(reversed(durable))
        self._perform(node)

    def _make_durable(self, node: Node) -> list[Effect]:
        """Complete the first write that waits. Returns what stood before it, to be done now."""
        before: list[Effect] = []
        while not isinstance(node.effects[0], Persist):
            before.append(node.effects.popleft())
        persist = node.effects.popleft()
        assert isinstance(persist, Persist)
        node.disk.apply(persist)
        node.syncs -= 1
        self.judge.persisted(node.name, persist)
        return before

    # The network.

    def _transmit(self, node: Node, send: Send) -> None:
        self.judge.sent(node.name, send.message)
        copies = 1 + (not self.healed and self.rng.random() < self.options.duplicate)
        for _ in range(copies):
            if self.healed or self.rng.random() >= self.options.loss:
                # Healed, so that every way of repair has time for its round trips.
                delay_max_ns = MS if self.healed else self.options.delay_max_ns
                delay_ns = self.rng.randint(MS // 10, delay_max_ns)
                self.after(delay_ns, lambda: self._arrive(node.name, send))

    def _arrive(self, sender: NodeId, send: Send) -> None:
        if (sender in self.cut) == (send.to in self.cut):
            node = self.nodes[send.to]
            self._input(node, lambda core: core.receive(self._instant(node), sender, send.message))

    # Faults.

    def _fault(self) -> None:
        if self.healed:
            return
        self.after(self.rng.randint(1, self.options.fault_gap_ns), self._fault)
        node = self.rng.choice(list(self.nodes.values()))
        match self.rng.choice(self.options.faults):
            case "crash" if node.core is not None:
                self._crash(node)
                if self.wipes_left and self.rng.random() < 0.2:
                    self.wipes_left -= 1
                    node.disk = Disk()
                    self.judge.wiped(node.name)
                self.after(self.rng.randint(1, 1_200 * MS), lambda: self._come_back(node))
            case "pause" if node.core is not None and not node.paused:
                node.paused = True
                self.after(self.rng.randint(1, 900 * MS), lambda: self._resume(node))
            case "cut":
                names = list(self.nodes)
                self.cut = set(self.rng.sample(names, self.rng.randint(0, len(names) // 2)))

    def _come_back(self, node: Node) -> None:
        if node.core is None:
            self._start(node)

    def _resume(self, node: Node) -> None:
        if node.paused:
            node.paused = False
            node.resumed_ns = self.now_ns
            while node.inputs:
                self._input(node, node.inputs.popleft())

    def _heal(self) -> None:
        self.differed = self.differing()
        self.healed = True
        self.cut = set()
        for node in self.nodes.values():
            self._come_back(node)
            self._resume(node)

    # Clients.

    def _next(self, client: Client) -> None:
        if self.healed:
            return
        node = self.rng.choice(list(self.nodes.values()))
        if node.core is None:
            self.after(10 * MS, lambda: self._next(client))
            return
        key = self.rng.choice(KEYS)
        if self.rng.random() < 0.4:
            self._send(Operation(client, get(key), "", NOTHING_READ, node.name))
            return
        blind = self.rng.random() < 0.2
        context = b"" if blind else client.contexts.get(key, b"")
        read = NOTHING_READ if blind else client.read.get(key, NOTHING_READ)
        client.writes += 1
        write = f"{client.name}{client.writes}"
        self.judge.began(key, write, read)
        make = delete if self.rng.random() < 0.2 else put
        body = make(key, write, context)
        if self.rng.random() < self.options.any_share:
            body.consistency = storage_pb2.CONSISTENCY_ANY
        self._send(Operation(client, body, write, read, node.name))

    def _send(self, operation: Operation) -> None:
        node = self.nodes[operation.node]
        number = len(self.operations) + 1
        operation.began_ns = self.now_ns
        operation.life = node.life
        self.operations[number] = operation
        request = Request(operation.body, self.now_ns + TIMEOUT_NS)
        self._input(node, lambda core: core.submit(self._instant(node), number, request))
        self.after(TIMEOUT_NS + LATE_NS, lambda: self._missed(operation))

    def _missed(self, operation: Operation) -> None:
        """The client has no answer. Only if its node was stopped meanwhile may that be."""
        node = self.nodes[operation.node]
        if not operation.done:
            operation.done = True
            steady = node.core is not None and node.life == operation.life and not node.paused
            if steady and node.resumed_ns < operation.began_ns:
                raise Violation(f"{operation.body} was not answered by its deadline")
            self._go_on(operation, known=False)

    def _answered(self, reply: Reply) -> None:
        operation = self.operations[reply.request_id]
        if operation.done:
            return
        operation.done = True
        result, key, client = reply.result, operation.body.key, operation.client
        if isinstance(result, OperationError):
            if operation.write and result.definite and operation.tries == 1:
                self.judge.refused(key, operation.write)
                self._go_on(operation, known=True)
                return
            self._go_on(operation, known=result.definite)
            return
        self.acknowledged += 1
        if isinstance(result, storage_pb2.GetResponse):
            client.read[key] = self.judge.read(operation.began_ns, self.now_ns, key, result)
        else:
            assert isinstance(result, storage_pb2.PutResponse | storage_pb2.DeleteResponse)
            assert isinstance(operation.body, storage_pb2.PutRequest | storage_pb2.DeleteRequest)
            sent = operation.body.context
            settled = operation.body.consistency == storage_pb2.CONSISTENCY_UNSPECIFIED
            self.judge.wrote(self.now_ns, key, operation.write, sent, result, settled=settled)
            # With plain version vectors a writer may not be told that it has seen its own write.
            seen = decode_context(key, result.context)
            covered = seen.covers(result.dot.actor, result.dot.counter)
            client.read[key] = operation.read | ({operation.write} if covered else set())
        client.contexts[key] = result.context
        self._go_on(operation, known=True)

    def _go_on(self, operation: Operation, known: bool) -> None:
        retry = operation.write and not known and operation.tries < 3 and self.rng.random() < 0.5
        if not retry or self.healed:
            self.after(self.rng.randint(MS, 30 * MS), lambda: self._next(operation.client))
            return
        self.retries += 1
        node = self.rng.choice(list(self.nodes))
        self._send(replace(operation, node=node, tries=operation.tries + 1, done=False))

    # The end.

    @property
    def synced(self) -> int:
        """How many keys anti-entropy has brought to replicas."""
        cores = [node.core for node in self.nodes.values() if node.core is not None]
        return sum(core.status().counters["merkle_keys_synced"] for core in cores)

    def _compares(self) -> bool:
        return self.options.settings.anti_entropy_ns > 0

    def _replicas(self, key: str) -> tuple[NodeId, ...]:
        settings = self.options.settings
        return make_ring(self.options.members, settings.partitions, settings.n).preference(key)

    def _read_all(self, key: str) -> None:
        body = get(key, level=storage_pb2.CONSISTENCY_ALL)
        node = self.rng.choice(self.options.members)
        self._send(Operation(Client("z"), body, "", NOTHING_READ, node))

    def differing(self) -> list[str]:
        """Return the keys whose replicas do not all hold the same."""
        return [key for key in KEYS if not self.judge.equal(key, self._replicas(key))]

    def _repaired(self) -> bool:
        """Tell whether replicas have to be equal by now: each way of repair does it alone."""
        settings = self.options.settings
        # A crash forgets for whom a write under way was to leave a hint; nothing else does.
        by_hints = "crash" not in self.options.faults and settings.hints is not Hints.OFF
        by_hints = by_hints and settings.hint_window_ns > CHAOS_NS
        return self._compares() or settings.read_repair is not ReadRepair.OFF or by_hints

    def _judge_the_end(self) -> None:
        for number, operation in self.operations.items():
            if not operation.done:
                raise Violation(f"operation {number} was never answered")
        self.judge.refusals_were_true()
        for key in KEYS:
            replicas = self._replicas(key)
            self.judge.nothing_is_lost(key, replicas)
            if self._repaired():
                self.judge.converged(key, replicas)


def simulate(
    seed: int, create: CreateCore = DynamoCore, adjust: Adjust = lambda options: options
) -> World:
    """Run one seed to its end. Raises Violation, which names the seed.

    ``adjust`` changes what the seed has drawn.
    """
    world = World(seed, create, adjust)
    try:
        world.run()
    except Violation as violation:
        raise Violation(f"seed {seed}: {violation}\n{world.options}") from None
    return world
