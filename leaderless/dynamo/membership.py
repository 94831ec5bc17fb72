"""Who is a member: rings, one epoch after the other.

The node that is asked for a change proposes the next ring to the members of the present one, which
accept it by Paxos, a decree per epoch; so there is one ring of each epoch, and epochs are totally
ordered. (Dynamo, §4.8.1, lets memberships drift together by gossip; two changes at a time can then
give two views of who owns a key.) Every message names the epoch of its sender: who is behind is
refused and told.

With ``ring_changes = "joint"`` a change takes two epochs. In the first both the old and the new
owners need a quorum, for reads, for writes and for the decree of the second, while the new owners
fetch what they are to own; when all have it, somebody proposes the second. No other change may
begin meanwhile, but a replacement of one of them: see ``ring_changes``. With ``"eager"`` the new
owners answer at once, and fetch afterwards.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final

from leaderless.dynamo.node import Node
from leaderless.dynamo.paxos import NO_BALLOT, Acceptors, Rank, rank
from leaderless.dynamo.ring import ring_of
from leaderless.dynamo.ring_changes import change_words, members_of, next_ring, under_way
from leaderless.dynamo.settings import RingChanges
from leaderless.dynamo.transfer import Transfers
from leaderless.v1 import dynamo_pb2
from replication.errors import InvalidRequest, OperationError, Overloaded, QuorumTimeout
from replication.protocol import Instant, NodeId, Put, RequestId, Saved
from replication.v1 import control_pb2, event_pb2, storage_pb2

META: Final = "meta"
VOTE_SPACE: Final = "ring"
RETRY_NS: Final = 300_000_000
REPEAT_NS: Final = 500_000_000


@dataclass(slots=True)
class _Command:
    """An operator waits here for a change."""

    request_id: RequestId
    deadline_ns: int
    epoch: int  # that must have been reached, and nothing be moving
    joining: NodeId | None
    leaving: NodeId | None


@dataclass(slots=True)
class _Decree:
    """What this node proposes to be the next ring."""

    state: dynamo_pb2.RingState  # what it wants
    proposal: dynamo_pb2.Proposal = field(default_factory=dynamo_pb2.Proposal)
    number: int = 0
    ballot: Rank = NO_BALLOT
    seen: Rank = NO_BALLOT
    proposing: bool = False  # else preparing
    granted: list[NodeId] = field(default_factory=list)
    best: dynamo_pb2.Proposal = field(default_factory=dynamo_pb2.Proposal)
    retry_ns: int = 0


class Rings:
    """The ring that this node goes by, how it changes, and the data that moves."""

    def __init__(
        self,
        node: Node,
        acceptors: Acceptors,
        rng: Random,
        changed: Callable[[Instant], None],
    ) -> None:
        self._node = node
        self._rng = rng
        self._changed = changed  # operations under way go by the new ring from now on
        self.state = dynamo_pb2.RingState()
        self._writes: list[Put] = []
        self._votes = Acceptors(lambda epoch: b"", lambda epoch, ring: None, VOTE_SPACE)
        self._transfers = Transfers(node, acceptors, self._pull, self._has_everything)
        self._decree: _Decree | None = None
        self._numbers = 0
        self._commands: list[_Command] = []
        self._moved: set[NodeId] = set()  # who has all that it is to own by this epoch
        self._repeat_ns: int | None = None  # when to say so again

    def load(self, now: Instant, saved: Saved, initial: dynamo_pb2.RingState) -> None:
        """Go by the ring that was durable, or by that of the members at the start."""
        self._votes.load(saved)
        encoded = saved.get(META, b"ring")
        state = initial if encoded is None else dynamo_pb2.RingState.FromString(encoded)
        self._go_by(now, state)

    def writes(self) -> list[Put]:
        """Return what must become durable before anybody may hear of it, once."""
        writes, self._writes = self._writes, []
        return [*writes, *self._votes.writes()]

    @property
    def changed(self) -> bool:
        """Whether ``writes`` has anything to return."""
        return bool(self._writes or self._votes.changed)

    # Commands.

    def change(
        self,
        now: Instant,
        request_id: RequestId,
        deadline_ns: int,
        joining: NodeId | None,
        leaving: NodeId | None,
    ) -> None:
        """Begin a change of members; answer when it is complete. Raises when it cannot be."""
        state = self.state
        joint = self._node.settings.ring_changes is RingChanges.JOINT
        command = _Command(request_id, deadline_ns, state.epoch + 1 + joint, joining, leaving)
        to_be = {*(state.next_owners or state.owners)}
        if joining in to_be and leaving not in to_be and self._decree is None:
            # Asked again: it is done already, or is being done.
            command.epoch = state.epoch + bool(state.next_owners)
            self._commands.append(command)
            self._answer_commands(now, state.epoch)
            return
        if self._decree is not None:
            raise under_way(state)
        wanted = next_ring(state, joining, leaving, self._node.settings.n, joint)
        self._commands.append(command)
        self._decree = _Decree(wanted)
        self._prepare(now)

    def _answer_commands(self, now: Instant, epoch: int, others: bool = False) -> None:
        node, open_ = self._node, []
        for command in self._commands:
            if others:
                text = f"another change became epoch {epoch}"
                node.outbox.reply(command.request_id, Overloaded(text))
            elif epoch >= command.epoch and not self.state.next_owners:
                if command.joining is not None and command.joining not in self.state.owners:
                    gone = InvalidRequest(f"{command.joining} was replaced before it had joined")
                    node.outbox.reply(command.request_id, gone)
                    continue
                served = storage_pb2.Served(node=node.name)
                words = change_words(command.joining, command.leaving)
                done = control_pb2.CommandResponse(served=served, words=words)
                node.outbox.reply(command.request_id, done)
            elif now.monotonic_ns >= command.deadline_ns:
                # The change goes on, whether or not anybody waits for it.
                error: OperationError = QuorumTimeout(len(self._moved), len(members_of(self.state)))
                node.outbox.reply(command.request_id, error)
            else:
                open_.append(command)
        self._commands = open_

    # The decree on the next ring: Paxos among the members of this one.

    def _groups(self) -> list[list[NodeId]]:
        groups = [sorted({*self.state.owners})]
        return [*groups, sorted({*self.state.next_owners})] if self.state.next_owners else groups

    def _majority(self, granted: list[NodeId]) -> bool:
        return all(
            sum(node in granted for node in group) > len(group) // 2 for group in self._groups()
        )

    def _prepare(self, now: Instant) -> None:
        decree, key = self._decree, str(self.state.epoch + 1)
        assert decree is not None, "there is something to propose"
        above = max(decree.seen, self._votes.promised(key))
        decree.ballot = above[0] + 1, self._node.actor
        decree.proposing, decree.best = False, dynamo_pb2.Proposal()
        ballot = dynamo_pb2.Ballot(round=decree.ballot[0], actor=decree.ballot[1])
        self._ask(now, decree, dynamo_pb2.Paxos(prepare=ballot))

    def _propose(self, now: Instant, decree: _Decree) -> None:
        decree.proposing = True
        decree.proposal = dynamo_pb2.Proposal(
            siblings=decree.best.siblings or decree.state.SerializeToString()
        )
        decree.proposal.ballot.round, decree.proposal.ballot.actor = decree.ballot
        self._ask(now, decree, dynamo_pb2.Paxos(propose=decree.proposal))

    def _ask(self, now: Instant, decree: _Decree, message: dynamo_pb2.Paxos) -> None:
        self._numbers += 1
        decree.number, decree.granted = self._numbers, []
        decree.retry_ns = now.monotonic_ns + self._rng.randint(RETRY_NS, 2 * RETRY_NS)
        message.number, message.key = decree.number, str(self.state.epoch + 1)
        for peer in members_of(self.state):
            if peer != self._node.name:
                vote = dynamo_pb2.Paxos()
                vote.CopyFrom(message)
                self._send(peer, dynamo_pb2.Movement(vote=vote))
        if self._node.name in members_of(self.state):
            self._count(now, self._node.name, self._vote(message))

    def _vote(self, message: dynamo_pb2.Paxos) -> dynamo_pb2.Paxos:
        answer = dynamo_pb2.Paxos(number=message.number, key=message.key)
        if message.HasField("prepare"):
            answer.promise.CopyFrom(self._votes.prepare(message.key, message.prepare))
        else:
            answer.accepted.CopyFrom(self._votes.propose(message.key, message.propose))
        return answer

    def _count(self, now: Instant, sender: NodeId, answer: dynamo_pb2.Paxos) -> None:
        decree = self._decree
        if decree is None or answer.number != decree.number or sender in decree.granted:
            return
        step = answer.WhichOneof("step")
        if (step == "accepted") != decree.proposing:
            return
        verdict = answer.accepted if decree.proposing else answer.promise.verdict
        if not verdict.granted:
            decree.seen = max(decree.seen, rank(verdict.promised))
            return  # it is tried again after a random while
        decree.granted.append(sender)
        accepted = answer.promise.accepted
        if not decree.proposing and rank(accepted.ballot) > rank(decree.best.ballot):
            decree.best = accepted
        if not self._majority(decree.granted):
            return
        if decree.proposing:
            state = dynamo_pb2.RingState.FromString(decree.proposal.siblings)
            for peer in {*members_of(self.state), *members_of(state)} - {self._node.name}:
                self._send(peer, dynamo_pb2.Movement(ring=state))
            self.adopt(now, state)
        else:
            self._propose(now, decree)

    # The ring itself.

    def adopt(self, now: Instant, state: dynamo_pb2.RingState) -> None:
        """Go by ``state`` from now on if it is later than the present one."""
        if state.epoch <= self.state.epoch:
            return
        encoded = state.SerializeToString()
        self._writes.append(Put(META, b"ring", encoded))
        lost = self._decree is not None and self._decree.state.SerializeToString() != encoded
        self._decree = None
        self._go_by(now, state)
        # Its own commands are done, or still to be completed, or another change came first.
        self._answer_commands(now, state.epoch, others=lost)
        self._changed(now)
        changed = event_pb2.RingChanged(
            epoch=state.epoch,
            members=sorted({*state.owners}),
            next_members=sorted({*state.next_owners}),
        )
        self._node.observe(event_pb2.Event(ring_changed=changed))

    def _go_by(self, now: Instant, state: dynamo_pb2.RingState) -> None:
        node = self._node
        self.state = state
        node.outbox.epoch = node.counters["ring_epoch"] = state.epoch
        node.ring = ring_of(state.owners, node.settings.n, state.next_owners)
        # Others hold on to this list.
        node.peers[:] = [member for member in members_of(state) if member != node.name]
        node.detector.set_peers(node.peers, now.monotonic_ns)
        self._moved = set()
        self._repeat_ns = None
        self._transfers.stop()
        wanted = self._gained(state)
        if wanted:
            self._transfers.begin(now, wanted, self._required(), state.replaced)
        else:
            self._complete_if_moved(now)

    def _gained(self, state: dynamo_pb2.RingState) -> dict[int, tuple[NodeId, ...]]:
        """Return the partitions that this node is to own and did not, with their old owners."""
        node = self._node
        if state.next_owners:
            before, after = node.ring.preferences, node.ring.next_preferences
        elif state.sources:
            before = ring_of(state.sources, node.settings.n).preferences
            after = node.ring.preferences
        else:
            return {}
        return {
            partition: before[partition]
            for partition, owners in enumerate(after)
            if node.name in owners and node.name not in before[partition]
        }

    def _required(self) -> int:
        """Return how many old owners must have sent all: every other quorum has one of them."""
        settings = self._node.settings
        if settings.ring_changes is RingChanges.EAGER:
            return 1
        return max(settings.n - min(settings.r, settings.w) + 1, settings.n // 2 + 1)

    def _has_everything(self, now: Instant, partitions: int, keys: int, size: int) -> None:
        moved = event_pb2.PartitionsMoved(
            epoch=self.state.epoch, partitions=partitions, keys=keys, bytes=size
        )
        self._node.observe(event_pb2.Event(partitions_moved=moved))
        self._node.counters["transfer_keys"] += keys
        if self.state.next_owners:
            self._tell_moved(now)

    def _tell_moved(self, now: Instant) -> None:
        self._repeat_ns = now.monotonic_ns + REPEAT_NS
        for peer in self._node.peers:
            self._send(peer, dynamo_pb2.Movement(moved=self.state.epoch))
        self._has_moved(now, self._node.name)

    def _has_moved(self, now: Instant, node: NodeId) -> None:
        self._moved.add(node)
        self._complete_if_moved(now)

    def _complete_if_moved(self, now: Instant) -> None:
        """Complete the change once everybody has what is new to it."""
        state, ring = self.state, self._node.ring
        gaining = {
            owner
            for holding, coming in zip(ring.preferences, ring.next_preferences, strict=False)
            for owner in coming
            if owner not in holding
        }
        member = self._node.name in members_of(state)
        if self._decree is None and member and state.next_owners and self._moved >= gaining:
            self._decree = _Decree(
                dynamo_pb2.RingState(epoch=state.epoch + 1, owners=state.next_owners)
            )
            # All get here at about the same time: let one be first.
            self._decree.retry_ns = now.monotonic_ns + self._rng.randrange(RETRY_NS // 2)

    # The time, and what arrives.

    def wake(self, now: Instant) -> None:
        """Repeat what was not answered, give up commands that are overdue."""
        now_ns = now.monotonic_ns
        if self._decree is not None and now_ns >= self._decree.retry_ns:
            self._prepare(now)
        if self._repeat_ns is not None and now_ns >= self._repeat_ns:
            self._tell_moved(now)
        self._transfers.wake(now)
        if self._commands:
            self._answer_commands(now, self.state.epoch)

    def wake_at(self) -> int | None:
        """Return when ``wake`` has something to do."""
        times = [self._repeat_ns, self._transfers.due_ns]
        if times == [None, None] and not self._commands and self._decree is None:
            return None
        times += [command.deadline_ns for command in self._commands]
        if self._decree is not None:
            times.append(self._decree.retry_ns)
        return min((each for each in times if each is not None), default=None)

    def hear_epoch(self, sender: NodeId, epoch: int) -> None:
        """Compare the epoch of a message: tell who is behind, ask who is ahead."""
        if epoch < self.state.epoch:
            self._send(sender, dynamo_pb2.Movement(ring=self.state))
        elif epoch > self.state.epoch:
            self._send(sender, dynamo_pb2.Movement(ring_wanted=True))

    def receive(self, now: Instant, sender: NodeId, message: dynamo_pb2.Movement) -> None:
        """Take a ring, a vote on one, or a piece of a partition."""
        if message.HasField("ring"):
            self.adopt(now, message.ring)
        if message.ring_wanted:
            self._send(sender, dynamo_pb2.Movement(ring=self.state))
        if message.HasField("vote"):
            if message.vote.WhichOneof("step") in ("promise", "accepted"):
                self._count(now, sender, message.vote)
            elif message.vote.key == str(self.state.epoch + 1):
                self._send(sender, dynamo_pb2.Movement(vote=self._vote(message.vote)))
        if message.HasField("pull"):
            chunk = self._transfers.answer(self.state.epoch, message.pull)
            self._send(sender, dynamo_pb2.Movement(chunk=chunk))
        if message.HasField("chunk"):
            self._transfers.take(now, sender, message.chunk)
        if message.moved and message.moved == self.state.epoch:
            self._has_moved(now, sender)

    def _pull(self, owner: NodeId, pull: dynamo_pb2.Pull) -> None:
        # With the ring: who answers goes by it, and refuses whoever does not.
        self._send(owner, dynamo_pb2.Movement(ring=self.state, pull=pull))

    def _send(self, peer: NodeId, movement: dynamo_pb2.Movement) -> None:
        self._node.outbox.send(peer, dynamo_pb2.DynamoMessage(movement=movement))
