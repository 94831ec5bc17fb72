"""One side of a plan, executed in virtual time: start, load and faults, heal, settle, read back."""

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from replication.client import reading_back
from replication.client.session import Session
from replication.contents import Contents, replica_contents, sample, settled
from replication.errors import ConfigError
from replication.history import (
    ContentsSample,
    DriverReport,
    History,
    NodeEvent,
    Phase,
    event_record,
)
from replication.legs import fault_windows
from replication.plan.model import PlannedClient, ResolvedFault
from replication.plan.plan import Plan
from replication.protocol import Family, NodeId, load_backend
from replication.simulation.clients import Client, Recorder
from replication.simulation.invariants import find_invariants
from replication.simulation.legs import Legs
from replication.simulation.nemesis import Nemesis
from replication.simulation.settings import MILLISECOND_NS, SimulationSettings
from replication.simulation.tables import simulated_settings
from replication.simulation.watching import CoreFailed
from replication.simulation.world import WALL_START_NS, ClusterSpec, World

READY_LIMIT_NS = 30_000 * MILLISECOND_NS
POLL_NS = 10 * MILLISECOND_NS
SAMPLE_NS = 120 * MILLISECOND_NS
COMPARED_KEYS_MAX = 1_000  # during the load; more would cost more than the simulation itself
READ_REPAIR_NS_MAX = 1_000 * MILLISECOND_NS  # what the final reads begin to repair is watched


@dataclass(frozen=True, slots=True)
class Broken:
    """Something that must never happen has happened, and the simulation stopped there."""

    time_ns: int
    node: NodeId
    text: str


@dataclass(slots=True)
class Simulated:
    """What one side of a simulation left."""

    history: History
    resolved: dict[int, ResolvedFault]  # by fault number; for the side that runs second
    broken: Broken | None = None
    actions: int = 0  # how many steps the timeline took
    end_ns: int = 0  # how far virtual time went


Progress = Callable[[int, int], None]  # (virtual time, virtual time at the end of the load)


def simulate(
    plan: Plan,
    family: Family,
    settings: SimulationSettings | None = None,
    resolved: Mapping[int, ResolvedFault] | None = None,
    *,
    invariants: bool = True,
    load_only: bool = False,
    closely: bool = False,
    progress: Progress | None = None,
) -> Simulated:
    """Execute one side of ``plan`` and return its history, in every respect but time as a real run.

    ``settings`` default to what the scenario says in ``[simulation]``. ``resolved`` is what the
    side that ran first did to whom. Equal arguments give equal histories, byte for byte. A core
    that raises, or breaks an invariant of its family, ends the simulation: ``broken`` says so, and
    so does ``history.problems``. With ``load_only`` it ends with the load, nothing is read back.
    ``closely`` compares the replicas during the load too and samples the one-way delays of messages
    (``History.delays``): for reports, not for swarms. A KeyboardInterrupt ends it early:
    ``history.interrupted``.
    """
    side = _Side(plan, family, settings, resolved or {}, invariants, closely, progress)
    # Nearly everything that is made lives as long as the simulation: looking through it for what
    # does not costs a tenth of the time.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return side.execute(load_only)
    finally:
        if collecting:
            gc.enable()


def simulate_both(
    plan: Plan,
    settings: SimulationSettings | None = None,
    *,
    families: Sequence[Family] = tuple(Family),
    progress: Progress | None = None,
) -> dict[Family, Simulated]:
    """Execute the leader side, then the leaderless side with the same faults (design §7).

    Or one of them only, if ``families`` says so. A side that broke or was interrupted is the last.
    """
    sides: dict[Family, Simulated] = {}
    resolved: Mapping[int, ResolvedFault] = {}
    for family in families:
        simulated = sides[family] = simulate(
            plan, family, settings, resolved, closely=True, progress=progress
        )
        if simulated.history.interrupted or simulated.history.problems:
            break
        resolved = simulated.resolved
    return sides


def refuse(plan: Plan, families: Sequence[Family]) -> None:
    """Raise ConfigError unless all these sides can be simulated."""
    backends = [load_backend(plan.backends[family].path) for family in families]
    if hosted := [each.name for each in backends if each.hosted]:
        words = "runs code of its own on an event loop: no simulation"
        raise ConfigError([f"{plan.name}: {name} {words}" for name in hosted])


