"""What the log means: keys with one version each, and a session per client.

Deterministic: nodes that have applied the same entries hold equal state (Raft §5.3, State Machine
Safety). Neither time nor the node's name enters it.

Sessions (dissertation §6.3). Promise: a write takes effect at most once however often it is sent,
and the writes of one client take effect in the order of their sequences. The session of a client
keeps the sequence of its last write and what came of it:

    a higher sequence    is applied; gaps are allowed (operations that were refused before)
    the same sequence    is a retry: it changes nothing and gets the original answer
    a lower sequence     changes nothing. What came of the original is no longer known, so the
                         answer is indefinite. A client with one write in flight never sees this:
                         it has moved on, and its abandoned write can no longer overtake it.

Sessions expire, else their memory would grow with every client that ever wrote: one whose last
write is ``session_timeout`` old, by the cluster's time that every entry carries, and beyond
``sessions_max`` the one that wrote longest ago. Both are decided by the log alone, so every node
forgets the same session at the same entry. A retry that comes later than that takes effect again:
the timeout has to be longer than anybody retries.
"""

from collections import OrderedDict
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from typing import TypeAlias

from leader.raft.log import Index, Term
from leader.raft.settings import RaftSettings
from leader.v1 import raft_pb2
from replication.errors import Conflict, Indefinite, OperationError
from replication.protocol import NodeId, StorageResponse
from replication.v1 import storage_pb2

Command: TypeAlias = (
    storage_pb2.PutRequest | storage_pb2.DeleteRequest | storage_pb2.CompareAndSetRequest
)


CHUNK_OVERHEAD_BYTES = 64  # of a key or a session in a snapshot, about


@dataclass(slots=True)
class Outcome:
    """What came of a write: the place of the entry that did it, or did not."""

    term: Term
    index: Index
    conflict: bool = False  # compare-and-set found another value
    superseded: bool = False  # a later write of the same client was applied before


# The last write of one client: its sequence, what came of it, and when by the cluster's time.
Session: TypeAlias = tuple[int, Outcome, int]


