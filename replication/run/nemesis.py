"""Carries out the faults of a plan on a real cluster, in step with its schedule.

Roles are resolved at the moment a fault is due. Every fault leaves evidence: the state of the
process as the kernel tells it, or messages that were counted as dropped or delayed. A fault without
evidence is marked as not effective, and says why.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from replication.client import command
from replication.cluster.launcher import Cluster
from replication.cluster.process import Evidence
from replication.history import FaultRecord
from replication.plan.model import ClusterView, FaultKind, PlannedFault, ResolvedFault
from replication.plan.plan import Plan
from replication.plan.resolve import Unresolvable, resolve
from replication.plan.schedule import Action, Step, schedule
from replication.plan.targets import parse_target
from replication.protocol import Family, NodeId
from replication.run.cuts import Cuts
from replication.run.record import Ledger
from replication.run.strikes import Strikes
from replication.v1 import event_pb2

RESOLVE_TIMEOUT_NS = 2_000_000_000  # a role that nobody plays may be taken soon: an election
RESOLVE_POLL_S = 0.02
VIEW_TIMEOUT_S = 0.25


@dataclass(slots=True)
class _Active:
    """A fault from its injection to its healing."""

    record: FaultRecord
    resolved: ResolvedFault
    evidence: list[Evidence]


class Nemesis:
    """All faults of one side of a run."""

    def __init__(
        self,
        plan: Plan,
        cluster: Cluster,
        cuts: Cuts,
        ledger: Ledger,
        now_ns: Callable[[], int],
        sleep_until: Callable[[int], Awaitable[None]],
        earlier: Mapping[int, ResolvedFault],
    ) -> None:
        """``now_ns`` and ``sleep_until`` are in the time of the history.

        ``earlier`` is what the side that ran before has resolved; ``at_ns`` of its planned faults
        is when they really happened there.
        """
        self.records: list[FaultRecord] = []
        self.resolved: dict[int, ResolvedFault] = {}
        self.healed_ns = 0  # when the last one was
        self.members = list(plan.nodes)  # as far as faults have changed them
        self.ran = list(plan.nodes)  # spares that joined included, and who has left
        self._plan = plan
        self._family: Family = cluster.spec.family
        self._cluster = cluster
        self._cuts = cuts
        self._strikes = Strikes(cluster, cuts)
        self._ledger = ledger
        self._now_ns = now_ns
        self._sleep_until = sleep_until
        self._earlier = earlier
        self._load_start_ns = 0
        self._active: dict[int, _Active] = {}
        self._leader: NodeId | None = None  # as last seen
        self._unsure = False  # who is a member
        self._locks = {node: asyncio.Lock() for node in cluster.spec.everybody}

    async def run(self, load_start_ns: int) -> None:
        """Carry out the whole schedule; return when everything is healed.

        Raises NodeFailed when a node does not come back.
        """
        self._load_start_ns = load_start_ns
        # What is due at the same time stays in the order of the schedule.
        steps = [(self._due_ns(step), step) for step in schedule(self._plan, self._family)]
        steps.sort(key=lambda each: each[0])
        injected: dict[int, asyncio.Task[None]] = {}
        try:
            async with asyncio.TaskGroup() as tasks:
                for at_ns, step in steps:
                    await self._sleep_until(load_start_ns + at_ns)
                    number = step.fault.number
                    if step.action is Action.INJECT:
                        injected[number] = tasks.create_task(self._inject(step.fault))
                    else:
                        tasks.create_task(self._heal_after(injected[number], number))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    def words(self) -> str:
        """Return what is in force right now, empty when nothing is."""
        return "; ".join(active.record.words for active in self._active.values())

    def _due_ns(self, step: Step) -> int:
        """Return when a step is due: a fault that the other side had first, as late as there."""
        fault, before = step.fault, self._earlier.get(step.fault.number)
        if step.action is Action.HEAL or before is None or not fault.shared_target:
            return step.at_ns
        until_ns = self._plan.timing.duration_ns if fault.until_ns is None else fault.until_ns
        return min(before.planned.at_ns, until_ns - 1)

    async def heal_all(self) -> None:
        """Undo what is in force, on the way out of a run that ends early.

        Nodes that were killed stay dead: the cluster is about to be stopped.
        """
        for number in sorted(self._active):
            active = self._active[number]
            if active.resolved.links:
                if active.record.injected_ns is not None and self._cuts.in_force(number):
                    active.evidence.append(await self._cuts.remove(number))
            else:
                for node in active.resolved.nodes:
                    active.evidence += await self._strikes.release(active.resolved.planned, node)
            self._close(self._active.pop(number))
        for record in self.records:
            if record.injected_ns is None and record.problem is None:
                record.problem = "the run ended before it was injected"

    # One fault.

    async def _inject(self, fault: PlannedFault) -> None:
        record = FaultRecord(
            number=fault.number,
            kind=fault.kind.value,
            words=f"{fault.kind.value} {fault.targets[self._family]}",
            planned_ns=self._load_start_ns + fault.at_ns,
            injected_ns=None,
            healed_ns=None,
            takes_down=fault.takes_down,
            momentary=fault.kind.is_momentary,
            deafens=fault.deafens,
        )
        self.records.append(record)
        resolved = await self._resolve(fault, record)
        if resolved is None:
            return
        record.words, record.nodes = resolved.words, list(resolved.nodes)
        record.sides = [list(side) for side in resolved.sides]
        active = self._active[fault.number] = _Active(record, resolved, [])
        record.injected_ns = self._now_ns()
        at_ns = record.injected_ns - self._load_start_ns
        self.resolved[fault.number] = replace(resolved, planned=replace(fault, at_ns=at_ns))
        if resolved.links:
            await self._cuts.add(fault.number, resolved.links)
        elif fault.kind.is_command:
            await self._command(active)
        else:
            await asyncio.gather(*(self._strike(active, node) for node in resolved.nodes))
        if fault.kind.is_momentary:
            self._close(self._active.pop(fault.number))

    async def _strike(self, active: _Active, node: NodeId) -> None:
        async with self._locks[node]:
            active.evidence += await self._strikes.inject(active.resolved.planned, node)

    async def _command(self, active: _Active) -> None:
        resolved, members = active.resolved, self.members
        kind, nodes = resolved.planned.kind, resolved.nodes
        coming = {FaultKind.JOIN: nodes, FaultKind.REPLACE: (resolved.planned.spare,)}.get(kind, ())
        self.ran += coming
        if kind is FaultKind.REPLACE:
            async with self._locks[nodes[0]]:
                active.evidence += await self._strikes.bury(nodes[0])
        evidence, done = await self._strikes.command(resolved, members, self._leader)
        active.evidence += evidence
        if done and kind in (FaultKind.LEAVE, FaultKind.REPLACE):
            members[:] = [each for each in members if each not in nodes]
        if done:
            members += coming
            return
        self._unsure |= kind is not FaultKind.TRANSFER
        await self.review()
        if kind is FaultKind.REPLACE and nodes[0] in members:
            async with self._locks[nodes[0]]:
                active.evidence += await self._strikes.exhume(nodes[0])

    async def review(self) -> None:
        """Ask the cluster who is a member, if an operator gave up on a change of that."""
        if self._unsure:
            found = await self._cluster.control.statuses(self.ran, VIEW_TIMEOUT_S)
            statuses = [each.status for each in found.values()]
            self.members[:] = command.members(self.ran, statuses) or self.members

    async def _heal_after(self, injection: asyncio.Task[None], number: int) -> None:
        await injection
        active = self._active.get(number)
        if active is None:
            return
        ended_ns: int | None = None
        if active.resolved.links:
            # From here on messages pass on some of the links: what is acknowledged from now on
            # says nothing of the fault.
            ended_ns = self._now_ns()
            active.evidence.append(await self._cuts.remove(number))
        else:
            await asyncio.gather(*(self._mend(active, node) for node in active.resolved.nodes))
        # Only now: a run that ends meanwhile has to heal what is left.
        del self._active[number]
        self._close(active, ended_ns)

    async def _mend(self, active: _Active, node: NodeId) -> None:
        async with self._locks[node]:
            active.evidence += await self._strikes.heal(active.resolved.planned, node)

    def _close(self, active: _Active, ended_ns: int | None = None) -> None:
        record = active.record
        self.healed_ns = self._now_ns()
        record.healed_ns = self.healed_ns if ended_ns is None else ended_ns
        record.evidence = [each.words for each in active.evidence]
        doubts = [each.words for each in active.evidence if not each.shown]
        record.effective = bool(active.evidence) and not doubts
        if doubts:
            record.problem = "; ".join(doubts)
        elif not active.evidence:
            record.problem = "the run ended before there was evidence that it took effect"

    # Who it is for.

    async def _resolve(self, fault: PlannedFault, record: FaultRecord) -> ResolvedFault | None:
        give_up_ns = self._now_ns() + RESOLVE_TIMEOUT_NS
        if fault.until_ns is not None:
            give_up_ns = min(give_up_ns, self._load_start_ns + fault.until_ns)
        rng = self._plan.fault_random(fault)
        while True:
            view = await self._view(fault)
            try:
                return resolve(fault, view, rng, self._earlier.get(fault.number))
            except Unresolvable as problem:
                if self._now_ns() >= give_up_ns:
                    record.problem = problem.reason
                    return None
            await asyncio.sleep(RESOLVE_POLL_S)

    async def _view(self, fault: PlannedFault) -> ClusterView:
        cluster = self._cluster
        up = [node for node in self.members if cluster.is_up(node)]
        found = await cluster.control.statuses(up, VIEW_TIMEOUT_S)
        self._ledger.note(found)
        leaders = [
            (answer.status.term, node)
            for node, answer in found.items()
            if answer.status.role == event_pb2.ROLE_LEADER
        ]
        target = parse_target(fault.targets[self._family])
        owners = {}
        if target.key is not None and found and self._family is Family.LEADERLESS:
            for key in await cluster.control.contents(next(iter(found))):
                owners[key.key] = tuple(key.owners)
        self._leader = max(leaders)[1] if leaders else None
        return ClusterView(
            family=self._family,
            nodes=tuple(self.members),
            alive=frozenset(up),
            leader=self._leader,
            clients={client.name: client.home for client in self._plan.clients},
            owners=owners,
        )
