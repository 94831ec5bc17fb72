"""What waits at a node whatever its role: reads at a follower, barriers, a handover."""

from dataclasses import dataclass
from random import Random

from leader.raft.deadlines import earliest
from leader.raft.log import Index
from leader.raft.reads import FollowerReads
from leader.raft.replica import Replica
from leader.raft.steering import Transfer
from leader.v1 import raft_pb2
from replication.errors import Indefinite, InvalidRequest, NotLeader, QuorumTimeout
from replication.protocol import NodeId, RequestId
from replication.v1 import control_pb2, storage_pb2


@dataclass(slots=True)
class _Barrier:
    request_id: RequestId
    index: Index
    deadline_ns: int


class Waiting:
    """Requests of one node that no leadership answers."""

    def __init__(self, replica: Replica, rng: Random) -> None:
        self._replica = replica
        self.reads = FollowerReads(rng)
        self._barriers: list[_Barrier] = []
        self._transfer: Transfer | None = None

    def takes(
        self, request_id: RequestId, request: control_pb2.CommandRequest, deadline_ns: int
    ) -> bool:
        """Take a command that is not for the leader: a barrier, or what Raft does not offer."""
        kind = request.WhichOneof("command")
        if kind == "barrier" and request.barrier.kind == control_pb2.BARRIER_CAUGHT_UP:
            self._barriers.append(_Barrier(request_id, request.barrier.index, deadline_ns))
        elif kind is None or kind == "barrier":
            text = "raft offers to hand over, to change members, and the barrier CAUGHT_UP"
            self._replica.reply(request_id, InvalidRequest(text))
        else:
            return False
        return True

    def await_successor(self, transfer: Transfer) -> None:
        """A leadership that was handed over has ended: answer when it is known who leads."""
        if transfer.request_id is not None:
            self._transfer = transfer

    def leader_known(self, leader: NodeId) -> None:
        """``leader`` leads the present term."""
        transfer, self._transfer = self._transfer, None
        if transfer is None or transfer.request_id is None:
            return
        if leader == transfer.to:
            self._done(transfer.request_id, f"{leader} leads term {self._replica.term}")
        else:
            words = f"{leader} leads term {self._replica.term} instead of {transfer.to}"
            self._replica.reply(transfer.request_id, Indefinite("TRANSFER_MISSED", words))

    def redirect_reads(self, leader: NodeId) -> None:
        """This node leads, or knows nobody to ask any more."""
        for request_id in self.reads.abandon():
            self._replica.counters.redirects += 1
            self._replica.reply(request_id, NotLeader(leader, self._replica.term))

    def tend(self, leader: NodeId) -> None:
        """Ask ``leader`` what is to be asked, and answer what can be. Called in every flush."""
        replica = self._replica
        applied_index = replica.machine.applied_index
        if self.reads.idle:
            pass
        elif leader and leader != replica.node:
            number = self.reads.ask(replica.now_ns, replica.settings.heartbeat_ns)
            if number is not None:
                question = raft_pb2.ReadIndex(number=number)
                replica.send(leader, raft_pb2.RaftMessage(term=replica.term, read_index=question))
        for request_id, key in self.reads.ready(applied_index):
            replica.counters.follower_reads += 1
            replica.reply(request_id, replica.read(key))
        if self._barriers:
            for barrier in [each for each in self._barriers if each.index <= applied_index]:
                self._barriers.remove(barrier)
                self._done(barrier.request_id, f"the log is applied up to {applied_index}")

    def expire(self) -> None:
        """Answer what has come to its deadline."""
        replica, now_ns = self._replica, self._replica.now_ns
        for request_id in self.reads.expire(now_ns):
            replica.reply(request_id, QuorumTimeout(0, 1))
        for barrier in [each for each in self._barriers if each.deadline_ns <= now_ns]:
            self._barriers.remove(barrier)
            words = f"applied {replica.machine.applied_index} of {barrier.index} entries in time"
            replica.reply(barrier.request_id, Indefinite("NOT_CAUGHT_UP", words))
        transfer = self._transfer
        if transfer is not None and transfer.request_id is not None and transfer.due_ns <= now_ns:
            self._transfer = None
            words = f"{transfer.to} did not take over within an election timeout"
            replica.reply(transfer.request_id, Indefinite("TRANSFER_TIMEOUT", words))

    def due_ns(self, leader_known: bool) -> int | None:
        """Return when ``expire`` or ``tend`` has something to do next."""
        due_ns = self.reads.due_ns(leader_known)
        if self._transfer is not None:
            due_ns = earliest(due_ns, self._transfer.due_ns)
        if self._barriers:
            due_ns = earliest(due_ns, *[each.deadline_ns for each in self._barriers])
        return due_ns

    def _done(self, request_id: RequestId, words: str) -> None:
        replica = self._replica
        served = storage_pb2.Served(
            node=replica.node, term=replica.term, log_index=replica.machine.applied_index
        )
        replica.reply(request_id, control_pb2.CommandResponse(served=served, words=words))
