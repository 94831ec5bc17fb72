"""The leader: replicates its log, commits, confirms reads (Raft §5.3, §5.4.2; dissertation §6.4).

Everything that comes in between two calls of ``flush`` shares one batch: one message per follower,
one write to the own disk, one read round. ``flush`` lists the messages *before* the own write, so
followers write at the same time as the leader does (dissertation §10.2.1). It then counts the own
copy at once. That is sound although the write is not done: whatever is concluded from the count (a
reply, a commit index in a message) is listed behind the ``Persist``, in this call or in a later
one, and the host lets nothing overtake a ``Persist``. If the node dies before, nobody has seen the
conclusion.
"""

from typing import TypeAlias

from leader.raft.deadlines import Deadlines
from leader.raft.log import Index
from leader.raft.progress import Install, Progress, State
from leader.raft.quorum import majority
from leader.raft.reads import ReadRounds
from leader.raft.replica import Replica
from leader.raft.state_machine import Command, write_response
from leader.v1 import raft_pb2
from replication.errors import LeadershipLost, NotLeader, Overloaded, QuorumTimeout
from replication.protocol import NodeId, RequestId
from replication.v1 import event_pb2, storage_pb2

MS = 1_000_000

_Batch: TypeAlias = tuple[raft_pb2.RaftMessage, Index, int]  # the last index and the size


