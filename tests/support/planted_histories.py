"""Exactly one defect put into a valid history.

Each function returns a changed copy and the indexes of the operations that a witness must name. The
defect lies on a key of its own, after everything else, so that nothing else becomes wrong by it.
"""

from copy import deepcopy

from replication.history import History, Operation, Phase, ReplicaContents, SeenVersion
from tests.support.histories import DELETE, FAIL, GET, LOAD_START_NS, MS, NODES, OK, PUT, at, seen


def stale_read(history: History) -> tuple[History, set[int]]:
    """Add a read that begins after two further writes were acknowledged and returns the first."""
    planted, start = _after_load(history)
    first = _planted_write(planted, "w", start, start + 1)
    second = _planted_write(planted, "w", start + 2, start + 3)
    read = _planted_read(planted, start + 4, start + 5, first)
    return _sealed(planted, "w", second), {first.index, second.index, read.index}


def backward_read(history: History) -> tuple[History, set[int]]:
    """Add two readers: one sees the new value, a later one the old; the write is under way."""
    planted, start = _after_load(history)
    first = _planted_write(planted, "w", start, start + 1)
    second = _planted_write(planted, "w", start + 2, start + 9)
    early = _planted_read(planted, start + 3, start + 4, second)
    late = _planted_read(planted, start + 5, start + 6, first)
    return _sealed(planted, "w", second), {first.index, second.index, early.index, late.index}


def missing_read(history: History) -> tuple[History, set[int]]:
    """Add a read that finds nothing after a write was acknowledged."""
    planted, start = _after_load(history)
    write = _planted_write(planted, "w", start, start + 1)
    read = _planted_read(planted, start + 2, start + 3, None)
    return _sealed(planted, "w", write), {write.index, read.index}


def phantom_read(history: History) -> tuple[History, set[int]]:
    """Add a read of a value that nobody wrote."""
    planted, start = _after_load(history)
    read = _planted_read(planted, start, start + 1, None)
    read.seen = [SeenVersion("ghost:1", value="boo")]
    return _sealed(planted, "w", None), {read.index}


def future_read(history: History) -> tuple[History, set[int]]:
    """Add a read that ends before the write which it saw begins."""
    planted, start = _after_load(history)
    write = _planted_write(planted, "w", start + 2, start + 3)
    read = _planted_read(planted, start, start + 1, write)
    return _sealed(planted, "w", write), {write.index, read.index}


def failed_write_read(history: History) -> tuple[History, set[int]]:
    """Add a refused write and a read that returns it."""
    planted, start = _after_load(history)
    write = _planted_write(planted, "w", start, start + 1)
    write.outcome, write.error = FAIL, "NotLeader"
    read = _planted_read(planted, start + 2, start + 3, write)
    return _sealed(planted, "w", None), {write.index, read.index}


def sibling_read(history: History) -> tuple[History, set[int]]:
    """Add two concurrent writes and a read that returns both."""
    planted, start = _after_load(history)
    first = _planted_write(planted, "w", start, start + 3)
    second = _planted_write(planted, "w", start, start + 3)
    read = _planted_read(planted, start + 4, start + 5, first)
    read.seen = seen(first.write_id or "", second.write_id or "")
    return _sealed(planted, "w", second), {first.index, second.index, read.index}


def lost_write(history: History) -> tuple[History, set[int]]:
    """Add two writes, one after the other; at the end only the first is there."""
    planted, start = _after_load(history)
    first = _planted_write(planted, "w", start, start + 1)
    second = _planted_write(planted, "w", start + 2, start + 3)
    return _sealed(planted, "w", first), {first.index, second.index}


def erased_key(history: History) -> tuple[History, set[int]]:
    """Add a write of a key of which nothing is left at the end."""
    planted, start = _after_load(history)
    write = _planted_write(planted, "w", start, start + 1)
    return _sealed(planted, "w", None), {write.index}


def vanished_write(history: History) -> tuple[History, set[int]]:
    """Add two concurrent blind writes of which only one is left."""
    planted, start = _after_load(history)
    first = _planted_write(planted, "w", start, start + 3)
    second = _planted_write(planted, "w", start + 1, start + 2)
    return _sealed(planted, "w", second), {first.index, second.index}


