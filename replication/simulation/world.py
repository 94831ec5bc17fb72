"""A cluster, its network and its clients' connections in virtual time."""

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from replication.errors import InvalidRequest
from replication.plan.model import LinkRule
from replication.plan.streams import stream
from replication.protocol import Backend, Core, Family, Membership, NodeId, RequestBody, check
from replication.simulation.clock import Clock
from replication.simulation.disk import Disk
from replication.simulation.legs import Legs
from replication.simulation.network import Link, Network, Tally
from replication.simulation.node import Node
from replication.simulation.settings import MILLISECOND_NS, SimulationSettings
from replication.simulation.timeline import Timeline
from replication.simulation.watching import Call, Result, Watcher
from replication.v1 import control_pb2, event_pb2

# Any fixed moment does; a virtual world must not ask what time it is outside.
WALL_START_NS = 1_700_000_000 * 1_000_000_000
HAND_OVER_NS = 100 * MILLISECOND_NS  # for a leader that is told to stop to let another lead
DRAIN_NS = 300 * MILLISECOND_NS  # what a node that is told to stop gives operations in flight

Answered = Callable[[Result], None]
Stopped = Callable[[bool], None]


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """Who is there: one backend with its settings, and its nodes."""

    backend: Backend
    settings: Any
    nodes: tuple[NodeId, ...]  # the members at the start
    spares: tuple[NodeId, ...] = ()  # not started until somebody launches them; no members

    @property
    def everybody(self) -> tuple[NodeId, ...]:
        """Return the members and the spares."""
        return (*self.nodes, *self.spares)


class _Links(dict[NodeId, Link]):
    """The links of a node, by receiver."""

    def __init__(self, make: Callable[[NodeId], Link]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, receiver: NodeId) -> Link:
        made = self[receiver] = self._make(receiver)
        return made


