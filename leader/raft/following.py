"""The follower's side of log replication (Raft §5.3, figure 2 "AppendEntries RPC")."""

from leader.raft.log import Index
from leader.raft.replica import Replica
from leader.v1 import raft_pb2
from replication.protocol import NodeId


def follow(replica: Replica, leader: NodeId, append: raft_pb2.AppendEntries) -> None:
    """Take what the leader of the present term sends, and answer.

    The answer stands behind the write of the entries, so success means stored. It also stands for
    entries that an earlier copy of this message brought: their write is further ahead still.
    """
    result = raft_pb2.AppendEntriesResult(round=append.round, prev_log_index=append.prev_log_index)
    log = replica.log
    if log.matches(append.prev_log_index, append.prev_log_term):
        match_index = _append(replica, append)
        # Not the end of our log: what lies behind the leader's entries may differ from its log.
        commit_index = max(replica.commit_index, min(append.commit_index, match_index))
        replica.persist_log(commit_index)
        for _ in replica.commit(commit_index):
            pass
        result.success = True
        result.match_index = match_index
    else:
        result.hint_index = log.last_not_above(append.prev_log_index, append.prev_log_term)
        result.hint_term = log.term_at(result.hint_index)
    replica.send(leader, raft_pb2.RaftMessage(term=replica.term, append_entries_result=result))


def refuse(replica: Replica, sender: NodeId, append: raft_pb2.AppendEntries) -> None:
    """Tell a leader of the past our term, at which it steps down (Raft §5.1)."""
    result = raft_pb2.AppendEntriesResult(round=append.round, prev_log_index=append.prev_log_index)
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
        term = raft_pb2.Entry.FromString(data).term
        if index <= log.last_index:
            if log.term_at(index) == term:
                continue
            replica.truncate(index)
        log.append(term, data)
        replica.counters.entries_appended += 1
    return index
