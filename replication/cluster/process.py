"""One node process: started, watched, paused, killed, each with evidence of what became of it."""

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from replication.cluster.zygote import Child, ForkRefused, Zygote
from replication.errors import ReplicationError
from replication.host.config import (
    EXIT_BUG,
    EXIT_CONFIG,
    EXIT_DATA_LOSS,
    EXIT_SYSTEM,
    parse_ready_line,
)

LOG_FILE = "node.log"
LOG_TAIL_LINES = 5
STATE_CHANGE_S = 0.5  # what the kernel may take to stop or continue all threads of a process
STATE_POLL_S = 0.001

_EXIT_WORDS = {
    EXIT_CONFIG: "its configuration is wrong",
    EXIT_BUG: "a bug",
    EXIT_SYSTEM: "the operating system refused a write",
    EXIT_DATA_LOSS: "DATA_LOSS",
}


class NodeFailed(ReplicationError):
    """A node did not start, or ended without being asked to."""

    def __init__(self, node: str, words: str) -> None:
        super().__init__(words)
        self.node = node


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was seen of a process after something was done to it."""

    words: str
    shown: bool  # whether it is what was meant to happen


class _Life:
    """One process of a node, from its start to its end."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[str] = self.loop.create_future()
        self.output = b""
        self.asked = False  # whether its end is wanted

    def fail_ready(self, error: NodeFailed) -> None:
        if not self.ready.done():
            self.ready.set_exception(error)
            self.ready.exception()  # whoever waits still gets it; asyncio need not warn of nobody


class NodeProcess:
    """The process of one node, at most one at a time. All methods belong to the loop's thread."""

    def __init__(
        self, node: str, folder: Path, ended: Callable[["NodeProcess", int], None]
    ) -> None:
        """Make it, without starting anything; ``folder`` is the node's own.

        ``ended`` is called with the exit code when the process ends without being asked to.
        """
        self.node = node
        self.folder = folder
        self.lives = 0  # how often it was started
        self.last_code: int | None = None  # with which the last life ended
        self._ended = ended
        self._life: _Life | None = None

    @property
    def pid(self) -> int | None:
        """Return the process id while there is a process, paused or not."""
        return None if self._life is None else self._life.child.pid

    @property
    def log(self) -> Path:
        """Return where the node writes its log."""
        return self.folder / LOG_FILE

    async def spawn(self, zygote: Zygote) -> None:
        """Start the process from the node's folder; ``ready`` waits for it.

        Raises NodeFailed when there is no process.
        """
        assert self._life is None, f"{self.node} runs already"
        try:
            child = await zygote.fork(self.node, self.log)
        except ForkRefused as error:
            raise NodeFailed(self.node, f"{self.node} was not started: {error}") from None
        life = self._life = _Life(child)
        self.lives += 1
        life.loop.add_reader(child.stdout, self._read, life)
        child.exited.add_done_callback(lambda _: self._on_exit(life))

    async def ready(self, timeout_s: float) -> str:
        """Return the address at which the node serves; raise NodeFailed when it does not."""
        assert self._life is not None, "spawn comes first"
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(self._life.ready)
        except TimeoutError:
            raise NodeFailed(
                self.node, f"{self.node} did not serve within {timeout_s:g} s; see {self.log}"
            ) from None

    async def kill(self) -> Evidence:
        """End it with SIGKILL and reap it."""
        pid = self.pid
        code = await self.end(signal.SIGKILL)
        if code is None:
            return Evidence(f"{self.node} was not running", False)
        words = f"{self.node} (pid {pid}) ended by {_exit_words(code)}"
        return Evidence(words, code == -signal.SIGKILL)

    async def end(self, number: signal.Signals) -> int | None:
        """Send a signal that ends it and return its exit code; None when nothing runs."""
        life = self._life
        if life is None:
            return None
        life.asked = True
        self.send(number)
        return await asyncio.shield(life.child.exited)

    async def pause(self) -> Evidence:
        """Stop it with SIGSTOP, and read from /proc that it stands still."""
        return await self._change(signal.SIGSTOP, "T", "stopped")

    async def resume(self) -> Evidence:
        """Let it go on with SIGCONT."""
        return await self._change(signal.SIGCONT, "RSD", "running")

    async def _change(self, number: signal.Signals, wanted: str, name: str) -> Evidence:
        pid = self.pid
        if pid is None:
            return Evidence(f"{self.node} was not running", False)
        self.send(number)
        state = process_state(pid)
        try:
            async with asyncio.timeout(STATE_CHANGE_S):
                while state not in wanted:
                    await asyncio.sleep(STATE_POLL_S)
                    state = process_state(pid)
        except TimeoutError:
            return Evidence(f"{self.node} (pid {pid}) is in state {state}, not {name}", False)
        return Evidence(f"{self.node} (pid {pid}) is in state {state}: {name}", True)

    def send(self, number: signal.Signals) -> None:
        """Send a signal if there is a process."""
        if self._life is not None:
            self._life.child.send(number)

    def expect_end(self, expected: bool = True) -> None:
        """From now on the end of this process is no surprise, or is one again."""
        if self._life is not None:
            self._life.asked = expected

    def ended_by(self, wanted: int) -> Evidence:
        """Return how the last life ended; shown when it was with the exit code ``wanted``."""
        if self.pid is not None or self.last_code is None:
            return Evidence(f"{self.node} (pid {self.pid}) went on", False)
        words = f"{self.node} ended by {_exit_words(self.last_code)}"
        return Evidence(words, self.last_code == wanted)

    def _read(self, life: _Life) -> None:
        try:
            data = os.read(life.child.stdout, 4096)
        except BlockingIOError:
            return
        life.output += data
        line, found, _ = life.output.partition(b"\n")
        if not data or found:
            life.loop.remove_reader(life.child.stdout)
        if not found:
            return
        parsed = parse_ready_line(line.decode(errors="replace"))
        if parsed is None:
            life.fail_ready(NodeFailed(self.node, f"{self.node} printed {line!r}, expected READY"))
        elif not life.ready.done():
            life.ready.set_result(parsed[1])

    def _on_exit(self, life: _Life) -> None:
        self._life = None
        code = self.last_code = life.child.exited.result()
        life.loop.remove_reader(life.child.stdout)
        life.child.close()
        surprise = life.ready.done() and not life.asked
        life.fail_ready(NodeFailed(self.node, self.words_of_end(code)))
        if surprise:
            self._ended(self, code)

    def words_of_end(self, code: int) -> str:
        """Return a sentence on how it ended, with the last lines of its log."""
        try:
            tail = self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        except OSError:
            tail = []
        said = "".join(f"\n    {line}" for line in tail)
        return f"node {self.node} ended by {_exit_words(code)}; see {self.log}{said}"


def process_state(pid: int) -> str:
    """Return the state letter of a process (proc(5)): R, S, D, T stopped, Z zombie; X when gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return "X"
    # The name in parentheses may hold anything, a closing parenthesis too.
    return stat.rpartition(")")[2].split()[0]


def _exit_words(code: int) -> str:
    if code < 0:
        return f"signal {-code} ({signal.Signals(-code).name})"
    reason = _EXIT_WORDS.get(code)
    return f"exit code {code}" + (f" ({reason})" if reason else "")
