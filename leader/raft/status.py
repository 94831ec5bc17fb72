"""What a node says of itself and of its peers."""

from collections.abc import Iterator, Mapping

from leader.raft.election import Candidacy
from leader.raft.leading import Leader
from leader.raft.replica import Replica
from replication.protocol import NodeId
from replication.v1 import control_pb2, event_pb2, storage_pb2


def status_of(
    replica: Replica,
    known_leader: NodeId,
    leader: Leader | None,
    candidacy: Candidacy | None,
    peer_heard_ns: Mapping[NodeId, int],
) -> control_pb2.NodeStatus:
    """Return it. ``alive`` means heard from within an election timeout of the last input."""
    alive_ns = replica.settings.election_timeout_max_ns
    peers = []
    for peer in replica.peers:
        heard_ns = peer_heard_ns.get(peer)
        status = control_pb2.PeerStatus(node=peer)
        status.alive = heard_ns is not None and replica.now_ns - heard_ns < alive_ns
        if leader is not None and peer in leader.followers:
            status.match_index = leader.followers[peer].match_index
            status.next_index = leader.followers[peer].next_index
        peers.append(status)
    return control_pb2.NodeStatus(
        node=replica.node,
        backend="raft",
        role=role_of(replica, leader, candidacy),
        serving=bool(known_leader),
        term=replica.term,
        leader=known_leader,
        last_index=replica.log.last_index,
        commit_index=replica.commit_index,
        applied_index=replica.machine.applied_index,
        peers=peers,
        keys=len(replica.machine),
        counters=replica.counters.as_dict(),
    )


def role_of(
    replica: Replica, leader: Leader | None, candidacy: Candidacy | None
) -> event_pb2.Role.ValueType:
    """Return the role of a node with this leadership or this candidacy."""
    if leader is not None:
        return event_pb2.ROLE_LEADER
    if candidacy is None:
        votes = replica.node in replica.configuration.all_voters
        return event_pb2.ROLE_FOLLOWER if votes else event_pb2.ROLE_LEARNER
    return event_pb2.ROLE_PRE_CANDIDATE if candidacy.pre_vote else event_pb2.ROLE_CANDIDATE


def contents_of(replica: Replica) -> Iterator[control_pb2.KeyContents]:
    """Yield what a node has applied, and who is to hold it."""
    owners = replica.configuration.members
    for key, version in replica.machine.items():
        bare = storage_pb2.Version(tombstone=version.tombstone, write_id=version.write_id)
        yield control_pb2.KeyContents(key=key, owners=owners, versions=[bare])
