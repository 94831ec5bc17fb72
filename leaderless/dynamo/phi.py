"""Suspicion as a matter of degree: the phi accrual failure detector.

Hayashibara, Defago, Yared and Katayama, "The phi Accrual Failure Detector" (SRDS 2004). Phi is the
negative decimal logarithm of the probability that a living peer is silent for so long. As in
Cassandra, the gaps between signs of life are taken to be distributed exponentially, so phi = (t /
mean gap) / ln 10: with a threshold of 8 a peer is suspected after 18.4 mean gaps.
"""

from collections import deque
from collections.abc import Iterable
from math import log
from typing import Final

from leaderless.dynamo.detector import SilenceDetector
from replication.protocol import NodeId

SAMPLES_MAX: Final = 1000
GAPS_ACCEPTED_MAX: Final = 10  # a gap of more heartbeats says that the peer was away, not slow


class _Gaps:
    """The last gaps between signs of life of one peer."""

    def __init__(self, first_ns: int) -> None:
        self._samples: deque[int] = deque([first_ns])
        self._sum_ns = first_ns

    def add(self, gap_ns: int) -> None:
        self._samples.append(gap_ns)
        self._sum_ns += gap_ns
        if len(self._samples) > SAMPLES_MAX:
            self._sum_ns -= self._samples.popleft()

    @property
    def mean_ns(self) -> float:
        return self._sum_ns / len(self._samples)


class PhiDetector(SilenceDetector):
    """Suspects a peer whose silence has become improbable.

    Many messages come between two heartbeats under load. They are signs of life, but not samples: a
    gap counts once it is at least half a heartbeat, or load would make the detector impatient.
    """

    def __init__(
        self, peers: Iterable[NodeId], heartbeat_ns: int, threshold: float, now_ns: int
    ) -> None:
        self._threshold = threshold
        self._first_ns = 2 * heartbeat_ns  # a guess on the patient side, as in Cassandra
        peers = list(peers)
        self._gaps = {peer: _Gaps(self._first_ns) for peer in peers}
        self._sampled_ns = dict.fromkeys(peers, now_ns)
        super().__init__(peers, heartbeat_ns, self._limit_ns(heartbeat_ns), now_ns)

    def _limit_ns(self, mean_ns: float) -> int:
        return round(self._threshold * log(10) * mean_ns)

    def phi(self, peer: NodeId, now_ns: int) -> float:
        """Return how improbable the silence of ``peer`` is."""
        return (now_ns - self._heard_ns[peer]) / self._gaps[peer].mean_ns / log(10)

    def set_peers(self, peers: Iterable[NodeId], now_ns: int) -> None:
        """Watch these from now on; whoever is new has just been heard."""
        peers = list(peers)
        super().set_peers(peers, now_ns)
        self._gaps = {peer: self._gaps.get(peer) or _Gaps(self._first_ns) for peer in peers}
        self._sampled_ns = {peer: self._sampled_ns.get(peer, now_ns) for peer in peers}

    def heard(self, peer: NodeId, now_ns: int) -> bool:
        """Note a sign of life. Returns True if the peer was suspected until now."""
        gap_ns = now_ns - self._sampled_ns.get(peer, now_ns)
        if gap_ns >= self._heartbeat_ns // 2:
            self._sampled_ns[peer] = now_ns
            if gap_ns <= GAPS_ACCEPTED_MAX * self._heartbeat_ns:
                self._gaps[peer].add(gap_ns)
        return super().heard(peer, now_ns)

    def check(self, now_ns: int) -> list[tuple[NodeId, int]]:
        """Let the time pass. Returns the peers suspected from now on, each with its silence."""
        suspected = super().check(now_ns)
        # Means move with every heartbeat, so look again after the next.
        self._check_ns = min(self._check_ns, now_ns + self._heartbeat_ns)
        return suspected

    def silence_max_ns(self, peer: NodeId) -> int:
        """Return after which silence ``peer`` is suspected: its own mean decides."""
        return self._limit_ns(self._gaps[peer].mean_ns)
