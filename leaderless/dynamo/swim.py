"""Who is alive, found out together: SWIM with the refinements of Lifeguard.

Das, Gupta and Motivala, "SWIM: Scalable Weakly-consistent Infection-style Process Group Membership
Protocol" (DSN 2002); Dadgar, Phillips and Currey, "Lifeguard: Local Health Awareness for More
Accurate Failure Detection" (DSN-W 2018). Timeouts and limits are those of hashicorp/memberlist.

In every interval a node probes one other, in an order that is shuffled anew each time all had
their turn (SWIM §4.3). If it does not answer, some others are asked to probe it; if that brings
nothing either, it is suspected. A suspicion is gossip, and its subject, once it hears of it,
refutes it with a higher incarnation (§4.2). One that is not refuted in time is a death. Gossip
rides on every message, each piece so often that all have probably heard it; now and then two nodes
exchange all they know.
"""

from dataclasses import dataclass
from random import Random
from typing import Final, TypeAlias

from leaderless.dynamo.swim_config import SwimConfig, retransmissions, suspicion_timeout_ns
from leaderless.v1 import dynamo_pb2
from replication.protocol import NodeId

ALIVE: Final = dynamo_pb2.MEMBER_STATE_ALIVE
SUSPECT: Final = dynamo_pb2.MEMBER_STATE_SUSPECT
DEAD: Final = dynamo_pb2.MEMBER_STATE_DEAD
State: TypeAlias = dynamo_pb2.MemberState.ValueType

GOSSIP_FANOUT: Final = 3
UPDATES_PER_MESSAGE: Final = 30  # memberlist fills a packet of 1,400 bytes
GREET_ALL_MAX: Final = 50  # peers; whoever has more greets a few, and leaves the rest to gossip
GREET_SOME: Final = 3  # memberlist joins by way of the few seeds that it was given


@dataclass(frozen=True, slots=True)
class Transition:
    """Something that this node has come to believe of ``node``."""

    node: NodeId
    state: State
    before: State
    incarnation: int
    by: NodeId  # who suspects; else empty
    after_ns: int  # how long ``before`` had been believed


@dataclass(slots=True)
class _Member:
    state: State
    incarnation: int
    since_ns: int
    suspecters: dict[NodeId, None]


@dataclass(slots=True)
class _Probe:
    target: NodeId
    number: int
    indirect_ns: int  # when others are asked
    end_ns: int
    asked: int = 0  # others
    nacks: int = 0
    acked: bool = False


@dataclass(slots=True)
class _Relay:
    """A probe on behalf of another node."""

    asker: NodeId
    number: int
    target: NodeId
    nack_ns: int


