"""A process that has imported what nodes need and forks one whenever its launcher asks for one.

``python -m replication.host.zygote DESCRIPTOR BACKEND FOLDER``

Five interpreters that import the same modules at the same time keep two cores busy for half a
second; here one does. gRPC allows a fork as long as none of its objects exists: nothing is made
before the fork, only imported.

DESCRIPTOR is one end of a pair of Unix sockets (SOCK_SEQPACKET). What is said over it:

    NODE, and three descriptors    be the node of FOLDER/NODE/config.json, with these as its
                                   standard input, output and error (``replication.host.config``)
    forked PID, and a pidfd        the answer, one for each, in the order they were asked for
    refused WORDS                  the other answer: the operating system has no room
    ended PID CODE                 a node has ended, with a code as ``subprocess`` gives it

The end of the conversation ends all nodes with SIGKILL, and then this process. So does its death:
every node asks the kernel to be killed when its parent is gone.
"""

import contextlib
import ctypes
import gc
import os
import select
import signal
import socket
import sys
from pathlib import Path

from replication.host.config import CONFIG_FILE, EXIT_BUG, EXIT_OK, ZYGOTE_MESSAGE_MAX
from replication.host.lifeline import die_with_launcher

_PR_SET_NAME = 15


def main(descriptor: int, backend: str, folder: Path) -> None:
    """Serve the launcher at the other end until it hangs up."""
    die_with_launcher()
    launcher = socket.socket(fileno=descriptor)
    _import_all(backend)
    nodes: dict[int, int] = {}  # pidfd -> process id
    events = select.poll()
    events.register(launcher, select.POLLIN)
    while True:
        for ready, _ in events.poll():
            if ready != descriptor:
                events.unregister(ready)
                _tell(launcher, b"ended %d %d" % _reap(nodes, ready))
                continue
            node, streams = _listen(launcher)
            if not node:
                _end(nodes)
                return
            if pidfd := _fork(launcher, nodes, folder / node / CONFIG_FILE, streams):
                events.register(pidfd, select.POLLIN)


def _import_all(backend: str) -> None:
    """Import what a node would import, and keep it out of the way of the garbage collector."""
    from replication.host import main as _main  # noqa: F401
    from replication.host import process as _process  # noqa: F401
    from replication.protocol import load_backend

    with contextlib.suppress(ImportError):
        import uvloop  # noqa: F401
    # What is wrong with a backend is for the nodes to say, each in its log.
    with contextlib.suppress(Exception):
        load_backend(backend)
    gc.collect()
    gc.freeze()


def _fork(launcher: socket.socket, nodes: dict[int, int], config: Path, streams: list[int]) -> int:
    """Fork the node, say so, and return its pidfd; 0 when there is none."""
    try:
        pid = os.fork()
        if pid == 0:
            _be_node(launcher, nodes, config, streams)
        pidfd = os.pidfd_open(pid)
    except OSError as error:
        _tell(launcher, b"refused " + str(error).encode())
        return 0
    finally:
        for stream in streams:
            os.close(stream)
    nodes[pidfd] = pid
    _tell(launcher, b"forked %d" % pid, pidfd)
    return pidfd


def _be_node(
    launcher: socket.socket, nodes: dict[int, int], config: Path, streams: list[int]
) -> None:
    """Become the node; never returns."""
    try:
        launcher.close()
        for pidfd in nodes:
            os.close(pidfd)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        # What ps and top show: the command line is this process's for all nodes.
        ctypes.CDLL(None).prctl(_PR_SET_NAME, f"node {config.parent.name}".encode(), 0, 0, 0)
        from replication.host.main import run_and_exit

        run_and_exit(str(config))
    finally:
        os._exit(EXIT_BUG)


def _listen(launcher: socket.socket) -> tuple[str, list[int]]:
    """Return the node that is asked for and its streams; no name when the launcher has hung up."""
    try:
        asked, streams, _, _ = socket.recv_fds(launcher, ZYGOTE_MESSAGE_MAX, 3)
    except OSError:
        return "", []
    return asked.decode(), streams


def _tell(launcher: socket.socket, words: bytes, *descriptors: int) -> None:
    # When it has hung up, that is seen next.
    with contextlib.suppress(OSError):
        socket.send_fds(launcher, [words], descriptors)


def _reap(nodes: dict[int, int], pidfd: int) -> tuple[int, int]:
    """Take leave of a node that has ended; return its process id and exit code."""
    pid = nodes.pop(pidfd)
    os.close(pidfd)
    _, status = os.waitpid(pid, 0)
    return pid, os.waitstatus_to_exitcode(status)


def _end(nodes: dict[int, int]) -> None:
    for pid in nodes.values():
        os.kill(pid, signal.SIGKILL)
    for pidfd in list(nodes):
        _reap(nodes, pidfd)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
    # Everything has ended. Finalising the interpreter would only cost time.
    os._exit(EXIT_OK)
