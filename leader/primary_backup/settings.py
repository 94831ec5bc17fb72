"""What a user may set about a primary-backup cluster, and what each choice is worth."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

from leader.primary_backup.counting import lossless_standbys
from replication.protocol import SETTINGS_CONFIG

# How much faster one clock may run than another before a lease outlasts the promise it rests on.
CLOCK_RATE_MARGIN = 1.1
HEARTBEATS_PER_LEASE_MIN = 3


class Mode(StrEnum):
    """When a primary acknowledges a write: the number of standbys whose disks hold it."""

    SYNC = "sync"  # all of them
    SEMI_SYNC = "semi_sync"  # ``semi_sync_standbys``
    ASYNC = "async"  # none


class DefaultRead(StrEnum):
    """Who answers a read that does not ask for a level."""

    PRIMARY = "primary"
    LOCAL = "local"  # whoever is asked


@dataclass(frozen=True, slots=True)
class PrimaryBackupSettings:
    """The settings of a primary-backup cluster; all nodes of a cluster have the same ones.

    ``semi_sync_standbys``: MySQL's ``rpl_semi_sync_source_wait_for_replica_count``; when not set,
    as many as make every majority of monitors include a node that holds the write. ``async_after``:
    MySQL's ``rpl_semi_sync_source_timeout``: a primary whose write has waited for so long goes on
    without standbys until they have caught up; when not set, writes wait.
    ``remove_standby_after``: a sync primary no longer waits for a standby that is silent for so
    long, as long as enough others are left; when not set, writes wait for its return.

    ``detection_timeout``: silence after which a monitor suspects the primary. ``fencing``: nodes
    refuse what carries an epoch older than the one they promised themselves to, and a primary that
    has not heard from a majority for ``lease`` stops serving. ``lease`` has to end before the
    monitors may act, on clocks that run up to a tenth apart.

    ``log_records_max``: records that are kept for standbys that were away; who was away for more
    gets all keys anew.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = SETTINGS_CONFIG

    mode: Mode = Mode.SEMI_SYNC
    semi_sync_standbys: int | None = None
    async_after_ns: int | None = None
    remove_standby_after_ns: int | None = None
    fencing: bool = True
    heartbeat_ns: int = 50_000_000
    lease_ns: int = 300_000_000
    detection_timeout_ns: int = 400_000_000
    default_read: DefaultRead = DefaultRead.PRIMARY
    log_records_max: int = 10_000
    replicate_records_max: int = 1024
    replicate_bytes_max: int = 1024 * 1024
    unacknowledged_records_max: int = 65_536

    def problems(self, members: int) -> Iterable[str]:
        """Yield what does not fit together, both values named."""
        for name in (
            "heartbeat_ns",
            "log_records_max",
            "replicate_records_max",
            "replicate_bytes_max",
            "unacknowledged_records_max",
        ):
            value = getattr(self, name)
            if value < 1:
                yield f"{name.removesuffix('_ns')} is {value}, expected at least 1"
        wanted = self.semi_sync_standbys
        if wanted is not None and not 1 <= wanted <= max(1, members - 1):
            yield f"semi_sync_standbys is {wanted}, expected 1 to {max(1, members - 1)}"
        for name, mode in (
            ("semi_sync_standbys", Mode.SEMI_SYNC),
            ("async_after_ns", Mode.SEMI_SYNC),
            ("remove_standby_after_ns", Mode.SYNC),
        ):
            if getattr(self, name) is not None and self.mode is not mode:
                yield f'{name.removesuffix("_ns")} is set, expected mode = "{mode.value}" with it'
        yield from self._timing_problems()

    def _timing_problems(self) -> Iterable[str]:
        needed_ns = HEARTBEATS_PER_LEASE_MIN * self.heartbeat_ns
        if self.lease_ns < needed_ns:
            yield (
                f"lease is {_ms(self.lease_ns)}, expected at least "
                f"{HEARTBEATS_PER_LEASE_MIN} x heartbeat = {_ms(needed_ns)}"
            )
        needed_ns = int(CLOCK_RATE_MARGIN * self.lease_ns)
        if self.detection_timeout_ns < needed_ns:
            yield (
                f"detection_timeout is {_ms(self.detection_timeout_ns)}, expected at least "
                f"{CLOCK_RATE_MARGIN:g} x lease = {_ms(needed_ns)}"
            )

    def standbys_needed(self, members: int) -> int:
        """Return how many standbys hold a write before it is acknowledged, none being gone."""
        match self.mode:
            case Mode.ASYNC:
                return 0
            case Mode.SYNC:
                return members - 1
        if self.semi_sync_standbys is not None:
            return self.semi_sync_standbys
        return lossless_standbys(members)


def is_lossless(settings: PrimaryBackupSettings, members: int) -> bool:
    """Return whether no failover loses an acknowledged write while a majority of disks lives.

    A write is on the primary and on k standbys when it is acknowledged. A failover takes the most
    advanced of a majority m of the n nodes. Each majority includes a holder if k + 1 + m > n, that
    is k >= n - m. With fencing the m nodes take nothing from the old primary once they have told
    how far they are, so nothing can be acknowledged behind their back; without it, it can.
    """
    return (
        settings.fencing
        and settings.async_after_ns is None
        and settings.standbys_needed(members) >= lossless_standbys(members)
    )


def promise(settings: Any) -> str:
    """Return in one sentence what a cluster with these settings guarantees."""
    needed = settings.semi_sync_standbys
    read = "reads may be stale" if settings.default_read is DefaultRead.LOCAL else ""
    if settings.mode is Mode.ASYNC:
        text = "A failover loses the acknowledged writes that no standby had yet"
        if settings.fencing:
            text += ", and a primary cut off from the majority goes on for its lease at most"
        else:
            text += ", and a primary cut off from the others goes on acknowledging beside the new"
    elif not settings.fencing:
        text = (
            "A primary that the others have replaced may go on acknowledging with those who still "
            "hear it, and what it acknowledged is lost"
        )
    elif settings.async_after_ns is not None:
        text = (
            "An acknowledged write survives a failover unless standbys had been slow for "
            f"{_ms(settings.async_after_ns)}: then the primary acknowledges alone"
        )
    elif needed is not None:
        text = (
            f"An acknowledged write is on {needed} standby{'s' if needed > 1 else ''}, and "
            "survives a failover if every majority of the nodes includes one of its holders"
        )
    else:
        text = "An acknowledged write survives the loss of any minority of the nodes"
        if not read:
            text += ", and reads and writes are linearizable on clocks that run alike"
    return f"{text}; {read}." if read else f"{text}."


def _ms(duration_ns: int) -> str:
    return f"{duration_ns / 1e6:g}ms"
