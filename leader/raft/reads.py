"""Linearizable reads without a write to the log: ReadIndex (dissertation §6.4).

A leader may have been superseded without knowing. So it notes its commit index, asks everybody
"am I still the leader of this term?" and answers from its state machine when a majority has said
yes to a question that was asked *after* the read came in. Questions are numbered; every
AppendEntries carries the newest number and every answer, refusals of entries included, repeats it.
All reads that wait when a round begins share it, so the cost per read falls as the load grows.

The noted commit index needs no field: a leader applies an entry in the call that commits it, so the
state read at confirmation includes the commit index of every earlier moment.

A follower answers linearizable reads in the same way (``FollowerReads``): it asks the leader, which
treats the question as a read of its own and answers with its commit index, and waits until it has
applied that far. One question covers all reads that came in before it.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

from leader.raft.deadlines import Deadlines
from leader.raft.log import Index
from replication.protocol import NodeId, RequestId


@dataclass(slots=True)
class Question:
    """A follower wants to know how far it has to be."""

    sender: NodeId
    number: int


Asked: TypeAlias = str | Question  # a key, or a follower's question


class ReadRounds:
    """The reads of one leader in one term that wait for a confirmation."""

    def __init__(self) -> None:
        self.round = 0  # the newest round begun
        self._asked: dict[RequestId, Asked] = {}
        self._waiting: list[RequestId] = []  # in no round yet
        self._rounds: deque[tuple[int, list[RequestId]]] = deque()
        self._deadlines: Deadlines[RequestId] = Deadlines(self._asked)
        self._questions = 0

    def add(self, request_id: RequestId, key: str, deadline_ns: int) -> None:
        """Let a read wait for the next round."""
        self._asked[request_id] = key
        self._waiting.append(request_id)
        self._deadlines.add(deadline_ns, request_id)

    def add_question(self, sender: NodeId, number: int, deadline_ns: int) -> None:
        """Let a follower's question wait for the next round."""
        self._questions += 1
        request_id = -self._questions  # beside the ids of requests, which are positive
        self._asked[request_id] = Question(sender, number)
        self._waiting.append(request_id)
        self._deadlines.add(deadline_ns, request_id)

    def wants_round(self) -> bool:
        """Return whether reads wait and no round is under way that others wait for.

        One round at a time is the batching: what arrives meanwhile shares the next one. A round
        whose messages are lost is made good by the next heartbeat, which begins a round anyway.
        """
        return bool(self._waiting) and not self._rounds

    def begin(self, with_reads: bool) -> bool:
        """Begin a round; the waiting reads join it if ``with_reads``. Return whether any did."""
        self.round += 1
        if not with_reads or not self._waiting:
            return False
        self._rounds.append((self.round, self._waiting))
        self._waiting = []
        return True

    def confirm(self, round_number: int) -> Iterator[tuple[RequestId, Asked]]:
        """Yield the reads of every round up to ``round_number``, which a majority has confirmed."""
        while self._rounds and self._rounds[0][0] <= round_number:
            for request_id in self._rounds.popleft()[1]:
                asked = self._asked.pop(request_id, None)
                if asked is not None:
                    yield request_id, asked

    def expire(self, now_ns: int) -> list[RequestId]:
        """Give up what has come to its deadline and return the requests among it."""
        expired = self._deadlines.due(now_ns)
        for request_id in expired:
            del self._asked[request_id]
        if expired:
            # Without a majority no round is ever confirmed: what is left of them must not pile up.
            self._waiting = [each for each in self._waiting if each in self._asked]
            while self._rounds and not any(each in self._asked for each in self._rounds[0][1]):
                self._rounds.popleft()
        return [each for each in expired if each > 0]

    def next_deadline_ns(self) -> int | None:
        """Return when ``expire`` has something to do next."""
        return self._deadlines.next_ns()

    def abandon(self) -> list[RequestId]:
        """Give up everything, the oldest first: the leader steps down. Return the requests."""
        abandoned = [each for each in self._asked if each > 0]
        self._asked.clear()
        self._waiting.clear()
        self._rounds.clear()
        return abandoned


class FollowerReads:
    """The linearizable reads that wait at a node which does not lead."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._number = 0
        self._keys: dict[RequestId, str] = {}
        self._new: list[RequestId] = []  # in no question yet
        self._asked: deque[tuple[int, list[RequestId]]] = deque()
        self._indexed: deque[tuple[Index, list[RequestId]]] = deque()
        self._deadlines: Deadlines[RequestId] = Deadlines(self._keys)
        self._repeat_due_ns = 0

    @property
    def idle(self) -> bool:
        """Whether no read waits."""
        return not (self._keys or self._asked or self._indexed)

    def add(self, request_id: RequestId, key: str, deadline_ns: int) -> None:
        """Let a read wait."""
        if not self._number:
            # Answers to the questions of an earlier life may still be about.
            self._number = self._rng.getrandbits(62)
        self._keys[request_id] = key
        self._new.append(request_id)
        self._deadlines.add(deadline_ns, request_id)

    def ask(self, now_ns: int, repeat_ns: int) -> int | None:
        """Return the number of the question to be asked now, None for none.

        As the rounds of a leader: one question at a time, repeated when it was not answered.
        """
        repeat = bool(self._asked) and now_ns >= self._repeat_due_ns
        if not repeat and (not self._new or self._asked):
            return None
        self._number += 1
        self._repeat_due_ns = now_ns + repeat_ns
        if self._new:
            self._asked.append((self._number, self._new))
            self._new = []
        return self._number

    def answered(self, number: int, index: Index) -> None:
        """The leader has confirmed ``index`` after it was asked ``number``, so for all before."""
        while self._asked and self._asked[0][0] <= number:
            self._indexed.append((index, self._asked.popleft()[1]))

    def ready(self, applied_index: Index) -> Iterator[tuple[RequestId, str]]:
        """Yield the reads whose index is applied."""
        while self._indexed and self._indexed[0][0] <= applied_index:
            for request_id in self._indexed.popleft()[1]:
                key = self._keys.pop(request_id, None)
                if key is not None:
                    yield request_id, key

    def expire(self, now_ns: int) -> list[RequestId]:
        """Give up the reads whose deadline has come and return them."""
        expired = self._deadlines.due(now_ns)
        for request_id in expired:
            del self._keys[request_id]
        return expired

    def due_ns(self, leader_known: bool) -> int | None:
        """Return when there is something to repeat, if there is somebody to ask, or to give up."""
        due_ns = self._deadlines.next_ns() if self._keys else None
        if due_ns is None or not self._asked or not leader_known:
            return due_ns
        return min(due_ns, self._repeat_due_ns)

    def abandon(self) -> list[RequestId]:
        """Give up every read: this node leads, or knows no leader. Return them."""
        abandoned = list(self._keys)
        self._keys.clear()
        self._new.clear()
        self._asked.clear()
        self._indexed.clear()
        return abandoned
