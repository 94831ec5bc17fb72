"""What a node has in every role: its durable state, log and state machine, and its outbox."""

from collections.abc import Iterator
from dataclasses import dataclass, fields

from google.protobuf.message import DecodeError, Message

from leader.raft.configuration import Configuration, Configurations
from leader.raft.log import LOG_START, META, SPACE, Index, Log, Term
from leader.raft.settings import RaftSettings
from leader.raft.snapshots import Snapshots
from leader.raft.state_machine import Outcome, StateMachine
from leader.v1 import raft_pb2
from replication.errors import CorruptStore, OperationError
from replication.protocol import (
    Effect,
    Instant,
    Membership,
    NodeId,
    Observe,
    Persist,
    Put,
    Reply,
    RequestId,
    Response,
    Saved,
    Send,
)
from replication.v1 import event_pb2, storage_pb2

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
    snapshots_taken: int = 0
    snapshots_sent: int = 0
    snapshots_installed: int = 0
    transfers: int = 0  # of leadership, begun
    lease_reads: int = 0  # answered by the clock
    lease_reads_degraded: int = 0  # that the clock did not do for
    follower_reads: int = 0  # linearizable ones, answered by a node that does not lead
    chunks_sent: int = 0  # of snapshots, repetitions included

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
        self.now = Instant(0, 0)  # of the present call
        self.now_ns = 0
        self.configurations = Configurations(Configuration(membership.members))
        self.settings = settings
        self.term: Term = 0
        self.vote: NodeId = ""  # who got the vote of this node in ``term``
        self.log = Log()
        self.snapshots = Snapshots(settings)
        self.machine = StateMachine(settings)
        self.commit_index: Index = 0
        self.applied_bytes = 0  # since the last snapshot was begun
        self.counters = Counters()
        self.effects: list[Effect] = []
        self._saved_commit_index: Index = 0

    @property
    def configuration(self) -> Configuration:
        """The one in force: the last in the log."""
        return self.configurations.latest

    @property
    def peers(self) -> list[NodeId]:
        """The other members, learners included, in the order of the configuration."""
        return [member for member in self.configuration.members if member != self.node]

    @property
    def may_campaign(self) -> bool:
        """Whether this node votes, or may have to, to bring a change to its end (§4.2.2)."""
        return self.node in self.configurations.voters

    @property
    def snapshot_due(self) -> bool:
        """Whether enough was applied since the last snapshot for another one (§5.1.3)."""
        settings, snapshots = self.settings, self.snapshots
        entries = self.machine.applied_index - snapshots.index
        return (
            (entries >= settings.snapshot_entries or self.applied_bytes >= settings.snapshot_bytes)
            and self.applied_bytes >= snapshots.size
            and snapshots.incoming is None
        )

    def load(self, saved: Saved) -> None:
        """Take over what was durable. Raises CorruptStore when it cannot have been written by us.

        The commit index was saved with the log, so entries up to it are applied here; the rest
        follows when a leader tells how far it is committed.
        """
        try:
            state = raft_pb2.HardState.FromString(saved.get(META, HARD_STATE) or b"")
            start = raft_pb2.LogStart.FromString(saved.get(META, LOG_START) or b"")
            self.machine, clearing = self.snapshots.load(saved, self.now_ns)
            self._load_log(start, saved)
        except DecodeError as error:
            raise CorruptStore(f"raft state does not parse: {error}") from None
        self.term = state.term
        self.vote = state.vote
        if self.log.last_term > self.term:
            raise CorruptStore(f"log has term {self.log.last_term}, the node is at {self.term}")
        index = self.snapshots.index
        if not start.index <= index <= self.log.last_index:
            raise CorruptStore(
                f"the snapshot is at {index}, the log has {start.index + 1} to "
                f"{self.log.last_index}"
            )
        commit_index = int.from_bytes(saved.get(META, COMMIT_INDEX) or b"", "big")
        if commit_index > self.log.last_index:
            raise CorruptStore(f"entry {commit_index} was committed and is not in the log")
        self._saved_commit_index = commit_index
        self.commit_index = index
        if clearing:
            self.effects.append(Persist(clearing))
        for _ in self.commit(max(index, commit_index)):
            pass

    def _load_log(self, start: raft_pb2.LogStart, saved: Saved) -> None:
        entries = []
        complete = self.snapshots.complete
        if complete is not None:
            self.configurations.restart(
                complete.header.index, Configuration.of(complete.header.configuration)
            )
        for key, data in saved.scan(SPACE):
            entry = raft_pb2.Entry.FromString(data)
            entries.append((key, entry.term, data))
            index = int.from_bytes(key, "big")
            if entry.HasField("configuration") and index > self.snapshots.index:
                self.configurations.append(index, Configuration.of(entry.configuration))
        self.log.restore(start, entries)

    def set_term(self, term: Term, vote: NodeId) -> None:
        """Enter ``term``, or vote in the present one; durable before anything behind it leaves."""
        assert term > self.term or (term == self.term and self.vote in ("", vote)), (
            "terms do not go back and a vote is cast once (Raft §5.2)"
        )
        self.term = term
        self.vote = vote
        state = raft_pb2.HardState(term=term, vote=vote)
        self.effects.append(Persist([Put(META, HARD_STATE, state.SerializeToString())]))

    def persist_log(self, commit_index: Index) -> bool:
        """Make durable what the disk lacks of the log; return whether it lacked anything.

        ``commit_index`` goes along when it has moved: losing it costs only a slower start, so it
        never causes a write of its own.
        """
        writes = self.log.take_writes()
        if not writes:
            return False
        if commit_index != self._saved_commit_index:
            self._saved_commit_index = commit_index
            writes.append(Put(META, COMMIT_INDEX, commit_index.to_bytes(8, "big")))
        self.effects.append(Persist(writes))
        return True

    def commit(self, index: Index) -> Iterator[tuple[Index, int, Outcome]]:
        """Commit up to ``index``; yield each entry's index, size and outcome as it is applied.

        To be exhausted by the caller: afterwards ``applied_index`` equals ``commit_index``.
        """
        assert self.commit_index <= index <= self.log.handed_index, (
            "the commit index never falls, and nothing is committed that is not on its way to disk"
        )
        machine, log = self.machine, self.log
        before, self.commit_index = self.commit_index, index
        total_size = 0
        for each in range(machine.applied_index + 1, index + 1):
            data = log.data_at(each)
            size = len(data)
            total_size += size
            yield each, size, machine.apply(each, raft_pb2.Entry.FromString(data))
        self.applied_bytes += total_size
        if before < self.configurations.latest_index <= index:
            self.tell_configuration()
        self.configurations.committed(index)
        incoming = self.snapshots.incoming
        if incoming is not None and incoming.header.index <= index:
            self.effects.append(Persist(self.snapshots.forget_incoming()))

    def append(self, term: Term, entry: raft_pb2.Entry, data: bytes) -> Index:
        """Add an entry; a configuration is in force at once (dissertation §4.1)."""
        index = self.log.append(term, data)
        self.counters.entries_appended += 1
        if entry.HasField("configuration"):
            self.configurations.append(index, Configuration.of(entry.configuration))
            self.tell_configuration()
        return index

    def truncate(self, from_index: Index) -> None:
        """Drop the entries from ``from_index`` on, which another leader has overwritten."""
        assert from_index > self.commit_index, "a committed entry is never removed (Raft §5.4)"
        dropped = self.log.truncate(from_index)
        if self.configurations.truncate(from_index):
            self.tell_configuration()
        self._tell_truncated(from_index, dropped)

    def _tell_truncated(self, from_index: Index, dropped: list[bytes]) -> None:
        self.counters.truncated_entries += len(dropped)
        event = event_pb2.LogTruncated(from_index=from_index, entries=len(dropped))
        for data in dropped:
            entry = raft_pb2.Entry.FromString(data)
            kind = entry.WhichOneof("command")
            if kind is not None and kind != "configuration":
                event.write_ids.append(getattr(entry, kind).write_id)
        self.observe(event_pb2.Event(log_truncated=event))

    def install(self) -> None:
        """Replace state and log by the snapshot that was received (dissertation §5, figure 5.3)."""
        incoming, writes = self.snapshots.install()
        header = incoming.header
        assert header.index > self.commit_index, "a snapshot of the past brings nothing"
        if self.log.last_index > header.index:
            # They follow an entry that is not the snapshot's: no leader has committed them.
            behind = header.index + 1
            self._tell_truncated(behind, self.log.truncate(behind))
        writes += self.log.restart(header.index, header.term)
        writes.append(Put(META, COMMIT_INDEX, header.index.to_bytes(8, "big")))
        self.effects.append(Persist(writes))
        self._saved_commit_index = self.commit_index = header.index
        self.machine = incoming.machine
        self.applied_bytes = 0
        self.configurations.restart(header.index, Configuration.of(header.configuration))
        self.tell_configuration()
        self.counters.snapshots_installed += 1
        event = event_pb2.SnapshotInstalled(
            sender=incoming.sender,
            index=header.index,
            bytes=header.bytes,
            duration_ns=self.now_ns - incoming.began_ns,
        )
        self.observe(event_pb2.Event(snapshot_installed=event))

    def tell_configuration(self) -> None:
        """Observe the configuration in force."""
        configuration, index = self.configuration, self.configurations.latest_index
        event = event_pb2.ConfigurationChanged(
            index=index,
            voters=configuration.voters,
            outgoing=configuration.outgoing,
            learners=configuration.learners,
            committed=index <= self.commit_index,
        )
        self.observe(event_pb2.Event(configuration_changed=event))

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

    def reply(self, request_id: RequestId, result: Response | OperationError) -> None:
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
