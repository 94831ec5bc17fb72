"""The monitor on every node: is the primary down, do others think so, who carries out the failover.

As in Redis Sentinel. A monitor that has heard nothing of the primary for ``detection_timeout``
holds it for down (S_DOWN) and asks the others; when a majority agrees (O_DOWN) it asks for their
votes to carry out the failover to the next epoch. A vote is given once per epoch and never by who
hears the primary, so an epoch has one failover at most. Who has a majority of votes tells the most
advanced of the voters that it is the primary of the new epoch.

With fencing, a vote is a promise as well: the voter's replica takes nothing of older epochs from
then on (what an *acceptor* promises in Paxos, what a term does in Raft §5.1). Without, the replica
follows the old primary until it is told of the new one.
"""

from dataclasses import dataclass, field
from random import Random
from typing import TypeAlias

from leader.primary_backup.counting import majority
from leader.primary_backup.replica import Replica
from replication.protocol import NodeId
from replication.v1 import event_pb2

Position: TypeAlias = tuple[int, int]  # (epoch, index) of the last record

# Monitors that suspect the primary at the same moment must not ask for votes at the same moment.
JITTER_SHARE = 4


@dataclass(slots=True)
class Failover:
    """One attempt of this monitor to replace the primary."""

    epoch: int
    until_ns: int  # given up then
    decide_ns: int | None = None  # with a majority of votes: when to stop waiting for more
    target: NodeId = ""  # who is to be promoted, once that is decided
    votes: dict[NodeId, Position] = field(default_factory=dict)
    refused: set[NodeId] = field(default_factory=set)


