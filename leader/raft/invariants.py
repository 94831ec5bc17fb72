"""The safety properties of Raft (figure 3 of the paper), checked at every step of a simulation.

Beside those of the figure: terms do not go back, a node votes once in a term, what was let out is
durable, what a leader counts as stored is stored, only a conflict cuts a log, and a linearizable
read sees every write that was acknowledged before it was asked (dissertation §6.4), and a snapshot
equals the committed entries that it stands for (§5).

Everything is incremental: a step is looked at where it changed something, so a simulation with
these checks stays fast. What a node has decided but not yet let anybody hear of (it is waiting for
its disk) may be forgotten in a crash without harm: votes, leaderships and commits count from the
moment they are *released*, entries from the moment they are in memory.

A broken property raises AssertionError with the property's name, the nodes and the places.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from leader.raft.committed_state import CommittedState
from leader.raft.core import RaftCore
from leader.raft.leading import Leader
from leader.raft.log import Index, Term
from leader.raft.settings import DefaultRead, RaftSettings
from leader.raft.snapshots import Complete
from leader.v1 import raft_pb2
from replication.errors import OperationError
from replication.protocol import (
    Core,
    Effect,
    NodeId,
    Observe,
    RequestBody,
    Response,
)
from replication.v1 import control_pb2, storage_pb2

# What others may rely on once it has left the node: term, vote, whether it leads, commit index,
# index and term of the last entry, and the index of the snapshot.
Token: TypeAlias = tuple[Term, NodeId, bool, Index, Index, Term, Index]


@dataclass(slots=True)
class Step:
    """What is to be checked of a step when it has left the node."""

    token: Token
    # The entries that it committed, and the index of the first. Noted at once: the log may be
    # compacted before they leave.
    first: Index
    committed: list[bytes]
    snapshot: Complete | None  # if it is new


@dataclass(slots=True)
class _Seen:
    """What was seen of one life of one node."""

    checked_index: Index = 0  # entries up to here are registered
    truncated: int = 0
    led_term: Term = 0  # the term in which it was last seen to lead
    truncated_then: int = 0
    told: Token | None = None  # the last one
    commit_index: Index = 0  # in memory
    snapshot_index: Index = 0


@dataclass(slots=True)
class _Entry:
    data: bytes
    previous_term: Term
    node: NodeId  # where it was first seen


@dataclass(slots=True)
class _Known:
    """What is known of one node for ever, crashes included."""

    term: Term = 0
    votes: dict[Term, NodeId] = field(default_factory=dict)
    committed: Index = 0
    last: tuple[Index, Term] = (0, 0)  # the last entry that was durable and let out
    steps: deque[Step] = field(default_factory=deque)  # not let out yet


class RaftInvariants:
    """All properties of one cluster; fulfils ``replication.simulation.watching.Watcher``."""

    def __init__(self, settings: RaftSettings, nodes: Sequence[NodeId]) -> None:
        self._default_read = settings.default_read
        # Of clocks' rates, as leases have it; once it was passed, leases promise nothing any more:
        # when the last one of that time has ended is not known here.
        self._drift_max = settings.clock_drift_max
        self._clock_ppm: dict[NodeId, int] = {}
        self._leases_hold = True
        self._acknowledged_index: Index = 0  # the highest of a write that was acknowledged
        # By node and request; the request is kept so that its identity stays its own.
        self._read_floors: dict[tuple[NodeId, int], tuple[Index, storage_pb2.GetRequest]] = {}
        self._seen = {node: _Seen() for node in nodes}
        self._known = {node: _Known() for node in nodes}
        self._void = False  # a disk was wiped
        self._leaders: dict[Term, NodeId] = {}
        self._newest_leader: tuple[Term, NodeId, RaftCore] | None = None
        self._entries: dict[tuple[Index, Term], _Entry] = {}
        # By index from 1: the entry, and the term of the node that first released its commit.
        self._committed: list[tuple[bytes, Term]] = []
        self._state = CommittedState(settings)

    def clock_runs(self, node: NodeId, ppm: int) -> None:
        """Note whether clocks keep to the bound that leases rest on (dissertation §6.4.1)."""
        self._clock_ppm[node] = ppm
        rates = [1_000_000 + each for each in self._clock_ppm.values()]
        if max(rates) > min(rates) * (1 + self._drift_max):
            self._leases_hold = False

    def started(self, node: NodeId, core: Core) -> None:
        """A life begins: nothing that was let out may be missing."""
        assert isinstance(core, RaftCore), "these are the invariants of RaftCore"
        self._seen[node] = _Seen()
        if self._void:
            return
        known, replica = self._known[node], core.replica
        for step in known.steps:
            # A snapshot became durable before it was let out what it stands for.
            behind = max(0, replica.snapshots.index - step.first + 1)
            for index, data in enumerate(step.committed[:behind], step.first):
                self._commits(node, step.token[0], index, data)
        known.steps.clear()
        assert replica.term >= known.term, (
            f"Terms do not go back (Raft §5.1): {node} had told term {known.term} and restarted "
            f"in term {replica.term}"
        )
        vote = known.votes.get(replica.term, replica.vote)
        assert vote in ("", replica.vote), (
            f"Votes are durable (Raft §5.2): {node} voted for {vote} in term {replica.term} "
            f"and has forgotten it in a restart"
        )
        index, term = known.last
        log = replica.log
        # A leader of a later term may have overwritten it in a commit that nobody heard of yet.
        in_snapshot = index <= replica.snapshots.index
        assert in_snapshot or log.matches(index, term) or replica.term > known.term, (
            f"Entries are durable before they are answered (Raft figure 2): {node} had let out "
            f"entry {index} of term {term}, and its log ends at {log.last_index} of term "
            f"{log.last_term} after a restart"
        )

    def submitted(self, node: NodeId, body: RequestBody) -> None:
        """Note what a linearizable read has to see."""
        if isinstance(body, storage_pb2.GetRequest) and self._is_linearizable(body):
            # A client may ask the same again; the answer may be to the first time.
            self._read_floors.setdefault((node, id(body)), (self._acknowledged_index, body))

    def _is_linearizable(self, body: storage_pb2.GetRequest) -> bool:
        return self._read_as(body) is not DefaultRead.LOCAL

    def _read_as(self, body: storage_pb2.GetRequest) -> DefaultRead:
        match body.consistency:
            case storage_pb2.CONSISTENCY_LOCAL:
                return DefaultRead.LOCAL
            case storage_pb2.CONSISTENCY_LEASE:
                return DefaultRead.LEASE
            case storage_pb2.CONSISTENCY_UNSPECIFIED:
                return self._default_read
        return DefaultRead.LINEARIZABLE

    def stepped(self, node: NodeId, core: Core, effects: Sequence[Effect]) -> Step | None:
        """Check the log; return what is to be checked when it has left the node."""
        assert isinstance(core, RaftCore), "these are the invariants of RaftCore"
        if self._void:
            return None
        replica = core.replica
        log = replica.log
        seen = self._seen[node]
        leads = core.leader is not None
        truncated = replica.counters.truncated_entries
        if truncated != seen.truncated:
            seen.truncated = truncated
            _only_conflicts_cut(node, core, effects)
            # Where it was cut is not known here; what is committed cannot be it.
            seen.checked_index = min(seen.checked_index, replica.commit_index)
        if core.leader is not None:
            if seen.led_term != replica.term:
                seen.led_term, seen.truncated_then = replica.term, truncated
            assert seen.truncated_then == truncated, (
                f"Leader Append-Only (Raft §5.3): {node} cut its log while it led "
                f"term {replica.term}"
            )
            self._counts_what_is_stored(node, core.leader)
        last_index = log.last_index
        first = max(seen.checked_index, log.start_index) + 1
        if first <= last_index:
            self._register(node, core, first, last_index)
        seen.checked_index = last_index
        open_changes = replica.configurations.open_changes
        assert open_changes <= 1, (
            f"One change at a time (dissertation §4.1): {node} has {open_changes} configurations "
            f"behind the last one that is committed"
        )
        commit_index, snapshots = replica.commit_index, replica.snapshots
        last = (last_index, log.last_term, snapshots.index)
        told = (replica.term, replica.vote, leads, commit_index, *last)
        if told == seen.told:
            return None
        seen.told = told
        # What came with a snapshot is in no log.
        first = max(seen.commit_index, log.start_index) + 1
        committed = [log.data_at(index) for index in range(first, commit_index + 1)]
        step = Step(told, first, committed, None)
        seen.commit_index = commit_index
        if snapshots.index != seen.snapshot_index:
            seen.snapshot_index, step.snapshot = snapshots.index, snapshots.complete
        self._known[node].steps.append(step)
        return step

    def released(self, node: NodeId, core: Core, token: object) -> None:
        """Check a vote, a leadership and commits that others may hear of from now on."""
        assert isinstance(core, RaftCore), "these are the invariants of RaftCore"
        assert isinstance(token, Step), "the token is what stepped returned"
        if self._void:
            return
        term, vote, leads, commit_index, last_index, last_term, _ = token.token
        known = self._known[node]
        assert known.steps.popleft() is token, "steps leave in order"
        known.last = (last_index, last_term)
        assert term >= known.term, (
            f"Terms do not go back (Raft §5.1): {node} was in term {known.term} and is in {term}"
        )
        known.term = term
        if vote:
            first = known.votes.setdefault(term, vote)
            assert first == vote, (
                f"One vote per term (Raft §5.2): {node} voted for {first} and for {vote} "
                f"in term {term}"
            )
        if leads:
            self._leads(node, core, term)
        for index, data in enumerate(token.committed, token.first):
            self._commits(node, term, index, data)
        assert commit_index <= len(self._committed), (
            f"A snapshot stands for what was committed (dissertation §5): {node} has one that ends "
            f"at {commit_index}, and only {len(self._committed)} entries were"
        )
        known.committed = max(known.committed, commit_index)
        if token.snapshot is not None:
            self._state.check(node, token.snapshot)

    def replied(self, node: NodeId, body: RequestBody, result: Response | OperationError) -> None:
        """Check what a read saw; what is wrong in the values is for the history's checks."""
        if self._void or isinstance(result, OperationError | control_pb2.CommandResponse):
            return
        assert not isinstance(body, control_pb2.CommandRequest), "a command gets its own response"
        index = result.served.log_index
        if not isinstance(result, storage_pb2.GetResponse):
            self._acknowledged_index = max(self._acknowledged_index, index)
            return
        assert isinstance(body, storage_pb2.GetRequest), "a read gets what was read"
        floor, _ = self._read_floors.pop((node, id(body)), (0, body))
        if self._read_as(body) is DefaultRead.LEASE and not self._leases_hold:
            return
        assert index >= floor, (
            f"Linearizable reads see acknowledged writes (dissertation §6.4): {node} read "
            f"{body.key} at index {index}, and the write at index "
            f"{floor} had been acknowledged before it was asked"
        )

    def stopped(self, node: NodeId, wiped: bool) -> None:
        """A disk that forgets is outside of what Raft tolerates: nothing is checked any more."""
        if wiped:
            self._void = True

    def _counts_what_is_stored(self, node: NodeId, leader: Leader) -> None:
        known = self._known
        for follower in leader.followers.values():
            stored = known[follower.node]
            # A node of a later term may have dropped what this leader, deposed, still counts.
            assert follower.match_index <= stored.last[0] or stored.term > leader.term, (
                f"An entry is durable before it is acknowledged (Raft figure 2): {node} counts "
                f"entries up to {follower.match_index} as stored at {follower.node}, whose disk "
                f"holds them up to {stored.last[0]}"
            )

    def _register(self, node: NodeId, core: RaftCore, first: Index, last: Index) -> None:
        """Log Matching, by induction: an entry is known by index and term, and its predecessor
        has one term. Then all entries before it are equal too (Raft §5.3)."""
        log, entries = core.replica.log, self._entries
        previous_term = log.term_at(first - 1)
        for index in range(first, last + 1):
            term, data = log.term_at(index), log.data_at(index)
            known = entries.get((index, term))
            if known is None:
                entries[index, term] = _Entry(data, previous_term, node)
            else:
                assert known.previous_term == previous_term, (
                    f"Log Matching (Raft §5.3): {known.node} and {node} hold entry {index} of "
                    f"term {term}, but before it one of term {known.previous_term} and "
                    f"one of term {previous_term}"
                )
                assert known.data is data or known.data == data, (
                    f"Log Matching (Raft §5.3): entry {index} of term {term} differs between "
                    f"{known.node} ({_words(known.data)}) and {node} ({_words(data)})"
                )
            previous_term = term

    def _leads(self, node: NodeId, core: RaftCore, term: Term) -> None:
        first = self._leaders.get(term)
        if first == node:
            return
        assert first is None, (
            f"Election Safety (Raft §5.2): {first} and {node} both lead term {term}"
        )
        self._leaders[term] = node
        if self._newest_leader is None or self._newest_leader[0] < term:
            self._newest_leader = (term, node, core)
        for index, (_, committed_term) in enumerate(self._committed, 1):
            # Leaderships may be released late, when later terms have committed more.
            if committed_term < term:
                self._holds_committed(node, core, term, index)

    def _commits(self, node: NodeId, term: Term, index: Index, data: bytes) -> None:
        committed, newest = self._committed, self._newest_leader
        if index <= len(committed):
            expected = committed[index - 1][0]
            assert expected is data or expected == data, (
                f"State Machine Safety (Raft §5.4.3): entry {index} was committed as "
                f"{_words(expected)}, and {node} applies {_words(data)}"
            )
            return
        assert index == len(committed) + 1, f"{node} commits {index} without what is before it"
        committed.append((data, term))
        self._state.commit(index, data)
        if newest is not None and newest[0] > term:
            # Committed in an older term than that of a leader which exists already.
            self._holds_committed(newest[1], newest[2], newest[0], index)

    def _holds_committed(self, node: NodeId, core: RaftCore, term: Term, index: Index) -> None:
        log, expected = core.replica.log, self._committed[index - 1][0]
        if index <= log.start_index:
            return  # in a snapshot, whose content is checked as such
        held = log.data_at(index) if index <= log.last_index else None
        assert held is expected or held == expected, (
            f"Leader Completeness (Raft §5.4.3): {node} leads term {term}, and at index {index} "
            f"it holds {_words(held)} where {_words(expected)} was committed"
        )


