"""An operator's command finds the node that can carry it out, and is not asked for in vain."""

from replication.client import command
from replication.client.command import CommandSession
from replication.errors import Indefinite, InvalidRequest, NotLeader, Unreachable
from replication.v1 import control_pb2, storage_pb2

NODES = ("n1", "n2", "n3")


def session(first: str | None = None) -> CommandSession:
    return CommandSession(NODES, first, command.add("n4"))


def test_the_known_leader_is_asked_first_and_hints_are_followed() -> None:
    assert session("n3").node == "n3"
    asking = session()
    assert asking.node == "n1"
    assert asking.failed(NotLeader("n3", 4))
    assert asking.node == "n3"
    response = control_pb2.CommandResponse(
        served=storage_pb2.Served(node="n3"), words="n4 is a member"
    )
    assert asking.words(response) == "n3 answered: n4 is a member (asked 2 times)"


def test_without_a_hint_the_nodes_are_asked_in_turn() -> None:
    asking = session("n3")
    for error in (NotLeader("", 1), Unreachable("n1"), Indefinite("TIMEOUT", "no answer")):
        assert asking.failed(error)
    assert asking.node == "n3"
    assert asking.failed(NotLeader("n9", 2)), "a hint at somebody unknown is a hint all the same"
    assert asking.node == "n9"
    assert asking.failed(NotLeader("n9", 2))
    assert asking.node == "n1"


def test_what_a_backend_does_not_offer_is_not_asked_for_again() -> None:
    asking = session("n2")
    assert not asking.failed(InvalidRequest("raft does not offer add_member"))
    assert asking.problem() == "n2 refused: raft does not offer add_member"


def test_a_removal_of_unknown_fate_is_done_when_nobody_finds_the_member() -> None:
    """Seed 310 of the scenario storm: the leader left, and its answer was lost."""
    refusal = InvalidRequest("'n1' is no member; members are n2, n3")
    asking = CommandSession(NODES, "n1", command.remove("n1"))
    assert asking.failed(Indefinite("TIMEOUT", "no answer in time"))
    assert not asking.failed(refusal)
    response = asking.done_before()
    assert response is not None
    assert "is no member" in asking.words(response)

    never = CommandSession(NODES, "n1", command.remove("n1"))
    assert never.failed(Unreachable("n1")), "it was certainly not asked"
    assert not never.failed(refusal)
    assert never.done_before() is None


def status(node: str, *peers: str, serving: bool = True) -> control_pb2.NodeStatus:
    listed = [control_pb2.PeerStatus(node=peer) for peer in peers]
    return control_pb2.NodeStatus(node=node, serving=serving, peers=listed)


def test_members_are_whom_those_who_serve_list() -> None:
    left = status("n3", "n1", "n2", serving=False)  # it was not told that it has left
    told = [status("n1", "n2", "n4"), status("n2", "n1", "n4"), status("n4", "n1", "n2")]
    spare = status("n5", "n1", "n2", "n3", serving=False)
    assert command.members(("n1", "n2", "n3", "n4", "n5"), [left, *told, spare]) == [
        *("n1", "n2", "n4")
    ]
    assert command.members(NODES, [left]) == [], "nobody can say"
    assert command.members(NODES, [status("n1", "n2")]) == ["n1", "n2"]
