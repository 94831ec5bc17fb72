"""What the clients do: operations drawn from the seed, or listed one by one.

Every client draws from streams of its own (see ``streams``): one for when, one for what. So the
n-th operation of a client is the same whatever the rate, the number of clients or the cluster is,
and two executions of a plan ask for the same.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from itertools import accumulate, count
from math import log
from typing import TypeAlias

from replication.history import OperationKind
from replication.plan.model import PlannedOperation
from replication.plan.streams import stream

SECOND_NS = 1_000_000_000


class Pick(StrEnum):
    """How often each key is chosen."""

    UNIFORM = "uniform"
    ZIPFIAN = "zipfian"  # the k-th key with a probability proportional to 1 / k**theta
    HOTSPOT = "hotspot"  # a share of the operations on a share of the keys


class Spacing(StrEnum):
    """The gaps between the operations of an open loop."""

    POISSON = "poisson"  # exponential: clients that know nothing of each other
    CONSTANT = "constant"


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys and how one is chosen. k0001 is the most popular one, as far as any is.

    YCSB scrambles the ranks of its zipfian by a hash, because its stores are ordered by key. Ours
    hash keys onto a ring, so the ranks stay readable.
    """

    count: int
    pick: Pick = Pick.UNIFORM
    theta: float = 0.99  # zipfian: 0 is uniform, YCSB's 0.99 gives the hottest of 100 keys 19 %
    hot_keys: float = 0.2  # hotspot: the share of the keys that is hot
    hot_operations: float = 0.8  # hotspot: the share of the operations that goes to them

    def names(self) -> tuple[str, ...]:
        """Return every key, the most popular first."""
        return tuple(key_name(rank) for rank in range(self.count))

    def cumulative(self) -> tuple[float, ...]:
        """Return for each rank the weight of all ranks up to it; the last is the total."""
        return _cumulative(self)


def key_name(rank: int) -> str:
    """Return the key of a rank from 0: "k0001"."""
    return f"k{rank + 1:04d}"


@lru_cache(maxsize=8)
def _cumulative(keys: Keys) -> tuple[float, ...]:
    match keys.pick:
        case Pick.UNIFORM:
            weights = [1.0] * keys.count
        case Pick.ZIPFIAN:
            weights = [(rank + 1) ** -keys.theta for rank in range(keys.count)]
        case Pick.HOTSPOT:
            hot = min(keys.count, max(1, round(keys.count * keys.hot_keys)))
            cold = keys.count - hot
            weights = [keys.hot_operations / hot] * hot
            weights += [(1 - keys.hot_operations) / cold] * cold if cold else []
    return tuple(accumulate(weights))


@dataclass(frozen=True, slots=True)
class OpenArrival:
    """Operations start at planned times, whether or not earlier ones have ended."""

    rate_per_s: float  # of all clients together
    spacing: Spacing = Spacing.POISSON


@dataclass(frozen=True, slots=True)
class ClosedArrival:
    """A client starts an operation ``think_ns`` after its last one has ended."""

    think_ns: int = 0


Arrival: TypeAlias = OpenArrival | ClosedArrival


@dataclass(frozen=True, slots=True)
class RegisterWorkload:
    """Reads, writes and deletes of single keys; every value is written once."""

    mix: tuple[tuple[OperationKind, float], ...]  # shares that sum to 1
    keys: Keys
    arrival: Arrival
    clients: int
    value_bytes: int  # at least; a value is never shorter than its name
    with_context: bool

    def key_names(self) -> tuple[str, ...]:
        """Return every key that an operation may touch."""
        return self.keys.names()

    def operations(self, seed: int, client: int, duration_ns: int) -> Iterator[PlannedOperation]:
        """Yield the operations of the ``client``-th client, from 0; endless in a closed loop."""
        name = f"c{client + 1}"
        chance = stream(seed, "workload", name, "what").random
        kinds = [kind for kind, _ in self.mix]
        shares = list(accumulate(share for _, share in self.mix))
        weights = self.keys.cumulative()
        dues = self._dues(seed, client, duration_ns)
        for sequence, due_ns in enumerate(dues, 1):
            # Both draws are made for every operation, so that no kind shifts the keys.
            kind = kinds[_rank(shares, chance())]
            key = key_name(_rank(weights, chance()))
            yield PlannedOperation(
                client=name,
                sequence=sequence,
                due_ns=due_ns,
                kind=kind,
                key=key,
                value=self._value(name, sequence) if kind is OperationKind.PUT else None,
                with_context=self.with_context,
            )

    def _value(self, client: str, sequence: int) -> str:
        return f"{client}-{sequence}".ljust(self.value_bytes, ".")

    def _dues(self, seed: int, client: int, duration_ns: int) -> Iterator[int | None]:
        match self.arrival:
            case ClosedArrival():
                while True:
                    yield None
            case OpenArrival(rate_per_s=rate, spacing=Spacing.CONSTANT):
                # The clients take turns: all of them together are evenly spaced.
                for turn in count():
                    due_ns = round((turn * self.clients + client) * SECOND_NS / rate)
                    if due_ns >= duration_ns:
                        return
                    yield due_ns
            case OpenArrival(rate_per_s=rate):
                chance = stream(seed, "workload", f"c{client + 1}", "when").random
                mean_gap_ns = self.clients * SECOND_NS / rate
                time_ns = 0.0
                while True:
                    time_ns -= log(1.0 - chance()) * mean_gap_ns
                    if time_ns >= duration_ns:
                        return
                    yield int(time_ns)


def _rank(cumulative: list[float] | tuple[float, ...], draw: float) -> int:
    """Return the first rank whose cumulative weight exceeds the ``draw``, 0 to 1, of the total."""
    return min(bisect_right(cumulative, draw * cumulative[-1]), len(cumulative) - 1)


@dataclass(frozen=True, slots=True)
class ExplicitWorkload:
    """The operations as the scenario lists them, such as a failure shrunk to its core."""

    listed: tuple[PlannedOperation, ...]  # per client in order, sequences from 1 without gaps

    def key_names(self) -> tuple[str, ...]:
        """Return every key that an operation touches, in order of name."""
        return tuple(sorted({operation.key for operation in self.listed}))

    def operations(self, seed: int, client: int, duration_ns: int) -> Iterator[PlannedOperation]:
        """Yield the operations listed for the ``client``-th client, from 0."""
        name = f"c{client + 1}"
        return (operation for operation in self.listed if operation.client == name)


Workload: TypeAlias = RegisterWorkload | ExplicitWorkload
