"""What judging costs: zones in numpy beside zones in plain Python, loading, and the search.

    uv run python -m tests.benchmarks.checkers --rounds 5

CPU time of this process, medians of rounds that take turns. The histories are valid: every read
returns the last write of its key that was acknowledged, or one under way.
"""

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import numpy as np

from replication.analysis.calls import Calls, judge_calls
from replication.analysis.columns import INITIAL_VALUE, RegisterColumns, contradictions
from replication.analysis.findings import Verdict
from replication.analysis.search import Budget
from replication.analysis.view import NEVER
from replication.exchange.json_lines import load
from tests.support import plain_zones
from tests.support.random_calls import cas_history


def history(operations: int, keys: int, clients: int, unknown: float, seed: int) -> RegisterColumns:
    """Return what one copy would have recorded: each operation acts in the middle of its time."""
    rng = np.random.default_rng(seed)
    step, length = 1_000, clients * 1_000
    invoke = np.arange(operations, dtype=np.int64) * step
    complete = invoke + rng.integers(1, length, operations)
    key = rng.integers(0, keys, operations)
    write = rng.random(operations) < 0.5
    acts = invoke + (complete - invoke) // 2
    value = np.full(operations, INITIAL_VALUE, dtype=np.int64)
    value[write] = np.arange(int(write.sum()))
    lost = write & (rng.random(operations) < 2 * unknown)  # half of all are writes
    never = lost & (rng.random(operations) < 0.5)
    holds = np.full(keys, INITIAL_VALUE, dtype=np.int64)
    for row in np.argsort(acts, kind="stable").tolist():
        if not write[row]:
            value[row] = holds[key[row]]
        elif not never[row]:
            holds[key[row]] = value[row]
    return RegisterColumns(
        key, value, write, np.zeros(operations, np.bool_), invoke, np.where(lost, NEVER, complete)
    )


def write_lines(columns: RegisterColumns, path: Path) -> None:
    """Write the history as our own JSON Lines."""
    with path.open("w") as stream:
        for row, (key, value, write, invoke, complete) in enumerate(
            zip(
                columns.key.tolist(),
                columns.value.tolist(),
                columns.write.tolist(),
                columns.invoke.tolist(),
                columns.complete.tolist(),
                strict=True,
            )
        ):
            record = {
                "type": "operation",
                "index": row,
                "client": f"c{row % 16}",
                "kind": "put" if write else "get",
                "key": f"k{key:04}",
                "phase": "load",
                "intended_ns": invoke,
                "invoke_ns": invoke,
                "complete_ns": None if complete == NEVER else complete,
                "outcome": "unknown" if complete == NEVER else "ok",
                "node": "n1",
            }
            if write:
                record |= {"value": f"v{value}", "write_id": f"c:{value}"}
            elif value != INITIAL_VALUE:
                record["seen"] = [{"write_id": f"c:{value}", "value": f"v{value}"}]
            stream.write(json.dumps(record, separators=(",", ":")) + "\n")


def cpu(work: Callable[[], object]) -> float:
    """Return the seconds of CPU that ``work`` takes."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def zones(rounds: int) -> None:
    print("zones: numpy beside plain Python (ms of CPU)")
    for operations, keys in ((10_000, 1), (10_000, 64), (100_000, 64), (1_000_000, 1024)):
        columns = history(operations, keys, 16, 0.05, 7)
        assert not contradictions(columns).rows, "the history is valid"
        numpy_s, plain_s = [], []
        for _ in range(rounds if operations < 1_000_000 else max(rounds // 2, 1)):
            numpy_s.append(cpu(lambda columns=columns: contradictions(columns)))
            plain_s.append(cpu(lambda columns=columns: plain_zones.holds(columns)))
        fast, slow = statistics.median(numpy_s), statistics.median(plain_s)
        print(
            f"  {operations:>9,} operations {keys:>5,} keys  numpy {fast * 1e3:8.1f}  plain "
            f"{slow * 1e3:8.1f}  ratio {fast / slow:.3f}"
        )


def loading(operations: int) -> None:
    columns = history(operations, 1024, 16, 0.05, 7)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "history.jsonl"
        write_lines(columns, path)
        del columns

        kept: list[RegisterColumns] = []

        def read() -> None:
            with path.open("rb") as stream:
                kept.append(load(stream, str(path)).columns)

        def plain() -> None:
            with path.open("rb") as stream:
                for raw in stream:
                    json.loads(raw)

        print(f"a file of {operations:,} operations on 1,024 keys (s of CPU)")
        loaded = cpu(read)
        judged = cpu(lambda: contradictions(kept[0]))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        parsed = cpu(plain)
        print(f"  loaded {loaded:.2f}, judged {judged:.2f}")
        print(f"  json alone {parsed:.2f}, ratio {loaded / parsed:.2f}")
        print(f"  peak of this process {peak:,.0f} MiB, the making of the history included")


def searching() -> None:
    histories = [cas_history(Random(seed), 90, 20, 0.05) for seed in range(100)]

    def judge() -> None:
        for calls in histories:
            finding = judge_calls(Calls(calls), "cas-register", None, Budget())
            assert finding.verdict is Verdict.VALID

    seconds = cpu(judge)
    print(f"search: 100 histories of 90 compare-and-set operations, 20 clients: {seconds:.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--operations", type=int, default=1_000_000)
    arguments = parser.parse_args()
    loading(arguments.operations)
    zones(arguments.rounds)
    searching()


if __name__ == "__main__":
    main()
