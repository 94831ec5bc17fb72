"""Links between nodes, and between clients and nodes.

A link between two nodes is a stream with one frame outstanding, as the real peer link: what queues
up until the frame is acknowledged goes into the next one. Link faults come from the plan
(``LinkRule``); they strike message by message, and messages that were delayed on purpose travel on
their own, so that a slow link is not a narrow one too and jitter makes them overtake each other.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cache, partial
from heapq import heappush
from random import Random

from google.protobuf.message import Message

from replication.history import LinkTotals
from replication.plan.model import LinkRule
from replication.plan.streams import stream
from replication.protocol import NodeId
from replication.simulation.delays import Constant, Delay
from replication.simulation.settings import MILLISECOND_NS, NetworkSettings
from replication.simulation.timeline import Timeline

BACKLOG_NS_MAX = 2_000 * MILLISECOND_NS  # of a link that a fault narrows, as in host.faults

Deliver = Callable[[tuple[NodeId, Sequence[Message]]], None]


@dataclass(slots=True)
class LinkFaults:
    """Link rules in force on one direction of one link, joined."""

    survival: float = 1.0  # probability that a message passes
    delay_ns: int = 0
    jitter_ns: int = 0
    duplicate: float = 0.0
    reorder: float = 0.0
    hold_ns: int = 0
    bytes_per_s: int = 0  # 0: no limit

    def join(self, rule: LinkRule) -> None:
        """Add a rule: chances to escape multiply, delays add up."""
        self.survival *= 1.0 - rule.loss
        self.delay_ns += rule.delay_ns
        self.jitter_ns += rule.jitter_ns
        self.duplicate = 1.0 - (1.0 - self.duplicate) * (1.0 - rule.duplicate)
        self.reorder = 1.0 - (1.0 - self.reorder) * (1.0 - rule.reorder)
        self.hold_ns = max(self.hold_ns, rule.hold_ns)
        limits = [each for each in (self.bytes_per_s, rule.bytes_per_s) if each]
        self.bytes_per_s = min(limits, default=0)


@dataclass(slots=True)
class Tally:
    """What faults did on one link: the evidence that they took effect."""

    dropped: int = 0
    delayed: int = 0
    duplicated: int = 0
    reordered: int = 0
    throttled: int = 0


class Way:
    """One direction between two places: how long it takes now, and whether it arrives at all."""

    __slots__ = ("_make_rng", "_rng", "draw", "faults", "tally")

    def __init__(self, delay: Delay, make_rng: Callable[[], Random]) -> None:
        self._make_rng = make_rng
        self._rng: Random | None = None
        self.draw = _constant(delay) if isinstance(delay, Constant) else delay.sampler(self.rng)
        self.faults: LinkFaults | None = None
        self.tally = Tally()

    @property
    def rng(self) -> Random:
        """Chance on this way. It takes 2.5 KB, so whoever draws nothing has none."""
        if self._rng is None:
            self._rng = self._make_rng()
        return self._rng

    def fault_delay_ns(self) -> int | None:
        """Return what the faults in force add to the next message's delay; None: it is lost."""
        faults = self.faults
        if faults is None:
            return 0
        if faults.survival < 1.0 and self.rng.random() >= faults.survival:
            self.tally.dropped += 1
            return None
        delay_ns = faults.delay_ns
        if faults.jitter_ns:
            delay_ns += self.rng.randrange(faults.jitter_ns + 1)
        if delay_ns:
            self.tally.delayed += 1
        return delay_ns

    def delay_ns(self) -> int | None:
        """Return the delay of one message, None when it is lost."""
        if self.faults is None:
            return self.draw()
        extra_ns = self.fault_delay_ns()
        return None if extra_ns is None else self.draw() + extra_ns


