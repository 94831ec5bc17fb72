"""Whom to ask for what an operator wants of a cluster, as a pure state machine.

The leader if one is known, whoever a refusal hints at, else the nodes in turn. Unlike a client's
write, a command of unknown fate is asked for again: adding a member twice adds one member.
"""

from collections.abc import Iterable, Sequence

from replication.errors import Conflict, InvalidRequest, NotLeader, OperationError
from replication.protocol import NodeId
from replication.v1 import control_pb2, event_pb2

MILLISECOND_NS = 1_000_000

ATTEMPT_NS = 5_000 * MILLISECOND_NS  # what one node is given: data may have to be moved
LIMIT_NS = 10_000 * MILLISECOND_NS  # what all of them are given together
PAUSE_NS = 50 * MILLISECOND_NS  # between two attempts: an election takes a few of them


class CommandSession:
    """One command, asked for until it is done, refused for good, or given up."""

    def __init__(
        self, nodes: Sequence[NodeId], first: NodeId | None, request: control_pb2.CommandRequest
    ) -> None:
        """``nodes`` are asked in turn, ``first`` before them."""
        assert nodes, "there is somebody to ask"
        self.request = request
        self.node = first or nodes[0]  # to ask now
        self.attempts = 0
        self.error: OperationError | None = None  # what the last attempt ended with
        self._unsure = False  # whether an attempt may have done it
        self._nodes = list(nodes)

    def failed(self, error: OperationError) -> bool:
        """Note what an attempt ended with; return whether ``node`` is to be asked next."""
        self.attempts += 1
        self.error = error
        self._unsure = self._unsure or not error.definite
        if isinstance(error, InvalidRequest | Conflict):
            return False
        hinted = isinstance(error, NotLeader) and error.leader not in ("", self.node)
        self.node = error.leader if hinted and isinstance(error, NotLeader) else self._after()
        return True

    def done_before(self) -> control_pb2.CommandResponse | None:
        """Return the answer to a removal that is refused because an earlier attempt did it.

        Nobody finds a member to remove any more. None where the refusal stands.
        """
        removal = self.request.WhichOneof("command") == "remove_member"
        if not (removal and self._unsure and isinstance(self.error, InvalidRequest)):
            return None
        return control_pb2.CommandResponse(
            words=f"an earlier attempt had done it ({self.error.message})"
        )

    def words(self, response: control_pb2.CommandResponse) -> str:
        """Return the evidence that it was done."""
        asked = f" (asked {self.attempts + 1} times)" if self.attempts else ""
        return f"{response.served.node or self.node} answered: {response.words or 'done'}{asked}"

    def problem(self) -> str:
        """Return why it was not done."""
        assert self.error is not None, "there was an attempt"
        return f"{self.node} refused: {self.error.message or self.error.reason}"

    def _after(self) -> NodeId:
        if self.node not in self._nodes:
            return self._nodes[0]
        return self._nodes[(self._nodes.index(self.node) + 1) % len(self._nodes)]


def transfer(to: NodeId | None) -> control_pb2.CommandRequest:
    """Return the command that hands the leadership to ``to``, or to whoever is best placed."""
    return control_pb2.CommandRequest(
        transfer_leadership=control_pb2.TransferLeadership(to=to or "")
    )


def add(node: NodeId) -> control_pb2.CommandRequest:
    """Return the command that takes a node into the cluster."""
    return control_pb2.CommandRequest(add_member=control_pb2.AddMember(node=node))


def remove(node: NodeId) -> control_pb2.CommandRequest:
    """Return the command that takes a node out of the cluster."""
    return control_pb2.CommandRequest(remove_member=control_pb2.RemoveMember(node=node))


def replace(node: NodeId, by: NodeId) -> control_pb2.CommandRequest:
    """Return the command that puts one node in the place of another."""
    return control_pb2.CommandRequest(replace_member=control_pb2.ReplaceMember(node=node, by=by))


def members(nodes: Iterable[NodeId], statuses: Sequence[control_pb2.NodeStatus]) -> list[NodeId]:
    """Return which of ``nodes`` are members, as those that serve say; empty if nobody does.

    Also who is only to be one, or is still to go: what is asked of members is asked of them too.
    """
    serving = [status for status in statuses if status.serving]
    listed = {peer.node for status in serving for peer in status.peers}
    if len(serving) == 1 and listed:
        listed.add(serving[0].node)  # nobody else can say so
    return [node for node in nodes if node in listed]


def looks(status: control_pb2.NodeStatus) -> str:
    """Return what a node says that it is: "n4 is leader in term 7"."""
    role = event_pb2.Role.Name(status.role).removeprefix("ROLE_").lower().replace("_", "-")
    term = f" in term {status.term}" if status.term else ""
    return f"{status.node} is {role}{term}" + ("" if status.serving else " and does not serve yet")
