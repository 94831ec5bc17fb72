"""What a node has in every role: its durable state, log and database, and its outbox."""

from collections.abc import Iterable
from dataclasses import dataclass, fields

from google.protobuf.message import DecodeError

from leader.primary_backup import database
from leader.primary_backup.database import Database
from leader.primary_backup.log import SPACE, Epoch, Index, Log
from leader.primary_backup.settings import PrimaryBackupSettings, is_lossless
from leader.v1 import primary_backup_pb2
from replication.errors import CorruptStore, OperationError
from replication.protocol import (
    Effect,
    Erase,
    Membership,
    NodeId,
    Observe,
    Persist,
    Put,
    Reply,
    RequestId,
    Response,
    Saved,
    Send,
    Write,
)
from replication.v1 import event_pb2, storage_pb2

META = "meta"
STATE = b"state"
CHECKPOINT = b"checkpoint"
COMMIT_INDEX = b"commit_index"

TRIM_SHARE = 4  # the log is trimmed when it is a quarter longer than asked for


@dataclass(slots=True)
class Counters:
    """What a node has done since it started."""

    failovers: int = 0  # that this node's monitor tried to carry out
    promotions: int = 0
    demotions: int = 0
    votes_granted: int = 0
    votes_refused: int = 0
    fenced: int = 0  # messages of older epochs that were refused
    records_appended: int = 0
    rewound_records: int = 0
    rewound_acknowledged: int = 0
    resyncs: int = 0  # begun as a primary, or taken as a standby
    writes: int = 0  # taken in as a primary
    reads: int = 0
    redirects: int = 0  # requests answered with NotLeader

    def as_dict(self) -> dict[str, int]:
        """Return the counters by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


class Replica:
    """One member of the cluster, whatever its role.

    Roles put effects into ``effects`` in the order in which they are to be performed; the core
    hands them out at the end of each call.
    """

    def __init__(self, membership: Membership, settings: PrimaryBackupSettings) -> None:
        self.node = membership.node
        self.members: tuple[NodeId, ...] = membership.members
        self.peers = [member for member in membership.members if member != membership.node]
        self.settings = settings
        self.lossless = is_lossless(settings, len(self.members))
        self.state = primary_backup_pb2.BackupState()
        self.log = Log()
        self.database = Database()
        # Records up to here are known to be on as many disks as the mode asks for, and are applied.
        self.commit_index: Index = 0
        self.counters = Counters()
        self.effects: list[Effect] = []
        self._saved_commit_index: Index = 0

    def load(self, saved: Saved) -> None:
        """Take over what was durable; raise CorruptStore when it cannot have been written by us."""
        try:
            self.state = primary_backup_pb2.BackupState.FromString(saved.get(META, STATE) or b"")
            checkpoint = primary_backup_pb2.Checkpoint.FromString(
                saved.get(META, CHECKPOINT) or b""
            )
            keys = [
                (key.decode(), storage_pb2.Version.FromString(data))
                for key, data in saved.scan(database.SPACE)
            ]
            records = [
                (key, primary_backup_pb2.LogRecord.FromString(data).epoch, data)
                for key, data in saved.scan(SPACE)
            ]
        except (DecodeError, UnicodeDecodeError) as error:
            raise CorruptStore(f"primary-backup state does not parse: {error}") from None
        self.log.begin_at(checkpoint.index, checkpoint.history)
        self.log.restore(records)
        if self.log.last_epoch > self.state.epoch:
            raise CorruptStore(
                f"log has epoch {self.log.last_epoch}, the node is at {self.state.epoch}"
            )
        self.database.replace(checkpoint.index, keys)
        commit_index = int.from_bytes(saved.get(META, COMMIT_INDEX) or b"", "big")
        if not checkpoint.index <= commit_index <= self.log.last_index and commit_index:
            raise CorruptStore(f"record {commit_index} was committed and is not in the log")
        self._saved_commit_index = commit_index
        self.commit_index = checkpoint.index
        self.commit(max(commit_index, checkpoint.index))

    def save_state(self, **changes: str | int) -> None:
        """Change the durable state; durable before anything behind it leaves."""
        for name, value in changes.items():
            setattr(self.state, name, value)
        assert self.state.config_epoch <= self.state.epoch, "who follows an epoch has entered it"
        data = self.state.SerializeToString()
        self.effects.append(Persist([Put(META, STATE, data)]))

    def append(self, epoch: Epoch, data: bytes) -> Index:
        """Add a record to the log, not yet to the disk."""
        self.counters.records_appended += 1
        return self.log.append(epoch, data)

    def persist_log(self, commit_index: Index) -> None:
        """Make durable what the disk lacks of the log, if anything, and trim it if it is long.

        ``commit_index`` goes along: lost, it costs a slower start, so it causes no write alone.
        """
        writes = self.log.take_writes()
        if not writes:
            return
        writes += self._trim()
        if commit_index != self._saved_commit_index:
            self._saved_commit_index = commit_index
            writes.append(Put(META, COMMIT_INDEX, commit_index.to_bytes(8, "big")))
        self.effects.append(Persist(writes))

    def _trim(self) -> list[Write]:
        """Move the oldest applied records into the checkpoint, some thousands at a time."""
        log, kept = self.log, self.settings.log_records_max
        until = self.database.applied_index - kept
        if until - log.trimmed_index < max(1, kept // TRIM_SHARE):
            return []
        newest: dict[str, bytes] = {}
        for index in range(log.trimmed_index + 1, until + 1):
            record = primary_backup_pb2.LogRecord.FromString(log.data_at(index))
            if record.change.key:
                newest[record.change.key] = record.change.version.SerializeToString()
        self.database.forget(until - log.trimmed_index)
        writes: list[Write] = [
            Put(database.SPACE, key.encode(), data) for key, data in newest.items()
        ]
        writes += log.trim(until)
        checkpoint = primary_backup_pb2.Checkpoint(index=until, history=log.history(until))
        writes.append(Put(META, CHECKPOINT, checkpoint.SerializeToString()))
        return writes

    def commit(self, index: Index) -> None:
        """Apply the records up to ``index``."""
        assert self.commit_index <= index <= self.log.handed_index, (
            "nothing is committed that is not on its way to disk"
        )
        self.commit_index = index
        for each in range(self.database.applied_index + 1, index + 1):
            self.database.apply(each, self.log.data_at(each))

    def rewind(self, from_index: Index) -> None:
        """Drop the records from ``from_index`` on: the primary's log has others in their place."""
        kept = from_index - 1
        lost = range(from_index, min(self.commit_index, self.log.last_index) + 1)
        self._tell_dropped(range(from_index, self.log.last_index + 1), lost)
        self.database.rewind(kept)
        self.commit_index = min(self.commit_index, kept)
        self.log.truncate(from_index)
        if self._saved_commit_index > kept:
            # In one write with the records that go: there is always something to erase.
            self._saved_commit_index = -1

    def replace(self, index: Index, primary: Log, keys: list[primary_backup_pb2.StoredKey]) -> None:
        """Become a copy of the primary as of ``index``: a standby that was away for too long.

        ``primary`` is its log without the records: it tells which of the own ones are there too.
        """
        dropped = [
            each
            for each in range(self.log.trimmed_index + 1, self.log.last_index + 1)
            if not primary.matches(each, self.log.epoch_at(each))
        ]
        self._tell_dropped(dropped, [each for each in dropped if each <= self.commit_index])
        self.log.begin_at(index, primary.history())
        self.database.replace(index, ((each.key, each.version) for each in keys))
        self.commit_index = self._saved_commit_index = index
        checkpoint = primary_backup_pb2.Checkpoint(index=index, history=self.log.history(index))
        writes: list[Write] = [Erase(SPACE, b"", None), Erase(database.SPACE, b"", None)]
        writes += [
            Put(database.SPACE, each.key.encode(), each.version.SerializeToString())
            for each in keys
        ]
        writes.append(Put(META, CHECKPOINT, checkpoint.SerializeToString()))
        writes.append(Put(META, COMMIT_INDEX, index.to_bytes(8, "big")))
        self.effects.append(Persist(writes))

    def _tell_dropped(self, dropped: Iterable[Index], acknowledged: Iterable[Index]) -> None:
        event = event_pb2.LogTruncated()
        # None with lossless settings, unless a disk was lost: the invariants look at that.
        lost = set(acknowledged)
        for index in dropped:
            event.entries += 1
            event.from_index = event.from_index or index
            change = primary_backup_pb2.LogRecord.FromString(self.log.data_at(index)).change
            if not change.key:
                continue
            event.write_ids.append(change.version.write_id)
            if index in lost:
                self.counters.rewound_acknowledged += 1
                event.acknowledged.add(write_id=change.version.write_id, key=change.key)
        if event.entries:
            self.counters.rewound_records += event.entries
            self.observe(event_pb2.Event(log_truncated=event))

    def read(self, key: str) -> storage_pb2.GetResponse:
        """Return what this node has applied of ``key``: one version, a tombstone, or nothing."""
        self.counters.reads += 1
        response = storage_pb2.GetResponse()
        version = self.database.get(key)
        if version is not None:
            response.versions.append(version)
        served = response.served
        served.node = self.node
        served.term = self.state.config_epoch
        served.log_index = self.database.applied_index
        return response

    def message(self) -> primary_backup_pb2.PrimaryBackupMessage:
        """Return a message with the configuration that this node goes by."""
        return primary_backup_pb2.PrimaryBackupMessage(
            epoch=self.state.config_epoch, primary=self.state.primary
        )

    def send(self, to: NodeId, message: primary_backup_pb2.PrimaryBackupMessage) -> None:
        """Put a message into the outbox."""
        self.effects.append(Send(to, message))

    def reply(self, request_id: RequestId, result: Response | OperationError) -> None:
        """Put an answer to a client into the outbox."""
        self.effects.append(Reply(request_id, result))

    def observe(self, event: event_pb2.Event) -> None:
        """Put an event for the history into the outbox."""
        self.effects.append(Observe(event))

    def take_effects(self) -> list[Effect]:
        """Empty the outbox and return what was in it."""
        effects = self.effects
        self.effects = []
        return effects
