"""The small parts of the simulation: time, chance, clocks, disks, distances."""

from random import Random
from statistics import median, quantiles

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.plan.regions import missing_pairs, regions, round_trip_ns
from replication.protocol import Erase, Persist, Put
from replication.simulation.clock import Clock
from replication.simulation.delays import Constant, Delay, Exponential, Lognormal, Uniform
from replication.simulation.disk import Disk
from replication.simulation.settings import DiskSettings
from replication.simulation.timeline import Timeline

MS = 1_000_000


def test_actions_of_one_moment_happen_in_the_order_in_which_they_were_added() -> None:
    timeline = Timeline()
    done: list[str] = []
    for name in "abc":
        timeline.at(5, done.append, name)
    timeline.at(4, done.append, "first")
    timeline.at(5, lambda _: timeline.at(5, done.append, "added meanwhile"))
    timeline.run(5)
    assert done == ["first", "a", "b", "c", "added meanwhile"]
    assert timeline.now_ns == 5


def test_what_is_due_later_waits() -> None:
    timeline = Timeline()
    done: list[str] = []
    timeline.at(10, done.append, "late")
    timeline.run(9)
    assert done == []
    assert timeline.next_ns() == 10


@pytest.mark.parametrize(
    ("delay", "middle_ns", "p99_ns"),
    [
        (Constant(7 * MS), 7 * MS, 7 * MS),
        (Uniform(2 * MS, 4 * MS), 3 * MS, 3.98 * MS),
        (Exponential(1 * MS, 1 * MS), 1.693 * MS, 5.605 * MS),
        (Lognormal(1 * MS, 0.5), 1 * MS, 3.2 * MS),
    ],
)
def test_delays_have_the_shape_they_promise(delay: Delay, middle_ns: float, p99_ns: float) -> None:
    draw = delay.sampler(Random(1))
    drawn = [draw() for _ in range(20_000)]
    assert median(drawn) == pytest.approx(middle_ns, rel=0.03)
    assert quantiles(drawn, n=100)[98] == pytest.approx(p99_ns, rel=0.1)
    assert min(drawn) > 0
    twice = delay.scaled(2.0).sampler(Random(1))
    assert [twice() for _ in range(50)] == pytest.approx([2 * each for each in drawn[:50]], abs=2)


@given(
    ppm=st.integers(-200_000, 200_000),
    start_ns=st.integers(0, 10**15),
    ahead_ns=st.integers(0, 10**13),
)
def test_a_clock_reaches_a_reading_at_the_moment_it_names(
    ppm: int, start_ns: int, ahead_ns: int
) -> None:
    clock = Clock(wall_offset_ns=0)
    clock.drift(start_ns, ppm)
    wanted_ns = clock.local_ns(start_ns) + ahead_ns
    when_ns = clock.when(wanted_ns)
    assert clock.local_ns(when_ns) >= wanted_ns
    assert when_ns == start_ns or clock.local_ns(when_ns - 1) < wanted_ns


@given(changes=st.lists(st.tuples(st.integers(0, 10**9), st.integers(-500, 500)), max_size=8))
def test_monotonic_time_never_goes_back(changes: list[tuple[int, int]]) -> None:
    clock = Clock(wall_offset_ns=0)
    true_ns, last_ns = 0, 0
    for elapsed_ns, ppm in changes:
        true_ns += elapsed_ns
        assert clock.local_ns(true_ns) >= last_ns
        last_ns = clock.local_ns(true_ns)
        clock.drift(true_ns, ppm)
        assert clock.local_ns(true_ns) == last_ns


def test_every_pair_of_regions_has_a_figure_that_light_allows() -> None:
    assert list(missing_pairs()) == []
    assert len(regions()) == 8
    for one in regions():
        for other in regions():
            assert round_trip_ns(one, other) == round_trip_ns(other, one)
            assert round_trip_ns(one, other) >= 20 * MS or one == other
    with pytest.raises(KeyError):
        round_trip_ns("atlantis", "atlantis")


def test_erasing_a_range_takes_the_first_key_and_leaves_the_last() -> None:
    disk = Disk(DiskSettings(), Random(1))
    keys = [b"a", b"b", b"c", b"d"]
    disk.begin_sync([Persist([Put("log", key, key) for key in keys])])
    disk.end_sync()
    for start, end, left in (
        (b"b", b"b\0", [b"a", b"c", b"d"]),
        (b"a", b"d", [b"d"]),
        (b"a", None, []),
    ):
        disk.begin_sync([Persist([Erase("log", start, end)])])
        disk.end_sync()
        assert [key for key, _ in disk.scan("log")] == left


def test_a_slow_disk_takes_longer_by_as_much_as_told() -> None:
    disk = Disk(DiskSettings(commit=Constant(1 * MS)), Random(1))
    disk.slow_ns = 20 * MS
    assert disk.begin_sync([Persist([])]) == 21 * MS
