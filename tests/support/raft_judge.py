"""Judges a simulated run of Raft: the five properties of Raft figure 3, and what clients were told.

The judge never asks a core what it meant, except for its log and commit index. What clients saw is
compared with a model that replays the committed log by itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

from leader.raft import RaftCore
from leader.v1 import raft_pb2
from replication.errors import Conflict, OperationError
from replication.protocol import NodeId, StorageRequest, StorageResponse
from replication.v1 import event_pb2, storage_pb2
from tests.support.raft_cluster import MemoryDisk


class Violation(AssertionError):
    """Something happened that Raft excludes. The text begins with the seed."""


@dataclass
class Operation:
    """What a client did once, over all its tries."""

    client: str
    body: StorageRequest
    invoked_ns: int
    completed_ns: int | None = None
    result: StorageResponse | OperationError | None = None
    excluded: bool = True  # every try was refused definitely, so it is in no log
    conflict: bool = False

    def attempt(self, result: StorageResponse | OperationError | None) -> bool:
        """Take note of one try; return whether it was refused definitely."""
        self.conflict = isinstance(result, Conflict)
        definite = isinstance(result, OperationError) and result.definite
        self.excluded = self.excluded and definite and not self.conflict
        return definite

    def finish(self, now_ns: int, result: StorageResponse | OperationError | None) -> None:
        self.completed_ns = now_ns
        self.result = result

    @property
    def ok(self) -> bool:
        return self.result is not None and not isinstance(self.result, OperationError)

    @property
    def log_index(self) -> int:
        assert self.result is not None
        assert not isinstance(self.result, OperationError)
        return self.result.served.log_index

    @property
    def is_read(self) -> bool:
        return isinstance(self.body, storage_pb2.GetRequest)

    @property
    def is_local(self) -> bool:
        return self.is_read and self.body.consistency == storage_pb2.CONSISTENCY_LOCAL


@dataclass
class Seen:
    """How far the log of a node was looked at."""

    last_index: int = 0
    last_term: int = 0
    commit_index: int = 0
    noted_index: int = 0
    noted: list[tuple[int, list[bytes], int]] = field(default_factory=list)  # not concluded yet
    leader_of: int = 0


@dataclass
class Model:
    """The committed log, replayed without the code under test."""

    # key → (index from which it holds, write id, value; None is a tombstone)
    versions: dict[str, list[tuple[int, tuple[str, int], bytes | None]]] = field(
        default_factory=dict
    )
    first_index: dict[tuple[str, int], int] = field(default_factory=dict)
    conflicts: set[tuple[str, int]] = field(default_factory=set)
    _last_sequence: dict[str, int] = field(default_factory=dict)

    def at(self, key: str, index: int) -> tuple[tuple[str, int], bytes | None] | None:
        """Return the write id and value of ``key`` after entry ``index``."""
        found = [each for each in self.versions.get(key, []) if each[0] <= index]
        return found[-1][1:] if found else None

    def apply(self, index: int, data: bytes) -> None:
        entry = raft_pb2.Entry.FromString(data)
        kind = entry.WhichOneof("command")
        if kind is None or kind == "configuration":
            return
        body = getattr(entry, kind)
        write_id = (body.write_id.client_id, body.write_id.sequence)
        if write_id[1] <= self._last_sequence.get(write_id[0], 0):
            return
        self._last_sequence[write_id[0]] = write_id[1]
        self.first_index[write_id] = index
        if kind == "compare_and_set":
            current = self.at(body.key, index)
            held = current[1] if current else None
            if held != (body.expected if body.HasField("expected") else None):
                self.conflicts.add(write_id)
                return
        value = None if kind == "delete" else body.value
        self.versions.setdefault(body.key, []).append((index, write_id, value))


class Judge:
    """Looks at every step of a run."""

    def __init__(self, name: str, disks: Mapping[NodeId, MemoryDisk]) -> None:
        self.history: list[Operation] = []
        self.committed: dict[int, bytes] = {}
        self.leaders: dict[int, NodeId] = {}
        self.replying: RaftCore | None = None  # whose answer it is
        self._name = name
        self._disks = disks
        self._committed_by: dict[int, int] = {}  # the earliest term known to have committed it
        self._entries: dict[tuple[int, int], tuple[bytes, int]] = {}
        self._seen = {node: Seen() for node in disks}

    def some_value(self, rng: Random) -> bytes | None:
        """Return a value that was written lately, to aim a compare-and-set at."""
        written = [each.body.value for each in self.history[-12:] if hasattr(each.body, "value")]
        return rng.choice(written) if written else None

    def restarted(self, node: NodeId) -> None:
        """A node starts again; a snapshot that it wrote last concludes what it stands for."""
        snapshot_index = self._disks[node].snapshot_index
        for first, entries, term in list(self._seen[node].noted):
            self.concluded(node, first, entries[: max(0, snapshot_index - first + 1)], term)
        self._seen[node] = Seen()

    def look(self, node: NodeId, core: RaftCore) -> bool:
        """Check a node after it acted; return whether it became leader of a term by that."""
        replica, seen = core.replica, self._seen[node]
        log = replica.log
        # A cluster of one may forget what it did not tell anybody; there is no second log to match.
        changed = (log.last_index, log.last_term) != (seen.last_index, seen.last_term)
        if changed and len(self._seen) > 1:
            self._check_log_matching(node, core, seen.commit_index)
            seen.last_index, seen.last_term = log.last_index, log.last_term
        if core.leader is not None and seen.leader_of != replica.term:
            seen.leader_of = replica.term
            self._check_new_leader(node, core)
            return True
        return False

    def entries(self, node: NodeId, core: RaftCore) -> tuple[int, list[bytes]]:
        """Return the index of the first entry that a node committed since, and all of them.

        To be asked at once: a log may be compacted before what was concluded leaves the node.
        """
        replica, seen = core.replica, self._seen[node]
        first = max(seen.noted_index, replica.log.start_index) + 1
        seen.noted_index = replica.commit_index
        entries = [replica.log.data_at(i) for i in range(first, replica.commit_index + 1)]
        seen.noted.append((first, entries, replica.term))
        return first, entries

    def concluded(self, node: NodeId, first_index: int, entries: list[bytes], term: int) -> None:
        """Check what a node held committed in ``term``, once all before it is durable there."""
        seen = self._seen[node]
        if seen.noted:
            del seen.noted[0]
        for index, data in enumerate(entries, first_index):
            first = self.committed.setdefault(index, data)
            self._committed_by[index] = min(term, self._committed_by.get(index, term))
            self._require(data == first, f"State Machine Safety: {node} differs at {index}")
        seen.commit_index = max(seen.commit_index, first_index + len(entries) - 1)

    def _check_log_matching(self, node: NodeId, core: RaftCore, from_index: int) -> None:
        log = core.replica.log
        for index in range(max(from_index, log.start_index) + 1, log.last_index + 1):
            here = (log.data_at(index), log.term_at(index - 1))
            known = self._entries.setdefault((index, log.term_at(index)), here)
            self._require(known == here, f"Log Matching: {node} differs at {index}")

    def _check_new_leader(self, node: NodeId, core: RaftCore) -> None:
        replica = core.replica
        first = self.leaders.setdefault(replica.term, node)
        self._require(first == node, f"Election Safety: {first} and {node} in {replica.term}")
        for index, data in self.committed.items():
            self._require(
                # A node may be late to learn that it had won an older term: that harms nobody.
                replica.term <= self._committed_by[index]
                or index <= replica.log.start_index  # its snapshot is compared in the end
                or (index <= replica.log.last_index and replica.log.data_at(index) == data),
                f"Leader Completeness: {node} leads {replica.term} without {index}",
            )

    def replied(self, operation: Operation, result: StorageResponse | OperationError) -> None:
        """Check an answer as it leaves: an acknowledged write is on a majority of the disks."""
        if isinstance(operation.body, storage_pb2.GetRequest) or isinstance(result, OperationError):
            return
        index = result.served.log_index
        holders: dict[NodeId, int] = {}
        for node, disk in self._disks.items():
            if disk.snapshot_index >= index:
                holders[node] = 1
                continue
            entry = raft_pb2.Entry.FromString(disk.entry(index) or b"")
            kind = entry.WhichOneof("command")
            if kind not in (None, "configuration"):
                holders[node] = getattr(entry, kind).write_id == operation.body.write_id
        assert self.replying is not None, "somebody answers"
        configurations = self.replying.replica.configurations.possible()
        self._require(
            any(each.reached(holders) == 1 for each in configurations),
            f"write {index} of {operation.client} was acknowledged and is on {holders}",
        )

    def conclude(self, cores: Mapping[NodeId, RaftCore], healed_ns: int, end_ns: int) -> None:
        """Check the whole run: progress after healing, equal replicas, what clients were told."""
        for node, core in cores.items():
            self.entries(node, core)
            for first, entries, term in list(self._seen[node].noted):
                self.concluded(node, first, entries, term)
        problem = self.standstill(cores, healed_ns, end_ns)
        self._require(problem is None, str(problem))
        model = Model()
        for index in sorted(self.committed):
            model.apply(index, self.committed[index])
        self._check_contents(cores, model)
        for operation in self.history:
            if operation.completed_ns is not None:
                self._check_operation(operation, model)
        self._check_real_time(model)

    def standstill(
        self, cores: Mapping[NodeId, RaftCore], healed_ns: int, end_ns: int
    ) -> str | None:
        """Return what has not come into its own since healing, None when everything has."""
        statuses = [core.status() for core in cores.values()]
        leaders = [each for each in statuses if each.role == event_pb2.ROLE_LEADER]
        if len(leaders) != 1:
            return f"{len(leaders)} leaders after healing"
        voters = cores[leaders[0].node].replica.configuration.voters
        lag = max(
            leaders[0].commit_index - each.applied_index for each in statuses if each.node in voters
        )
        if lag >= 40:
            return f"a follower lags by {lag} entries after healing"
        late_ns = end_ns - (end_ns - healed_ns) // 3
        for reads, since_ns in ((True, healed_ns), (False, late_ns)):
            if not any(
                each.is_read == reads and each.ok and (each.completed_ns or 0) > since_ns
                for each in self.history
            ):
                return f"no progress after healing ({reads=})"
        return None

    def _check_contents(self, cores: Mapping[NodeId, RaftCore], model: Model) -> None:
        for node, core in cores.items():
            applied = core.status().applied_index
            for held in core.contents():
                expected = model.at(held.key, applied)
                write_id = held.versions[0].write_id
                self._require(
                    expected is not None
                    and expected[0] == (write_id.client_id, write_id.sequence)
                    and held.versions[0].tombstone == (expected[1] is None),
                    f"State Machine Safety: {node} holds {write_id} under {held.key}",
                )

    def _check_operation(self, operation: Operation, model: Model) -> None:
        what = f"{operation.client} {operation.body}".replace("\n", " ")
        if isinstance(operation.body, storage_pb2.GetRequest):
            if isinstance(operation.result, storage_pb2.GetResponse):
                expected = model.at(operation.body.key, operation.log_index)
                seen = [
                    (
                        (each.write_id.client_id, each.write_id.sequence),
                        None if each.tombstone else each.value,
                    )
                    for each in operation.result.versions
                ]
                self._require(seen == ([expected] if expected else []), f"{what} saw {seen}")
            return
        write_id = (operation.body.write_id.client_id, operation.body.write_id.sequence)
        if operation.ok:
            self._require(
                model.first_index.get(write_id) == operation.log_index
                and write_id not in model.conflicts,
                f"{what} was acknowledged at {operation.log_index} and is not there",
            )
        elif operation.conflict:
            self._require(write_id in model.conflicts, f"{what} was no conflict")
        elif operation.excluded:
            self._require(write_id not in model.first_index, f"{what} was refused and happened")

    def _check_real_time(self, model: Model) -> None:
        """Linearizability: the order of log indices agrees with real time (strictly for writes).

        Values were compared with the state at the operation's index, so this order is legal.
        """
        judged = [each for each in self.history if each.ok and not each.is_local]
        completed = sorted(judged, key=lambda each: each.completed_ns or 0)
        position = highest = 0
        for operation in sorted(judged, key=lambda each: each.invoked_ns):
            while (completed[position].completed_ns or 0) < operation.invoked_ns:
                highest = max(highest, completed[position].log_index)
                position += 1
            floor = highest if operation.is_read else highest + 1
            self._require(
                operation.log_index >= floor,
                f"not linearizable: {operation.client} was served at {operation.log_index} "
                f"after somebody at {highest}",
            )

    def _require(self, holds: bool, otherwise: str) -> None:
        if not holds:
            raise Violation(f"{self._name}: {otherwise}")