class StateMachine:
    """The state after entry ``applied_index``."""

    def __init__(self, settings: RaftSettings) -> None:
        self.applied_index: Index = 0
        self.time_ms = 0  # the cluster's, as of the last entry applied
        self._versions: dict[str, storage_pb2.Version] = {}  # tombstones included
        self._sessions: OrderedDict[str, Session] = OrderedDict()  # by their last write
        self._deduplicates = settings.sessions
        self._timeout_ms = settings.session_timeout_ns // 1_000_000
        self._sessions_max = settings.sessions_max
        self._expiry_due_ms = self._timeout_ms  # no session expires before

    def __len__(self) -> int:
        return len(self._versions)

    @property
    def sessions(self) -> int:
        """Return how many clients have one."""
        return len(self._sessions)

    def get(self, key: str) -> storage_pb2.Version | None:
        """Return the version of ``key``, a tombstone perhaps; None if it was never written."""
        return self._versions.get(key)

    def items(self) -> Iterator[tuple[str, storage_pb2.Version]]:
        """Yield every key and its version, tombstones included, in order of key."""
        for key in sorted(self._versions):
            yield key, self._versions[key]

    def apply(self, index: Index, entry: raft_pb2.Entry) -> Outcome:
        """Apply the next entry and return what came of it."""
        assert index == self.applied_index + 1, "entries are applied in order, each once"
        self.applied_index = index
        time_ms = entry.cluster_time_ms
        if time_ms > self.time_ms:
            self.time_ms = time_ms
            if time_ms >= self._expiry_due_ms:
                self._expire()
        outcome = Outcome(entry.term, index)
        match entry.WhichOneof("command"):
            case "put":
                return self._once(outcome, entry.put)
            case "delete":
                return self._once(outcome, entry.delete)
            case "compare_and_set":
                return self._once(outcome, entry.compare_and_set)
        return outcome  # a no-op, or a configuration, which is no matter of the state

    def image(self) -> "StateMachine":
        """Return the state of this moment as a copy. What it refers to is never changed."""
        image = copy(self)
        image._versions = self._versions.copy()
        image._sessions = self._sessions.copy()
        return image

    def chunks(self, chunk_bytes: int) -> Iterator[bytes]:
        """Yield the state in parts of about ``chunk_bytes``, each a ``SnapshotChunk``.

        At least one, so that an empty state has something to be received.
        """
        chunk, size = raft_pb2.SnapshotChunk(), 0
        for key, version in self._versions.items():
            chunk.keys.append(raft_pb2.KeyVersion(key=key, version=version))
            size += CHUNK_OVERHEAD_BYTES + len(key) + len(version.value)
            if size >= chunk_bytes:
                yield chunk.SerializeToString()
                chunk, size = raft_pb2.SnapshotChunk(), 0
        for client_id, (sequence, outcome, time_ms) in self._sessions.items():
            chunk.sessions.append(
                raft_pb2.ClientSession(
                    client_id=client_id,
                    sequence=sequence,
                    term=outcome.term,
                    index=outcome.index,
                    conflict=outcome.conflict,
                    cluster_time_ms=time_ms,
                )
            )
            size += CHUNK_OVERHEAD_BYTES + len(client_id)
            if size >= chunk_bytes:
                yield chunk.SerializeToString()
                chunk, size = raft_pb2.SnapshotChunk(), 0
        yield chunk.SerializeToString()

    def restore(self, data: bytes) -> None:
        """Take one chunk of a snapshot into a state that is being built up."""
        chunk = raft_pb2.SnapshotChunk.FromString(data)
        for each in chunk.keys:
            self._versions[each.key] = each.version
        for session in chunk.sessions:
            outcome = Outcome(session.term, session.index, session.conflict)
            last = (session.sequence, outcome, session.cluster_time_ms)
            self._sessions[session.client_id] = last

    def restored(self, snapshot: raft_pb2.Snapshot) -> None:
        """All chunks of ``snapshot`` were taken: this is the state as of its index."""
        self.applied_index = snapshot.index
        self.time_ms = snapshot.cluster_time_ms
        self._expiry_due_ms = 0

    def _once(self, outcome: Outcome, command: Command) -> Outcome:
        write_id = command.write_id
        if self._deduplicates:
            client_id, sequence = write_id.client_id, write_id.sequence
            sessions = self._sessions
            session = sessions.get(client_id)
            if session is None:
                if len(sessions) >= self._sessions_max:
                    sessions.popitem(last=False)
            elif sequence == session[0]:
                return session[1]
            elif sequence < session[0]:
                outcome.superseded = True
                return outcome
            else:
                sessions.move_to_end(client_id)
            sessions[client_id] = (sequence, outcome, self.time_ms)
        if isinstance(command, storage_pb2.DeleteRequest):
            # The tombstone stays: a read must be able to say which delete it saw.
            version = storage_pb2.Version(tombstone=True, write_id=write_id)
        elif isinstance(command, storage_pb2.CompareAndSetRequest) and not self._holds(command):
            outcome.conflict = True
            return outcome
        else:
            version = storage_pb2.Version(value=command.value, write_id=write_id)
        self._versions[command.key] = version
        return outcome

    def _expire(self) -> None:
        # The due time is only a lower bound (a session may have been used since), so a node that
        # got its sessions from a snapshot forgets them at the same entries.
        sessions, oldest_ms = self._sessions, self.time_ms
        while sessions:
            client_id, (_, _, written_ms) = next(iter(sessions.items()))
            if written_ms + self._timeout_ms > self.time_ms:
                oldest_ms = written_ms
                break
            del sessions[client_id]
        self._expiry_due_ms = oldest_ms + self._timeout_ms

    def _holds(self, command: storage_pb2.CompareAndSetRequest) -> bool:
        version = self._versions.get(command.key)
        if version is None or version.tombstone:
            return not command.HasField("expected")
        return command.HasField("expected") and version.value == command.expected


def write_response(
    command: type[Command], outcome: Outcome, node: NodeId
) -> StorageResponse | OperationError:
    """Return the answer to a write of type ``command``, as ``node`` gives it."""
    if outcome.conflict:
        return Conflict("the key does not hold the expected value")
    if outcome.superseded:
        return Indefinite("SUPERSEDED", "a later write of this client was applied before")
    response: (
        storage_pb2.PutResponse | storage_pb2.DeleteResponse | storage_pb2.CompareAndSetResponse
    )
    if command is storage_pb2.PutRequest:
        response = storage_pb2.PutResponse()
    elif command is storage_pb2.DeleteRequest:
        response = storage_pb2.DeleteResponse()
    else:
        response = storage_pb2.CompareAndSetResponse()
    served = response.served
    served.node = node
    served.term = outcome.term
    served.log_index = outcome.index
    return response
