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

Sessions do not expire in this version; one costs a few hundred bytes per client that ever wrote.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from leader.raft.log import Index, Term
from leader.v1 import raft_pb2
from replication.errors import Conflict, Indefinite, OperationError
from replication.protocol import NodeId, StorageResponse
from replication.v1 import storage_pb2

Command: TypeAlias = (
    storage_pb2.PutRequest | storage_pb2.DeleteRequest | storage_pb2.CompareAndSetRequest
)


@dataclass(slots=True)
class Outcome:
    """What came of a write: the place of the entry that did it, or did not."""

    term: Term
    index: Index
    conflict: bool = False  # compare-and-set found another value
    superseded: bool = False  # a later write of the same client was applied before


@dataclass(slots=True)
class Session:
    """The last write of one client."""

    sequence: int
    outcome: Outcome


class StateMachine:
    """The state after entry ``applied_index``."""

    def __init__(self) -> None:
        self.applied_index: Index = 0
        self._versions: dict[str, storage_pb2.Version] = {}  # tombstones included
        self._sessions: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._versions)

    def get(self, key: str) -> storage_pb2.Version | None:
        """Return the version of ``key``, a tombstone perhaps; None if it was never written."""
        return self._versions.get(key)

    def items(self) -> Iterator[tuple[str, storage_pb2.Version]]:
        """Yield every key and its version, tombstones included, in order of key."""
        for key in sorted(self._versions):
            yield key, self._versions[key]

    def apply(self, index: Index, data: bytes) -> Outcome:
        """Apply the next entry and return what came of it."""
        assert index == self.applied_index + 1, "entries are applied in order, each once"
        self.applied_index = index
        entry = raft_pb2.Entry.FromString(data)
        outcome = Outcome(entry.term, index)
        match entry.WhichOneof("command"):
            case "put":
                return self._once(outcome, entry.put)
            case "delete":
                return self._once(outcome, entry.delete)
            case "compare_and_set":
                return self._once(outcome, entry.compare_and_set)
        return outcome  # the no-op

    def _once(self, outcome: Outcome, command: Command) -> Outcome:
        write_id = command.write_id
        sequence = write_id.sequence
        session = self._sessions.get(write_id.client_id)
        if session is None:
            self._sessions[write_id.client_id] = Session(sequence, outcome)
        elif sequence > session.sequence:
            session.sequence = sequence
            session.outcome = outcome
        elif sequence == session.sequence:
            return session.outcome
        else:
            outcome.superseded = True
            return outcome
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
