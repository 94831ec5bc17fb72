"""What the nemesis does to single nodes, kind by kind, with the evidence of each."""

import asyncio
import time
from collections.abc import Sequence

from replication.client import command
from replication.client.command import CommandSession
from replication.cluster.control import ControlFailed
from replication.cluster.launcher import Cluster
from replication.cluster.process import Evidence
from replication.errors import Indefinite, OperationError
from replication.plan.model import DiskEffect, FaultKind, PlannedFault, ResolvedFault
from replication.protocol import NodeId
from replication.run.conditions import Conditions
from replication.run.cuts import Cuts
from replication.v1 import control_pb2

LOOK_TIMEOUT_S = 0.5


class Strikes:
    """Does things to the nodes of one cluster and undoes them. One caller per node at a time."""

    def __init__(self, cluster: Cluster, cuts: Cuts) -> None:
        self._cluster = cluster
        self._cuts = cuts
        self._conditions = Conditions(cluster)
        self._gone: set[NodeId] = set()  # replaced: nothing starts them again

    async def inject(self, fault: PlannedFault, node: NodeId) -> list[Evidence]:
        """Strike a node; return the evidence that it was struck."""
        cluster = self._cluster
        match fault.kind:
            case FaultKind.KILL:
                return [await cluster.kill(node)]
            case FaultKind.PAUSE:
                return [await cluster.pause(node)]
            case FaultKind.WIPE:
                return [await cluster.kill(node), cluster.wipe(node)]
            case FaultKind.RESTART:
                return [await cluster.terminate(node), await self._start(node)]
            case FaultKind.CLOCK | FaultKind.DISK if _is_condition(fault):
                return await self._conditions.add(fault, node)
            case FaultKind.DISK if fault.disk is not None:
                return await self._lose_power(node, fault.disk.torn)
        raise AssertionError(f"{fault.kind} strikes no single node")

    async def heal(self, fault: PlannedFault, node: NodeId) -> list[Evidence]:
        """Undo it; return the evidence that it is undone."""
        evidence = []
        if fault.kind is FaultKind.PAUSE:
            evidence.append(await self._cluster.resume(node))
            if self._cluster.is_up(node):
                await self._cuts.renew(node, started=False)
                await self._conditions.renew(node)
        elif _is_condition(fault):
            evidence += await self._conditions.remove(fault, node)
        if node in self._gone:
            return evidence
        if fault.takes_down and (fault.disk is None or not self._cluster.is_running(node)):
            evidence.append(await self._start(node))
        return evidence

    async def release(self, fault: PlannedFault, node: NodeId) -> list[Evidence]:
        """Let a node be stopped in good order. One that is down stays down."""
        if _is_condition(fault):
            return await self._conditions.remove(fault, node)
        await self._cluster.resume(node)
        return []

    async def _lose_power(self, node: NodeId, torn: bool) -> list[Evidence]:
        try:
            lost = await self._cluster.control.lose_power(node, torn=torn)
        except ControlFailed as error:
            return [Evidence(str(error), False), await self._cluster.kill(node)]
        kept = f", {lost.kept_bytes} of it left" if torn else ""
        words = f"{node} lost {lost.lost_bytes} bytes that were not synced{kept}"
        return [Evidence(words, True), await self._cluster.kill(node)]

    async def _start(self, node: NodeId) -> Evidence:
        """Start a node; what is in force on its machine holds for it too."""
        evidence = await self._cluster.start_node(node)
        await self._cuts.renew(node, started=True)
        await self._conditions.renew(node)
        return evidence

    async def bury(self, node: NodeId) -> list[Evidence]:
        """Kill a node that nothing is to start again, also not the end of another fault."""
        self._gone.add(node)
        if self._cluster.is_running(node):
            return [await self._cluster.kill(node)]
        return [Evidence(f"{node} was down already", True)]

    async def exhume(self, node: NodeId) -> list[Evidence]:
        """Start a node again that was to be replaced and is a member still."""
        self._gone.discard(node)
        return [await self._start(node)]

    async def command(
        self, resolved: ResolvedFault, members: Sequence[NodeId], leader: NodeId | None
    ) -> tuple[list[Evidence], bool]:
        """Ask the cluster for what an operator wants.

        Returns the evidence that it was done, and whether it answered so.
        """
        node = resolved.nodes[0] if resolved.nodes else None
        evidence = []
        about = node
        # Who leaves is asked last: others stay to see it through.
        asked = sorted(members, key=lambda each: each == node)
        match resolved.planned.kind:
            case FaultKind.JOIN:
                assert node is not None, "somebody joins"
                evidence.append(await self._start(node))
                request = command.add(node)
            case FaultKind.LEAVE:
                assert node is not None, "somebody leaves"
                request, about = command.remove(node), None
            case FaultKind.REPLACE:
                assert node is not None, "somebody is replaced"
                about = resolved.planned.spare
                evidence.append(await self._start(about))
                request = command.replace(node, about)
                asked = [each for each in asked if each != node]
                leader = None if leader == node else leader
            case _:
                request = command.transfer(node)
        session = CommandSession(asked, leader, request)
        response = await self._ask(session)
        if response is not None:
            evidence.append(Evidence(session.words(response), True))
            if about is not None:
                evidence.append(await self._looks(about))
            return evidence, True
        evidence.append(Evidence(session.problem(), False))
        return evidence, False

    async def _ask(self, session: CommandSession) -> control_pb2.CommandResponse | None:
        give_up_ns = time.monotonic_ns() + command.LIMIT_NS
        while (left_ns := give_up_ns - time.monotonic_ns()) > 0:
            timeout_ns = min(command.ATTEMPT_NS, left_ns)
            try:
                return await self._cluster.control.command(
                    session.node, session.request, timeout_ns / 1e9
                )
            except OperationError as error:
                if not session.failed(error):
                    return session.done_before()
            await asyncio.sleep(command.PAUSE_NS / 1e9)
        session.failed(Indefinite("TIMEOUT", "it was not done in time"))
        return None

    async def _looks(self, node: NodeId) -> Evidence:
        """Return what the node that a command was about says of itself now."""
        try:
            status = (await self._cluster.control.status(node, LOOK_TIMEOUT_S)).status
        except ControlFailed as error:
            return Evidence(str(error), False)
        return Evidence(command.looks(status), True)


def _is_condition(fault: PlannedFault) -> bool:
    """Whether it lasts: clocks and disks that are wrong, other than by a loss of power."""
    lost_power = fault.disk is not None and fault.disk.effect is DiskEffect.LOSE_UNSYNCED
    return fault.kind in (FaultKind.CLOCK, FaultKind.DISK) and not lost_power
