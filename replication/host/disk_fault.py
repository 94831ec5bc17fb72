"""What is wrong with a node's disk on purpose. Told by the loop's thread, felt by whoever syncs."""

import errno
import os
import time
from threading import Condition


class DiskFault:
    """Slows or stalls syncs, or refuses writes as a full disk does; counts what it did."""

    def __init__(self) -> None:
        self.slow_ns = 0
        self.stalled = False
        self.full = False
        self.syncs_slowed = 0
        self.syncs_stalled = 0
        self._changed = Condition()

    def set(self, *, slow_ns: int, stalled: bool, full: bool) -> None:
        """Be wrong in this way from now on; a sync that is held up may go on at once."""
        with self._changed:
            self.slow_ns, self.stalled, self.full = slow_ns, stalled, full
            self._changed.notify_all()

    def on_write(self) -> None:
        """Raise OSError when the disk is full."""
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "the disk, on purpose")

    def on_sync(self) -> None:
        """Return when the sync may end."""
        if not (self.slow_ns or self.stalled):
            return
        with self._changed:
            if self.slow_ns:
                self.syncs_slowed += 1
                until_ns = time.monotonic_ns() + self.slow_ns
                while self.slow_ns and (left_ns := until_ns - time.monotonic_ns()) > 0:
                    self._changed.wait(left_ns / 1e9)
            if self.stalled:
                self.syncs_stalled += 1
                self._changed.wait_for(lambda: not self.stalled)
