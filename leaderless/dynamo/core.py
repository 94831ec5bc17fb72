"""One Dynamo-style node as a pure state machine: inputs are handed to its parts."""

from collections import Counter
from collections.abc import Iterable
from random import Random
from typing import assert_never

from google.protobuf.message import Message

from leaderless.dynamo.anti_entropy import AntiEntropy
from leaderless.dynamo.commands import Commands
from leaderless.dynamo.conditional import Proposers
from leaderless.dynamo.coordinator import Coordinator
from leaderless.dynamo.forwarder import Forwarder
from leaderless.dynamo.gossip import SwimDetector, make_detector
from leaderless.dynamo.hints import Handoff
from leaderless.dynamo.membership import Rings
from leaderless.dynamo.merkle import MerkleForest
from leaderless.dynamo.node import COUNTERS, Node
from leaderless.dynamo.outbox import Outbox
from leaderless.dynamo.paxos import Acceptors
from leaderless.dynamo.pending import PendingTable
from leaderless.dynamo.quorum import (
    PendingBarrier,
    PendingForward,
    PendingHedge,
    PendingHint,
    PendingPurge,
    PendingRead,
    PendingRepair,
    PendingWrite,
)
from leaderless.dynamo.reading import digest_of
from leaderless.dynamo.replica import STAND_IN_SPACE, Replica
from leaderless.dynamo.ring import claim, make_ring
from leaderless.dynamo.ring_changes import members_of
from leaderless.dynamo.settings import CompareAndSet, DynamoSettings
from leaderless.dynamo.tombstones import Tombstones
from leaderless.dynamo.versions import decode, versioning
from leaderless.v1 import dynamo_pb2
from replication.errors import ConfigError, Overloaded
from replication.protocol import (
    Effect,
    Instant,
    Membership,
    NodeId,
    Persist,
    Put,
    Request,
    RequestId,
    Saved,
    Write,
)
from replication.v1 import control_pb2, event_pb2

META = "meta"


