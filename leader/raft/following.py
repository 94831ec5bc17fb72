"""The follower's side of log replication (Raft §5.3, figure 2) and of snapshots (§5 and §7)."""

from leader.raft.log import Index
from leader.raft.replica import Replica
from leader.v1 import raft_pb2
from replication.protocol import NodeId, Persist


def follow(replica: Replica, leader: NodeId, append: raft_pb2.AppendEntries) -> None:
    """Take what the leader of the present term sends, and answer.

    The answer stands behind the write of the entries, so success means stored. It also stands for
    entries that an earlier copy of this message brought: their write is further ahead still.
    """
    message = raft_pb2.RaftMessage(term=replica.term)
    result = message.append_entries_result
    result.round = append.round
    result.prev_log_index = prev_log_index = append.prev_log_index
    result.clock_ns = replica.now_ns
    log = replica.log
    # What our snapshot stands for was committed, so every later leader has it too.
    if prev_log_index < log.start_index or log.matches(prev_log_index, append.prev_log_term):
        match_index = _append(replica, append)
        # Not the end of our log: what lies behind the leader's entries may differ from its log.
        commit_index = max(replica.commit_index, min(append.commit_index, match_index))
        replica.persist_log(commit_index)
        if commit_index > replica.commit_index:
            for _ in replica.commit(commit_index):
                pass
        result.success = True
        result.match_index = match_index
    else:
        result.hint_index = log.last_not_above(prev_log_index, append.prev_log_term)
        result.hint_term = log.term_at(result.hint_index)
    replica.send(leader, message)


def refuse(replica: Replica, sender: NodeId) -> None:
    """Tell a leader of the past our term, at which it steps down (Raft §5.1)."""
    result = raft_pb2.AppendEntriesResult()
    replica.send(sender, raft_pb2.RaftMessage(term=replica.term, append_entries_result=result))


def _append(replica: Replica, append: raft_pb2.AppendEntries) -> Index:
    """Append what is missing and return the index of the last entry of the message.

    Only a conflict cuts the log: a late copy of a short message must not drop what a longer one
    brought (Raft figure 2, receiver rule 3: "if an existing entry conflicts").
    """
    log = replica.log
    index = append.prev_log_index
    for data in append.entries:
        index += 1
        if index <= log.start_index:
            continue  # in our snapshot
        entry = raft_pb2.Entry.FromString(data)
        if index <= log.last_index:
            if log.term_at(index) == entry.term:
                continue
            replica.truncate(index)
        replica.append(entry.term, entry, data)
    return index


def install(replica: Replica, leader: NodeId, request: raft_pb2.InstallSnapshot) -> None:
    """Take a chunk of a snapshot, and install it if it was the last (dissertation §5).

    The answer tells how many chunks are durable here: a leader that does not know (we restarted, or
    it is a new one) asks first and goes on from there.
    """
    header, snapshots = request.snapshot, replica.snapshots
    heartbeat = not request.HasField("data")
    if header.index > replica.commit_index and replica.log.matches(header.index, header.term):
        # We have the entry, so all before it are the leader's too; they only were not known to be
        # committed.
        for _ in replica.commit(header.index):
            pass
    if header.index > replica.commit_index and not heartbeat:
        number = request.position - 1
        writes = snapshots.receive(header, number, request.data, leader, replica.now_ns)
        if writes:
            replica.effects.append(Persist(writes))
        if snapshots.received(header) == header.chunks:
            replica.install()
    behind = header.index > replica.commit_index
    result = raft_pb2.InstallSnapshotResult(
        index=header.index,
        round=request.round,
        position=request.position,
        received=snapshots.received(header) if behind else header.chunks,
        heartbeat=heartbeat,
        clock_ns=replica.now_ns,
    )
    replica.send(leader, raft_pb2.RaftMessage(term=replica.term, install_snapshot_result=result))
