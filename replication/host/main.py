"""The life of a node process: configuration, start, signals, end (``config`` has the protocol)."""

import asyncio
import gc
import logging
import os
import signal
import sys
import time
from pathlib import Path

from replication.errors import ConfigError, CorruptStore
from replication.host.config import (
    EXIT_BUG,
    EXIT_CONFIG,
    EXIT_DATA_LOSS,
    EXIT_OK,
    EXIT_SYSTEM,
    NodeConfig,
    ready_line,
)
from replication.host.lifeline import die_with_launcher, watch_stdin

log = logging.getLogger("replication.host")


def main(config_path: str) -> int:
    """Run the node that the file describes until it is told to stop; return its exit code."""
    try:
        config = NodeConfig.from_json(Path(config_path).read_text())
    except (OSError, ConfigError) as error:
        print(f"{config_path}: {error}", file=sys.stderr)
        return EXIT_CONFIG
    _log_to_stderr(config.node)
    try:
        if not config.orphan:
            die_with_launcher()
        return _run(config)
    except Exception as error:
        return _log_end(error)


def _run(config: NodeConfig) -> int:
    try:
        import uvloop
    except ImportError:
        return asyncio.run(_serve(config))
    return uvloop.run(_serve(config))


async def _serve(config: NodeConfig) -> int:
    from replication.host.process import NodeProcess

    loop = asyncio.get_running_loop()
    told: asyncio.Future[str] = loop.create_future()

    def tell(reason: str) -> None:
        if not told.done():
            told.set_result(reason)

    # Before anything is started: a SIGTERM during start-up is a clean end too.
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, tell, number.name)
    if not config.orphan:
        watch_stdin(loop, lambda: tell("the launcher is gone"))
    process = NodeProcess(config)
    await process.start()
    _spare_the_collector()
    failed = process.node.failed
    if not failed.done():
        sys.stdout.write(ready_line(config.node, config.bind or config.address))
        sys.stdout.flush()
    await asyncio.wait((told, failed), return_when=asyncio.FIRST_COMPLETED)
    if failed.done():
        code = _log_end(failed.result())
        await process.stop(f"failed: {failed.result()!r}")
        return code
    await process.stop(told.result())
    # Something may have gone wrong while stopping, the last sync for instance.
    return _log_end(failed.result()) if failed.done() else EXIT_OK


def _spare_the_collector() -> None:
    """Keep the garbage collector from walking through all that a node holds, again and again.

    A node's data is freed by reference counts; only what the libraries leave behind has cycles, and
    that dies young. Full collections cost a fifth of the CPU of a loaded node and stop it for up to
    0.1 s per 100,000 objects, which a cluster takes for a slow network.
    """
    gc.freeze()
    gc.set_threshold(2_000, 5, 1_000)


def _log_end(error: BaseException) -> int:
    """Say in one line (a bug: with its traceback) why the node ends; return the exit code."""
    match error:
        case ConfigError():
            for problem in error.problems:
                log.error("end=config problem=%r", problem)
            return EXIT_CONFIG
        case CorruptStore():
            log.critical("end=DATA_LOSS detail=%r", str(error))
            return EXIT_DATA_LOSS
        case OSError():
            log.critical("end=system detail=%r", str(error), exc_info=error)
            return EXIT_SYSTEM
        case _:
            log.critical("end=bug detail=%r", repr(error), exc_info=error)
            return EXIT_BUG


class _Formatter(logging.Formatter):
    def __init__(self, node: str) -> None:
        super().__init__(f"%(asctime)s level=%(levelname)s node={node} %(message)s")
        self.converter = time.gmtime
        self.default_time_format = "time=%Y-%m-%dT%H:%M:%S"
        self.default_msec_format = "%s.%03dZ"


def _log_to_stderr(node: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(node))
    # The root too: what grpc and asyncio have to say belongs into the same log.
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    log.setLevel(logging.INFO)


def run_and_exit(config_path: str) -> None:
    """Run the node and end the process at once."""
    code = main(config_path)
    sys.stdout.flush()
    sys.stderr.flush()
    # Everything is closed by now. Finalising the interpreter would cost a tenth of a second more.
    os._exit(code)
