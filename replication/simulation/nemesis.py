"""The nemesis in virtual time: injects the faults of a plan, heals them, notes the evidence."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random

from replication.history import FaultRecord
from replication.plan.model import ClusterView, FaultKind, PlannedFault, ResolvedFault
from replication.plan.plan import Plan
from replication.plan.resolve import Unresolvable, resolve
from replication.plan.schedule import Action, Step, schedule
from replication.plan.targets import Role, parse_target
from replication.protocol import Family, NodeId
from replication.simulation.network import Tally
from replication.simulation.settings import MILLISECOND_NS
from replication.simulation.world import World

RETRY_NS = 20 * MILLISECOND_NS  # until a role that nobody plays is asked for again
RESOLVE_TIMEOUT_NS = 2_000 * MILLISECOND_NS  # until nobody is expected to take it any more

_OF_KEY = (Role.FIRST_REPLICA, Role.COORDINATOR)


@dataclass(slots=True)
class _Active:
    """A fault in force."""

    record: FaultRecord
    resolved: ResolvedFault | None = None
    before: Tally = field(default_factory=Tally)
    paused_life: dict[NodeId, int] = field(default_factory=dict)  # which process it stopped


class Nemesis:
    """All faults of a plan on one side.

    ``earlier`` is what the other side's nemesis resolved, by fault number; ``resolved`` is what
    this one did.
    """

    def __init__(
        self,
        world: World,
        plan: Plan,
        family: Family,
        earlier: Mapping[int, ResolvedFault],
        owners: Callable[[], Mapping[str, tuple[NodeId, ...]]],
    ) -> None:
        self.records: list[FaultRecord] = []
        self.resolved: dict[int, ResolvedFault] = {}
        self._world = world
        self._plan = plan
        self._family = family
        self._earlier = earlier
        self._owners = owners
        self._active: dict[int, _Active] = {}
        self._rngs: dict[int, Random] = {}
        self.last_heal_ns: int | None = None

    def begin(self, load_start_ns: int) -> None:
        """Plan every step; times of the plan count from ``load_start_ns``."""
        # What is due at the same time stays in the order of the schedule.
        for step in schedule(self._plan):
            due_ns = load_start_ns + self._due_ns(step)
            self._world.timeline.at(due_ns, self._step, (step, load_start_ns))

    def _due_ns(self, step: Step) -> int:
        """Return when a step is due: a fault that the other side had first, as late as there."""
        fault, before = step.fault, self._earlier.get(step.fault.number)
        if step.action is Action.HEAL or before is None or not fault.shared_target:
            return step.at_ns
        until_ns = self._plan.timing.duration_ns if fault.until_ns is None else fault.until_ns
        return min(before.planned.at_ns, until_ns - 1)

    def heal_all(self) -> None:
        """Undo whatever is still in force, at once."""
        for number in list(self._active):
            self._heal(number)

    def _step(self, due: tuple[Step, int]) -> None:
        step, load_start_ns = due
        if step.action is Action.INJECT:
            fault = step.fault
            record = FaultRecord(
                number=fault.number,
                kind=fault.kind.value,
                words=f"{fault.kind.value} {fault.targets[self._family]}",
                planned_ns=load_start_ns + fault.at_ns,
                injected_ns=None,
                healed_ns=None,
            )
            self.records.append(record)
            self._active[fault.number] = _Active(record)
            give_up_ns = self._world.now_ns + RESOLVE_TIMEOUT_NS
            if fault.until_ns is not None:
                give_up_ns = min(give_up_ns, load_start_ns + fault.until_ns)
            self._inject((fault, load_start_ns, give_up_ns))
        else:
            self._heal(step.fault.number)

    def _view(self, fault: PlannedFault) -> ClusterView:
        world = self._world
        of_key = parse_target(fault.targets[self._family]).role in _OF_KEY
        return ClusterView(
            family=self._family,
            nodes=self._plan.nodes,
            alive=world.alive(),
            leader=world.leader(),
            clients={client.name: client.home for client in self._plan.clients},
            owners=self._owners() if of_key else {},
        )

    def _inject(self, due: tuple[PlannedFault, int, int]) -> None:
        fault, load_start_ns, give_up_ns = due
        active = self._active.get(fault.number)
        if active is None:
            return  # its time was over before anybody played the role
        record, now_ns = active.record, self._world.now_ns
        rng = self._rngs.setdefault(fault.number, self._plan.fault_random(fault))
        try:
            resolved = resolve(fault, self._view(fault), rng, self._earlier.get(fault.number))
        except Unresolvable as unresolvable:
            record.problem = unresolvable.reason
            if now_ns < give_up_ns:
                self._world.timeline.after(RETRY_NS, self._inject, due)
            return
        active.resolved = resolved
        self.resolved[fault.number] = replace(
            resolved, planned=replace(fault, at_ns=now_ns - load_start_ns)
        )
        record.problem = None
        record.words = resolved.words
        record.nodes = list(resolved.nodes)
        record.sides = [list(side) for side in resolved.sides]
        record.injected_ns = now_ns
        active.before = self._world.tally(resolved.links)
        self._strike(active, resolved)

    def _strike(self, active: _Active, resolved: ResolvedFault) -> None:
        fault = resolved.planned
        if resolved.links:
            self._world.impose(fault.number, resolved.links)
            return
        for name in resolved.nodes:
            match fault.kind:
                case FaultKind.KILL:
                    self._kill(active, fault, name)
                case FaultKind.PAUSE:
                    self._pause(active, name)
                case FaultKind.RESTART:
                    self._restart(active, name)
                case _:
                    # A partition or a delay that found nobody to strike.
                    active.record.evidence.append("no link was touched")

    def _kill(self, active: _Active, fault: PlannedFault, name: NodeId) -> None:
        life = self._world.nodes[name].life
        lost = self._world.take_down(name, fault.number)
        if lost is None:
            active.record.evidence.append(f"{name} was not running")
            return
        active.record.effective = True
        active.record.evidence.append(
            f"{name} died (virtual process {life}); {lost} commits under way were lost"
        )

    def _pause(self, active: _Active, name: NodeId) -> None:
        node = self._world.nodes[name]
        if not node.alive or node.paused:
            state = "stopped already" if node.alive else "not running"
            active.record.evidence.append(f"{name} was {state}")
            return
        active.paused_life[name] = node.life
        active.record.effective = True
        self._world.pause(name)
        active.record.evidence.append(f"{name} was stopped (virtual process {node.life})")

    def _restart(self, active: _Active, name: NodeId) -> None:
        if not self._world.nodes[name].alive:
            active.record.evidence.append(f"{name} was not running")
            return
        self._world.stop(name, partial(self._restarted, active, name))

    def _restarted(self, active: _Active, name: NodeId, cleanly: bool) -> None:
        record, world = active.record, self._world
        record.effective = cleanly
        record.evidence.append(f"{name} ended cleanly" if cleanly else f"{name} died before")
        self._active.pop(record.number, None)
        if not world.bring_back(name, record.number, partial(self._came_back, record, name)):
            record.healed_ns = self.last_heal_ns = world.now_ns

    def _came_back(self, record: FaultRecord, name: NodeId) -> None:
        record.evidence.append(f"{name} was started again")
        record.healed_ns = self.last_heal_ns = self._world.now_ns

    def _heal(self, number: int) -> None:
        active = self._active.pop(number, None)
        if active is None or active.resolved is None:
            return
        record, resolved, world = active.record, active.resolved, self._world
        if resolved.links:
            world.lift(number)
            self._note_links(active, resolved)
        elif resolved.planned.kind is FaultKind.KILL:
            for name in resolved.nodes:
                world.bring_back(name, number, partial(self._came_back, record, name))
        for name, life in active.paused_life.items():
            node = world.nodes[name]
            if node.life == life and node.paused:
                world.resume(name)
                paused_ms = (world.now_ns - (record.injected_ns or 0)) / MILLISECOND_NS
                record.evidence.append(f"{name} went on after {paused_ms:.0f} ms")
        record.healed_ns = self.last_heal_ns = world.now_ns

    def _note_links(self, active: _Active, resolved: ResolvedFault) -> None:
        after = self._world.tally(resolved.links)
        dropped = after.dropped - active.before.dropped
        delayed = after.delayed - active.before.delayed
        if dropped:
            active.record.evidence.append(f"{dropped} messages dropped")
        if delayed:
            active.record.evidence.append(f"{delayed} messages delayed")
        active.record.effective = bool(dropped or delayed)
