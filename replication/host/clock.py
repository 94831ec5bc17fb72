"""The clocks that a core is shown: those of the machine, unless they are wrong on purpose.

An offset and a strobe put the wall clock wrong; a drift changes the rate of both clocks, so that
timeouts come early or late, too. The monotonic clock never jumps: what it gained or lost by a drift
stays. The wall clock is right again when no fault is in force, as after a step by NTP.
"""

import time
from dataclasses import dataclass

from replication.protocol import Instant

MILLION = 1_000_000
DRIFT_PPM_MAX = 200_000


@dataclass(frozen=True, slots=True)
class ClockFault:
    """How a node's clocks are wrong."""

    offset_ns: int = 0  # of the wall clock
    drift_ppm: int = 0  # parts per million by which both run fast; negative: slow
    strobe_ns: int = 0  # the offset is there for this long, then not, and so on; 0: all the time


class NodeClock:
    """Belongs to the loop's thread."""

    __slots__ = ("_fault", "_forgiven_ns", "_local_ns", "_right", "_true_ns")

    def __init__(self) -> None:
        self._fault = ClockFault()
        self._true_ns = self._local_ns = 0  # when the fault last changed; what it showed then
        self._forgiven_ns = 0  # by how much the monotonic clock is ahead, and the wall clock not
        self._right = True

    def true_ns(self) -> int:
        """Return the machine's monotonic time, which all nodes and the runner share."""
        return time.monotonic_ns()

    def now(self) -> Instant:
        """Return what the core is shown at this moment."""
        if self._right:
            return Instant(time.monotonic_ns(), time.time_ns())
        true_ns = time.monotonic_ns()
        return Instant(self._local_at(true_ns), time.time_ns() + self._wall_error_at(true_ns))

    def wall_error_ns(self) -> int:
        """Return by how much the wall clock is ahead right now; negative: behind."""
        return self._wall_error_at(time.monotonic_ns())

    def delay_ns(self, until_ns: int) -> int:
        """Return how long it takes until the monotonic clock shows ``until_ns``; 0 if it does."""
        left_ns = max(0, until_ns - self.now().monotonic_ns)
        return left_ns * MILLION // (MILLION + self._fault.drift_ppm)

    def set(self, fault: ClockFault) -> None:
        """Be wrong in this way from now on."""
        true_ns = time.monotonic_ns()
        self._local_ns, self._true_ns = self._local_at(true_ns), true_ns
        self._fault = fault
        if not fault.drift_ppm:
            self._forgiven_ns = self._local_ns - true_ns
        self._right = fault == ClockFault() and self._local_ns == true_ns

    def _local_at(self, true_ns: int) -> int:
        elapsed_ns = true_ns - self._true_ns
        return self._local_ns + elapsed_ns + elapsed_ns * self._fault.drift_ppm // MILLION

    def _wall_error_at(self, true_ns: int) -> int:
        fault = self._fault
        error_ns = self._local_at(true_ns) - true_ns - self._forgiven_ns
        strobe_ns = fault.strobe_ns
        away = strobe_ns and (true_ns - self._true_ns) // strobe_ns % 2
        return error_ns if away else error_ns + fault.offset_ns


def problems(fault: ClockFault) -> list[str]:
    """Return what is out of range, empty when all is well."""
    found = []
    if abs(fault.drift_ppm) > DRIFT_PPM_MAX:
        found.append(f"drift_ppm is {fault.drift_ppm}, expected at most {DRIFT_PPM_MAX}")
    if fault.strobe_ns < 0:
        found.append("strobe must not be negative")
    return found
