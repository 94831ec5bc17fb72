"""The primary: takes writes, replicates them, acknowledges them when its mode says so.

Everything that comes in between two calls of ``flush`` shares one message per standby and one write
to the own disk. The messages are listed before the write, so that standbys write at the same time.
The own copy counts at once: what is concluded from it is listed behind the ``Persist``.

Two indices, both from the highest index that enough standbys hold:

* ``commit_index``: on as many standbys as any majority must include one of (or as many as the mode
  asks for, if fewer). It is what reads see and standbys apply. As in Raft §5.4.2, records of older
  epochs are committed by one of this epoch above them, never by counting.
* what is acknowledged to clients: on as many standbys as the mode asks for.
"""

from collections import deque

from leader.primary_backup.counting import lossless_standbys, majority, reached_by
from leader.primary_backup.log import Index
from leader.primary_backup.replica import Replica
from leader.primary_backup.settings import Mode
from leader.primary_backup.standby import Standby, Transfer
from leader.raft.deadlines import Deadlines
from leader.v1 import primary_backup_pb2
from replication.errors import Conflict, LeadershipLost, NotLeader, Overloaded, QuorumTimeout
from replication.protocol import NodeId, RequestId, StorageResponse
from replication.v1 import event_pb2, storage_pb2

WriteRequest = storage_pb2.PutRequest | storage_pb2.DeleteRequest | storage_pb2.CompareAndSetRequest


