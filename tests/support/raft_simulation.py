"""A small world for Raft cores: slow disks, a bad network, crashes and pauses, all from one seed.

The disk holds a ``Persist`` back for a while and everything listed behind it with it; a crash loses
what was not durable, and exactly that. The network loses, duplicates, delays and thereby reorders;
it cuts links in either direction. ``raft_judge`` looks on and judges.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from random import Random

from google.protobuf.message import Message

from leader.raft import RaftCore
from leader.v1 import raft_pb2
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
    RequestBody,
    Response,
    Send,
)
from tests.support.raft_cluster import MS, MemoryDisk
from tests.support.raft_judge import Judge
from tests.support.raft_workload import OPERATION_TIMEOUT_NS, Client, Operator, Options

CHAOS_NS = 2_500 * MS
HEALED_MIN_NS = 1_000 * MS
HEALED_NS = 2_500 * MS  # by then there is progress, whatever had been
HEALED_STEP_NS = 500 * MS
NETWORK_DELAY_MIN_NS = MS // 5


@dataclass
class Node:
    """One process with its disk. ``life`` tells events of a dead process from those of this one."""

    name: NodeId
    core: RaftCore
    disk: MemoryDisk = field(default_factory=MemoryDisk)
    life: int = 0
    alive: bool = True
    paused: bool = False
    held: list[Callable[[], None]] = field(default_factory=list)  # what arrived during a pause
    ppm: int = 0  # how much faster its clock runs than the world's
    outbox: deque[Effect | Callable[[], None]] = field(default_factory=deque)
    syncing: list[Persist] = field(default_factory=list)
    flush_planned: bool = False
    wake_planned_ns: int | None = None


class Simulation:
    """One run of one seed; ``run`` raises ``raft_judge.Violation`` at the first wrong step."""

    def __init__(
        self, seed: int, core_type: type[RaftCore] = RaftCore, options: Options | None = None
    ) -> None:
        self.rng = Random(seed)
        self.options = options or Options.draw(self.rng)
        self.core_type = core_type
        self.now_ns = 0
        everybody = range(1, self.options.size + self.options.spares + 1)
        self.names = tuple(f"n{number}" for number in everybody)
        self.members = self.names[: self.options.size]  # at the start
        self.cut_links: set[tuple[NodeId, NodeId]] = set()
        self.healed = False
        self.steps = 0
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._planned = 0
        self._requests: dict[int, Callable[[Response | OperationError], None]] = {}
        self._request_count = 0
        self.nodes = {name: Node(name, self._new_core(name)) for name in self.names}
        self.judge = Judge(f"seed {seed}", {name: node.disk for name, node in self.nodes.items()})
        for node in self.nodes.values():
            drift = self.options.drift_ppm
            node.ppm = self.rng.randrange(-drift, drift + 1) if drift else 0
            self._boot(node)
        if self.options.spares:
            self.operator = Operator(self)
        self.clients = [Client(self, number) for number in range(3)]

    def run(self) -> "Simulation":
        """Faults, then none, then judge the whole."""
        self._at(self.rng.randrange(100 * MS), self._fault)
        self._advance(CHAOS_NS)
        self._heal()
        self._advance(CHAOS_NS + HEALED_MIN_NS)
        cores = {name: node.core for name, node in self.nodes.items()}
        # Most of a run would be peace otherwise, in which little is to be seen.
        while self.judge.standstill(cores, CHAOS_NS, self.now_ns) and (
            self.now_ns < CHAOS_NS + HEALED_NS
        ):
            self._advance(self.now_ns + HEALED_STEP_NS)
        self.judge.conclude(cores, CHAOS_NS, self.now_ns)
        return self

    def submit(
        self,
        node: NodeId,
        body: RequestBody,
        done: Callable[[Response | OperationError], None],
    ) -> None:
        """Hand a request to ``node``; nothing comes back if it is dead or dies."""
        self._request_count += 1
        number = self._request_count
        self._requests[number] = done
        target = self.nodes[node]
        # The clock of a node that is paused runs on: its deadline is that of the client.
        request = Request(body, self.now(target).monotonic_ns + OPERATION_TIMEOUT_NS)
        self._input(target, lambda: target.core.submit(self.now(target), number, request))

    def now(self, node: Node) -> Instant:
        """Return the time by the clock of ``node``."""
        local_ns = self.now_ns + self.now_ns * node.ppm // 1_000_000
        return Instant(local_ns, local_ns)

    def plan(self, delay_ns: int, action: Callable[[], None]) -> None:
        self._at(self.now_ns + delay_ns, action)

    # Time.

    def _at(self, time_ns: int, action: Callable[[], None]) -> None:
        self._planned += 1
        heappush(self._events, (time_ns, self._planned, action))

    def _advance(self, until_ns: int) -> None:
        while self._events and self._events[0][0] <= until_ns:
            self.now_ns, _, action = heappop(self._events)
            self.steps += 1
            action()
        self.now_ns = until_ns

    # Processes and disks.

    def _new_core(self, name: NodeId) -> RaftCore:
        rng = Random(self.rng.random())
        return self.core_type(Membership(name, self.members), self.options.settings, rng)

    def _boot(self, node: Node) -> None:
        self._perform(node, node.core.start(self.now(node), node.disk))

    def _input(self, node: Node, call: Callable[[], list[Effect]]) -> None:
        if not node.alive:
            return
        if node.paused:
            node.held.append(lambda: self._input(node, call))
            return
        self._perform(node, call())

    def _perform(self, node: Node, effects: list[Effect]) -> None:
        core, life = node.core, node.life
        term = core.replica.term
        node.outbox.extend(effects)
        if effects:
            first, entries = self.judge.entries(node.name, core)
            # What a core concludes counts from the moment at which others could learn of it.
            node.outbox.append(lambda: self.judge.concluded(node.name, first, entries, term))
        self._drain(node)
        if self.judge.look(node.name, core):
            self._haunt(node)
        if not node.flush_planned:
            # Not at once: a host flushes when its inbox is empty, so inputs share a batch.
            node.flush_planned = True
            self.plan(self.rng.randrange(MS // 5), lambda: self._flush(node, life))
        wake_ns = node.core.wake_at()
        if wake_ns is not None and (node.wake_planned_ns is None or wake_ns < node.wake_planned_ns):
            node.wake_planned_ns = wake_ns
            true_ns = wake_ns * 1_000_000 // (1_000_000 + node.ppm) + 1
            self._at(max(true_ns, self.now_ns), lambda: self._wake(node, life, wake_ns))

    def _flush(self, node: Node, life: int) -> None:
        if node.life != life or not node.alive:
            return
        if node.paused:
            node.held.append(lambda: self._flush(node, life))
            return
        effects = node.core.flush(self.now(node))
        if effects:
            self._perform(node, effects)
        node.flush_planned = False

    def _wake(self, node: Node, life: int, planned_ns: int) -> None:
        if node.life != life or not node.alive:
            return
        if node.paused:
            node.held.append(lambda: self._wake(node, life, planned_ns))
            return
        if node.wake_planned_ns == planned_ns:
            node.wake_planned_ns = None
        self._perform(node, [*node.core.wake(self.now(node)), *node.core.flush(self.now(node))])

    def _drain(self, node: Node) -> None:
        while node.outbox and not node.syncing:
            effect = node.outbox.popleft()
            match effect:
                case Persist():
                    # One sync for every write that waits; what stands between them waits for all.
                    writes = [each for each in node.outbox if isinstance(each, Persist)]
                    node.syncing = [effect, *writes]
                    others = [each for each in node.outbox if not isinstance(each, Persist)]
                    node.outbox = deque(others)
                    self._sync(node, node.life)
                case Send(to, message):
                    self._send(node.name, to, message)
                case Reply(request_id, result):
                    self.judge.replying = node.core
                    self._requests.pop(request_id)(result)
                case Observe():
                    pass
                case _:
                    effect()

    def _sync(self, node: Node, life: int) -> None:
        def synced() -> None:
            if node.life == life:
                for persist in node.syncing:
                    node.disk.write(persist.writes)
                node.syncing = []
                self._drain(node)

        self.plan(self.rng.randrange(1, self.options.sync_max_ns), synced)

    def _crash(self, node: Node) -> None:
        # A write under way may have reached the disk or not: any number of them, in order.
        for persist in node.syncing[: self.rng.randrange(len(node.syncing) + 1)]:
            node.disk.write(persist.writes)
        node.alive = False
        node.life += 1

    def _restart(self, node: Node) -> None:
        if node.alive:
            return
        fresh = Node(node.name, self._new_core(node.name))
        for name in ("core", "paused", "held", "outbox", "syncing"):
            setattr(node, name, getattr(fresh, name))
        node.flush_planned = False
        node.wake_planned_ns = None
        node.alive = True
        self.judge.restarted(node.name)
        self._boot(node)

    def _resume(self, node: Node, life: int) -> None:
        if node.life == life and node.paused:
            node.paused = False
            held, node.held = node.held, []
            for action in held:
                action()

    # Network.

    def _send(self, sender: NodeId, to: NodeId, message: Message) -> None:
        options = self.options
        if (sender, to) in self.cut_links or (not self.healed and self.rng.random() < options.loss):
            return
        copies = 2 if not self.healed and self.rng.random() < options.duplicate else 1
        # By value: a core that changes a message after sending it changes only its own copy.
        data = message.SerializeToString()
        for _ in range(copies):
            delay_ns = self.rng.randrange(NETWORK_DELAY_MIN_NS, options.delay_max_ns)
            self.plan(delay_ns, lambda: self._arrive(sender, to, data))

    def _arrive(self, sender: NodeId, to: NodeId, data: bytes) -> None:
        if (sender, to) in self.cut_links:
            return
        node = self.nodes[to]
        message = raft_pb2.RaftMessage.FromString(data)
        self._input(node, lambda: node.core.receive(self.now(node), sender, message))

    # Faults.

    def _fault(self) -> None:
        if self.healed:
            return
        node = self.nodes[self.rng.choice(self.names)]
        leads = [each for each in self.nodes.values() if each.core.leader is not None]
        if leads and self.rng.random() < 0.5:
            node = self.rng.choice(leads)  # where it hurts most
        duration_ns = self.rng.randrange(20 * MS, 2 * self.options.settings.election_timeout_max_ns)
        kinds = [name for name in ("crash", "pause", "cut") if getattr(self.options, name)]
        match self.rng.choice([*kinds, "mend"]):
            case "crash":
                self._crash_for_a_while(node, node.life)
            case "pause" if node.alive and not node.paused:
                node.paused = True
                life = node.life
                self.plan(duration_ns, lambda: self._resume(node, life))
            case "cut":
                self._cut()
            case "mend":
                self.cut_links.clear()
        self.plan(self.rng.randrange(10 * MS, self.options.fault_gap_max_ns), self._fault)

    def _haunt(self, leader: Node) -> None:
        """Perhaps crash a new leader before it has replicated all or any of its log."""
        if not self.healed and self.rng.random() < self.options.haunt:
            life = leader.life
            delay_ns = self.rng.randrange(4 * self.options.delay_max_ns)
            self.plan(delay_ns, lambda: self._crash_for_a_while(leader, life))

    def _crash_for_a_while(self, node: Node, life: int) -> None:
        if node.life == life and node.alive and not self.healed:
            self._crash(node)
            longest_ns = 2 * self.options.settings.election_timeout_max_ns
            self.plan(self.rng.randrange(20 * MS, longest_ns), lambda: self._restart(node))

    def _cut(self) -> None:
        side = [name for name in self.names if self.rng.random() < 0.5]
        others = [name for name in self.names if name not in side]
        one_way = self.rng.random() < 0.3
        self.cut_links = {(one, other) for one in side for other in others}
        if not one_way:
            self.cut_links |= {(other, one) for one in side for other in others}

    def _heal(self) -> None:
        self.healed = True
        self.cut_links.clear()
        for node in self.nodes.values():
            self._resume(node, node.life)
            self._restart(node)
