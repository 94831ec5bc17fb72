"""What a leader knows of one follower, and when it may send to it.

Two states, as in etcd's raft (``tracker/progress.go``); a third, for a follower that needs a
snapshot, will stand beside them:

    PROBE      The leader does not know where the logs part. One message at a time; each refusal
               moves ``next_index`` back by at least one entry, usually by a whole term.
    REPLICATE  The logs match at ``match_index``. ``next_index`` runs ahead of the answers: up to
               ``inflight_max`` appends are under way. A refusal (a lost or overtaken message) leads
               back to PROBE at ``match_index + 1``.

A heartbeat is an AppendEntries without entries at ``next_index``: it probes a silent follower
again, and finds out that the last append of a burst was lost.
"""

from collections import deque
from enum import Enum

from leader.raft.log import Index
from replication.protocol import NodeId


class State(Enum):
    """See the module's docstring."""

    PROBE = "probe"
    REPLICATE = "replicate"


class Progress:
    """One follower. ``match_index < next_index`` always holds; ``match_index`` never falls."""

    def __init__(self, node: NodeId, next_index: Index, inflight_max: int, now_ns: int) -> None:
        self.node = node
        self.state = State.PROBE
        self.match_index: Index = 0
        self.next_index = next_index
        self.round_confirmed = 0
        self.heard_ns = now_ns  # when it last answered this leader
        self._probing = False
        self._inflight: deque[Index] = deque()  # last index of each append not yet answered
        self._inflight_max = inflight_max

    def may_send(self) -> bool:
        """Return whether an append with entries may leave now."""
        if self.state is State.PROBE:
            return not self._probing
        return len(self._inflight) < self._inflight_max

    def sent(self, last_index: Index) -> None:
        """Note that entries ``next_index`` to ``last_index`` are on their way."""
        if self.state is State.PROBE:
            self._probing = True
            return
        self._inflight.append(last_index)
        self.next_index = last_index + 1

    def accepted(self, match_index: Index) -> bool:
        """Note that the follower's log equals ours up to ``match_index``; True if that is news."""
        while self._inflight and self._inflight[0] <= match_index:
            self._inflight.popleft()
        self.next_index = max(self.next_index, match_index + 1)
        # Also without news: a follower that answers a probe with success is no longer probed.
        if self.state is State.PROBE and match_index + 1 >= self.next_index:
            self.state = State.REPLICATE
            self._probing = False
        if match_index <= self.match_index:
            return False
        self.match_index = match_index
        return True

    def refused(self, prev_index: Index, next_index: Index) -> bool:
        """Note that the follower has no such entry at ``prev_index``; False if the answer is stale.

        ``next_index`` is where the logs can match at best; see ``Log.last_not_above``.
        """
        if self.state is State.REPLICATE:
            if prev_index <= self.match_index:
                return False
            self.state = State.PROBE
            self._inflight.clear()
            self.next_index = self.match_index + 1
        else:
            if prev_index != self.next_index - 1 or prev_index <= self.match_index:
                return False
            self.next_index = max(min(prev_index, next_index), self.match_index + 1)
        self._probing = False
        return True