class Primary:
    """One node's service as the primary of one epoch. Made at promotion, dropped at demotion."""

    def __init__(self, replica: Replica, now_ns: int) -> None:
        self.replica = replica
        self.epoch = replica.state.config_epoch
        settings = replica.settings
        next_index = replica.log.last_index + 1
        self.standbys = {
            peer: Standby(peer, next_index, now_ns, settings.lease_ns) for peer in replica.peers
        }
        # Without fencing nobody is asked: who was promoted serves.
        self.confirmed = not settings.fencing or not replica.peers
        self.standbys_needed = settings.standbys_needed(len(replica.members))
        self.alone = False  # semi-sync: fell back to async
        self._lossless_standbys = lossless_standbys(len(replica.members))
        self._lease_until_ns = now_ns + settings.detection_timeout_ns  # to be confirmed at all
        self._heartbeat_due_ns = now_ns
        self._writes: dict[Index, tuple[RequestId, type[WriteRequest]]] = {}
        self._write_deadlines: Deadlines[Index] = Deadlines(self._writes)
        self._reads: dict[RequestId, str] = {}
        self._read_deadlines: Deadlines[RequestId] = Deadlines(self._reads)
        self._unacknowledged: deque[tuple[Index, int, str]] = deque()  # (index, appended at, key)
        self._newest: dict[str, tuple[Index, storage_pb2.Version]] = {}  # not acknowledged yet
        self._transfers = 0
        # Shows how far the older epochs are committed before the first read.
        self.first_index = self._append(primary_backup_pb2.LogRecord(epoch=self.epoch), now_ns)

    # What clients ask.

    def submit_write(
        self, now_ns: int, request_id: RequestId, body: WriteRequest, deadline_ns: int
    ) -> None:
        """Append a write. A compare-and-set is decided here: one node orders all writes."""
        replica = self.replica
        if len(self._unacknowledged) >= replica.settings.unacknowledged_records_max:
            replica.reply(request_id, Overloaded("too many records wait for standbys"))
            return
        version = storage_pb2.Version(write_id=body.write_id)
        if isinstance(body, storage_pb2.DeleteRequest):
            version.tombstone = True
        else:
            version.value = body.value
            if isinstance(body, storage_pb2.CompareAndSetRequest) and not self._holds(body):
                replica.reply(request_id, Conflict("the key does not hold the expected value"))
                return
        replica.counters.writes += 1
        change = primary_backup_pb2.StoredKey(key=body.key, version=version)
        record = primary_backup_pb2.LogRecord(epoch=self.epoch, change=change)
        index = self._append(record, now_ns)
        self._newest[body.key] = (index, version)
        self._writes[index] = (request_id, type(body))
        self._write_deadlines.add(deadline_ns, index)

    def _holds(self, body: storage_pb2.CompareAndSetRequest) -> bool:
        newest = self._newest.get(body.key)
        version = self.replica.database.get(body.key) if newest is None else newest[1]
        if version is None or version.tombstone:
            return not body.HasField("expected")
        return body.HasField("expected") and version.value == body.expected

    def submit_read(self, request_id: RequestId, key: str, deadline_ns: int) -> None:
        """Answer a read, once it is known what of the older epochs is committed (Raft §8)."""
        if self.replica.commit_index >= self.first_index:
            self.replica.reply(request_id, self.replica.read(key))
            return
        self._reads[request_id] = key
        self._read_deadlines.add(deadline_ns, request_id)

    # What time asks.

    def holds_lease(self, now_ns: int) -> bool:
        """Return whether a majority has promised not to replace this primary yet.

        Each of them answered a message that was sent less than ``lease`` ago, and gives no vote
        within ``detection_timeout`` of its arrival, which was later and lasts longer.
        """
        if not self.replica.settings.fencing:
            return True
        # Looked at lazily: the result holds until the moment at which it can first change.
        if now_ns >= self._lease_until_ns:
            self._lease_until_ns = max(self._lease_until_ns, self._confirmed_until_ns(now_ns))
        return now_ns < self._lease_until_ns

    def confirm(self, now_ns: int) -> bool:
        """Return True once: when a majority has answered and this primary begins to serve."""
        if self.confirmed or now_ns >= self._confirmed_until_ns(now_ns):
            return False
        self.confirmed = True
        self._lease_until_ns = self._confirmed_until_ns(now_ns)
        return True

    def _confirmed_until_ns(self, now_ns: int) -> int:
        """Return until when the answers that have come so far make a lease."""
        confirmed = [each.confirmed_ns for each in self.standbys.values()]
        contact_ns = reached_by([now_ns, *confirmed], majority(len(self.replica.members)))
        return contact_ns + self.replica.settings.lease_ns

    def flush(self, now_ns: int) -> None:
        """Send to every standby what it lacks, write what the own disk lacks, acknowledge."""
        replica = self.replica
        heartbeat = now_ns >= self._heartbeat_due_ns
        if heartbeat:
            self._heartbeat_due_ns = now_ns + replica.settings.heartbeat_ns
        for standby in self.standbys.values():
            self._replicate(standby, now_ns, heartbeat)
        # What is acknowledged without standbys is acknowledged with this very write.
        last_index = replica.log.last_index
        replica.persist_log(last_index if self._needed() == 0 else replica.commit_index)
        if heartbeat:
            self._review(now_ns)
        self._acknowledge()

    def expire(self, now_ns: int) -> None:
        """Answer the requests whose deadline has come. A write may still come through."""
        for index in self._write_deadlines.due(now_ns):
            request_id, _ = self._writes.pop(index)
            got = sum(each.match_index >= index for each in self.standbys.values())
            self.replica.reply(request_id, QuorumTimeout(1 + got, 1 + self._needed()))
        for request_id in self._read_deadlines.due(now_ns):
            del self._reads[request_id]
            got = sum(each.match_index >= self.first_index for each in self.standbys.values())
            self.replica.reply(request_id, QuorumTimeout(1 + got, 1 + self._lossless_standbys))
        after_ns = self.replica.settings.async_after_ns
        if after_ns is not None and not self.alone and self._unacknowledged:
            waited_ns = now_ns - self._unacknowledged[0][1]
            if waited_ns >= after_ns:
                self.alone = True
                self._tell_needed(f"a write had waited for standbys for {waited_ns // 10**6} ms")

    def due_ns(self) -> int:
        """Return when this primary wants to act next."""
        due = [self._heartbeat_due_ns]
        due += [
            each
            for each in (self._write_deadlines.next_ns(), self._read_deadlines.next_ns())
            if each is not None
        ]
        settings = self.replica.settings
        if settings.fencing and self.standbys:
            due.append(self._lease_until_ns)
        if settings.async_after_ns is not None and not self.alone and self._unacknowledged:
            due.append(self._unacknowledged[0][1] + settings.async_after_ns)
        return min(due)

    # What standbys answer.

    def answered(self, now_ns: int, sender: NodeId, result: primary_backup_pb2.Replicated) -> None:
        """Take an answer that was given in this primary's epoch."""
        standby, log = self.standbys[sender], self.replica.log
        if standby.transfer is not None:
            if not (result.success and result.match_index >= log.trimmed_index):
                standby.heard(now_ns, result.sent_ns)
                return
            standby.transfer = None  # it came from an older answer that it was needed at all
        hint = log.last_not_above(result.hint_index, result.hint_epoch)
        if result.resync:
            standby.heard(now_ns, result.sent_ns)
            self._begin_transfer(standby)
        elif standby.answered(now_ns, result, hint):
            self._acknowledge()

    def resync_taken(
        self, now_ns: int, sender: NodeId, taken: primary_backup_pb2.ResyncTaken
    ) -> None:
        """Take the answer to a chunk of a transfer."""
        standby = self.standbys[sender]
        standby.heard_ns = now_ns
        transfer = standby.transfer
        if transfer is None or transfer.number != taken.transfer:
            return
        standby.outstanding_ns = None
        if transfer.taken(taken.number):
            standby.transfer = None
            standby.match_index = transfer.index
            standby.next_index = transfer.index + 1
            self._acknowledge()

    def step_down(self, successor: NodeId, epoch: int) -> None:
        """Answer everybody who waits. What no effect has mentioned yet certainly did not happen."""
        replica = self.replica
        replica.counters.demotions += 1
        handed_index = replica.log.handed_index
        replica.log.truncate(handed_index + 1)
        for index, (request_id, _) in self._writes.items():
            if index > handed_index:
                replica.counters.redirects += 1
                replica.reply(request_id, NotLeader(successor, epoch))
            else:
                replica.reply(request_id, LeadershipLost(self.epoch))
        for request_id in self._reads:
            replica.counters.redirects += 1
            replica.reply(request_id, NotLeader(successor, epoch))

    # How it is done.

    def _append(self, record: primary_backup_pb2.LogRecord, now_ns: int) -> Index:
        index = self.replica.append(self.epoch, record.SerializeToString())
        self._unacknowledged.append((index, now_ns, record.change.key))
        return index

    def _replicate(self, standby: Standby, now_ns: int, heartbeat: bool) -> None:
        replica = self.replica
        log, settings = replica.log, replica.settings
        if heartbeat and standby.transfer is not None:
            standby.retry(now_ns, settings.lease_ns)
        if standby.transfer is None and standby.next_index <= log.trimmed_index:
            self._begin_transfer(standby)
        message = replica.message()
        append = message.replicate
        append.sent_ns = now_ns
        append.commit_index = replica.commit_index
        if standby.transfer is not None:
            if standby.outstanding_ns is None:
                standby.outstanding_ns = now_ns
                part = replica.message()
                part.resync_chunk.CopyFrom(standby.transfer.chunk)
                replica.send(standby.node, part)
            append.prev_index = log.trimmed_index  # only a heartbeat: it may or may not match
        else:
            append.prev_index = standby.next_index - 1
            if standby.outstanding_ns is None and standby.next_index <= log.last_index:
                append.records.extend(
                    log.batch(
                        standby.next_index,
                        settings.replicate_records_max,
                        settings.replicate_bytes_max,
                    )
                )
                standby.sent(now_ns, log.last_index, append.prev_index + len(append.records))
        if heartbeat or append.records:
            append.prev_epoch = log.epoch_at(append.prev_index)
            replica.send(standby.node, message)

    def _begin_transfer(self, standby: Standby) -> None:
        self._transfers += 1
        self.replica.counters.resyncs += 1
        standby.transfer = Transfer(self.replica, self._transfers)
        standby.outstanding_ns = None

    def _needed(self) -> int:
        return 0 if self.alone else self.standbys_needed

    def _held_by(self, standbys: int) -> Index:
        """Return the highest index on the own disk and those of ``standbys`` others."""
        own = self.replica.log.handed_index
        if standbys == 0:
            return own
        matches = [each.match_index for each in self.standbys.values()]
        return min(own, reached_by(matches, standbys))

    def _acknowledged_index(self) -> Index:
        if self.replica.settings.mode is not Mode.SYNC:
            return self._held_by(self._needed())
        required = [each.match_index for each in self.standbys.values() if each.required]
        return min([self._held_by(self._lossless_standbys), *required])

    def _acknowledge(self) -> None:
        replica = self.replica
        index = self._held_by(min(self._needed(), self._lossless_standbys))
        if index > replica.commit_index and replica.log.epoch_at(index) == self.epoch:
            replica.commit(index)
            while self._reads and replica.commit_index >= self.first_index:
                request_id = next(iter(self._reads))
                replica.reply(request_id, replica.read(self._reads.pop(request_id)))
        acknowledged = min(self._acknowledged_index(), replica.commit_index)
        while self._unacknowledged and self._unacknowledged[0][0] <= acknowledged:
            index, _, key = self._unacknowledged.popleft()
            if key and self._newest[key][0] == index:
                del self._newest[key]
            waiting = self._writes.pop(index, None)
            if waiting is not None:
                replica.reply(waiting[0], self._response(waiting[1], index))

    def _response(self, kind: type[WriteRequest], index: Index) -> StorageResponse:
        response: (
            storage_pb2.PutResponse | storage_pb2.DeleteResponse | storage_pb2.CompareAndSetResponse
        )
        if kind is storage_pb2.PutRequest:
            response = storage_pb2.PutResponse()
        elif kind is storage_pb2.DeleteRequest:
            response = storage_pb2.DeleteResponse()
        else:
            response = storage_pb2.CompareAndSetResponse()
        served = response.served
        served.node = self.replica.node
        served.term = self.epoch
        served.log_index = index
        return response

    def _review(self, now_ns: int) -> None:
        """Look who lags, who is no longer waited for, and whether standbys are back."""
        replica = self.replica
        for standby in self.standbys.values():
            standby.tell_state(replica, now_ns)
            self._review_required(standby, now_ns)
        last_index = replica.log.last_index
        if self.alone and self._held_by(self.standbys_needed) == last_index:
            self.alone = False
            self._tell_needed(f"{self.standbys_needed} standbys have caught up")

    def _review_required(self, standby: Standby, now_ns: int) -> None:
        after_ns = self.replica.settings.remove_standby_after_ns
        if after_ns is None or self.replica.settings.mode is not Mode.SYNC:
            return
        silence_ns = now_ns - standby.heard_ns
        waited_for = sum(each.required for each in self.standbys.values())
        if standby.required and silence_ns >= after_ns and waited_for > self._lossless_standbys:
            standby.required = False
            self._tell_needed(f"{standby.node} was silent for {silence_ns // 10**6} ms")
        elif (
            not standby.required
            and silence_ns < after_ns
            and standby.match_index >= self.replica.commit_index
        ):
            standby.required = True
            self._tell_needed(f"{standby.node} has caught up")

    def _tell_needed(self, reason: str) -> None:
        needed = self._needed()
        if self.replica.settings.mode is Mode.SYNC:
            needed = sum(each.required for each in self.standbys.values())
        changed = event_pb2.AcknowledgementChanged(standbys=needed, reason=reason)
        self.replica.observe(event_pb2.Event(acknowledgement_changed=changed))
