"""What is wrong with the faults of a scenario, form aside. See also ``check_targets``."""

from replication.plan.check_targets import check_targets
from replication.plan.model import DiskEffect, FaultKind, PartitionShape
from replication.plan.parts import clients_of, nodes_of, shape_of
from replication.plan.problems import Path, Problems, one_of
from replication.plan.schema import Document, FaultTable
from replication.plan.units import duration_text

_END = ("for", "until")
_COMMON = ("kind", "at", "side")
_KEYS = {
    FaultKind.KILL: ("target", *_END),
    FaultKind.RESTART: ("target",),
    FaultKind.PAUSE: ("target", *_END),
    FaultKind.WIPE: ("target", *_END),
    FaultKind.JOIN: ("target",),
    FaultKind.LEAVE: ("target",),
    FaultKind.REPLACE: ("target",),
    FaultKind.TRANSFER: ("target",),
    FaultKind.PARTITION: ("target", "shape", "sides", "direction", *_END),
    FaultKind.DELAY: ("target", "delay", "jitter", *_END),
    FaultKind.JITTER: ("target", "jitter", *_END),
    FaultKind.LOSS: ("target", "loss", *_END),
    FaultKind.DUPLICATE: ("target", "duplicate", "hold", *_END),
    FaultKind.REORDER: ("target", "reorder", "hold", *_END),
    FaultKind.BANDWIDTH: ("target", "bandwidth", *_END),
    FaultKind.CLOCK: ("target", "offset", "drift_ppm", "strobe", *_END),
    FaultKind.DISK: ("target", "effect", "delay", "torn", *_END),
}
# The key without which a fault of links does nothing, and what it may be.
_EFFECTS = {
    FaultKind.DELAY: ("delay", 'a duration such as "100ms"'),
    FaultKind.JITTER: ("jitter", 'a duration such as "20ms"'),
    FaultKind.LOSS: ("loss", "the share of messages to lose, such as 0.3"),
    FaultKind.DUPLICATE: ("duplicate", "the share of messages to send twice, such as 0.1"),
    FaultKind.REORDER: ("reorder", "the share of messages to hold back, such as 0.1"),
    FaultKind.BANDWIDTH: ("bandwidth", 'what a link carries, such as "64KB/s"'),
}
_NODES_MIN = {
    PartitionShape.MINORITY_WITH_LEADER: 3,
    PartitionShape.BRIDGE: 3,
    PartitionShape.MAJORITIES_RING: 3,
}


def check_faults(document: Document, problems: Problems) -> None:
    """Judge every ``[[fault]]``."""
    for index, fault in enumerate(document.fault):
        path: Path = ("fault", index)
        if not problems.sound(path) and fault == FaultTable():
            continue
        for key in ("kind", "at"):
            if getattr(fault, key) is None and problems.sound((*path, key)):
                problems.add((*path, key), _missing(key))
        _times(fault, path, document, problems)
        if fault.kind is not None:
            _keys_of_kind(fault, fault.kind, path, problems)
            _effect(fault, path, problems)
        if fault.kind is FaultKind.PARTITION:
            _partition(fault, path, document, problems)
    check_targets(document, problems)


def _missing(key: str) -> str:
    if key == "kind":
        return f"missing, expected {one_of(FaultKind)}"
    return 'missing, expected the time after the start of the load, such as "2s"'


def _times(fault: FaultTable, path: Path, document: Document, problems: Problems) -> None:
    if fault.for_ is not None and fault.until is not None:
        problems.add((*path, "until"), "both for and until are set, expected one of them")
        return
    at_ns, duration_ns = fault.at, document.run.duration
    if at_ns is None:
        return
    known_end = problems.sound(("run", "duration"))
    if known_end and at_ns >= duration_ns:
        problems.add(
            (*path, "at"),
            f"{duration_text(at_ns)} is not within the load, "
            f"expected less than run.duration = {duration_text(duration_ns)}",
        )
        return
    if fault.kind is not None and fault.kind.is_momentary:
        return
    end_key = "until" if fault.until is not None else "for"
    if fault.for_ == 0:
        problems.add((*path, "for"), '"0s" is no time at all, expected more than 0s')
    until_ns = at_ns + fault.for_ if fault.for_ is not None else fault.until
    if until_ns is None:
        return
    if until_ns <= at_ns and end_key == "until":
        problems.add(
            (*path, "until"),
            f"{duration_text(until_ns)} is not after at = {duration_text(at_ns)}",
        )
    elif known_end and until_ns > duration_ns:
        problems.add(
            (*path, end_key),
            f"ends at {duration_text(until_ns)}, after the end of the load "
            f"(run.duration = {duration_text(duration_ns)}); "
            "leave out for and until to heal it then",
        )
    elif until_ns <= document.run.warmup and problems.sound(("run", "warmup")):
        problems.add(
            (*path, end_key),
            f"ends at {duration_text(until_ns)}, within the warm-up, which no measure counts "
            f"(run.warmup = {duration_text(document.run.warmup)})",
        )


