"""Faults of the machine room that only a simulation can inject: disks, clocks, power."""

from collections.abc import Sequence
from functools import partial

from replication.history import FaultRecord
from replication.simulation.settings import MILLISECOND_NS
from replication.simulation.tables import SimulatedFault
from replication.simulation.world import World


class Room:
    """Injects and heals them, and notes the evidence. Numbered behind the faults of the plan."""

    def __init__(self, world: World, faults: Sequence[SimulatedFault], first_number: int) -> None:
        self.records: list[FaultRecord] = []
        self.last_heal_ns: int | None = None
        self._world = world
        self._faults = [*enumerate(faults, first_number)]
        self._active: dict[int, tuple[SimulatedFault, FaultRecord]] = {}

    def begin(self, load_start_ns: int, load_end_ns: int) -> None:
        """Plan every fault, and its end."""
        for number, fault in self._faults:
            until_ns = load_end_ns if fault.until_ns is None else load_start_ns + fault.until_ns
            timeline = self._world.timeline
            timeline.at(load_start_ns + fault.at_ns, self._inject, (number, fault))
            timeline.at(max(until_ns, load_start_ns + fault.at_ns), self._heal, number)

    def heal_all(self) -> None:
        """Undo whatever is still in force, at once."""
        for number in list(self._active):
            self._heal(number)

    def _inject(self, which: tuple[int, SimulatedFault]) -> None:
        number, fault = which
        now_ns = self._world.now_ns
        words, evidence, effective = self._strike(number, fault)
        record = FaultRecord(
            number=number,
            kind=fault.kind,
            words=words,
            planned_ns=now_ns,
            injected_ns=now_ns,
            healed_ns=None,
            nodes=[fault.node],
            evidence=[evidence],
            effective=effective,
        )
        self.records.append(record)
        self._active[number] = (fault, record)

    def _strike(self, number: int, fault: SimulatedFault) -> tuple[str, str, bool]:
        """Return the words for the fault, the evidence, and whether it took effect."""
        world, name = self._world, fault.node
        node = world.nodes[name]
        amount = f"{abs(fault.by_ns) / MILLISECOND_NS:g} ms"
        match fault.kind:
            case "wipe":
                world.take_down(name, number)
                records = node.wipe()
                return f"wipe the disk of {name}", f"{records} records are gone", records > 0
            case "power-loss":
                lost = world.take_down(name, number, lose_unsynced=True)
                if lost is None:
                    return f"cut the power of {name}", f"{name} was not running", False
                return f"cut the power of {name}", f"{name} died; {lost} commits were lost", True
            case "clock-jump":
                node.clock.jump(fault.by_ns)
                where = "back" if fault.by_ns < 0 else "ahead"
                return (
                    f"set the wall clock of {name} {where} by {amount}",
                    f"it shows {node.clock.instant(world.now_ns).wall_ns} ns now",
                    True,
                )
            case "clock-drift":
                node.clock.drift(world.now_ns, node.clock.ppm + fault.ppm)
                node.clock_changed()
                words = f"let the clock of {name} drift by {fault.ppm} ppm"
                return words, f"it drifts by {node.clock.ppm} ppm now", True
            case "slow-disk":
                node.disk.slow_ns += fault.by_ns
                return f"slow the disk of {name} by {amount}", "every sync takes longer", True
            case "stalled-disk":
                node.disk.stalled = True
                return f"stall the disk of {name}", "no sync ends", True
            case "full-disk":
                node.disk.full = True
                return f"fill the disk of {name}", "no write succeeds", True
        raise AssertionError(f"{fault.kind} is no fault of a machine room")

    def _heal(self, number: int) -> None:
        active = self._active.pop(number, None)
        if active is None:
            return
        fault, record = active
        world = self._world
        node = world.nodes[fault.node]
        match fault.kind:
            case "wipe" | "power-loss":
                world.bring_back(fault.node, number, partial(self._came_back, record))
            case "clock-drift":
                node.clock.drift(world.now_ns, node.clock.ppm - fault.ppm)
                node.clock_changed()
            case "slow-disk":
                node.disk.slow_ns -= fault.by_ns
            case "stalled-disk":
                node.unstall()
            case "full-disk":
                node.disk.full = False
                world.bring_back(fault.node, number, partial(self._came_back, record))
        record.healed_ns = self.last_heal_ns = world.now_ns

    def _came_back(self, record: FaultRecord) -> None:
        record.evidence.append(f"{record.nodes[0]} was started again")
        record.healed_ns = self.last_heal_ns = self._world.now_ns
