"""The acceptors of single-decree Paxos, one per key (Lamport, "Paxos Made Simple", 2001).

Each replica of a key is an acceptor. What it has promised and accepted is durable before anybody
hears of it. A decree that is chosen becomes what the replica holds, and the next one starts from
there, as in Cassandra: a proposal replaces the state that its proposer read with its promises.
"""

from collections.abc import Callable
from typing import Final, TypeAlias

from leaderless.v1 import dynamo_pb2
from replication.protocol import Put, Saved

SPACE: Final = "paxos"
APPLIED_MAX: Final = 64  # clients whose last write is remembered with a key

Rank: TypeAlias = tuple[int, str]
NO_BALLOT: Final[Rank] = (0, "")


def rank(ballot: dynamo_pb2.Ballot) -> Rank:
    """Return what orders ballots; (0, "") comes before all."""
    return ballot.round, ballot.actor


class Acceptors:
    """The acceptors of one node."""

    def __init__(
        self,
        encoded: Callable[[str], bytes],
        merge: Callable[[str, bytes], None],
        space: str = SPACE,
    ) -> None:
        self._space = space
        self._encoded = encoded  # what the replica holds
        self._merge = merge  # what was chosen into the replica
        self._records: dict[str, dynamo_pb2.PaxosRecord] = {}
        self.changed: dict[str, None] = {}

    def load(self, saved: Saved) -> None:
        """Take over what was durable."""
        for key, encoded in saved.scan(self._space):
            self._records[key.decode()] = dynamo_pb2.PaxosRecord.FromString(encoded)

    def writes(self) -> list[Put]:
        """Return what must become durable before anybody may hear of it, once."""
        if not self.changed:
            return []
        writes = [
            Put(self._space, key.encode(), self._records[key].SerializeToString())
            for key in self.changed
        ]
        self.changed = {}
        return writes

    def knows(self, key: str) -> bool:
        """Tell whether a compare-and-set of ``key`` ever came here."""
        return key in self._records

    def committed(self, key: str) -> bool:
        """Tell whether one is known here to have been chosen."""
        return key in self._records and self._records[key].HasField("committed")

    def promised(self, key: str) -> Rank:
        """Return the greatest ballot that this node has promised for ``key``."""
        record = self._records.get(key)
        return NO_BALLOT if record is None else rank(record.promised)

    def prepare(self, key: str, ballot: dynamo_pb2.Ballot) -> dynamo_pb2.Promise:
        """Promise to accept nothing below ``ballot`` (phase 1b), and tell what was accepted."""
        record = self._record(key)
        if rank(ballot) <= rank(record.promised):
            return dynamo_pb2.Promise(verdict=_refused(record))
        record.promised.CopyFrom(ballot)
        self.changed[key] = None
        promise = dynamo_pb2.Promise(
            verdict=dynamo_pb2.Verdict(granted=True), siblings=self._encoded(key)
        )
        if record.HasField("accepted"):
            promise.accepted.CopyFrom(record.accepted)
        if record.HasField("committed"):
            promise.committed.CopyFrom(record.committed)
        return promise

    def propose(self, key: str, proposal: dynamo_pb2.Proposal) -> dynamo_pb2.Verdict:
        """Accept ``proposal`` unless a greater ballot was promised (phase 2b)."""
        record = self._record(key)
        if rank(proposal.ballot) < rank(record.promised):
            return _refused(record)
        record.promised.CopyFrom(proposal.ballot)
        record.accepted.CopyFrom(proposal)
        self.changed[key] = None
        return dynamo_pb2.Verdict(granted=True)

    def commit(self, key: str, proposal: dynamo_pb2.Proposal) -> dynamo_pb2.Verdict:
        """Take ``proposal`` into the replica: a majority has accepted it."""
        record = self._record(key)
        if rank(proposal.ballot) > rank(record.committed.ballot):
            self._merge(key, proposal.siblings)
            record.committed.CopyFrom(proposal)
            record.committed.siblings = b""
            # What was accepted below it can never be chosen any more.
            if rank(record.accepted.ballot) <= rank(proposal.ballot):
                record.ClearField("accepted")
            self.changed[key] = None
        return dynamo_pb2.Verdict(granted=True)

    def record(self, key: str) -> dynamo_pb2.PaxosRecord | None:
        """Return what must not be forgotten of ``key``, None if there is nothing."""
        return self._records.get(key)

    def keys(self) -> list[str]:
        """Return the keys of all records."""
        return list(self._records)

    def absorb(self, key: str, other: dynamo_pb2.PaxosRecord) -> None:
        """Become an acceptor that remembers, too, what another did: it takes its place."""
        record = self._record(key)
        if rank(other.promised) > rank(record.promised):
            record.promised.CopyFrom(other.promised)
        if rank(other.committed.ballot) > rank(record.committed.ballot):
            record.committed.CopyFrom(other.committed)
        if rank(other.accepted.ballot) > rank(record.accepted.ballot):
            record.accepted.CopyFrom(other.accepted)
        if rank(record.accepted.ballot) <= rank(record.committed.ballot):
            record.ClearField("accepted")
        self.changed[key] = None

    def _record(self, key: str) -> dynamo_pb2.PaxosRecord:
        record = self._records.get(key)
        if record is None:
            record = self._records[key] = dynamo_pb2.PaxosRecord()
        return record


def _refused(record: dynamo_pb2.PaxosRecord) -> dynamo_pb2.Verdict:
    return dynamo_pb2.Verdict(granted=False, promised=record.promised)
