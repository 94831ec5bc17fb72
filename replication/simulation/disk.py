"""The disk of one node: what is safe, what is only written, and how long a sync takes."""

from collections import deque
from collections.abc import Iterator, Sequence
from random import Random

from replication.protocol import Persist, Put
from replication.simulation.delays import Sampler
from replication.simulation.settings import DiskSettings


class DiskFull(Exception):
    """The operating system refuses to write: the process that owns the store ends."""


class Disk:
    """Named maps of bytes to bytes that outlive a process. Fulfils ``protocol.Saved``.

    A commit is atomic per ``Persist``: a tail that was torn inside one is cut when it is read again
    (each is checksummed), so a crash leaves the commits before it and nothing of it.
    """

    def __init__(self, settings: DiskSettings, rng: Random) -> None:
        self._settings = settings
        self._rng = rng
        self._draw: Sampler = settings.commit.sampler(rng)
        self._spaces: dict[str, dict[bytes, bytes]] = {}
        self._in_flight: Sequence[Persist] = ()
        self._unsynced: deque[tuple[int, Persist]] = deque()  # only with sync off
        self.full = False
        self.slow_ns = 0  # on top of every sync
        self.stalled = False  # nothing ends until it is over
        self.slowed = 0  # syncs
        self.stuck = 0  # syncs that should have ended while it was stalled
        self.sync_durations_ns: list[int] = []

    # What a core reads when it starts.

    def get(self, space: str, key: bytes) -> bytes | None:
        """Return the value, or None."""
        return self._spaces.get(space, {}).get(key)

    def scan(self, space: str) -> Iterator[tuple[bytes, bytes]]:
        """Yield the pairs of ``space`` in ascending order of their keys."""
        return iter(sorted(self._spaces.get(space, {}).items()))

    @property
    def records(self) -> int:
        """How many pairs are stored."""
        return sum(len(space) for space in self._spaces.values())

    # What a host does.

    @property
    def syncs(self) -> bool:
        """Whether effects wait for the disk at all."""
        return self._settings.sync

    def begin_sync(self, persists: Sequence[Persist]) -> int:
        """Start one sync that covers ``persists``; return how long it takes. One at a time.

        Raises DiskFull, having written nothing.
        """
        assert not self._in_flight, "one sync at a time"
        if self.full:
            raise DiskFull
        self._in_flight = persists
        duration_ns = self._draw() + self.slow_ns
        self.slowed += self.slow_ns > 0
        self.sync_durations_ns.append(duration_ns)
        return duration_ns

    def end_sync(self) -> None:
        """What the sync covered is durable now."""
        for persist in self._in_flight:
            self._apply(persist)
        self._in_flight = ()

    def write_unsynced(self, now_ns: int, persist: Persist) -> None:
        """Take a commit without waiting for it (sync off). Raises DiskFull."""
        if self.full:
            raise DiskFull
        unsynced = self._unsynced
        unsynced.append((now_ns, persist))
        while unsynced[0][0] < now_ns - self._settings.write_back_ns:
            self._apply(unsynced.popleft()[1])

    # What befalls it.

    def crash(self, lose_unsynced: bool, torn: bool = True) -> int:
        """The process died, or with ``lose_unsynced`` the power went; return the commits lost.

        With ``torn`` some of what the operating system had not written back is there all the same.
        Of a sync in flight a random number of commits got through, and the one after them was torn.
        A death alone loses nothing that was written: the page cache survives it.
        """
        lost = len(self._in_flight)
        if lost:
            survivors = self._rng.randrange(lost + 1)
            for persist in self._in_flight[:survivors]:
                self._apply(persist)
            lost -= survivors
            self._in_flight = ()
        if self._unsynced:
            survivors = len(self._unsynced)
            if lose_unsynced:
                survivors = self._rng.randrange(survivors + 1) if torn else 0
                lost += len(self._unsynced) - survivors
            for _, persist in list(self._unsynced)[:survivors]:
                self._apply(persist)
            self._unsynced.clear()
        return lost

    def wipe(self) -> int:
        """The disk was replaced by an empty one; return how many pairs were on the old one."""
        records = self.records
        self._spaces.clear()
        self._unsynced.clear()
        self._in_flight = ()
        return records

    def _apply(self, persist: Persist) -> None:
        for write in persist.writes:
            space = self._spaces.get(write.space)
            if space is None:
                space = self._spaces[write.space] = {}
            if isinstance(write, Put):
                space[write.key] = write.value
            elif write.end == write.start + b"\0":
                space.pop(write.start, None)
            else:
                for key in [each for each in space if _within(each, write.start, write.end)]:
                    del space[key]


def _within(key: bytes, start: bytes, end: bytes | None) -> bool:
    return key >= start and (end is None or key < end)
