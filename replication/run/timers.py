"""Many moments on one kernel timer.

asyncio rounds its timers up to whole milliseconds and uvloop to the nearest one; a load that is
compared at 1 ms needs better, and spinning would eat one of two cores. A timerfd (Linux) wakes the
loop within about a tenth of a millisecond. Python has no binding before 3.13, hence ctypes.
"""

import asyncio
import ctypes
import os
import time
from collections.abc import Callable
from heapq import heappop, heappush

_TFD_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
_TFD_TIMER_ABSTIME = 1
_NS_PER_S = 1_000_000_000

# PyDLL keeps the interpreter lock: these calls take a microsecond, getting the lock back from one
# of gRPC's threads may take many.
_libc = ctypes.PyDLL(None, use_errno=True)


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class Timers:
    """Calls functions at moments of CLOCK_MONOTONIC, in order. Belongs to one running loop.

    A moment cannot be taken back: whoever set it finds, when it comes, that nothing is to be done.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0  # keeps moments of the same time in the order in which they were set
        self._armed_ns = 0  # what the kernel timer is set to; 0: nothing
        self._spec = _Itimerspec()
        self._descriptor = _libc.timerfd_create(time.CLOCK_MONOTONIC, _TFD_FLAGS)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._descriptor, self._fire)

    def at(self, when_ns: int, call: Callable[[], None]) -> None:
        """Call ``call`` at ``when_ns`` (time.monotonic_ns), or very soon if that has passed."""
        self._count += 1
        heappush(self._heap, (when_ns, self._count, call))
        if not self._armed_ns or when_ns < self._armed_ns:
            self._arm(when_ns)

    async def sleep_until(self, when_ns: int) -> None:
        """Return at ``when_ns``."""
        due: asyncio.Future[None] = self._loop.create_future()
        self.at(when_ns, lambda: None if due.done() else due.set_result(None))
        await due

    def close(self) -> None:
        """Forget every moment."""
        self._heap.clear()
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)

    def _fire(self) -> None:
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:
            return
        self._armed_ns = 0
        heap = self._heap
        try:
            while heap and heap[0][0] <= time.monotonic_ns():
                heappop(heap)[2]()
        finally:
            if heap and not 0 < self._armed_ns <= heap[0][0]:
                self._arm(heap[0][0])

    def _arm(self, when_ns: int) -> None:
        self._armed_ns = when_ns
        # A time of zero would disarm it.
        value = self._spec.value
        value.seconds, value.nanoseconds = divmod(max(when_ns, 1), _NS_PER_S)
        _libc.timerfd_settime(self._descriptor, _TFD_TIMER_ABSTIME, ctypes.byref(self._spec), None)
