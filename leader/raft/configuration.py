"""Who is in the cluster, and since which entry of the log (dissertation §4).

A configuration is in force on a node from the moment its entry is in the node's log, committed or
not (§4.1): so a node keeps those that it may have to go back to when its log is cut.

Voters change by joint consensus (§4.3), whatever the change: between the old voters and the new
ones stands a configuration in which every decision needs a majority of both. That is one entry more
than changing one voter at a time (§4.1), and buys two things: a node is replaced without an
intermediate cluster of even size that tolerates no more than before, and the published proof holds
without the amendment that single-server changes needed (Ongaro, raft-dev, 2015).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from leader.raft.log import Index
from leader.raft.quorum import Tally, reached_by_majority, tally
from leader.v1 import raft_pb2
from replication.protocol import NodeId


@dataclass(frozen=True)
class Configuration:
    """Who votes and who only listens."""

    voters: tuple[NodeId, ...]
    outgoing: tuple[NodeId, ...] = ()  # the voters before, in joint consensus
    learners: tuple[NodeId, ...] = ()

    @classmethod
    def of(cls, message: raft_pb2.Configuration) -> "Configuration":
        """Return what an entry or a snapshot says."""
        return cls(tuple(message.voters), tuple(message.outgoing), tuple(message.learners))

    def message(self) -> raft_pb2.Configuration:
        """Return it as entries and snapshots hold it."""
        return raft_pb2.Configuration(
            voters=self.voters, outgoing=self.outgoing, learners=self.learners
        )

    @property
    def is_joint(self) -> bool:
        return bool(self.outgoing)

    @cached_property
    def all_voters(self) -> tuple[NodeId, ...]:
        """Everybody whose vote counts, each once."""
        return tuple(dict.fromkeys((*self.voters, *self.outgoing)))

    @cached_property
    def members(self) -> tuple[NodeId, ...]:
        """Everybody who is to hold the log, each once."""
        return tuple(dict.fromkeys((*self.voters, *self.outgoing, *self.learners)))

    def reached(self, levels: Mapping[NodeId, int]) -> int:
        """Return the highest level that a quorum has reached: a majority, of both if joint."""
        level = reached_by_majority(levels, self.voters)
        return min(level, reached_by_majority(levels, self.outgoing)) if self.outgoing else level

    def tally(self, votes: Mapping[NodeId, bool]) -> Tally:
        """Return how an election stands; in joint consensus it has to be won twice."""
        result = tally(votes, self.voters)
        if not self.outgoing or result is Tally.LOST:
            return result
        other = tally(votes, self.outgoing)
        return result if other is Tally.WON else other


class Configurations:
    """The configurations of one log, the last one in force."""

    def __init__(self, first: Configuration) -> None:
        self._keep([(0, first)])

    def _keep(self, known: list[tuple[Index, Configuration]]) -> None:
        # By index, ascending: the last committed one and those behind it. Index 0: from the start.
        self._known = known
        # The one in force. It and the next two change rarely, and every step asks for them.
        self.latest_index, self.latest = known[-1]
        self.open_changes = len(known) - 1  # that are not committed
        # Everybody whose vote counts, or may count when the log is cut.
        self.voters = frozenset(node for _, each in known for node in each.all_voters)

    def at(self, index: Index) -> Configuration:
        """Return the one in force when the log ended at ``index``, which is not forgotten yet."""
        return next(each for since, each in reversed(self._known) if since <= index)

    def append(self, index: Index, configuration: Configuration) -> None:
        """Go by ``configuration``, whose entry was appended at ``index``."""
        assert index > self.latest_index, "entries are appended in order"
        self._keep([*self._known, (index, configuration)])

    def truncate(self, from_index: Index) -> bool:
        """Go back: the entries from ``from_index`` on were dropped. Return whether that matters."""
        if self.latest_index < from_index:
            return False
        self._keep([each for each in self._known if each[0] < from_index])
        return True

    def committed(self, index: Index) -> None:
        """Forget what the log cannot go back to behind a commit index of ``index``."""
        while len(self._known) > 1 and self._known[1][0] <= index:
            self._keep(self._known[1:])

    def restart(self, index: Index, configuration: Configuration) -> None:
        """Begin anew behind a snapshot."""
        self._keep([(index, configuration)])

    def possible(self) -> list[Configuration]:
        """Return the last committed one and those that may still take its place."""
        return [configuration for _, configuration in self._known]
