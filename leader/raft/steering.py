"""What an operator asks of a leader: to hand over (dissertation §3.10), to change members (§4)."""

from collections.abc import Callable
from dataclasses import dataclass

from leader.raft.configuration import Configuration
from leader.raft.lease import Lease
from leader.raft.log import Index
from leader.raft.membership import Change, next_step, plan
from leader.raft.progress import Progress
from leader.raft.replica import Replica
from leader.v1 import raft_pb2
from replication.errors import Indefinite, InvalidRequest, LeadershipLost, Overloaded
from replication.protocol import NodeId, RequestId
from replication.v1 import control_pb2, event_pb2, storage_pb2


@dataclass(slots=True)
class Transfer:
    """A leadership that is being handed over; without a request if the leader leaves by itself."""

    to: NodeId
    request_id: RequestId | None
    due_ns: int  # given up then
    repeat_due_ns: int = 0


class Steering:
    """The command that one leader is carrying out. Wakes up with every heartbeat."""

    def __init__(
        self,
        replica: Replica,
        followers: dict[NodeId, Progress],
        lease: Lease,
        append: Callable[[Configuration], Index],
    ) -> None:
        self._replica = replica
        self._followers = followers
        self._lease = lease
        self._append = append
        self.transfer: Transfer | None = None
        self.change: Change | None = None
        self.left = False  # nobody is waited for any more

    def submit(
        self,
        request_id: RequestId,
        request: control_pb2.CommandRequest,
        deadline_ns: int,
        ready: bool,
    ) -> None:
        """Begin what was asked; ``ready``: an entry of this leader's term is committed."""
        kind = request.WhichOneof("command")
        if not ready or self.transfer is not None or self._changing:
            busy = Overloaded("the leader is new, hands over, or changes members: try again")
            self._replica.reply(request_id, busy)
        elif kind == "transfer_leadership":
            self._begin_transfer(request_id, request.transfer_leadership.to)
        else:
            assert kind in ("add_member", "remove_member", "replace_member"), "others are refused"
            change = plan(
                request_id, deadline_ns, getattr(request, kind), self._replica.configuration
            )
            if isinstance(change, InvalidRequest):
                self._replica.reply(request_id, change)
            else:
                self.change = change

    @property
    def _changing(self) -> bool:
        replica = self._replica
        return (
            self.change is not None
            or replica.configuration.is_joint
            or replica.configurations.latest_index > replica.commit_index
        )

    # Handing over.

    def _begin_transfer(self, request_id: RequestId | None, to: NodeId) -> None:
        replica = self._replica
        voters = [each for each in replica.configuration.voters if each != replica.node]
        if to == replica.node:
            assert request_id is not None, "a leader that leaves hands over to somebody else"
            self._done(request_id, f"{to} leads already")
            return
        if not to and voters:
            followers = [self._followers[each] for each in voters]
            to = max(followers, key=lambda each: (each.match_index, each.heard_ns)).node
        if to not in voters:
            if request_id is not None:
                words = f"{to!r} cannot lead; it would have to be one of {', '.join(voters)}"
                replica.reply(request_id, InvalidRequest(words))
            return
        # Raft gives up after an election timeout (§3.10): writes are not refused for longer.
        due_ns = replica.now_ns + replica.settings.election_timeout_max_ns
        self.transfer = Transfer(to, request_id, due_ns)
        replica.counters.transfers += 1
        self._tell_transfer(to, given_up=False)

    def leave(self) -> None:
        """This node is a voter no more: let somebody else lead, who knows all that it does."""
        if self.transfer is None and not self.left:
            self._begin_transfer(None, "")
            self.left = self.transfer is None
            if self.transfer is not None:
                self._tend_transfer(self.transfer)

    def _tell_transfer(self, to: NodeId, given_up: bool) -> None:
        event = event_pb2.LeadershipTransfer(to=to, term=self._replica.term, given_up=given_up)
        self._replica.observe(event_pb2.Event(leadership_transfer=event))

    def _tend_transfer(self, transfer: Transfer) -> None:
        replica, now_ns = self._replica, self._replica.now_ns
        if now_ns >= transfer.due_ns:
            self.transfer = None
            self.left = transfer.request_id is None
            self._tell_transfer(transfer.to, given_up=True)
            if transfer.request_id is not None:
                words = f"{transfer.to} did not take over within an election timeout"
                replica.reply(transfer.request_id, Indefinite("TRANSFER_TIMEOUT", words))
            return
        follower = self._followers.get(transfer.to)
        ready = follower is not None and follower.match_index >= replica.log.last_index
        if ready and now_ns >= transfer.repeat_due_ns:
            transfer.repeat_due_ns = now_ns + replica.settings.heartbeat_ns
            # From now on somebody may be elected although promises run.
            self._lease.forsake()
            message = raft_pb2.RaftMessage(term=replica.term, timeout_now=raft_pb2.TimeoutNow())
            replica.send(transfer.to, message)
            # Nobody tells a node that is no member whether that election was won.
            self.left = transfer.request_id is None

    # Changing members.

    def tend(self) -> None:
        """Take the next step, if it is time for one. Called in every flush."""
        if self.transfer is not None:
            self._tend_transfer(self.transfer)
        replica = self._replica
        configuration = replica.configuration
        committed = replica.configurations.latest_index <= replica.commit_index
        if not committed:
            pass
        elif configuration.is_joint:
            # Whoever began it (§4.3).
            self._append(Configuration(configuration.voters, (), configuration.learners))
        elif self.change is not None:
            self._tend_change(self.change, configuration)
        if self.change is not None and replica.now_ns >= self.change.deadline_ns:
            self._fail(self.change, "it goes on" if self._changing_in_log else "it was not begun")

    @property
    def _changing_in_log(self) -> bool:
        replica = self._replica
        return (
            replica.configuration.is_joint
            or replica.configurations.latest_index > replica.commit_index
        )

    def _tend_change(self, change: Change, now: Configuration) -> None:
        if now == change.target:
            self.change = None
            self._done(change.request_id, change.words)
            return
        replica = self._replica
        if change.joins in now.learners:
            follower = self._followers[change.joins]
            enough_ns = replica.settings.election_timeout_min_ns
            last_index = replica.log.last_index
            if not change.caught_up(follower.match_index, last_index, replica.now_ns, enough_ns):
                if change.hopeless:
                    self._fail(change, f"{change.joins} does not catch up and stays a learner")
                return
        self._append(next_step(change, now))

    def _fail(self, change: Change, words: str) -> None:
        self.change = None
        self._replica.reply(change.request_id, Indefinite("CHANGE_NOT_DONE", words))

    def _done(self, request_id: RequestId, words: str) -> None:
        replica = self._replica
        served = storage_pb2.Served(
            node=replica.node, term=replica.term, log_index=replica.commit_index
        )
        replica.reply(request_id, control_pb2.CommandResponse(served=served, words=words))

    def step_down(self) -> Transfer | None:
        """This node leads no more. Return the transfer whose outcome is not known yet."""
        if self.change is not None:
            self._replica.reply(self.change.request_id, LeadershipLost(self._replica.term))
            self.change = None
        return self.transfer