def differing_replica(history: History) -> tuple[History, set[int]]:
    """Let one owner differ to the end."""
    planted = deepcopy(history)
    key = planted.contents[0].key
    planted.contents[0].versions = []
    planted.samples[-1].differing = [key]
    return planted, set()


def undone_delete(history: History) -> tuple[History, set[int]]:
    """Add a write, a delete that had read it, another write; at the end the first is back."""
    planted, start = _after_load(history)
    write = _planted_write(planted, "w", start, start + 1)
    delete = _planted_write(planted, "w", start + 2, start + 3)
    delete.kind, delete.value, delete.based_on = DELETE, None, [write.write_id or ""]
    late = _planted_write(planted, "w", start + 2, start + 3)
    late.based_on = [delete.write_id or ""]
    sealed = _sealed(planted, "w", write)
    for versions in (sealed.operations[-1].seen, *(each.versions for each in sealed.contents[-3:])):
        versions += seen(late.write_id or "")
    return sealed, {write.index, delete.index}


def stranger_held(history: History) -> tuple[History, set[int]]:
    """Let an owner hold, and a read return, what no client wrote."""
    planted, start = _after_load(history)
    read = _planted_read(planted, start, start + 1, None)
    read.seen = [SeenVersion("ghost:1", value="boo")]
    return _sealed(planted, "w", None), {read.index}


def own_write_unread(history: History) -> tuple[History, set[int]]:
    """Add a client that writes and then finds nothing."""
    planted, start = _after_load(history)
    write = _by("a", _planted_write(planted, "w", start, start + 1))
    read = _by("a", _planted_read(planted, start + 2, start + 3, None))
    return _sealed(planted, "w", write), {write.index, read.index}


def read_forgotten(history: History) -> tuple[History, set[int]]:
    """Add a client that reads a value under way and then finds nothing."""
    planted, start = _after_load(history)
    write = _by("a", _planted_write(planted, "w", start, start + 9))
    early = _by("b", _planted_read(planted, start + 1, start + 2, write))
    late = _by("b", _planted_read(planted, start + 3, start + 4, None))
    return _sealed(planted, "w", write), {write.index, early.index, late.index}


def earlier_write_unseen(history: History) -> tuple[History, set[int]]:
    """Add a writer of two keys, and a reader that sees the second write and not the first."""
    planted, start = _after_load(history)
    first = _by("a", _planted_write(planted, "w", start, start + 1))
    second = _by("a", _planted_write(planted, "v", start + 2, start + 9))
    seen_second = _by("b", _planted_read(planted, start + 3, start + 4, second))
    missed = _by("b", _planted_read(planted, start + 5, start + 6, None))
    _sealed(planted, "v", second)
    named = {first.index, second.index, seen_second.index, missed.index}
    return _sealed(planted, "w", first), named


def cause_unseen(history: History) -> tuple[History, set[int]]:
    """Add a writer that had read something, and a reader of the effect that misses the cause."""
    planted, start = _after_load(history)
    cause = _by("c", _planted_write(planted, "w", start, start + 9))
    known = _by("a", _planted_read(planted, start + 1, start + 2, cause))
    effect = _by("a", _planted_write(planted, "v", start + 3, start + 9))
    seen_effect = _by("b", _planted_read(planted, start + 4, start + 5, effect))
    missed = _by("b", _planted_read(planted, start + 6, start + 7, None))
    _sealed(planted, "v", effect)
    named = {each.index for each in (cause, known, effect, seen_effect, missed)}
    return _sealed(planted, "w", cause), named


def chain_of_causes_broken(history: History) -> tuple[History, set[int]]:
    """Add a chain of three clients and keys of which the last misses the first."""
    planted, start = _after_load(history)
    first = _by("a", _planted_write(planted, "w", start, start + 1))
    second = _by("a", _planted_write(planted, "v", start + 2, start + 9))
    read_second = _by("b", _planted_read(planted, start + 3, start + 4, second))
    third = _by("b", _planted_write(planted, "u", start + 5, start + 9))
    read_third = _by("c", _planted_read(planted, start + 6, start + 7, third))
    missed = _by("c", _planted_read(planted, start + 8, start + 9, None))
    _sealed(planted, "v", second)
    _sealed(planted, "u", third)
    chain = (first, second, read_second, third, read_third, missed)
    return _sealed(planted, "w", first), {each.index for each in chain}


