"""What a core is shown when its clocks are wrong: the wall clock jumps, the other one never."""

import time

import pytest

from replication.host import clock as host_clock
from replication.host.clock import ClockFault, NodeClock, problems

SECOND_NS = 1_000_000_000


class Machine:
    """The clocks of a machine that stand still until the test moves them."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now_ns = 5 * SECOND_NS
        patch.setattr(host_clock.time, "monotonic_ns", lambda: self.now_ns)
        patch.setattr(host_clock.time, "time_ns", lambda: self.now_ns + 100 * SECOND_NS)

    def pass_time(self, seconds: float) -> None:
        self.now_ns += int(seconds * SECOND_NS)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_without_a_fault_it_is_the_machines_clock() -> None:
    before = time.monotonic_ns()
    now = NodeClock().now()
    assert before <= now.monotonic_ns <= time.monotonic_ns()


def test_an_offset_moves_the_wall_clock_alone(machine: Machine) -> None:
    clock = NodeClock()
    clock.set(ClockFault(offset_ns=-2 * SECOND_NS))
    now = clock.now()
    assert now.monotonic_ns == machine.now_ns
    assert now.wall_ns == machine.now_ns + 98 * SECOND_NS
    assert clock.wall_error_ns() == -2 * SECOND_NS
    clock.set(ClockFault())
    assert clock.wall_error_ns() == 0


@pytest.mark.parametrize("ppm", [100_000, -100_000])
def test_a_drift_changes_the_rate_of_both_and_the_monotonic_clock_never_jumps(
    machine: Machine, ppm: int
) -> None:
    clock = NodeClock()
    before = clock.now().monotonic_ns
    clock.set(ClockFault(drift_ppm=ppm))
    assert clock.now().monotonic_ns == before
    machine.pass_time(10)
    gained_ns = ppm * 10_000
    assert clock.now().monotonic_ns == before + 10 * SECOND_NS + gained_ns
    assert clock.wall_error_ns() == gained_ns
    # A timer for a moment of this clock is set in the machine's time.
    due_ns = clock.now().monotonic_ns + SECOND_NS
    machine.pass_time(clock.delay_ns(due_ns) / SECOND_NS)
    assert abs(clock.now().monotonic_ns - due_ns) < 10
    at_the_end = clock.now().monotonic_ns
    clock.set(ClockFault())
    assert clock.now().monotonic_ns == at_the_end
    assert clock.wall_error_ns() == 0, "the wall clock is put right"
    machine.pass_time(1)
    assert clock.now().monotonic_ns == at_the_end + SECOND_NS
    assert clock.true_ns() == machine.now_ns


def test_a_strobe_comes_and_goes(machine: Machine) -> None:
    clock = NodeClock()
    clock.set(ClockFault(offset_ns=SECOND_NS, strobe_ns=SECOND_NS // 10))
    seen = []
    for _ in range(6):
        seen.append(clock.wall_error_ns() // SECOND_NS)
        machine.pass_time(0.1)
    assert seen == [1, 0, 1, 0, 1, 0]


def test_what_is_out_of_range_is_told() -> None:
    assert problems(ClockFault(1, 5, 6)) == []
    assert len(problems(ClockFault(0, 200_001, -1))) == 2
