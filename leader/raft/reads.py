"""Linearizable reads without a write to the log: ReadIndex (dissertation §6.4).

A leader may have been superseded without knowing. So it notes its commit index, asks everybody
"am I still the leader of this term?" and answers from its state machine when a majority has said
yes to a question that was asked *after* the read came in. Questions are numbered; every
AppendEntries carries the newest number and every answer, refusals of entries included, repeats it.
All reads that wait when a round begins share it, so the cost per read falls as the load grows.

The noted commit index needs no field: a leader applies an entry in the call that commits it, so the
state read at confirmation includes the commit index of every earlier moment. A lease (§6.4.1) will
confirm a round by the time it began instead of by its answers.
"""

from collections import deque
from collections.abc import Iterator

from leader.raft.deadlines import Deadlines
from replication.protocol import RequestId


class ReadRounds:
    """The reads of one leader in one term that wait for a confirmation."""

    def __init__(self) -> None:
        self.round = 0  # the newest round begun
        self._keys: dict[RequestId, str] = {}
        self._waiting: list[RequestId] = []  # in no round yet
        self._rounds: deque[tuple[int, list[RequestId]]] = deque()
        self._deadlines: Deadlines[RequestId] = Deadlines(self._keys)

    def add(self, request_id: RequestId, key: str, deadline_ns: int) -> None:
        """Let a read wait for the next round."""
        self._keys[request_id] = key
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

    def confirm(self, round_number: int) -> Iterator[tuple[RequestId, str]]:
        """Yield the reads of every round up to ``round_number``, which a majority has confirmed."""
        while self._rounds and self._rounds[0][0] <= round_number:
            for request_id in self._rounds.popleft()[1]:
                key = self._keys.pop(request_id, None)
                if key is not None:
                    yield request_id, key

    def expire(self, now_ns: int) -> list[RequestId]:
        """Give up the reads whose deadline has come and return them."""
        expired = self._deadlines.due(now_ns)
        for request_id in expired:
            del self._keys[request_id]
        if expired:
            # Without a majority no round is ever confirmed: what is left of them must not pile up.
            self._waiting = [each for each in self._waiting if each in self._keys]
            while self._rounds and not any(each in self._keys for each in self._rounds[0][1]):
                self._rounds.popleft()
        return expired

    def next_deadline_ns(self) -> int | None:
        """Return when ``expire`` has something to do next."""
        return self._deadlines.next_ns()

    def abandon(self) -> list[RequestId]:
        """Give up every read, the oldest first: the leader steps down."""
        abandoned = list(self._keys)
        self._keys.clear()
        self._waiting.clear()
        self._rounds.clear()
        return abandoned
