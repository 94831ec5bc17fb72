"""Primary-backup with one classic mistake each, for its invariants to find.

Named in scenarios as ``leader = "tests.support.planted_backups:leads_unelected"``. The invariants
of the honest core are theirs too.
"""

from collections.abc import Callable
from dataclasses import replace
from random import Random

from leader.primary_backup import PrimaryBackupCore, PrimaryBackupSettings, backend
from leader.primary_backup.invariants import invariants
from leader.primary_backup.monitor import Failover, Monitor
from leader.primary_backup.primary import Primary
from leader.v1 import primary_backup_pb2
from replication.protocol import Backend, Membership, NodeId, Persist

__all__ = ["invariants"]  # found by replication.simulation.invariants


class _Lonely(Monitor):
    @property
    def _majority(self) -> int:
        return 1


class LeadsUnelected(PrimaryBackupCore):
    """Takes its own opinion and its own vote for those of a majority."""

    def __init__(
        self, membership: Membership, settings: PrimaryBackupSettings, rng: Random
    ) -> None:
        super().__init__(membership, settings, rng)
        self.monitor.__class__ = _Lonely


class PromotesAnybody(PrimaryBackupCore):
    """Takes the least advanced of its voters."""

    def __init__(
        self, membership: Membership, settings: PrimaryBackupSettings, rng: Random
    ) -> None:
        super().__init__(membership, settings, rng)
        monitor = self.monitor

        def decide(failover: Failover) -> None:
            least = min(failover.votes, key=lambda voter: failover.votes[voter])
            failover.votes = {least: failover.votes[least]}
            Monitor._decide(monitor, failover)

        monitor._decide = decide  # type: ignore[method-assign]


class _EndlessLease(Primary):
    def holds_lease(self, now_ns: int) -> bool:
        self._lease_until_ns = now_ns + 1_000_000_000
        return True


class NeverResigns(PrimaryBackupCore):
    """Serves reads as a primary however long it has not heard from a majority."""

    def _become_primary(self, epoch: int) -> None:
        super()._become_primary(epoch)
        assert self.primary is not None
        self.primary.__class__ = _EndlessLease


class ForgetsItsEpoch(PrimaryBackupCore):
    """Answers before its epoch is on disk, and never writes it."""

    def __init__(
        self, membership: Membership, settings: PrimaryBackupSettings, rng: Random
    ) -> None:
        super().__init__(membership, settings, rng)
        replica = self.replica
        honest = replica.save_state

        def save_state(**changes: str | int) -> None:
            honest(**changes)
            assert isinstance(replica.effects.pop(), Persist)

        replica.save_state = save_state  # type: ignore[method-assign]


class AltersRecords(PrimaryBackupCore):
    """Writes something else into its log than the primary sent."""

    def _follow(self, sender: NodeId, message: primary_backup_pb2.PrimaryBackupMessage) -> None:
        altered = primary_backup_pb2.PrimaryBackupMessage()
        altered.CopyFrom(message)
        for number, data in enumerate(altered.replicate.records):
            record = primary_backup_pb2.LogRecord.FromString(data)
            if record.change.key:
                record.change.version.value += b"!"
                altered.replicate.records[number] = record.SerializeToString()
        super()._follow(sender, altered)


Create = Callable[[Membership, PrimaryBackupSettings, Random], PrimaryBackupCore]


def _planted(name: str, create: Create) -> Backend:
    return replace(backend, name=name, title="Primary-backup, broken", create=create)


leads_unelected = _planted("backups-lead-unelected", LeadsUnelected)
promotes_anybody = _planted("backups-promote-anybody", PromotesAnybody)
never_resigns = _planted("backups-never-resign", NeverResigns)
forgets_its_epoch = _planted("backups-forget-their-epoch", ForgetsItsEpoch)
alters_records = _planted("backups-alter-records", AltersRecords)
