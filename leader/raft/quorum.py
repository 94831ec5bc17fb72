"""The arithmetic that Raft's proofs rest on. Pure: the voters are always an argument.

Membership change (dissertation §4) will ask these questions of two sets of voters at once; nothing
else in this package counts nodes.
"""

from collections.abc import Mapping, Sequence
from enum import Enum
from itertools import repeat

from replication.protocol import NodeId


class Tally(Enum):
    """How an election stands."""

    PENDING = "pending"
    WON = "won"
    LOST = "lost"


def majority(voters: int) -> int:
    """Return how many of ``voters`` are a majority. Any two majorities share a voter."""
    return voters // 2 + 1


def reached_by_majority(levels: Mapping[NodeId, int], voters: Sequence[NodeId]) -> int:
    """Return the highest level that a majority of ``voters`` has reached; a silent voter has 0.

    With match indices it is the index that may be committed (Raft §5.4.2 adds a condition), with
    confirmed rounds the newest round in which the leader was still the leader (dissertation §6.4),
    with times of contact the last moment of contact with a majority (§6.2).
    """
    ascending = sorted(map(levels.get, voters, repeat(0)))
    return ascending[(len(ascending) - 1) // 2]


def tally(votes: Mapping[NodeId, bool], voters: Sequence[NodeId]) -> Tally:
    """Return how an election among ``voters`` stands; a voter absent from ``votes`` is silent.

    Votes of nodes that are no voters do not count (Raft §5.2).
    """
    needed = majority(len(voters))
    granted = sum(votes.get(voter, False) for voter in voters)
    if granted >= needed:
        return Tally.WON
    refused = sum(not votes.get(voter, True) for voter in voters)
    return Tally.LOST if len(voters) - refused < needed else Tally.PENDING