class Link(Way):
    """The stream from one node to another."""

    __slots__ = (
        "_bandwidth",
        "_deliver",
        "_free_ns",
        "_last_arrival_ns",
        "_narrow_until_ns",
        "_sender",
        "_settings",
        "_timeline",
        "_totals",
        "_unsteady",
        "_weighs",
        "bytes",
        "down_until_ns",
        "frames",
        "messages",
        "waiting",
    )

    def __init__(
        self,
        sender: NodeId,
        deliver: Deliver,
        timeline: Timeline,
        settings: NetworkSettings,
        make_rng: Callable[[], Random],
        totals: LinkTotals,
    ) -> None:
        super().__init__(settings.within, make_rng)
        self._sender = sender
        self._deliver = deliver
        self._timeline = timeline
        self._settings = settings
        self._totals = totals
        self.messages = 0  # sent, like the next two
        self.bytes = 0
        self.frames = 0
        self._bandwidth = settings.bandwidth_bytes_per_second
        self._weighs = settings.count_bytes or self._bandwidth > 0
        self._unsteady = settings.loss > 0 or settings.duplicate > 0 or settings.reorder > 0
        self.waiting: list[Message] = []  # for the frame in flight to be acknowledged
        self._free_ns = 0  # when that is
        self.down_until_ns = 0  # the connection is being made: what is sent meanwhile is lost
        self._last_arrival_ns = 0
        self._narrow_until_ns = 0  # a link that a fault narrows is busy until then

    def ship(self, leave_ns: int) -> None:
        """Send what waits as one frame at ``leave_ns``, or once the frame before is acknowledged.

        To be called once after messages were added to an empty ``waiting``.
        """
        if leave_ns < self._free_ns:
            self._timeline.at(self._free_ns, self._ship_next)
            return
        messages, self.waiting = self.waiting, []
        if leave_ns < self.down_until_ns:
            self._totals.dropped += len(messages)
            return
        self.frames += 1
        trip_ns = back_ns = self.draw()
        if self._weighs:
            frame_bytes = 0
            for message in messages:
                frame_bytes += message.ByteSize()
            self.bytes += frame_bytes
            if self._bandwidth:
                trip_ns += frame_bytes * 1_000_000_000 // self._bandwidth
        self.messages += len(messages)
        arrival_ns = leave_ns + trip_ns
        if arrival_ns < self._last_arrival_ns:
            # A stream keeps its order: no frame arrives before the one sent earlier.
            arrival_ns = self._last_arrival_ns
        self._last_arrival_ns = arrival_ns
        self._free_ns = arrival_ns + back_ns
        if self._unsteady or self.faults is not None:
            messages = self._stricken(messages, arrival_ns)
            if not messages:
                return
        timeline = self._timeline
        heappush(
            timeline.heap, (arrival_ns, timeline.number(), self._deliver, (self._sender, messages))
        )

    def reset(self) -> None:
        """The sender died, and with it what it had not sent."""
        self.waiting.clear()
        self._free_ns = 0

    def _ship_next(self, _: None) -> None:
        if self.waiting:
            self.ship(self._timeline.now_ns)

    def _stricken(self, messages: Sequence[Message], arrival_ns: int) -> list[Message]:
        """Return what stays in the frame; what is late or doubled travels on its own."""
        settings, draw = self._settings, self.rng.random
        steady: list[Message] = []
        for message in messages:
            late_ns = self.fault_delay_ns()
            if late_ns is None:
                self._totals.dropped += 1
                continue
            if settings.loss and draw() < settings.loss:
                self._totals.dropped += 1
                continue
            if settings.reorder and draw() < settings.reorder:
                late_ns += int(draw() * settings.reorder_hold_ns)
            if self.faults is not None:
                held_ns = self._held_ns(message, arrival_ns + late_ns, self.faults)
                if held_ns is None:
                    self._totals.dropped += 1
                    continue
                late_ns += held_ns
            if late_ns:
                self._alone(message, arrival_ns + late_ns)
            else:
                steady.append(message)
            if settings.duplicate and draw() < settings.duplicate:
                self._alone(message, arrival_ns + late_ns + self.draw())
        return steady

    def _held_ns(self, message: Message, arrival_ns: int, faults: LinkFaults) -> int | None:
        """Return how long faults hold a message back; a copy that they make is on its way.

        None: it found the queue of a narrow link full.
        """
        draw = self.rng.random
        held_ns = 0
        if faults.bytes_per_s:
            sending_ns = message.ByteSize() * 1_000_000_000 // faults.bytes_per_s
            free_ns = max(self._narrow_until_ns, arrival_ns) + sending_ns
            if free_ns - arrival_ns > BACKLOG_NS_MAX:
                self.tally.dropped += 1
                return None
            self._narrow_until_ns = free_ns
            self.tally.throttled += 1
            held_ns = free_ns - arrival_ns
        if faults.reorder and draw() < faults.reorder:
            self.tally.reordered += 1
            held_ns += int(draw() * faults.hold_ns)
        if faults.duplicate and draw() < faults.duplicate:
            self.tally.duplicated += 1
            self._alone(message, arrival_ns + held_ns + int(draw() * faults.hold_ns))
        return held_ns

    def _alone(self, message: Message, arrival_ns: int) -> None:
        self._timeline.at(arrival_ns, self._deliver, (self._sender, [message]))


