"""Concurrent writes, pair by pair: neither writer had seen the other's.

Where siblings are kept, a version stands until a write that had read it has ended. A write that
begins before then, and has not read it either, makes a pair with it, whether they overlap in time
or not: both are versions of the key that know nothing of each other. Where a put replaces whatever
it finds (one order per key, last-write-wins), only writes that overlap in time are a pair: a later
one is plain overwriting.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from replication.analysis.conflict_findings import ConcurrentPair, PairedWrite
from replication.analysis.promised import keeps_siblings
from replication.analysis.siblings import (
    Episode,
    accepted_writes,
    covered_by,
    ended,
    episodes,
)
from replication.analysis.view import NEVER, View
from replication.history import Operation

PAIRS_MAX = 100
# Of one key at a time: more are compared with the newest of them only.
STANDING_MAX = 200
WALK_MAX = 512


@dataclass(slots=True)
class PairsOfKey:
    """How many pairs a key has, and the first of them."""

    count: int = 0
    first: list[tuple[Operation, Operation]] = field(default_factory=list)


def pairs(view: View) -> dict[str, PairsOfKey]:
    """Return the pairs by key, in order of time; call through ``View.once``."""
    found: dict[str, PairsOfKey] = {}
    for key in view.by_key:
        of_key = PairsOfKey()
        for pair in _pairs_of_key(view, key):
            of_key.count += 1
            if of_key.count <= PAIRS_MAX:
                of_key.first.append(pair)
        if of_key.count:
            found[key] = of_key
    return found


def _pairs_of_key(view: View, key: str) -> Iterator[tuple[Operation, Operation]]:
    accepted = view.once(accepted_writes)
    kept = not view.history.single_register and keeps_siblings(view)
    writes = sorted(
        (each for each in view.by_key[key] if each.write_id in accepted),
        key=lambda each: (each.invoke_ns, each.index),
    )
    standing: list[tuple[int, Operation]] = []  # (replaced when, write)
    for write in writes:
        standing = [each for each in standing if each[0] >= write.invoke_ns][-STANDING_MAX:]
        if not standing:
            standing.append((_replaced_ns(view, write), write))
            continue
        seen = _seen_by(view, write, min(other.invoke_ns for _, other in standing))
        for _, other in standing:
            # A client has one operation under way: two of its own never overlap.
            if (kept or other.client != write.client) and other.write_id not in seen:
                yield other, write
        standing.append((_replaced_ns(view, write), write))


def _seen_by(view: View, write: Operation, since_ns: int) -> set[str]:
    """Return what ``write``'s context covered, directly or through others, as far as it matters.

    What began before ``since_ns`` covers nothing of interest. The walk is cut after ``WALK_MAX``
    writes; what was cut counts as not seen.
    """
    seen: set[str] = set()
    waiting = list(write.based_on)
    while waiting and len(seen) < WALK_MAX:
        write_id = waiting.pop()
        if write_id in seen:
            continue
        seen.add(write_id)
        covered = view.writes.get(write_id)
        if covered is not None and covered.invoke_ns > since_ns:
            waiting += covered.based_on
    return seen


def _replaced_ns(view: View, write: Operation) -> int:
    """Return when a write was over: replaced by one that had read it, or simply ended."""
    if view.history.single_register or not keeps_siblings(view):
        return NEVER if write.complete_ns is None else write.complete_ns
    coverers = view.once(covered_by).get(write.write_id or "", ())
    return min((each.complete_ns or NEVER for each in coverers), default=NEVER)


def told(view: View) -> list[ConcurrentPair]:
    """Return the first pairs, with both writers and what became of them."""
    episode_of: dict[str, Episode] = {}
    for episode in view.once(episodes).found:
        for write_id in episode.versions:
            episode_of.setdefault(write_id, episode)
    every = [pair for of_key in view.once(pairs).values() for pair in of_key.first]
    every.sort(key=lambda pair: (pair[1].invoke_ns, pair[1].index, pair[0].index))
    return [_told(view, episode_of, *each) for each in every[:PAIRS_MAX]]


def _told(
    view: View, episode_of: dict[str, Episode], first: Operation, second: Operation
) -> ConcurrentPair:
    gap_ns = None if first.complete_ns is None else second.invoke_ns - first.complete_ns
    return ConcurrentPair(
        first.key,
        _paired(first),
        _paired(second),
        gap_ns if gap_ns is not None and gap_ns > 0 else None,
        _became(view, episode_of, first, second),
    )


def _paired(write: Operation) -> PairedWrite:
    return PairedWrite(
        write.write_id or "",
        write.client,
        write.node,
        write.invoke_ns,
        write.complete_ns,
        write.outcome.value,
        write.value,
        write.dot,
        list(write.based_on),
    )


def _became(view: View, episode_of: dict[str, Episode], first: Operation, second: Operation) -> str:
    if view.history.single_register:
        return "one order: one replaced the other"
    one, other = first.write_id or "", second.write_id or ""
    dropped = view.once(episodes).dropped
    for loser, winner in ((one, other), (other, one)):
        if dropped.get(loser) == winner:
            return f"{loser} dropped by timestamp for {winner}"
    episode = episode_of.get(one)
    if episode is not None and other in episode.versions and episode.dropped_by is None:
        return "siblings, " + ended(view, episode, view.once(covered_by))[0]
    coverers = view.once(covered_by)
    for write_id in (one, other):
        if write_id in coverers:
            by = min(coverers[write_id], key=lambda each: each.complete_ns or NEVER)
            return f"never met: {by.write_id} had replaced {write_id}"
    if dropped.keys() & {one, other}:
        return "one dropped by timestamp for a third"
    return "not seen together"
