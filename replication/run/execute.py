"""One side of a run from start to end, on real processes."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from replication.client import reading_back
from replication.client.grpc_client import Pipelines
from replication.client.session import Session
from replication.cluster.control import ControlFailed
from replication.cluster.launcher import Cluster, ClusterSpec
from replication.contents import replica_contents
from replication.errors import ReplicationError
from replication.history import History, Outcome, Phase
from replication.legs import Thinned, fault_windows, merged, undisturbed
from replication.plan.model import ResolvedFault
from replication.plan.plan import Plan
from replication.plan.streams import stream
from replication.protocol import Family, NodeId, load_backend
from replication.run.cuts import Cuts
from replication.run.load import Driver, Window, quiet_collector
from replication.run.nemesis import Nemesis
from replication.run.progress import Progress, Stage
from replication.run.record import Ledger, measure_fdatasync, read_delays, read_events
from replication.run.settle import all_contents, in_touch, settle
from replication.run.timers import Timers
from replication.run.wires import Wires

LEAD_IN_NS = 20_000_000  # between the last preparation and the first operation
CONNECT_TIMEOUT_S = 10.0
PROGRESS_S = 0.1
IN_TOUCH_TIMEOUT_S = 10.0  # for nodes to find each other again when a read was refused
HEAL_TIMEOUT_S = 2.0
REGIONS = 0  # what lies between regions, among the link rules that are numbered by fault
READ_REPAIR_NS_MAX = 1_000_000_000  # what the final reads begin to repair is watched for this long

T = TypeVar("T")
Tell = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Execution:
    """What one side left. ``resolved`` is for the other side: the same nodes, at the same time."""

    history: History
    resolved: Mapping[int, ResolvedFault]


async def execute(
    plan: Plan,
    family: Family,
    folder: Path,
    earlier: Mapping[int, ResolvedFault] | None = None,
    tell: Tell | None = None,
) -> Execution:
    """Start the cluster of ``family``, put the plan on it, and return what happened.

    Nodes live in ``folder``. ``earlier`` is what the other side, which ran first, has resolved.
    A node that ends unasked, or does not start, breaks the run: it ends early and
    ``history.problems`` says why. So does a cancellation (Ctrl-C), which is swallowed:
    ``history.interrupted`` is set and the caller goes on with what was recorded. On every way out
    everything is healed and no node is left.
    """
    side = _Side(plan, family, folder, earlier or {}, tell or (lambda _: None))
    await side.run()
    return Execution(side.history, side.resolved)


class _Side:
    """The execution of one side, and the history that grows with it."""

    def __init__(
        self,
        plan: Plan,
        family: Family,
        folder: Path,
        earlier: Mapping[int, ResolvedFault],
        tell: Tell,
    ) -> None:
        choice = plan.backends[family]
        backend = load_backend(choice.path)
        self.resolved: Mapping[int, ResolvedFault] = {}
        self._offered = backend.consistencies
        self._plan = plan
        self._family = family
        self._folder = folder
        self._earlier = earlier
        self._tell_caller = tell
        self._zero_ns = time.monotonic_ns()
        self._cluster = Cluster(
            ClusterSpec(
                plan.nodes,
                choice,
                family,
                folder,
                plan.sync,
                plan.seed,
                plan.spares,
                stamps=bool(backend.legs),
            )
        )
        self._delays: list[dict[str, Thinned]] = []  # of each node
        self._ledger = Ledger()
        self._stage = Stage.STARTING
        self._driver: Driver | None = None
        self._nemesis: Nemesis | None = None
        self.history = History(
            family=family.value,
            backend=backend.name,
            title=backend.title,
            promise=backend.promise(choice.settings),
            simulated=False,
            seed=plan.seed,
            nodes=list(plan.nodes),
            clients={client.name: client.home for client in plan.clients},
            load_start_ns=0,
            measure_start_ns=0,
            load_end_ns=0,
            heal_ns=0,
            settle_end_ns=0,
            single_register=backend.single_register,
            workload=plan.workload.kind,
            lossless=backend.lossless(choice.settings, len(plan.nodes)),
            wall_start_ns=time.time_ns(),
            settings=asdict(choice.settings),
        )

    def _now_ns(self) -> int:
        return time.monotonic_ns() - self._zero_ns

    async def run(self) -> None:
        """Do everything; never raises for what the world did."""
        ticker = asyncio.create_task(self._tick())
        try:
            await self._run()
        except asyncio.CancelledError:
            self.history.interrupted = True
            task = asyncio.current_task()
            assert task is not None, "coroutines run in tasks"
            task.uncancel()
        except (ReplicationError, OSError, TimeoutError) as error:
            self.history.problems.append(str(error) or repr(error))
        finally:
            ticker.cancel()
        self._finish()
        self._enter(Stage.DONE)

    async def _run(self) -> None:
        """Prepare, then go through the stages; leaving the cluster's block stops all nodes."""
        self._enter(Stage.STARTING)
        self._folder.mkdir(parents=True, exist_ok=True)
        disk = await asyncio.to_thread(measure_fdatasync, self._folder)
        self.history.fdatasync_ns_p50, self.history.fdatasync_ns_p99 = disk
        timers = Timers()
        try:
            async with self._cluster as cluster:
                await cluster.wait_until_serving()
                pipelines = Pipelines(cluster.endpoints)
                try:
                    await pipelines.opened(CONNECT_TIMEOUT_S, self._plan.nodes)
                    await self._stages(timers, pipelines)
                finally:
                    await pipelines.close()
                    self._enter(Stage.STOPPING)
        finally:
            timers.close()

    async def _stages(self, timers: Timers, pipelines: Pipelines) -> None:
        chance = stream(self._plan.seed, "wires", self._family.value)
        wires = Wires(chance)
        driver = self._driver = Driver(pipelines, timers, wires, self._zero_ns)
        cuts = Cuts(self._cluster, wires, self._ledger)
        nemesis = self._nemesis = Nemesis(
            self._plan,
            self._cluster,
            cuts,
            self._ledger,
            self._now_ns,
            lambda when_ns: timers.sleep_until(when_ns + self._zero_ns),
            self._earlier,
        )
        if self._plan.regions:
            await cuts.add(REGIONS, self._plan.distances())
        try:
            await self._unless_broken(self._load(driver, nemesis, timers))
            await self._unless_broken(self._judge(driver))
        finally:
            await self._heal(nemesis)

    async def _load(self, driver: Driver, nemesis: Nemesis, timers: Timers) -> None:
        history, timing = self.history, self._plan.timing
        history.load_start_ns = self._now_ns() + LEAD_IN_NS
        history.measure_start_ns = history.load_start_ns + timing.warmup_ns
        history.load_end_ns = history.load_start_ns + timing.duration_ns
        window = Window(
            history.load_start_ns, history.load_end_ns, Phase.LOAD, history.measure_start_ns
        )
        work = [
            (
                Session(
                    client,
                    self._family,
                    self._plan.nodes,
                    timing.operation_timeout_ns,
                    self._plan.spares,
                ),
                self._plan.operations(client.name, self._family),
            )
            for client in self._plan.clients
        ]
        faults = asyncio.create_task(nemesis.run(history.load_start_ns))
        self._enter(Stage.LOADING)
        try:
            with quiet_collector(), self._load_measured(driver, timers):
                await timers.sleep_until(history.load_start_ns + self._zero_ns)
                await _first_failure(faults, driver.run(work, window))
            await faults
        finally:
            faults.cancel()
            await asyncio.wait((faults,))

    @contextmanager
    def _load_measured(self, driver: Driver, timers: Timers) -> Iterator[None]:
        """Measure how busy this process is, from the start to the end of the load."""
        history = self.history
        marks: list[tuple[int, float]] = []

        def mark() -> None:
            marks.append((time.monotonic_ns(), time.process_time()))

        timers.at(history.load_start_ns + self._zero_ns, mark)
        timers.at(history.load_end_ns + self._zero_ns, mark)
        try:
            yield
        finally:
            mark()
            (start_ns, start_cpu), (end_ns, end_cpu) = marks[0], marks[:2][-1]
            history.driver = driver.report(end_cpu - start_cpu, (end_ns - start_ns) / 1e9)

    async def _judge(self, driver: Driver) -> None:
        """Settle, read every key back, and take stock of every replica."""
        history, control = self.history, self._cluster.control
        assert self._nemesis is not None, "the load came first"
        await self._nemesis.review()
        members = self._nemesis.members
        self._enter(Stage.SETTLING)
        history.heal_ns = self._healed_ns()
        until_ns = self._now_ns() + self._plan.timing.settle_ns
        await settle(control, members, self._now_ns, until_ns, history.samples)
        history.settle_end_ns = self._now_ns()
        self._enter(Stage.READING_BACK)
        await self._read_back(driver, members)
        # Reading every key back is what makes read repair mend the rest: look once more.
        until_ns = self._now_ns() + READ_REPAIR_NS_MAX
        await settle(control, members, self._now_ns, until_ns, history.samples)
        contents = await all_contents(control, members)
        history.contents = replica_contents(contents)
        silent = [node for node, keys in contents.items() if keys is None]
        if silent:
            history.problems.append(f"no answer at the end from {', '.join(silent)}")
        self._ledger.note(await control.statuses(self._nemesis.ran))
        if self._cluster.spec.stamps:
            self._delays = await read_delays(control, self._nemesis.ran, self._zero_ns)

    async def _read_back(self, driver: Driver, members: Sequence[NodeId]) -> None:
        keys: Sequence[str] = self._plan.keys()
        for turn in range(reading_back.TURNS):
            work = reading_back.readers(
                self._plan, self._family, members, self._offered, keys, turn
            )
            window = Window(self._now_ns(), None, Phase.FINAL)
            await driver.run([(session, iter(reads)) for session, reads in work], window)
            keys = reading_back.unanswered(keys, driver.operations)
            if not keys:
                return
            await in_touch(self._cluster.control, members, self._family, IN_TOUCH_TIMEOUT_S)

    async def _unless_broken(self, work: Coroutine[Any, Any, None]) -> None:
        """Do ``work``, but give up as soon as a node ends without being asked to."""
        task = asyncio.create_task(work)
        surprised = asyncio.create_task(self._cluster.surprised.wait())
        try:
            await asyncio.wait((task, surprised), return_when=asyncio.FIRST_COMPLETED)
            if self._cluster.surprises and not (task.done() and not task.cancelled()):
                raise self._cluster.surprises[0]
            await task
        finally:
            surprised.cancel()
            task.cancel()
            await asyncio.wait((task,))

    async def _heal(self, nemesis: Nemesis) -> None:
        """Undo what is still in force, on whichever way the run ends. Bounded."""
        try:
            async with asyncio.timeout(HEAL_TIMEOUT_S):
                await nemesis.heal_all()
        except (ControlFailed, TimeoutError) as error:
            # The nodes are about to be stopped; that heals the rest.
            self.history.problems.append(f"healing: {error}")

    def _healed_ns(self) -> int:
        assert self._nemesis is not None, "the load came first"
        return max(self._nemesis.healed_ns or 0, self.history.load_end_ns)

    def _finish(self) -> None:
        """Fill in what is known whichever way the run ended."""
        history = self.history
        if self._driver is not None:
            history.operations = self._driver.operations
        # A run that is cut short has no load after its end.
        history.load_end_ns = min(history.load_end_ns, self._now_ns())
        if self._nemesis is not None:
            history.faults = sorted(self._nemesis.records, key=lambda record: record.number)
            self.resolved = self._nemesis.resolved
            history.nodes = list(self._nemesis.ran)
            history.heal_ns = self._healed_ns()
        history.settle_end_ns = history.settle_end_ns or self._now_ns()
        history.links = self._ledger.link_totals()
        history.node_cpu_seconds = self._ledger.cpu_seconds()
        history.counters = self._ledger.counters()
        history.events = read_events(self._folder, history.nodes, self._zero_ns)
        if self._driver is not None:
            spans = merged([*self._delays, self._driver.delays.found])
            history.delays = undisturbed(spans, fault_windows(history))
        history.problems += [
            str(surprise)
            for surprise in self._cluster.surprises
            if str(surprise) not in history.problems
        ]

    # What is told while it works.

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_S)
            self._tell()

    def _enter(self, stage: Stage) -> None:
        self._stage = stage
        self._tell()

    def _tell(self) -> None:
        start_ns = self.history.load_start_ns if self._stage is Stage.LOADING else 0
        counts = dict.fromkeys(Outcome, 0) if self._driver is None else self._driver.counts
        self._tell_caller(
            Progress(
                family=self._family,
                stage=self._stage,
                elapsed_ns=max(self._now_ns() - start_ns, 0),
                total_ns=self._plan.timing.duration_ns,
                ok=counts[Outcome.OK],
                fail=counts[Outcome.FAIL],
                unknown=counts[Outcome.UNKNOWN],
                fault="" if self._nemesis is None else self._nemesis.words(),
            )
        )


async def _first_failure(background: asyncio.Task[None], work: Coroutine[Any, Any, None]) -> None:
    """Do ``work``; when the task in the background fails meanwhile, end at once with its error."""
    task = asyncio.create_task(work)
    try:
        await asyncio.wait((task, background), return_when=asyncio.FIRST_COMPLETED)
        if background.done():
            background.result()
        await task
    finally:
        task.cancel()
        await asyncio.wait((task,))
