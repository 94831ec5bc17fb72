"""Reads by clock alone: the leader's lease (dissertation §6.4.1).

Who has heard from a leader refuses its vote to others for ``election_timeout_min`` (check-quorum,
§4.2.3), also after a restart. So when a majority has confirmed a round, nobody else can be elected
before that time has passed since the round *began*, which is before any of them heard of it. The
leader counts it on its own clock, and a clock may be slower than another: the lease is shorter by
``clock_drift_max``, and it is not trusted when a clock is seen to break that bound:

* Answers carry the follower's clock. A follower whose clock runs ahead of the leader's by more than
  the bound, by readings that messages cannot have delayed into that, may let its promise end too
  early: for a while its confirmations are none for the lease.
* The leader's two clocks drift apart by more than the bound: the machine was suspended, or one of
  them is wrong. Rounds from before do not count.

A leader that has told somebody to stand for election at once (§3.10) has no lease any more in its
term: that election goes past the promises, and the message may arrive late.
"""

from dataclasses import dataclass

from leader.raft.replica import Replica
from replication.protocol import NodeId
from replication.v1 import event_pb2

ROUNDS_REMEMBERED = 64
ANCHOR_NS = 1_000_000_000  # clocks are compared over one to two of these
DISTRUST_NS = 10_000_000_000


@dataclass(slots=True)
class _Round:
    began_ns: int
    wall_offset_ns: int


@dataclass(slots=True)
class _Clock:
    """A follower's clock against ours: pairs of (when at the earliest by ours, its reading)."""

    anchor: tuple[int, int]
    next_anchor: tuple[int, int]
    distrusted_until_ns: int = 0


class Lease:
    """The lease of one leader in one term."""

    def __init__(self, replica: Replica) -> None:
        settings = replica.settings
        self._replica = replica
        self._told = False
        self._drift = settings.clock_drift_max
        # Without check-quorum nobody promises anything.
        self._enabled = settings.check_quorum
        self.duration_ns = int(settings.election_timeout_min_ns / (1 + self._drift))
        self._rounds: dict[int, _Round] = {}
        self._clocks: dict[NodeId, _Clock] = {}
        self._confirmed: _Round | None = None
        self._confirmed_number = 0
        self._forsaken = False

    def begin(self, number: int) -> None:
        """Round ``number`` begins now; its messages leave later."""
        if self._enabled:
            now = self._replica.now
            self._rounds[number] = _Round(now.monotonic_ns, now.wall_ns - now.monotonic_ns)
            self._rounds.pop(number - ROUNDS_REMEMBERED, None)

    def answered(self, follower: NodeId, number: int, clock_ns: int) -> None:
        """A follower has answered round ``number`` when its clock showed ``clock_ns``."""
        began = self._rounds.get(number)
        if began is None or not clock_ns:
            return
        here = (began.began_ns, clock_ns)
        clock = self._clocks.get(follower)
        if clock is None or clock_ns < clock.next_anchor[1]:
            # Never seen, or it has started anew.
            self._clocks[follower] = _Clock(here, here)
            return
        now_ns = self._replica.now_ns
        elapsed_max_ns = now_ns - clock.anchor[0]
        if clock_ns - clock.anchor[1] > elapsed_max_ns * (1 + self._drift):
            clock.distrusted_until_ns = now_ns + DISTRUST_NS
        if began.began_ns - clock.next_anchor[0] >= ANCHOR_NS:
            clock.anchor, clock.next_anchor = clock.next_anchor, here

    def confirm(self, confirmed: dict[NodeId, int], round_number: int) -> None:
        """Look which round a majority of nodes with trustworthy clocks has confirmed.

        Not above ``round_number``, which a majority of all nodes has.
        """
        if not self._rounds or round_number <= self._confirmed_number:
            return
        clocks, now_ns = self._clocks, self._replica.now_ns
        trusted = {
            node: number
            for node, number in confirmed.items()
            if node not in clocks or clocks[node].distrusted_until_ns <= now_ns
        }
        number = self._replica.configuration.reached(trusted)
        if number > self._confirmed_number:
            self._confirmed_number = number
            self._confirmed = self._rounds.get(number, self._confirmed)

    def forsake(self) -> None:
        """There is none any more in this term."""
        self._forsaken = True

    @property
    def until_ns(self) -> int:
        """Return when it ends if it is not renewed; 0 when there was none."""
        return self._confirmed.began_ns + self.duration_ns if self._confirmed is not None else 0

    def problem(self) -> str | None:
        """Return why it does not hold, None when it does."""
        now = self._replica.now
        if self._confirmed is None:
            return "no majority has confirmed it"
        if self._forsaken:
            return "leadership is being handed over"
        if now.monotonic_ns >= self.until_ns:
            return "no majority has renewed it in time"
        moved_ns = abs(now.wall_ns - now.monotonic_ns - self._confirmed.wall_offset_ns)
        if moved_ns > self._drift * self.duration_ns:
            return "the clock has jumped"
        return None

    def tell(self, ended: str | None = None) -> None:
        """Observe it if it is held, or is not, other than last told; ``ended`` says why."""
        replica = self._replica
        problem = ended or self.problem()
        if (problem is None) == self._told:
            return
        self._told = problem is None
        event = event_pb2.LeaseChanged(
            held=problem is None,
            term=replica.term,
            until_ns=self.until_ns if problem is None else min(self.until_ns, replica.now_ns),
            reason=problem or "",
        )
        replica.observe(event_pb2.Event(lease_changed=event))