class World:
    """Everything that happens, on one timeline. Time 0 is before any node has started.

    The same spec, settings and seed give the same world: each kind of chance has its own stream
    (``streams``), and nothing else is random.
    """

    def __init__(
        self,
        spec: ClusterSpec,
        settings: SimulationSettings,
        seed: int,
        watcher: Watcher | None = None,
        legs: Legs | None = None,
    ) -> None:
        self.spec = spec
        self.settings = settings
        self.seed = seed
        self.timeline = Timeline()
        self.events: list[tuple[int, NodeId, event_pb2.Event]] = []
        self.network = Network(self.timeline, settings.network, seed)
        self._watcher = watcher
        self._legs = legs
        self._rng = stream(seed, "starts")
        self._held_down: dict[NodeId, list[object]] = {name: [] for name in spec.everybody}
        self.nodes = {name: self._make_node(name) for name in spec.everybody}
        for name, node in self.nodes.items():
            node.links = _Links(partial(self._link, name))
        # By ordered pair: links are made when they are used first, and of many nodes few are.
        self._index = {name: index for index, name in enumerate(spec.everybody)}
        self._down_until_ns = {name: array("q", [0] * len(self.nodes)) for name in self.nodes}

    def _link(self, name: NodeId, peer: NodeId) -> Link:
        assert peer != name, f"{name} sends to itself"
        made = self.network.link(name, peer, self.nodes[peer].take_frame)
        made.down_until_ns = self._down_until_ns[name][self._index[peer]]
        return made

    def _make_node(self, name: NodeId) -> Node:
        settings, seed = self.settings, self.seed
        clock_rng = stream(seed, f"clock:{name}")
        offset_ns, ppm = settings.clock.offset_ns_max, settings.clock.drift_ppm_max
        clock = Clock(
            WALL_START_NS + clock_rng.randint(-offset_ns, offset_ns), clock_rng.randint(-ppm, ppm)
        )
        lives = 0

        def create() -> Core:
            nonlocal lives
            lives += 1
            membership = Membership(name, self.spec.nodes)
            rng = stream(seed, f"node:{name}:{lives}")
            return self.spec.backend.create(membership, self.spec.settings, rng)

        return Node(
            name,
            self.timeline,
            settings.processor,
            Disk(settings.disk, stream(seed, f"disk:{name}")),
            clock,
            stream(seed, f"host:{name}"),
            create,
            self.events,
            self._watcher,
            self._legs,
        )

    @property
    def now_ns(self) -> int:
        """The moment that the world has come to."""
        return self.timeline.now_ns

    # Clients.

    def call(
        self, client: str, node: NodeId, body: RequestBody, timeout_ns: int, done: Answered
    ) -> Call:
        """Send an operation to ``node``; ``done`` is called with what comes back, if anything does.

        Whoever gives up waiting sets ``open`` of the call returned to False.
        """
        call = Call(client, body, timeout_ns, partial(self._answer, node, done))
        if self._legs is not None:
            self._legs.called(body, self.now_ns)
        there = self.network.way(client, node)
        delay_ns = there.delay_ns()
        if delay_ns is not None:
            self.timeline.after(delay_ns, self._arrive, (node, call))
        return call

    def command(
        self, node: NodeId, body: control_pb2.CommandRequest, timeout_ns: int, done: Answered
    ) -> Call:
        """Ask ``node`` for what an operator wants; he has a way to it that no fault cuts."""

        def answer(call: Call, leave_ns: int, result: Result) -> None:
            self.timeline.at(max(leave_ns, self.now_ns), _deliver, (call, done, result))

        call = Call("operator", body, timeout_ns, answer)
        self.nodes[node].take_call(call)
        return call

    def _arrive(self, arrival: tuple[NodeId, Call]) -> None:
        node, call = arrival
        problem = check(self.spec.backend, call.body)
        if problem is not None:
            call.answer(call, self.now_ns, InvalidRequest(problem))
        else:
            self.nodes[node].take_call(call)

    def _answer(
        self, node: NodeId, done: Answered, call: Call, leave_ns: int, result: Result
    ) -> None:
        delay_ns = self.network.way(node, call.client).delay_ns()
        if delay_ns is not None:
            if self._legs is not None:
                self._legs.replied(leave_ns, delay_ns)
            self.timeline.at(leave_ns + delay_ns, _deliver, (call, done, result))

    # What befalls nodes.

    def start(self, names: Iterable[NodeId] | None = None) -> None:
        """Start processes now, within ``start_spread_ns`` of each other; by default all members."""
        spread_ns = self.settings.processor.start_spread_ns
        for name in self.spec.nodes if names is None else names:
            late_ns = self._rng.randrange(max(1, spread_ns))
            self.timeline.after(late_ns, self._start, name)

    def launch(self, name: NodeId, started: Callable[[], None]) -> None:
        """Start a process as a launcher does: it serves, and ``started`` is called, after a while.

        Not if something keeps it down by then.
        """
        settings = self.settings.processor
        late_ns = self._rng.randrange(settings.start_jitter_ns + 1)
        self.timeline.after(settings.start_ns + late_ns, self._launched, (name, started))

    def _launched(self, which: tuple[NodeId, Callable[[], None]]) -> None:
        name, started = which
        if not self.nodes[name].alive and not self._held_down[name]:
            self._start(name)
            started()

    def _start(self, name: NodeId) -> None:
        self.nodes[name].start()
        self._reconnect(name)

    def _reconnect(self, name: NodeId) -> None:
        """Connections to and from a process that has come are made one by one, each in its time."""
        reconnect_ns = self.settings.processor.reconnect_ns
        for peer in self.nodes:
            if peer == name:
                continue
            for sender, receiver in ((name, peer), (peer, name)):
                until_ns = self.now_ns + self._rng.randrange(reconnect_ns + 1)
                self._down_until_ns[sender][self._index[receiver]] = until_ns
                link = self.nodes[sender].links.get(receiver)
                if link is not None:
                    link.down_until_ns = until_ns

    def pause(self, name: NodeId) -> None:
        """Stop a process where it stands."""
        self.nodes[name].pause()

    def resume(self, name: NodeId) -> None:
        """Let it go on."""
        if self.nodes[name].resume() > self.settings.processor.stall_ns:
            self._reconnect(name)

    def take_down(
        self, name: NodeId, owner: object, lose_unsynced: bool = False, torn: bool = True
    ) -> int | None:
        """Kill a process, or cut its power, and keep it down on behalf of ``owner``.

        Returns the commits that its disk lost, None when it did not run anyway.
        """
        self._held_down[name].append(owner)
        node = self.nodes[name]
        return node.kill(lose_unsynced, torn) if node.alive else None

    def bring_back(self, name: NodeId, owner: object, started: Callable[[], None]) -> bool:
        """Let ``owner`` no longer keep it down; start it if nobody else does.

        Returns whether it is being started; ``started`` is called when it has.
        """
        holders = self._held_down[name]
        if owner in holders:
            holders.remove(owner)
        if holders or self.nodes[name].alive:
            return False
        self.launch(name, started)
        return True

    def stop(self, name: NodeId, stopped: Stopped) -> None:
        """Tell a process to end cleanly; call ``stopped`` when it has, or (False) died before.

        One that leads lets somebody else lead first, if it can, as the host of a process does.
        """
        node = self.nodes[name]
        which = (name, node.life, stopped)
        if node.core is None or node.core.status().role != event_pb2.ROLE_LEADER:
            self._drain(which)
            return

        def waited(_: None) -> None:
            if call.open:
                call.open = False
                self._drain(which)

        request = control_pb2.CommandRequest(transfer_leadership=control_pb2.TransferLeadership())
        call = self.command(name, request, HAND_OVER_NS, lambda _: self._drain(which))
        self.timeline.after(HAND_OVER_NS, waited, None)

    def _drain(self, which: tuple[NodeId, int, Stopped]) -> None:
        name, life, stopped = which
        if self.nodes[name].life == life:
            self.nodes[name].drain()
        self._wait_for_drain((name, life, self.now_ns + DRAIN_NS, stopped))

    def _wait_for_drain(self, which: tuple[NodeId, int, int, Stopped]) -> None:
        name, life, deadline_ns, stopped = which
        node = self.nodes[name]
        if node.life != life or not node.alive:
            stopped(False)
        elif node.paused or not (node.idle or self.now_ns >= deadline_ns):
            self.timeline.after(MILLISECOND_NS, self._wait_for_drain, which)
        else:
            node.exit()
            stopped(True)

    # What befalls links.

    def impose(self, owner: object, rules: Sequence[LinkRule]) -> None:
        """Put link rules in force on behalf of ``owner``."""
        self.network.impose(owner, rules)

    def lift(self, owner: object) -> None:
        """Take the link rules of ``owner`` away."""
        self.network.lift(owner)

    def tally(self, rules: Sequence[LinkRule]) -> Tally:
        """Return what befell messages on the links that ``rules`` name, so far."""
        return self.network.tally(rules)

    # Looking.

    def statuses(self) -> dict[NodeId, control_pb2.NodeStatus]:
        """Return what each node that runs believes; a paused one cannot say."""
        return {
            name: node.core.status()
            for name, node in self.nodes.items()
            if node.core is not None and not node.paused
        }

    def leader(self) -> NodeId | None:
        """Return the leader of the highest term among those that can say so, if there is one."""
        if self.spec.backend.family is Family.LEADERLESS:
            return None
        leaders = [
            (status.term, name)
            for name, status in self.statuses().items()
            if status.role == event_pb2.ROLE_LEADER
        ]
        return max(leaders)[1] if leaders else None

    def alive(self) -> frozenset[NodeId]:
        """Return the nodes whose processes run, paused ones too."""
        return frozenset(name for name, node in self.nodes.items() if node.alive)


def _deliver(delivery: tuple[Call, Answered, Result]) -> None:
    call, done, result = delivery
    if call.open:
        call.open = False
        done(result)