_constant = cache(lambda delay: delay.sampler(Random(0)))  # which draws nothing


class Network:
    """Every way there is, and the faults in force on it."""

    def __init__(
        self,
        timeline: Timeline,
        settings: NetworkSettings,
        seed: int,
    ) -> None:
        self._timeline = timeline
        self._settings = settings
        self._seed = seed
        self._totals = LinkTotals()
        self._ways: dict[tuple[str, str], Way] = {}
        self._rules: dict[tuple[str, str], list[tuple[object, LinkRule]]] = {}

    def link(self, sender: NodeId, receiver: NodeId, deliver: Deliver) -> Link:
        """Make the link between two nodes; once per ordered pair."""
        make_rng = partial(stream, self._seed, f"network:{sender}>{receiver}")
        made = Link(sender, deliver, self._timeline, self._settings, make_rng, self._totals)
        self._ways[sender, receiver] = made
        self._rejoin(sender, receiver)
        return made

    def totals(self) -> LinkTotals:
        """Return what went between nodes so far."""
        links = [way for way in self._ways.values() if isinstance(way, Link)]
        return LinkTotals(
            messages=sum(link.messages for link in links),
            bytes=sum(link.bytes for link in links),
            frames=sum(link.frames for link in links),
            dropped=self._totals.dropped,
        )

    def way(self, source: str, destination: str) -> Way:
        """Return the way from one place to another; a client's is made when it is first used."""
        found = self._ways.get((source, destination))
        if found is None:
            make_rng = partial(stream, self._seed, f"network:{source}>{destination}")
            found = Way(self._settings.clients, make_rng)
            self._ways[source, destination] = found
            self._rejoin(source, destination)
        return found

    def impose(self, owner: object, rules: Iterable[LinkRule]) -> None:
        """Put rules in force on behalf of ``owner`` (a fault)."""
        added = list(rules)
        for rule in added:
            self._rules.setdefault((rule.source, rule.destination), []).append((owner, rule))
        self._rejoin_all((rule.source, rule.destination) for rule in added)

    def lift(self, owner: object) -> None:
        """Take the rules of ``owner`` away."""
        lifted = []
        for pair, rules in self._rules.items():
            kept = [(each, rule) for each, rule in rules if each != owner]
            if len(kept) < len(rules):
                self._rules[pair] = kept
                lifted.append(pair)
        self._rejoin_all(lifted)

    def tally(self, rules: Iterable[LinkRule]) -> Tally:
        """Return what befell messages so far on the links that ``rules`` name."""
        total = Tally()
        for pair in dict.fromkeys((rule.source, rule.destination) for rule in rules):
            found = self._ways.get(pair)
            if found is not None:
                for each in fields(Tally):
                    count = getattr(total, each.name) + getattr(found.tally, each.name)
                    setattr(total, each.name, count)
        return total

    def _rejoin_all(self, pairs: Iterable[tuple[str, str]]) -> None:
        for pair in dict.fromkeys(pairs):
            self._rejoin(*pair)

    def _rejoin(self, source: str, destination: str) -> None:
        way = self._ways.get((source, destination))
        if way is None:
            return
        mine = self._rules.get((source, destination))
        way.faults = LinkFaults() if mine else None
        for _, rule in mine or ():
            assert way.faults is not None
            way.faults.join(rule)
