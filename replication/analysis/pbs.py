"""Probabilistically bounded staleness: how likely a partial quorum returns what is out of date.

Bailis et al., "Probabilistically Bounded Staleness for Practical Partial Quorums" (VLDB 2012).

*k-staleness* (§3.1) is closed form. A read that asks R of N replicas misses a write that reached W
of them with probability C(N-W, R) / C(N, R); it misses each of the last k with the k-th power of
that. An upper bound: write quorums go on growing after the acknowledgement.

*t-visibility* (§5) needs the delays, and is computed by drawing them (WARS): the write arrives at
a replica after W and its acknowledgement returns after A; the read arrives after R and its response
returns after S. The write commits when the W-th acknowledgement is back. A read that begins t after
that takes the R responses which return first, and is fresh if one of their replicas had the write
when the read arrived. (Both published versions of the paper print that inequality reversed.)

No read repair, hints, anti-entropy or failures are in the model: what the run measured may be
fresher for them, or staler for the faults.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from math import comb
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Draws: TypeAlias = NDArray[np.float64]
# (generator, trials, replicas) -> delays, one row per trial; any unit, the same for all four.
Sampler: TypeAlias = Callable[[np.random.Generator, int, int], Draws]


def miss_probability(n: int, r: int, w: int) -> float:
    """Return the probability that R replicas at random hold none of W copies."""
    return comb(n - w, r) / comb(n, r)


def within_versions(n: int, r: int, w: int, k: int) -> float:
    """Return the probability that a read returns one of the last ``k`` versions, at least."""
    return 1.0 - miss_probability(n, r, w) ** k


class Own(StrEnum):
    """Which copy is at hand for a coordinator, so that nothing travels to it."""

    NONE = "none"  # the coordinators hold no copy, as in the paper
    WRITE = "write"  # only the writing one
    READ = "read"  # only the reading one
    SAME = "same"  # one node coordinates both
    APART = "apart"  # both, and they are two


@dataclass(frozen=True, slots=True)
class Legs:
    """The four delays of WARS, and how late a coordinator acknowledges its own copy."""

    write: Sampler
    acknowledgement: Sampler
    read: Sampler
    response: Sampler
    own: Sampler | None = None  # None: at once


@dataclass(frozen=True, slots=True)
class Visibility:
    """What drawing gave. ``thresholds`` ascend: a trial's read is fresh from that t on."""

    thresholds: Draws
    read_latencies: Draws  # ascending
    write_latencies: Draws  # ascending

    def fresh_at(self, t: float) -> float:
        """Return the probability that a read begun ``t`` after the commit is fresh."""
        return float(np.searchsorted(self.thresholds, t, side="right") / len(self.thresholds))

    def fresh_until(self, share: float) -> float:
        """Return the t from which on reads are fresh with probability ``share``."""
        return _quantile(self.thresholds, share)

    def write_latency(self, share: float) -> float:
        """Return a quantile of the time until the commit."""
        return _quantile(self.write_latencies, share)

    def read_latency(self, share: float) -> float:
        """Return a quantile of the time until R responses were there."""
        return _quantile(self.read_latencies, share)


def visibility(
    legs: Legs,
    n: int,
    r: int,
    w: int,
    *,
    trials: int,
    rng: np.random.Generator,
    own: Own = Own.NONE,
) -> Visibility:
    """Draw ``trials`` writes, each followed by one read, and return when the reads were fresh.

    One pass gives the whole curve: with c the commit and C the R replicas that answered first, the
    read is fresh from t = max(0, min over C of (W_i - R_i) - c) on.
    """
    write, acknowledgement = legs.write(rng, trials, n), legs.acknowledgement(rng, trials, n)
    read, response = legs.read(rng, trials, n), legs.response(rng, trials, n)
    if own in (Own.WRITE, Own.SAME, Own.APART):
        write[:, 0] = 0.0
        acknowledgement[:, 0] = 0.0 if legs.own is None else legs.own(rng, trials, 1)[:, 0]
    reader = {Own.SAME: 0, Own.READ: 0, Own.APART: min(1, n - 1)}.get(own)
    if reader is not None:
        read[:, reader] = response[:, reader] = 0.0
    commits = np.partition(write + acknowledgement, w - 1, axis=1)[:, w - 1]
    answered = read + response
    if r < n:
        first = np.argpartition(answered, r - 1, axis=1)[:, :r]
        lead = np.take_along_axis(write - read, first, axis=1)
    else:
        lead = write - read
    thresholds = np.maximum(lead.min(axis=1) - commits, 0.0)
    if r + w > n:
        # One replica is in both quorums: it had the write before the commit, so before any read.
        assert not thresholds.any(), "quorums that overlap are never stale"
    return Visibility(
        np.sort(thresholds),
        np.sort(np.partition(answered, r - 1, axis=1)[:, r - 1]),
        np.sort(commits),
    )


def _quantile(ascending: Draws, share: float) -> float:
    rank = int(np.ceil(round(share * len(ascending), 9)))
    return float(ascending[max(rank, 1) - 1])


def observed(delays: Draws) -> Sampler:
    """Return a sampler that draws from what was measured, with replacement."""
    assert len(delays), "nothing was measured"

    def draw(rng: np.random.Generator, trials: int, replicas: int) -> Draws:
        return rng.choice(delays, size=(trials, replicas))

    return draw


def exponential(rate: float) -> Sampler:
    """Return a sampler of waits without memory."""
    return lambda rng, trials, replicas: rng.exponential(1.0 / rate, (trials, replicas))


def pareto(scale: float, alpha: float) -> Sampler:
    """Return a sampler of a heavy tail that begins at ``scale``."""
    return lambda rng, trials, replicas: scale * (1.0 + rng.pareto(alpha, (trials, replicas)))


def mixture(share: float, one: Sampler, other: Sampler) -> Sampler:
    """Return a sampler that takes ``one`` with probability ``share``, else ``other``."""

    def draw(rng: np.random.Generator, trials: int, replicas: int) -> Draws:
        chosen = rng.random((trials, replicas)) < share
        return np.where(chosen, one(rng, trials, replicas), other(rng, trials, replicas))

    return draw
