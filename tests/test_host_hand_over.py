"""A leader that is told to stop lets somebody else lead before it goes (dissertation §3.10)."""

import asyncio
from pathlib import Path

from replication.v1 import event_pb2
from tests.support.host_cluster import Nodes, eventually, nodes_in_process


def leader_of(nodes: Nodes) -> str | None:
    """Return who leads, None while nobody does or more than one node believes so."""
    leads = [
        name
        for name, each in nodes.processes.items()
        if each.node.core.status().role == event_pb2.ROLE_LEADER
    ]
    return leads[0] if len(leads) == 1 else None


def test_a_leader_that_is_stopped_hands_over_and_nobody_has_to_time_out(tmp_path: Path) -> None:
    async def run() -> None:
        async with (
            asyncio.timeout(30),
            nodes_in_process(tmp_path, 3, backend="leader.raft:backend") as nodes,
        ):
            await eventually(lambda: leader_of(nodes), "somebody leads")
            first = leader_of(nodes)
            assert first is not None
            await nodes.clients[first].put("k", b"v")
            stopped = nodes.processes.pop(first)
            counted = {name: pre_votes(nodes, name) for name in nodes.processes}
            await stopped.stop("told to")
            await eventually(lambda: leader_of(nodes), "somebody else leads")
            second = leader_of(nodes)
            assert second is not None
            # Who stands because a leader fell silent asks first; who was asked to lead does not.
            assert pre_votes(nodes, second) == counted[second]
            assert await nodes.clients[second].get("k") == b"v"

    asyncio.run(run())


def pre_votes(nodes: Nodes, name: str) -> int:
    """Return how often a node has asked whether it would win."""
    return nodes.processes[name].node.core.status().counters["pre_votes"]