class _Side:
    def __init__(
        self,
        plan: Plan,
        family: Family,
        settings: SimulationSettings | None,
        earlier: Mapping[int, ResolvedFault],
        invariants: bool,
        closely: bool,
        progress: Progress | None,
    ) -> None:
        self._plan = plan
        self._family = family
        self._choice = plan.backends[family]
        self._backend = load_backend(self._choice.path)
        refuse(plan, [family])
        self._progress = progress
        room = settings or simulated_settings(plan.scenario, plan.name)
        room = replace(room, disk=replace(room.disk, sync=room.disk.sync and plan.sync != "off"))
        self._room = room
        homes = {client.name: client.home for client in plan.clients}
        spec = ClusterSpec(self._backend, self._choice.settings, plan.nodes, plan.spares)
        make = find_invariants(self._choice.path) if invariants else None
        watcher = None if make is None else make(self._choice.settings, spec.everybody)
        self._closely = closely
        self._legs = Legs(self._backend.legs) if closely and self._backend.legs else None
        self._world = World(spec, room, plan.seed, watcher, self._legs)
        self._recorder = Recorder()
        self._nemesis = Nemesis(self._world, plan, family, earlier, self._owners)
        self._clients = [self._client(client) for client in plan.clients]
        self._history = self._empty_history(homes)

    def _client(self, client: PlannedClient) -> Client:
        timeout_ns = self._plan.timing.operation_timeout_ns
        session = Session(client, self._family, self._plan.nodes, timeout_ns, self._plan.spares)
        return Client(self._world, session, self._recorder, self._phase_at)

    def _phase_at(self, intended_ns: int) -> Phase:
        return Phase.WARMUP if intended_ns < self._history.measure_start_ns else Phase.LOAD

    def _empty_history(self, homes: dict[str, NodeId]) -> History:
        settings = self._choice.settings
        return History(
            family=self._family.value,
            backend=self._backend.name,
            title=self._backend.title,
            promise=self._backend.promise(settings),
            simulated=True,
            seed=self._plan.seed,
            nodes=list(self._plan.nodes),
            clients=homes,
            load_start_ns=0,
            measure_start_ns=0,
            load_end_ns=0,
            heal_ns=0,
            settle_end_ns=0,
            single_register=self._backend.single_register,
            workload=self._plan.workload.kind,
            lossless=self._backend.lossless(settings, len(self._plan.nodes)),
            wall_start_ns=WALL_START_NS,
            settings=asdict(settings),
        )

    # The parts of a run.

    def execute(self, load_only: bool) -> Simulated:
        broken: Broken | None = None
        try:
            self._start()
            self._load()
            if not load_only:
                self._judge()
        except CoreFailed as failure:
            text = f"{type(failure.error).__name__}: {failure.error}"
            broken = Broken(self._world.now_ns, failure.node, text)
            seconds = broken.time_ns / 1e9
            self._history.problems.append(f"{seconds:.6f} s: {failure.node} failed: {text}")
        except _NotReady as failure:
            self._history.problems.append(str(failure))
        except KeyboardInterrupt:
            self._history.interrupted = True
        for client in self._clients:
            client.abandon()
        self._collect()
        return Simulated(
            self._history,
            self._nemesis.resolved,
            broken,
            self._world.timeline.done,
            self._world.now_ns,
        )

    def _judge(self) -> None:
        """Phase two: heal, settle, and read everything back."""
        self._heal()
        self._settle(self._plan.timing.settle_ns)
        self._history.settle_end_ns = self._world.now_ns
        self._read_back()
        # Reading every key back makes read repair mend the rest: look once more.
        self._settle(READ_REPAIR_NS_MAX)

    def _start(self) -> None:
        self._world.impose("regions", self._plan.distances())
        self._world.start()
        # A node may serve before it can talk to the others; a launcher waits for both.
        connected_ns = self._room.processor.reconnect_ns + POLL_NS
        self._world.timeline.run(self._world.now_ns + connected_ns)
        self._wait_until(self._all_serve, READY_LIMIT_NS, "the cluster does not serve")

    def _all_serve(self) -> bool:
        self._nemesis.review()
        statuses = self._world.statuses()
        return all(name in statuses and statuses[name].serving for name in self._nemesis.members)

    def _all_in_touch(self) -> bool:
        """Whether no member takes another for dead; followers of a leader need not know."""
        if self._family is Family.LEADER:
            return True
        members = frozenset(self._nemesis.members)
        return all(
            peer.alive
            for name, status in self._world.statuses().items()
            if name in members
            for peer in status.peers
            if peer.node in members
        )

    def _load(self) -> None:
        timing, history, timeline = self._plan.timing, self._history, self._world.timeline
        start_ns = history.load_start_ns = timeline.now_ns
        history.measure_start_ns = start_ns + timing.warmup_ns
        end_ns = history.load_end_ns = start_ns + timing.duration_ns
        self._nemesis.begin(start_ns)
        for client in self._clients:
            operations = self._plan.operations(client.session.client.name, self._family)
            client.run(operations, start_ns, end_ns)
        while timeline.now_ns < end_ns:
            timeline.run(min(timeline.now_ns + 100 * MILLISECOND_NS, end_ns))
            if self._closely and timeline.now_ns < end_ns:
                self._compare_replicas()
            if self._progress is not None:
                self._progress(timeline.now_ns, end_ns)

    def _compare_replicas(self) -> None:
        """Look at the replicas in the middle of the load: what is on its way differs for now."""
        if len(self._plan.keys()) <= COMPARED_KEYS_MAX:
            now_ns = self._world.timeline.now_ns
            found = sample(self._contents(), now_ns, absent_differ=False)
            self._history.samples.append(found)

    def _heal(self) -> None:
        """Undo every fault, let what is in flight end, and wait until the cluster serves."""
        self._nemesis.heal_all()
        limit_ns = self._plan.timing.operation_timeout_ns + 2 * POLL_NS
        self._wait_until(lambda: all(client.done for client in self._clients), limit_ns, None)
        # Data that is on its way to other nodes is not to be had until it has arrived.
        self._wait_until(lambda: not self._nemesis.commands, READY_LIMIT_NS, None)
        self._wait_until(
            self._all_serve, READY_LIMIT_NS, "the cluster does not serve after healing"
        )
        self._wait_until(
            self._all_in_touch, READY_LIMIT_NS, "some node takes another for dead after healing"
        )
        self._history.heal_ns = max(self._history.load_end_ns, self._nemesis.last_heal_ns or 0)

    def _settle(self, limit_ns: int) -> None:
        """Watch until all owners of every key were equal twice in a row, for ``limit_ns``."""
        history, timeline = self._history, self._world.timeline
        until_ns = timeline.now_ns + limit_ns
        taken: list[ContentsSample] = []
        while True:
            taken.append(sample(self._contents(), timeline.now_ns))
            history.samples.append(taken[-1])
            if settled(taken) or timeline.now_ns >= until_ns:
                return
            timeline.run(min(timeline.now_ns + SAMPLE_NS, until_ns))

    def _read_back(self) -> None:
        keys: Sequence[str] = self._plan.keys()
        for turn in range(reading_back.TURNS):
            self._read_keys(keys, turn)
            keys = reading_back.unanswered(keys, self._recorder.operations)
            if not keys:
                return
            self._wait_until(self._all_in_touch, READY_LIMIT_NS, None)

    def _read_keys(self, keys: Sequence[str], turn: int) -> None:
        plan, now_ns, members = self._plan, self._world.now_ns, self._nemesis.members
        limit_ns = (len(keys) + 1) * plan.timing.operation_timeout_ns
        offered = self._backend.consistencies
        readers = []
        for session, reads in reading_back.readers(
            plan, self._family, members, offered, keys, turn
        ):
            reader = Client(self._world, session, self._recorder, lambda _: Phase.FINAL)
            readers.append(reader)
            reader.run(iter(reads), now_ns, now_ns + limit_ns)
        self._clients += readers
        self._wait_until(lambda: all(reader.done for reader in readers), limit_ns, None)

    def _wait_until(
        self, condition: Callable[[], bool], limit_ns: int, otherwise: str | None
    ) -> None:
        timeline = self._world.timeline
        limit_ns += timeline.now_ns
        while not condition():
            if timeline.now_ns >= limit_ns:
                if otherwise is None:
                    return
                raise _NotReady(f"{otherwise} within {limit_ns / 1e9:.0f} s")
            timeline.run(timeline.now_ns + POLL_NS)

    # Looking.

    def _contents(self) -> Contents:
        return {
            name: None if node.core is None or node.paused else [*node.core.contents()]
            for name, node in self._world.nodes.items()
            if name in self._nemesis.members
        }

    def _owners(self) -> Mapping[str, tuple[NodeId, ...]]:
        """Return the preference list of every key that some replica knows of."""
        if self._family is Family.LEADER:
            return {}
        found: dict[str, tuple[NodeId, ...]] = {}
        for held in self._contents().values():
            for each in held or ():
                found.setdefault(each.key, tuple(each.owners))
        return found

    def _collect(self) -> None:
        history, world = self._history, self._world
        if not history.heal_ns:
            history.heal_ns = history.settle_end_ns = world.now_ns
        history.nodes = list(self._nemesis.ran)
        history.operations = self._recorder.operations
        history.faults = sorted(self._nemesis.records, key=lambda record: record.number)
        history.delays = {} if self._legs is None else self._legs.delays(fault_windows(history))
        history.events = [
            NodeEvent(time_ns, node, *event_record(event))
            for time_ns, node, event in sorted(world.events, key=lambda each: each[0])
        ]
        history.contents = replica_contents(self._contents())
        history.links = world.network.totals()
        history.links.dropped += sum(node.dropped for node in world.nodes.values())
        history.node_cpu_seconds = {
            name: round(node.busy_ns / 1e9, 6) for name, node in world.nodes.items()
        }
        history.counters = {
            name: {key: status.counters[key] for key in sorted(status.counters)}
            for name, status in world.statuses().items()
        }
        durations = sorted(
            each for node in world.nodes.values() for each in node.disk.sync_durations_ns
        )
        if durations:
            history.fdatasync_ns_p50 = durations[len(durations) // 2]
            history.fdatasync_ns_p99 = durations[len(durations) * 99 // 100]
        # A virtual driver is on time: what it could not send, its clients were too busy for.
        sent, unsent = self._recorder.begun, self._recorder.unsent
        history.driver = DriverReport(planned=sent + unsent, sent=sent)


class _NotReady(Exception):
    pass
