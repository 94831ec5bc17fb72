"""SWIM alone on a small network: virtual time, loss, pauses and deaths, all from a seed."""

from heapq import heappop, heappush
from random import Random

from leaderless.dynamo.swim import ALIVE, DEAD, Swim, Transition
from leaderless.dynamo.swim_config import SwimConfig
from leaderless.v1 import dynamo_pb2
from tests.support.dynamo_cluster import MS

STEP_NS = 10 * MS


class SwimNetwork:
    """Nodes that tick every 10 ms; messages take 1 to 3 ms and may be lost."""

    def __init__(self, count: int, seed: int = 1, config: SwimConfig | None = None) -> None:
        self.rng = Random(seed)
        self.now_ns = 0
        self.loss: dict[str, float] = {}  # of what leaves or reaches this node
        self.paused: set[str] = set()
        self.stopped: set[str] = set()
        self.cut: set[frozenset[str]] = set()
        self.sent = 0
        self.told: list[tuple[int, str, Transition]] = []
        self.learned: list[tuple[int, str, str, int]] = []  # when, who, of whom, incarnation
        names = [f"n{number}" for number in range(1, count + 1)]
        config = config or SwimConfig()
        self.nodes = {
            name: Swim(
                name, [each for each in names if each != name], config, Random(f"{seed}{name}"), 0
            )
            for name in names
        }
        self._agenda: list[tuple[int, int, str, str, dynamo_pb2.Gossip]] = []
        self._order = 0

    def run(self, duration_ns: int) -> None:
        end_ns = self.now_ns + duration_ns
        while self.now_ns < end_ns:
            self.now_ns += STEP_NS
            while self._agenda and self._agenda[0][0] <= self.now_ns:
                at_ns, _, sender, to, gossip = heappop(self._agenda)
                if to in self.paused:
                    self._put(self.now_ns + STEP_NS, sender, to, gossip)
                elif to not in self.stopped:
                    self.nodes[to].receive(at_ns, sender, gossip)
                    self._let_out(to)
            for name, node in self.nodes.items():
                if name not in self.paused | self.stopped:
                    node.tick(self.now_ns)
                    self._let_out(name)

    def believed(self, subject: str, state: dynamo_pb2.MemberState.ValueType) -> bool:
        """Tell whether every other living node believes this of ``subject``."""
        return all(
            node.state(subject) == state
            for name, node in self.nodes.items()
            if name != subject and name not in self.stopped
        )

    def buried(self, subject: str) -> list[str]:
        """Return who has declared ``subject`` dead, in order."""
        return [name for _, name, each in self.told if each.node == subject and each.state == DEAD]

    def refuted(self, subject: str) -> int:
        """Return how many times somebody learned that ``subject`` lives after all."""
        return sum(each.node == subject and each.state == ALIVE for _, _, each in self.told)

    def _let_out(self, name: str) -> None:
        node = self.nodes[name]
        for to, gossip in node.sends:
            self.sent += 1
            lost = max(self.loss.get(name, 0.0), self.loss.get(to, 0.0))
            if frozenset((name, to)) not in self.cut and self.rng.random() >= lost:
                self._put(self.now_ns + self.rng.randint(MS, 3 * MS), name, to, gossip)
        node.sends = []
        self.told += [(self.now_ns, name, each) for each in node.transitions]
        node.transitions = []
        self.learned += [(self.now_ns, name, *each) for each in node.lives]
        node.lives = []

    def _put(self, at_ns: int, sender: str, to: str, gossip: dynamo_pb2.Gossip) -> None:
        self._order += 1
        heappush(self._agenda, (at_ns, self._order, sender, to, gossip))
