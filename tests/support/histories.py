"""Histories for the tests of the analysis: written by hand, and generated.

Times of hand-written histories are milliseconds after the load began.
"""

from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Any

from replication.history import (
    ContentsSample,
    FaultRecord,
    History,
    NodeEvent,
    Operation,
    OperationKind,
    Outcome,
    Phase,
    ReplicaContents,
    SeenVersion,
)

MS = 1_000_000
LOAD_START_NS = 1_000 * MS
NODES = ["n1", "n2", "n3", "n4", "n5"]
GET, PUT, DELETE = OperationKind.GET, OperationKind.PUT, OperationKind.DELETE
SWAP = OperationKind.COMPARE_AND_SET
OK, FAIL, UNKNOWN = Outcome.OK, Outcome.FAIL, Outcome.UNKNOWN


def at(ms: float) -> int:
    """Return a moment of a hand-written history."""
    return LOAD_START_NS + round(ms * MS)


def seen(*write_ids: str, tombstone: bool = False) -> list[SeenVersion]:
    """Return what a read saw."""
    return [SeenVersion(each, tombstone=tombstone) for each in write_ids]


class Script:
    """A history written by hand, an operation at a time."""

    def __init__(self, *, register: bool = True, load_ms: float = 10_000, **fields: Any) -> None:
        load_end_ns = at(load_ms)
        self.history = History(
            **{
                "family": "leader" if register else "leaderless",
                "backend": "raft" if register else "dynamo",
                "title": "Raft" if register else "Dynamo",
                "promise": "as told",
                "simulated": True,
                "seed": 1,
                "nodes": list(NODES),
                "clients": {f"c{number}": f"n{number}" for number in range(1, 6)},
                "load_start_ns": LOAD_START_NS,
                "measure_start_ns": LOAD_START_NS,
                "load_end_ns": load_end_ns,
                "heal_ns": load_end_ns,
                "settle_end_ns": load_end_ns + 2_000 * MS,
                "single_register": register,
                **fields,
            }
        )
        self._sequences: dict[str, int] = {}

    def _add(self, operation: Operation) -> Operation:
        self.history.operations.append(operation)
        return operation

    def _operation(
        self,
        kind: OperationKind,
        client: str,
        key: str,
        start: float,
        end: float | None,
        **fields: Any,
    ) -> Operation:
        return self._add(
            Operation(
                **{
                    "index": len(self.history.operations),
                    "client": client,
                    "kind": kind,
                    "key": key,
                    "phase": Phase.LOAD,
                    "intended_ns": at(start),
                    "invoke_ns": at(start),
                    "complete_ns": None if end is None else at(end),
                    "outcome": OK,
                    **fields,
                }
            )
        )

    def write(
        self,
        client: str,
        key: str,
        start: float,
        end: float | None,
        kind: OperationKind = PUT,
        **fields: Any,
    ) -> str:
        """Add a write and return its id."""
        self._sequences[client] = self._sequences.get(client, 0) + 1
        write_id = f"{client}:{self._sequences[client]}"
        if kind is not DELETE:
            fields.setdefault("value", f"v{write_id}")
        self._operation(kind, client, key, start, end, write_id=write_id, **fields)
        return write_id

    def read(
        self,
        client: str,
        key: str,
        start: float,
        end: float | None,
        *write_ids: str,
        **fields: Any,
    ) -> Operation:
        """Add a read that returned these writes; none: the key was missing."""
        fields.setdefault("seen", seen(*write_ids))
        return self._operation(GET, client, key, start, end, **fields)

    def final(self, key: str, *write_ids: str, **fields: Any) -> Operation:
        """Add a read after healing."""
        start = (self.history.heal_ns - LOAD_START_NS) / MS + 1_000
        return self.read("reader", key, start, start + 1, *write_ids, phase=Phase.FINAL, **fields)

    def fault(
        self, kind: str, nodes: Sequence[str], start: float, end: float | None, **fields: Any
    ) -> FaultRecord:
        """Add a fault that took effect."""
        record = FaultRecord(
            **{
                "number": len(self.history.faults) + 1,
                "kind": kind,
                "words": f"{kind} {', '.join(nodes)}",
                "planned_ns": at(start),
                "injected_ns": at(start),
                "healed_ns": None if end is None else at(end),
                "nodes": list(nodes),
                "evidence": ["it took effect"],
                "effective": True,
                "takes_down": kind == "kill",
                "momentary": kind == "restart",
                **fields,
            }
        )
        self.history.faults.append(record)
        return record

    def event(self, ms: float, node: str, name: str, **fields: Any) -> None:
        """Add a node event."""
        self.history.events.append(NodeEvent(at(ms), node, name, fields))

    def role(self, ms: float, node: str, role: str, term: int, leader: str = "") -> None:
        """Add a change of role."""
        self.event(ms, node, "role_changed", role=role, term=term, leader=leader)

    def sample(self, ms_after_heal: float, keys: int, *differing: str) -> None:
        """Add a comparison of the replicas."""
        time_ns = self.history.heal_ns + round(ms_after_heal * MS)
        self.history.samples.append(ContentsSample(time_ns, keys, list(differing)))

    def held(self, node: str, key: str, *write_ids: str) -> None:
        """Say what an owner held at the very end."""
        self.history.contents.append(ReplicaContents(node, key, True, seen(*write_ids)))


