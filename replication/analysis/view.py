"""A history with the indexes that the checks share, built in one pass."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from replication.history import (
    History,
    Operation,
    OperationKind,
    Outcome,
    Phase,
    ReplicaContents,
    SeenVersion,
)

Times: TypeAlias = NDArray[np.int64]
T = TypeVar("T")

OK, FAIL, UNKNOWN = 0, 1, 2  # the codes of Columns.outcome
NEVER = np.iinfo(np.int64).max  # completion of an operation that was under way when the run ended
_OUTCOME_CODES = {Outcome.OK: OK, Outcome.FAIL: FAIL, Outcome.UNKNOWN: UNKNOWN}


@dataclass(slots=True)
class Columns:
    """The operations of warm-up and load as arrays, in the order of the history."""

    intended: Times
    invoke: Times
    complete: Times  # NEVER where the run ended first
    outcome: NDArray[np.int8]
    write: NDArray[np.bool_]
    measured: NDArray[np.bool_]  # not warm-up
    redirects: NDArray[np.int64]
    client: NDArray[np.int64]  # index into ``clients``
    operations: list[Operation]
    clients: list[str]


class View:
    """What every check wants to know of a history. Not to be changed after it was made."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.writes: dict[str, Operation] = {}  # by write id
        self.by_index = {each.index: each for each in history.operations}
        self.by_key: dict[str, list[Operation]] = {}  # in the order of the history
        self.first_seen_ns: dict[str, int] = {}  # write id -> end of the first ok read of it
        self.tally: Counter[tuple[OperationKind, Outcome]] = Counter()
        self.final_reads: dict[str, list[Operation]] = {}  # ok ones, by key
        self.held: dict[str, list[ReplicaContents]] = {}  # by owners at the very end, by key
        self.problems: list[str] = []  # what makes the history itself doubtful
        self._memo: dict[Callable[[View], Any], Any] = {}
        for operation in history.operations:
            self._take(operation)
        for contents in history.contents:
            if contents.owner:
                self.held.setdefault(contents.key, []).append(contents)

    def _take(self, operation: Operation) -> None:
        self.tally[operation.kind, operation.outcome] += 1
        operations = self.by_key.get(operation.key)
        if operations is None:
            operations = self.by_key[operation.key] = []
        operations.append(operation)
        if operation.kind is not OperationKind.GET:
            if operation.write_id is None or operation.write_id in self.writes:
                self.problems.append(
                    f"operation {operation.index} repeats or lacks a write id: {operation.write_id}"
                )
            else:
                self.writes[operation.write_id] = operation
        elif operation.outcome is Outcome.OK:
            self._take_read(operation)

    def _take_read(self, read: Operation) -> None:
        assert read.complete_ns is not None, f"operation {read.index} is ok without an end"
        for version in read.seen:
            known = self.first_seen_ns.get(version.write_id)
            if known is None or read.complete_ns < known:
                self.first_seen_ns[version.write_id] = read.complete_ns
        if read.phase is Phase.FINAL:
            self.final_reads.setdefault(read.key, []).append(read)

    def once(self, compute: Callable[["View"], T]) -> T:
        """Return ``compute(self)``, computed at most once."""
        if compute not in self._memo:
            self._memo[compute] = compute(self)
        result: T = self._memo[compute]
        return result

    def effective_end_ns(self, write_id: str) -> int | None:
        """Return when the write had taken effect at the latest; None if that is not known.

        Its acknowledgement, or the end of the first read that returned it, whichever was sooner.
        """
        write = self.writes.get(write_id)
        seen = self.first_seen_ns.get(write_id)
        if write is None or write.outcome is not Outcome.OK or write.complete_ns is None:
            return seen
        return write.complete_ns if seen is None else min(seen, write.complete_ns)

    def final_versions(self, key: str) -> list[SeenVersion] | None:
        """Return every version of ``key`` that can still be read, None when nobody looked.

        With one order per key the answer of the cluster to the final read is the truth. Without, a
        version that only one owner holds can still be read and repaired, so it counts too.
        """
        reads = self.final_reads.get(key)
        held = self.held.get(key)
        versions: dict[str, SeenVersion] = {}
        for read in reads or ():
            for version in read.seen:
                versions.setdefault(version.write_id, version)
        if reads and self.history.single_register:
            return list(versions.values())
        for contents in held or ():
            for version in contents.versions:
                versions.setdefault(version.write_id, version)
        return list(versions.values()) if reads or held else None


def columns(view: View) -> Columns:
    """Return the operations of warm-up and load as arrays; call through ``View.once``."""
    loaded = [each for each in view.history.operations if each.phase is not Phase.FINAL]
    clients: dict[str, int] = {}
    for each in loaded:
        clients.setdefault(each.client, len(clients))

    def column(values: Iterable[int]) -> Times:
        return np.fromiter(values, dtype=np.int64, count=len(loaded))

    return Columns(
        intended=column(each.intended_ns for each in loaded),
        invoke=column(each.invoke_ns for each in loaded),
        complete=column(NEVER if (end := each.complete_ns) is None else end for each in loaded),
        outcome=column(_OUTCOME_CODES[each.outcome] for each in loaded).astype(np.int8),
        write=column(each.kind is not OperationKind.GET for each in loaded).astype(np.bool_),
        measured=column(each.phase is Phase.LOAD for each in loaded).astype(np.bool_),
        redirects=column(each.redirects for each in loaded),
        client=column(clients[each.client] for each in loaded),
        operations=loaded,
        clients=list(clients),
    )
