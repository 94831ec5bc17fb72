"""The process that owns a detached cluster.

It is started as ``python -m replication.cluster.supervisor NAME FOLDER``, says ``UP`` on its
standard output once the cluster serves and its state file is written, and stops all nodes on
SIGTERM. A node that ends is told of in the log and stays down: people who start a cluster by hand
may well want to kill some of it. On SIGHUP it starts all that are down (``by_hand``).
"""

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

from replication.cluster.detached import STATE_FILE, UP_LINE, Detached, read_spec, start_ticks
from replication.cluster.launcher import Cluster, ClusterSpec
from replication.cluster.process import Evidence, NodeFailed, process_state
from replication.errors import ReplicationError

log = logging.getLogger("replication.cluster")


async def supervise(name: str, spec: ClusterSpec) -> None:
    """Run the cluster until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    wanted = asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, wanted.set)
    starting = asyncio.create_task(_start_and_tell(name, spec, told, wanted))
    await told.wait()
    starting.cancel()
    await asyncio.wait((starting,))
    if not starting.cancelled():
        starting.result()


async def _start_and_tell(
    name: str, spec: ClusterSpec, told: asyncio.Event, wanted: asyncio.Event
) -> None:
    try:
        async with Cluster(spec) as cluster:
            await cluster.wait_until_serving()
            _write_state(name, cluster)
            _say_up()
            await asyncio.gather(_tell_of_ends(cluster), _start_again(name, cluster, wanted))
    finally:
        (spec.folder / STATE_FILE).unlink(missing_ok=True)
        told.set()


async def _tell_of_ends(cluster: Cluster) -> None:
    while True:
        await cluster.surprised.wait()
        cluster.surprised.clear()
        for surprise in cluster.surprises:
            log.warning("node=%s detail=%r", surprise.node, str(surprise))
        cluster.surprises.clear()


async def _start_again(name: str, cluster: Cluster, wanted: asyncio.Event) -> None:
    starts = 0
    while True:
        await wanted.wait()
        wanted.clear()
        # One that was just killed may not have been heard of yet.
        dead = [node for node, pid in cluster.pids().items() if process_state(pid) in "XZ"]
        await asyncio.gather(*map(cluster.kill, dead))
        down = [node for node in cluster.spec.nodes if not cluster.is_running(node)]
        found = await asyncio.gather(*map(cluster.start_node, down), return_exceptions=True)
        for node, result in zip(down, found, strict=True):
            if isinstance(result, Evidence):
                log.info("node=%s detail=%r", node, result.words)
            elif isinstance(result, NodeFailed):
                log.warning("node=%s detail=%r", node, str(result))
            else:
                raise result
        starts += 1
        _write_state(name, cluster, starts)


def _write_state(name: str, cluster: Cluster, starts: int = 0) -> None:
    spec = cluster.spec
    started = start_ticks(os.getpid())
    assert started is not None, "this process runs"
    Detached(
        name=name,
        folder=spec.folder,
        family=spec.family,
        backend=spec.backend.name,
        endpoints=cluster.endpoints,
        secret=cluster.secret,
        supervisor_pid=os.getpid(),
        supervisor_started=started,
        pids=cluster.pids(),
        starts=starts,
    ).write()


def _say_up() -> None:
    """Tell whoever started this process, and let go of them."""
    os.write(sys.stdout.fileno(), UP_LINE)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def main() -> int:
    """Be the supervisor; return the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    name, folder = sys.argv[1:]
    try:
        asyncio.run(supervise(name, read_spec(Path(folder))))
    except ReplicationError as error:
        log.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
