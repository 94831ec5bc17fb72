"""The clock of one node: right, fast, slow, or wrong."""

from replication.protocol import Instant

MILLION = 1_000_000


class Clock:
    """What a node reads when it asks for the time.

    A drift of ``ppm`` parts per million changes the rate of both its clocks; an offset and a jump
    change the wall clock alone. Monotonic time never goes back, not even over a restart: it is the
    machine's.
    """

    __slots__ = ("_local_ns", "_true_ns", "ppm", "wall_offset_ns")

    def __init__(self, wall_offset_ns: int, ppm: int = 0) -> None:
        self._true_ns = 0  # the world's time at which the rate last changed
        self._local_ns = 0  # what this clock showed then
        self.ppm = ppm
        self.wall_offset_ns = wall_offset_ns

    def local_ns(self, true_ns: int) -> int:
        """Return the monotonic reading at ``true_ns``, not before the last change of rate."""
        elapsed_ns = true_ns - self._true_ns
        if self.ppm:
            elapsed_ns += elapsed_ns * self.ppm // MILLION
        return self._local_ns + elapsed_ns

    def instant(self, true_ns: int) -> Instant:
        """Return both readings at ``true_ns``."""
        elapsed_ns = true_ns - self._true_ns
        if self.ppm:
            elapsed_ns += elapsed_ns * self.ppm // MILLION
        local_ns = self._local_ns + elapsed_ns
        return Instant(local_ns, local_ns + self.wall_offset_ns)

    def when(self, local_ns: int) -> int:
        """Return the first moment of the world at which this clock shows ``local_ns`` or more."""
        if not self.ppm:
            return self._true_ns + local_ns - self._local_ns
        true_ns = self._true_ns + (local_ns - self._local_ns) * MILLION // (MILLION + self.ppm)
        while self.local_ns(true_ns) < local_ns:
            true_ns += 1
        return true_ns

    def drift(self, true_ns: int, ppm: int) -> None:
        """Run at another rate from now on; readings do not jump."""
        self._local_ns = self.local_ns(true_ns)
        self._true_ns = true_ns
        self.ppm = ppm

    def jump(self, by_ns: int) -> None:
        """Set the wall clock forward or back."""
        self.wall_offset_ns += by_ns
