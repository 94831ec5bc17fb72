"""How fresh reads were by the time since the write, beside what PBS predicts from the delays.

Measured: each read is held against the newest write of its key that had been acknowledged when it
began; t is the time between the two, as the clients saw it. Only writes that no other write of the
key overlaps, up to the end of the read, are taken: then there is no doubt what is the newest, and
the read was fresh if it returned that. Reads while a fault lasted are left out, and those after it
as long as hints were delivered: the model knows no faults.

Predicted: WARS drawn from the one-way delays of the run's own messages (``History.delays``), for
each pair with what is known of its coordinators: whether they held a copy themselves, whether they
were the same node, and whether the operation was passed on to them. The clients' own ways are part
of t, so they are drawn too: an acknowledgement travels while the copies do.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import inf

import numpy as np

from replication.analysis.pbs import (
    Draws,
    Legs,
    Own,
    Sampler,
    observed,
    visibility,
    within_versions,
)
from replication.analysis.promised import setting
from replication.analysis.staleness import newest_seen_ns
from replication.analysis.staleness_findings import Pbs, VisibilityBin
from replication.analysis.view import View
from replication.history import Operation, OperationKind, Outcome, Phase
from replication.legs import fault_windows

TRIALS = 20_000  # per kind of pair
BINS = 20
VERSIONS_MAX = 10
BIN_READS_MIN = 30  # below it a bin says too little to be compared
SPAN_MS_MIN = 1.0
CERTAIN = 0.9995  # where the predicted curve is drawn to
SEED = 20_120_801  # of the draws: the same history gives the same prediction

_LEGS = ("write", "acknowledgement", "read", "response")


@dataclass(frozen=True, slots=True)
class _Kind:
    """What is known of a pair beforehand."""

    own: Own
    write_forwarded: bool
    read_forwarded: bool


@dataclass(frozen=True, slots=True)
class _Pair:
    """A read and the write that it was to see."""

    t_ms: float
    fresh: bool
    kind: _Kind


def pbs(view: View) -> Pbs | None:
    """Return prediction and measurement; None for a side without N, R and W."""
    n, r, w = (int(each) if each is not None and each.isdigit() else 0
               for each in (setting(view, name) for name in ("n", "r", "w")))  # fmt: skip
    if view.history.family != "leaderless" or not (1 <= r <= n and 1 <= w <= n):
        return None
    behind = np.array(list(_versions_behind(view)), dtype=np.int64)
    ks = range(1, VERSIONS_MAX + 1)
    found = Pbs(
        n,
        r,
        w,
        [within_versions(n, r, w, k) for k in ks],
        [float((behind < k).mean()) for k in ks] if len(behind) else [],
    )
    pairs = list(_pairs(view))
    if not pairs:
        found.note = "no read followed an acknowledged write of its key while nothing failed"
        return found
    thresholds = _thresholds(view, found, {pair.kind for pair in pairs})
    _fill(found, pairs, thresholds)
    return found


def _judged_reads(view: View) -> Iterator[Operation]:
    windows = list(_faulty(view))
    for each in view.history.operations:
        if (
            each.kind is OperationKind.GET
            and each.outcome is Outcome.OK
            and each.phase is not Phase.FINAL
            and each.consistency is None
            and not each.replicas_asked
            and each.complete_ns is not None
            and not any(begin <= each.complete_ns and each.invoke_ns <= end
                        for begin, end in windows)
        ):  # fmt: skip
            yield each


def _faulty(view: View) -> Iterator[tuple[int, int]]:
    """Yield (begin, end) of each fault, with the deliveries of hints that followed it."""
    begun = sorted(each.injected_ns for each in view.history.faults if each.injected_ns is not None)
    delivered = [each.time_ns for each in view.history.events if each.name == "hints_delivered"]
    for begin_ns, end_ns in fault_windows(view.history):
        following = min((each for each in begun if each > end_ns), default=inf)
        late = [each for each in delivered if end_ns < each < following]
        yield begin_ns, max([end_ns, *late])


def _acknowledged(view: View, key: str) -> list[Operation]:
    """Return the acknowledged writes of ``key`` in order of their acknowledgement."""
    writes = [
        each
        for each in view.by_key[key]
        if each.kind.is_write and each.outcome is Outcome.OK and each.complete_ns is not None
    ]
    return sorted(writes, key=lambda each: (each.complete_ns or 0, each.index))


def _pairs(view: View) -> Iterator[_Pair]:
    """Yield each read with the newest write that was acknowledged before it began."""
    owners: dict[str, set[str]] = {
        key: {each.node for each in held} for key, held in view.held.items()
    }
    known: dict[str, _Alone] = {}
    for read in _judged_reads(view):
        if read.key not in known:
            known[read.key] = _Alone(view.by_key[read.key])
        write = known[read.key].before(read)
        if write is None or write.consistency is not None or write.replicas_asked:
            continue
        assert write.complete_ns is not None, "it was acknowledged"
        # Nothing is left of a delete that was purged.
        deleted = write.kind is OperationKind.DELETE and not read.seen
        fresh = deleted or any(each.write_id == write.write_id for each in read.seen)
        holders = owners.get(read.key, set(view.history.nodes))
        kind = _Kind(_own(write, read, holders), _forwarded(view, write), _forwarded(view, read))
        yield _Pair((read.invoke_ns - write.complete_ns) / 1e6, fresh, kind)


class _Alone:
    """The writes of a key that nothing overlaps."""

    def __init__(self, operations: list[Operation]) -> None:
        self._writes = sorted(
            (
                each
                for each in operations
                if each.kind.is_write and each.outcome is not Outcome.FAIL
            ),
            key=lambda each: (each.invoke_ns, each.index),
        )
        self._begins = [each.invoke_ns for each in self._writes]
        self._ended: list[float] = []  # when the last of the writes before each had ended
        ended: float = -inf
        for each in self._writes:
            self._ended.append(ended)
            known = each.outcome is Outcome.OK and each.complete_ns is not None
            ended = max(ended, each.complete_ns or inf if known else inf)

    def before(self, read: Operation) -> Operation | None:
        """Return the write that ``read`` had to see, None if there is doubt which that is."""
        assert read.complete_ns is not None, "an ok read has ended"
        at = bisect_left(self._begins, read.complete_ns) - 1
        if at < 0:
            return None
        write = self._writes[at]
        certain = write.outcome is Outcome.OK and self._ended[at] < write.invoke_ns
        return write if certain and (write.complete_ns or inf) < read.invoke_ns else None


def _ended_ns(view: View, write_id: str) -> float:
    """Return when a write was over; what had ended before another began is the older one."""
    write = view.writes.get(write_id)
    if write is None:
        return -inf
    return inf if write.complete_ns is None else write.complete_ns


def _own(write: Operation, read: Operation, holders: set[str]) -> Own:
    writes, reads = write.node in holders, read.node in holders
    if writes and reads:
        return Own.SAME if write.node == read.node else Own.APART
    return Own.WRITE if writes else Own.READ if reads else Own.NONE


def _forwarded(view: View, operation: Operation) -> bool:
    """Return whether the node that the client asked passed it on; clients ask their home first."""
    home = view.history.clients.get(operation.client)
    return operation.attempts == 1 and home is not None and operation.node != home


def _thresholds(view: View, found: Pbs, kinds: set[_Kind]) -> dict[_Kind, Draws]:
    """Return for each kind of pair when its reads become fresh, ascending, in ms of the clients."""
    delays = {
        leg: np.array(values, dtype=np.float64) / 1e6 for leg, values in view.history.delays.items()
    }
    if not all(leg in delays for leg in _LEGS):
        if found.r + found.w > found.n:
            return {kind: np.zeros(1) for kind in kinds}  # whatever the delays are
        found.note = "the one-way delays of messages were not recorded"
        return {}
    found.drawn_from = {leg: len(values) for leg, values in delays.items()}
    own = observed(delays["own"]) if "own" in delays else None
    # What a core is to do something about waits for it first; copies are taken in the same order.
    legs = Legs(
        observed(delays["write"]),
        _queued(delays, "acknowledgement"),
        _queued(delays, "read"),
        _queued(delays, "response"),
        own,
    )
    result = {}
    for number, kind in enumerate(sorted(kinds, key=repr)):
        rng = np.random.default_rng([SEED, number])
        drawn = visibility(legs, found.n, found.r, found.w, trials=TRIALS, rng=rng, own=kind.own)
        draw = partial(_extra, delays, rng)
        on_the_way = draw("reply") + draw("request")
        if kind.write_forwarded:
            on_the_way += draw("backward")
        if kind.read_forwarded:
            on_the_way += draw("queue") + draw("forward")
        result[kind] = np.sort(rng.permutation(drawn.thresholds) - on_the_way)
    return result


def _queued(delays: dict[str, Draws], leg: str) -> Sampler:
    """Return a sampler of a leg and of the wait for the core that it begins at."""
    way = observed(delays[leg])
    if "queue" not in delays:
        return way
    wait = observed(delays["queue"])
    return lambda rng, trials, replicas: wait(rng, trials, replicas) + way(rng, trials, replicas)


def _extra(delays: dict[str, Draws], rng: np.random.Generator, leg: str) -> Draws:
    return rng.choice(delays[leg], size=TRIALS) if leg in delays else np.zeros(TRIALS)


def _fill(found: Pbs, pairs: list[_Pair], thresholds: dict[_Kind, Draws]) -> None:
    """Sort the pairs into bins of t; each pair is predicted by its own kind and its own t."""
    times = np.array([pair.t_ms for pair in pairs])
    fresh = np.array([pair.fresh for pair in pairs])
    predicted = np.zeros(len(pairs))
    by_kind: dict[_Kind, list[int]] = defaultdict(list)
    for index, pair in enumerate(pairs):
        by_kind[pair.kind].append(index)
    span_ms = SPAN_MS_MIN
    for kind, indexes in by_kind.items():
        if thresholds:
            ascending = thresholds[kind]
            at = np.searchsorted(ascending, times[indexes], side="right")
            predicted[indexes] = at / len(ascending)
            span_ms = max(span_ms, float(ascending[int(CERTAIN * (len(ascending) - 1))]))
    if not thresholds and not fresh.all():
        span_ms = max(span_ms, float(times[~fresh].max()) * 1.25)
    edges = [span_ms * number / BINS for number in range(BINS + 1)] + [inf]
    errors, chances = [], []
    for low, high in pairwise(edges):
        inside = (times >= low) & (times < high)
        reads = int(inside.sum())
        if not reads:
            continue
        expected = float(predicted[inside].mean()) if thresholds else None
        last_ms = float(times[inside].max()) if high == inf else high
        found.bins.append(VisibilityBin(low, last_ms, reads, int(fresh[inside].sum()), expected))
        if expected is not None and reads >= BIN_READS_MIN:
            errors.append((expected - found.bins[-1].share) ** 2)
            chances.append(float((predicted[inside] * (1 - predicted[inside])).mean()) / reads)
    if errors:
        found.rmse = float(np.sqrt(np.mean(errors)))
        found.rmse_by_chance = float(np.sqrt(np.mean(chances)))


def _versions_behind(view: View) -> Iterator[int]:
    """Yield for each read how many acknowledged writes were newer than all it returned."""
    known: dict[str, tuple[list[int], list[int]]] = {}
    for read in _judged_reads(view):
        if read.key not in known:
            writes = _acknowledged(view, read.key)
            known[read.key] = (
                [each.complete_ns or 0 for each in writes],
                [each.invoke_ns for each in writes],
            )
        ends, begins = known[read.key]
        before = bisect_left(ends, read.invoke_ns)
        newest = max(
            (_ended_ns(view, each.write_id) for each in read.seen),
            default=newest_seen_ns(view, read),
        )
        if before:
            # What had ended by then began before then too: only later ones can be newer.
            yield sum(1 for begun in begins[bisect_right(ends, newest) : before] if begun > newest)
