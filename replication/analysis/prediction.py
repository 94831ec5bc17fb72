"""How long a failover should take, from the timeouts alone: to be held against the measured one.

A leader's death is noticed when the first timeout of a follower runs out. Each of the k followers
draws its timeout uniformly from [min, max) when it last hears of the leader (Raft §5.2), so the
first of them comes after min + (max - min) / (k + 1) on average. Of followers that ``priority``
makes wait for longer only those that wait least count: none of the others can come before them.

The leader was last heard with its last heartbeat or its last write, whichever came later. The time
since a heartbeat is uniform in [0, heartbeat), that since a write exponential with the mean gap
between two writes; the least of both is taken as uniform with the same mean.

A leader that is heard and hears nobody is not missed by anybody. With check-quorum, or a lease, it
gives up by itself after that time, and is missed from then on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp

import numpy as np

from replication.analysis.findings import FailoverPrediction
from replication.analysis.latency import nearest_rank
from replication.analysis.promised import setting
from replication.analysis.view import OK, View, columns

RATE_NS = 2_000_000_000  # so much load before the fault, or what there is, tells how often it wrote


@dataclass(frozen=True, slots=True)
class Detection:
    """The time from the leader's death to the first timeout: M - H.

    M is the least of ``followers`` draws from [min, max), H uniform in [0, unheard).
    """

    timeout_min_ns: int
    timeout_max_ns: int
    unheard_ns: int
    followers: int

    @property
    def mean_ns(self) -> float:
        """Return the expectation of M - H."""
        width_ns = self.timeout_max_ns - self.timeout_min_ns
        first_ns = self.timeout_min_ns + width_ns / (self.followers + 1)
        return first_ns - self.unheard_ns / 2

    def share_by(self, after_ns: float) -> float:
        """Return the probability that the death is noticed within ``after_ns``.

        The mean over h in [0, unheard) of P(M <= after + h).
        """
        upper, lower = self._area(after_ns + self.unheard_ns), self._area(after_ns)
        return (upper - lower) / self.unheard_ns

    def quantile_ns(self, share: float) -> float:
        """Return the time within which the death is noticed with probability ``share``."""
        low, high = float(self.timeout_min_ns - self.unheard_ns), float(self.timeout_max_ns)
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


def heard_before_ns(heartbeat_ns: int, write_gap_ns: int | None) -> float:
    """Return the mean time since the last word of a leader: the least of both, see above."""
    if write_gap_ns is None:
        return heartbeat_ns / 2
    share = write_gap_ns / heartbeat_ns
    return write_gap_ns * (1.0 - share * (1.0 - exp(-1.0 / share)))


def predicted(
    view: View, at_ns: int, followers: Sequence[str], deaf: bool = False
) -> FailoverPrediction | None:
    """Return how long a failover at ``at_ns`` should take; None without timeouts or followers.

    ``deaf``: the leader is heard and hears nobody. A round of votes takes about as long as a write:
    there and back, and one sync. So the median of the writes before the fault stands for it, twice
    with pre-votes (dissertation §9.6).
    """
    low, high = (
        _duration(view, "election_timeout_min_ns"),
        _duration(view, "election_timeout_max_ns"),
    )
    draws = low is not None
    if not draws:  # monitors that all wait equally long
        low = high = _duration(view, "detection_timeout_ns")
    heartbeat_ns = _duration(view, "heartbeat_ns")
    resigned_ns = _resigned_ns(view) if deaf else 0
    if low is None or high is None or not heartbeat_ns or not followers or resigned_ns is None:
        return None
    if high < low:
        return None
    first, rank = _first_by_priority(view, followers)
    low, high = low + rank * (high - low), high + rank * (high - low)
    gap_ns = None if deaf else _write_gap_ns(view, at_ns)
    heard_ns = heard_before_ns(heartbeat_ns, gap_ns)
    detection = Detection(low, high, max(round(2 * heard_ns), 1), first)
    rounds = 0 if not draws else 2 if setting(view, "pre_vote") == "True" else 1
    round_ns = _median_write_ns(view, at_ns) if rounds else None
    detected_ns = resigned_ns + round(detection.mean_ns)
    return FailoverPrediction(
        detected_ns=detected_ns,
        detected_low_ns=resigned_ns + round(detection.quantile_ns(0.05)),
        detected_high_ns=resigned_ns + round(detection.quantile_ns(0.95)),
        elected_ns=None if round_ns is None else detected_ns + rounds * round_ns,
        followers=first,
        timeout_min_ns=low,
        timeout_max_ns=high,
        heartbeat_ns=heartbeat_ns,
        rounds=rounds,
        round_ns=round_ns,
        heard_ns=round(heard_ns),
        write_gap_ns=gap_ns,
        resigned_ns=resigned_ns,
    )


def _duration(view: View, name: str) -> int | None:
    text = setting(view, name)
    return int(text) if text is not None and text.isdigit() else None


def _resigned_ns(view: View) -> int | None:
    """Return after how long a leader that hears nobody gives up, None for never."""
    if setting(view, "check_quorum") == "True":
        return _duration(view, "election_timeout_min_ns")
    return _duration(view, "lease_ns") if setting(view, "fencing") == "True" else None


def _first_by_priority(view: View, followers: Sequence[str]) -> tuple[int, int]:
    """Return how many followers come first by ``priority``, and how many others it puts before."""
    text = setting(view, "priority") or ""
    names = [each.strip() for each in text.split(",") if each.strip()]
    ranks = [names.index(each) if each in names else len(names) for each in followers]
    return ranks.count(min(ranks)), min(ranks)


def _write_gap_ns(view: View, before_ns: int) -> int | None:
    loaded = view.once(columns)
    begin_ns = max(view.history.load_start_ns, before_ns - RATE_NS)
    chosen = loaded.write & (loaded.outcome == OK)
    chosen &= (loaded.complete >= begin_ns) & (loaded.complete < before_ns)
    count = int(np.count_nonzero(chosen))
    return (before_ns - begin_ns) // count if count else None


def _median_write_ns(view: View, before_ns: int) -> int | None:
    loaded = view.once(columns)
    chosen = loaded.write & (loaded.outcome == OK) & (loaded.complete < before_ns)
    taken = np.sort(loaded.complete[chosen] - loaded.invoke[chosen])
    return nearest_rank(taken, 0.5) if len(taken) else None
