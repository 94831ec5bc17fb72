"""Link faults in force: told to the nodes, enforced by the driver for its clients, and counted."""

import asyncio
from collections.abc import Iterable, Mapping

from replication.cluster.control import ControlFailed
from replication.cluster.launcher import Cluster
from replication.cluster.process import Evidence
from replication.plan.model import LinkRule
from replication.protocol import NodeId
from replication.run.record import Ledger
from replication.run.wires import Wires
from replication.v1 import event_pb2

LINKS_NAMED_MAX = 6

Counts = dict[tuple[str, str], int]  # (source, destination) -> messages
Tally = dict[str, Counts]  # by what became of the messages: "dropped", "delayed" ...


class Cuts:
    """All link faults of one side of a run, by the number of the fault they belong to.

    A rule of total loss is enforced at both ends, so that it holds for a node that was just started
    and for messages on their way. Other rules are enforced at their source alone: half the messages
    are to be lost, not three quarters.
    """

    def __init__(self, cluster: Cluster, wires: Wires, ledger: Ledger) -> None:
        self._cluster = cluster
        self._wires = wires
        self._ledger = ledger
        self._rules: dict[int, tuple[LinkRule, ...]] = {}
        self._before: dict[int, Tally] = {}
        self._told: dict[NodeId, list[event_pb2.LinkFault] | None] = {}  # None: not known
        self._lock = asyncio.Lock()
        self._nodes = frozenset(cluster.spec.everybody)

    async def add(self, number: int, rules: tuple[LinkRule, ...]) -> None:
        """Put rules in force; returns when every node that is up enforces them."""
        async with self._lock:
            self._before[number] = await self._counts()
            self._rules[number] = rules
            await self._apply()

    def in_force(self, number: int) -> bool:
        """Whether the rules of a fault hold."""
        return number in self._rules

    async def remove(self, number: int) -> Evidence:
        """Take rules out of force and return what they did."""
        async with self._lock:
            after = await self._counts()
            rules = self._rules.pop(number)
            await self._apply()
        before, verb = self._before.pop(number), rules[0].verb
        return self._evidence(verb, rules, before[verb], after[verb])

    async def renew(self, node: NodeId, *, started: bool) -> None:
        """Tell a node what it has missed, since it was paused, or down and now ``started``."""
        async with self._lock:
            if started:
                self._told.pop(node, None)
            if self._cluster.is_up(node):
                await self._tell(node)

    async def _apply(self) -> None:
        self._wires.set_rules(rule for rules in self._rules.values() for rule in rules)
        up = [node for node in self._cluster.spec.everybody if self._cluster.is_up(node)]
        await asyncio.gather(*(self._tell(node) for node in up))

    async def _tell(self, node: NodeId) -> None:
        faults = self._faults_of(node)
        if faults == self._told.get(node, []):
            return
        # A call that times out may take effect all the same, when a paused node goes on.
        self._told[node] = None
        try:
            await self._cluster.control.set_link_faults(node, faults)
        except ControlFailed:
            if self._cluster.is_up(node):
                raise
            # It was killed or paused meanwhile; whoever brings it back renews its faults.
        else:
            self._told[node] = faults

    def _faults_of(self, node: NodeId) -> list[event_pb2.LinkFault]:
        faults = []
        for rules in self._rules.values():
            for rule in rules:
                if not self._nodes.issuperset((rule.source, rule.destination)):
                    continue
                if rule.source == node:
                    faults.append(_fault(rule, rule.destination, inbound=False))
                elif rule.destination == node and rule.loss >= 1:
                    faults.append(_fault(rule, rule.source, inbound=True))
        return faults

    async def _counts(self) -> Tally:
        up = [node for node in self._cluster.spec.everybody if self._cluster.is_up(node)]
        self._ledger.note(await self._cluster.control.statuses(up))
        tally: Tally = {verb: {} for verb in ("duplicated", "reordered", "throttled")}
        dropped = tally["dropped"] = dict(self._wires.dropped)
        tally["delayed"] = dict(self._wires.delayed)
        for node, links in self._ledger.links().items():
            for link in links:
                outbound, inbound = (node, link.peer), (link.peer, node)
                dropped[outbound] = dropped.get(outbound, 0) + link.outbound_dropped
                dropped[inbound] = dropped.get(inbound, 0) + link.inbound_dropped
                for verb in ("delayed", "duplicated", "reordered", "throttled"):
                    counts = tally[verb]
                    counts[outbound] = counts.get(outbound, 0) + getattr(link, verb)
        return tally

    def _evidence(
        self,
        verb: str,
        rules: Iterable[LinkRule],
        before: Mapping[tuple[str, str], int],
        after: Mapping[tuple[str, str], int],
    ) -> Evidence:
        links = {(rule.source, rule.destination) for rule in rules}
        counts = {link: after.get(link, 0) - before.get(link, 0) for link in sorted(links)}
        hit = {link: count for link, count in counts.items() if count > 0}
        if not hit:
            return Evidence(f"no message was {verb} on {len(links)} links", False)
        between = sum(count for link, count in hit.items() if self._nodes.issuperset(link))
        clients = sum(hit.values()) - between
        most = sorted(hit, key=lambda link: -hit[link])[:LINKS_NAMED_MAX]
        named = ", ".join(f"{source} to {to} {hit[source, to]}" for source, to in most)
        words = f"{between} messages between nodes"
        if clients:
            words += f" and {clients} between clients and nodes"
        return Evidence(f"{words} {verb} on {len(hit)} of {len(links)} links ({named})", True)


def _fault(rule: LinkRule, peer: str, *, inbound: bool) -> event_pb2.LinkFault:
    return event_pb2.LinkFault(
        peer=peer,
        inbound=inbound,
        loss=rule.loss,
        delay_ns=rule.delay_ns,
        jitter_ns=rule.jitter_ns,
        duplicate=rule.duplicate,
        reorder=rule.reorder,
        hold_ns=rule.hold_ns,
        bytes_per_s=rule.bytes_per_s,
    )
