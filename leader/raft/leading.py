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

from leader.raft import installing
from leader.raft.configuration import Configuration
from leader.raft.deadlines import Deadlines, earliest
from leader.raft.lease import Lease
from leader.raft.log import Index
from leader.raft.progress import Progress, State
from leader.raft.quorum import majority
from leader.raft.reads import ReadRounds
from leader.raft.replica import Replica
from leader.raft.state_machine import Command, write_response
from leader.raft.steering import Steering
from leader.v1 import raft_pb2
from replication.errors import LeadershipLost, NotLeader, Overloaded, QuorumTimeout
from replication.protocol import NodeId, RequestId
from replication.v1 import control_pb2, storage_pb2

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
        self._follow(next_index)
        self.reads = ReadRounds()
        self.lease = Lease(replica)
        self.steering = Steering(replica, self.followers, self.lease, self._append_configuration)
        self._writes: dict[Index, tuple[RequestId, type[Command]]] = {}
        self._write_deadlines: Deadlines[Index] = Deadlines(self._writes)
        # Of what waits for a majority; entries of earlier terms may be few or many.
        log = replica.log
        self._uncommitted_bytes = sum(
            len(log.data_at(index)) for index in range(replica.commit_index + 1, log.last_index + 1)
        )
        self._staying: Configuration | None = None  # looked at: nobody has to leave
        self._heartbeat_due_ns = now_ns
        self._quorum_due_ns = now_ns + settings.election_timeout_min_ns
        # The cluster's time goes on where the log has it, by this node's clock.
        self._time_base_ms = self._last_time_ms() - now_ns // MS
        # The no-op lets entries of earlier terms commit at once (Raft §5.4.2), and shows how far
        # the log is committed before the first read (Raft §8).
        self.noop_index = self._append(raft_pb2.Entry(term=replica.term))

    def _follow(self, next_index: Index) -> None:
        settings = self.replica.settings
        for member in self.replica.peers:
            if member not in self.followers:
                self.followers[member] = Progress(
                    member,
                    next_index,
                    settings.inflight_appends_max,
                    settings.inflight_bytes_max,
                    self.replica.now_ns,
                )

    def _append_configuration(self, configuration: Configuration) -> Index:
        """Append a change of members, in force at once (dissertation §4.1)."""
        entry = raft_pb2.Entry(term=self.term, configuration=configuration.message())
        entry.cluster_time_ms = self._time_base_ms + self.replica.now_ns // MS
        data = entry.SerializeToString()
        self._uncommitted_bytes += len(data)
        index = self.replica.append(self.term, entry, data)
        self._follow(index)
        return index

    def _last_time_ms(self) -> int:
        log = self.replica.log
        if log.last_index == log.start_index:
            return self.replica.machine.time_ms
        return raft_pb2.Entry.FromString(log.data_at(log.last_index)).cluster_time_ms

    # What clients ask.

    def submit_write(self, request_id: RequestId, body: Command, deadline_ns: int) -> None:
        """Append a write; it is answered when it is applied."""
        replica, settings = self.replica, self.replica.settings
        if self.steering.transfer is not None:
            # Dissertation §3.10: else the successor would never have it all.
            replica.reply(request_id, Overloaded("leadership is being handed over"))
            return
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

    def submit_lease_read(self, request_id: RequestId, key: str, deadline_ns: int) -> None:
        """Answer a read by the clock (§6.4.1); as any other read when the clock does not do."""
        replica = self.replica
        if self.readable and self.lease.problem() is None:
            replica.counters.lease_reads += 1
            replica.reply(request_id, replica.read(key))
        else:
            replica.counters.lease_reads_degraded += 1
            self.reads.add(request_id, key, deadline_ns)

    def submit_question(self, sender: NodeId, number: int) -> None:
        """Let a follower know, when leadership is confirmed, how far it has to be (§6.4)."""
        deadline_ns = self.replica.now_ns + self.replica.settings.election_timeout_max_ns
        self.reads.add_question(sender, number, deadline_ns)

    def submit_command(
        self, request_id: RequestId, request: control_pb2.CommandRequest, deadline_ns: int
    ) -> None:
        """Begin what an operator asks."""
        self.steering.submit(request_id, request, deadline_ns, self.readable)

    @property
    def readable(self) -> bool:
        """Whether an entry of this term is committed: before, it is not known which are (§8)."""
        return self.replica.commit_index >= self.noop_index

    # What time asks.

    def flush(self, now_ns: int) -> None:
        """Send to every follower what it lacks, write what the own disk lacks, begin a round."""
        replica = self.replica
        self.steering.tend()
        readable = self.readable
        heartbeat = now_ns >= self._heartbeat_due_ns
        announce = heartbeat or (readable and self.reads.wants_round())
        if announce:
            if self.reads.begin(with_reads=readable):
                replica.counters.read_rounds += 1
            self.lease.begin(self.reads.round)
        if heartbeat:
            self._heartbeat_due_ns = now_ns + replica.settings.heartbeat_ns
        batches: dict[Index, _Batch] = {}
        last_index = replica.log.last_index
        for follower in self.followers.values():
            if announce or follower.next_index <= last_index or follower.install is not None:
                self._replicate(follower, announce, batches)
        if replica.persist_log(replica.commit_index):
            self._commit()
        if announce:
            self._confirm_reads()
        self.lease.tell()

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
        writes_ns = self._write_deadlines.next_ns() if self._writes else None
        reads_ns = self.reads.next_deadline_ns()
        if not self.followers:
            return earliest(writes_ns, reads_ns)
        transfer, checks = self.steering.transfer, self.replica.settings.check_quorum
        transfer_ns = None if transfer is None else transfer.due_ns
        quorum_ns = self._quorum_due_ns if checks else None
        return earliest(writes_ns, reads_ns, self._heartbeat_due_ns, transfer_ns, quorum_ns)

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
            match_index = result.match_index
            assert match_index <= log.handed_index, "nobody stores the future"
            # A copy of what is committed already changes nothing of what a majority has.
            if follower.accepted(match_index) and match_index > self.replica.commit_index:
                self._commit()
            if follower.state is State.SNAPSHOT and follower.match_index >= log.start_index:
                follower.end_install(follower.match_index)
        else:
            next_index = 1 + log.last_not_above(result.hint_index, result.hint_term)
            follower.refused(result.prev_log_index, next_index)
        self._heard(follower, now_ns, result.round, result.clock_ns)

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
            installing.tell_sent(self.replica, follower.node, install)
            self._commit()
        self._heard(follower, now_ns, result.round, result.clock_ns)

    def _heard(self, follower: Progress, now_ns: int, round_number: int, clock_ns: int) -> None:
        follower.heard_ns = now_ns
        self.lease.answered(follower.node, round_number, clock_ns)
        if round_number > follower.round_confirmed:
            follower.round_confirmed = round_number
            self._confirm_reads()

    def step_down(self, successor: NodeId, term: int) -> None:
        """Answer everybody who waits: ``successor`` leads ``term``, as far as is known.

        Entries that no effect has mentioned yet are dropped, so their refusal is definite. What
        others may hold a later leader may commit or overwrite (LeadershipLost, indefinite).
        """
        replica = self.replica
        replica.counters.step_downs += 1
        handed_index = replica.log.handed_index
        replica.log.truncate(handed_index + 1)
        if replica.configurations.truncate(handed_index + 1):
            replica.tell_configuration()
        self.lease.tell("it leads no more")
        for index, (request_id, _) in self._writes.items():
            if index > handed_index:
                self._redirect(request_id, successor, term)
            else:
                replica.reply(request_id, LeadershipLost(self.term))
        self._writes.clear()
        for request_id in self.reads.abandon():
            self._redirect(request_id, successor, term)

    def leave_if_removed(self) -> bool:
        """Dismiss the members that left, once that is committed; True to step down oneself."""
        replica = self.replica
        configuration = replica.configuration
        if configuration is self._staying:
            return False
        if replica.configurations.latest_index > replica.commit_index:
            return False
        for node in [each for each in self.followers if each not in configuration.members]:
            # The last that it hears of this cluster: that it is committed.
            follower = self.followers.pop(node)
            if follower.install is None and follower.next_index > replica.log.start_index:
                replica.send(node, self._message(follower.next_index))
        if replica.node in configuration.all_voters:
            self._staying = configuration
            return False
        self.steering.leave()
        return self.steering.left

    # How it is done.

    def _append(self, entry: raft_pb2.Entry) -> Index:
        entry.cluster_time_ms = self._time_base_ms + self.replica.now_ns // MS
        data = entry.SerializeToString()
        self._uncommitted_bytes += len(data)
        self.replica.counters.entries_appended += 1
        return self.replica.log.append(self.term, data)

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
            installing.advance(replica, follower, self.reads.round, announce)
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
        if replica.log.handed_index == replica.commit_index:
            return
        match = {each.node: each.match_index for each in self.followers.values()}
        match[replica.node] = replica.log.handed_index
        index = replica.configuration.reached(match)
        if index > replica.commit_index and self.may_commit(index):
            total_size = 0
            for applied_index, size, outcome in replica.commit(index):
                total_size += size
                waiting = self._writes.pop(applied_index, None)
                if waiting is not None:
                    request_id, command = waiting
                    replica.reply(request_id, write_response(command, outcome, replica.node))
            self._uncommitted_bytes -= total_size

    def may_commit(self, index: Index) -> bool:
        """Return whether counting copies proves ``index`` committed (Raft §5.4.2, figure 8).

        An entry of an earlier term can be on a majority and still be overwritten; it is committed
        by an entry of this term above it.
        """
        return self.replica.log.term_at(index) == self.term

    def _confirm_reads(self) -> None:
        confirmed = {each.node: each.round_confirmed for each in self.followers.values()}
        confirmed[self.replica.node] = self.reads.round
        replica = self.replica
        round_number = replica.configuration.reached(confirmed)
        for request_id, asked in self.reads.confirm(round_number):
            if isinstance(asked, str):
                replica.reply(request_id, replica.read(asked))
                continue
            index = raft_pb2.ReadIndexResult(number=asked.number, index=replica.commit_index)
            answer = raft_pb2.RaftMessage(term=self.term, read_index_result=index)
            replica.send(asked.sender, answer)
        self.lease.confirm(confirmed, round_number)

    def _time_out(self, request_id: RequestId, followers: int) -> None:
        needed = majority(len(self.replica.configuration.voters))
        self.replica.reply(request_id, QuorumTimeout(1 + followers, needed))

    def _redirect(self, request_id: RequestId, successor: NodeId, term: int) -> None:
        self.replica.counters.redirects += 1
        self.replica.reply(request_id, NotLeader(successor, term))