def _keys_of_kind(fault: FaultTable, kind: FaultKind, path: Path, problems: Problems) -> None:
    for name in sorted(fault.model_fields_set):
        key = name.rstrip("_")
        if key in _COMMON or key in _KEYS[kind]:
            continue
        if kind is FaultKind.RESTART and key in _END:
            words = 'a restarted node comes back at once; to keep it down write kind = "kill"'
        else:
            owners = [each for each, keys in _KEYS.items() if key in keys]
            words = f"belongs to kind = {one_of(owners)}, not to {kind}"
        problems.add((*path, key), words)


def _effect(fault: FaultTable, path: Path, problems: Problems) -> None:
    """Complain of a fault of links that does nothing to a message."""
    key, expected = _EFFECTS.get(fault.kind, ("", "")) if fault.kind is not None else ("", "")
    jitters = fault.kind is FaultKind.DELAY and fault.jitter
    if key and not getattr(fault, key) and not jitters and problems.sound((*path, key)):
        problems.add((*path, key), f"missing, expected {expected}")
    if fault.kind in (FaultKind.DUPLICATE, FaultKind.REORDER) and fault.hold == 0:
        problems.add((*path, "hold"), '"0s" holds nothing back, expected more than 0s')
    if fault.kind is FaultKind.CLOCK:
        _clock(fault, path, problems)
    elif fault.kind is FaultKind.DISK:
        _disk(fault, path, problems)


def _clock(fault: FaultTable, path: Path, problems: Problems) -> None:
    wrong = fault.offset or fault.drift_ppm
    if not wrong and problems.sound((*path, "offset"), (*path, "drift_ppm")):
        problems.add((*path, "offset"), 'missing, expected offset = "2s" or drift_ppm = 500')
    if fault.strobe is not None and not fault.offset and problems.sound((*path, "offset")):
        problems.add((*path, "strobe"), "belongs to an offset, which comes and goes")
    elif fault.strobe == 0:
        problems.add((*path, "strobe"), '"0s" is no time at all, expected more than 0s')


def _disk(fault: FaultTable, path: Path, problems: Problems) -> None:
    if fault.effect is None:
        if problems.sound((*path, "effect")):
            problems.add((*path, "effect"), f"missing, expected {one_of(DiskEffect)}")
        return
    if fault.effect is DiskEffect.SLOW:
        if not fault.delay and problems.sound((*path, "delay")):
            problems.add((*path, "delay"), 'missing, expected what a sync takes longer: "50ms"')
    elif fault.delay is not None:
        problems.add((*path, "delay"), f'belongs to effect = "slow", not to "{fault.effect}"')
    if fault.torn and fault.effect is not DiskEffect.LOSE_UNSYNCED:
        problems.add((*path, "torn"), f'belongs to "lose-unsynced", not to "{fault.effect}"')


def _partition(fault: FaultTable, path: Path, document: Document, problems: Problems) -> None:
    shape = shape_of(fault)
    if shape is None:
        if problems.sound((*path, "shape"), (*path, "target"), (*path, "sides")):
            problems.add((*path, "shape"), f"missing, expected {one_of(PartitionShape)}")
        return
    size = document.cluster.nodes
    needed = _NODES_MIN.get(shape, 2)
    if size < needed and problems.sound(("cluster", "nodes")):
        problems.add(
            (*path, "shape"), f'"{shape}" needs {needed} nodes or more, cluster.nodes is {size}'
        )
    if shape is PartitionShape.NODES:
        _listed_sides(fault, path, document, problems)
    elif fault.sides is not None:
        problems.add((*path, "sides"), f'belongs to shape = "nodes", not to "{shape}"')
    if fault.direction is not None and shape is not PartitionShape.ONE_WAY:
        problems.add((*path, "direction"), f'belongs to shape = "one-way", not to "{shape}"')


def _listed_sides(fault: FaultTable, path: Path, document: Document, problems: Problems) -> None:
    path = (*path, "sides")
    if not problems.sound(path):
        return
    if not fault.sides:
        problems.add(path, 'missing, expected two lists such as [["n1", "n2"], ["n3"]]')
        return
    nodes, clients = nodes_of(document), clients_of(document)
    seen: dict[str, int] = {}
    for index, side in enumerate(fault.sides):
        if not side:
            problems.add((*path, index), "empty, expected at least one node or client")
        for name in side:
            if name in seen:
                where = "twice on one side" if seen[name] == index else "on two sides"
                problems.add(path, f'"{name}" is {where}')
            seen[name] = index
            unknown = name not in nodes and name not in clients
            if unknown and problems.sound(("cluster", "nodes"), ("workload", "clients")):
                problems.add(
                    (*path, index),
                    f'"{name}" is neither a node (n1 to {nodes[-1]}) '
                    f"nor a client (c1 to {clients[-1]})",
                )
    # Everybody who is not listed makes one more side.
    if len(fault.sides) == 1 and set(nodes) <= set(seen) and problems.sound(path):
        problems.add(path, "all nodes are on one side, expected two sides")
