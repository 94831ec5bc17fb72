"""What must hold at every step of a simulation, whatever the mode.

* An epoch has one primary, and a node does not enter an older epoch than it was in.
* Two logs with a record of the same index and epoch are equal up to it.
* Where the settings are lossless: what was acknowledged is in the log of every later primary, and a
  read of a primary sees every write that was acknowledged before it was asked.

What a node has decided counts from the moment at which others may have heard of it (see
``replication.simulation.watching``). A broken invariant is an AssertionError in words.
"""

from collections.abc import Sequence
from typing import TypeAlias

from leader.primary_backup.core import PrimaryBackupCore
from leader.primary_backup.log import Epoch, Index
from leader.primary_backup.settings import DefaultRead, PrimaryBackupSettings, is_lossless
from replication.errors import OperationError
from replication.protocol import (
    Core,
    Effect,
    NodeId,
    Observe,
    StorageRequest,
    StorageResponse,
)
from replication.v1 import storage_pb2

# What others may rely on once it has left the node: epoch, and the epoch it is the primary of.
Token: TypeAlias = tuple[Epoch, Epoch]


class PrimaryBackupInvariants:
    """All properties of one cluster; fulfils ``replication.simulation.watching.Watcher``."""

    def __init__(self, settings: PrimaryBackupSettings, nodes: Sequence[NodeId]) -> None:
        self._lossless = is_lossless(settings, len(nodes))
        self._reads_primary = settings.default_read is DefaultRead.PRIMARY
        self._epochs: dict[NodeId, Epoch] = dict.fromkeys(nodes, 0)
        self._primaries: dict[Epoch, NodeId] = {}
        self._records: dict[tuple[Index, Epoch], tuple[bytes, Epoch]] = {}
        self._checked: dict[NodeId, tuple[Index, Epoch]] = dict.fromkeys(nodes, (0, 0))
        # What was acknowledged, by index: the epoch of its record.
        self._acknowledged: dict[Index, Epoch] = {}
        self._acknowledged_index: Index = 0
        # With the request, so that its identity stays its own while it waits.
        self._read_floors: dict[tuple[NodeId, int], tuple[StorageRequest, Index]] = {}
        self._void = False  # a disk was wiped

    def clock_runs(self, node: NodeId, ppm: int) -> None:
        """What is checked here rests on no clock."""

    def started(self, node: NodeId, core: Core) -> None:
        """A life begins: no epoch that was let out may be forgotten."""
        assert isinstance(core, PrimaryBackupCore), "these are its invariants"
        self._checked[node] = (0, 0)
        assert self._void or core.replica.state.epoch >= self._epochs[node], (
            f"Epochs do not go back: {node} had told epoch {self._epochs[node]} and restarted in "
            f"{core.replica.state.epoch}"
        )

    def submitted(self, node: NodeId, body: StorageRequest) -> None:
        """Note what a read of a primary has to see."""
        if isinstance(body, storage_pb2.GetRequest) and (
            body.consistency == storage_pb2.CONSISTENCY_LEASE
            or (body.consistency == storage_pb2.CONSISTENCY_UNSPECIFIED and self._reads_primary)
        ):
            self._read_floors.setdefault((node, id(body)), (body, self._acknowledged_index))

    def stepped(self, node: NodeId, core: Core, effects: Sequence[Effect]) -> Token | None:
        """Check the log; return what is to be checked when it has left the node."""
        assert isinstance(core, PrimaryBackupCore), "these are its invariants"
        if self._void:
            return None
        self._register(node, core)
        for effect in effects if self._lossless else ():
            if isinstance(effect, Observe) and effect.event.HasField("log_truncated"):
                assert not effect.event.log_truncated.acknowledged, (
                    f"No acknowledged write is lost: {node} drops records that it knows to be "
                    "acknowledged"
                )
        primary = core.primary
        return (core.replica.state.epoch, 0 if primary is None else primary.epoch)

    def released(self, node: NodeId, core: Core, token: object) -> None:
        """Check an epoch and a primary that others may hear of from now on."""
        assert isinstance(core, PrimaryBackupCore), "these are its invariants"
        assert isinstance(token, tuple), "the token is what stepped returned"
        if self._void:
            return
        epoch, leads = token
        assert epoch >= self._epochs[node], (
            f"Epochs do not go back: {node} was in {self._epochs[node]} and is in {epoch}"
        )
        self._epochs[node] = epoch
        if not leads or self._primaries.get(leads) == node:
            return
        first = self._primaries.setdefault(leads, node)
        assert first == node, f"An epoch has one primary: {first} and {node} are that of {leads}"
        if self._lossless:
            self._holds_acknowledged(node, core, leads)

    def replied(
        self, node: NodeId, body: StorageRequest, result: StorageResponse | OperationError
    ) -> None:
        """Note what is acknowledged; check what a read saw."""
        if self._void or isinstance(result, OperationError) or not self._lossless:
            return
        index, epoch = result.served.log_index, result.served.term
        if not isinstance(result, storage_pb2.GetResponse):
            known = self._acknowledged.setdefault(index, epoch)
            assert known == epoch, (
                f"One record per index: {body.key} was acknowledged at {index} in epoch {epoch}, "
                f"and another write there in epoch {known}"
            )
            self._acknowledged_index = max(self._acknowledged_index, index)
            return
        _, floor = self._read_floors.pop((node, id(body)), (body, 0))
        assert index >= floor, (
            f"Reads of a primary see acknowledged writes: {node} read {body.key} at index {index}, "
            f"and the write at index {floor} had been acknowledged before it was asked"
        )

    def stopped(self, node: NodeId, wiped: bool) -> None:
        """A disk that forgets is outside of what is tolerated: nothing is checked any more."""
        if wiped:
            self._void = True

    def _register(self, node: NodeId, core: PrimaryBackupCore) -> None:
        """Equal logs, by induction: a record is known by index and epoch, with its predecessor."""
        log = core.replica.log
        last_index, last_epoch = self._checked[node]
        if not log.matches(last_index, last_epoch):
            last_index = min(core.replica.commit_index, last_index)
        for index in range(max(last_index, log.trimmed_index) + 1, log.last_index + 1):
            key = (index, log.epoch_at(index))
            seen = (log.data_at(index), log.epoch_at(index - 1))
            known = self._records.setdefault(key, seen)
            assert known == seen, (
                f"Logs that agree somewhere agree before: record {index} of epoch {key[1]} is "
                f"another on {node} than where it was first seen"
            )
        self._checked[node] = (log.last_index, log.last_epoch)

    def _holds_acknowledged(self, node: NodeId, core: PrimaryBackupCore, leads: Epoch) -> None:
        log = core.replica.log
        for index, epoch in self._acknowledged.items():
            assert epoch >= leads or log.matches(index, epoch), (
                f"No acknowledged write is lost: {node} is the primary of epoch {leads} without "
                f"record {index} of epoch {epoch}, which was acknowledged"
            )


def invariants(
    settings: PrimaryBackupSettings, nodes: tuple[NodeId, ...]
) -> PrimaryBackupInvariants:
    """Return the watcher of one simulated cluster."""
    return PrimaryBackupInvariants(settings, nodes)
