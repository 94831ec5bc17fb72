"""Hinted handoff: what a primary has missed waits elsewhere until it is heard again (Dynamo §4.6).

A hint names a target and a key. It holds no version: what the target is sent is what this node
holds of the key by then, and merging makes that harmless however late it comes. A coordinator that
is a primary itself keeps hints for those who did not acknowledge. A node that stands in keeps the
versions too, in a replica of their own, until the last hint that needs them is delivered.

Hints are replayed to a target that seems alive, a page at a time: the next one goes when the last
is acknowledged, the rate allows it and this node is not busy with its clients.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from leaderless.dynamo.node import Node
from leaderless.dynamo.quorum import PendingBarrier, PendingHint
from leaderless.dynamo.settings import SECOND_NS, Hints, RingChanges
from leaderless.dynamo.versions import Siblings
from leaderless.v1 import dynamo_pb2
from replication.errors import Indefinite
from replication.protocol import Erase, Instant, NodeId, Put, RequestId, Saved, Write
from replication.v1 import control_pb2, event_pb2, storage_pb2

SPACE: Final = "hints"
PAGE_BYTES: Final = 64 * 1024
PAGE_NS: Final = 50_000_000  # what a page may take at the rate: what clients send waits behind it
PAGE_HINTS: Final = 128
CHECK_NS: Final = 200_000_000


@dataclass(slots=True)
class Hint:
    """One key that a target has missed writes of."""

    stored_wall_ns: int  # when the first of them was missed
    writes: int = 1


@dataclass(slots=True)
class Target:
    """What waits for one node."""

    hints: dict[str, Hint]  # by key, the oldest first
    in_flight: int = 0
    next_ns: int = 0  # of the next page
    page_hints: int = 0  # of the page in flight: what was acknowledged
    page_bytes: int = 0


class Handoff:
    """The hints that wait at this node."""

    def __init__(self, node: Node, members: int) -> None:
        self._node = node
        self._sources = max(1, members - 1)  # that may replay to one target at the same time
        self._targets: dict[NodeId, Target] = {}
        self._of_key: Counter[str] = Counter()
        self._changes: dict[tuple[NodeId, str], None] = {}  # not on the disk yet
        self._buffered: dict[tuple[NodeId, str], None] = {}  # and need not be for a while
        self._leaving: dict[str, None] = {}  # keys that go after this turn, if not owned
        self._barriers: list[int] = []  # numbers of PendingBarriers
        self._check_ns = 0
        self._flush_ns = 0

    def __len__(self) -> int:
        return self._of_key.total()

    def keeps(self, key: str) -> bool:
        """Tell whether somebody is still to be brought ``key`` from here."""
        return key in self._of_key

    def load(self, saved: Saved) -> None:
        """Take over what was durable. The versions are in the replicas of the node."""
        found = []
        for name, value in saved.scan(SPACE):
            target, _, key = name.decode().partition("\0")
            found.append((dynamo_pb2.Hint.FromString(value).stored_wall_ns, target, key))
        for stored_wall_ns, target, key in sorted(found):
            self._target(target).hints[key] = Hint(stored_wall_ns)
            self._of_key[key] += 1

    # Storing.

    def refusal(self, now: Instant, target: NodeId, key: str) -> str | None:
        """Return why no hint for ``target`` is taken, None if one is."""
        settings, hints = self._node.settings, self._target(target).hints
        if settings.hints is Hints.OFF:
            return "off"
        if key in hints:
            return None
        if len(hints) >= settings.hints_max:
            return "full"
        oldest = next(iter(hints.values()), None)
        if oldest is not None and now.wall_ns - oldest.stored_wall_ns > settings.hint_window_ns:
            return "window"
        return None

    def remember(self, now: Instant, target: NodeId, key: str) -> None:
        """Keep a hint for a primary that has not acknowledged a write which this node holds."""
        # A write that was begun by an earlier ring may have missed a node that is gone.
        for each in [target] if target in self._node.peers else self._others(key):
            refusal = self.refusal(now, each, key)
            if refusal is not None:
                self._refuse(each, key, refusal)
            else:
                self._add(now, each, key, stand_in=False)

    def stand_in(
        self, now: Instant, target: NodeId, key: str, incoming: Siblings, encoded: bytes
    ) -> bool:
        """Keep versions in the place of ``target``. Returns False when that is refused."""
        refusal = self.refusal(now, target, key)
        if refusal is not None:
            self._refuse(target, key, refusal)
            return False
        self._node.merge(key, incoming, encoded, self._node.stand_ins)
        self._add(now, target, key, stand_in=True)
        return True

    def _add(self, now: Instant, target: NodeId, key: str, *, stand_in: bool) -> None:
        hints = self._target(target).hints
        hint = hints.get(key)
        if hint is not None:
            hint.writes += 1
            if stand_in and (target, key) in self._buffered:
                # What counts for a quorum is not left in a buffer.
                del self._buffered[target, key]
                self._changes[target, key] = None
            return
        hints[key] = Hint(now.wall_ns)
        self._of_key[key] += 1
        buffered = self._node.settings.hints is Hints.BUFFERED and not stand_in
        if buffered and not self._buffered:
            self._flush_ns = now.monotonic_ns + self._node.settings.hint_flush_ns
        (self._buffered if buffered else self._changes)[target, key] = None
        self._check_soon(now.monotonic_ns)
        stored = event_pb2.HintStored(key=key, target=target, stand_in=stand_in)
        self._node.observe(event_pb2.Event(hint_stored=stored))

    def _refuse(self, target: NodeId, key: str, reason: str) -> None:
        if reason != "off":
            refused = event_pb2.HintRefused(key=key, target=target, reason=reason)
            self._node.observe(event_pb2.Event(hint_refused=refused))

    @property
    def changed(self) -> bool:
        """Whether ``writes`` has anything to do."""
        return bool(self._changes or self._leaving)

    def writes(self) -> Iterator[Write]:
        """Yield what must become durable with the next persist, once."""
        for target, key in self._changes:
            name = f"{target}\0{key}".encode()
            hint = self._target(target).hints.get(key)
            if hint is None:
                yield Erase(SPACE, name, name + b"\0")
            else:
                record = dynamo_pb2.Hint(stored_wall_ns=hint.stored_wall_ns)
                yield Put(SPACE, name, record.SerializeToString())
        self._changes = {}
        self._drop_leaving()

    # What moved away.

    def let_go(self, now: Instant) -> None:
        """The ring has changed: drop what is not owned, but for what is still to be brought.

        A ring is followed by the next once the new owners have merged what enough old ones hold.
        Were it kept, whoever comes to own it again would bring back what was deleted meanwhile. So
        what a node is to own anew goes too, before it is fetched.
        """
        node = self._node
        self._redirect(now)
        if node.settings.ring_changes is RingChanges.EAGER:
            return  # others may still have to fetch it
        for key in list(node.replica.keys()):
            if node.name in node.ring.preference(key) or self.keeps(key):
                continue
            if node.replica.is_written(key):
                node.forget(key, node.replica)
            else:
                self._leaving[key] = None  # what is acknowledged is written first

    def _redirect(self, now: Instant) -> None:
        """Bring what waits for a node that is no member any more to those who own the key now.

        A stand-in may hold the only copy of what was acknowledged in the place of one that died.
        """
        node = self._node
        for name, target in list(self._targets.items()):
            if name in node.peers:
                continue
            for key in list(target.hints):
                kept = key in node.stand_ins
                if kept and node.name in node.ring.preference(key):
                    node.merge(key, node.stand_ins.siblings(key), node.stand_ins.encoded(key))
                for owner in self._others(key):
                    self._add(now, owner, key, stand_in=kept)
                self._forget(name, key)

    def _others(self, key: str) -> list[NodeId]:
        return [each for each in self._node.ring.preference(key) if each != self._node.name]

    def _drop_leaving(self) -> None:
        node = self._node
        for key in self._leaving:
            owners = (*node.ring.preference(key), *node.ring.moving(key))
            if key in node.replica and node.name not in owners and not self.keeps(key):
                node.forget(key, node.replica)
        self._leaving = {}

    # Replaying.

    def wake_at(self) -> int | None:
        """Return when to call ``replay`` again, None while no hint waits."""
        return self._check_ns if self._of_key else None

    def heard_again(self, now: Instant) -> None:
        """A node that was suspected is alive: look at what waits for it now."""
        self._check_soon(now.monotonic_ns)

    def replay(self, now: Instant) -> None:
        """Send what may be sent now, write what was buffered for long, drop what is too old."""
        if not self._of_key or now.monotonic_ns < self._check_ns:
            return
        self._check_ns = now.monotonic_ns + CHECK_NS
        if self._buffered and now.monotonic_ns >= self._flush_ns:
            self._changes |= self._buffered
            self._buffered = {}
        for name, target in self._targets.items():
            self._expire(now, name, target)
            self._replay_to(now, name, target)

    def _replay_to(self, now: Instant, name: NodeId, target: Target) -> None:
        node = self._node
        if not target.hints or target.in_flight or not node.alive(name, now.monotonic_ns):
            return
        if now.monotonic_ns < target.next_ns:
            self._check_soon(target.next_ns)
            return
        if not node.may_work_in_the_background():
            node.counters["hint_replays_deferred"] += 1
            return
        size, share, most = 0, 0, PAGE_BYTES
        if node.settings.hint_bytes_per_s:
            share = max(1, node.settings.hint_bytes_per_s // self._sources)
            most = min(PAGE_BYTES, share * PAGE_NS // SECOND_NS)
        deadline_ns = now.monotonic_ns + node.settings.write_timeout_ns
        for key, hint in target.hints.items():
            siblings = node.encoded(key)
            number = node.pending.add(
                PendingHint(name, key, hint.writes, len(siblings)), deadline_ns
            )
            node.outbox.batch(name, len(siblings)).stores.add(
                number=number, key=key, siblings=siblings
            )
            size += len(siblings)
            target.in_flight += 1
            if size >= most or target.in_flight >= PAGE_HINTS:
                break
        if share:
            target.next_ns = now.monotonic_ns + size * SECOND_NS // share

    def confirmed(self, now: Instant, sender: NodeId, number: int, hint: PendingHint) -> None:
        """Take the acknowledgement of a hint: what the target was sent is durable there."""
        if hint.target != sender:
            return
        self._node.pending.remove(number)
        target = self._target(sender)
        held = target.hints.get(hint.key)
        if held is not None and held.writes == hint.writes:
            self._forget(sender, hint.key)
        target.page_hints += 1
        target.page_bytes += hint.bytes
        self._answered(now, sender, target)

    def unconfirmed(self, now: Instant, hint: PendingHint) -> None:
        """Give up waiting for an acknowledgement; the hint itself stays."""
        self._answered(now, hint.target, self._target(hint.target))

    def _answered(self, now: Instant, name: NodeId, target: Target) -> None:
        target.in_flight -= 1
        if target.in_flight:
            return
        if target.page_hints:
            delivered = event_pb2.HintsDelivered(
                target=name, hints=target.page_hints, bytes=target.page_bytes
            )
            self._node.counters["hints_delivered"] += target.page_hints
            self._node.counters["hint_bytes"] += target.page_bytes
            self._node.observe(event_pb2.Event(hints_delivered=delivered))
            target.page_hints = target.page_bytes = 0
        self._check_soon(max(now.monotonic_ns, target.next_ns))

    def _expire(self, now: Instant, name: NodeId, target: Target) -> None:
        while target.hints:
            key, hint = next(iter(target.hints.items()))
            age_ns = now.wall_ns - hint.stored_wall_ns
            if age_ns < self._node.settings.hint_expiry_ns:
                break
            expired = event_pb2.HintExpired(key=key, target=name, age_ns=age_ns)
            self._node.observe(event_pb2.Event(hint_expired=expired))
            self._forget(name, key)

    def _forget(self, name: NodeId, key: str) -> None:
        del self._target(name).hints[key]
        if (name, key) in self._buffered:
            del self._buffered[name, key]
        else:
            self._changes[name, key] = None
        self._of_key[key] -= 1
        if not self._of_key[key]:
            del self._of_key[key]
            if key in self._node.stand_ins:
                self._node.forget(key, self._node.stand_ins)
            if self._node.settings.ring_changes is RingChanges.JOINT:
                self._leaving[key] = None
        if not self._of_key:
            self._pass_barriers()

    # Waiting for it.

    def await_none(self, request_id: RequestId, deadline_ns: int) -> None:
        """Answer as soon as no hint waits here."""
        self._barriers.append(self._node.pending.add(PendingBarrier(request_id), deadline_ns))
        if not self._of_key:
            self._pass_barriers()

    def _pass_barriers(self) -> None:
        node = self._node
        for number in self._barriers:
            barrier = node.pending.get(number)
            if isinstance(barrier, PendingBarrier):
                node.pending.remove(number)
                served = storage_pb2.Served(node=node.name)
                words = f"no hint waits at {node.name}"
                node.outbox.reply(
                    barrier.request_id, control_pb2.CommandResponse(served=served, words=words)
                )
        self._barriers = []

    def missed_barrier(self, barrier: PendingBarrier) -> None:
        """Answer that hints still wait."""
        text = f"{len(self)} hints still wait at {self._node.name}"
        self._node.outbox.reply(barrier.request_id, Indefinite("BARRIER_TIMEOUT", text))

    def _target(self, name: NodeId) -> Target:
        target = self._targets.get(name)
        if target is None:
            target = self._targets[name] = Target({})
        return target

    def _check_soon(self, at_ns: int) -> None:
        self._check_ns = min(self._check_ns, at_ns)