def _only_conflicts_cut(node: NodeId, core: RaftCore, effects: Sequence[Effect]) -> None:
    """Check that another entry came in the place of each that was dropped first."""
    for effect in effects:
        if not isinstance(effect, Observe) or not effect.event.HasField("log_truncated"):
            continue
        from_index = effect.event.log_truncated.from_index
        log = core.replica.log
        # Or the snapshot that it got ends right before, at another entry than its own.
        installed = log.start_index == from_index - 1 == core.replica.snapshots.index
        assert log.last_index >= from_index or installed, (
            f"Only a conflict cuts a log (Raft figure 2): {node} dropped its entries from index "
            f"{from_index} on, and nothing came in their place"
        )


def _words(data: bytes | None) -> str:
    if data is None:
        return "nothing"
    entry = raft_pb2.Entry.FromString(data)
    kind = entry.WhichOneof("command")
    if kind is None or kind == "configuration":
        return f"a {kind or 'no-op'} of term {entry.term}"
    command = getattr(entry, kind)
    write_id = f"{command.write_id.client_id}:{command.write_id.sequence}"
    return f"{kind} {command.key} ({write_id}) of term {entry.term}"


def invariants(settings: RaftSettings, nodes: tuple[NodeId, ...]) -> RaftInvariants:
    """Return the watcher of one simulated cluster."""
    return RaftInvariants(settings, nodes)
