"""What the committed entries of a cluster add up to; ``invariants`` holds snapshots against it."""

from leader.raft.configuration import Configuration
from leader.raft.log import Index
from leader.raft.settings import RaftSettings
from leader.raft.snapshots import Complete
from leader.raft.state_machine import StateMachine
from leader.v1 import raft_pb2
from replication.protocol import NodeId
from replication.v1 import storage_pb2


class CommittedState:
    """The state after every committed entry, to hold snapshots against."""

    def __init__(self, settings: RaftSettings) -> None:
        self._machine = StateMachine(settings)
        self._configuration: Configuration | None = None  # the last that was committed
        # By key: the index from which it holds and the version.
        self._history: dict[str, list[tuple[Index, storage_pb2.Version]]] = {}

    def commit(self, index: Index, data: bytes) -> None:
        """Apply the next entry."""
        entry = raft_pb2.Entry.FromString(data)
        self._machine.apply(index, entry)
        kind = entry.WhichOneof("command")
        if kind == "configuration":
            self._reconfigure(index, Configuration.of(entry.configuration))
        if kind in (None, "configuration"):
            return
        key = getattr(entry, kind).key
        version = self._machine.get(key)
        history = self._history.setdefault(key, [])
        if version is not None and (not history or history[-1][1] is not version):
            history.append((index, version))

    def _reconfigure(self, index: Index, after: Configuration) -> None:
        """Any two successive configurations have no majorities that do not meet (§4.3)."""
        before, self._configuration = self._configuration, after
        if before is None:
            return
        if before.is_joint:
            sound = after.voters == before.voters and not after.is_joint
        elif after.is_joint:
            sound = after.outgoing == before.voters
        else:
            sound = set(after.voters) == set(before.voters)
        assert sound, (
            f"Voters change by joint consensus (dissertation §4.3): {before} was followed by "
            f"{after} at index {index}"
        )

    def check(self, node: NodeId, snapshot: Complete) -> None:
        """Compare a snapshot with the committed entries that it stands for."""
        index = snapshot.header.index
        machine = StateMachine(RaftSettings())
        for data in snapshot.chunks:
            machine.restore(data)
        held = dict(machine.items())
        for key, history in self._history.items():
            versions = [version for since, version in history if since <= index]
            expected = versions[-1] if versions else None
            assert held.pop(key, None) == expected, (
                f"A snapshot equals the log that it stands for (dissertation §5): {node} has one "
                f"at {index} in which {key} is not what was committed"
            )
        assert not held, f"the snapshot of {node} at {index} holds keys that nobody wrote"
