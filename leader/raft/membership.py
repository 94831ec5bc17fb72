"""Changes of membership, as the leader carries them out (dissertation §4).

One at a time, and not before an entry of the leader's own term is committed: what configurations
are committed is not known earlier. A node that is to vote first listens (a learner, §4.2.1) and
catches up in rounds: each brings what was in the log when it began, and when one takes less than an
election timeout the node is near enough not to hold up the cluster. Then joint consensus (§4.3):
the configuration of both, and when that is committed, the new one. A leader that finds a joint
configuration in its log completes it, whoever began it.

A leader that is not in the new configuration leads until that is committed (§4.2.2): it counts
majorities without itself, tells those who leave, and then lets the one with the longest log stand
for election at once.
"""

from dataclasses import dataclass
from typing import TypeAlias

from leader.raft.configuration import Configuration
from leader.raft.log import Index
from replication.errors import InvalidRequest
from replication.protocol import NodeId, RequestId
from replication.v1 import control_pb2

CATCH_UP_ROUNDS_MAX = 10

Command: TypeAlias = control_pb2.AddMember | control_pb2.RemoveMember | control_pb2.ReplaceMember


@dataclass(slots=True)
class Change:
    """What an operator has asked for and is under way."""

    request_id: RequestId
    deadline_ns: int
    words: str
    target: Configuration
    joins: NodeId = ""  # is to vote, and has to catch up before
    rounds: int = 0
    round_index: Index = 0
    round_began_ns: int = 0

    def caught_up(self, match_index: Index, last_index: Index, now_ns: int, enough_ns: int) -> bool:
        """Return whether the joining node is near enough; else begin the next round if one ended.

        Without rounds a log that grows as fast as it is copied would never be caught up with.
        """
        if self.rounds and match_index < self.round_index:
            return False
        if self.rounds and now_ns - self.round_began_ns < enough_ns:
            return True
        self.rounds += 1
        self.round_index, self.round_began_ns = last_index, now_ns
        return False

    @property
    def hopeless(self) -> bool:
        return self.rounds > CATCH_UP_ROUNDS_MAX


def plan(
    request_id: RequestId, deadline_ns: int, command: Command, now: Configuration
) -> Change | InvalidRequest:
    """Return what ``command`` comes to in the configuration ``now``, or what is wrong with it."""
    if isinstance(command, control_pb2.AddMember):
        return _add(request_id, deadline_ns, command, now)
    if isinstance(command, control_pb2.RemoveMember):
        leaves, joins, words = command.node, "", f"{command.node} is no member any more"
    else:
        leaves, joins = command.node, command.by
        words = f"{joins} is in the place of {leaves}"
    if joins in now.voters and leaves not in now.members:
        return Change(request_id, deadline_ns, words, now)  # an earlier attempt had done it
    if leaves not in now.members:
        return InvalidRequest(f"{leaves!r} is no member; members are {', '.join(now.members)}")
    if joins and (joins in now.voters or leaves not in now.voters):
        return InvalidRequest(f"{leaves} and {joins} cannot change places: only one may be a voter")
    voters = tuple(each for each in now.voters if each != leaves)
    if joins:
        voters = (*voters, joins)
    if not voters:
        return InvalidRequest(f"{leaves} is the last voter")
    learners = tuple(each for each in now.learners if each not in (leaves, joins))
    return Change(request_id, deadline_ns, words, Configuration(voters, (), learners), joins)


def _add(
    request_id: RequestId, deadline_ns: int, command: control_pb2.AddMember, now: Configuration
) -> Change | InvalidRequest:
    node = command.node
    if not node:
        return InvalidRequest("add_member needs a node")
    if command.learner:
        if node in now.voters:
            return InvalidRequest(f"{node} is a voter; remove it first")
        learners = tuple(dict.fromkeys((*now.learners, node)))
        target = Configuration(now.voters, (), learners)
        return Change(request_id, deadline_ns, f"{node} is a learner", target)
    voters = tuple(dict.fromkeys((*now.voters, node)))
    learners = tuple(each for each in now.learners if each != node)
    joins = "" if node in now.voters else node
    target = Configuration(voters, (), learners)
    return Change(request_id, deadline_ns, f"{node} is a voter", target, joins)


def next_step(change: Change, now: Configuration) -> Configuration:
    """Return the configuration to be appended next on the way to the target."""
    if change.joins and change.joins not in now.members:
        return Configuration(now.voters, (), (*now.learners, change.joins))
    if set(change.target.voters) == set(now.voters):
        return change.target
    return Configuration(change.target.voters, now.voters, change.target.learners)
