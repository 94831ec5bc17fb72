"""The process that owns a detached cluster.

It is started as ``python -m replication.cluster.supervisor NAME FOLDER``, says ``UP`` on its
standard output once the cluster serves and its state file is written, and stops all nodes on
SIGTERM. A node that ends is told of in the log and stays down: people who start a cluster by hand
may well want to kill some of it.
"""

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

from replication.cluster.detached import STATE_FILE, UP_LINE, Detached, read_spec, start_ticks
from replication.cluster.launcher import Cluster, ClusterSpec
from replication.errors import ReplicationError

log = logging.getLogger("replication.cluster")


async def supervise(name: str, spec: ClusterSpec) -> None:
    """Run the cluster until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    starting = asyncio.create_task(_start_and_tell(name, spec, told))
    await told.wait()
    starting.cancel()
    await asyncio.wait((starting,))
    if not starting.cancelled():
        starting.result()


async def _start_and_tell(name: str, spec: ClusterSpec, told: asyncio.Event) -> None:
    try:
        async with Cluster(spec) as cluster:
            await cluster.wait_until_serving()
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
            ).write()
            _say_up()
            while True:
                await cluster.surprised.wait()
                cluster.surprised.clear()
                for surprise in cluster.surprises:
                    log.warning("node=%s detail=%r", surprise.node, str(surprise))
                cluster.surprises.clear()
    finally:
        (spec.folder / STATE_FILE).unlink(missing_ok=True)
        told.set()


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