def crossed_writes(history: History) -> tuple[History, set[int]]:
    """Add two clients that each write one key and find nothing in the other's (Dekker)."""
    planted, start = _after_load(history)
    here = _by("a", _planted_write(planted, "w", start, start + 1))
    there = _by("b", _planted_write(planted, "v", start, start + 1))
    blind = _by("a", _planted_read(planted, start + 2, start + 3, None))
    blind.key = "v"
    other = _by("b", _planted_read(planted, start + 2, start + 3, None))
    _sealed(planted, "v", there)
    named = {each.index for each in (here, there, blind, other)}
    return _sealed(planted, "w", here), named


def _by(client: str, operation: Operation) -> Operation:
    operation.client = client
    return operation


def _after_load(history: History) -> tuple[History, float]:
    """Return a copy, and a moment after its load at which a defect fits in.

    The load is made longer, so that final reads and samples still come after it.
    """
    planted = deepcopy(history)
    start = (planted.load_end_ns - LOAD_START_NS) / MS
    shift_ns = 20 * MS
    planted.load_end_ns += shift_ns
    planted.heal_ns += shift_ns
    planted.settle_end_ns += shift_ns
    for operation in planted.operations:
        if operation.phase is Phase.FINAL:
            operation.intended_ns += shift_ns
            operation.invoke_ns += shift_ns
            operation.complete_ns = (operation.complete_ns or 0) + shift_ns
    for sample in planted.samples:
        sample.time_ns += shift_ns
    return planted, start + 1


def _planted_write(history: History, key: str, start: float, end: float) -> Operation:
    index = max(each.index for each in history.operations) + 1
    write = Operation(
        index,
        f"p{index}",
        PUT,
        key,
        Phase.LOAD,
        at(start),
        at(start),
        at(end),
        OK,
        value=f"planted{index}",
        write_id=f"p{index}:1",
        node="n1",
    )
    history.operations.append(write)
    return write


def _planted_read(history: History, start: float, end: float, write: Operation | None) -> Operation:
    """Add a read of the key of ``write``, or of the planted key if it is to find nothing."""
    index = max(each.index for each in history.operations) + 1
    read = Operation(
        index,
        f"p{index}",
        GET,
        "w" if write is None else write.key,
        Phase.LOAD,
        at(start),
        at(start),
        at(end),
        OK,
        seen=[] if write is None else seen(write.write_id or ""),
        node="n2",
    )
    history.operations.append(read)
    return read


def _sealed(history: History, key: str, left: Operation | None) -> History:
    """Let owners of the planted key hold what is left of it, and a final read return it."""
    versions = [] if left is None else seen(left.write_id or "")
    for node in NODES[:3]:
        history.contents.append(ReplicaContents(node, key, True, list(versions)))
    final = _planted_read(history, 0, 0, left)
    final.phase = Phase.FINAL
    final.intended_ns = final.invoke_ns = history.heal_ns + 1_000 * MS
    final.complete_ns = final.invoke_ns + MS
    final.key = key
    return history


REGISTER_DEFECTS = {
    "linearizability": (
        stale_read,
        backward_read,
        missing_read,
        phantom_read,
        future_read,
        failed_write_read,
        sibling_read,
    ),
    "sequential": (crossed_writes, sibling_read, chain_of_causes_broken, read_forgotten),
    "causal": (chain_of_causes_broken, cause_unseen, earlier_write_unseen, own_write_unread),
    "read-your-writes": (own_write_unread,),
    "monotonic-reads": (read_forgotten,),
    "monotonic-writes": (earlier_write_unseen,),
    "writes-follow-reads": (cause_unseen,),
    "durability": (lost_write, erased_key, failed_write_read, stranger_held),
    "conflicts": (sibling_read,),
    "convergence": (differing_replica,),
}
LEADERLESS_DEFECTS = {
    "causal": (chain_of_causes_broken, cause_unseen, earlier_write_unseen, own_write_unread),
    "read-your-writes": (own_write_unread,),
    "monotonic-reads": (read_forgotten,),
    "monotonic-writes": (earlier_write_unseen,),
    "writes-follow-reads": (cause_unseen,),
    "durability": (lost_write, erased_key, failed_write_read, undone_delete, stranger_held),
    "conflicts": (vanished_write,),
    "convergence": (differing_replica,),
}
