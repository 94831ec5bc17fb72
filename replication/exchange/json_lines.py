"""Our own JSON Lines at speed: a million operations into columns, without an object for each.

msgspec decodes the fields that are asked for and skips the rest: a sixth of what ``json`` takes
(tests/benchmarks/checkers.py). What contradicts itself is read again, as operations, for its story.
"""

import json
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal

import msgspec
import numpy as np

from replication.analysis import linearizability
from replication.analysis.columns import INITIAL_VALUE, RegisterColumns, contradictions
from replication.analysis.findings import Coverage, Finding, Verdict
from replication.analysis.search import Budget
from replication.analysis.view import NEVER, View
from replication.analysis.words import plural
from replication.analysis.zones import Ints
from replication.errors import ConfigError
from replication.history import History
from replication.history_files import header_from, operation_from

Lines = Callable[[], Iterable[bytes]]  # the file from its beginning, as often as it is called

_ROW_READ, _ROW_WRITE, _ROW_FAILED = range(3)


class _Version(msgspec.Struct, gc=False):
    write_id: str


class _Other(msgspec.Struct, gc=False):
    type: Literal["header", "fault"]


class _Line(msgspec.Struct, gc=False):
    # Literals are checked, and are the same object every time.
    type: Literal["operation"]
    kind: Literal["get", "put", "delete", "compare-and-set"] | None = None
    key: str = ""
    outcome: Literal["ok", "fail", "unknown"] | None = None
    invoke_ns: int = 0
    complete_ns: int | None = None
    write_id: str | None = None
    seen: list[_Version] = []  # msgspec copies an empty default


_OPERATION = msgspec.json.Decoder(_Line)
_OTHER = msgspec.json.Decoder(_Other)


def _is_other(raw: bytes) -> bool:
    """Return whether a line that is no operation is one of the lines beside them."""
    try:
        _OTHER.decode(raw)
    except msgspec.MsgspecError:
        return False
    return True


@dataclass(slots=True)
class Loaded:
    """A history file as columns, with the names behind the numbers."""

    columns: RegisterColumns
    keys: list[str]
    coverage: Coverage
    apart: set[str]  # keys that columns cannot judge: compare-and-set, reads of several values


def load(lines: Iterable[bytes], place: str) -> Loaded:
    """Return acknowledged reads and all writes of ``history.jsonl``.

    A value is the hash of its write id, then numbered. Should two writes have the same, they are
    ``contradictions(...).repeated`` and their key is judged by its operations: nothing rests on
    luck but a read of a write that is missing (one in 2^44 for a million operations).

    Raises ConfigError with line, column where it is known, and what was expected.
    """
    found = _Rows()
    try:
        found.take(lines)
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, OverflowError) as error:
        raise _problem(place, found.lines, error) from None
    if not any(found.tally.values()):
        raise ConfigError([f"{place}: no operation, expected lines of type operation"])
    coverage = _coverage(found.tally, len(found.keys.keys() | found.apart))
    return Loaded(found.columns(), list(found.keys), coverage, found.apart)


class _Rows:
    """Columns while they grow."""

    def __init__(self) -> None:
        self.lines = 0
        self.keys: defaultdict[str, int] = defaultdict(count().__next__)
        self.apart: set[str] = set()
        self.tally: defaultdict[tuple[str | None, str | None], int] = defaultdict(int)
        self._key, self._value = array("q"), array("q")
        self._invoke, self._complete = array("q"), array("q")
        self._rows = bytearray()

    def take(self, lines: Iterable[bytes]) -> None:
        """Take every line; the common ones without a call but for what must be called."""
        decode, keys = _OPERATION.decode, self.keys
        add_key, add_value, add_row = self._key.append, self._value.append, self._rows.append
        add_invoke, add_complete = self._invoke.append, self._complete.append
        reads = puts = 0
        for raw in lines:
            self.lines += 1
            try:
                line = decode(raw)
            except msgspec.ValidationError:
                if _is_other(raw):
                    continue
                raise
            end_ns = line.complete_ns
            if (
                line.outcome != "ok"
                or end_ns is None
                or (line.kind != "put" and line.kind != "get")
            ):
                self._take_other(line)
                continue
            if line.kind == "put":
                if line.write_id is None:
                    raise ValueError("a put without write_id, expected one")
                puts += 1
                add_value(hash(line.write_id))
                add_row(_ROW_WRITE)
            else:
                reads += 1
                seen = line.seen
                if len(seen) > 1:
                    self.apart.add(line.key)
                    continue
                add_value(hash(seen[0].write_id) if seen else INITIAL_VALUE)
                add_row(_ROW_READ)
            add_complete(end_ns)
            add_key(keys[line.key])
            add_invoke(line.invoke_ns)
        self.tally["get", "ok"] += reads
        self.tally["put", "ok"] += puts

    def _take_other(self, line: _Line) -> None:
        """Take deletes, compare-and-set, and what did not end well."""
        self.tally[line.kind, line.outcome] += 1
        if line.kind is None or line.outcome is None:
            raise ValueError("an operation needs kind and outcome")
        if line.kind == "get":
            if line.outcome == "ok":
                raise ValueError("a read that is ok without complete_ns, expected one")
            return
        if line.write_id is None:
            raise ValueError(f"a {line.kind} without write_id, expected one")
        if line.kind == "compare-and-set":
            self.apart.add(line.key)
            return
        known = line.outcome != "unknown" and line.complete_ns is not None
        self._value.append(hash(line.write_id))
        self._rows.append(_ROW_FAILED if line.outcome == "fail" else _ROW_WRITE)
        self._complete.append(line.complete_ns or 0 if known else NEVER)
        self._key.append(self.keys[line.key])
        self._invoke.append(line.invoke_ns)

    def columns(self) -> RegisterColumns:
        """Return what was taken."""
        rows = np.frombuffer(self._rows, dtype=np.int8)
        return RegisterColumns(
            np.frombuffer(self._key, dtype=np.int64),
            _numbered(np.frombuffer(self._value, dtype=np.int64)),
            rows != _ROW_READ,
            rows == _ROW_FAILED,
            np.frombuffer(self._invoke, dtype=np.int64),
            np.frombuffer(self._complete, dtype=np.int64),
        )


