"""Which nodes a client avoids because they were silent: for a while, longer each time."""

from dataclasses import dataclass

from replication.protocol import NodeId

MILLISECOND_NS = 1_000_000

SUSPICION_NS = 500 * MILLISECOND_NS
SUSPICION_NS_MAX = 4_000 * MILLISECOND_NS


@dataclass(slots=True)
class _Suspicion:
    until_ns: int
    hints_until_ns: int  # hints at the node in ``term`` are not followed before
    term: int  # that the client knew of when the node was silent
    strikes: int


class Suspicions:
    """What one client suspects."""

    def __init__(self) -> None:
        self._of: dict[NodeId, _Suspicion] = {}

    def suspect(self, now_ns: int, node: NodeId, term: int) -> None:
        """Note that ``node`` was silent; the client knows of ``term``."""
        before = self._of.get(node)
        strikes = 1 if before is None else before.strikes + 1
        lasting_ns = min(SUSPICION_NS << (strikes - 1), SUSPICION_NS_MAX)
        self._of[node] = _Suspicion(now_ns + lasting_ns, now_ns + SUSPICION_NS, term, strikes)

    def clear(self, node: NodeId) -> None:
        """Note that ``node`` has answered."""
        self._of.pop(node, None)

    def avoids(self, now_ns: int, node: NodeId) -> bool:
        """Whether others are to be asked first."""
        found = self._of.get(node)
        return found is not None and found.until_ns > now_ns

    def doubts_hint(self, now_ns: int, node: NodeId, term: int) -> bool:
        """Whether a hint at ``node``, in ``term``, is not to be followed yet."""
        found = self._of.get(node)
        return found is not None and found.term >= term and found.hints_until_ns > now_ns
