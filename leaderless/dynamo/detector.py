"""Which peers seem to be alive: by default, those that have been heard of lately.

Every node sends every other something at least once in each heartbeat interval. A peer that was
silent for longer than ``suspect_after_ns`` is suspected until it is heard again. The verdict is
this node's own and is told to nobody (Dynamo §4.8.3: a local notion of failure is enough).

The rest of the core asks ``alive`` and reacts to the two transitions, and knows nothing else of how
the verdict comes about: ``phi`` and ``swim`` are two other ways.
"""

from collections.abc import Iterable
from typing import Protocol

from replication.protocol import NodeId


class Detector(Protocol):
    """What every kind of failure detector answers. All times are monotonic nanoseconds."""

    def alive(self, peer: NodeId, now_ns: int) -> bool:
        """Tell whether ``peer`` is believed to be alive. Call ``check`` for ``now_ns`` before."""
        ...

    def suspected(self) -> list[NodeId]:
        """Return the peers that are not believed to be alive now."""
        ...

    def heard(self, peer: NodeId, now_ns: int) -> bool:
        """Note a sign of life. Returns True if the peer was not believed alive until now."""
        ...

    def check(self, now_ns: int) -> list[tuple[NodeId, int]]:
        """Let the time pass. Returns the peers suspected from now on, each with its silence."""
        ...

    def set_peers(self, peers: Iterable[NodeId], now_ns: int) -> None:
        """Watch these from now on; whoever is new has just been heard."""
        ...

    def heartbeat_due(self, now_ns: int) -> bool:
        """Tell whether to send a sign of life now. At most one is due however late this is."""
        ...

    def wake_at(self) -> int:
        """Return when to ``check`` and to ask ``heartbeat_due`` again."""
        ...


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

    def set_peers(self, peers: Iterable[NodeId], now_ns: int) -> None:
        """Watch these from now on; whoever is new has just been heard."""
        self._heard_ns = {peer: self._heard_ns.get(peer, now_ns) for peer in peers}
        self._suspected = {peer: None for peer in self._suspected if peer in self._heard_ns}

    def suspected(self) -> list[NodeId]:
        """Return the peers that are suspected now."""
        return list(self._suspected)

    def heard(self, peer: NodeId, now_ns: int) -> bool:
        """Note a sign of life. Returns True if the peer was suspected until now."""
        self._heard_ns[peer] = now_ns
        if peer in self._suspected:
            del self._suspected[peer]
            self._check_ns = min(self._check_ns, now_ns + self.silence_max_ns(peer))
            return True
        return False

    def silence_max_ns(self, peer: NodeId) -> int:
        """Return after which silence ``peer`` is suspected."""
        return self._suspect_after_ns

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
            if silence_ns >= self.silence_max_ns(peer) and peer not in self._suspected:
                self._suspected[peer] = None
                suspected.append((peer, silence_ns))
        self._check_ns = min(
            (
                at_ns + self.silence_max_ns(peer)
                for peer, at_ns in self._heard_ns.items()
                if peer not in self._suspected
            ),
            default=now_ns + self._suspect_after_ns,
        )
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
