"""Asking for votes and giving them: pre-vote (dissertation §9.6) and election (Raft §5.2, §5.4.1).

A campaign has two rounds of the same message. The first asks "would you vote for me in the next
term?" and changes nothing anywhere; only who would win enters the term and asks in earnest. So a
node that comes back from a partition does not depose a leader that everybody else can hear.
"""

from leader.raft.quorum import Tally
from leader.raft.replica import Replica
from leader.v1 import raft_pb2
from replication.protocol import NodeId
from replication.v1 import event_pb2


class Candidacy:
    """One round of votes of one campaign, seen from the candidate, which votes for itself.

    Requests are repeated every heartbeat to those that have not answered (Raft §5.1), so that
    one lost message does not cost an election timeout.
    """

    def __init__(
        self, replica: Replica, pre_vote: bool, now_ns: int, transfer: bool = False
    ) -> None:
        self._replica = replica
        self._transfer = transfer  # the leader asked for it
        self.pre_vote = pre_vote
        self.campaign_term = replica.term + 1 if pre_vote else replica.term
        # Not counted where it is no voter, which it need not be to bring a change to its end.
        self._votes: dict[NodeId, bool] = {replica.node: True}
        self.repeat_due_ns = now_ns

    def request(self, now_ns: int) -> None:
        """Ask those that have not answered."""
        log = self._replica.log
        request = raft_pb2.RaftMessage(
            term=self._replica.term,
            request_vote=raft_pb2.RequestVote(
                campaign_term=self.campaign_term,
                pre_vote=self.pre_vote,
                last_log_index=log.last_index,
                last_log_term=log.last_term,
                transfer=self._transfer,
            ),
        )
        for peer in self._replica.configuration.all_voters:
            if peer not in self._votes:
                self._replica.send(peer, request)
        self.repeat_due_ns = now_ns + self._replica.settings.heartbeat_ns

    def answered(self, voter: NodeId, result: raft_pb2.RequestVoteResult) -> None:
        """Count an answer, if it is one to this round. A vote once given is never taken back."""
        if (result.campaign_term, result.pre_vote) == (self.campaign_term, self.pre_vote):
            self._votes[voter] = result.granted or self._votes.get(voter, False)

    def tally(self) -> Tally:
        """Return how the round stands."""
        return self._replica.configuration.tally(self._votes)


def may_vote(replica: Replica, candidate: NodeId, request: raft_pb2.RequestVote) -> bool:
    """Return whether ``candidate`` deserves the vote in its term, which is not below our own.

    A vote for the term we are in is given once (Raft §5.2), and only to a log that is at least as
    up-to-date as ours, so that the leader has every committed entry (Raft §5.4.1).
    """
    assert request.campaign_term >= replica.term, "older campaigns are refused before"
    if request.campaign_term == replica.term and replica.vote not in ("", candidate):
        return False
    return replica.log.is_up_to_date(request.last_log_index, request.last_log_term)


def cast(replica: Replica, candidate: NodeId, request: raft_pb2.RequestVote, granted: bool) -> None:
    """Send the vote. A granted one was made durable before, by ``Replica.set_term``."""
    if granted:
        replica.counters.votes_granted += 1
    else:
        replica.counters.votes_refused += 1
    vote = event_pb2.VoteCast(
        term=request.campaign_term,
        candidate=candidate,
        granted=granted,
        pre_vote=request.pre_vote,
    )
    replica.observe(event_pb2.Event(vote_cast=vote))
    result = raft_pb2.RequestVoteResult(
        campaign_term=request.campaign_term, pre_vote=request.pre_vote, granted=granted
    )
    replica.send(candidate, raft_pb2.RaftMessage(term=replica.term, request_vote_result=result))
