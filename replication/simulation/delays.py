"""How long something takes: four distributions, in integer nanoseconds."""

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, log
from random import Random
from typing import TypeAlias

Sampler: TypeAlias = Callable[[], int]


@dataclass(frozen=True, slots=True)
class Constant:
    """Always the same."""

    value_ns: int

    def sampler(self, rng: Random) -> Sampler:
        """Return a function that draws once per call; this one draws nothing from ``rng``."""
        value_ns = self.value_ns
        return lambda: value_ns

    def scaled(self, factor: float) -> "Constant":
        """Return the same shape, ``factor`` times as long."""
        return Constant(int(self.value_ns * factor))


@dataclass(frozen=True, slots=True)
class Uniform:
    """Anything between the bounds, both included, equally likely."""

    low_ns: int
    high_ns: int

    def sampler(self, rng: Random) -> Sampler:
        """Return a function that draws once per call."""
        low_ns, width, draw = self.low_ns, self.high_ns - self.low_ns + 1, rng.random
        return lambda: low_ns + int(draw() * width)

    def scaled(self, factor: float) -> "Uniform":
        """Return the same shape, ``factor`` times as long."""
        return Uniform(int(self.low_ns * factor), int(self.high_ns * factor))


@dataclass(frozen=True, slots=True)
class Exponential:
    """A floor and on top of it a wait without memory: the queue of a lightly loaded switch."""

    floor_ns: int
    mean_extra_ns: int

    def sampler(self, rng: Random) -> Sampler:
        """Return a function that draws once per call."""
        floor_ns, mean, draw = self.floor_ns, self.mean_extra_ns, rng.random
        return lambda: floor_ns + int(-mean * log(1.0 - draw()))

    def scaled(self, factor: float) -> "Exponential":
        """Return the same shape, ``factor`` times as long."""
        return Exponential(int(self.floor_ns * factor), int(self.mean_extra_ns * factor))


@dataclass(frozen=True, slots=True)
class Lognormal:
    """Most near the median, now and then much longer: disks, and networks of many hops.

    p99 is median times e^(2.33 sigma): sigma 0.3 gives 2.0, sigma 0.5 gives 3.2.
    """

    median_ns: int
    sigma: float

    def sampler(self, rng: Random) -> Sampler:
        """Return a function that draws once per call."""
        median_ns, sigma, draw = self.median_ns, self.sigma, rng.gauss
        return lambda: int(median_ns * exp(draw(0.0, sigma)))

    def scaled(self, factor: float) -> "Lognormal":
        """Return the same shape, ``factor`` times as long."""
        return Lognormal(int(self.median_ns * factor), self.sigma)


Delay: TypeAlias = Constant | Uniform | Exponential | Lognormal