class Monitor:
    """What one node thinks of the primary, and what it does about it."""

    def __init__(self, replica: Replica, rng: Random) -> None:
        self._replica = replica
        self._rng = rng
        self.heard_ns = 0  # the primary
        self.suspects = False
        self.failover: Failover | None = None
        self._down_ns = 0  # silence until then makes a suspect
        self._quiet_until_ns = 0  # no failover of one's own before
        self._repeat_ns = 0
        self._agree: set[NodeId] = set()
        self._promised_elsewhere = 0  # the newest epoch that anybody was heard to have voted in
        self._timeout_ns = replica.settings.detection_timeout_ns

    def start(self, now_ns: int) -> None:
        """Begin to watch. A node that had a primary may have promised it something just before."""
        self.heard_ns = now_ns
        self._down_ns = now_ns + self._timeout_ns
        if self._replica.state.epoch == 0:
            # There is no primary yet: a new cluster need not wait.
            self._down_ns = now_ns + self._replica.settings.heartbeat_ns
        self._quiet_until_ns = self._down_ns + self._jitter_ns()

    def _jitter_ns(self) -> int:
        return self._rng.randrange(max(1, self._timeout_ns // JITTER_SHARE))

    def heard(self, now_ns: int) -> None:
        """Note a sign of life of the primary of this node's configuration."""
        self.heard_ns = now_ns
        self._down_ns = now_ns + self._timeout_ns
        self.failover = None
        if self.suspects:
            self.suspects = False
            trusted = event_pb2.PeerTrusted(peer=self._replica.state.primary)
            self._replica.observe(event_pb2.Event(peer_trusted=trusted))

    def promised_elsewhere(self, epoch: int) -> None:
        """Note an epoch that another node has voted in: a failover needs a newer one."""
        self._promised_elsewhere = max(self._promised_elsewhere, epoch)

    def abdicated(self, now_ns: int) -> None:
        """This node was the primary and knows of no other: there is nobody to wait for."""
        self.heard_ns = now_ns
        self._down_ns = now_ns
        self._quiet_until_ns = now_ns + self._timeout_ns + self._jitter_ns()
        self.suspects = False
        self.failover = None

    def down(self, now_ns: int) -> bool:
        """Return whether the primary is down for this monitor (S_DOWN)."""
        return now_ns >= self._down_ns

    def wake(self, now_ns: int) -> None:
        """Suspect, ask, stand, decide, repeat: whatever is due. Not while this node is primary."""
        if not self.down(now_ns):
            return
        if not self.suspects:
            self._suspect(now_ns)
        failover = self.failover
        if failover is not None:
            if now_ns >= failover.until_ns:
                self.failover = failover = None
                self._quiet_until_ns = now_ns + self._jitter_ns()
            elif failover.decide_ns is not None and now_ns >= failover.decide_ns:
                self._decide(failover)
        if now_ns >= self._repeat_ns:
            self._repeat_ns = now_ns + self._replica.settings.heartbeat_ns
            if failover is None:
                # Opinions are of the moment: those who hear it again no longer agree.
                self._agree = {self._replica.node}
            self._ask()
        self._stand_if_agreed(now_ns)

    def wake_at(self) -> int:
        """Return when ``wake`` has something to do."""
        if not self.suspects:
            return self._down_ns
        due = [self._repeat_ns]
        if self.failover is not None:
            due.append(self.failover.until_ns)
            if self.failover.decide_ns is not None and not self.failover.target:
                due.append(self.failover.decide_ns)
        elif len(self._agree) >= self._majority:
            due.append(self._quiet_until_ns)
        return min(due)

    @property
    def _majority(self) -> int:
        return majority(len(self._replica.members))

    def _suspect(self, now_ns: int) -> None:
        self.suspects = True
        self._agree = {self._replica.node}
        self._repeat_ns = now_ns
        self._quiet_until_ns = max(self._quiet_until_ns, now_ns + self._jitter_ns())
        primary = self._replica.state.primary
        if primary and primary != self._replica.node:
            silence = event_pb2.PeerSuspected(peer=primary, silence_ns=now_ns - self.heard_ns)
            self._replica.observe(event_pb2.Event(peer_suspected=silence))

    def _ask(self) -> None:
        """Ask those who have not answered: for an opinion, for a vote, or to take over."""
        replica, failover = self._replica, self.failover
        for peer in replica.peers:
            message = replica.message()
            if failover is None:
                message.ask_down.SetInParent()
            elif not failover.target:
                if peer in failover.votes or peer in failover.refused:
                    continue
                message.ask_failover.new_epoch = failover.epoch
            elif peer == failover.target:
                message.promote.new_epoch = failover.epoch
            else:
                continue
            replica.send(peer, message)

    # O_DOWN.

    def opinion(self, now_ns: int, sender: NodeId, down: bool) -> None:
        """Take what another monitor thinks."""
        if self.suspects and down:
            self._agree.add(sender)
            self._stand_if_agreed(now_ns)
        elif not down:
            self._agree.discard(sender)

    def _stand_if_agreed(self, now_ns: int) -> None:
        if (
            self.failover is not None
            or len(self._agree) < self._majority
            or now_ns < self._quiet_until_ns
        ):
            return
        replica = self._replica
        epoch = max(replica.state.epoch, self._promised_elsewhere) + 1
        replica.counters.failovers += 1
        replica.save_state(epoch=epoch, voted_for=replica.node)
        self.failover = Failover(epoch, now_ns + self._timeout_ns)
        started = event_pb2.ElectionStarted(term=epoch, silence_ns=now_ns - self.heard_ns)
        replica.observe(event_pb2.Event(election_started=started))
        self._repeat_ns = now_ns + replica.settings.heartbeat_ns
        self._ask()
        self.voted(now_ns, replica.node, epoch, self.position())

    # The failover.

    def position(self) -> Position:
        """Return how far this node's replica is."""
        return (self._replica.log.last_epoch, self._replica.log.last_index)

    def vote(self, now_ns: int, candidate: NodeId, epoch: int, serves: bool) -> None:
        """Answer a monitor that asks for the failover to ``epoch``; ``serves``: as a primary."""
        replica = self._replica
        state = replica.state
        given = state.voted_for if epoch == state.epoch else ""
        granted = (
            not serves and self.down(now_ns) and epoch >= state.epoch and given in ("", candidate)
        )
        if granted:
            replica.counters.votes_granted += 1
            if not given:
                replica.save_state(epoch=epoch, voted_for=candidate)
                self.failover = None
            self._quiet_until_ns = now_ns + self._timeout_ns + self._jitter_ns()
        else:
            replica.counters.votes_refused += 1
        cast = event_pb2.VoteCast(term=epoch, candidate=candidate, granted=granted)
        replica.observe(event_pb2.Event(vote_cast=cast))
        last_epoch, last_index = self.position()
        answer = replica.message()
        answer.failover_vote.new_epoch = epoch
        answer.failover_vote.granted = granted
        answer.failover_vote.promised_epoch = state.epoch
        answer.failover_vote.last_epoch = last_epoch
        answer.failover_vote.last_index = last_index
        replica.send(candidate, answer)

    def voted(self, now_ns: int, voter: NodeId, epoch: int, position: Position | None) -> None:
        """Take a vote with the voter's position, or its refusal."""
        failover = self.failover
        if failover is None or failover.epoch != epoch or failover.target:
            return
        if position is None:
            failover.refused.add(voter)
        else:
            failover.votes[voter] = position
        if len(failover.votes) < self._majority:
            return
        answered = len(failover.votes) + len(failover.refused)
        if self._replica.lossless or answered == len(self._replica.members):
            self._decide(failover)
        elif failover.decide_ns is None:
            # Any majority will do for what survives anyway. Where acknowledged writes may be on few
            # nodes only, whoever answers a little later may have more of them.
            failover.decide_ns = now_ns + self._replica.settings.heartbeat_ns

    def _decide(self, failover: Failover) -> None:
        if failover.target:
            return
        node = self._replica.node
        failover.target = max(
            failover.votes, key=lambda voter: (failover.votes[voter], voter == node, voter)
        )
        self._ask()