# Generated histories.


def valid_register(
    rng: Random, *, operations: int = 60, clients: int = 5, keys: int = 3, swaps: float = 0.0
) -> History:
    """Return what a single copy would have recorded: each operation acts at one moment inside.

    With failed and unknown operations, deletes, equal times, final reads, and a kill in the middle.
    """
    script = Script()
    history = script.history
    planned = _intervals(rng, operations, clients)
    holds: dict[str, str | None] = {}  # the write that a key holds
    values: dict[str | None, str | None] = {None: None}
    actions: list[tuple[float, int, Callable[[], None]]] = []
    for start, end, client in planned:
        key = f"k{rng.randrange(keys)}"
        draw = rng.random()
        outcome = OK if draw < 0.88 else UNKNOWN if draw < 0.94 else FAIL
        kind = rng.choices(
            (GET, PUT, DELETE, SWAP), (0.5, 0.38 - swaps / 2, 0.12 - swaps / 2, swaps)
        )[0]
        moment = rng.uniform(start, end)
        if kind is GET:
            read = script.read(client, key, start, end, outcome=OK if outcome is OK else FAIL)
            if read.outcome is OK:
                actions.append((moment, read.index, lambda r=read: _act_read(r, holds)))
            continue
        expected = values[rng.choice(list(values))] if kind is SWAP else None
        write_id = script.write(client, key, start, end, kind, outcome=outcome, expected=expected)
        write = history.operations[-1]
        values[write_id] = write.value
        if outcome is FAIL:
            write.error = "NotLeader"
            continue
        if outcome is UNKNOWN:
            write.error = "Indefinite"
            moment = rng.uniform(start, end + 200)  # an unknown write may act long after
            if rng.random() < 0.5:
                continue
        actions.append((moment, write.index, lambda w=write: _act_write(w, holds, values)))
    for _, _, act in sorted(actions, key=lambda each: each[:2]):
        act()
    _finish(script, holds)
    return history


def _intervals(rng: Random, operations: int, clients: int) -> list[tuple[int, int, str]]:
    """Return (start, end, client) in whole milliseconds: many are equal. Ascending by start."""
    found = []
    free = [rng.randrange(5) for _ in range(clients)]
    for _ in range(operations):
        client = rng.randrange(clients)
        start = free[client] + rng.randrange(4)
        end = start + rng.choice((0, 1, 1, 2, 3, 20))
        free[client] = end
        found.append((start, end, f"c{client + 1}"))
    return sorted(found)


def _act_read(read: Operation, holds: dict[str, str | None]) -> None:
    write_id = holds.get(read.key)
    read.seen = [] if write_id is None else seen(write_id)


def _act_write(
    write: Operation, holds: dict[str, str | None], values: dict[str | None, str | None]
) -> None:
    if write.kind is SWAP and values[holds.get(write.key)] != write.expected:
        if write.outcome is OK:
            write.outcome, write.error = FAIL, "Conflict"
        return
    holds[write.key] = write.write_id


def _finish(script: Script, holds: dict[str, str | None]) -> None:
    """Add the end of a run: a fault with operations in it, final reads, equal replicas."""
    history = script.history
    last = max(each.complete_ns or 0 for each in history.operations)
    history.load_end_ns = history.heal_ns = max(last, at(1)) + MS
    history.settle_end_ns = history.heal_ns + 2_000 * MS
    script.fault("kill", ["n2"], 0, None)
    keys = sorted({each.key for each in history.operations})
    for key in keys:
        write_id = holds.get(key)
        versions = () if write_id is None else (write_id,)
        script.final(key, *versions)
        for node in NODES[:3]:
            script.held(node, key, *versions)
    script.sample(0, len(keys), *keys[:1])
    script.sample(100, len(keys))


