"""What an operator asks of a cluster."""

from leaderless.dynamo.anti_entropy import AntiEntropy
from leaderless.dynamo.hints import Handoff
from leaderless.dynamo.membership import Rings
from leaderless.dynamo.node import Node
from replication.errors import InvalidRequest, OperationError
from replication.protocol import Instant, RequestId
from replication.v1 import control_pb2


class Commands:
    """Takes the commands that this backend offers, and refuses the others."""

    def __init__(
        self, node: Node, handoff: Handoff, rings: Rings, anti_entropy: AntiEntropy | None
    ) -> None:
        self._node = node
        self._rings = rings
        self._handoff = handoff
        self._anti_entropy = anti_entropy

    def submit(
        self,
        now: Instant,
        request_id: RequestId,
        body: control_pb2.CommandRequest,
        deadline_ns: int,
    ) -> None:
        """Begin what is asked; it is answered when it is done."""
        try:
            match body.WhichOneof("command"):
                case "barrier":
                    self._await_barrier(now, request_id, body.barrier, deadline_ns)
                case "add_member":
                    self._rings.change(now, request_id, deadline_ns, body.add_member.node, None)
                case "remove_member":
                    leaving = body.remove_member.node
                    self._rings.change(now, request_id, deadline_ns, None, leaving)
                case "replace_member":
                    coming, leaving = body.replace_member.by, body.replace_member.node
                    self._rings.change(now, request_id, deadline_ns, coming, leaving)
                case other:
                    raise InvalidRequest(f"dynamo does not offer {other}")
        except OperationError as refusal:
            self._node.outbox.reply(request_id, refusal)

    def _await_barrier(
        self,
        now: Instant,
        request_id: RequestId,
        barrier: control_pb2.AwaitBarrier,
        deadline_ns: int,
    ) -> None:
        match barrier.kind:
            case control_pb2.BARRIER_HINTS_DELIVERED:
                self._handoff.await_none(request_id, deadline_ns)
            case control_pb2.BARRIER_REPAIRED:
                if self._anti_entropy is None:
                    raise InvalidRequest("anti_entropy is 0: nothing is compared")
                self._anti_entropy.await_round(now, request_id, deadline_ns)
            case _:
                raise InvalidRequest(f"dynamo does not offer the barrier {barrier.kind}")