class Leader:
    """One node's leadership in one term. Made when it is elected, dropped when it steps down."""

    def __init__(self, replica: Replica, now_ns: int) -> None:
        self.replica = replica
        self.term = replica.term
        settings = replica.settings
        next_index = replica.log.last_index + 1
        self.followers: dict[NodeId, Progress] = {}
        self._follow(replica.peers, next_index, now_ns)
        self.reads = ReadRounds()
        self._writes: dict[Index, tuple[RequestId, type[Command]]] = {}
        self._write_deadlines: Deadlines[Index] = Deadlines(self._writes)
        # Of what waits for a majority; entries of earlier terms may be few or many.
        log = replica.log
        self._uncommitted_bytes = sum(
            len(log.data_at(index)) for index in range(replica.commit_index + 1, log.last_index + 1)
        )
        self._heartbeat_due_ns = now_ns
        self._quorum_due_ns = now_ns + settings.election_timeout_min_ns
        # The cluster's time goes on where the log has it, by this node's clock.
        self._time_base_ms = self._last_time_ms() - now_ns // MS
        # The no-op lets entries of earlier terms commit at once (Raft §5.4.2), and shows how far
        # the log is committed before the first read (Raft §8).
        self.noop_index = self._append(raft_pb2.Entry(term=replica.term))

    def _follow(self, members: list[NodeId], next_index: Index, now_ns: int) -> None:
        settings = self.replica.settings
        for member in members:
            if member not in self.followers:
                self.followers[member] = Progress(
                    member,
                    next_index,
                    settings.inflight_appends_max,
                    settings.inflight_bytes_max,
                    now_ns,
                )

    def _last_time_ms(self) -> int:
        log = self.replica.log
        if log.last_index == log.start_index:
            return self.replica.machine.time_ms
        return raft_pb2.Entry.FromString(log.data_at(log.last_index)).cluster_time_ms

    # What clients ask.

    def submit_write(self, request_id: RequestId, body: Command, deadline_ns: int) -> None:
        """Append a write; it is answered when it is applied."""
        replica, settings = self.replica, self.replica.settings
        if (
            replica.log.last_index - replica.commit_index >= settings.uncommitted_entries_max
            or self._uncommitted_bytes >= settings.uncommitted_bytes_max
        ):
            replica.reply(request_id, Overloaded("too many writes wait for a majority"))
            return
        if isinstance(body, storage_pb2.PutRequest):
            entry = raft_pb2.Entry(term=replica.term, put=body)
        elif isinstance(body, storage_pb2.DeleteRequest):
            entry = raft_pb2.Entry(term=replica.term, delete=body)
        else:
            entry = raft_pb2.Entry(term=replica.term, compare_and_set=body)
        replica.counters.writes += 1
        index = self._append(entry)
        self._writes[index] = (request_id, type(body))
        self._write_deadlines.add(deadline_ns, index)

    def submit_read(self, request_id: RequestId, key: str, deadline_ns: int) -> None:
        """Let a linearizable read wait for a confirmation of leadership."""
        self.reads.add(request_id, key, deadline_ns)

    # What time asks.

    def flush(self, now_ns: int) -> None:
        """Send to every follower what it lacks, write what the own disk lacks, begin a round."""
        replica = self.replica
        # Raft §8: before an entry of its term is committed, a leader does not know which are.
        readable = replica.commit_index >= self.noop_index
        heartbeat = now_ns >= self._heartbeat_due_ns
        announce = heartbeat or (readable and self.reads.wants_round())
        if announce and self.reads.begin(with_reads=readable):
            replica.counters.read_rounds += 1
        if heartbeat:
            self._heartbeat_due_ns = now_ns + replica.settings.heartbeat_ns
        batches: dict[Index, _Batch] = {}
        for follower in self.followers.values():
            self._replicate(follower, announce, batches)
        replica.persist_log(replica.commit_index)
        self._commit()
        if announce:
            self._confirm_reads()

    def expire(self, now_ns: int) -> None:
        """Answer the requests whose deadline has come.

        A write stays in the log and may yet be committed: QuorumTimeout is indefinite.
        """
        for index in self._write_deadlines.due(now_ns):
            request_id, _ = self._writes.pop(index)
            got = sum(each.match_index >= index for each in self.followers.values())
            self._time_out(request_id, got)
        expired = self.reads.expire(now_ns)
        if not expired:
            return
        if self.replica.commit_index < self.noop_index:
            got = sum(each.match_index >= self.noop_index for each in self.followers.values())
        else:
            newest = self.reads.round
            got = sum(each.round_confirmed >= newest for each in self.followers.values())
        for request_id in expired:
            self._time_out(request_id, got)

    def due_ns(self) -> int | None:
        """Return when this leader wants to act next; None for never, alone and idle."""
        due = [self._write_deadlines.next_ns(), self.reads.next_deadline_ns()]
        if self.followers:
            due.append(self._heartbeat_due_ns)
            if self.replica.settings.check_quorum:
                due.append(self._quorum_due_ns)
        return min((each for each in due if each is not None), default=None)

    def has_quorum(self, now_ns: int) -> bool:
        """Return whether a majority answered within the last election timeout (check-quorum, §6.2).

        Looked at lazily: the result holds until the moment at which it can first change.
        """
        settings = self.replica.settings
        if not settings.check_quorum or now_ns < self._quorum_due_ns:
            return True
        heard_ns = {each.node: each.heard_ns for each in self.followers.values()}
        heard_ns[self.replica.node] = now_ns
        contact_ns = self.replica.configuration.reached(heard_ns)
        self._quorum_due_ns = contact_ns + settings.election_timeout_min_ns
        return now_ns < self._quorum_due_ns

    # What followers answer.

    def answered(self, now_ns: int, sender: NodeId, result: raft_pb2.AppendEntriesResult) -> None:
        """Take an answer that was given in this leader's term.

        A refusal of entries confirms the leader all the same: it says only that logs differ.
        """
        follower = self.followers.get(sender)
        if follower is None:
            return  # it was removed
        log = self.replica.log
        if result.success:
            assert result.match_index <= log.handed_index, "nobody stores the future"
            if follower.accepted(result.match_index):
                self._commit()
            if follower.state is State.SNAPSHOT and follower.match_index >= log.start_index:
                follower.end_install(follower.match_index)
        else:
            next_index = 1 + log.last_not_above(result.hint_index, result.hint_term)
            follower.refused(result.prev_log_index, next_index)
        self._heard(follower, now_ns, result.round)

    def took_chunk(
        self, now_ns: int, sender: NodeId, result: raft_pb2.InstallSnapshotResult
    ) -> None:
        """Take an answer to a part of a snapshot, or to the question how far the follower is."""
        follower = self.followers.get(sender)
        if follower is None:
            return
        install = follower.install
        of_this = install is not None and install.snapshot.header.index == result.index
        if install is not None and of_this and install.take(result):
            follower.end_install(result.index)
            self._tell_sent(follower.node, install, now_ns)
            self._commit()
        self._heard(follower, now_ns, result.round)

    def _heard(self, follower: Progress, now_ns: int, round_number: int) -> None:
        follower.heard_ns = now_ns
        if round_number > follower.round_confirmed:
            follower.round_confirmed = round_number
            self._confirm_reads()

    def _tell_sent(self, to: NodeId, install: Install, now_ns: int) -> None:
        self.replica.counters.snapshots_sent += 1
        event = event_pb2.SnapshotSent(
            to=to,
            index=install.snapshot.header.index,
            bytes=install.bytes_sent,
            duration_ns=now_ns - install.began_ns,
        )
        self.replica.observe(event_pb2.Event(snapshot_sent=event))

    def kept_from(self, now_ns: int) -> Index | None:
        """Return behind which index the log is needed by followers that install a snapshot."""
        silent_ns = self.replica.settings.election_timeout_max_ns
        return min(
            (
                each.install.snapshot.header.index
                for each in self.followers.values()
                if each.install is not None and now_ns - each.heard_ns < silent_ns
            ),
            default=None,
        )

    def step_down(self, successor: NodeId, term: int) -> None:
        """Answer everybody who waits: ``successor`` leads ``term``, as far as is known.

        Entries that no effect has mentioned yet are dropped, so their refusal is definite. What
        others may hold a later leader may commit or overwrite (LeadershipLost, indefinite).
        """
        replica = self.replica
        replica.counters.step_downs += 1
        handed_index = replica.log.handed_index
        replica.log.truncate(handed_index + 1)
        for index, (request_id, _) in self._writes.items():
            if index > handed_index:
                self._redirect(request_id, successor, term)
            else:
                replica.reply(request_id, LeadershipLost(self.term))
        self._writes.clear()
        for request_id in self.reads.abandon():
            self._redirect(request_id, successor, term)

    # How it is done.

    def _append(self, entry: raft_pb2.Entry) -> Index:
        entry.cluster_time_ms = self._time_base_ms + self.replica.now_ns // MS
        data = entry.SerializeToString()
        self._uncommitted_bytes += len(data)
        self.replica.counters.entries_appended += 1
        return self.replica.log.append(entry.term, data)

    def _replicate(
        self,
        follower: Progress,
        announce: bool,
        batches: dict[Index, "_Batch"],
    ) -> None:
        """Send what the flow control of ``follower`` allows; if ``announce``, a heartbeat at least.

        ``batches`` holds the messages of this flush by their first index: followers that are
        equally far get the same object.
        """
        replica = self.replica
        if follower.next_index <= replica.log.start_index or follower.install is not None:
            self._install(follower, announce)
            return
        last_index = replica.log.last_index
        while follower.next_index <= last_index and follower.may_send():
            batch = batches.get(follower.next_index)
            if batch is None:
                batch = batches[follower.next_index] = self._batch(follower.next_index)
            message, batch_last_index, size = batch
            replica.send(follower.node, message)
            replica.counters.appends_sent += 1
            follower.sent(batch_last_index, size)
            announce = False
        if announce:
            replica.counters.heartbeats_sent += 1
            replica.send(follower.node, self._message(follower.next_index))

    def _install(self, follower: Progress, announce: bool) -> None:
        """Send of a snapshot what flow control allows; first ask how much of it is there."""
        replica = self.replica
        newest = replica.snapshots.complete
        assert newest is not None, "a log is compacted behind a snapshot only"
        install = follower.install
        silent_ns = replica.now_ns - follower.heard_ns
        if install is None or (
            # Who is silent for so long may as well begin with the newest one.
            install.snapshot is not newest and silent_ns >= replica.settings.election_timeout_max_ns
        ):
            install = follower.begin_install(newest, replica.now_ns)
            announce = True
        while (data := install.next_chunk()) is not None:
            replica.counters.chunks_sent += 1
            message = self._install_message(install)
            message.install_snapshot.data = data
            replica.send(follower.node, message)
            announce = False
        if announce:
            replica.counters.heartbeats_sent += 1
            replica.send(follower.node, self._install_message(install))

    def _install_message(self, install: Install) -> raft_pb2.RaftMessage:
        request = raft_pb2.InstallSnapshot(
            snapshot=install.snapshot.header, round=self.reads.round, position=install.position
        )
        return raft_pb2.RaftMessage(term=self.term, install_snapshot=request)

    def _batch(self, next_index: Index) -> "_Batch":
        settings = self.replica.settings
        entries = self.replica.log.batch(
            next_index, settings.append_entries_max, settings.append_bytes_max
        )
        message = self._message(next_index)
        message.append_entries.entries.extend(entries)
        return message, next_index + len(entries) - 1, sum(map(len, entries))

    def _message(self, next_index: Index) -> raft_pb2.RaftMessage:
        replica = self.replica
        message = raft_pb2.RaftMessage(term=replica.term)
        append = message.append_entries
        append.prev_log_index = next_index - 1
        append.prev_log_term = replica.log.term_at(next_index - 1)
        append.commit_index = replica.commit_index
        append.round = self.reads.round
        return message

    def _commit(self) -> None:
        replica = self.replica
        match = {each.node: each.match_index for each in self.followers.values()}
        match[replica.node] = replica.log.handed_index
        index = replica.configuration.reached(match)
        if index > replica.commit_index and self.may_commit(index):
            for applied_index, outcome in replica.commit(index):
                self._uncommitted_bytes -= len(replica.log.data_at(applied_index))
                waiting = self._writes.pop(applied_index, None)
                if waiting is not None:
                    request_id, command = waiting
                    replica.reply(request_id, write_response(command, outcome, replica.node))

    def may_commit(self, index: Index) -> bool:
        """Return whether counting copies proves ``index`` committed (Raft §5.4.2, figure 8).

        An entry of an earlier term can be on a majority and still be overwritten; it is committed
        by an entry of this term above it.
        """
        return self.replica.log.term_at(index) == self.term

    def _confirm_reads(self) -> None:
        confirmed = {each.node: each.round_confirmed for each in self.followers.values()}
        confirmed[self.replica.node] = self.reads.round
        round_number = self.replica.configuration.reached(confirmed)
        for request_id, key in self.reads.confirm(round_number):
            self.replica.reply(request_id, self.replica.read(key))

    def _time_out(self, request_id: RequestId, followers: int) -> None:
        needed = majority(len(self.replica.configuration.voters))
        self.replica.reply(request_id, QuorumTimeout(1 + followers, needed))

    def _redirect(self, request_id: RequestId, successor: NodeId, term: int) -> None:
        self.replica.counters.redirects += 1
        self.replica.reply(request_id, NotLeader(successor, term))