class DynamoCore:
    """See the package for what a cluster of these guarantees."""

    def __init__(self, membership: Membership, settings: DynamoSettings, rng: Random) -> None:
        self._membership = membership
        self._settings = settings
        self._rng = rng

    def start(self, now: Instant, saved: Saved) -> list[Effect]:
        """Begin, or begin again, from what was durable.

        Raises ConfigError when the store is another node's, or holds another kind of versions.
        """
        actor, life, writes = self._identity(now, saved)
        name, settings = self._membership.node, self._settings
        rules = versioning(settings.versions)
        self._peers = [peer for peer in sorted(self._membership.members) if peer != name]
        outbox = Outbox(life)
        lives: dict[NodeId, int] = {}
        counters = Counter(dict.fromkeys(COUNTERS, 0))
        forest = MerkleForest(settings.partitions) if settings.anti_entropy_ns else None
        self._node = Node(
            name=name,
            actor=actor,
            settings=settings,
            ring=make_ring(self._membership.members, settings.partitions, settings.n),
            versioning=rules,
            replica=Replica(rules, forest=forest),
            stand_ins=Replica(rules, STAND_IN_SPACE),
            detector=make_detector(
                name, self._peers, settings, self._rng, now, outbox, lives, counters
            ),
            pending=PendingTable(life),
            outbox=outbox,
            life=life,
            peers=self._peers,
            lives=lives,
            counters=counters,
        )
        self._node.replica.load(saved)
        self._node.stand_ins.load(saved)
        self._handoff = Handoff(self._node, len(self._membership.members))
        self._handoff.load(saved)
        self._tombstones = Tombstones(self._node, self._handoff)
        self._tombstones.load(now)
        self._acceptors = Acceptors(self._node.replica.encoded, self._take_chosen)
        self._acceptors.load(saved)
        self._proposers = None
        if settings.compare_and_set is CompareAndSet.PAXOS:
            rng = Random(self._rng.getrandbits(64))
            self._proposers = Proposers(self._node, self._acceptors, rng)
        self._coordinator = Coordinator(self._node, self._handoff, self._proposers)
        self._forwarder = Forwarder(self._node, self._coordinator)
        self._anti_entropy = None
        if forest is not None:
            # The nodes do not all begin at once.
            late_ns = self._rng.randrange(settings.anti_entropy_ns)
            due_ns = now.monotonic_ns + late_ns
            self._anti_entropy = AntiEntropy(self._node, forest, due_ns)
        rng = Random(self._rng.getrandbits(64))
        self._rings = Rings(self._node, self._acceptors, rng, self._ring_changed)
        members = self._membership.members
        initial = dynamo_pb2.RingState(owners=claim(members, settings.partitions))
        self._rings.load(now, saved, initial)
        self._commands = Commands(self._node, self._handoff, self._rings, self._anti_entropy)
        role = event_pb2.RoleChanged(role=event_pb2.ROLE_REPLICA)
        self._node.observe(event_pb2.Event(role_changed=role))
        # Everything else this node does comes after, so the life is its own for ever before any
        # number of it leaves the node.
        return [Persist([*writes]), *self.wake(now)]

    def receive(self, now: Instant, sender: NodeId, message: Message) -> list[Effect]:
        """Take a message; its answers come with the next ``flush``."""
        assert isinstance(message, dynamo_pb2.DynamoMessage), "the host parses our message type"
        self._advance(now)
        same_life = self._node.lives.get(sender) == message.life
        if not same_life:
            # Lives have no order: a peer that lost its disk may begin anywhere. If this is a late
            # message of an earlier life, the next one sets it right. A peer that has just started
            # can forward nothing to this node before it has heard of it: let it.
            self._node.lives[sender] = message.life
            self._node.outbox.heartbeat(sender)
            self._forwarder.heard(now, sender)
        if message.epoch != self._node.outbox.epoch:
            self._rings.hear_epoch(sender, message.epoch)
        known = sender in self._node.peers
        if known and self._node.detector.heard(sender, now.monotonic_ns):
            trusted = event_pb2.PeerTrusted(peer=sender)
            self._node.observe(event_pb2.Event(peer_trusted=trusted))
            self._handoff.heard_again(now)
            if same_life and not isinstance(self._node.detector, SwimDetector):
                self._node.counters["false_suspicions"] += 1
        # Answers of who is behind still count; what it asks for, it asks by a ring that is over.
        node = self._node
        stale = message.epoch < node.outbox.epoch
        kind = message.WhichOneof("kind")
        if kind == "batch":
            if stale:
                node.counters["stale_rings_refused"] += 1
            else:
                self._serve(now, sender, message.batch)
            self._take_answers(now, sender, message.batch)
        elif kind == "movement":
            self._rings.receive(now, sender, message.movement)
        elif kind == "anti_entropy" and self._anti_entropy is not None:
            self._anti_entropy.receive(now, sender, message.anti_entropy)
        elif kind == "paxos" and self._proposers is not None:
            if not stale:  # else its proposer asks acceptors by a ring that is over
                self._proposers.receive(now, sender, message.paxos)
        elif kind == "gossip" and isinstance(self._node.detector, SwimDetector):
            self._node.detector.receive(now.monotonic_ns, sender, message.gossip)
        return []

    def submit(self, now: Instant, request_id: RequestId, request: Request) -> list[Effect]:
        """Take a client's operation; what it causes comes with the next ``flush``."""
        self._advance(now)
        body = request.body
        if isinstance(body, control_pb2.CommandRequest):
            self._commands.submit(now, request_id, body, request.deadline_ns)
        elif request.deadline_ns <= now.monotonic_ns:
            text = "the deadline passed before the operation was begun"
            self._coordinator.fail(request_id, Overloaded(text))
        else:
            replicas = self._node.ring.preference(body.key)
            deadline_ns = request.deadline_ns
            if self._node.name in replicas:
                self._coordinator.perform(now, request_id, body, deadline_ns)
            else:
                self._forwarder.forward(now, request_id, body, replicas, deadline_ns)
        return []

    def wake(self, now: Instant) -> list[Effect]:
        """Send what is due and give up what is overdue."""
        self._advance(now)
        for _, item in self._node.pending.expired(now.monotonic_ns):
            match item:
                case PendingRead() | PendingWrite():
                    self._coordinator.expire(now, item)
                case PendingForward():
                    self._forwarder.expire(item)
                case PendingRepair():
                    self._coordinator.reads.unconfirmed()
                case PendingHedge():
                    self._coordinator.reads.hedge(now, item)
                case PendingHint():
                    self._handoff.unconfirmed(now, item)
                case PendingPurge():
                    self._tombstones.unanswered(now, item)
                case PendingBarrier():
                    self._handoff.missed_barrier(item)
                case _:
                    assert_never(item)
        self._handoff.replay(now)
        self._rings.wake(now)
        if self._proposers is not None:
            self._proposers.wake(now)
        self._tombstones.wake(now)
        if self._node.detector.heartbeat_due(now.monotonic_ns):
            for peer in self._peers:
                self._node.outbox.heartbeat(peer)
        if self._anti_entropy is not None:
            self._anti_entropy.wake(now)
        return []

    def wake_at(self) -> int | None:
        """Return when the next heartbeat, suspicion, deadline or background work is due."""
        first_ns = self._node.detector.wake_at()
        if self._anti_entropy is not None:
            first_ns = min(first_ns, self._anti_entropy.wake_at())
        for due_ns in (
            self._node.pending.wake_at(),
            self._handoff.wake_at(),
            self._tombstones.wake_at(),
            self._rings.wake_at(),
            None if self._proposers is None else self._proposers.wake_at(),
        ):
            if due_ns is not None and due_ns < first_ns:
                first_ns = due_ns
        return first_ns

    def flush(self, now: Instant) -> list[Effect]:
        """Return what the inputs since the last call want done, in the order of ``Outbox``."""
        node = self._node
        writes: list[Write] = []
        # Most turns change nothing, or only what the replica holds.
        for part in (node.replica, node.stand_ins, self._handoff, self._rings, self._acceptors):
            if part.changed:
                writes += part.writes()
        return node.outbox.flush(writes)

    def status(self) -> control_pb2.NodeStatus:
        """Return what this node believes right now."""
        node = self._node
        suspected = frozenset(node.detector.suspected())
        return control_pb2.NodeStatus(
            node=node.name,
            backend="dynamo",
            role=event_pb2.ROLE_REPLICA,
            serving=node.name in members_of(self._rings.state),
            peers=[
                control_pb2.PeerStatus(node=peer, alive=peer not in suspected)
                for peer in self._peers
            ],
            keys=len(node.replica),
            counters=node.counters,
        )

    def contents(self) -> Iterable[control_pb2.KeyContents]:
        """Yield every key this node holds, versions without their values, in order of key.

        Then, again in order of key, what it keeps in the place of others.
        """
        node = self._node
        yield from node.replica.contents(node.ring, stand_in=False)
        yield from node.stand_ins.contents(node.ring, stand_in=True)

    def _identity(self, now: Instant, saved: Saved) -> tuple[str, int, list[Put]]:
        """Return the actor of this node's dots, the number of this life, and what to persist.

        Each life is an actor of its own. So a dot need not be durable before others hear of it: if
        it is forgotten with the write it names, nobody gives it away again, whatever the disk lost.
        Lives are counted on the disk; on a new one they begin anywhere. The wall clock goes into
        both, in case that the node is given the same random numbers each time.
        """
        name, kind = self._membership.node, str(self._settings.versions)
        incarnation = self._rng.getrandbits(48) ^ (now.wall_ns % 2**48)
        found = saved.get(META, b"life")
        if found is None:
            life = 1 + incarnation % 2**31
        else:
            life = int(found) + 1
            owner = (saved.get(META, b"node") or b"").decode()
            held_kind = (saved.get(META, b"versions") or b"").decode()
            if owner != name:
                raise ConfigError([f"the store belongs to {owner}, this node is {name}"])
            if held_kind != kind:
                raise ConfigError([f"the store holds versions = {held_kind!r}, not {kind!r}"])
        pairs = {b"node": name.encode(), b"life": b"%d" % life, b"versions": kind.encode()}
        writes = [Put(META, key, value) for key, value in pairs.items()]
        return f"{name}#{incarnation:012x}", life, writes

    def _ring_changed(self, now: Instant) -> None:
        self._handoff.let_go(now)
        self._coordinator.reissue(now)

    def _take_chosen(self, key: str, encoded: bytes) -> None:
        self._node.merge(key, decode(encoded), encoded)

    def _store(self, now: Instant, store: dynamo_pb2.Store) -> bool:
        """Take a write. Returns False when there is no room for what is another node's."""
        siblings = decode(store.siblings)
        if not store.hint_for:
            self._node.merge(store.key, siblings, store.siblings)
            return True
        return self._handoff.stand_in(now, store.hint_for, store.key, siblings, store.siblings)

    def _repair(self, now: Instant, repair: dynamo_pb2.Store) -> bool | None:
        """Take a repair. Returns whether anything was lacking, None if it is not taken."""
        siblings = decode(repair.siblings)
        if not repair.hint_for:
            return self._node.merge(repair.key, siblings, repair.siblings)[0]
        before = self._node.stand_ins.siblings(repair.key)
        if not self._store(now, repair):
            return None
        return self._node.stand_ins.siblings(repair.key) is not before

    def _stored(self, now: Instant, sender: NodeId, number: int) -> None:
        match self._node.pending.get(number):
            case PendingWrite() as write:
                self._coordinator.writes.stored(sender, number, write)
            case PendingHint() as hint:
                self._handoff.confirmed(now, sender, number, hint)

    def _advance(self, now: Instant) -> None:
        """Let the detector see the time before anything is decided."""
        for peer, silence_ns in self._node.detector.check(now.monotonic_ns):
            suspected = event_pb2.PeerSuspected(peer=peer, silence_ns=silence_ns)
            self._node.observe(event_pb2.Event(peer_suspected=suspected))

    def _serve(self, now: Instant, sender: NodeId, batch: dynamo_pb2.Batch) -> None:
        """Do as a replica what ``sender`` asks."""
        node = self._node
        # The order of the parts means nothing to the sender. Here writes go first, so that a read
        # that came with them sees them.
        for store in batch.stores:
            if self._store(now, store):
                node.outbox.batch(sender).stored.append(store.number)
        for load in batch.loads:
            held = node.encoded(load.key)
            if load.digest:
                node.outbox.batch(sender).loaded.add(number=load.number, digest=digest_of(held))
                continue
            node.outbox.batch(sender, len(held)).loaded.add(number=load.number, siblings=held)
        for repair in batch.repairs:
            changed = self._repair(now, repair)
            if changed is not None:
                node.outbox.batch(sender).repaired.add(number=repair.number, changed=changed)
        for question in batch.purges:
            self._tombstones.asked(now, sender, question)

    def _take_answers(self, now: Instant, sender: NodeId, batch: dynamo_pb2.Batch) -> None:
        """Take what ``sender`` answers, and the operations that it hands on."""
        node, reads = self._node, self._coordinator.reads
        for number in batch.stored:
            self._stored(now, sender, number)
        for loaded in batch.loaded:
            if loaded.digest:
                reads.digested(now, sender, loaded.number, loaded.digest)
            else:
                node.counters["read_bytes"] += len(loaded.siblings)
                reads.loaded(now, sender, loaded.number, loaded.siblings)
        for repaired in batch.repaired:
            reads.repaired(now, sender, repaired.number, repaired.changed)
        for answer in batch.purged:
            self._tombstones.answered(now, sender, answer)
        for forward in batch.forwards:
            self._forwarder.take(now, sender, forward)
        for forwarded in batch.forwarded:
            self._forwarder.relay(sender, forwarded)