def _numbered(hashes: Ints) -> Ints:
    known, numbers = np.unique(hashes, return_inverse=True)
    # No string's hash is -1, so that stands for the initial value; it is somewhere in the order.
    initial = np.searchsorted(known, INITIAL_VALUE)
    if initial < len(known) and known[initial] == INITIAL_VALUE:
        numbers = np.where(numbers == initial, INITIAL_VALUE, numbers - (numbers > initial))
    return numbers.astype(np.int64)


def _coverage(tally: dict[tuple[str | None, str | None], int], keys: int) -> Coverage:
    found = Coverage(keys=keys)
    for (kind, outcome), amount in tally.items():
        if amount:
            name, ended = str(kind), str(outcome)
            found.by_outcome[ended] = found.by_outcome.get(ended, 0) + amount
            if ended == "ok" or (ended == "unknown" and name != "get"):
                found.by_kind[name] = found.by_kind.get(name, 0) + amount
    found.judged = sum(found.by_kind.values())
    return found


def judge_lines(lines: Lines, place: str, budget: Budget) -> Finding:
    """Return whether a history of our own is linearizable, key by key."""
    loaded = load(lines(), place)
    found = contradictions(loaded.columns)
    rows = {row for several in found.rows for row in several} | set(found.repeated.tolist())
    told = {loaded.keys[loaded.columns.key[row]] for row in rows} | loaded.apart
    if not told:
        judged = plural(loaded.coverage.judged, "operation")
        return Finding(
            linearizability.NAME,
            linearizability.TITLE,
            Verdict.VALID if loaded.coverage.judged else Verdict.UNKNOWN,
            f"{judged} on {plural(loaded.coverage.keys, 'key')} fit one order per key",
            loaded.coverage,
        )
    finding = linearizability.check(View(_history(lines(), place, told)), budget)
    notes = finding.coverage.notes
    if len(told) < loaded.coverage.keys and finding.verdict is Verdict.VALID:
        finding.summary += f", and so do {loaded.coverage.keys - len(told):,} judged by zones alone"
    if finding.verdict is Verdict.VIOLATED:
        finding.summary = (
            f"{finding.counts['keys']:,} of {plural(loaded.coverage.keys, 'key')} did not behave "
            f"like one copy: {plural(finding.violations, 'contradiction')} among "
            f"{plural(loaded.coverage.judged, 'operation')}"
        )
    finding.coverage = loaded.coverage
    finding.coverage.notes += notes
    return finding


def _history(lines: Iterable[bytes], place: str, keys: set[str]) -> History:
    """Return a history of the operations on ``keys``. The index of an operation is its line."""
    history: History | None = None
    operations = []
    for number, raw in enumerate(lines, 1):
        other = _is_other(raw)
        if not other and _OPERATION.decode(raw).key not in keys:
            continue
        record: dict[str, Any] = json.loads(raw)
        try:
            match record.pop("type"):
                case "header":
                    record.pop("format", None)
                    history = header_from(record)
                case "operation":
                    operations.append(operation_from({**record, "index": number}))
        except (TypeError, ValueError, KeyError) as error:
            raise ConfigError([f"{place}:{number}: {error}"]) from None
    if history is None:
        history = _unknown_origin(place)
    history.operations = operations
    return history


def _unknown_origin(place: str) -> History:
    return History(
        family="leader",
        backend="",
        title=place,
        promise="",
        simulated=False,
        seed=0,
        nodes=[],
        clients={},
        load_start_ns=0,
        measure_start_ns=0,
        load_end_ns=0,
        heal_ns=0,
        settle_end_ns=0,
        single_register=True,
    )


def _problem(place: str, number: int, error: Exception) -> ConfigError:
    """Say where. msgspec names a byte of the line, or the path of a field of the wrong type."""
    words = str(error)
    where = f"{place}:{number}"
    before, byte, position = words.partition("(byte ")
    if byte:
        said = before.strip().removeprefix("JSON is malformed: ")
        column = int(position.rstrip(")")) + 1
        return ConfigError([f"{where}: column {column}: {said}, expected one JSON object"])
    if not isinstance(error, msgspec.MsgspecError):
        return ConfigError([f"{where}: {words}"])
    return ConfigError([f"{where}: {words[:1].lower()}{words[1:]}"])
