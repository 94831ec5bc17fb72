"""The core: what comes in, which role it concerns, and the changes of role.

                    promoted by a monitor with a majority of votes
        standby ──────────────────────────────────────────────────▶ primary
           ▲          (with fencing it serves once a majority has         │
           │           answered it: until then it is told as candidate)   │
           └──────────────────────────────────────────────────────────────┘
              hears of a newer epoch; with fencing also: no majority in a lease

Every node also is a monitor (``monitor``). Roles: ``primary``, ``following``.
"""

from collections.abc import Iterable
from random import Random

from google.protobuf.message import Message

from leader.primary_backup import following
from leader.primary_backup.following import Incoming
from leader.primary_backup.monitor import Monitor
from leader.primary_backup.primary import Primary
from leader.primary_backup.replica import Replica
from leader.primary_backup.settings import DefaultRead, PrimaryBackupSettings
from leader.v1 import primary_backup_pb2
from replication.errors import InvalidRequest, NotLeader, Overloaded
from replication.protocol import Effect, Instant, Membership, NodeId, Request, RequestId, Saved
from replication.v1 import control_pb2, event_pb2, storage_pb2


class PrimaryBackupCore:
    """One node of a primary-backup cluster; implements ``replication.protocol.Core``."""

    def __init__(
        self, membership: Membership, settings: PrimaryBackupSettings, rng: Random
    ) -> None:
        self.replica = Replica(membership, settings)
        self.monitor = Monitor(self.replica, rng)
        self.primary: Primary | None = None
        self._incoming: Incoming | None = None
        self._settings = settings
        self._now_ns = 0
        self._peer_heard_ns: dict[NodeId, int] = {}
        self._told: tuple[event_pb2.Role.ValueType, int, NodeId] | None = None

    # The seam.

    def start(self, now: Instant, saved: Saved) -> list[Effect]:
        """See ``Core``. Who was the primary before is a standby until it is promoted again."""
        self._now_ns = now.monotonic_ns
        self.replica.load(saved)
        self.monitor.start(self._now_ns)
        return self._end()

    def receive(self, now: Instant, sender: NodeId, message: Message) -> list[Effect]:
        """See ``Core``. What comes from a stranger is ignored."""
        assert isinstance(message, primary_backup_pb2.PrimaryBackupMessage), "of this backend"
        self._now_ns = now.monotonic_ns
        if sender in self.replica.peers:
            self._peer_heard_ns[sender] = self._now_ns
            self._check_lease()
            if message.epoch > self.replica.state.config_epoch:
                self._adopt(message.epoch, message.primary)
            self._receive(sender, message)
        return self._end()

    def submit(self, now: Instant, request_id: RequestId, request: Request) -> list[Effect]:
        """See ``Core``."""
        self._now_ns = now.monotonic_ns
        body = request.body
        if isinstance(body, control_pb2.CommandRequest):
            refusal = InvalidRequest("primary-backup has fixed members and fails over by itself")
            self.replica.reply(request_id, refusal)
        elif isinstance(body, storage_pb2.GetRequest):
            self._submit_read(request_id, body, request.deadline_ns)
        elif body.consistency != storage_pb2.CONSISTENCY_UNSPECIFIED:
            level = storage_pb2.Consistency.Name(body.consistency)
            refusal = InvalidRequest(f"{level} is a level of reads; the mode is that of all writes")
            self.replica.reply(request_id, refusal)
        else:
            primary = self._primary_for(request_id, request.deadline_ns)
            if primary is not None:
                primary.submit_write(self._now_ns, request_id, body, request.deadline_ns)
        return self._end()

    def wake(self, now: Instant) -> list[Effect]:
        """See ``Core``."""
        self._now_ns = now.monotonic_ns
        self._check_lease()
        if self.primary is not None:
            self.primary.expire(self._now_ns)
        else:
            self.monitor.wake(self._now_ns)
            self._take_over_if_decided()
        return self._end()

    def wake_at(self) -> int | None:
        """See ``Core``."""
        return self.monitor.wake_at() if self.primary is None else self.primary.due_ns()

    def flush(self, now: Instant) -> list[Effect]:
        """See ``Core``. Everything that a primary sends leaves from here."""
        self._now_ns = now.monotonic_ns
        if self.primary is not None:
            self.primary.flush(self._now_ns)
        return self._end()

    def status(self) -> control_pb2.NodeStatus:
        """See ``Core``. ``alive``: heard from within the detection timeout of the last input."""
        replica = self.replica
        last_index = replica.log.last_index
        peers = []
        for peer in replica.peers:
            heard_ns = self._peer_heard_ns.get(peer)
            status = control_pb2.PeerStatus(node=peer)
            status.alive = (
                heard_ns is not None
                and self._now_ns - heard_ns < self._settings.detection_timeout_ns
            )
            if self.primary is not None:
                standby = self.primary.standbys[peer]
                status.match_index = standby.match_index
                status.next_index = standby.next_index
                status.lag_entries = last_index - standby.match_index
                status.lag_ns = standby.lag_ns(self._now_ns, last_index)
            peers.append(status)
        return control_pb2.NodeStatus(
            node=replica.node,
            backend="primary_backup",
            role=self._role(),
            serving=bool(self._known_primary()),
            term=replica.state.config_epoch,
            leader=self._known_primary(),
            last_index=last_index,
            commit_index=replica.commit_index,
            applied_index=replica.database.applied_index,
            peers=peers,
            keys=len(replica.database),
            counters=replica.counters.as_dict(),
        )

    def contents(self) -> Iterable[control_pb2.KeyContents]:
        """See ``Core``: what this node has applied."""
        for key, version in self.replica.database.items():
            bare = storage_pb2.Version(tombstone=version.tombstone, write_id=version.write_id)
            yield control_pb2.KeyContents(key=key, owners=self.replica.members, versions=[bare])

    # Requests.

    def _submit_read(
        self, request_id: RequestId, body: storage_pb2.GetRequest, deadline_ns: int
    ) -> None:
        level = body.consistency
        if level == storage_pb2.CONSISTENCY_UNSPECIFIED and (
            self._settings.default_read is DefaultRead.LOCAL
        ):
            level = storage_pb2.CONSISTENCY_LOCAL
        if level == storage_pb2.CONSISTENCY_LOCAL:
            self.replica.reply(request_id, self.replica.read(body.key))
        elif level == storage_pb2.CONSISTENCY_LEASE and not self._settings.fencing:
            self.replica.reply(request_id, InvalidRequest("without fencing there is no lease"))
        else:
            primary = self._primary_for(request_id, deadline_ns)
            if primary is not None:
                primary.submit_read(request_id, body.key, deadline_ns)

    def _primary_for(self, request_id: RequestId, deadline_ns: int) -> Primary | None:
        """Return this node's service as the primary; without it the request is refused here."""
        # A primary that was paused learns from its clock that it may have been replaced.
        self._check_lease()
        if self.primary is None or not self.primary.confirmed:
            self.replica.counters.redirects += 1
            error = NotLeader(self._known_primary(), self.replica.state.config_epoch)
            self.replica.reply(request_id, error)
        elif deadline_ns <= self._now_ns:
            late = Overloaded("the deadline passed before the node came to the request")
            self.replica.reply(request_id, late)
        else:
            return self.primary
        return None

    # Messages.

    def _receive(self, sender: NodeId, message: primary_backup_pb2.PrimaryBackupMessage) -> None:
        monitor, now_ns = self.monitor, self._now_ns
        kind = message.WhichOneof("kind")
        match kind:
            case "replicate" | "resync_chunk":
                if self._follows(sender, message.epoch):
                    monitor.heard(now_ns)
                    self._follow(sender, message)
            case "replicated" | "resync_taken" if self._is_mine(message.epoch):
                assert self.primary is not None, "it is mine"
                if kind == "replicated":
                    self.primary.answered(now_ns, sender, message.replicated)
                else:
                    self.primary.resync_taken(now_ns, sender, message.resync_taken)
                self.primary.confirm(now_ns)
            case "superseded":
                monitor.promised_elsewhere(message.superseded.promised_epoch)
                if self.primary and message.superseded.promised_epoch > self.primary.epoch:
                    self._demote()
            case "ask_down":
                answer = self.replica.message()
                answer.down_opinion.down = self.primary is None and monitor.down(now_ns)
                self.replica.send(sender, answer)
            case "down_opinion" if self.primary is None:
                monitor.opinion(now_ns, sender, message.down_opinion.down)
            case "ask_failover":
                serves = self.primary is not None
                monitor.vote(now_ns, sender, message.ask_failover.new_epoch, serves)
            case "failover_vote" if self.primary is None:
                vote = message.failover_vote
                monitor.promised_elsewhere(vote.promised_epoch)
                position = (vote.last_epoch, vote.last_index) if vote.granted else None
                monitor.voted(now_ns, sender, vote.new_epoch, position)
            case "promote":
                self._on_promote(sender, message.promote.new_epoch)
        self._take_over_if_decided()

    def _is_mine(self, epoch: int) -> bool:
        return self.primary is not None and self.primary.epoch == epoch

    def _follows(self, sender: NodeId, epoch: int) -> bool:
        """Return whether this node takes what ``sender`` replicates as the primary of ``epoch``.

        With fencing: not if it has promised itself to a newer epoch, even if it does not know its
        primary yet. Whoever is refused is told.
        """
        state = self.replica.state
        if self._settings.fencing and epoch < state.epoch:
            self.replica.counters.fenced += 1
            refusal = self.replica.message()
            refusal.superseded.promised_epoch = state.epoch
            self.replica.send(sender, refusal)
            return False
        if (epoch, sender) != (state.config_epoch, state.primary):
            # An old primary that fencing does not stop: it learns of its successor by this.
            news = self.replica.message()
            news.down_opinion.down = self.primary is None and self.monitor.down(self._now_ns)
            self.replica.send(sender, news)
            return False
        return True

    def _follow(self, sender: NodeId, message: primary_backup_pb2.PrimaryBackupMessage) -> None:
        assert self.primary is None, "an epoch has one primary"
        if message.WhichOneof("kind") == "replicate":
            following.follow(self.replica, sender, message.replicate)
            return
        chunk = message.resync_chunk
        incoming = self._incoming
        key = (sender, message.epoch, chunk.transfer)
        if incoming is None or (incoming.primary, incoming.epoch, incoming.transfer) != key:
            incoming = self._incoming = Incoming(*key)
        incoming.take(self.replica, chunk)
        if chunk.number < incoming.next_number:
            answer = self.replica.message()
            answer.resync_taken.transfer = chunk.transfer
            answer.resync_taken.number = chunk.number
            self.replica.send(sender, answer)

    # Changes of role.

    def _on_promote(self, sender: NodeId, epoch: int) -> None:
        state = self.replica.state
        if epoch == state.epoch and sender == state.voted_for and epoch > state.config_epoch:
            self._become_primary(epoch)

    def _take_over_if_decided(self) -> None:
        """Become the primary if this node's monitor has chosen its own replica."""
        failover = self.monitor.failover
        if (
            self.primary is None
            and failover is not None
            and failover.target == self.replica.node
            and failover.epoch == self.replica.state.epoch > self.replica.state.config_epoch
        ):
            self._become_primary(failover.epoch)

    def _become_primary(self, epoch: int) -> None:
        replica = self.replica
        assert self.primary is None, "a primary gives no vote, so it is not promoted"
        replica.counters.promotions += 1
        replica.save_state(config_epoch=epoch, primary=replica.node)
        self.monitor.failover = None
        self._incoming = None
        self.primary = Primary(replica, self._now_ns)

    def _adopt(self, epoch: int, primary: NodeId) -> None:
        """Go by a newer configuration that somebody told of."""
        replica = self.replica
        if self.primary is not None:
            self.primary.step_down(primary, epoch)
            self.primary = None
        changes: dict[str, str | int] = {"config_epoch": epoch, "primary": primary}
        if epoch >= replica.state.epoch:
            # Whom it voted for in this epoch no longer matters: nobody else gets a vote in it.
            changes |= {"epoch": epoch, "voted_for": replica.state.voted_for or primary}
            if epoch > replica.state.epoch:
                changes["voted_for"] = primary
        replica.save_state(**changes)
        self.monitor.suspects = False
        self.monitor.heard(self._now_ns)

    def _demote(self) -> None:
        assert self.primary is not None, "only a primary is demoted"
        self.primary.step_down("", self.primary.epoch)
        self.primary = None
        self.monitor.abdicated(self._now_ns)

    def _check_lease(self) -> None:
        if self.primary is not None and not self.primary.holds_lease(self._now_ns):
            self._demote()

    # What is told.

    def _known_primary(self) -> NodeId:
        if self.primary is not None:
            return self.replica.node if self.primary.confirmed else ""
        state = self.replica.state
        hidden = self.monitor.suspects or state.primary == self.replica.node
        return "" if hidden else state.primary

    def _role(self) -> event_pb2.Role.ValueType:
        if self.primary is not None and self.primary.confirmed:
            return event_pb2.ROLE_LEADER
        if self.primary is not None or self.monitor.failover is not None:
            return event_pb2.ROLE_CANDIDATE
        return event_pb2.ROLE_FOLLOWER

    def _end(self) -> list[Effect]:
        """Observe the role if it, the epoch or the known primary changed; hand out the effects."""
        told = (self._role(), self.replica.state.config_epoch, self._known_primary())
        if told != self._told:
            self._told = told
            role, term, leader = told
            changed = event_pb2.RoleChanged(role=role, term=term, leader=leader)
            self.replica.observe(event_pb2.Event(role_changed=changed))
        return self.replica.take_effects()


def create(
    membership: Membership, settings: PrimaryBackupSettings, rng: Random
) -> PrimaryBackupCore:
    """Make a node of a cluster; see ``Backend.create``."""
    return PrimaryBackupCore(membership, settings, rng)
