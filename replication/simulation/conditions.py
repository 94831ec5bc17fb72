"""Clocks and disks that are wrong on purpose, in virtual time."""

from collections.abc import Callable
from functools import partial

from replication.plan.model import ClockFault, DiskEffect, DiskFault, PlannedFault
from replication.plan.resolve import wall_error_words
from replication.plan.units import duration_text
from replication.protocol import NodeId
from replication.simulation.clock import MILLION
from replication.simulation.world import WALL_START_NS, World

Note = Callable[[str, bool], None]  # words, and whether they show what was meant to happen
Key = tuple[int, NodeId]


class Conditions:
    """What is wrong with the nodes of a world, by number of the fault and node."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._since_ns: dict[Key, int] = {}  # of faults in force
        self._stepped: set[Key] = set()  # whose offset is there right now
        self._counts: dict[Key, int] = {}  # syncs that were slowed or stuck before

    def add(self, fault: PlannedFault, name: NodeId, note: Note) -> None:
        """Put a fault in force and note the evidence, as far as there is any yet."""
        self._since_ns[fault.number, name] = self._world.now_ns
        if fault.clock is not None:
            self._set_wrong(fault.clock, (fault.number, name), note)
        else:
            assert fault.disk is not None, "it is about a clock or a disk"
            self._spoil(fault.disk, (fault.number, name), note)

    def remove(self, fault: PlannedFault, name: NodeId, note: Note) -> None:
        """Take a fault out of force and note what it did."""
        if fault.clock is not None:
            self._set_right(fault.clock, (fault.number, name), note)
        else:
            assert fault.disk is not None, "it is about a clock or a disk"
            self._mend(fault.disk, (fault.number, name), note)
        del self._since_ns[fault.number, name]

    # Clocks.

    def _error_words(self, name: NodeId) -> str:
        now_ns = self._world.now_ns
        wall_ns = self._world.nodes[name].clock.instant(now_ns).wall_ns
        return wall_error_words(wall_ns - WALL_START_NS - now_ns)

    def _set_wrong(self, fault: ClockFault, key: Key, note: Note) -> None:
        world, name = self._world, key[1]
        node = world.nodes[name]
        before = self._error_words(name)
        if fault.offset_ns:
            self._step(fault, key)
        if fault.drift_ppm:
            node.clock.drift(world.now_ns, node.clock.ppm + fault.drift_ppm)
            node.clock_changed()
        words = f"the wall clock of {name} was {before} and is {self._error_words(name)} now"
        note(words, True)
        if fault.strobe_ns:
            world.timeline.after(fault.strobe_ns, self._strobe, (fault, key))

    def _step(self, fault: ClockFault, key: Key) -> None:
        """Put the offset on, or take it off."""
        clock = self._world.nodes[key[1]].clock
        if key in self._stepped:
            self._stepped.discard(key)
            clock.jump(-fault.offset_ns)
        else:
            self._stepped.add(key)
            clock.jump(fault.offset_ns)

    def _strobe(self, which: tuple[ClockFault, Key]) -> None:
        fault, key = which
        if key in self._since_ns:
            self._step(fault, key)
            self._world.timeline.after(fault.strobe_ns, self._strobe, which)

    def _set_right(self, fault: ClockFault, key: Key, note: Note) -> None:
        world, name = self._world, key[1]
        node = world.nodes[name]
        before = self._error_words(name)
        if key in self._stepped:
            self._step(fault, key)
        if fault.drift_ppm:
            node.clock.drift(world.now_ns, node.clock.ppm - fault.drift_ppm)
            # What the wall clock gained or lost is put right, as by NTP; the other never jumps.
            lasted_ns = world.now_ns - self._since_ns[key]
            node.clock.jump(-(lasted_ns * fault.drift_ppm // MILLION))
            node.clock_changed()
        note(f"the wall clock of {name} was {before} and is {self._error_words(name)} again", True)

    # Disks.

    def _spoil(self, fault: DiskFault, key: Key, note: Note) -> None:
        number, name = key
        world, disk = self._world, self._world.nodes[name].disk
        match fault.effect:
            case DiskEffect.SLOW:
                disk.slow_ns += fault.slow_ns
                self._counts[key] = disk.slowed
            case DiskEffect.STALL:
                disk.stalled = True
                self._counts[key] = disk.stuck
            case DiskEffect.FULL:
                disk.full = True
            case DiskEffect.LOSE_UNSYNCED:
                lost = world.take_down(name, number, lose_unsynced=True, torn=fault.torn)
                if lost is None:
                    note(f"{name} was not running", False)
                else:
                    note(f"{name} died; {lost} commits that were not synced were lost", True)

    def _mend(self, fault: DiskFault, key: Key, note: Note) -> None:
        number, name = key
        world, node = self._world, self._world.nodes[name]
        came_back = partial(note, f"{name} was started again", True)
        match fault.effect:
            case DiskEffect.SLOW:
                node.disk.slow_ns -= fault.slow_ns
                count = node.disk.slowed - self._counts.pop(key)
                amount = duration_text(fault.slow_ns)
                note(f"{count} syncs of {name} took {amount} longer", count > 0)
            case DiskEffect.STALL:
                node.unstall()
                count = node.disk.stuck - self._counts.pop(key)
                note(f"{count} syncs of {name} were stuck", count > 0)
            case DiskEffect.FULL:
                node.free_disk()
                if node.alive:
                    note(f"{name} wrote nothing while its disk was full", False)
                else:
                    note(f"{name} ended: a write was refused", True)
                    world.bring_back(name, number, came_back)
            case DiskEffect.LOSE_UNSYNCED:
                world.bring_back(name, number, came_back)
