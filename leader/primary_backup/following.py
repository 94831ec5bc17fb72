"""The standby: takes the primary's records, rewinds what differs, takes all keys when it must.

An answer stands behind the write of what it speaks of: success means stored.
"""

from dataclasses import dataclass, field

from leader.primary_backup.log import Index, Log
from leader.primary_backup.replica import Replica
from leader.v1 import primary_backup_pb2
from replication.protocol import NodeId


def follow(replica: Replica, primary: NodeId, message: primary_backup_pb2.Replicate) -> None:
    """Take what the primary of this node's configuration sends, and answer."""
    answer = replica.message()
    result = answer.replicated
    result.sent_ns = message.sent_ns
    result.prev_index = message.prev_index
    log = replica.log
    matches = log.matches(message.prev_index, message.prev_epoch)
    if matches and not _parts_below_checkpoint(replica, message):
        match_index = _append(replica, message)
        # Not the end of our log: what lies behind the primary's records may differ from its log.
        commit_index = max(replica.commit_index, min(message.commit_index, match_index))
        replica.persist_log(commit_index)
        replica.commit(commit_index)
        result.success = True
        result.match_index = match_index
    else:
        result.hint_index = log.last_not_above(message.prev_index, message.prev_epoch)
        result.hint_epoch = log.epoch_at(result.hint_index)
        result.resync = matches or result.hint_index < log.trimmed_index
    replica.send(primary, answer)


def _parts_below_checkpoint(replica: Replica, message: primary_backup_pb2.Replicate) -> bool:
    """Return whether the logs part at a record that is in the checkpoint: it cannot be undone."""
    log, index = replica.log, message.prev_index
    for data in message.records:
        index += 1
        if index > log.trimmed_index:
            return False
        if log.epoch_at(index) != primary_backup_pb2.LogRecord.FromString(data).epoch:
            return True
    return False


def _append(replica: Replica, message: primary_backup_pb2.Replicate) -> Index:
    """Append what is missing and return the index of the message's last record.

    Only a conflict rewinds: a late copy of a short message must not drop what a longer one brought.
    """
    log = replica.log
    index = message.prev_index
    for data in message.records:
        index += 1
        if index <= log.trimmed_index:
            continue  # in the checkpoint: the logs match up to prev_index and further
        epoch = primary_backup_pb2.LogRecord.FromString(data).epoch
        if index <= log.last_index:
            if log.epoch_at(index) == epoch:
                continue
            replica.rewind(index)
        replica.append(epoch, data)
    return index


@dataclass(slots=True)
class Incoming:
    """All keys of a primary, on their way here: nothing is touched before the last chunk."""

    primary: NodeId
    epoch: int
    transfer: int
    keys: list[primary_backup_pb2.StoredKey] = field(default_factory=list)
    next_number: int = 0

    def take(self, replica: Replica, chunk: primary_backup_pb2.ResyncChunk) -> bool:
        """Take a chunk; True when it was the last and this node is a copy of the primary now.

        A chunk that is not the next is an old copy: its answer may have been lost, so it is
        answered again by the caller.
        """
        if chunk.number != self.next_number:
            return False
        self.next_number += 1
        self.keys += [primary_backup_pb2.StoredKey.FromString(data) for data in chunk.keys]
        if not chunk.last:
            return False
        history = Log()
        history.begin_at(chunk.last_index, chunk.history)
        if replica.log.matches(chunk.index, history.epoch_at(chunk.index)):
            return True  # an old copy, or records came after all: it is there, and maybe more
        replica.counters.resyncs += 1
        replica.replace(chunk.index, history, self.keys)
        return True
