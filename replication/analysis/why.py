"""Why a node answered what it answered: the faults and the leaders behind a witness."""

from collections.abc import Sequence

from replication.analysis import words
from replication.analysis.roles import roles, window_end_ns
from replication.analysis.view import View
from replication.history import Operation, OperationKind

_SENTENCES_MAX = 3


def reasons(view: View, bad_read: Operation, shown: Sequence[Operation]) -> str:
    """Return what the history tells about why ``bad_read`` went wrong, or nothing.

    ``shown`` are the operations of the witness; faults count from the first of them on. One to
    three sentences with a space in front, for appending.
    """
    start_ns = min(operation.invoke_ns for operation in shown)
    end_ns = bad_read.complete_ns
    assert end_ns is not None, "a bad read has ended"
    told = [_asked_for(bad_read), _superseded(view, bad_read, end_ns)]
    told.append(_replicas_apart(bad_read, shown))
    told += _faults(view, _nodes(bad_read, shown), start_ns, end_ns)
    sentences = [each for each in told if each is not None][:_SENTENCES_MAX]
    return "".join(f" {each}" for each in sentences)


def _asked_for(read: Operation) -> str | None:
    if read.consistency in ("local", "one"):
        return f"The read had asked for '{read.consistency}'."
    return None


def _superseded(view: View, read: Operation, end_ns: int) -> str | None:
    """Tell that the node which served the read was in a term that was over."""
    node = read.node
    turn = view.once(roles).at(node, read.invoke_ns) if node is not None else None
    term = read.term or (turn.term if turn is not None else 0)
    if term == 0:
        return None
    elected = view.once(roles).elected_after(-1, above_term=term)
    if elected is None or elected[0] == node or elected[1].at_ns > end_ns:
        return None
    leader, election = elected
    served = "served the read" if read.kind is OperationKind.GET else "answered"
    led = turn is not None and turn.role == "leader"
    return (
        f"{node}, which {served}, was {'the leader' if led else 'still'} in term {term}, "
        f"although {leader} had been elected in term {election.term} "
        f"at {words.moment(view, election.at_ns)}."
    )


def _replicas_apart(read: Operation, shown: Sequence[Operation]) -> str | None:
    """Tell that the read asked nobody who had acknowledged the newer write (R + W <= N)."""
    returned = {version.write_id for version in read.seen}
    asked = read.replicas
    for write in shown:
        if write.kind is OperationKind.GET or write.write_id in returned:
            continue
        if asked and write.replicas and not set(asked) & set(write.replicas):
            return (
                f"The read counted the answers of {words.listed(asked)}, the write "
                f"{write.write_id} those of {words.listed(write.replicas)}: no replica in common."
            )
    return None


def _nodes(read: Operation, shown: Sequence[Operation]) -> list[str]:
    """Return the nodes behind the witness, those of the bad read first."""
    found: dict[str, None] = {}
    for operation in (read, *shown):
        for node in (operation.node, *operation.replicas):
            if node is not None:
                found.setdefault(node)
    return list(found)


def _faults(view: View, nodes: Sequence[str], start_ns: int, end_ns: int) -> list[str]:
    told: list[str] = []
    for fault in view.history.faults:
        fault_end_ns = window_end_ns(view, fault)
        if fault.injected_ns is None or fault.injected_ns > end_ns or fault_end_ns < start_ns:
            continue
        for node in nodes:
            sentence = words.fault_on(view, node, fault, fault_end_ns)
            if sentence is not None:
                told.append(f"{sentence}.")
                break
    return told
