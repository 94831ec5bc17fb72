"""Faults of a cluster that is up, struck by a person: what is meant for showing a failover live.

Signals go to the nodes themselves, cuts through their control service. Only a start needs the
supervisor, whose nodes they are: it starts all that are down when it is told to by SIGHUP.
"""

import asyncio
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from replication.cluster.control import Control
from replication.cluster.detached import LOG_FILE, Detached, read_state
from replication.cluster.launcher import what_is_missing
from replication.cluster.process import LOG_FILE as NODE_LOG
from replication.cluster.process import NodeFailed, process_state
from replication.errors import ConfigError
from replication.protocol import NodeId
from replication.v1 import event_pb2

START_TIMEOUT_S = 10.0
CHANGE_TIMEOUT_S = 1.0  # what the kernel may take to end, stop or continue a process
POLL_S = 0.005
WHOLE_TIMEOUT_S = 10.0
WHOLE_POLL_S = 0.05
LEADER = "leader"


def resolve(state: Detached, names: Iterable[str]) -> list[NodeId]:
    """Return the nodes that are meant; ``leader`` is whoever leads in the highest term.

    Raises ConfigError with all names that mean nothing here.
    """
    found, problems = [], []
    for name in names:
        if name == LEADER:
            leader = asyncio.run(_leader(state))
            if leader is None:
                problems.append(f"nobody leads {state.name} now")
            else:
                found.append(leader)
        elif name in state.endpoints:
            found.append(name)
        else:
            problems.append(
                f"no node {name!r} in {state.name}; there is {', '.join(state.endpoints)}"
            )
    if problems:
        raise ConfigError(problems)
    return list(dict.fromkeys(found))


async def _leader(state: Detached) -> NodeId | None:
    control = Control(state.endpoints, state.secret)
    try:
        found = await control.statuses(state.endpoints)
    finally:
        await control.close()
    # One that was cut off may still believe that it leads.
    leading = [
        (answer.status.term, node)
        for node, answer in found.items()
        if answer.status.role == event_pb2.ROLE_LEADER
    ]
    return max(leading)[1] if leading else None


def process_of(state: Detached, node: NodeId) -> int | None:
    """Return the process id of a node that runs, paused or not.

    The number in the state file may be another process's by now: its name and folder tell.
    """
    pid = state.pids.get(node)
    if pid is None or process_state(pid) in "XZ":
        return None
    try:
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        folder = Path(f"/proc/{pid}/cmdline").read_text().split("\0")[-2]
    except (OSError, IndexError):
        return None
    return pid if name == f"node {node}" and Path(folder) == state.folder else None


def kill(state: Detached, nodes: list[NodeId]) -> list[str]:
    """End nodes with SIGKILL; return what was seen of each."""
    return _signal(state, nodes, signal.SIGKILL, "XZ", "is gone")


def pause(state: Detached, nodes: list[NodeId]) -> list[str]:
    """Stop nodes in their tracks with SIGSTOP; their connections stay open."""
    return _signal(state, nodes, signal.SIGSTOP, "T", "stands still")


def resume(state: Detached, nodes: list[NodeId]) -> list[str]:
    """Let paused nodes go on."""
    return _signal(state, nodes, signal.SIGCONT, "RSD", "runs")


def _signal(
    state: Detached, nodes: list[NodeId], number: signal.Signals, wanted: str, words: str
) -> list[str]:
    pids = {node: process_of(state, node) for node in nodes}
    down = [f"{node} does not run" for node, pid in pids.items() if pid is None]
    if down:
        raise ConfigError(down)
    for pid in pids.values():
        assert pid is not None, "checked above"
        os.kill(pid, number)
    deadline = time.monotonic() + CHANGE_TIMEOUT_S
    while any(process_state(pid) not in wanted for pid in pids.values() if pid is not None):
        if time.monotonic() > deadline:
            raise NodeFailed("", f"not all of {', '.join(nodes)} took {number.name}")
        time.sleep(POLL_S)
    return [f"{node} (pid {pid}) {words}: {number.name}" for node, pid in pids.items()]


def start(state: Detached) -> list[str]:
    """Start all nodes that are down and wait until they answer; return what was seen of each.

    Raises ConfigError when none is down, NodeFailed when one does not come back.
    """
    down = [node for node in state.endpoints if process_of(state, node) is None]
    if not down:
        raise ConfigError([f"all nodes of {state.name} run"])
    os.kill(state.supervisor_pid, signal.SIGHUP)
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        now = read_state(state.folder)
        if now is not None and now.starts > state.starts:
            break
        if now is None or not now.alive or time.monotonic() > deadline:
            raise NodeFailed("", f"nothing was started; see {state.folder / LOG_FILE}")
        time.sleep(POLL_S)
    missing = [node for node in down if process_of(now, node) is None]
    if missing:
        said = "".join(f"\n    {_last_line(state.folder / node / NODE_LOG)}" for node in missing)
        raise NodeFailed("", f"{', '.join(missing)} did not start{said}")
    return [f"{node} (pid {now.pids[node]}) runs again" for node in down]


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return lines[-1] if lines else f"{log} is empty"


def cut(state: Detached, nodes: list[NodeId]) -> list[str]:
    """Cut nodes off from all others, in the place of an earlier cut; clients reach everybody."""
    if set(nodes) >= set(state.endpoints):
        raise ConfigError([f"nobody is left to cut {', '.join(nodes)} off from"])
    others = [node for node in state.endpoints if node not in nodes]
    told = _set_links(state, dict.fromkeys(nodes, others) | dict.fromkeys(others, nodes))
    return [f"{', '.join(nodes)} cut off from {', '.join(others)}; told {', '.join(told)}"]


def heal(state: Detached) -> list[str]:
    """Undo everything: let paused nodes go on, start those that are down, take all cuts back.

    Returns when all nodes are in touch again, and raises NodeFailed when that takes too long.
    """
    paused = [
        node
        for node in state.endpoints
        if (pid := process_of(state, node)) is not None and process_state(pid) == "T"
    ]
    words = resume(state, paused)
    if any(process_of(state, node) is None for node in state.endpoints):
        words += start(state)
    told = _set_links(state, {node: [] for node in state.endpoints})
    missing = asyncio.run(_until_whole(state))
    if missing:
        raise NodeFailed("", f"{state.name} is not whole after {WHOLE_TIMEOUT_S:g} s: {missing}")
    return [*words, f"no links are cut; told {', '.join(told)}"]


async def _until_whole(state: Detached) -> str:
    """Return what is missing in the end, "" when nothing is."""
    control = Control(state.endpoints, state.secret)
    deadline = time.monotonic() + WHOLE_TIMEOUT_S
    try:
        while True:
            found = await control.statuses(state.endpoints)
            missing = what_is_missing(state.endpoints, state.family, found)
            if not missing or time.monotonic() > deadline:
                return missing
            await asyncio.sleep(WHOLE_POLL_S)
    finally:
        await control.close()


def _set_links(state: Detached, cuts: dict[NodeId, list[NodeId]]) -> list[NodeId]:
    """Tell each node from whom it is cut off, in both directions; return those that run."""
    running = [
        node
        for node in cuts
        if (pid := process_of(state, node)) is not None and process_state(pid) != "T"
    ]

    async def tell() -> None:
        control = Control(state.endpoints, state.secret)
        try:
            for node in running:
                await control.set_link_faults(
                    node,
                    [
                        event_pb2.LinkFault(peer=peer, inbound=inbound, loss=1)
                        for peer in cuts[node]
                        for inbound in (False, True)
                    ],
                )
        finally:
            await control.close()

    asyncio.run(tell())
    return running
