"""The Raft core: what comes in, which role it concerns, and the changes of role (Raft figure 4).

                    times out                  would win               wins
    Follower ──────────────────▶ pre-candidate ────────▶ candidate ────────▶ leader
       ▲  ▲                         │    ▲                  │ │                │
       │  └──── would not win ──────┘    └──── times out ───┘ │                │
       └───── a higher term, or the leader of this term ──────┴────────────────┘
                                       (a leader also: no majority in an election timeout)

A role's own work is in its module: ``following``, ``election``, ``leading``.
"""

from collections.abc import Iterable
from random import Random
from typing import ClassVar

from google.protobuf.message import Message

from leader.raft import election, following
from leader.raft.compaction import Compaction
from leader.raft.deadlines import earliest
from leader.raft.election import Candidacy
from leader.raft.leading import Leader
from leader.raft.log import Term
from leader.raft.quorum import Tally
from leader.raft.replica import Replica
from leader.raft.settings import DefaultRead, RaftSettings
from leader.raft.status import contents_of, role_of, status_of
from leader.raft.waiting import Waiting
from leader.v1 import raft_pb2
from replication.errors import InvalidRequest, NotLeader, Overloaded
from replication.protocol import (
    Effect,
    Instant,
    Membership,
    NodeId,
    Request,
    RequestId,
    Saved,
)
from replication.v1 import control_pb2, event_pb2, storage_pb2


