"""Clocks and disks that are wrong on purpose: told to the nodes, and to whoever comes back."""

from replication.cluster.control import ControlFailed
from replication.cluster.launcher import Cluster
from replication.cluster.process import Evidence
from replication.plan.model import ClockFault, DiskEffect, DiskFault, PlannedFault
from replication.plan.resolve import wall_error_words
from replication.plan.units import duration_text
from replication.protocol import NodeId
from replication.v1 import control_pb2


class Conditions:
    """What is wrong with the nodes of one cluster, by node and number of the fault."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        nodes = cluster.spec.everybody
        self._clocks: dict[NodeId, dict[int, ClockFault]] = {node: {} for node in nodes}
        self._disks: dict[NodeId, dict[int, DiskFault]] = {node: {} for node in nodes}
        self._touched: set[NodeId] = set()  # with which something was wrong once
        self._counts: dict[tuple[NodeId, int], control_pb2.SetDiskFaultResponse] = {}

    async def add(self, fault: PlannedFault, node: NodeId) -> list[Evidence]:
        """Put a fault in force; return the evidence, as far as there is any yet."""
        self._touched.add(node)
        try:
            if fault.clock is not None:
                self._clocks[node][fault.number] = fault.clock
                return [_set_wrong(node, fault.clock, await self._tell_clock(node))]
            assert fault.disk is not None, "it is about a clock or a disk"
            self._disks[node][fault.number] = fault.disk
            if fault.disk.effect is DiskEffect.FULL:
                self._cluster.expect_failure(node)
            self._counts[node, fault.number] = await self._tell_disk(node)
        except ControlFailed as error:
            return [Evidence(str(error), False)]
        return []

    async def remove(self, fault: PlannedFault, node: NodeId) -> list[Evidence]:
        """Take a fault out of force; return what it did."""
        try:
            if fault.clock is not None:
                del self._clocks[node][fault.number]
                return [_set_right(node, fault.clock, await self._tell_clock(node))]
            disk = self._disks[node].pop(fault.number)
            if disk.effect is DiskEffect.FULL and not self._cluster.is_running(node):
                return [self._cluster.has_failed(node)]
            after = await self._tell_disk(node)
        except ControlFailed as error:
            return [Evidence(str(error), False)]
        before = self._counts.pop((node, fault.number), control_pb2.SetDiskFaultResponse())
        match disk.effect:
            case DiskEffect.SLOW:
                count = after.syncs_slowed - before.syncs_slowed
                amount = duration_text(disk.slow_ns)
                return [Evidence(f"{count} syncs of {node} took {amount} longer", count > 0)]
            case DiskEffect.STALL:
                count = after.syncs_stalled - before.syncs_stalled
                return [Evidence(f"{count} syncs of {node} were stuck", count > 0)]
        self._cluster.expect_failure(node, False)
        return [Evidence(f"{node} wrote nothing while its disk was full", False)]

    async def renew(self, node: NodeId) -> None:
        """Tell a node that was started, or was paused, what holds for its machine."""
        if node in self._touched:
            await self._tell_clock(node)
            await self._tell_disk(node)

    async def _tell_clock(self, node: NodeId) -> control_pb2.SetClockFaultResponse:
        faults = self._clocks[node].values()
        request = control_pb2.SetClockFaultRequest(
            offset_ns=sum(each.offset_ns for each in faults),
            drift_ppm=sum(each.drift_ppm for each in faults),
            strobe_ns=max((each.strobe_ns for each in faults), default=0),
        )
        return await self._cluster.control.set_clock_fault(node, request)

    async def _tell_disk(self, node: NodeId) -> control_pb2.SetDiskFaultResponse:
        faults = self._disks[node].values()
        effects = {each.effect for each in faults}
        request = control_pb2.SetDiskFaultRequest(
            slow_ns=sum(each.slow_ns for each in faults),
            stalled=DiskEffect.STALL in effects,
            full=DiskEffect.FULL in effects,
        )
        return await self._cluster.control.set_disk_fault(node, request)


def _set_wrong(
    node: NodeId, fault: ClockFault, seen: control_pb2.SetClockFaultResponse
) -> Evidence:
    words = f"the wall clock of {node} was {wall_error_words(seen.wall_error_before_ns)}"
    step_ns = seen.wall_error_ns - seen.wall_error_before_ns
    moved = not fault.offset_ns or step_ns * fault.offset_ns > 0
    return Evidence(f"{words} and is {wall_error_words(seen.wall_error_ns)} now", moved)


def _set_right(
    node: NodeId, fault: ClockFault, seen: control_pb2.SetClockFaultResponse
) -> Evidence:
    # A drift shows in what it has added up to; a strobe may be off right now.
    drifted = not fault.drift_ppm or seen.wall_error_before_ns != 0
    before, after = (
        wall_error_words(seen.wall_error_before_ns),
        wall_error_words(seen.wall_error_ns),
    )
    return Evidence(f"the wall clock of {node} was {before} and is {after} again", drifted)
