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
from replication.plan.model import PlannedOperation, Update
from replication.plan.streams import stream

SECOND_NS = 1_000_000_000


class Pick(StrEnum):
    """How often each key is chosen."""

    UNIFORM = "uniform"
    ZIPFIAN = "zipfian"  # the k-th key with a probability proportional to 1 / k**theta
    HOTSPOT = "hotspot"  # a share of the operations on a share of the keys
    LATEST = "latest"  # writes take the keys in turn, reads prefer those written last


class WorkloadKind(StrEnum):
    """What clients do. The letters are YCSB's core workloads."""

    REGISTER = "register"
    COUNTER = "counter"
    SET = "set"
    APPEND = "append"
    YCSB_A = "ycsb-a"  # 50 % reads, 50 % writes
    YCSB_B = "ycsb-b"  # 95 % reads
    YCSB_C = "ycsb-c"  # reads only
    YCSB_D = "ycsb-d"  # 95 % reads, of what was written last
    YCSB_E = "ycsb-e"  # scans, which the API does not offer
    YCSB_F = "ycsb-f"  # 50 % reads, 50 % reads with a write behind them
    EXPLICIT = "explicit"


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
    theta: float = (
        0.99  # zipfian, latest: 0 is uniform, YCSB's 0.99 gives the hottest of 100 keys 19 %
    )
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
        case Pick.ZIPFIAN | Pick.LATEST:
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
    """Reads, writes and deletes of single keys; every value is written once.

    A compare-and-set expects the value that its client last knew of.
    """

    mix: tuple[tuple[OperationKind, float], ...]  # shares that sum to 1
    keys: Keys
    arrival: Arrival
    clients: int
    value_bytes: int  # at least; a value is never shorter than its name
    with_context: bool

    @property
    def kind(self) -> str:
        """What the values mean, as the history says it."""
        return "register"

    def key_names(self) -> tuple[str, ...]:
        """Return every key that an operation may touch."""
        return self.keys.names()

    def operations(self, seed: int, client: int, duration_ns: int) -> Iterator[PlannedOperation]:
        """Yield the operations of the ``client``-th client, from 0; endless in a closed loop."""
        name = f"c{client + 1}"
        chance = stream(seed, "workload", name, "what").random
        kinds = [kind for kind, _ in self.mix]
        shares = list(accumulate(share for _, share in self.mix))
        choice = _Choice(self.keys, self.clients, client)
        dues = _dues(self.arrival, self.clients, seed, client, duration_ns)
        for sequence, due_ns in enumerate(dues, 1):
            # Both draws are made for every operation, so that no kind shifts the keys.
            kind = kinds[_rank(shares, chance())]
            key = choice.key(chance(), kind.is_write)
            with_value = kind in (OperationKind.PUT, OperationKind.COMPARE_AND_SET)
            yield PlannedOperation(
                client=name,
                sequence=sequence,
                due_ns=due_ns,
                kind=kind,
                key=key,
                value=_padded(name, sequence, self.value_bytes) if with_value else None,
                with_context=self.with_context,
                expects_last=kind is OperationKind.COMPARE_AND_SET,
            )


@dataclass(frozen=True, slots=True)
class UpdateWorkload:
    """Reads, and updates: a read whose values the write right behind it builds upon.

    The two are operations of their own. Whether the write is a put with the context of the read or
    a compare-and-set depends on the side (``Plan.update_kinds``); here it is a put.
    """

    update: Update
    updates: float  # their share; the rest are reads alone
    keys: Keys
    arrival: Arrival
    clients: int
    value_bytes: int  # of Update.REPLACE

    @property
    def kind(self) -> str:
        """What the values mean, as the history says it."""
        kinds = {Update.COUNT: "counter", Update.ADD: "set", Update.APPEND: "append"}
        return kinds.get(self.update, "register")

    def key_names(self) -> tuple[str, ...]:
        """Return every key that an operation may touch."""
        return self.keys.names()

    def operations(self, seed: int, client: int, duration_ns: int) -> Iterator[PlannedOperation]:
        """Yield the operations of the ``client``-th client, from 0; endless in a closed loop."""
        name = f"c{client + 1}"
        chance = stream(seed, "workload", name, "what").random
        choice = _Choice(self.keys, self.clients, client)
        sequence = 0
        for due_ns in _dues(self.arrival, self.clients, seed, client, duration_ns):
            updates = chance() < self.updates
            key = choice.key(chance(), updates)
            sequence += 1
            yield PlannedOperation(name, sequence, due_ns, OperationKind.GET, key)
            if updates:
                sequence += 1
                yield PlannedOperation(
                    client=name,
                    sequence=sequence,
                    due_ns=None,
                    kind=OperationKind.PUT,
                    key=key,
                    value=self._value(name, sequence),
                    update=self.update,
                )

    def _value(self, client: str, sequence: int) -> str:
        """Return what is added: 1, or an element that names the write which adds it."""
        match self.update:
            case Update.COUNT:
                return "1"
            case Update.REPLACE:
                return _padded(client, sequence, self.value_bytes)
        return f"{client}-{sequence}"


class _Choice:
    """Chooses keys for one client."""

    def __init__(self, keys: Keys, clients: int, client: int) -> None:
        self._weights = keys.cumulative()
        self._latest = keys.pick is Pick.LATEST
        self._count = keys.count
        self._clients = clients
        self._turn = client  # of all writes, if the clients take turns: the number of our next one

    def key(self, draw: float, is_write: bool) -> str:
        """Return the key of the next operation; ``draw`` is 0 to 1."""
        rank = _rank(self._weights, draw)
        if self._latest and is_write:
            rank = self._turn % self._count
            self._turn += self._clients
        elif self._latest:
            rank = (self._turn - 1 - rank) % self._count
        return key_name(rank)


def _padded(client: str, sequence: int, value_bytes: int) -> str:
    return f"{client}-{sequence}".ljust(value_bytes, ".")


def _dues(
    arrival: Arrival, clients: int, seed: int, client: int, duration_ns: int
) -> Iterator[int | None]:
    """Yield when the ``client``-th of ``clients`` is to begin; None: when it is free."""
    match arrival:
        case ClosedArrival():
            while True:
                yield None
        case OpenArrival(rate_per_s=rate, spacing=Spacing.CONSTANT):
            # The clients take turns: all of them together are evenly spaced.
            for turn in count():
                due_ns = round((turn * clients + client) * SECOND_NS / rate)
                if due_ns >= duration_ns:
                    return
                yield due_ns
        case OpenArrival(rate_per_s=rate):
            chance = stream(seed, "workload", f"c{client + 1}", "when").random
            mean_gap_ns = clients * SECOND_NS / rate
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

    @property
    def kind(self) -> str:
        """What the values mean, as the history says it."""
        return "register"

    def key_names(self) -> tuple[str, ...]:
        """Return every key that an operation touches, in order of name."""
        return tuple(sorted({operation.key for operation in self.listed}))

    def operations(self, seed: int, client: int, duration_ns: int) -> Iterator[PlannedOperation]:
        """Yield the operations listed for the ``client``-th client, from 0."""
        name = f"c{client + 1}"
        return (operation for operation in self.listed if operation.client == name)


Workload: TypeAlias = RegisterWorkload | UpdateWorkload | ExplicitWorkload
