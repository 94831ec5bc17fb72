"""Compare-and-set and serial reads: the proposers of ``paxos``.

An attempt prepares a ballot at the N replicas of the key and reads with their promises. If a
majority promises and none of it holds a half-done proposal, the state that their answers make is
the last one that was chosen: it decides whether the condition holds, and a write that replaces it
is proposed, then committed. A proposal that somebody left half done is completed first, as it may
have been chosen (Paxos Made Simple, §2.2). Who is refused waits a random while and tries again.

What the client may be told. If nothing was ever proposed, nothing happened. A proposal that was
refused may yet be completed by others, as long as no later one was chosen: then the outcome is
unknown. Each proposal carries the last write of each client, so it is known of a write that others
have completed, or that was tried before, even when it is already replaced.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from random import Random
from typing import Final

from leaderless.dynamo.context import encode_context
from leaderless.dynamo.node import Node
from leaderless.dynamo.paxos import APPLIED_MAX, NO_BALLOT, Acceptors, Rank, rank
from leaderless.dynamo.pending import NUMBERS_PER_LIFE
from leaderless.dynamo.quorum import Conditional, Origin
from leaderless.dynamo.repair import merge_answers
from leaderless.dynamo.targets import NOBODY, Targets
from leaderless.dynamo.types import shown
from leaderless.dynamo.versions import Siblings, Version, decode, encode
from leaderless.v1 import dynamo_pb2
from replication.errors import (
    Conflict,
    Indefinite,
    OperationError,
    Overloaded,
    QuorumTimeout,
    QuorumUnreachable,
)
from replication.protocol import Instant, NodeId
from replication.v1 import event_pb2, storage_pb2

BACKOFF_MIN_NS: Final = 5_000_000
BACKOFF_MAX_NS: Final = 160_000_000


class _Phase(Enum):
    WAIT = auto()  # for the next attempt
    PREPARE = auto()
    PROPOSE = auto()
    COMMIT = auto()


@dataclass(slots=True)
class _Round:
    """One operation, over all its attempts."""

    origin: Origin
    body: Conditional
    replicas: tuple[NodeId, ...]
    deadline_ns: int
    phase: _Phase = _Phase.WAIT
    due_ns: int = 0  # of the next attempt, in WAIT
    attempts: int = 0
    number: int = 0  # of this attempt
    ballot: Rank = NO_BALLOT
    seen: Rank = NO_BALLOT  # the greatest ballot of others
    promises: dict[NodeId, dynamo_pb2.Promise] = field(default_factory=dict)
    granted: list[NodeId] = field(default_factory=list)  # of this phase
    refused: list[NodeId] = field(default_factory=list)
    proposal: dynamo_pb2.Proposal = field(default_factory=dynamo_pb2.Proposal)
    own: bool = False  # the proposal is of this operation
    proposed: Rank = NO_BALLOT  # the last ballot at which its own write was proposed

    @property
    def majority(self) -> int:
        return len(self.replicas) // 2 + 1


class Proposers:
    """The conditional operations that this node coordinates."""

    def __init__(self, node: Node, acceptors: Acceptors, rng: Random) -> None:
        self._node = node
        self._acceptors = acceptors
        self._rng = rng
        self._rounds: dict[int, _Round] = {}  # by number of their attempt
        self._waiting: list[_Round] = []
        self._next_number = node.life * NUMBERS_PER_LIFE
        self._mixed: set[str] = set()  # keys that were told of

    def perform(self, now: Instant, origin: Origin, body: Conditional, deadline_ns: int) -> None:
        """Begin an operation on a key that this node is a replica of."""
        node = self._node
        replicas = node.ring.preference(body.key)
        round_ = _Round(
            origin, body, replicas, min(deadline_ns, now.monotonic_ns + self._timeout_ns(body))
        )
        if node.ring.moving(body.key) not in ((), replicas):
            raise Overloaded("the key is moving to other nodes: try again when it has arrived")
        alive = sum(node.alive(replica, now.monotonic_ns) for replica in replicas)
        if alive < round_.majority:
            raise QuorumUnreachable(round_.majority, alive)
        self._prepare(now, round_)

    def _timeout_ns(self, body: Conditional) -> int:
        settings = self._node.settings
        is_read = isinstance(body, storage_pb2.GetRequest)
        return settings.read_timeout_ns if is_read else settings.write_timeout_ns

    def plain_write(self, key: str) -> None:
        """A write that asks for no condition: warn if others do."""
        if self._acceptors.knows(key):
            self._tell_mixed(key)

    def _tell_mixed(self, key: str) -> None:
        if key not in self._mixed:
            self._mixed.add(key)
            mixed = event_pb2.WritesMixed(key=key)
            self._node.observe(event_pb2.Event(writes_mixed=mixed))

    # The time.

    def wake(self, now: Instant) -> None:
        """Try again what has waited, give up what is overdue."""
        now_ns = now.monotonic_ns
        waiting, self._waiting = self._waiting, []
        for round_ in waiting:
            if now_ns >= round_.deadline_ns:
                self._expire(round_)
            elif now_ns >= round_.due_ns:
                self._prepare(now, round_)
            else:
                self._waiting.append(round_)
        for number, round_ in list(self._rounds.items()):
            if now_ns >= round_.deadline_ns:
                del self._rounds[number]
                self._expire(round_)

    def wake_at(self) -> int | None:
        """Return when ``wake`` has something to do."""
        if not self._waiting and not self._rounds:
            return None
        times = [min(round_.due_ns, round_.deadline_ns) for round_ in self._waiting]
        times += [round_.deadline_ns for round_ in self._rounds.values()]
        return min(times, default=None)

    def _expire(self, round_: _Round) -> None:
        answered = len(round_.granted)
        if round_.phase is _Phase.COMMIT and round_.own:
            self._succeed(round_, round_.granted)  # it is chosen, whoever knows of it
        elif round_.proposed != NO_BALLOT or isinstance(round_.body, storage_pb2.GetRequest):
            self._fail(round_, QuorumTimeout(answered, round_.majority))
        else:
            # Nothing was ever proposed for it, so nobody can complete it.
            text = f"gave up after {round_.attempts} ballots: others got in between, or no majority"
            self._fail(round_, Overloaded(text))

    def _retry_later(self, now: Instant, round_: _Round) -> None:
        """Back off at random, longer each time, so that of two proposers one gets through."""
        del self._rounds[round_.number]
        self._node.counters["ballots_lost"] += 1
        most_ns = min(BACKOFF_MAX_NS, BACKOFF_MIN_NS << min(round_.attempts, 8))
        round_.phase = _Phase.WAIT
        round_.due_ns = now.monotonic_ns + self._rng.randint(most_ns // 4, most_ns)
        self._waiting.append(round_)

    # The phases.

    def _prepare(self, now: Instant, round_: _Round) -> None:
        """Phase 1a."""
        key = round_.body.key
        round_.attempts += 1
        round_.promises = {}
        self._enter(round_, _Phase.PREPARE)
        above = max(round_.seen, self._acceptors.promised(key))
        round_.ballot = above[0] + 1, self._node.actor
        ballot = dynamo_pb2.Ballot(round=round_.ballot[0], actor=self._node.actor)
        self._ask(now, round_, dynamo_pb2.Paxos(prepare=ballot))

    def _propose(self, now: Instant, round_: _Round, proposal: dynamo_pb2.Proposal) -> None:
        """Phase 2a."""
        self._enter(round_, _Phase.PROPOSE)
        proposal.ballot.round, proposal.ballot.actor = round_.ballot
        round_.proposal = proposal
        if round_.own:
            round_.proposed = round_.ballot
        self._ask(now, round_, dynamo_pb2.Paxos(propose=proposal))

    def _commit(self, now: Instant, round_: _Round) -> None:
        """A majority has accepted: it is chosen, and all may know."""
        self._enter(round_, _Phase.COMMIT)
        self._ask(now, round_, dynamo_pb2.Paxos(commit=round_.proposal))

    def _enter(self, round_: _Round, phase: _Phase) -> None:
        self._rounds.pop(round_.number, None)
        self._next_number += 1
        round_.number, round_.phase = self._next_number, phase
        round_.granted, round_.refused = [], []
        self._rounds[round_.number] = round_

    def _ask(self, now: Instant, round_: _Round, message: dynamo_pb2.Paxos) -> None:
        message.number, message.key = round_.number, round_.body.key
        for replica in round_.replicas:
            if replica != self._node.name:
                copy = dynamo_pb2.Paxos()
                copy.CopyFrom(message)
                self._node.outbox.send(replica, dynamo_pb2.DynamoMessage(paxos=copy))
        self._take(now, self._node.name, self._answer(message))

    # What arrives.

    def receive(self, now: Instant, sender: NodeId, message: dynamo_pb2.Paxos) -> None:
        """Answer as an acceptor, or take the answer of one."""
        if message.WhichOneof("step") in ("prepare", "propose", "commit"):
            if self._node.name not in self._node.ring.preference(message.key):
                return  # an acceptor that is none of the key's would be one too many
            answer = self._answer(message)
            self._node.outbox.send(sender, dynamo_pb2.DynamoMessage(paxos=answer))
        else:
            self._take(now, sender, message)

    def _answer(self, message: dynamo_pb2.Paxos) -> dynamo_pb2.Paxos:
        key, acceptors = message.key, self._acceptors
        answer = dynamo_pb2.Paxos(number=message.number, key=key)
        match message.WhichOneof("step"):
            case "prepare":
                answer.promise.CopyFrom(acceptors.prepare(key, message.prepare))
            case "propose":
                answer.accepted.CopyFrom(acceptors.propose(key, message.propose))
            case "commit":
                answer.committed.CopyFrom(acceptors.commit(key, message.commit))
        return answer

    def _take(self, now: Instant, sender: NodeId, message: dynamo_pb2.Paxos) -> None:
        round_ = self._rounds.get(message.number)
        if round_ is None or sender in round_.granted or sender in round_.refused:
            return
        match message.WhichOneof("step"):
            case "promise" if round_.phase is _Phase.PREPARE:
                verdict = message.promise.verdict
                round_.promises[sender] = message.promise
                then: Callable[[Instant, _Round], None] = self._promised
            case "accepted" if round_.phase is _Phase.PROPOSE:
                verdict, then = message.accepted, self._commit
            case "committed" if round_.phase is _Phase.COMMIT:
                verdict, then = message.committed, self._committed
            case _:
                return
        if not verdict.granted:
            round_.refused.append(sender)
            round_.seen = max(round_.seen, rank(verdict.promised))
            if len(round_.replicas) - len(round_.refused) < round_.majority:
                self._retry_later(now, round_)
            return
        round_.granted.append(sender)
        if len(round_.granted) == round_.majority:
            then(now, round_)

    def _promised(self, now: Instant, round_: _Round) -> None:
        """A majority has promised: complete what is half done, or do what was asked."""
        promises = [round_.promises[each] for each in round_.granted]
        chosen = max((each.committed for each in promises), key=lambda each: rank(each.ballot))
        half_done = max((each.accepted for each in promises), key=lambda each: rank(each.ballot))
        round_.own = False
        if rank(half_done.ballot) > rank(chosen.ballot):
            proposal = dynamo_pb2.Proposal()
            proposal.CopyFrom(half_done)
            self._propose(now, round_, proposal)
            return
        key = round_.body.key
        siblings = merge_answers(
            {each: round_.promises[each].siblings for each in round_.granted},
            decode,
            self._node.versioning,
        )
        if isinstance(round_.body, storage_pb2.GetRequest):
            self._reply_read(round_, siblings)
            return
        if siblings.versions and not chosen.ballot.round:
            self._tell_mixed(key)
        last = _last_of(chosen.applied, round_.body.write_id.client_id)
        if last == round_.body.write_id.sequence:
            self._succeed(round_, round_.granted)
            return
        if last > round_.body.write_id.sequence:
            text = f"write {last} of this client came first: this one is late, or was done long ago"
            self._fail(round_, Indefinite("UNKNOWN", text))
            return
        refusal = _mismatch(round_.body, siblings)
        if refusal is None:
            round_.own = True
            version = self._version(now, round_.body, siblings)
            write, _ = self._node.versioning.accept(siblings, version, siblings.vector)
            proposal = dynamo_pb2.Proposal(
                siblings=encode(write),
                applied=_with_applied(chosen.applied, round_.body.write_id),
            )
            self._propose(now, round_, proposal)
        elif round_.proposed > rank(chosen.ballot):
            # No later proposal was chosen, so somebody may still complete the one of before.
            text = "the write was proposed, and the key holds something else without an order"
            self._fail(round_, Indefinite("UNKNOWN", text))
        else:
            self._fail(round_, refusal)

    def _committed(self, now: Instant, round_: _Round) -> None:
        """A majority holds the choice."""
        if round_.own:
            self._succeed(round_, round_.granted)
            return
        (version,) = decode(round_.proposal.siblings).versions.values()
        recovered = event_pb2.ProposalRecovered(key=round_.body.key, write_id=version.write_id)
        self._node.observe(event_pb2.Event(proposal_recovered=recovered))
        self._node.counters["proposals_recovered"] += 1
        self._prepare(now, round_)

    def _version(
        self, now: Instant, body: storage_pb2.CompareAndSetRequest, held: Siblings
    ) -> Version:
        node = self._node
        actor, counter = node.next_dot(body.key, held.vector)
        # Each attempt is a write of its own: two proposals must not share a dot.
        node.forgotten[body.key] = counter
        # The ballots say which write is later, and the clocks must not say otherwise.
        newest_ns = held.newest_ns()
        timestamp_ns = node.versioning.timestamp_ns(now.wall_ns, newest_ns)
        return Version(
            value=body.value,
            write_id=body.write_id,
            dot=storage_pb2.Dot(actor=actor, counter=counter),
            timestamp_ns=timestamp_ns and max(timestamp_ns, newest_ns + 1),
        )

    # Answers to the client.

    def _reply_read(self, round_: _Round, siblings: Siblings) -> None:
        self._rounds.pop(round_.number, None)
        response = storage_pb2.GetResponse(
            versions=shown(siblings),
            context=encode_context(round_.body.key, siblings.seen),
            served=self._served(round_, round_.granted),
        )
        self._node.answer(round_.origin, response)

    def _succeed(self, round_: _Round, replicas: Iterable[NodeId]) -> None:
        self._rounds.pop(round_.number, None)
        self._node.counters["compare_and_sets"] += 1
        served = self._served(round_, replicas)
        self._node.answer(round_.origin, storage_pb2.CompareAndSetResponse(served=served))

    def _served(self, round_: _Round, replicas: Iterable[NodeId]) -> storage_pb2.Served:
        targets = Targets(round_.replicas, round_.replicas, NOBODY)
        return self._node.served(replicas, targets)

    def _fail(self, round_: _Round, error: OperationError) -> None:
        self._rounds.pop(round_.number, None)
        self._node.answer(round_.origin, error)


def _mismatch(body: storage_pb2.CompareAndSetRequest, held: Siblings) -> Conflict | None:
    """Return why the condition does not hold, None if it does."""
    live = [version for version in shown(held) if not version.tombstone]
    if len(live) > 1:
        return Conflict(f"the key has {len(live)} siblings: read it and write plainly")
    if not body.HasField("expected"):
        return Conflict("the key exists") if live else None
    if not live:
        return Conflict("the key is missing")
    return None if live[0].value == body.expected else Conflict("the key holds another value")


def _last_of(applied: Iterable[storage_pb2.WriteId], client_id: str) -> int:
    """Return the sequence of the last write of the client that was applied, 0 for none."""
    return max((each.sequence for each in applied if each.client_id == client_id), default=0)


def _with_applied(
    applied: Iterable[storage_pb2.WriteId], write_id: storage_pb2.WriteId
) -> list[storage_pb2.WriteId]:
    """Return the table with one more write: of each client the last, of so many clients."""
    others = [each for each in applied if each.client_id != write_id.client_id]
    return [*others[-(APPLIED_MAX - 1) :], write_id]
