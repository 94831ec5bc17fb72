"""Counters, sets and lists over plain keys: what a client writes, having read what it read."""

from hypothesis import given
from hypothesis import strategies as st

from replication.client.updates import derived, elements, merged, updated
from replication.errors import NothingRead
from replication.history import OperationKind
from replication.plan.model import PlannedOperation, Update

sets = st.lists(st.sampled_from("abcdefgh"), unique=True).map(lambda each: ",".join(sorted(each)))
lists = st.lists(st.sampled_from("abcdefgh"), unique=True).map(",".join)


@given(st.lists(sets, max_size=4))
def test_a_set_loses_nothing_of_any_sibling(siblings: list[str]) -> None:
    found = elements(updated(Update.ADD, siblings, "new"))
    assert found == sorted({"new", *(each for value in siblings for each in elements(value))})


@given(st.lists(lists, max_size=4))
def test_a_list_keeps_the_longest_as_it_is_and_loses_no_element(siblings: list[str]) -> None:
    found = merged(siblings)
    assert sorted(found) == sorted({each for value in siblings for each in elements(value)})
    longest = max(map(elements, siblings), key=len, default=[])
    assert len([each for each in siblings if elements(each) == found[: len(longest)]]) > 0 or (
        not siblings
    )
    assert elements(updated(Update.APPEND, siblings, "new")) == [*found, "new"]


def test_a_counter_that_met_siblings_keeps_the_greatest() -> None:
    assert updated(Update.COUNT, [], "1") == "1"
    assert updated(Update.COUNT, ["9"], "1") == "10"
    assert updated(Update.COUNT, ["9", "11", "no number"], "1") == "12"


def planned(kind: OperationKind, **more: object) -> PlannedOperation:
    return PlannedOperation("c1", 2, None, kind, "k", value="c1-2", **more)  # type: ignore[arg-type]


def test_an_update_without_a_read_is_not_made() -> None:
    write = planned(OperationKind.PUT, update=Update.ADD)
    assert derived(write, None) == (write, NothingRead())
    value, problem = derived(write, ["a", "b"])
    assert (value.value, problem) == ("a,b,c1-2", None)


def test_a_compare_and_set_expects_what_was_read_and_cannot_expect_siblings() -> None:
    write = planned(OperationKind.COMPARE_AND_SET, update=Update.ADD)
    made, problem = derived(write, ["a"])
    assert (made.expected, made.value, problem) == ("a", "a,c1-2", None)
    made, problem = derived(write, [])
    assert (made.expected, made.value, problem) == (None, "c1-2", None)
    _, problem = derived(write, ["a", "b"])
    assert problem is not None
    assert "siblings" in problem.message
    alone = planned(OperationKind.COMPARE_AND_SET, expects_last=True)
    assert derived(alone, None)[0].expected is None, "a key that it never read may be missing"
    assert derived(alone, ["a"])[0].expected == "a"
    listed = planned(OperationKind.COMPARE_AND_SET, expected="x")
    assert derived(listed, ["a"])[0].expected == "x"
