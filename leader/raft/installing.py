"""The leader's side of a snapshot that a follower is brought to (dissertation §5, §7)."""

from collections.abc import Iterable

from leader.raft.log import Index
from leader.raft.progress import Install, Progress
from leader.raft.replica import Replica
from leader.v1 import raft_pb2
from replication.protocol import NodeId
from replication.v1 import event_pb2


def advance(replica: Replica, follower: Progress, round_number: int, announce: bool) -> None:
    """Send of a snapshot what flow control allows; first ask how much of it is there."""
    newest = replica.snapshots.complete
    assert newest is not None, "a log is compacted behind a snapshot only"
    install = follower.install
    silent_ns = replica.now_ns - follower.heard_ns
    if install is None or (
        # Who is silent for so long may as well begin with the newest one.
        install.snapshot is not newest and silent_ns >= replica.settings.election_timeout_max_ns
    ):
        install = follower.begin_install(newest, replica.now_ns)
        announce = True
    while (data := install.next_chunk()) is not None:
        replica.counters.chunks_sent += 1
        message = _message(replica, install, round_number)
        message.install_snapshot.data = data
        replica.send(follower.node, message)
        announce = False
    if announce:
        replica.counters.heartbeats_sent += 1
        replica.send(follower.node, _message(replica, install, round_number))


def _message(replica: Replica, install: Install, round_number: int) -> raft_pb2.RaftMessage:
    request = raft_pb2.InstallSnapshot(
        snapshot=install.snapshot.header, round=round_number, position=install.position
    )
    return raft_pb2.RaftMessage(term=replica.term, install_snapshot=request)


def tell_sent(replica: Replica, to: NodeId, install: Install) -> None:
    """Observe that a follower has installed what was sent."""
    replica.counters.snapshots_sent += 1
    event = event_pb2.SnapshotSent(
        to=to,
        index=install.snapshot.header.index,
        bytes=install.bytes_sent,
        duration_ns=replica.now_ns - install.began_ns,
    )
    replica.observe(event_pb2.Event(snapshot_sent=event))


def needed_from(replica: Replica, followers: Iterable[Progress]) -> Index | None:
    """Return behind which index the log is needed by followers that answer; None without any.

    One that installs a snapshot needs what lies behind that, one that catches up what it has not
    got. Who is silent, or needs a snapshot in any case, has no say.
    """
    silent_ns = replica.settings.election_timeout_max_ns
    return min(
        (
            index
            for each in followers
            if replica.now_ns - each.heard_ns < silent_ns
            and (index := each.needed_from) >= replica.log.start_index
        ),
        default=None,
    )