class RaftCore:
    """One node of a Raft cluster; implements ``replication.protocol.Core``."""

    leader_type: ClassVar[type[Leader]] = Leader

    def __init__(self, membership: Membership, settings: RaftSettings, rng: Random) -> None:
        self.replica = Replica(membership, settings)
        self._compaction = Compaction(self.replica)
        self.waiting = Waiting(self.replica, rng)
        self._settings = settings
        self._rng = rng
        self._now_ns = 0
        # At most one of the two is set; with neither the node is a follower.
        self.leader: Leader | None = None
        self.candidacy: Candidacy | None = None
        self._known_leader: NodeId = ""
        self._leader_heard_ns: int | None = None  # last word of a leader: others get no vote then
        self._last_contact_ns = 0  # last word of any leader, or the start of the node
        self._election_due_ns = 0
        self._peer_heard_ns: dict[NodeId, int] = {}
        self._told: event_pb2.RoleChanged | None = None

    # The seam.

    def start(self, now: Instant, saved: Saved) -> list[Effect]:
        """See ``Core``. Raises CorruptStore when the saved state contradicts itself."""
        self._begin(now)
        self.replica.load(saved)
        self._last_contact_ns = self._now_ns
        self._restart_election_timer()
        if self.replica.term > 0:
            # What was promised to a leader before the restart is not known any more (§6.4.1).
            self._leader_heard_ns = self._now_ns
        else:
            # No leader can be disturbed that this node has ever heard of: a new cluster need not
            # wait as long as one whose leader fell silent. Spread all the same (Raft §5.2), and
            # whoever is to lead comes first.
            spread_ns = self._settings.election_timeout_min_ns - self._settings.heartbeat_ns
            later_ns = spread_ns * self._settings.rank(self.replica.node)
            wait_ns = self._settings.heartbeat_ns + later_ns + self._rng.randrange(spread_ns)
            self._election_due_ns = self._now_ns + wait_ns
        self._tell_role()
        return self.replica.take_effects()

    def receive(self, now: Instant, sender: NodeId, message: Message) -> list[Effect]:
        """See ``Core``. Also from nodes that are not known here as members: they may be, by now."""
        assert isinstance(message, raft_pb2.RaftMessage), "the host delivers the backend's messages"
        if now is not self.replica.now:  # one instant serves for all inputs of a turn
            self._begin(now)
        if sender != self.replica.node:
            self._peer_heard_ns[sender] = self._now_ns
            self._receive(sender, message)
        return self.replica.take_effects()

    def submit(self, now: Instant, request_id: RequestId, request: Request) -> list[Effect]:
        """See ``Core``."""
        self._begin(now)
        body = request.body
        if isinstance(body, control_pb2.CommandRequest):
            if not self.waiting.takes(request_id, body, request.deadline_ns):
                leader = self._leader_for(request_id, request.deadline_ns)
                if leader is not None:
                    leader.submit_command(request_id, body, request.deadline_ns)
        elif isinstance(body, storage_pb2.GetRequest):
            self._submit_read(request_id, body, request.deadline_ns)
        elif body.consistency == storage_pb2.CONSISTENCY_LOCAL:
            refusal = InvalidRequest("LOCAL is a level of reads; every write is linearizable")
            self.replica.reply(request_id, refusal)
        else:
            leader = self._leader_for(request_id, request.deadline_ns)
            if leader is not None:
                leader.submit_write(request_id, body, request.deadline_ns)
        return self.replica.take_effects()

    def wake(self, now: Instant) -> list[Effect]:
        """See ``Core``."""
        self._begin(now)
        if self.leader is not None:
            self.leader.expire(self._now_ns)
            self._check_quorum()
        elif self._now_ns >= self._election_due_ns and self.replica.may_campaign:
            self._campaign(pre_vote=self._settings.pre_vote)
        elif self.candidacy is not None and self._now_ns >= self.candidacy.repeat_due_ns:
            self.candidacy.request(self._now_ns)
        self.waiting.expire()
        return self.replica.take_effects()

    def wake_at(self) -> int | None:
        """See ``Core``."""
        waiting_ns = self.waiting.due_ns(bool(self._known_leader))
        compaction_ns = self._compaction.due_ns
        if self.leader is not None:
            return earliest(waiting_ns, compaction_ns, self.leader.due_ns())
        if self.candidacy is not None:
            repeat_ns = self.candidacy.repeat_due_ns
            return earliest(waiting_ns, compaction_ns, self._election_due_ns, repeat_ns)
        election_ns = self._election_due_ns if self.replica.may_campaign else None
        return earliest(waiting_ns, compaction_ns, election_ns)

    def flush(self, now: Instant) -> list[Effect]:
        """See ``Core``. Everything that a leader sends leaves from here."""
        if now is not self.replica.now:
            self._begin(now)
        if self.leader is not None:
            self.leader.flush(self._now_ns)
            self._compaction.tend(self._now_ns, self.leader.followers.values())
            if self.leader.leave_if_removed():
                self._become_follower(self.replica.term, "")
        else:
            self._compaction.tend(self._now_ns, ())
        self.waiting.tend(self._known_leader)
        return self.replica.take_effects()

    def status(self) -> control_pb2.NodeStatus:
        """See ``Core``."""
        return status_of(
            self.replica, self._known_leader, self.leader, self.candidacy, self._peer_heard_ns
        )

    def contents(self) -> Iterable[control_pb2.KeyContents]:
        """See ``Core``: what this node has applied."""
        return contents_of(self.replica)

    def _begin(self, now: Instant) -> None:
        self.replica.now = now
        self._now_ns = self.replica.now_ns = now.monotonic_ns

    # Requests.

    def _submit_read(
        self, request_id: RequestId, body: storage_pb2.GetRequest, deadline_ns: int
    ) -> None:
        local = body.consistency == storage_pb2.CONSISTENCY_LOCAL or (
            body.consistency == storage_pb2.CONSISTENCY_UNSPECIFIED
            and self._settings.default_read is DefaultRead.LOCAL
        )
        if local:
            self.replica.reply(request_id, self.replica.read(body.key))
            return
        lease = body.consistency == storage_pb2.CONSISTENCY_LEASE or (
            body.consistency == storage_pb2.CONSISTENCY_UNSPECIFIED
            and self._settings.default_read is DefaultRead.LEASE
        )
        known = self._known_leader not in ("", self.replica.node)
        if self._settings.follower_reads and known and not lease and deadline_ns > self._now_ns:
            self.waiting.reads.add(request_id, body.key, deadline_ns)
            return
        leader = self._leader_for(request_id, deadline_ns)
        if leader is not None and lease:
            leader.submit_lease_read(request_id, body.key, deadline_ns)
        elif leader is not None:
            leader.submit_read(request_id, body.key, deadline_ns)

    def _leader_for(self, request_id: RequestId, deadline_ns: int) -> Leader | None:
        """Return the leadership of this node; without it the request is refused here."""
        if self.leader is not None:
            # A leader that was paused may learn of it from its clock before it hears from others:
            # what it refuses now did certainly not happen.
            self._check_quorum()
        if self.leader is None:
            self.replica.counters.redirects += 1
            error = NotLeader(self._known_leader, self.replica.term)
            self.replica.reply(request_id, error)
        elif deadline_ns <= self._now_ns:
            late = Overloaded("the deadline passed before the node came to the request")
            self.replica.reply(request_id, late)
        else:
            return self.leader
        return None

    # Messages.

    def _receive(self, sender: NodeId, message: raft_pb2.RaftMessage) -> None:
        kind = message.WhichOneof("kind")
        if kind == "request_vote":
            self._on_request_vote(sender, message.term, message.request_vote)
            return
        leads = kind in ("append_entries", "install_snapshot")  # only a leader sends these
        if message.term > self.replica.term:
            self._become_follower(message.term, sender if leads else "")
        elif message.term < self.replica.term:
            if leads:
                following.refuse(self.replica, sender)
            return
        match kind:
            case "append_entries":
                self._on_append_entries(sender, message.append_entries)
            case "install_snapshot":
                self._hear_leader(sender)
                following.install(self.replica, sender, message.install_snapshot)
            case "install_snapshot_result":
                if self.leader is not None:
                    self.leader.took_chunk(self._now_ns, sender, message.install_snapshot_result)
            case "append_entries_result":
                if self.leader is not None:
                    self.leader.answered(self._now_ns, sender, message.append_entries_result)
            case "timeout_now":
                self._on_timeout_now(sender)
            case "read_index":
                if self.leader is not None:
                    self.leader.submit_question(sender, message.read_index.number)
            case "read_index_result":
                result = message.read_index_result
                self.waiting.reads.answered(result.number, result.index)
            case "request_vote_result":
                if self.candidacy is not None:
                    self.candidacy.answered(sender, message.request_vote_result)
                    self._count_votes()

    def _on_append_entries(self, sender: NodeId, append: raft_pb2.AppendEntries) -> None:
        self._hear_leader(sender)
        following.follow(self.replica, sender, append)

    def _hear_leader(self, sender: NodeId) -> None:
        assert self.leader is None, "a term has one leader at most (Raft §5.2)"
        assert self._known_leader in ("", sender), "a term has one leader at most (Raft §5.2)"
        self._leader_heard_ns = self._last_contact_ns = self._now_ns
        if self._known_leader != sender or self.candidacy is not None:
            self._become_follower(self.replica.term, sender)
        self._election_due_ns = self._now_ns + self._election_timeout_ns

    def _on_request_vote(
        self, candidate: NodeId, sender_term: Term, request: raft_pb2.RequestVote
    ) -> None:
        replica = self.replica
        heeds = request.pre_vote or self._settings.check_quorum
        if heeds and not request.transfer and self._hears_leader():
            # Dissertation §4.2.3: who cannot hear the leader must not depose it for those who can.
            # The term is not taken over either. A pre-candidate is told, so that it gives up.
            if request.pre_vote:
                election.cast(replica, candidate, request, granted=False)
            return
        vote = ""
        if sender_term > replica.term:
            # One write for both: the new term and the vote in it.
            if not request.pre_vote and replica.log.is_up_to_date(
                request.last_log_index, request.last_log_term
            ):
                vote = candidate
            self._become_follower(sender_term, "", vote)
        if request.campaign_term < replica.term:
            granted = False
        elif request.pre_vote:
            granted = request.campaign_term > replica.term and election.may_vote(
                replica, candidate, request
            )
        else:
            granted = election.may_vote(replica, candidate, request)
            if granted:
                self._vote_for(candidate)
        election.cast(replica, candidate, request, granted)

    def _on_timeout_now(self, sender: NodeId) -> None:
        """The leader wants this node to lead (§3.10): no pre-vote, and promises do not count."""
        if sender == self._known_leader and self.replica.may_campaign:
            self._campaign(pre_vote=False, transfer=True)

    def _vote_for(self, candidate: NodeId) -> None:
        assert self.leader is None, "a leader has voted for itself"
        if not self.replica.vote:
            self.replica.set_term(self.replica.term, candidate)
        if self.candidacy is not None:
            self._become_follower(self.replica.term, "")
        # Raft §5.2: only a granted vote postpones the own candidacy, a request does not.
        self._restart_election_timer()

    def _hears_leader(self) -> bool:
        """Return whether this node leads, or heard from its leader within an election timeout."""
        if self.leader is not None:
            return self.leader.has_quorum(self._now_ns)
        heard_ns = self._leader_heard_ns
        return (
            heard_ns is not None
            and self._now_ns - heard_ns < self._settings.election_timeout_min_ns
        )

    # Changes of role.

    def _become_follower(self, term: Term, leader: NodeId, vote: NodeId = "") -> None:
        replica = self.replica
        if self.leader is not None:
            self.leader.step_down(leader, term)
            transfer = self.leader.steering.step_down()
            if transfer is not None:
                self.waiting.await_successor(transfer)
            self._last_contact_ns = self._now_ns  # with itself
        if self.leader is not None or self.candidacy is not None:
            self.leader = self.candidacy = None
            self._restart_election_timer()
        if term > replica.term:
            replica.set_term(term, vote)
        if leader != self._known_leader:
            self._known_leader = leader
            if leader:
                self._leader_heard_ns = self._now_ns
                self.waiting.leader_known(leader)
        self._tell_role()

    def _campaign(self, pre_vote: bool, transfer: bool = False) -> None:
        replica = self.replica
        if not pre_vote:
            replica.set_term(replica.term + 1, replica.node)
            replica.counters.elections += 1
        else:
            replica.counters.pre_votes += 1
        self._known_leader = ""
        self.waiting.redirect_reads("")
        self.candidacy = Candidacy(replica, pre_vote, self._now_ns, transfer)
        self._restart_election_timer()
        started = event_pb2.ElectionStarted(
            term=self.candidacy.campaign_term,
            pre_vote=pre_vote,
            silence_ns=self._now_ns - self._last_contact_ns,
        )
        replica.observe(event_pb2.Event(election_started=started))
        self._tell_role()
        self.candidacy.request(self._now_ns)
        self._count_votes()

    def _count_votes(self) -> None:
        candidacy = self.candidacy
        assert candidacy is not None, "only a candidate counts votes"
        match candidacy.tally():
            case Tally.WON if candidacy.pre_vote:
                self._campaign(pre_vote=False)
            case Tally.WON:
                self._become_leader()
            case Tally.LOST:
                self._become_follower(self.replica.term, "")

    def _become_leader(self) -> None:
        self.candidacy = None
        self.leader = self.leader_type(self.replica, self._now_ns)
        self._known_leader = self.replica.node
        self.waiting.leader_known(self.replica.node)
        self._tell_role()

    def _check_quorum(self) -> None:
        assert self.leader is not None, "only a leader counts on followers"
        if not self.leader.has_quorum(self._now_ns):
            self._become_follower(self.replica.term, "")

    def _restart_election_timer(self) -> None:
        low_ns = self._settings.election_timeout_min_ns
        spread_ns = self._settings.election_timeout_max_ns - low_ns
        later_ns = spread_ns * self._settings.rank(self.replica.node)
        self._election_timeout_ns = later_ns + low_ns + self._rng.randrange(spread_ns)
        self._election_due_ns = self._now_ns + self._election_timeout_ns

    def _tell_role(self) -> None:
        """Observe the role if it, the term or the known leader is another than last told."""
        role = role_of(self.replica, self.leader, self.candidacy)
        state = event_pb2.RoleChanged(role=role, term=self.replica.term, leader=self._known_leader)
        if state != self._told:
            self._told = state
            self.replica.observe(event_pb2.Event(role_changed=state))


def create(membership: Membership, settings: RaftSettings, rng: Random) -> RaftCore:
    """Make a node of a cluster; see ``Backend.create``."""
    return RaftCore(membership, settings, rng)
