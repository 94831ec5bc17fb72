"""Counters and sets that replicas merge: what concurrency, retries and lost nodes make of them.

"acorn" lives on n1, n2 and n3 of five nodes.
"""

from dataclasses import dataclass, field
from functools import reduce
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leader.raft import backend as raft
from leaderless.dynamo import DynamoSettings, Versions, backend, types
from leaderless.dynamo.versions import EMPTY, DottedVersions, Siblings, Version, decode, encode
from replication.errors import InvalidRequest, Overloaded
from replication.protocol import check
from replication.v1 import storage_pb2
from tests.support.dynamo_cluster import SECOND, Cluster, delete, put

KEY = "acorn"
ACTORS = ("n1", "n2", "n3")
QUIET = DynamoSettings(anti_entropy_ns=0)  # nothing is repaired but by reads


def update(
    kind: storage_pb2.Update.ValueType, value: str, name: str, context: bytes = b"", w: int = 0
) -> storage_pb2.PutRequest:
    body = put(KEY, name, context, w)
    body.value, body.update = value.encode(), kind
    return body


def increment(name: str, amount: int = 1, w: int = 0) -> storage_pb2.PutRequest:
    return update(types.INCREMENT, str(amount), name, w=w)


def add(element: str, name: str, w: int = 0) -> storage_pb2.PutRequest:
    return update(types.ADD, element, name, w=w)


def value(cluster: Cluster, node: str = "n3", r: int = 3) -> str:
    """Return what a read shows; an update leaves one version."""
    versions = cluster.read(node, KEY, r=r).versions
    live = [version.value.decode() for version in versions if not version.tombstone]
    assert len(versions) <= 1
    return "".join(live)


# The data types alone.


@dataclass
class Replicas:
    """Three replicas and their updates, without messages; and what is to come of them."""

    held: dict[str, Siblings] = field(default_factory=lambda: dict.fromkeys(ACTORS, EMPTY))
    counted: dict[int, int] = field(default_factory=dict)  # by number of the write
    tags: dict[int, str] = field(default_factory=dict)  # of additions: their element
    knows: dict[str, set[int]] = field(default_factory=lambda: {each: set() for each in ACTORS})
    removed: dict[str, set[int]] = field(default_factory=lambda: {each: set() for each in ACTORS})

    def apply(self, actor: str, body: storage_pb2.PutRequest) -> None:
        held, context = self.held[actor], self.held[actor].vector
        version = types.recognised(held, body, actor)
        if version is None:
            version = Version(
                value=types.value_of(held, body, actor),
                tombstone=body.update == types.REMOVE,
                write_id=body.write_id,
                dot=storage_pb2.Dot(actor=actor, counter=held.vector.top(actor) + 1),
                update=body.update,
            )
        write = types.write_of(held, version, body.value, context)
        self.held[actor] = DottedVersions().merge(held, decode(encode(write)))

    def perform(self, number: int, step: tuple[str, str, str, int]) -> None:
        """Increment, add, remove what the replica knows of, or merge into another replica."""
        what, actor, other, which = step
        element = "abc"[which % 3]
        if what == "increment":
            self.counted[number] = which - 3
            self.apply(actor, increment(f"x{number}", which - 3))
        elif what == "add":
            self.tags[number] = element
            self.knows[actor].add(number)
            self.apply(actor, add(element, f"x{number}"))
        elif what == "remove":
            mine = {tag for tag in self.knows[actor] if self.tags[tag] == element}
            self.removed[actor] |= mine
            self.apply(actor, update(types.REMOVE, element, f"x{number}"))
        else:
            self.held[other] = DottedVersions().merge(self.held[other], self.held[actor])
            self.knows[other] |= self.knows[actor]
            self.removed[other] |= self.removed[actor]

    def expected(self, actor: str) -> list[str]:
        """Return the elements of which an addition is known here, and no removal of it is."""
        return sorted({self.tags[tag] for tag in self.knows[actor] - self.removed[actor]})


def elements_of(siblings: Siblings) -> list[str]:
    sets = [each for each in types.shown(siblings) if each.update == types.ADD]
    return sets[0].value.decode().split(",") if sets else []


steps = st.lists(
    st.tuples(
        st.sampled_from(["increment", "add", "remove", "merge"]),
        st.sampled_from(ACTORS),
        st.sampled_from(ACTORS),
        st.integers(0, 8),
    ),
    max_size=25,
)


