"""Raft cores with one well-known mistake each, to show that simulation and analysis catch them.

Two are backends that the normal commands load:
``--leader tests.support.broken_raft:acknowledges_before_commit`` and
``--leader tests.support.broken_raft:stale_reads``, with the repository root on PYTHONPATH.
"""

from dataclasses import replace
from random import Random

from google.protobuf.message import Message

from leader.raft import RaftCore, RaftSettings, backend
from leader.raft.leading import Leader
from leader.raft.log import Index, Term
from leader.raft.state_machine import Outcome, write_response
from leader.v1 import raft_pb2
from replication.protocol import (
    Effect,
    Instant,
    Membership,
    NodeId,
    Persist,
    RequestId,
)
from replication.v1 import storage_pb2


class HastyLeader(Leader):
    """Acknowledges what it has written itself, without waiting for a majority."""

    def flush(self, now_ns: int) -> None:
        super().flush(now_ns)
        for index, (request_id, command) in list(self._writes.items()):
            # What a compare-and-set comes to is not known before it is applied.
            if command is not storage_pb2.CompareAndSetRequest:
                del self._writes[index]
                done = write_response(command, Outcome(self.term, index), self.replica.node)
                self.replica.reply(request_id, done)


class AcknowledgesBeforeCommit(RaftCore):
    """See ``HastyLeader``. The acknowledged write is lost if nobody else got it."""

    leader_type = HastyLeader


class StaleReads(RaftCore):
    """Answers linearizable reads from its own state, leader or not, superseded or not."""

    def _submit_read(
        self, request_id: RequestId, body: storage_pb2.GetRequest, deadline_ns: int
    ) -> None:
        self.replica.reply(request_id, self.replica.read(body.key))


class UnconfirmedLeader(Leader):
    """Answers reads at once, because it believes that it leads."""

    def submit_read(self, request_id: RequestId, key: str, deadline_ns: int) -> None:
        self.replica.reply(request_id, self.replica.read(key))


class ReadsUnconfirmed(RaftCore):
    """See ``UnconfirmedLeader``: a leader that was paused or cut off answers with old state."""

    leader_type = UnconfirmedLeader


class CountingLeader(Leader):
    """Commits entries of earlier terms by counting copies (the mistake of Raft figure 8)."""

    def may_commit(self, index: Index) -> bool:
        return True


class CommitsOlderTerms(RaftCore):
    """See ``CountingLeader``."""

    leader_type = CountingLeader


class VotesTwice(RaftCore):
    """Forgets its vote when it is asked again."""

    def _on_request_vote(
        self, candidate: NodeId, sender_term: Term, request: raft_pb2.RequestVote
    ) -> None:
        if self.leader is None and self.candidacy is None:
            self.replica.vote = ""
        super()._on_request_vote(candidate, sender_term, request)


class SendsBeforePersist(RaftCore):
    """Answers before its write is durable."""

    def receive(self, now: Instant, sender: NodeId, message: Message) -> list[Effect]:
        effects = super().receive(now, sender, message)
        return sorted(effects, key=lambda effect: isinstance(effect, Persist))


def _hasty(membership: Membership, settings: RaftSettings, rng: Random) -> RaftCore:
    return AcknowledgesBeforeCommit(membership, settings, rng)


def _stale(membership: Membership, settings: RaftSettings, rng: Random) -> RaftCore:
    return StaleReads(membership, settings, rng)


acknowledges_before_commit = replace(
    backend, name="raft-acknowledges-before-commit", title="Raft, broken", create=_hasty
)
stale_reads = replace(backend, name="raft-stale-reads", title="Raft, broken", create=_stale)
