"""The nemesis in virtual time: injects the faults of a plan, heals them, notes the evidence."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random

from replication.client import command
from replication.client.command import CommandSession
from replication.history import FaultRecord
from replication.plan.model import ClusterView, FaultKind, PlannedFault, ResolvedFault
from replication.plan.plan import Plan
from replication.plan.resolve import Unresolvable, resolve
from replication.plan.schedule import Action, Step, schedule
from replication.plan.targets import parse_target
from replication.protocol import Family, NodeId
from replication.simulation.conditions import Conditions
from replication.simulation.network import Tally
from replication.simulation.operator import Operator
from replication.simulation.settings import MILLISECOND_NS
from replication.simulation.world import World
from replication.v1 import control_pb2

RETRY_NS = 20 * MILLISECOND_NS  # until a role that nobody plays is asked for again
RESOLVE_TIMEOUT_NS = 2_000 * MILLISECOND_NS  # until nobody is expected to take it any more


@dataclass(slots=True)
class _Active:
    """A fault in force."""

    record: FaultRecord
    resolved: ResolvedFault | None = None
    before: Tally = field(default_factory=Tally)
    paused_life: dict[NodeId, int] = field(default_factory=dict)  # which process it stopped
    busy: set[NodeId] = field(default_factory=set)  # that are being restarted
    doubts: list[str] = field(default_factory=list)

    def note(self, words: str, shown: bool = True) -> None:
        """Add evidence, or what was seen instead of it."""
        record = self.record
        record.evidence.append(words)
        if not shown:
            self.doubts.append(words)
        record.effective = not self.doubts
        record.problem = "; ".join(self.doubts) or None


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
        self.members = list(plan.nodes)  # as far as faults have changed them
        self.ran = list(plan.nodes)  # spares that joined included, and who has left
        self.commands = 0  # that an operator waits for
        self._world = world
        self._plan = plan
        self._family = family
        self._earlier = earlier
        self._owners = owners
        self._conditions = Conditions(world)
        self._active: dict[int, _Active] = {}
        self._rngs: dict[int, Random] = {}
        self._unsure = False  # who is a member
        self.last_heal_ns: int | None = None

    def begin(self, load_start_ns: int) -> None:
        """Plan every step; times of the plan count from ``load_start_ns``."""
        # What is due at the same time stays in the order of the schedule.
        for step in schedule(self._plan, self._family):
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
                takes_down=fault.takes_down,
                momentary=fault.kind.is_momentary,
                deafens=fault.deafens,
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
        of_key = parse_target(fault.targets[self._family]).key is not None
        return ClusterView(
            family=self._family,
            nodes=tuple(self.members),
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
        if fault.kind.is_command:
            self._begin_command(active, resolved)
            return
        for name in resolved.nodes:
            match fault.kind:
                case FaultKind.KILL | FaultKind.WIPE:
                    self._kill(active, fault, name)
                case FaultKind.PAUSE:
                    self._pause(active, name)
                case FaultKind.RESTART:
                    self._restart(active, name)
                case FaultKind.CLOCK | FaultKind.DISK:
                    self._conditions.add(fault, name, active.note)
                case _:
                    # A partition or a delay that found nobody to strike.
                    active.note("no link was touched", shown=False)

    def _kill(self, active: _Active, fault: PlannedFault, name: NodeId) -> None:
        node = self._world.nodes[name]
        life = node.life
        lost = self._world.take_down(name, fault.number)
        if lost is None:
            active.note(f"{name} was not running", shown=False)
        else:
            active.note(f"{name} died (virtual process {life}); {lost} commits under way were lost")
        if fault.kind is FaultKind.WIPE:
            records = node.wipe()
            active.note(f"{records} records of {name} are gone", records > 0)

    def _pause(self, active: _Active, name: NodeId) -> None:
        node = self._world.nodes[name]
        if not node.alive or node.paused:
            state = "stopped already" if node.alive else "not running"
            active.note(f"{name} was {state}", shown=False)
            return
        active.paused_life[name] = node.life
        self._world.pause(name)
        active.note(f"{name} was stopped (virtual process {node.life})")

    def _restart(self, active: _Active, name: NodeId) -> None:
        if not self._world.nodes[name].alive:
            active.note(f"{name} was not running", shown=False)
            return
        active.busy.add(name)
        self._world.stop(name, partial(self._restarted, active, name))

    def _restarted(self, active: _Active, name: NodeId, cleanly: bool) -> None:
        active.note(f"{name} ended cleanly" if cleanly else f"{name} died before", cleanly)
        active.busy.discard(name)
        if not active.busy:
            self._active.pop(active.record.number, None)
        came_back = partial(self._came_back, active, name)
        if not self._world.bring_back(name, active.record.number, came_back):
            self._healed(active)

    def _came_back(self, active: _Active, name: NodeId) -> None:
        active.note(f"{name} was started again")
        self._healed(active)

    def _note_late(self, active: _Active, words: str, shown: bool) -> None:
        active.note(words, shown)
        self._healed(active)

    def _healed(self, active: _Active) -> None:
        active.record.healed_ns = self.last_heal_ns = self._world.now_ns

    def _heal(self, number: int) -> None:
        active = self._active.pop(number, None)
        if active is None or active.resolved is None:
            return
        record, resolved, world = active.record, active.resolved, self._world
        if resolved.links:
            world.lift(number)
            self._note_links(active, resolved)
        elif resolved.planned.kind in (FaultKind.KILL, FaultKind.WIPE):
            for name in resolved.nodes:
                world.bring_back(name, number, partial(self._came_back, active, name))
        elif resolved.planned.kind in (FaultKind.CLOCK, FaultKind.DISK):
            note = partial(self._note_late, active)
            for name in resolved.nodes:
                self._conditions.remove(resolved.planned, name, note)
        for name, life in active.paused_life.items():
            node = world.nodes[name]
            if node.life == life and node.paused:
                world.resume(name)
                paused_ms = (world.now_ns - (record.injected_ns or 0)) / MILLISECOND_NS
                active.note(f"{name} went on after {paused_ms:.0f} ms")
        self._healed(active)

    def _note_links(self, active: _Active, resolved: ResolvedFault) -> None:
        after = self._world.tally(resolved.links)
        verb = resolved.links[0].verb
        count = getattr(after, verb) - getattr(active.before, verb)
        if count:
            active.note(f"{count} messages {verb}")
        else:
            active.note(f"no message was {verb} on {len(resolved.links)} links", shown=False)

    # What an operator asks for.

    def _begin_command(self, active: _Active, resolved: ResolvedFault) -> None:
        self.commands += 1
        node = resolved.nodes[0] if resolved.nodes else None
        match resolved.planned.kind:
            case FaultKind.JOIN:
                assert node is not None, "somebody joins"
                self.ran.append(node)
                ask = partial(self._command, active, node, command.add(node))
                self._world.launch(node, ask)
            case FaultKind.LEAVE:
                assert node is not None, "somebody leaves"
                self._command(active, node, command.remove(node))
            case FaultKind.REPLACE:
                assert node is not None, "somebody is replaced"
                spare = resolved.planned.spare
                down = self._world.take_down(node, active.record.number) is None
                active.note(f"{node} was down already" if down else f"{node} died, for good")
                self.ran.append(spare)
                ask = partial(self._command, active, spare, command.replace(node, spare))
                self._world.launch(spare, ask)
            case _:
                self._command(active, node, command.transfer(node))

    def _command(
        self, active: _Active, node: NodeId | None, request: control_pb2.CommandRequest
    ) -> None:
        if request.WhichOneof("command") in ("add_member", "replace_member"):
            active.note(f"{node} was started")
        # Who leaves is asked last: others stay to see it through.
        gone = request.replace_member.node
        asked = sorted(
            (each for each in self.members if each != gone), key=lambda each: each == node
        )
        session = CommandSession(asked, self._world.leader(), request)
        done = partial(self._commanded, active, node, session)
        Operator(self._world, session, done).begin()

    def _commanded(
        self,
        active: _Active,
        node: NodeId | None,
        session: CommandSession,
        response: control_pb2.CommandResponse | None,
    ) -> None:
        self.commands -= 1
        self._active.pop(active.record.number, None)
        self._healed(active)
        statuses = self._world.statuses()
        replaced = session.request.replace_member.node
        if response is None:
            active.note(session.problem(), shown=False)
            self._unsure |= session.request.WhichOneof("command") != "transfer_leadership"
            self.review()
            if replaced in self.members:
                back = partial(active.note, f"{replaced} was started again, not replaced", False)
                self._world.bring_back(replaced, active.record.number, back)
            return
        active.note(session.words(response))
        match session.request.WhichOneof("command"):
            case "remove_member":
                self._count(None, node)
                return
            case "add_member" | "replace_member":
                self._count(node, replaced)
        if node in statuses:
            active.note(command.looks(statuses[node]))

    def review(self) -> None:
        """Ask the cluster who is a member, if an operator gave up on a change of that."""
        if self._unsure:
            statuses = [*self._world.statuses().values()]
            self.members[:] = command.members(self.ran, statuses) or self.members

    def _count(self, coming: NodeId | None, leaving: NodeId | None) -> None:
        """Take down that the members are others from now on."""
        self.members[:] = [each for each in self.members if each != leaving]
        if coming is not None:
            self.members.append(coming)