@given(steps)
def test_replicas_that_saw_the_same_updates_are_equal_and_right(
    drawn: list[tuple[str, str, str, int]],
) -> None:
    replicas = Replicas()
    for number, step in enumerate(drawn, 1):
        replicas.perform(number, step)
    for actor in ACTORS:
        assert elements_of(replicas.held[actor]) == replicas.expected(actor)
    merge = DottedVersions().merge
    states = list(replicas.held.values())
    merged = [reduce(merge, order) for order in permutations(states)]
    assert len({encode(state) for state in merged}) == 1, "commutative"
    one, two, three = states
    assert merge(merge(one, two), three).same(merge(one, merge(two, three))), "associative"
    assert all(merge(merged[0], state) is merged[0] for state in states), "idempotent"
    assert types.total(merged[0]) == sum(replicas.counted.values())
    tags = set().union(*replicas.knows.values()) - set().union(*replicas.removed.values())
    assert elements_of(merged[0]) == sorted({replicas.tags[tag] for tag in tags})


@given(st.lists(st.tuples(st.sampled_from(ACTORS), st.integers(1, 20), st.booleans())))
def test_an_increment_that_is_sent_again_and_again_counts_once(
    attempts: list[tuple[str, int, bool]],
) -> None:
    """To any coordinator, whether or not it has heard of the attempts before."""
    replicas = Replicas()
    for number, (actor, write, heard) in enumerate(attempts, 1):
        if heard:
            for other in ACTORS:
                replicas.perform(number, ("merge", other, actor, 0))
        replicas.apply(actor, increment(f"x{write}", write))
    merged = reduce(DottedVersions().merge, replicas.held.values())
    assert types.total(merged) == sum({write for _, write, _ in attempts})


def test_a_counter_stays_small_and_forgets_no_increment() -> None:
    """The write ids of the latest are kept, the sum of all."""
    replicas = Replicas()
    for number in range(1, 200):
        replicas.apply("n1", increment(f"x{number}", number))
        replicas.apply("n2", increment(f"y{number}", number))
    merged = reduce(DottedVersions().merge, replicas.held.values())
    assert types.total(merged) == 2 * sum(range(1, 200))
    assert len(merged.versions) == 2
    assert not merged.vector.holes
    assert len(encode(merged)) < 2 * types.LATEST_MAX * 20
    before = replicas.held["n1"]
    replicas.apply("n1", increment(f"x{200 - types.LATEST_MAX}"))
    assert replicas.held["n1"].same(before), "the oldest that is listed is known again"


# In a cluster.


def test_a_counter_counts_on_both_sides_of_a_partition() -> None:
    cluster = Cluster(QUIET)
    cluster.isolate("n1")
    for number in range(1, 6):
        cluster.write("n1", increment(f"a{number}", w=1))
        cluster.write("n2", increment(f"b{number}", 10))
    assert value(cluster, "n1", r=1) == "5"
    cluster.heal()
    cluster.run(SECOND)
    assert value(cluster) == "55"
    assert not cluster.told("siblings_created"), "nobody has to resolve anything"


def test_of_an_addition_and_a_removal_at_the_same_time_the_addition_wins() -> None:
    cluster = Cluster(QUIET)
    cluster.write("n1", add("milk", "a1", w=3))
    cluster.write("n1", add("eggs", "a2", w=3))
    context = cluster.read("n2", KEY).context
    cluster.isolate("n1")
    cluster.write("n1", add("milk", "a3", w=1))
    cluster.write("n2", update(types.REMOVE, "milk", "b1", context))
    cluster.write("n2", update(types.REMOVE, "eggs", "b2", context))
    assert value(cluster, "n2", r=2) == ""
    cluster.heal()
    cluster.run(SECOND)
    assert value(cluster) == "milk", "b1 had not read a3"


def test_a_removal_takes_what_its_writer_has_read_and_nothing_else() -> None:
    cluster = Cluster(QUIET)
    cluster.write("n1", add("milk", "a1"))
    cluster.write("n1", update(types.REMOVE, "milk", "b1"))
    assert value(cluster) == "milk", "who has read nothing removes nothing"
    context = cluster.read("n2", KEY).context
    cluster.write("n1", update(types.REMOVE, "milk", "b2", context))
    assert value(cluster) == ""
    cluster.write("n2", add("milk", "a2"))
    cluster.write("n3", update(types.REMOVE, "milk", "b2", context))
    assert value(cluster) == "milk", "a removal that is sent again takes no later addition"


