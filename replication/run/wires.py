"""The network between clients and nodes. The driver enforces its faults, since it is the client.

A request that is cut off is not sent and an answer that is cut off is thrown away; the client in
question sees neither and waits until its attempt times out, as it would on a real network.
"""

from collections.abc import Iterable
from random import Random

from replication.plan.model import LinkRule


class Wires:
    """Loss and delay between every client and every node, per direction."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._rules: dict[tuple[str, str], list[LinkRule]] = {}
        self.dropped: dict[tuple[str, str], int] = {}  # (source, destination) -> messages, ever
        self.delayed: dict[tuple[str, str], int] = {}

    def set_rules(self, rules: Iterable[LinkRule]) -> None:
        """Replace all rules; those of links between nodes are of no matter here."""
        self._rules = {}
        for rule in rules:
            self._rules.setdefault((rule.source, rule.destination), []).append(rule)

    def delay_ns(self, source: str, destination: str) -> int | None:
        """Return how long the next message takes longer, None when it is lost. Counts it."""
        if not self._rules:
            return 0
        link = (source, destination)
        delay_ns = 0
        for rule in self._rules.get(link, ()):
            if rule.loss and self._rng.random() < rule.loss:
                self.dropped[link] = self.dropped.get(link, 0) + 1
                return None
            delay_ns += rule.delay_ns + int(self._rng.random() * rule.jitter_ns)
        if delay_ns:
            self.delayed[link] = self.delayed.get(link, 0) + 1
        return delay_ns
