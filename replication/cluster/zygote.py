"""The launcher's end of a zygote (``replication.host.zygote``), and the nodes it has forked."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from replication.errors import ReplicationError
from replication.host.config import ZYGOTE_MESSAGE_MAX

END_TIMEOUT_S = 1.0  # a zygote ends at once, and its nodes with it


class ForkRefused(ReplicationError):
    """There is no new process; says why."""


@dataclass(eq=False, slots=True)
class Child:
    """A process that the zygote has forked."""

    pid: int
    pidfd: int
    stdin: int  # its end of file tells the process that its launcher is gone
    stdout: int  # what the process prints; reading does not block
    exited: asyncio.Future[int] = field(repr=False)  # the exit code, as ``subprocess`` gives it

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if the process has not ended. It cannot hit another one."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def close(self) -> None:
        """Let go of the descriptors, after the end."""
        for descriptor in (self.pidfd, self.stdin, self.stdout):
            os.close(descriptor)


@dataclass(slots=True)
class _Asked:
    """A fork that was asked for and not answered yet."""

    answer: asyncio.Future[Child]
    stdin: int
    stdout: int


class Zygote:
    """Starts nodes quickly. All methods belong to the thread of one loop, but ``close``."""

    def __init__(self, backend: str, folder: Path) -> None:
        """``backend`` is module:attribute; the nodes have their folders below ``folder``."""
        self._backend = backend
        self._folder = folder
        self._loop = asyncio.get_running_loop()
        self._asked: deque[_Asked] = deque()
        self._children: dict[int, Child] = {}
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        module = "replication.host.zygote"
        with theirs:
            descriptor = theirs.fileno()
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, str(descriptor), backend, str(folder.resolve())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[descriptor],
                env=child_environment(),
                # Ctrl-C in the terminal is for the runner, which then ends the nodes in order.
                start_new_session=True,
            )
        self._socket.setblocking(False)
        self._loop.add_reader(self._socket.fileno(), self._listen)

    @property
    def pid(self) -> int:
        """Return the process id of the zygote itself."""
        return self._process.pid

    async def fork(self, node: str, log: Path) -> Child:
        """Start a node from its folder; its standard error is appended to ``log``.

        Raises ForkRefused.
        """
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            streams = []
            for own_end, end in ((1, 0), (0, 1)):
                pipe = os.pipe()
                ours.callback(os.close, pipe[own_end])
                theirs.callback(os.close, pipe[end])
                streams.append(pipe)
            (stdin, own_stdin), (own_stdout, stdout) = streams
            os.set_blocking(own_stdout, False)
            stderr = theirs.enter_context(log.open("ab")).fileno()
            try:
                socket.send_fds(self._socket, [node.encode()], [stdin, stdout, stderr])
            except OSError as error:
                raise ForkRefused(f"the process that starts nodes has ended: {error}") from None
            asked = _Asked(self._loop.create_future(), own_stdin, own_stdout)
            self._asked.append(asked)
            ours.pop_all()
        return await asked.answer

    def close(self) -> None:
        """End all that still runs, this moment, and wait for it. Needs no running loop."""
        loop_lives = not self._loop.is_closed()
        if loop_lives:
            self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        try:
            self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if loop_lives:
            self._hung_up()

    def _listen(self) -> None:
        try:
            said, descriptors, _, _ = socket.recv_fds(self._socket, ZYGOTE_MESSAGE_MAX, 1)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        word, _, rest = said.decode().partition(" ")
        match word:
            case "forked":
                self._forked(int(rest), descriptors[0])
            case "refused":
                self._refused(rest)
            case "ended":
                pid, code = map(int, rest.split())
                self._ended(self._children.pop(pid), code)
            case _:
                self._loop.remove_reader(self._socket.fileno())
                self._hung_up()

    def _forked(self, pid: int, pidfd: int) -> None:
        asked = self._asked.popleft()
        exited = self._loop.create_future()
        child = Child(pid, pidfd, asked.stdin, asked.stdout, exited)
        self._children[pid] = child
        if asked.answer.cancelled():
            child.send(signal.SIGKILL)
            child.exited.add_done_callback(lambda _: child.close())
        else:
            asked.answer.set_result(child)

    def _refused(self, words: str) -> None:
        asked = self._asked.popleft()
        os.close(asked.stdin)
        os.close(asked.stdout)
        if not asked.answer.cancelled():
            asked.answer.set_exception(ForkRefused(words))

    def _ended(self, child: Child, code: int) -> None:
        if not child.exited.done():
            child.exited.set_result(code)

    def _hung_up(self) -> None:
        """There is no zygote any more, and so no node."""
        children, self._children = self._children, {}
        for child in children.values():
            self._ended(child, -signal.SIGKILL)
        while self._asked:
            self._refused("the process that starts nodes has ended")


def child_environment() -> Mapping[str, str]:
    """Return the environment of a child: it finds the same modules as this process.

    A backend may live anywhere on this process's path. What belongs to the interpreter's own
    installation is found without being told.
    """
    own = (sys.prefix, sys.base_prefix)
    paths = [path for path in sys.path if path and not path.startswith(own)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}