class Swim:
    """What one node believes of the others. Times are monotonic nanoseconds.

    ``sends``, ``transitions`` and ``lives`` are taken by the caller.
    """

    def __init__(
        self, name: NodeId, peers: list[NodeId], config: SwimConfig, rng: Random, now_ns: int
    ) -> None:
        self.name = name
        self.incarnation = 0
        self.health = 0  # 0: this node is well; each point makes it more patient
        self.sends: list[tuple[NodeId, dynamo_pb2.Gossip]] = []
        self.transitions: list[Transition] = []
        self.lives: list[tuple[NodeId, int]] = []  # incarnations begun here, or heard of
        self._config = config
        self._rng = rng
        self._members = {peer: _Member(ALIVE, 0, now_ns, {}) for peer in peers}
        self._suspects: dict[NodeId, None] = {}
        self._dead: dict[NodeId, None] = {}
        self._queue: dict[NodeId, tuple[dynamo_pb2.MemberUpdate, int]] = {}
        self._order: list[NodeId] = []
        self._probe: _Probe | None = None
        self._relays: dict[int, _Relay] = {}
        self._numbers = 0
        self._probe_due_ns = now_ns + rng.randrange(config.probe_ns)
        self._gossip_due_ns = now_ns
        self._push_pull_due_ns = now_ns + rng.randrange(config.push_pull_ns)
        self._ticked_ns = now_ns

    # What is believed.

    def state(self, peer: NodeId) -> State:
        """Return what is believed of ``peer``; nothing bad of one that is not watched."""
        member = self._members.get(peer)
        return ALIVE if member is None else member.state

    def dead(self) -> list[NodeId]:
        """Return the peers that are believed to be dead."""
        return [peer for peer in self._members if peer in self._dead] if self._dead else []

    def set_peers(self, peers: list[NodeId], now_ns: int) -> None:
        """Forget who is no longer a peer, and take who has come for alive."""
        self._members = {
            peer: self._members.get(peer) or _Member(ALIVE, 0, now_ns, {}) for peer in peers
        }
        self._suspects = {peer: None for peer in self._suspects if peer in self._members}
        self._dead = {peer: None for peer in self._dead if peer in self._members}
        self._queue = {
            node: each for node, each in self._queue.items() if node in self._members
        } | ({self.name: self._queue[self.name]} if self.name in self._queue else {})
        self._order = [peer for peer in self._order if peer in self._members]
        if self._probe is not None and self._probe.target not in self._members:
            self._probe = None

    # The time.

    def tick(self, now_ns: int) -> None:
        """Do what is due."""
        late_ns = now_ns - self._ticked_ns
        self._ticked_ns = now_ns
        if late_ns > 2 * self._patience(self._config.probe_ns):
            self._was_paused(late_ns)
        self._end_probe(now_ns)
        if now_ns >= self._probe_due_ns:
            self._probe_due_ns = now_ns + self._patience(self._config.probe_ns)
            self._begin_probe(now_ns)
        for number, relay in list(self._relays.items()):
            if now_ns >= relay.nack_ns:
                del self._relays[number]
                self._send(relay.asker, dynamo_pb2.Gossip(nack=relay.number))
        self._bury(now_ns)
        if self._queue and self._config.gossip_ns and now_ns >= self._gossip_due_ns:
            self._gossip_due_ns = now_ns + self._config.gossip_ns
            for peer in self._some(GOSSIP_FANOUT, ()):
                self._send(peer, dynamo_pb2.Gossip())
        if now_ns >= self._push_pull_due_ns:
            self._push_pull_due_ns = now_ns + self._config.push_pull_ns
            self.push_pull()

    def wake_at(self) -> int:
        """Return when ``tick`` has something to do."""
        due_ns, probe = min(self._probe_due_ns, self._push_pull_due_ns), self._probe
        if probe is not None and not probe.acked:
            due_ns = min(due_ns, probe.end_ns if probe.asked else probe.indirect_ns, probe.end_ns)
        if self._queue and self._config.gossip_ns and self._gossip_due_ns < due_ns:
            due_ns = self._gossip_due_ns
        for relay in self._relays.values():
            due_ns = min(due_ns, relay.nack_ns)
        for peer in self._suspects:
            due_ns = min(due_ns, self._deadline_ns(self._members[peer]))
        return due_ns

    def push_pull(self) -> None:
        """Exchange everything with one random peer, and perhaps with a dead one.

        Without the latter two halves of a cluster that have buried each other would never meet
        again (Cassandra gossips to an unreachable node with the same probability).
        """
        alive = self._some(1, ())
        dead = self.dead()
        if dead and self._rng.random() < len(dead) / (len(self._members) - len(dead) + 1):
            alive.append(self._rng.choice(dead))
        for peer in alive:
            self.sends.append((peer, dynamo_pb2.Gossip(push=True, updates=self._everything())))

    def greet(self) -> None:
        """Tell everybody that this node is here: it has just come. Of very many, tell some."""
        peers = list(self._members)
        if len(peers) > GREET_ALL_MAX:
            peers = self._rng.sample(peers, GREET_SOME)
        updates = self._everything()
        self.sends += [(peer, dynamo_pb2.Gossip(push=True, updates=updates)) for peer in peers]

    def _patience(self, duration_ns: int) -> int:
        # Lifeguard §IV-A: whoever is slow itself must not judge others fast.
        return duration_ns * (1 + self.health)

    def _feel(self, points: int) -> None:
        self.health = min(self._config.health_max, max(0, self.health + points))

    def _was_paused(self, late_ns: int) -> None:
        # This node was stopped, and has heard nobody: nobody may die of that.
        self._probe = None
        self._feel(1)
        for peer in self._suspects:
            self._members[peer].since_ns += late_ns

    def _begin_probe(self, now_ns: int) -> None:
        target = self._next_target()
        if target is None:
            return
        self._numbers += 1
        timeout_ns = self._patience(self._config.probe_timeout_ns)
        self._probe = _Probe(target, self._numbers, now_ns + timeout_ns, self._probe_due_ns)
        self._send(target, dynamo_pb2.Gossip(ping=self._numbers))

    def _next_target(self) -> NodeId | None:
        for _ in range(2):
            while self._order:
                target = self._order.pop()
                if self._members[target].state != DEAD:
                    return target
            self._order = [peer for peer in self._members if self._members[peer].state != DEAD]
            self._rng.shuffle(self._order)
        return None

    def _end_probe(self, now_ns: int) -> None:
        probe = self._probe
        if probe is None or probe.acked:
            return
        if now_ns >= probe.end_ns:
            self._probe = None
            # Nobody who was asked has even said that it got no answer: it may be this node.
            missing = probe.asked - probe.nacks
            self._feel(missing if probe.asked else 1)
            member = self._members[probe.target]
            if member.state != DEAD:
                self._suspect(now_ns, probe.target, member.incarnation, self.name)
        elif now_ns >= probe.indirect_ns and not probe.asked:
            others = self._some(self._config.indirect_probes, (probe.target,))
            probe.asked = len(others)
            probe.indirect_ns = probe.end_ns
            for other in others:
                self._send(other, dynamo_pb2.Gossip(ping=probe.number, ping_target=probe.target))

    def _deadline_ns(self, member: _Member) -> int:
        # The one who began it is no confirmation.
        confirmations = len(member.suspecters) - 1
        members = len(self._members) + 1
        return member.since_ns + suspicion_timeout_ns(self._config, members, confirmations)

    def _bury(self, now_ns: int) -> None:
        due = [peer for peer in self._suspects if now_ns >= self._deadline_ns(self._members[peer])]
        if len(due) > 1:
            due = [peer for peer in self._members if peer in due]
        for peer in due:
            self._die(now_ns, peer, self._members[peer].incarnation)

    # What arrives.

    def receive(self, now_ns: int, sender: NodeId, gossip: dynamo_pb2.Gossip) -> None:
        """Take a message of another node."""
        if sender not in self._members:
            return
        for update in gossip.updates:
            self._take(now_ns, update)
        if gossip.push:
            self.sends.append((sender, dynamo_pb2.Gossip(updates=self._everything())))
        if gossip.ping_target:
            self._probe_for(now_ns, sender, gossip)
        elif gossip.ping:
            self._send(sender, dynamo_pb2.Gossip(ack=gossip.ping))
        elif self._members[sender].state != ALIVE and not gossip.updates:
            self._send(sender, dynamo_pb2.Gossip())  # tells it that it is suspected
        if gossip.ack:
            self._acknowledged(sender, gossip.ack)
        if gossip.nack and self._probe is not None and gossip.nack == self._probe.number:
            self._probe.nacks += 1

    def _probe_for(self, now_ns: int, asker: NodeId, gossip: dynamo_pb2.Gossip) -> None:
        target = gossip.ping_target
        if target not in self._members:
            return
        self._numbers += 1
        nack_ns = now_ns + self._config.probe_timeout_ns * 4 // 5
        self._relays[self._numbers] = _Relay(asker, gossip.ping, target, nack_ns)
        self._send(target, dynamo_pb2.Gossip(ping=self._numbers))

    def _acknowledged(self, sender: NodeId, number: int) -> None:
        relay = self._relays.pop(number, None)
        if relay is not None:
            self._send(relay.asker, dynamo_pb2.Gossip(ack=relay.number))
        elif self._probe is not None and number == self._probe.number and not self._probe.acked:
            self._probe.acked = True
            self._feel(-1)

    def _take(self, now_ns: int, update: dynamo_pb2.MemberUpdate) -> None:
        """Believe an update if it is news (SWIM §4.2)."""
        if update.node == self.name:
            if update.state != ALIVE and update.incarnation >= self.incarnation:
                self._refute(update.incarnation)
            return
        member = self._members.get(update.node)
        if member is None:
            return
        match update.state:
            case dynamo_pb2.MEMBER_STATE_ALIVE if update.incarnation > member.incarnation:
                self._become(now_ns, update.node, ALIVE, update.incarnation, "")
            case dynamo_pb2.MEMBER_STATE_SUSPECT if update.incarnation >= member.incarnation:
                self._suspect(now_ns, update.node, update.incarnation, update.by)
            case dynamo_pb2.MEMBER_STATE_DEAD if (
                member.state != DEAD and update.incarnation >= member.incarnation
            ):
                self._die(now_ns, update.node, update.incarnation)

    def _suspect(self, now_ns: int, node: NodeId, incarnation: int, by: NodeId) -> None:
        member = self._members[node]
        if member.state == DEAD and incarnation <= member.incarnation:
            return
        if member.state == SUSPECT and incarnation == member.incarnation:
            # One who suspects it, too, shortens its time, and is passed on: but only so many.
            enough = self._config.suspicion_multiplier - 2
            if by in member.suspecters or len(member.suspecters) > enough:
                return
            member.suspecters[by] = None
            self._pass_on(node, SUSPECT, incarnation, by)
            return
        self._become(now_ns, node, SUSPECT, incarnation, by)

    def _die(self, now_ns: int, node: NodeId, incarnation: int) -> None:
        self._become(now_ns, node, DEAD, incarnation, "")

    def _become(
        self, now_ns: int, node: NodeId, state: State, incarnation: int, by: NodeId
    ) -> None:
        member = self._members[node]
        before, since_ns = member.state, member.since_ns
        member.incarnation = incarnation
        if state == ALIVE:
            self.lives.append((node, incarnation))
        self._pass_on(node, state, incarnation, by)
        member.suspecters = {by: None} if state == SUSPECT else {}
        if state == before == ALIVE:
            return  # another incarnation, and nothing else
        for peers, kind in ((self._suspects, SUSPECT), (self._dead, DEAD)):
            if state == kind:
                peers[node] = None
            else:
                peers.pop(node, None)
        member.state, member.since_ns = state, now_ns
        self.transitions.append(Transition(node, state, before, incarnation, by, now_ns - since_ns))

    def _refute(self, incarnation: int) -> None:
        self.incarnation = incarnation + 1
        self._feel(1)  # Lifeguard §IV-A: others do not hear this node in time
        self.lives.append((self.name, self.incarnation))
        self._pass_on(self.name, ALIVE, self.incarnation, "")

    # What leaves.

    def _pass_on(self, node: NodeId, state: State, incarnation: int, by: NodeId) -> None:
        update = dynamo_pb2.MemberUpdate(node=node, state=state, incarnation=incarnation, by=by)
        self._queue[node] = update, retransmissions(len(self._members) + 1)

    def _send(self, peer: NodeId, message: dynamo_pb2.Gossip) -> None:
        """Send with as much gossip as fits, what was told least often first (SWIM §4.1)."""
        member = self._members.get(peer)
        if member is not None and member.state != ALIVE:
            # Lifeguard §IV-C: whoever is suspected hears it first, to refute it soon.
            by = next(iter(member.suspecters), "")
            message.updates.add(
                node=peer, state=member.state, incarnation=member.incarnation, by=by
            )
        fresh = sorted(self._queue, key=lambda node: -self._queue[node][1])
        for node in fresh[:UPDATES_PER_MESSAGE]:
            update, left = self._queue[node]
            message.updates.append(update)
            if left > 1:
                self._queue[node] = update, left - 1
            else:
                del self._queue[node]
        self.sends.append((peer, message))

    def _everything(self) -> list[dynamo_pb2.MemberUpdate]:
        own = dynamo_pb2.MemberUpdate(node=self.name, state=ALIVE, incarnation=self.incarnation)
        return [
            own,
            *(
                dynamo_pb2.MemberUpdate(
                    node=peer,
                    state=member.state,
                    incarnation=member.incarnation,
                    by=next(iter(member.suspecters), ""),
                )
                for peer, member in self._members.items()
            ),
        ]

    def _some(self, count: int, without: tuple[NodeId, ...]) -> list[NodeId]:
        there = [
            peer
            for peer, member in self._members.items()
            if member.state != DEAD and peer not in without
        ]
        return self._rng.sample(there, min(count, len(there)))
