"""After healing: ask all replicas what they hold, until they hold the same."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping

from replication.cluster.control import Control, ControlFailed
from replication.contents import Contents, sample, settled
from replication.history import ContentsSample
from replication.protocol import Family, NodeId
from replication.v1 import control_pb2

POLL_S = 0.12


async def settle(
    control: Control,
    nodes: Iterable[NodeId],
    now_ns: Callable[[], int],
    until_ns: int,
    samples: list[ContentsSample],
) -> None:
    """Add samples until all owners of every key were equal twice in a row, or until ``until_ns``.

    At least one sample is taken. They go to ``samples`` as they are taken: a run that is cut short
    keeps them.
    """
    asked = list(nodes)
    taken: list[ContentsSample] = []
    while True:
        taken.append(sample(await all_contents(control, asked), now_ns()))
        samples.append(taken[-1])
        if settled(taken) or now_ns() >= until_ns:
            return
        await asyncio.sleep(POLL_S)


async def in_touch(
    control: Control, nodes: Iterable[NodeId], family: Family, timeout_s: float
) -> None:
    """Wait, for ``timeout_s`` at most, until all ``nodes`` serve and none takes another for dead.

    Followers of a leader need not know of each other.
    """
    asked = list(nodes)

    def missed(found: Mapping[NodeId, control_pb2.StatusResponse]) -> bool:
        return any(
            node not in found
            or not found[node].status.serving
            or (family is Family.LEADERLESS and not _sees(found[node].status, asked))
            for node in asked
        )

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            while True:
                if not missed(await control.statuses(asked)):
                    return
                await asyncio.sleep(POLL_S)


def _sees(status: control_pb2.NodeStatus, nodes: Iterable[NodeId]) -> bool:
    return all(peer.alive for peer in status.peers if peer.node in nodes)


async def all_contents(control: Control, nodes: Iterable[NodeId]) -> Contents:
    """Ask all nodes at once what they hold."""

    async def ask(node: NodeId) -> list[control_pb2.KeyContents] | None:
        try:
            return await control.contents(node)
        except ControlFailed:
            return None

    asked = list(nodes)
    answers = await asyncio.gather(*(ask(node) for node in asked))
    return dict(zip(asked, answers, strict=True))
