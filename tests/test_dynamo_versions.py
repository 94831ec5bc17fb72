"""Merging versions: the laws, and causal histories as the oracle."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leaderless.dynamo.context import (
    CONTEXT_HOLES_MAX,
    COUNTER_MAX,
    decode_context,
    encode_context,
)
from leaderless.dynamo.events import change_events
from leaderless.dynamo.vector import NOTHING, VersionVector
from leaderless.dynamo.versions import (
    EMPTY,
    Siblings,
    Version,
    Versions,
    decode,
    encode,
    single_write,
    versioning,
)
from replication.errors import InvalidRequest
from replication.v1 import storage_pb2
from tests.support.dynamo_cluster import name_of

REPLICAS = ("p", "q", "r")


class Key:
    """One key on three replicas, and what three clients have read of it: by sets and by vectors."""

    def __init__(self, kind: Versions) -> None:
        self.rules = versioning(kind)
        self.held = dict.fromkeys(REPLICAS, EMPTY)
        self.known: dict[str, frozenset[str]] = dict.fromkeys(REPLICAS, frozenset())
        self.context = dict.fromkeys("abc", NOTHING)
        self.read: dict[str, frozenset[str]] = dict.fromkeys("abc", frozenset())
        self.history: dict[str, frozenset[str]] = {}

    def write(self, client: str, replica: str, timestamp_ns: int = 0) -> None:
        """The client writes through ``replica`` with what it has read; only that replica knows."""
        held = self.held[replica]
        name = f"{client}{len(self.history) + 1}"
        version = Version(
            write_id=storage_pb2.WriteId(client_id=client, sequence=len(self.history) + 1),
            dot=storage_pb2.Dot(actor=replica, counter=held.vector.top(replica) + 1),
            timestamp_ns=timestamp_ns,
        )
        write, seen = self.rules.accept(held, version, self.context[client])
        self.history[name] = self.read[client] | {name}
        self.held[replica] = self.rules.merge(held, write)
        self.known[replica] |= self.history[name]
        self.context[client] = seen
        if seen.covers(version.dot.actor, version.dot.counter):
            self.read[client] = self.history[name]

    def get(self, client: str, replica: str) -> None:
        self.context[client] = self.held[replica].seen
        self.read[client] = self.known[replica]

    def sync(self, source: str, target: str) -> None:
        self.held[target] = self.rules.merge(self.held[target], self.held[source])
        self.known[target] |= self.known[source]

    def siblings(self, replica: str) -> set[str]:
        return {name_of(version) for version in self.held[replica].versions.values()}

    def concurrent(self, replica: str) -> set[str]:
        """Return the writes the replica knows of that no other of them has read: by sets alone."""
        known = self.known[replica]
        return {
            write
            for write in known
            if not any(write in self.history[other] for other in known - {write})
        }


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(("write", "write", "get", "sync")),
        st.sampled_from("abc"),
        st.sampled_from(REPLICAS),
        st.sampled_from(REPLICAS),
        st.integers(0, 3),
    ),
    max_size=40,
)


def play(actions: list[tuple[str, str, str, str, int]], kind: Versions) -> Key:
    key = Key(kind)
    for action, client, replica, other, timestamp_ns in actions:
        if action == "write":
            key.write(client, replica, timestamp_ns)
        elif action == "get":
            key.get(client, replica)
        else:
            key.sync(replica, other)
    return key


@given(ACTIONS)
@settings(max_examples=200)
def test_siblings_are_exactly_the_concurrent_writes(
    actions: list[tuple[str, str, str, str, int]],
) -> None:
    key = play(actions, Versions.DVV)
    for replica in REPLICAS:
        assert key.siblings(replica) == key.concurrent(replica)


@given(ACTIONS)
def test_plain_version_vectors_keep_the_concurrent_writes_and_more(
    actions: list[tuple[str, str, str, str, int]],
) -> None:
    key = play(actions, Versions.VERSION_VECTOR)
    for replica in REPLICAS:
        assert key.siblings(replica) >= key.concurrent(replica)
        assert not key.held[replica].vector.holes


@pytest.mark.parametrize(
    ("kind", "most"), [(Versions.VERSION_VECTOR, 100), (Versions.DVV, 2), (Versions.LWW, 1)]
)
def test_two_writers_who_take_turns(kind: Versions, most: int) -> None:
    """Each with the context of its own last reply: plain server vectors explode."""
    key = Key(kind)
    counts = []
    for turn in range(100):
        key.write("ab"[turn % 2], "p", timestamp_ns=turn + 1)
        counts.append(len(key.siblings("p")))
    assert max(counts) == most


def test_plain_version_vectors_are_cured_by_reading_before_writing() -> None:
    key = Key(Versions.VERSION_VECTOR)
    for turn in range(100):
        key.get("ab"[turn % 2], "p")
        key.write("ab"[turn % 2], "p")
        assert len(key.siblings("p")) == 1


def test_a_hybrid_clock_is_never_behind_what_it_has_met() -> None:
    rules = versioning(Versions.HLC)
    version = Version(dot=storage_pb2.Dot(actor="q", counter=1), timestamp_ns=500)
    rules.merge(EMPTY, single_write(version, NOTHING))
    assert rules.timestamp_ns(10, 0) == 501
    assert rules.timestamp_ns(10, 900) == 901
    assert rules.timestamp_ns(5_000, 0) == 5_000


# Plain version vectors are not associative: what one vector covers they cannot take apart again.
ASSOCIATIVE = [kind for kind in Versions if kind is not Versions.VERSION_VECTOR]


@given(ACTIONS, st.sampled_from(ASSOCIATIVE))
def test_merge_is_commutative_associative_and_idempotent(
    actions: list[tuple[str, str, str, str, int]], kind: Versions
) -> None:
    key = play(actions, kind)
    merge = key.rules.merge
    p, q, r = (key.held[replica] for replica in REPLICAS)
    assert merge(p, q).same(merge(q, p))
    assert merge(merge(p, q), r).same(merge(p, merge(q, r)))
    assert merge(p, p) is p
    both = merge(p, q)
    assert merge(both, q) is both
    assert merge(q, both) is both or merge(q, both) is q


@given(ACTIONS, st.sampled_from(Versions))
def test_replicas_agree_once_each_has_heard_all(
    actions: list[tuple[str, str, str, str, int]], kind: Versions
) -> None:
    key = play(actions, kind)
    for source, target in (("p", "q"), ("q", "r"), ("r", "p"), ("r", "q")):
        key.sync(source, target)
    assert len({encode(key.held[replica]) for replica in REPLICAS}) == 1


@given(ACTIONS, st.sampled_from(Versions))
def test_siblings_survive_the_disk(
    actions: list[tuple[str, str, str, str, int]], kind: Versions
) -> None:
    for held in play(actions, kind).held.values():
        assert decode(encode(held)).same(held)


@given(ACTIONS, st.sampled_from("abc"), st.sampled_from(REPLICAS))
def test_write_drops_exactly_what_its_context_covers(
    actions: list[tuple[str, str, str, str, int]], client: str, replica: str
) -> None:
    key = play(actions, Versions.DVV)
    before, context = key.held[replica].versions, key.context[client]
    key.write(client, replica)
    after = key.held[replica].versions
    assert {dot for dot in before if dot not in after} == {
        dot for dot in before if context.covers(*dot)
    }


def test_two_interleaving_clients_never_make_more_than_two_siblings() -> None:
    """Each writes with the context of its own last write, and never reads (Almeida et al., §1).

    Plain vectors by server make a sibling of every write here.
    """
    key = Key(Versions.DVV)
    for number in range(100):
        key.write("ab"[number % 2], "p")
        assert len(key.held["p"].versions) <= 2
    assert key.siblings("p") == {"a99", "b100"}


def test_blind_writes_all_stay() -> None:
    key = Key(Versions.DVV)
    for _ in range(10):
        key.context["a"] = NOTHING
        key.read["a"] = frozenset()
        key.write("a", "p")
    assert len(key.held["p"].versions) == 10


def test_greater_timestamp_wins_whatever_was_read() -> None:
    """A slow clock loses its update although it had read what it replaces."""
    key = Key(Versions.LWW)
    key.write("a", "p", timestamp_ns=500)
    key.sync("p", "q")
    key.get("b", "q")
    key.write("b", "q", timestamp_ns=400)
    key.sync("q", "p")
    assert key.siblings("p") == key.siblings("q") == {"a1"}


def test_equal_timestamps_are_decided_alike_everywhere() -> None:
    key = Key(Versions.LWW)
    key.write("a", "p", timestamp_ns=7)
    key.write("b", "q", timestamp_ns=7)
    key.sync("p", "q")
    key.sync("q", "p")
    assert key.siblings("p") == key.siblings("q") == {"b2"}


def test_dropped_version_is_told_only_if_the_winner_had_not_seen_it() -> None:
    key = Key(Versions.LWW)
    key.write("a", "p", timestamp_ns=1)
    first = key.held["p"]
    key.write("a", "p", timestamp_ns=2)  # has read its own write
    assert list(change_events("k", first, key.held["p"])) == []
    second = key.held["p"]
    key.write("b", "p", timestamp_ns=3)  # has read nothing
    (event,) = change_events("k", second, key.held["p"])
    assert name_of(event.version_dropped.dropped) == "a2"
    assert name_of(event.version_dropped.winner) == "b3"


def test_timestamps_of_a_node_grow_while_its_clock_steps_back() -> None:
    rules = versioning(Versions.LWW)
    assert [rules.timestamp_ns(wall, 0) for wall in (10, 5, 5, 20)] == [10, 11, 12, 20]


def test_dots_of_last_write_wins_are_never_reused() -> None:
    """The loser's dot is gone from the versions, not from the vector."""
    key = Key(Versions.LWW)
    key.write("a", "p", timestamp_ns=1)
    key.write("b", "q", timestamp_ns=9)
    key.sync("q", "p")
    assert key.siblings("p") == {"b2"}
    key.write("c", "p", timestamp_ns=10)
    assert list(key.held["p"].versions) == [("p", 2)]


