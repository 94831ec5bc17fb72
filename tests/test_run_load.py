"""The load driver, its timer and its wires, on a target that is no cluster."""

import asyncio
import time
from collections.abc import Callable, Iterator
from functools import partial
from random import Random

import pytest

from replication.client.pipeline import Sink
from replication.client.session import MILLISECOND_NS, Session
from replication.client.steps import Attempt
from replication.errors import NotLeader, OperationError, Overloaded
from replication.history import Operation, OperationKind, Outcome, Phase
from replication.plan.model import LinkRule, PlannedClient, PlannedOperation, Route
from replication.protocol import Family, StorageResponse
from replication.run.load import Driver, Window
from replication.run.timers import Timers
from replication.run.wires import Wires
from replication.v1 import storage_pb2

NODES = ("n1", "n2")
TIMEOUT_NS = 200 * MILLISECOND_NS

Answer = StorageResponse | OperationError | None  # None: silence


class Instant:
    """A target that answers in the same turn, or is not connected, or says nothing."""

    def __init__(self, answer: Callable[[Attempt], Answer] | None = None) -> None:
        self.answer = answer or (lambda _: storage_pb2.PutResponse())
        self.connected = True
        self.asked: list[str] = []

    def submit(self, attempt: Attempt, sink: Sink) -> bool:
        if not self.connected:
            return False
        self.asked.append(attempt.node)
        answer = self.answer(attempt)
        if answer is not None:
            asyncio.get_running_loop().call_soon(sink.answered, attempt, answer)
        return True


def planned(client: str, dues_ns: list[int | None]) -> Iterator[PlannedOperation]:
    for sequence, due_ns in enumerate(dues_ns, 1):
        yield PlannedOperation(client, sequence, due_ns, OperationKind.PUT, "k", value="v")


def drive(
    target: Instant,
    dues_ns: dict[str, list[int | None]],
    duration_ns: int = 100 * MILLISECOND_NS,
    rules: tuple[LinkRule, ...] = (),
    think_ns: int = 0,
) -> Driver:
    async def work() -> Driver:
        timers = Timers()
        wires = Wires(Random(1))
        wires.set_rules(rules)
        driver = Driver(target, timers, wires, time.monotonic_ns())
        sessions = [
            Session(
                PlannedClient(name, "n1", Route.PINNED, think_ns),
                Family.LEADERLESS,
                NODES,
                TIMEOUT_NS,
            )
            for name in dues_ns
        ]
        start_ns = driver.now_ns()
        window = Window(start_ns, start_ns + duration_ns, Phase.LOAD)
        try:
            async with asyncio.timeout(10):
                await driver.run(
                    [
                        (each, planned(each.client.name, dues_ns[each.client.name]))
                        for each in sessions
                    ],
                    window,
                )
        finally:
            timers.close()
        return driver

    return asyncio.run(work())


