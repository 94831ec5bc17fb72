"""How witnesses speak: moments, writes and nodes in the same words everywhere.

Moments are seconds after the load began, as in scenario files and in the report.
"""

from collections.abc import Iterable, Sequence

from replication.analysis.view import View
from replication.history import FaultRecord, Operation, OperationKind, SeenVersion

_VALUE_CHARACTERS_MAX = 32
_FILLING_CHARACTERS_MIN = 4
_NAMES_MAX = 6

_VERBS = {OperationKind.PUT: "put", OperationKind.DELETE: "delete"}


def moment(view: View, at_ns: int) -> str:
    """Return "12.413 s"."""
    return f"{(at_ns - view.history.load_start_ns) / 1e9:.3f} s"


def milliseconds(duration_ns: int) -> str:
    """Return "312 ms", or with a digit more below ten."""
    return f"{duration_ns / 1e6:.{1 if abs(duration_ns) < 10_000_000 else 0}f} ms"


def listed(names: Sequence[str]) -> str:
    """Return "n1, n2 and n3", shortened when there are many."""
    shown = list(names[:_NAMES_MAX])
    if len(names) > _NAMES_MAX:
        shown.append(f"{len(names) - _NAMES_MAX} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def plural(amount: int, singular: str, many: str | None = None) -> str:
    """Return "1 key", "1,204 keys"."""
    return f"{amount:,} {singular if amount == 1 else many or singular + 's'}"


def quoted(value: str | None) -> str:
    """Return a value in quotes, shortened, and without what only makes it long."""
    if value is None:
        return "nothing"
    bare = value.rstrip(value[-1:])
    if len(value) - len(bare) > _FILLING_CHARACTERS_MIN:
        return f"'{bare[:_VALUE_CHARACTERS_MAX]}...'"
    if len(value) > _VALUE_CHARACTERS_MAX:
        value = value[:_VALUE_CHARACTERS_MAX] + "..."
    return f"'{value}'"


def write(view: View, write_id: str) -> str:
    """Return what a write was: "c2:9 (put 'v9')"."""
    operation = view.writes.get(write_id)
    if operation is None:
        return write_id
    if operation.kind is OperationKind.DELETE:
        return f"{write_id} (delete)"
    verb = _VERBS.get(operation.kind, "compare-and-set to")
    return f"{write_id} ({verb} {quoted(operation.value)})"


def versions(view: View, seen: Iterable[SeenVersion]) -> str:
    """Return the writes behind several versions."""
    return listed([write(view, each.write_id) for each in seen])


def effect(view: View, operation: Operation) -> str:
    """Return how an operation shows that its version was there: acknowledged, or read."""
    assert operation.complete_ns is not None, "it has ended"
    at = moment(view, operation.complete_ns)
    if operation.kind is OperationKind.GET:
        return f"read by {operation.client}{served(operation)} by {at}"
    return f"acknowledged to {operation.client}{served(operation)} at {at}"


def told(view: View, operation: Operation) -> str:
    """Return "c2 put 'v9' (c2:9) to k at 1.203 s", or what it read and when it had."""
    end_ns = operation.invoke_ns if operation.complete_ns is None else operation.complete_ns
    at = moment(view, end_ns)
    if operation.kind is OperationKind.GET:
        what = versions(view, operation.seen) if operation.seen else "nothing"
        return f"{operation.client} read {what} of {operation.key}{served(operation)} at {at}"
    did = write(view, operation.write_id or "")
    return f"{operation.client}'s {did} of {operation.key}{served(operation)} at {at}"


def served(operation: Operation) -> str:
    """Return " by n4 in term 3" or " by n4 with n1 and n2", as far as it is known."""
    if operation.node is None:
        return ""
    if operation.term is not None:
        return f" by {operation.node} in term {operation.term}"
    others = [name for name in operation.replicas if name != operation.node]
    if operation.replicas and not others:
        return f" by {operation.node} alone"
    return f" by {operation.node}" + (f" with {listed(others)}" if others else "")


def fault_on(view: View, node: str, fault: FaultRecord, end_ns: int) -> str | None:
    """Return what ``fault`` did to ``node``, None if it did nothing to it."""
    if fault.injected_ns is None:
        return None
    start = moment(view, fault.injected_ns)
    end = moment(view, end_ns)
    if node in fault.nodes:
        match fault.kind:
            case "kill":
                return f"{node} had been killed at {start} and was started again by {end}"
            case "restart":
                return f"{node} was restarted at {start}"
            case "pause":
                return f"{node} was paused from {start} to {end}"
            case "delay" | "loss":
                return f"the links of {node} had {fault.kind} from {start} to {end}"
    for side in fault.sides:
        if node in side:
            others = [name for name in view.history.nodes if name not in side]
            if others:
                return f"{node} was cut off from {listed(others)} from {start} to {end}"
    if node in fault.nodes:
        return f"{node} was under '{fault.kind}' from {start} to {end}"
    return None