def test_write_with_two_dots_is_shown_once() -> None:
    write_id = storage_pb2.WriteId(client_id="a", sequence=1)
    siblings: Siblings = EMPTY
    for actor in ("q", "p"):
        version = Version(write_id=write_id, dot=storage_pb2.Dot(actor=actor, counter=1))
        siblings = versioning(Versions.DVV).merge(siblings, single_write(version, NOTHING))
    (shown,) = siblings.distinct()
    assert shown.dot.actor == "p"
    assert set(siblings.seen.dots()) == {("p", 1), ("q", 1)}


def test_context_of_another_key_is_refused() -> None:
    context = encode_context("kiwi", VersionVector({"p": 3}))
    assert decode_context("kiwi", context) == VersionVector({"p": 3})
    with pytest.raises(InvalidRequest, match="another key"):
        decode_context("plum", context)


def test_made_up_contexts_are_refused() -> None:
    rng = Random(1)
    refused = 0
    for _ in range(200):
        data = rng.randbytes(rng.randint(1, 30))
        try:
            decode_context("kiwi", data)
        except InvalidRequest:
            refused += 1
    assert refused == 200
    with pytest.raises(InvalidRequest):
        decode_context("kiwi", encode_context("kiwi", VersionVector({"p": COUNTER_MAX + 1})))


def test_context_of_a_writer_who_never_reads_stays_small() -> None:
    vector = VersionVector({})
    for counter in range(1, 4000, 2):
        vector = vector.with_dot("p", counter)
        context = encode_context("kiwi", vector)
        vector = decode_context("kiwi", context)
    assert len(vector.holes["p"]) == 2 * CONTEXT_HOLES_MAX
    assert len(context) < 2048
    assert vector.covers("p", 3999)
    assert not vector.covers("p", 3998)
