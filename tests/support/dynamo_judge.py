"""Judges a simulated Dynamo cluster by causal histories, which know nothing of vectors.

The causal history of a write is the set of writes that its writer had read, directly or through
other writes, and itself. The judge keeps these sets from what clients were answered, and holds
everything that the cores store and answer against them.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import combinations

from google.protobuf.message import Message

from leaderless.dynamo import DynamoSettings, Purge, Quorum, ReadRepair, Versions
from leaderless.dynamo.context import decode_context
from leaderless.dynamo.vector import NOTHING, VersionVector
from leaderless.dynamo.versions import EMPTY, Dot, Siblings, Version, decode, versioning
from leaderless.v1 import dynamo_pb2
from replication.protocol import Erase, NodeId, Persist
from replication.v1 import storage_pb2
from tests.support.dynamo_cluster import name_of

History = frozenset[str]
Rank = tuple[int, Dot]  # what last-write-wins compares
NOTHING_READ: History = frozenset()


class Violation(AssertionError):
    """A promise was broken."""


def _rank(version: Version) -> Rank:
    return version.timestamp_ns, (version.dot.actor, version.dot.counter)


@dataclass(frozen=True)
class Acknowledged:
    """A write that a client was told of."""

    at_ns: int
    write: str
    copies: int  # that the level asked for
    primaries: int  # that are promised among them


@dataclass
class Judge:
    """Raises Violation at the first promise broken. Keys and writes are named by text."""

    settings: DynamoSettings
    histories: dict[tuple[str, str], History] = field(default_factory=dict)
    owners: dict[tuple[str, Dot], str] = field(default_factory=dict)  # the write of each dot
    ranks: dict[tuple[str, str], list[Rank]] = field(default_factory=lambda: defaultdict(list))
    retried: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    acknowledged: dict[str, list[Acknowledged]] = field(default_factory=dict)
    durable: dict[tuple[NodeId, str], Siblings] = field(default_factory=dict)
    asked: dict[int, tuple[str, Siblings]] = field(default_factory=dict)  # by number
    standing: dict[tuple[NodeId, str], Siblings] = field(default_factory=dict)  # in for others
    ever_durable: dict[tuple[NodeId, str], VersionVector] = field(default_factory=dict)
    shown: dict[str, list[tuple[int, History]]] = field(default_factory=lambda: defaultdict(list))
    purged: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    any_wiped: bool = False
    refusals: list[tuple[str, str]] = field(default_factory=list)
    siblings_most: int = 0

    def began(self, key: str, write: str, read: History) -> None:
        """A client sends a write, having read ``read``. A retry says the same again."""
        assert self.histories.setdefault((key, write), read | {write}) == read | {write}

    def sent(self, node: NodeId, message: Message) -> None:
        """What a node says that it holds, it has on its disk."""
        assert isinstance(message, dynamo_pb2.DynamoMessage)
        for store in message.batch.stores:
            siblings = decode(store.siblings)
            self._know_dots(store.key, siblings)
            self.asked[store.number] = (store.key, siblings)
        for load in message.batch.loads:
            self.asked[load.number] = (load.key, EMPTY)
        for number in message.batch.stored:
            self._is_durable(node, *self.asked[number])
        for loaded in message.batch.loaded:
            key, _ = self.asked[loaded.number]
            self._is_durable(node, key, decode(loaded.siblings))

    def _is_durable(self, node: NodeId, key: str, siblings: Siblings) -> None:
        # It may have been handed over or purged in the same round.
        durable = self.ever_durable.get((node, key), NOTHING)
        for dot in siblings.versions:
            if not durable.covers(*dot):
                raise Violation(f"{node} told of {dot} of {key} before it was durable")

    def persisted(self, node: NodeId, persist: Persist) -> None:
        """A replica's knowledge grows; it keeps exactly what no other write it knows has read."""
        for write in persist.writes:
            held = {"kv": self.durable, "stand-in": self.standing}.get(write.space)
            if held is None:
                continue
            if isinstance(write, Erase):
                key = write.start.decode()
                # It may have come and gone between two writes to the disk.
                gone = held.pop((node, key), EMPTY)
                if held is self.durable and gone.versions:
                    self._purged(key, gone)
                continue
            key = write.key.decode()
            siblings = decode(write.value)
            self._know_dots(key, siblings)
            before = held.get((node, key), EMPTY)
            if not siblings.vector.includes(before.vector):
                raise Violation(f"{node} forgot dots of {key}: {before.vector}, {siblings.vector}")
            held[node, key] = siblings
            known = self.ever_durable.get((node, key), NOTHING)
            self.ever_durable[node, key] = known.join(siblings.vector)
            self.siblings_most = max(self.siblings_most, len(siblings.distinct()))
            if self.settings.versions.keeps_siblings:
                self._exactly_the_concurrent(node, key, siblings)

    def _purged(self, key: str, gone: Siblings) -> None:
        """A deleted key is forgotten, with all that its tombstones had won over."""
        if not gone.is_deleted():
            raise Violation(f"{key} was purged and not deleted: {gone}")
        for version in gone.versions.values():
            self.purged[key] |= self.histories[key, name_of(version)]
            if not self.settings.versions.keeps_siblings:
                self.purged[key] |= {
                    write
                    for (other, write), ranks in self.ranks.items()
                    if other == key and min(ranks) <= _rank(version)
                }

    def wiped(self, node: NodeId) -> None:
        """A disk is lost. From now on a read quorum may miss what an overlapping one had."""
        self.any_wiped = True
        for place in (self.durable, self.standing, self.ever_durable):
            for held in [held for held in place if held[0] == node]:
                del place[held]

    def refused(self, key: str, write: str) -> None:
        """A definite error: this write did not and never will take effect."""
        self.refusals.append((key, write))

    def wrote(
        self,
        at_ns: int,
        key: str,
        write: str,
        request: bytes,
        response: storage_pb2.PutResponse | storage_pb2.DeleteResponse,
        *,
        settled: bool,
    ) -> None:
        """An acknowledged write: its context is the request's and the new dot, nothing else.

        ``settled``: it asked for the W of the cluster, otherwise for level ANY.
        """
        dot = (response.dot.actor, response.dot.counter)
        if self._owner(key, dot) != write:
            raise Violation(f"{write} of {key} was answered with {dot} of {self._owner(key, dot)}")
        before, after = decode_context(key, request), decode_context(key, response.context)
        if self.settings.versions is Versions.VERSION_VECTOR:
            seen = {self._owner(key, each) for each in after.dots()}
            if not after.includes(before) or not seen <= self.histories[key, write]:
                raise Violation(f"the context after {write} of {key} covers {sorted(seen)}")
        elif after != before.with_dot(*dot):
            raise Violation(f"the context after {write} of {key} is not {before} and {dot}")
        copies = self.settings.w if settled else 1
        primaries = copies
        if not settled or self.settings.quorum is Quorum.SLOPPY:
            primaries = sum(not replica.fallback for replica in response.served.replicas)
        told = Acknowledged(at_ns, write, copies, primaries)
        self.acknowledged.setdefault(key, []).append(told)

    def read(
        self, began_ns: int, now_ns: int, key: str, response: storage_pb2.GetResponse
    ) -> History:
        """A read sees all that was acknowledged before, and its context covers what it saw.

        With blocking repair and overlapping read quorums it sees all that earlier reads have seen.

        Returns what the reader has read by it.
        """
        shown = [name_of(version) for version in response.versions]
        if len(set(shown)) != len(shown):
            raise Violation(f"a read of {key} shows a write twice: {shown}")
        for version in response.versions:
            undone = name_of(version) in self.purged[key] - self.retried[key]
            if undone and not version.tombstone:
                raise Violation(f"{name_of(version)} of {key} was deleted and is back")
        seen = NOTHING_READ.union(*(self.histories[key, write] for write in shown))
        vector = decode_context(key, response.context)
        covered = {self._owner(key, dot) for dot in vector.dots()}
        if covered != seen:
            raise Violation(f"a read of {key} shows {sorted(seen)}, covers {sorted(covered)}")
        readers = sum(not replica.fallback for replica in response.served.replicas)
        if not self.any_wiped:
            before = [
                each.write
                for each in self.acknowledged.get(key, [])
                if each.at_ns < began_ns and each.primaries + readers > self.settings.n
            ]
            self._all_visible(key, before, response.versions)
            if self._reads_are_monotonic():
                earlier = [seen for at_ns, seen in self.shown[key] if at_ns < began_ns]
                before = sorted(set().union(*earlier))
                self._all_visible(key, before, response.versions, "was shown before")
                self.shown[key].append((now_ns, frozenset(shown)))
        return seen

    def _reads_are_monotonic(self) -> bool:
        settings = self.settings
        blocking = settings.read_repair is ReadRepair.BLOCKING
        return blocking and 2 * settings.r > settings.n and settings.quorum is Quorum.STRICT

    def refusals_were_true(self) -> None:
        """Nobody has ever seen a dot of a refused write."""
        for key, write in self.refusals:
            if self.ranks.get((key, write)):
                raise Violation(f"{write} of {key} was refused, and took effect all the same")

    def converged(self, key: str, replicas: Iterable[NodeId]) -> None:
        """After repair all replicas hold the same."""
        for one, other in combinations(replicas, 2):
            held, theirs = self._held(one, key), self._held(other, key)
            if not held.same(theirs):
                raise Violation(f"{one} and {other} differ in {key}: {held}, {theirs}")

    def equal(self, key: str, replicas: Iterable[NodeId]) -> bool:
        """Tell whether all replicas hold the same."""
        first, *others = (self._held(node, key) for node in replicas)
        return all(first.same(other) for other in others)

    def _held(self, node: NodeId, key: str) -> Siblings:
        held = self.durable.get((node, key), EMPTY)
        # One of them may not have heard yet that it may forget the key.
        forgotten = self.settings.purge is not Purge.NEVER and held.is_deleted()
        return EMPTY if forgotten else held

    def nothing_is_lost(self, key: str, replicas: Iterable[NodeId]) -> None:
        """What all disks say together has every acknowledged write or its successor.

        Fewer disks than W may have been lost: then a write that fewer copies were counted for (at
        level ANY or ONE) may have been.
        """
        merged = EMPTY
        rules = versioning(self.settings.versions)
        held = [self.durable.get((node, key), EMPTY) for node in replicas]
        held += [siblings for (_, name), siblings in self.standing.items() if name == key]
        for siblings in held:
            merged = rules.merge(merged, siblings)
        least = self.settings.w if self.any_wiped else 1
        writes = [each.write for each in self.acknowledged.get(key, []) if each.copies >= least]
        self._all_visible(key, writes, merged.versions.values())

    def _all_visible(
        self,
        key: str,
        writes: list[str],
        versions: Iterable[Version],
        why: str = "was acknowledged",
    ) -> None:
        versions = list(versions)
        shown = [name_of(version) for version in versions]
        seen = NOTHING_READ.union(*(self.histories[key, write] for write in shown))
        highest = max(map(_rank, versions), default=(0, ("", 0)))
        for write in [write for write in writes if write not in self.purged[key]]:
            if not self.settings.versions.keeps_siblings:
                # A retried write may have two timestamps; at least the smaller one is promised.
                if highest < min(self.ranks[key, write]):
                    raise Violation(f"{write} of {key} {why}, an older {shown} is shown")
            elif write not in seen:
                raise Violation(f"{write} of {key} {why}, only {shown} is shown")

    def _know_dots(self, key: str, siblings: Siblings) -> None:
        for dot, version in siblings.versions.items():
            write = name_of(version)
            owner = self.owners.get((key, dot))
            if owner is None:
                self.owners[key, dot] = write
                self.ranks[key, write].append(_rank(version))
                if len(self.ranks[key, write]) > 1:
                    self.retried[key].add(write)
                if self.settings.versions is Versions.HLC:
                    self._wins_over_what_was_read(key, write, _rank(version))
            elif owner != write:
                raise Violation(f"the dot {dot} of {key} names {owner} and {write}")

    def _wins_over_what_was_read(self, key: str, write: str, rank: Rank) -> None:
        for read in self.histories[key, write] - {write}:
            if self.ranks[key, read] and rank < min(self.ranks[key, read]):
                raise Violation(f"{write} of {key} had read {read}, which wins over it")

    def _owner(self, key: str, dot: Dot) -> str:
        if (key, dot) not in self.owners:
            raise Violation(f"nobody has written the dot {dot} of {key}")
        return self.owners[key, dot]

    def _exactly_the_concurrent(self, node: NodeId, key: str, siblings: Siblings) -> None:
        known = {self._owner(key, dot) for dot in siblings.vector.dots()}
        read = NOTHING_READ.union(*(self.histories[key, write] - {write} for write in known))
        # A write with two dots may be read under one and stay under the other.
        expected = known - read - self.retried[key]
        held = {name_of(version) for version in siblings.versions.values()} - self.retried[key]
        # Plain version vectors keep some that were read.
        plain = self.settings.versions is Versions.VERSION_VECTOR
        if held != expected and not (plain and held > expected):
            raise Violation(f"{node} holds {sorted(held)} of {key}, not {sorted(expected)}")


def vector_of_dots(dots: Iterable[Dot]) -> VersionVector:
    """Return the vector of exactly these dots."""
    vector = VersionVector({})
    for actor, counter in dots:
        vector = vector.with_dot(actor, counter)
    return vector
