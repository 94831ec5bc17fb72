"""A node does not outlive its launcher."""

import asyncio
import os
import signal
import stat
import sys
from collections.abc import Callable

from replication.errors import ConfigError

_PR_SET_PDEATHSIG = 1


def die_with_launcher() -> None:
    """Have the kernel kill this process when the thread that started it ends. Linux only.

    It works on a stopped process too, which could not notice the end of its stdin.
    """
    if sys.platform != "linux":
        return
    import ctypes

    launcher = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != launcher:
        # It died before the kernel was told. (Had it died earlier still, stdin is at its end.)
        os.kill(os.getpid(), signal.SIGKILL)


def watch_stdin(loop: asyncio.AbstractEventLoop, ended: Callable[[], None]) -> None:
    """Call ``ended`` once when stdin, a pipe from the launcher, comes to its end.

    Raises ConfigError when stdin is no pipe: then nothing would ever be noticed.
    """
    descriptor = sys.stdin.fileno() if sys.stdin is not None else -1
    mode = os.fstat(descriptor).st_mode if descriptor >= 0 else 0
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        raise ConfigError(["stdin is no pipe from a launcher; set orphan to run without one"])

    def readable() -> None:
        if not os.read(descriptor, 4096):
            loop.remove_reader(descriptor)
            ended()

    loop.add_reader(descriptor, readable)
