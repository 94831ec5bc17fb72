"""Version vectors with holes are sets of dots: each operation is compared with sets."""

from hypothesis import given
from hypothesis import strategies as st

from leaderless.dynamo.vector import NOTHING, VersionVector, fill_vector, vector_of
from leaderless.v1 import dynamo_pb2
from tests.support.dynamo_judge import vector_of_dots

Dots = frozenset[tuple[str, int]]
DOTS = st.frozensets(st.tuples(st.sampled_from("abc"), st.integers(1, 12)), max_size=20)


def is_canonical(vector: VersionVector) -> bool:
    """A set has one representation only: equality of vectors is equality of sets."""
    for actor, bounds in vector.holes.items():
        ascending = list(bounds) == sorted(set(bounds))
        if not bounds or len(bounds) % 2 or not ascending or bounds[-1] > vector.tops[actor]:
            return False
    return all(top > 0 for top in vector.tops.values())


@given(DOTS)
def test_vector_has_exactly_the_dots_put_in(dots: Dots) -> None:
    vector = vector_of_dots(sorted(dots, key=lambda dot: (dot[1] * 7 % 5, dot)))
    assert set(vector.dots()) == dots
    assert is_canonical(vector)
    assert all(
        vector.covers(actor, counter) == ((actor, counter) in dots)
        for actor in "abcd"
        for counter in range(1, 15)
    )


@given(DOTS, DOTS)
def test_join_is_the_union(one: Dots, two: Dots) -> None:
    first, second = vector_of_dots(one), vector_of_dots(two)
    joined = first.join(second)
    assert set(joined.dots()) == one | two
    assert is_canonical(joined)
    assert joined == second.join(first) == vector_of_dots(one | two)


@given(DOTS, DOTS)
def test_join_returns_the_side_that_has_all(one: Dots, two: Dots) -> None:
    first, second = vector_of_dots(one), vector_of_dots(two)
    joined = first.join(second)
    assert (joined is first) == (one >= two)
    assert (joined is second) == (two > one)
    assert first.includes(second) == (one >= two)


@given(DOTS, st.integers(1, 3))
def test_forgetting_drops_the_oldest_dots_and_claims_no_new_one(dots: Dots, holes_max: int) -> None:
    vector = vector_of_dots(dots)
    kept = vector.forgetting(holes_max)
    assert set(kept.dots()) <= dots
    assert is_canonical(kept)
    assert kept.tops == vector.tops
    for actor, bounds in kept.holes.items():
        assert len(bounds) <= 2 * holes_max
        forgotten = {counter for who, counter in dots - set(kept.dots()) if who == actor}
        assert all(bounds[0] <= counter < bounds[1] for counter in forgotten)


@given(DOTS)
def test_vector_survives_the_wire(dots: Dots) -> None:
    vector = vector_of_dots(dots)
    message = dynamo_pb2.VersionVector()
    fill_vector(message, vector)
    parsed = dynamo_pb2.VersionVector.FromString(message.SerializeToString())
    assert vector_of(parsed) == vector


def test_holes_that_are_none_are_refused() -> None:
    for top, holes in ((5, [2]), (5, [3, 3]), (5, [4, 2]), (5, [0, 2]), (5, [4, 6])):
        message = dynamo_pb2.VersionVector()
        message.entries.add(actor="a", top=top, holes=holes)
        try:
            vector_of(message)
        except ValueError:
            continue
        raise AssertionError(f"holes {holes} below {top} were accepted")


def test_vector_without_dots_has_seen_nothing() -> None:
    assert not NOTHING.covers("a", 1)
    assert NOTHING.top("a") == 0
    assert NOTHING.join(NOTHING) is NOTHING