def test_a_removal_is_refused_by_who_has_not_seen_what_is_to_go() -> None:
    """It could not tell which of the versions in the context are of this element."""
    cluster = Cluster(QUIET)
    cluster.cut |= {("n1", "n3"), ("n2", "n3")}
    cluster.write("n1", add("milk", "a1"))
    context = cluster.read("n1", KEY).context
    refusal = cluster.result("n3", update(types.REMOVE, "milk", "b1", context, w=1))
    assert isinstance(refusal, Overloaded)
    cluster.heal()
    assert value(cluster) == "milk"


@pytest.mark.parametrize("second", ["n1", "n2", "n3"])
def test_a_retried_increment_counts_once_whoever_takes_it(second: str) -> None:
    """The first attempt reached n1 only, and the second one is taken before n1 is heard of."""
    cluster = Cluster(QUIET)
    cluster.write("n2", increment("b1", 100, w=3))
    cluster.isolate("n1")
    cluster.send("n1", increment("a1", 7))
    cluster.run(SECOND)
    cluster.write(second, increment("a1", 7, w=1))
    cluster.heal()
    cluster.run(SECOND)
    assert value(cluster) == "107"
    for number in range(2, 2 * types.LATEST_MAX):
        cluster.write(("n1", "n2", "n3")[number % 3], increment(f"a{number}", 0))
    assert value(cluster) == "107", "and it stays so when others have followed"


def test_an_increment_survives_its_coordinator() -> None:
    """The next life of n1 is another actor: it cannot know what the first one would count."""
    cluster = Cluster(QUIET)
    for life in range(3):
        cluster.write("n1", increment(f"a{life + 1}"))
        cluster.stop("n1")
        if life == 1:
            cluster.disks["n1"].spaces.clear()
        cluster.start("n1")
        cluster.run(SECOND)
    assert value(cluster) == "3"


def test_a_writer_of_a_counter_is_not_told_that_it_has_read_what_others_counted() -> None:
    cluster = Cluster(QUIET)
    cluster.write("n1", increment("a1"))
    context = cluster.write("n1", increment("b1")).context
    cluster.write("n1", put(KEY, "b2", context))
    versions = cluster.read("n2", KEY).versions
    assert [version.value for version in versions] == [b"b2", b"2"]


def test_a_deleted_set_starts_anew() -> None:
    cluster = Cluster(QUIET)
    for number, element in enumerate("abc", 1):
        cluster.write("n1", add(element, f"a{number}"))
    context = cluster.read("n2", KEY).context
    assert isinstance(cluster.result("n1", delete(KEY, "b1", context)), storage_pb2.DeleteResponse)
    assert value(cluster) == ""
    cluster.write("n2", add("d", "a4"))
    assert value(cluster) == "d"


def test_elements_are_no_siblings_and_not_limited_like_them() -> None:
    cluster = Cluster(DynamoSettings(siblings_warn=2, siblings_max=3))
    for number in range(1, 10):
        cluster.write(("n1", "n2")[number % 2], add(f"e{number}", f"a{number}"))
    assert value(cluster) == ",".join(f"e{number}" for number in range(1, 10))
    assert not cluster.told("siblings_created")
    assert not cluster.told("siblings_excessive")


@pytest.mark.parametrize("body", [increment("a1", 2**40), add("a,b", "a1"), add("", "a1")])
def test_an_update_that_is_none_is_refused(body: storage_pb2.PutRequest) -> None:
    assert isinstance(Cluster(QUIET).result("n1", body), InvalidRequest)


@pytest.mark.parametrize("kind", [each for each in Versions if each is not Versions.DVV])
def test_updates_need_dotted_versions(kind: Versions) -> None:
    cluster = Cluster(DynamoSettings(versions=kind))
    refusal = cluster.result("n1", increment("a1"))
    assert isinstance(refusal, InvalidRequest)
    assert "versions = 'dvv'" in refusal.message


def test_a_backend_without_data_types_refuses_updates() -> None:
    assert check(backend, increment("a1")) is None
    problem = check(raft, increment("a1"))
    assert problem is not None
    assert "no counters and sets" in problem
    assert check(raft, put(KEY, "a1")) is None
