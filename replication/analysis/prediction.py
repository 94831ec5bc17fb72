"""How long a failover should take, from the timeouts alone: to be held against the measured one.

A leader's death is noticed when the first timeout of a follower runs out. Each of the k followers
draws its timeout uniformly from [min, max) when it last hears of the leader (Raft §5.2), so the
first of them comes after min + (max - min) / (k + 1) on average. The leader was last heard up to
one heartbeat before it died; uniformly, if nothing but heartbeats is sent. Under load followers
hear of it more often, so the true mean lies up to half a heartbeat later.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from replication.analysis.findings import FailoverPrediction
from replication.analysis.latency import nearest_rank
from replication.analysis.promised import setting
from replication.analysis.view import OK, View, columns


@dataclass(frozen=True, slots=True)
class Detection:
    """The time from the leader's death to the first timeout: M - H.

    M is the least of ``followers`` draws from [min, max), H uniform in [0, heartbeat).
    """

    timeout_min_ns: int
    timeout_max_ns: int
    heartbeat_ns: int
    followers: int

    @property
    def mean_ns(self) -> float:
        """Return the expectation of M - H."""
        width_ns = self.timeout_max_ns - self.timeout_min_ns
        first_ns = self.timeout_min_ns + width_ns / (self.followers + 1)
        return first_ns - self.heartbeat_ns / 2

    def share_by(self, after_ns: float) -> float:
        """Return the probability that the death is noticed within ``after_ns``.

        The mean over h in [0, heartbeat) of P(M <= after + h).
        """
        upper, lower = self._area(after_ns + self.heartbeat_ns), self._area(after_ns)
        return (upper - lower) / self.heartbeat_ns

    def quantile_ns(self, share: float) -> float:
        """Return the time within which the death is noticed with probability ``share``."""
        low, high = float(self.timeout_min_ns - self.heartbeat_ns), float(self.timeout_max_ns)
        for _ in range(60):  # halves a range of minutes to far below a nanosecond
            middle = (low + high) / 2
            if self.share_by(middle) < share:
                low = middle
            else:
                high = middle
        return high

    def _area(self, until_ns: float) -> float:
        """Return the integral of P(M <= m) for m up to ``until_ns``: 1 - (1 - z)^k, z in [0, 1)."""
        width_ns = self.timeout_max_ns - self.timeout_min_ns
        inside_ns = min(max(until_ns - self.timeout_min_ns, 0.0), float(width_ns))
        beyond_ns = max(until_ns - self.timeout_max_ns, 0.0)
        if width_ns == 0:
            return beyond_ns
        z, power = inside_ns / width_ns, self.followers + 1
        return inside_ns - width_ns / power * (1.0 - (1.0 - z) ** power) + beyond_ns


def predicted(view: View, at_ns: int, followers: Sequence[str]) -> FailoverPrediction | None:
    """Return how long a failover at ``at_ns`` should take; None without timeouts or followers.

    A round of votes takes about as long as a write: there and back, and one sync. So the median of
    the writes before the fault stands for it, twice with pre-votes (dissertation §9.6).
    """
    low, high = setting(view, "election_timeout_min_ns"), setting(view, "election_timeout_max_ns")
    draws = low is not None
    if not draws:  # monitors that all wait equally long
        low = high = setting(view, "detection_timeout_ns")
    found = [low, high, setting(view, "heartbeat_ns")]
    if not followers or not all(each is not None and each.isdigit() for each in found):
        return None
    low_ns, high_ns, heartbeat_ns = (int(each or 0) for each in found)
    if heartbeat_ns < 1 or high_ns < low_ns:
        return None
    detection = Detection(low_ns, high_ns, heartbeat_ns, len(followers))
    rounds = 0 if not draws else 2 if setting(view, "pre_vote") == "True" else 1
    round_ns = _median_write_ns(view, at_ns) if rounds else None
    return FailoverPrediction(
        detected_ns=round(detection.mean_ns),
        detected_low_ns=round(detection.quantile_ns(0.05)),
        detected_high_ns=round(detection.quantile_ns(0.95)),
        elected_ns=None if round_ns is None else round(detection.mean_ns) + rounds * round_ns,
        followers=len(followers),
        timeout_min_ns=low_ns,
        timeout_max_ns=high_ns,
        heartbeat_ns=heartbeat_ns,
        rounds=rounds,
        round_ns=round_ns,
    )


def _median_write_ns(view: View, before_ns: int) -> int | None:
    loaded = view.once(columns)
    chosen = loaded.write & (loaded.outcome == OK) & (loaded.complete < before_ns)
    taken = np.sort(loaded.complete[chosen] - loaded.invoke[chosen])
    return nearest_rank(taken, 0.5) if len(taken) else None
