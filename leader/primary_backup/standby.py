"""What a primary knows of one standby, and what it may send to it.

One message with records is outstanding at a time, and the next takes all that came in meanwhile: a
slow standby gets larger messages, not more of them. A heartbeat asks for what is under way as well:
who has not got it refuses, and it is sent again.
"""

from collections.abc import Iterator

from leader.primary_backup.log import Index
from leader.primary_backup.replica import Replica
from leader.v1 import primary_backup_pb2
from replication.protocol import NodeId
from replication.v1 import event_pb2


class Transfer:
    """All keys as of one record, on their way to a standby, a chunk at a time."""

    def __init__(self, replica: Replica, number: int) -> None:
        self.number = number
        self.index = replica.database.applied_index
        self.acknowledged = -1  # number of the last chunk that was
        self._chunks = _chunks(replica, number)
        self.chunk = next(self._chunks)

    def taken(self, number: int) -> bool:
        """Note that a chunk has arrived; True if it was the last."""
        if number != self.chunk.number:
            return False
        if self.chunk.last:
            return True
        self.chunk = next(self._chunks)
        return False


def _chunks(replica: Replica, transfer: int) -> Iterator[primary_backup_pb2.ResyncChunk]:
    """Yield the keys as they are now, whatever is applied meanwhile: versions do not change."""
    index, log = replica.database.applied_index, replica.log
    history, last_index = log.history(), log.last_index
    keys = list(replica.database.items())
    number = place = 0
    while True:
        chunk = primary_backup_pb2.ResyncChunk(transfer=transfer, number=number, index=index)
        size = 0
        while place < len(keys) and size < replica.settings.replicate_bytes_max:
            key, version = keys[place]
            stored = primary_backup_pb2.StoredKey(key=key, version=version)
            data = stored.SerializeToString()
            chunk.keys.append(data)
            size += len(data)
            place += 1
        chunk.last = place == len(keys)
        if chunk.last:
            chunk.history.extend(history)
            chunk.last_index = last_index
        yield chunk
        number += 1


class Standby:
    """One standby. ``match_index < next_index`` always holds.

    ``match_index`` falls only for a standby that has lost its disk.
    """

    def __init__(self, node: NodeId, next_index: Index, now_ns: int, lease_ns: int) -> None:
        self.node = node
        self.match_index: Index = 0
        self.next_index = next_index
        self.heard_ns = now_ns  # last answer to this primary
        # When the newest message was sent that it has answered; for now, one whose lease is over.
        self.confirmed_ns = now_ns - lease_ns
        self.current_ns = now_ns  # when it last had everything
        self.required = True  # sync: its copy is waited for
        self.outstanding_ns: int | None = None  # since when records are under way
        self.transfer: Transfer | None = None
        self._current_at: tuple[int, Index] | None = None  # (sent at, last index then)
        self._matched_ns = now_ns  # when the newest message was sent that it took
        self._told = event_pb2.REPLICATION_STATE_STREAMING

    def sent(self, now_ns: int, last_index: Index, batch_last_index: Index) -> None:
        """Note that records up to ``batch_last_index`` are on their way."""
        self.outstanding_ns = now_ns
        self.next_index = batch_last_index + 1
        if self._current_at is None or self._current_at[1] <= self.match_index:
            self._current_at = (now_ns, last_index)

    def answered(self, now_ns: int, result: primary_backup_pb2.Replicated, hint: Index) -> bool:
        """Take an answer; True if more of the log is known to be there.

        ``hint`` is where the logs can match at best if this is a refusal.
        """
        self.heard(now_ns, result.sent_ns)
        if result.success:
            self._matched_ns = max(self._matched_ns, result.sent_ns)
            if result.match_index + 1 >= self.next_index:
                self.outstanding_ns = None
                self.next_index = result.match_index + 1
            if result.match_index <= self.match_index:
                return False
            self.match_index = result.match_index
            if self._current_at is not None and self.match_index >= self._current_at[1]:
                self.current_ns = max(self.current_ns, self._current_at[0])
            return True
        if hint < self.match_index and result.sent_ns > self._matched_ns:
            # It held more when older messages came: it has been started with an empty disk.
            self.match_index = 0
        if result.prev_index == self.next_index - 1 or self.outstanding_ns is not None:
            self.outstanding_ns = None
            self.next_index = max(min(result.prev_index, hint + 1), self.match_index + 1)
        return False

    def heard(self, now_ns: int, sent_ns: int) -> None:
        """Note a sign of life, in answer to what was sent at ``sent_ns``."""
        self.heard_ns = now_ns
        self.confirmed_ns = max(self.confirmed_ns, sent_ns)

    def retry(self, now_ns: int, after_ns: int) -> None:
        """Give up on the answer to a chunk that has not come for ``after_ns``: send it again."""
        if self.outstanding_ns is not None and now_ns - self.outstanding_ns >= after_ns:
            self.outstanding_ns = None

    def lag_ns(self, now_ns: int, last_index: Index) -> int:
        """Return for how long it has lacked something of the log, as far as is known."""
        return 0 if self.match_index >= last_index else now_ns - self.current_ns

    def tell_state(self, replica: Replica, now_ns: int) -> None:
        """Observe the state if it is another than last told."""
        last_index = replica.log.last_index
        lag_ns = self.lag_ns(now_ns, last_index)
        if self.match_index >= last_index:
            self.current_ns = now_ns
        state = event_pb2.REPLICATION_STATE_STREAMING
        if self.transfer is not None:
            state = event_pb2.REPLICATION_STATE_RESYNCING
        elif lag_ns >= replica.settings.detection_timeout_ns:
            state = event_pb2.REPLICATION_STATE_LAGGING
        if state != self._told:
            self._told = state
            changed = event_pb2.ReplicationChanged(
                standby=self.node,
                state=state,
                lag_entries=last_index - self.match_index,
                lag_ns=lag_ns,
            )
            replica.observe(event_pb2.Event(replication_changed=changed))
