"""Spreading the seeds of a swarm over the cores of this machine. The shell of a pure room."""

import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing import get_context
from os import cpu_count
from typing import Any

from replication.plan.scenario import read_scenario
from replication.protocol import Family
from replication.simulation.draw import draw_scenario
from replication.simulation.seeds import SeedResult, SwarmReport, run_seed

CHUNK = 2  # simulations to a task: few enough to stop soon
OnResult = Callable[[SeedResult], None]


def swarm(
    raw: Mapping[str, Any],
    name: str,
    seeds: Iterable[int],
    *,
    families: Sequence[Family] = tuple(Family),
    jobs: int | None = None,
    stop_at_first: bool = False,
    on_result: OnResult | None = None,
) -> SwarmReport:
    """Try every seed on every family, on ``jobs`` processes (default: one per core).

    ``on_result`` is called here, for each result as it comes. KeyboardInterrupt ends it: the report
    holds what was found so far, and says so. ``jobs=1`` runs in this process. Raises ConfigError
    when the scenario is wrong.
    """
    tasks = [(seed, family) for seed in seeds for family in families]
    for seed, _ in tasks[:1]:
        # What is wrong is wrong for all seeds: say so before any process is started.
        read_scenario(draw_scenario(raw, name, seed), name, name)
    chunks = [tasks[start : start + CHUNK] for start in range(0, len(tasks), CHUNK)]
    results: list[SeedResult] = []
    jobs = min(jobs or cpu_count() or 1, max(len(chunks), 1))
    try:
        if jobs == 1:
            _run_here(dict(raw), name, tasks, stop_at_first, results, on_result)
        else:
            _run_there(dict(raw), name, chunks, jobs, stop_at_first, results, on_result)
    except KeyboardInterrupt:
        return _report(name, results, interrupted=True)
    return _report(name, results, interrupted=False)


def _report(name: str, results: list[SeedResult], interrupted: bool) -> SwarmReport:
    order = list(Family)
    ordered = sorted(results, key=lambda each: (each.seed, order.index(each.family)))
    return SwarmReport(name, tuple(ordered), interrupted)


def _run_here(
    raw: dict[str, Any],
    name: str,
    tasks: Sequence[tuple[int, Family]],
    stop_at_first: bool,
    results: list[SeedResult],
    on_result: OnResult | None,
) -> None:
    for seed, family in tasks:
        if _take([run_seed(raw, name, seed, family)], results, on_result) and stop_at_first:
            return


def _run_there(
    raw: dict[str, Any],
    name: str,
    chunks: Sequence[Sequence[tuple[int, Family]]],
    jobs: int,
    stop_at_first: bool,
    results: list[SeedResult],
    on_result: OnResult | None,
) -> None:
    # Started afresh rather than forked: the caller may hold threads or gRPC.
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"))
    waiting = iter(chunks)
    running: set[Future[list[SeedResult]]] = set()
    try:
        while True:
            # Two tasks for each process: enough to keep it busy, few enough to stop soon.
            while len(running) < 2 * jobs and (chunk := next(waiting, None)) is not None:
                with _interrupts_held_back():
                    running.add(pool.submit(_run_chunk, raw, name, chunk))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            failed = [_take(each.result(), results, on_result) for each in done]
            if stop_at_first and any(failed):
                return
    finally:
        # Whatever ends it, what is under way comes to its end and counts.
        pool.shutdown(wait=True, cancel_futures=True)
        for each in running:
            if not each.cancelled() and each.exception() is None:
                _take(each.result(), results, on_result)


def _take(
    found: Sequence[SeedResult], results: list[SeedResult], on_result: OnResult | None
) -> bool:
    """Keep what came; return whether a failure was among it."""
    for each in found:
        results.append(each)
        if on_result is not None:
            on_result(each)
    return any(each.failure is not None for each in found)


def _run_chunk(
    raw: dict[str, Any], name: str, tasks: Sequence[tuple[int, Family]]
) -> list[SeedResult]:
    return [run_seed(raw, name, seed, family) for seed, family in tasks]


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Start processes that never see a Ctrl-C, though it reaches every process of a terminal.

    This one decides what it means. A process inherits what is held back here.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