def test_moments_come_in_order_and_never_early() -> None:
    async def work() -> list[tuple[int, int]]:
        timers = Timers()
        start_ns = time.monotonic_ns()
        came: list[tuple[int, int]] = []

        def note(due_ms: int) -> None:
            came.append((due_ms, (time.monotonic_ns() - start_ns) // MILLISECOND_NS))
            if due_ms == 0:  # set while others are being called, and due before those that wait
                timers.at(start_ns + 5 * MILLISECOND_NS, partial(note, 5))

        for due_ms in (30, 10, 20, 10, 0, -5):
            timers.at(start_ns + due_ms * MILLISECOND_NS, partial(note, due_ms))
        await timers.sleep_until(start_ns + 40 * MILLISECOND_NS)
        timers.close()
        return came

    came = asyncio.run(work())
    assert [due_ms for due_ms, _ in came] == [-5, 0, 5, 10, 10, 20, 30]
    assert all(now_ms >= due_ms for due_ms, now_ms in came)


def test_a_failing_call_does_not_stop_the_timer() -> None:
    async def work() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        timers = Timers()
        now_ns = time.monotonic_ns()
        timers.at(now_ns, lambda: int("no number"))
        async with asyncio.timeout(5):
            await timers.sleep_until(now_ns + 1)
        timers.close()

    asyncio.run(work())


def test_latency_counts_from_the_intended_start_while_the_client_is_stalled() -> None:
    answers: Iterator[Answer] = iter([None, *[storage_pb2.PutResponse()] * 9])
    dues = [0, *[each * 10 * MILLISECOND_NS for each in range(10, 19)]]
    driver = drive(Instant(lambda _: next(answers)), {"c1": list(dues)}, 300 * MILLISECOND_NS)
    operations = driver.operations
    assert [each.outcome for each in operations] == [Outcome.UNKNOWN] + [Outcome.OK] * 9
    assert [each.intended_ns - operations[0].intended_ns for each in operations] == dues
    late = operations[1]
    assert late.complete_ns is not None
    # It was due 100 ms after the first one, which took 200 ms to time out.
    assert late.complete_ns - late.intended_ns >= TIMEOUT_NS - 100 * MILLISECOND_NS
    assert late.invoke_ns >= operations[0].intended_ns + TIMEOUT_NS
    assert len(driver.lags_ns) == 0 or max(driver.lags_ns) < TIMEOUT_NS, "that is no lag of ours"


def test_what_the_client_was_too_busy_for_is_counted() -> None:
    driver = drive(
        Instant(lambda _: None),
        {"c1": [0, 10 * MILLISECOND_NS, 20 * MILLISECOND_NS, 90 * MILLISECOND_NS]},
        50 * MILLISECOND_NS,
    )
    assert len(driver.operations) == 1
    report = driver.report(0.0, 1.0)
    assert (report.planned, report.sent) == (3, 1)


def test_a_closed_loop_goes_on_as_soon_as_it_can_until_the_end() -> None:
    driver = drive(Instant(), {"c1": [None] * 10_000, "c2": [None] * 5}, 50 * MILLISECOND_NS)
    by_client = {
        name: sum(each.client == name for each in driver.operations) for name in ("c1", "c2")
    }
    assert by_client["c2"] == 5
    assert by_client["c1"] > by_client["c2"]
    assert sorted(each.index for each in driver.operations) == list(
        range(1, len(driver.operations) + 1)
    )


def test_a_closed_loop_thinks_and_rests_after_refusals() -> None:
    thinking = drive(
        Instant(), {"c1": [None] * 1000}, 100 * MILLISECOND_NS, think_ns=20 * MILLISECOND_NS
    )
    assert 1 <= len(thinking.operations) <= 6
    refused = drive(Instant(lambda _: NotLeader("n2", 1)), {"c1": [None] * 1000})
    assert {each.outcome for each in refused.operations} == {Outcome.FAIL}
    assert 1 <= len(refused.operations) <= 6


def test_a_node_that_is_not_connected_is_a_definite_failure() -> None:
    target = Instant()
    target.connected = False
    driver = drive(target, {"c1": [0]})
    (operation,) = driver.operations
    assert (operation.outcome, operation.error) == (Outcome.FAIL, "Unreachable")


@pytest.mark.parametrize(
    ("rule", "arrives"),
    [(LinkRule("c1", "n1", loss=1.0), False), (LinkRule("n1", "c1", loss=1.0), True)],
)
def test_a_partition_between_client_and_node_is_silence(rule: LinkRule, arrives: bool) -> None:
    target = Instant()
    driver = drive(target, {"c1": [0], "c2": [0]}, rules=(rule,))
    by_client: dict[str, Operation] = {each.client: each for each in driver.operations}
    assert by_client["c2"].outcome is Outcome.OK
    cut_off = by_client["c1"]
    assert (cut_off.outcome, cut_off.error) == (Outcome.UNKNOWN, "Indefinite")
    assert len(target.asked) == 1 + arrives
    assert driver.wires.dropped == {(rule.source, rule.destination): 1}


def test_delay_between_client_and_node_is_added_both_ways() -> None:
    rules = (
        LinkRule("c1", "n1", delay_ns=20 * MILLISECOND_NS),
        LinkRule("n1", "c1", delay_ns=30 * MILLISECOND_NS),
    )
    driver = drive(Instant(), {"c1": [0]}, rules=rules)
    (operation,) = driver.operations
    assert operation.complete_ns is not None
    assert operation.complete_ns - operation.invoke_ns >= 50 * MILLISECOND_NS
    assert driver.wires.delayed == {("c1", "n1"): 1, ("n1", "c1"): 1}


def test_ways_between_client_and_node_are_measured_where_the_node_tells() -> None:
    def answer(attempt: Attempt) -> Answer:
        if len(target.asked) == 2:
            return Overloaded()  # the second operation takes two attempts
        if len(target.asked) > 1:
            attempt.sent_ns = attempt.left_ns = time.monotonic_ns()
        return storage_pb2.PutResponse()

    target = Instant(answer)
    rules = (LinkRule("c1", "n1", delay_ns=20 * MILLISECOND_NS),)
    driver = drive(target, {"c1": [0, 1, 2, 3]}, rules=rules, duration_ns=10**9)
    assert [each.attempts for each in driver.operations] == [1, 2, 1, 1]
    ways = {leg: found.spans for leg, found in driver.delays.found.items()}
    measured = driver.operations[2:]
    assert [begin for begin, _ in ways["request"]] == [each.invoke_ns for each in measured]
    assert [end for _, end in ways["reply"]] == [each.complete_ns for each in measured]
    assert all(end - begin >= 20 * MILLISECOND_NS for begin, end in ways["request"])
    assert all(0 < end - begin < 20 * MILLISECOND_NS for begin, end in ways["reply"])


def test_a_mistake_of_ours_ends_the_load_and_is_told() -> None:
    def broken(_: Attempt) -> Answer:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        drive(Instant(broken), {"c1": [0]})


def test_a_load_that_is_cut_short_keeps_what_was_on_its_way() -> None:
    async def work() -> list[Operation]:
        timers = Timers()
        driver = Driver(Instant(lambda _: None), timers, Wires(Random(1)), time.monotonic_ns())
        one = Session(PlannedClient("c1", "n1", Route.FOLLOW), Family.LEADER, NODES, 10**10)
        window = Window(driver.now_ns(), driver.now_ns() + 10**10, Phase.LOAD)
        load = asyncio.create_task(driver.run([(one, planned("c1", [0, 1]))], window))
        await asyncio.sleep(0.05)
        load.cancel()
        with pytest.raises(asyncio.CancelledError):
            await load
        timers.close()
        return driver.operations

    (operation,) = asyncio.run(work())
    assert (operation.outcome, operation.complete_ns) == (Outcome.UNKNOWN, None)


def test_warm_up_is_judged_by_the_intended_start() -> None:
    window = Window(1000, 9000, Phase.LOAD, measure_start_ns=2000)
    assert [window.phase_at(each) for each in (1999, 2000)] == [Phase.WARMUP, Phase.LOAD]
    assert Window(0, None, Phase.FINAL).phase_at(0) is Phase.FINAL
