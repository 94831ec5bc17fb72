"""Which peers seem to be alive: for now, those that have been heard of lately.

Every node sends every other something at least once in each heartbeat interval. A peer that was
silent for longer than ``suspect_after_ns`` is suspected until it is heard again. The verdict is
this node's own and is told to nobody (Dynamo §4.8.3: a local notion of failure is enough).

The rest of the core asks ``alive`` and reacts to the two transitions, and knows nothing else of how
the verdict comes about.
"""

from collections.abc import Iterable

from replication.protocol import NodeId


class SilenceDetector:
    """Suspects peers by their silence. All times are monotonic nanoseconds.

    A node that was itself stopped or starved has heard nobody, and must not take that for everybody
    else's death: after a pause of its own each peer gets at least one heartbeat interval to be
    heard (Cassandra, too, ignores the verdicts that follow a local pause).
    """

    def __init__(
        self, peers: Iterable[NodeId], heartbeat_ns: int, suspect_after_ns: int, now_ns: int
    ) -> None:
        # The benefit of the doubt: at the start everybody counts as just heard.
        self._heard_ns = dict.fromkeys(peers, now_ns)
        self._suspected: dict[NodeId, None] = {}
        self._heartbeat_ns = heartbeat_ns
        self._suspect_after_ns = suspect_after_ns
        self._called_ns = now_ns
        self._check_ns = now_ns + suspect_after_ns
        self._heartbeat_due_ns = now_ns

    def alive(self, peer: NodeId, now_ns: int) -> bool:
        """Tell whether ``peer`` is believed to be alive. Call ``check`` for ``now_ns`` before."""
        assert now_ns == self._called_ns, "a verdict is only as good as its time"
        return peer not in self._suspected

    def suspected(self) -> list[NodeId]:
        """Return the peers that are suspected now."""
        return list(self._suspected)

    def heard(self, peer: NodeId, now_ns: int) -> bool:
        """Note a sign of life. Returns True if the peer was suspected until now."""
        self._heard_ns[peer] = now_ns
        if peer in self._suspected:
            del self._suspected[peer]
            self._check_ns = min(self._check_ns, now_ns + self._suspect_after_ns)
            return True
        return False

    def check(self, now_ns: int) -> list[tuple[NodeId, int]]:
        """Let the time pass. Returns the peers suspected from now on, each with its silence."""
        # A running node is called at least once per heartbeat, for it wakes to send its own.
        paused = now_ns - self._called_ns > 2 * self._heartbeat_ns
        self._called_ns = now_ns
        if paused:
            self._check_ns = max(self._check_ns, now_ns + self._heartbeat_ns)
        if now_ns < self._check_ns:
            return []
        suspected = []
        # Only now and then: nothing can change before the peer that was heard longest ago is due.
        for peer, heard_ns in self._heard_ns.items():
            silence_ns = now_ns - heard_ns
            if silence_ns >= self._suspect_after_ns and peer not in self._suspected:
                self._suspected[peer] = None
                suspected.append((peer, silence_ns))
        trusted = [at for peer, at in self._heard_ns.items() if peer not in self._suspected]
        self._check_ns = min(trusted, default=now_ns) + self._suspect_after_ns
        return suspected

    def heartbeat_due(self, now_ns: int) -> bool:
        """Tell whether to send a sign of life now. At most one is due however late this is."""
        if now_ns < self._heartbeat_due_ns:
            return False
        self._heartbeat_due_ns = now_ns + self._heartbeat_ns
        return True

    def wake_at(self) -> int:
        """Return when to ``check`` and to ask ``heartbeat_due`` again."""
        return min(self._heartbeat_due_ns, self._check_ns)
