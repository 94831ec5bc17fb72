"""What a node has in every role: its durable state, log and state machine, and its outbox."""

from collections.abc import Iterator
from dataclasses import dataclass, fields

from google.protobuf.message import DecodeError, Message

from leader.raft.log import SPACE, Index, Log, Term
from leader.raft.settings import RaftSettings
from leader.raft.state_machine import Outcome, StateMachine
from leader.v1 import raft_pb2
from replication.errors import CorruptStore, OperationError
from replication.protocol import (
    Effect,
    Membership,
    NodeId,
    Observe,
    Persist,
    Put,
    Reply,
    RequestId,
    Saved,
    Send,
    StorageResponse,
)
from replication.v1 import event_pb2, storage_pb2

META = "meta"
HARD_STATE = b"hard_state"
COMMIT_INDEX = b"commit_index"


@dataclass(slots=True)
class Counters:
    """What a node has done since it started."""

    elections: int = 0  # that burnt a term
    pre_votes: int = 0  # campaigns that asked first
    votes_granted: int = 0
    votes_refused: int = 0
    appends_sent: int = 0  # AppendEntries with entries
    heartbeats_sent: int = 0  # AppendEntries without
    entries_appended: int = 0
    truncated_entries: int = 0
    writes: int = 0  # taken in as a leader
    reads: int = 0  # answered, of both kinds
    read_rounds: int = 0  # confirmations of leadership that reads asked for
    redirects: int = 0  # requests answered with NotLeader
    step_downs: int = 0  # of a leader, for whatever reason

    def as_dict(self) -> dict[str, int]:
        """Return the counters by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


class Replica:
    """One member of the cluster, whatever its role.

    Roles put effects into ``effects`` in the order in which they are to be performed; the core
    hands them out at the end of each call.
    """

    def __init__(self, membership: Membership, settings: RaftSettings) -> None:
        self.node = membership.node
        # Every change of who votes will be made here (dissertation §4); nobody keeps a copy.
        self.voters: tuple[NodeId, ...] = membership.members
        self.settings = settings
        self.term: Term = 0
        self.vote: NodeId = ""  # who got the vote of this node in ``term``
        self.log = Log()
        self.machine = StateMachine()
        self.commit_index: Index = 0
        self.counters = Counters()
        self.effects: list[Effect] = []
        self._saved_commit_index: Index = 0

    @property
    def peers(self) -> list[NodeId]:
        """The other voters, in the order of the membership."""
        return [voter for voter in self.voters if voter != self.node]

    def load(self, saved: Saved) -> None:
        """Take over what was durable. Raises CorruptStore when it cannot have been written by us.

        The commit index was saved with the log, so entries up to it are applied here; the rest
        follows when a leader tells how far it is committed.
        """
        try:
            state = raft_pb2.HardState.FromString(saved.get(META, HARD_STATE) or b"")
            entries = [
                (key, raft_pb2.Entry.FromString(data).term, data) for key, data in saved.scan(SPACE)
            ]
        except DecodeError as error:
            raise CorruptStore(f"raft state does not parse: {error}") from None
        self.term = state.term
        self.vote = state.vote
        self.log.restore(entries)
        if self.log.last_term > self.term:
            raise CorruptStore(f"log has term {self.log.last_term}, the node is at {self.term}")
        commit_index = int.from_bytes(saved.get(META, COMMIT_INDEX) or b"", "big")
        if commit_index > self.log.last_index:
            raise CorruptStore(f"entry {commit_index} was committed and is not in the log")
        self._saved_commit_index = commit_index
        for _ in self.commit(commit_index):
            pass

    def set_term(self, term: Term, vote: NodeId) -> None:
        """Enter ``term``, or vote in the present one; durable before anything behind it leaves."""
        assert term > self.term or (term == self.term and self.vote in ("", vote)), (
            "terms do not go back and a vote is cast once (Raft §5.2)"
        )
        self.term = term
        self.vote = vote
        state = raft_pb2.HardState(term=term, vote=vote)
        self.effects.append(Persist([Put(META, HARD_STATE, state.SerializeToString())]))

    def persist_log(self, commit_index: Index) -> None:
        """Make durable what the disk lacks of the log, if anything.

        ``commit_index`` goes along when it has moved: losing it costs only a slower start, so it
        never causes a write of its own.
        """
        writes = self.log.take_writes()
        if not writes:
            return
        if commit_index != self._saved_commit_index:
            self._saved_commit_index = commit_index
            writes.append(Put(META, COMMIT_INDEX, commit_index.to_bytes(8, "big")))
        self.effects.append(Persist(writes))

    def commit(self, index: Index) -> Iterator[tuple[Index, Outcome]]:
        """Commit up to ``index`` and yield each entry's index and outcome as it is applied.

        To be exhausted by the caller: afterwards ``applied_index`` equals ``commit_index``.
        """
        assert self.commit_index <= index <= self.log.handed_index, (
            "the commit index never falls, and nothing is committed that is not on its way to disk"
        )
        self.commit_index = index
        for each in range(self.machine.applied_index + 1, index + 1):
            yield each, self.machine.apply(each, self.log.data_at(each))

    def truncate(self, from_index: Index) -> None:
        """Drop the entries from ``from_index`` on, which another leader has overwritten."""
        assert from_index > self.commit_index, "a committed entry is never removed (Raft §5.4)"
        dropped = self.log.truncate(from_index)
        self.counters.truncated_entries += len(dropped)
        event = event_pb2.LogTruncated(from_index=from_index, entries=len(dropped))
        for data in dropped:
            entry = raft_pb2.Entry.FromString(data)
            kind = entry.WhichOneof("command")
            if kind is not None:
                event.write_ids.append(getattr(entry, kind).write_id)
        self.observe(event_pb2.Event(log_truncated=event))

    def read(self, key: str) -> storage_pb2.GetResponse:
        """Return what this node has applied of ``key``: one version, a tombstone, or nothing."""
        self.counters.reads += 1
        response = storage_pb2.GetResponse()
        version = self.machine.get(key)
        if version is not None:
            response.versions.append(version)
        served = response.served
        served.node = self.node
        served.term = self.term
        served.log_index = self.machine.applied_index
        return response

    def send(self, to: NodeId, message: Message) -> None:
        """Put a message into the outbox."""
        self.effects.append(Send(to, message))

    def reply(self, request_id: RequestId, result: StorageResponse | OperationError) -> None:
        """Put an answer to a client into the outbox."""
        self.effects.append(Reply(request_id, result))

    def observe(self, event: event_pb2.Event) -> None:
        """Put an event for the history into the outbox."""
        self.effects.append(Observe(event))

    def take_effects(self) -> list[Effect]:
        """Empty the outbox and return what was in it."""
        effects = self.effects
        self.effects = []
        return effects