def valid_leaderless(rng: Random, *, operations: int = 60, clients: int = 5) -> History:
    """Return what one store of dotted versions would have recorded: siblings and contexts."""
    script = Script(register=False, settings={"versions": "dvv", "n": 3, "r": 2, "w": 2})
    holds: dict[str, list[str]] = {}
    contexts: dict[tuple[str, str], list[str]] = {}
    planned = sorted(
        (rng.uniform(start, end), start, end, client)
        for start, end, client in _intervals(rng, operations, clients)
    )
    for _, start, end, client in planned:  # in the order in which they take effect
        key = f"k{rng.randrange(3)}"
        carried = contexts.get((client, key), [])
        if rng.random() < 0.5:
            script.read(client, key, start, end, *holds.get(key, ()))
            contexts[client, key] = list(holds.get(key, ()))
            continue
        draw = rng.random()
        outcome = OK if draw < 0.8 else UNKNOWN if draw < 0.9 else FAIL
        write_id = script.write(client, key, start, end, based_on=list(carried), outcome=outcome)
        if outcome is FAIL or (outcome is UNKNOWN and rng.random() < 0.5):
            continue
        holds[key] = [each for each in holds.get(key, ()) if each not in carried] + [write_id]
        if outcome is OK:
            contexts[client, key] = [*carried, write_id]
        if len(holds[key]) > 1:
            versions = [_event_version(each) for each in holds[key]]
            script.event(end, "n1", "siblings_created", key=key, versions=versions)
    script.history.operations.sort(key=lambda each: each.invoke_ns)
    _finish(script, {})
    for operation in script.history.operations:
        if operation.phase is Phase.FINAL:
            operation.seen = seen(*holds.get(operation.key, ()))
    for contents in script.history.contents:
        contents.versions = seen(*holds.get(contents.key, ()))
    return script.history


def _event_version(write_id: str) -> dict[str, Any]:
    return {"value": "", "tombstone": False, "write_id": write_id, "dot": None, "timestamp_ns": 0}


def random_register(
    rng: Random, *, operations: int, span: int = 12, keys: int = 2, swaps: float = 0.0
) -> History:
    """Return a history that may be right or wrong: ties, unknown writes, phantoms, future reads."""
    script = Script()
    written: dict[str, list[str]] = {}
    reads: list[Operation] = []
    for _ in range(operations):
        key = f"k{rng.randrange(keys)}"
        start = rng.randrange(span)
        end = start + rng.randrange(1 + span // 3)
        client = f"c{rng.randrange(5)}"
        if rng.random() < 0.55 - swaps / 3:
            reads.append(script.read(client, key, start, end))
            continue
        outcome = OK if rng.random() < 0.8 else UNKNOWN
        ended = end if outcome is OK or rng.random() < 0.5 else None
        kind = SWAP if rng.random() < swaps else DELETE if rng.random() < 0.2 else PUT
        write_id = script.write(client, key, start, ended, kind, outcome=outcome)
        if kind is SWAP:
            _expect_something(rng, script.history, written.get(key, []))
        written.setdefault(key, []).append(write_id)
    for read in reads:
        choices: list[str | None] = [None, *written.get(read.key, ())]
        if rng.random() < 0.02:
            choices = ["c9:9"]
        # Prefer what is likely: a write that began before the read ended.
        likely = [
            each
            for each in script.history.operations
            if each.write_id in choices and each.invoke_ns <= (read.complete_ns or 0)
        ]
        chosen = rng.choice(choices)
        if likely and rng.random() < 0.8:
            chosen = max(likely, key=lambda each: each.invoke_ns + rng.randrange(4) * MS).write_id
        read.seen = [] if chosen is None else seen(chosen)
    return script.history


def _expect_something(rng: Random, history: History, written: list[str]) -> None:
    """Let the last operation expect a value, often one of two; now and then it was refused."""
    swap = history.operations[-1]
    swap.value = rng.choice(("a", "b", swap.value))
    values = {each.write_id: each.value for each in history.operations}
    swap.expected = rng.choice(("a", "b", None, *(values[each] for each in written[-2:])))
    if swap.outcome is OK and rng.random() < 0.25:
        swap.outcome, swap.error = FAIL, "Conflict"


# The slow and obvious judge.


def brute_force(operations: Iterable[Operation]) -> bool:
    """Return whether a history is linearizable, by trying every order.

    A compare-and-set that failed was refused: the key held something else then.
    """
    by_key: dict[str, list[Operation]] = {}
    for each in operations:
        if each.outcome is OK or each.kind is not GET:
            by_key.setdefault(each.key, []).append(each)
    return all(_some_order(each, None) for each in by_key.values())


def _some_order(left: list[Operation], holds: Operation | None) -> bool:
    if all(each.outcome is UNKNOWN for each in left):
        return True
    for index, each in enumerate(left):
        if any(
            other.outcome is not UNKNOWN and (other.complete_ns or 0) < each.invoke_ns
            for other in left
        ):
            continue
        rest = left[:index] + left[index + 1 :]
        value = None if holds is None else holds.value
        if each.kind is GET:
            fits = [version.write_id for version in each.seen] == (
                [] if holds is None else [holds.write_id]
            )
        elif each.kind is SWAP:
            fits = (value == each.expected) is not (each.outcome is FAIL)
        else:
            fits = True
        changes = each.kind is not GET and each.outcome is not FAIL
        if fits and _some_order(rest, each if changes else holds):
            return True
    return False
