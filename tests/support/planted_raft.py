"""Raft with one classic mistake each, for the swarm to find.

Named in scenarios as ``leader = "tests.support.planted_raft:votes_twice"``. The invariants of the
honest core are theirs too.
"""

from collections.abc import Callable
from dataclasses import replace
from random import Random

from leader.raft import RaftCore, RaftSettings, backend
from leader.raft.invariants import invariants
from leader.v1 import raft_pb2
from replication.protocol import Backend, Effect, Instant, Membership, NodeId, Saved
from tests.support.broken_raft import (
    CommitsOlderTerms,
    ReadsUnconfirmed,
    SendsBeforePersist,
    VotesTwice,
)

__all__ = ["invariants"]  # found by replication.simulation.invariants


class CutsWhatMatches(RaftCore):
    """Drops everything behind the entries of a message, conflict or not.

    A late copy of a short AppendEntries then undoes what a longer one brought, which this node has
    acknowledged (Raft figure 2, receiver rule 3: only "if an existing entry conflicts").
    """

    def _on_append_entries(self, sender: NodeId, append: raft_pb2.AppendEntries) -> None:
        replica = self.replica
        behind = append.prev_log_index + len(append.entries) + 1
        if append.entries and replica.log.matches(append.prev_log_index, append.prev_log_term):
            behind = max(behind, replica.commit_index + 1)
            if behind <= replica.log.last_index:
                replica.truncate(behind)
        super()._on_append_entries(sender, append)


class LeadsUnelected(RaftCore):
    """Takes its own vote for a majority."""

    def _count_votes(self) -> None:
        assert self.candidacy is not None, "only a candidate counts votes"
        if self.candidacy.pre_vote:
            self._campaign(pre_vote=False)
        else:
            self._become_leader()


class AltersEntries(RaftCore):
    """Writes something else into its log than the leader sent."""

    def _on_append_entries(self, sender: NodeId, append: raft_pb2.AppendEntries) -> None:
        altered = raft_pb2.AppendEntries()
        altered.CopyFrom(append)
        for number, data in enumerate(append.entries):
            entry = raft_pb2.Entry.FromString(data)
            if entry.HasField("put"):
                entry.put.value = self.replica.node.encode()
                altered.entries[number] = entry.SerializeToString()
        super()._on_append_entries(sender, altered)


class ForgetsItsTerm(RaftCore):
    """Starts with the log of its last life and in the term of its last entry."""

    def start(self, now: Instant, saved: Saved) -> list[Effect]:
        effects = super().start(now, saved)
        self.replica.term = self.replica.log.last_term
        self.replica.vote = ""
        return effects


def _planted(core: Callable[[Membership, RaftSettings, Random], RaftCore], name: str) -> Backend:
    return replace(backend, name=f"raft-{name}", title=f"Raft ({name})", create=core)


votes_twice = _planted(VotesTwice, "votes-twice")
commits_older_terms = _planted(CommitsOlderTerms, "commits-older-terms")
sends_before_persist = _planted(SendsBeforePersist, "sends-before-persist")
cuts_what_matches = _planted(CutsWhatMatches, "cuts-what-matches")
reads_unconfirmed = _planted(ReadsUnconfirmed, "reads-unconfirmed")
leads_unelected = _planted(LeadsUnelected, "leads-unelected")
alters_entries = _planted(AltersEntries, "alters-entries")
forgets_its_term = _planted(ForgetsItsTerm, "forgets-its-term")
