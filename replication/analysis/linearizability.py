"""Linearizable: every key behaves as if there were one copy, changed at one moment per operation.

(Herlihy and Wing, "Linearizability: A Correctness Condition for Concurrent Objects", 1990.)

Keys that know only get, put and delete are judged by zones, all at once; keys with compare-and-set
by search within bounds. A deleted key holds the tombstone of its delete; a read that saw nothing
read the initial value. The reads after healing count like all others.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

import numpy as np

from replication.analysis import stories
from replication.analysis.coverage import conclude, coverage
from replication.analysis.findings import Finding, Verdict, Witness
from replication.analysis.promised import promises_linearizability, reads_weaker
from replication.analysis.registers import Registers, registers, version_read
from replication.analysis.search import Budget, search
from replication.analysis.versions import steps_of
from replication.analysis.view import NEVER, View
from replication.analysis.words import plural
from replication.analysis.zones import Clusters, exclusions
from replication.history import Operation, OperationKind, Outcome

NAME = "linearizability"
TITLE = "Linearizable"
WITNESSES_MAX = 5

Told: TypeAlias = Callable[[], Witness]  # words are made for the few that are shown


@dataclass(slots=True)
class _Judgement:
    """How many violations there are, and the first few of each key."""

    count: int = 0
    told: dict[str, list[tuple[int, Told]]] = field(default_factory=dict)  # key -> when and what
    undecided: list[str] = field(default_factory=list)  # keys
    unclear_reads: int = 0

    def add(self, at_ns: int, key: str, told: Told) -> None:
        self.count += 1
        mine = self.told.setdefault(key, [])
        mine.append((at_ns, told))
        if len(mine) >= 2 * WITNESSES_MAX:
            mine.sort(key=lambda each: each[0])
            del mine[WITNESSES_MAX:]


def check(view: View, budget: Budget | None = None) -> Finding:
    """Return the verdict on all reads and writes of the history.

    Reads that asked for less than linearizable are judged too. Where the history breaks only
    because of them, that is no broken promise: the finding says so in ``promised``.
    """
    judgement = view.once(_judged) if budget is None else _judge(view, budget)
    finding = _finding(view, judgement)
    finding.promised = promises_linearizability(view)
    if finding.promised and finding.verdict is not Verdict.VALID:
        weak = _weak_reads(view)
        strong = _judge(view, Budget(), skip=weak) if weak else judgement
        if weak and strong.count:
            finding = _finding(view, strong)
            finding.coverage.notes.append(f"{plural(len(weak), 'weaker read')} left out")
        elif weak and judgement.count:
            finding.promised = False
            finding.coverage.notes.append(
                f"{plural(len(weak), 'read')} asked for less than linearizable; without them "
                + ("every key is" if not strong.undecided else "no key is seen not to be")
            )
    return conclude(view, finding)


def _judged(view: View) -> _Judgement:
    return _judge(view, Budget())


def contradicted(view: View) -> bool | None:
    """Return whether anything contradicts one order per key; None: not everything was judged."""
    judgement = view.once(_judged)
    if judgement.count:
        return True
    return None if judgement.undecided or judgement.unclear_reads else False


def _weak_reads(view: View) -> frozenset[int]:
    return frozenset(
        each.index
        for each in view.history.operations
        if each.kind is OperationKind.GET and reads_weaker(view, each)
    )


def _judge(view: View, budget: Budget, skip: frozenset[int] = frozenset()) -> _Judgement:
    found = registers(view, skip=skip)
    judgement = _Judgement(unclear_reads=found.unclear_reads)
    for key, several in found.impossible.items():
        for each in several:
            at_ns = each.read.complete_ns or each.read.invoke_ns
            judgement.add(at_ns, key, partial(each.witness, view))
    judgement.count = found.impossible_count
    swapped = [
        key
        for key, operations in found.operations.items()
        if any(each.kind is OperationKind.COMPARE_AND_SET for each in operations)
    ]
    _judge_by_zones(view, found, frozenset(swapped), judgement)
    for key in swapped:
        _judge_by_search(view, key, found.operations[key], budget, judgement)
    return judgement


def _judge_by_zones(
    view: View, found: Registers, swapped: frozenset[str], judgement: _Judgement
) -> None:
    zones = _zone_columns(found, swapped)
    invoke = np.array([each.invoke_ns for each in zones.operations], dtype=np.int64)
    complete = np.array(
        [
            NEVER if each.outcome is Outcome.UNKNOWN else each.complete_ns
            for each in zones.operations
        ],
        dtype=np.int64,
    )
    cluster = np.array(zones.cluster, dtype=np.int64)
    written = np.array(zones.written_ns, dtype=np.int64)
    early = complete < written[cluster]
    for index in np.flatnonzero(early).tolist():
        read = zones.operations[index]
        write_id = zones.values[zones.cluster[index]]
        assert write_id is not None, "the initial value precedes every read"
        write = view.writes[write_id]
        told = partial(stories.read_before_write, view, write, read)
        judgement.add(write.invoke_ns, read.key, told)
    clusters = Clusters.of(
        np.array(zones.key, dtype=np.int64),
        np.array([value is None for value in zones.values], dtype=np.bool_),
        cluster[~early],
        invoke[~early],
        complete[~early],
    )
    for first, second in exclusions(clusters).tolist():
        at_ns = int(max(clusters.last[first], clusters.last[second]))
        key = zones.key_names[zones.key[second]]
        judgement.add(at_ns, key, partial(_pair_witness, view, zones, first, second))


@dataclass(slots=True)
class _Zones:
    operations: list[Operation] = field(default_factory=list)
    cluster: list[int] = field(default_factory=list)  # of each operation
    values: list[str | None] = field(default_factory=list)  # of each cluster: its write id
    written_ns: list[int] = field(default_factory=list)  # of each cluster: when its write began
    key: list[int] = field(default_factory=list)  # of each cluster
    key_names: list[str] = field(default_factory=list)


def _zone_columns(found: Registers, swapped: frozenset[str]) -> _Zones:
    """Number the values of each key; every value that was read has its write among them."""
    zones = _Zones()
    for key, operations in found.operations.items():
        if key in swapped:
            continue
        number = len(zones.key_names)
        zones.key_names.append(key)
        clusters: dict[str | None, int] = {}
        for each in operations:
            if each.kind is not OperationKind.GET:
                clusters[each.write_id] = len(zones.values)
                zones.values.append(each.write_id)
                zones.written_ns.append(each.invoke_ns)
                zones.key.append(number)
        for each in operations:
            value = version_read(each) if each.kind is OperationKind.GET else each.write_id
            if value not in clusters:
                assert value is None, "reads of unwritten values were sorted out"
                clusters[None] = len(zones.values)
                zones.values.append(None)
                zones.written_ns.append(np.iinfo(np.int64).min)
                zones.key.append(number)
            zones.operations.append(each)
            zones.cluster.append(clusters[value])
    return zones


def _pair_witness(view: View, zones: _Zones, one: int, other: int) -> Witness:
    old, new = (
        stories.Value(
            zones.values[cluster],
            [
                operation
                for operation, mine in zip(zones.operations, zones.cluster, strict=True)
                if mine == cluster
            ],
        )
        for cluster in (one, other)
    )
    return stories.back_and_forth(view, old, new)


def _judge_by_search(
    view: View, key: str, operations: list[Operation], budget: Budget, judgement: _Judgement
) -> None:
    ordered = sorted(operations, key=lambda each: (each.invoke_ns, each.index))
    steps, model = steps_of(view, ordered)
    order = search(steps, model, budget)
    if order.verdict is Verdict.UNKNOWN:
        judgement.undecided.append(key)
    elif order.verdict is Verdict.VIOLATED:
        placed = frozenset(order.placed)
        left = (each for index, each in enumerate(ordered) if index not in placed)
        at_ns = min(each.complete_ns or each.invoke_ns for each in left)
        told = partial(stories.no_order, view, key, ordered, steps, model)
        judgement.add(at_ns, key, told)


def _finding(view: View, judgement: _Judgement) -> Finding:
    found = coverage(view, reads=True)
    if judgement.unclear_reads:
        found.notes.append(
            f"{plural(judgement.unclear_reads, 'read')} of several tombstones not judged"
        )
    operations = plural(found.judged, "operation")
    if judgement.count:
        verdict = Verdict.VIOLATED
        summary = (
            f"{len(judgement.told):,} of {plural(len(view.by_key), 'key')} did not behave like one "
            f"copy: {plural(judgement.count, 'contradiction')} among {operations}"
        )
    elif judgement.undecided:
        verdict = Verdict.UNKNOWN
        summary = (
            f"the search gave up on {plural(len(judgement.undecided), 'key')} of "
            f"{len(view.by_key):,}: {stories.named(judgement.undecided)}"
        )
    else:
        verdict = Verdict.VALID
        summary = f"{operations} on {plural(len(view.by_key), 'key')} fit one order per key"
    return Finding(
        NAME,
        TITLE,
        verdict,
        summary,
        found,
        [told() for told in _first_of_each_key(judgement)],
        judgement.count,
        counts={"keys": len(judgement.told)},
    )


def _first_of_each_key(judgement: _Judgement) -> list[Told]:
    """Return the first violations in time, one per key while there are keys."""
    leading: list[tuple[int, str, Told]] = []
    others: list[tuple[int, str, Told]] = []
    for key, mine in judgement.told.items():
        ordered = sorted(mine, key=lambda each: each[0])
        leading.append((ordered[0][0], key, ordered[0][1]))
        others += [(at_ns, key, told) for at_ns, told in ordered[1:]]
    leading.sort(key=lambda each: each[:2])
    others.sort(key=lambda each: each[:2])
    return [told for _, _, told in [*leading, *others][:WITNESSES_MAX]]
