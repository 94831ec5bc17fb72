"""Waiting until a whole round of anti-entropy has found nothing different.

The node that is asked by an operator asks every other to compare itself with all its replicas. Each
answers when every comparison that it began after that was clean. What was acknowledged before the
operator asked is then at all its replicas.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from leaderless.v1 import dynamo_pb2
from replication.protocol import NodeId, RequestId

REPEAT_NS: Final = 500_000_000  # a question that is not answered is asked again
FORGET_NS: Final = 4 * REPEAT_NS  # one that is not repeated is forgotten


@dataclass(slots=True)
class _Asked:
    """One node (this one, too) wants to know when this node is equal to its replicas."""

    number: int
    since_ns: int
    heard_ns: int
    waiting: set[NodeId]  # not yet found equal


@dataclass(slots=True)
class _Barrier:
    """An operator waits here."""

    request_id: RequestId
    deadline_ns: int
    repeat_ns: int
    waiting: set[NodeId]  # have not answered


@dataclass(slots=True)
class Rounds:
    """The rounds that somebody waits for."""

    name: NodeId
    peers: list[NodeId]
    send: Callable[[NodeId, dynamo_pb2.AntiEntropy], None]
    finish: Callable[[RequestId, int | None], None]  # None: done; else how many had answered
    _number: int = 0
    _asked: dict[NodeId, _Asked] = field(default_factory=dict)
    _barriers: dict[int, _Barrier] = field(default_factory=dict)

    @property
    def wanted(self) -> bool:
        """Whether anybody waits for this node's comparisons."""
        return bool(self._asked)

    def begin(self, request_id: RequestId, now_ns: int, deadline_ns: int) -> None:
        """An operator asks."""
        self._number += 1
        waiting = {self.name, *self.peers}
        self._barriers[self._number] = _Barrier(request_id, deadline_ns, now_ns, waiting)
        self.wake(now_ns)

    def wake(self, now_ns: int) -> None:
        """Ask again whoever has not answered, give up what is overdue."""
        for number, barrier in list(self._barriers.items()):
            if now_ns >= barrier.deadline_ns:
                del self._barriers[number]
                answered = len(self.peers) + 1 - len(barrier.waiting)
                self.finish(barrier.request_id, answered)
            elif now_ns >= barrier.repeat_ns:
                barrier.repeat_ns = now_ns + REPEAT_NS
                for node in sorted(barrier.waiting):
                    if node == self.name:
                        self.ask(node, number, now_ns)
                    else:
                        self.send(node, dynamo_pb2.AntiEntropy(round_wanted=number))
        for node, asked in list(self._asked.items()):
            if now_ns - asked.heard_ns > FORGET_NS:
                del self._asked[node]

    def wake_at(self) -> int | None:
        """Return when ``wake`` has something to do."""
        if not self._barriers and not self._asked:
            return None
        times = [min(each.deadline_ns, each.repeat_ns) for each in self._barriers.values()]
        times += [each.heard_ns + FORGET_NS + 1 for each in self._asked.values()]
        return min(times, default=None)

    def ask(self, node: NodeId, number: int, now_ns: int) -> None:
        """Tell ``node`` when all comparisons begun from now on were clean."""
        asked = self._asked.get(node)
        if asked is not None and asked.number == number:
            asked.heard_ns = now_ns
            return
        self._asked[node] = _Asked(number, now_ns, now_ns, set(self.peers))
        if not self.peers:
            self._answer(node, number)

    def equal(self, peer: NodeId, begun_ns: int) -> None:
        """The comparison with ``peer`` that began at ``begun_ns`` found nothing different."""
        for node, asked in list(self._asked.items()):
            if asked.since_ns <= begun_ns:
                asked.waiting.discard(peer)
                if not asked.waiting:
                    self._answer(node, asked.number)

    def done(self, node: NodeId, number: int) -> None:
        """``node`` is equal to all its replicas."""
        barrier = self._barriers.get(number)
        if barrier is not None:
            barrier.waiting.discard(node)
            if not barrier.waiting:
                del self._barriers[number]
                self.finish(barrier.request_id, None)

    def _answer(self, node: NodeId, number: int) -> None:
        del self._asked[node]
        if node == self.name:
            self.done(node, number)
        else:
            self.send(node, dynamo_pb2.AntiEntropy(round_done=number))
