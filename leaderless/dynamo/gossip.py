"""SWIM as the failure detector of a node: its messages, and what is told of its verdicts."""

from collections import Counter
from collections.abc import Iterable, Mapping
from random import Random

from leaderless.dynamo.detector import Detector, SilenceDetector
from leaderless.dynamo.outbox import Outbox
from leaderless.dynamo.phi import PhiDetector
from leaderless.dynamo.settings import Detection, DynamoSettings
from leaderless.dynamo.swim import ALIVE, DEAD, Swim, Transition
from leaderless.dynamo.swim_config import HEALTH_MAX, SwimConfig
from leaderless.v1 import dynamo_pb2
from replication.protocol import Instant, NodeId
from replication.v1 import event_pb2


def swim_config(settings: DynamoSettings) -> SwimConfig:
    """Return the part of the settings that is SWIM's."""
    return SwimConfig(
        probe_ns=settings.probe_ns,
        probe_timeout_ns=settings.probe_timeout_ns,
        gossip_ns=settings.gossip_ns,
        push_pull_ns=settings.push_pull_ns,
        indirect_probes=settings.indirect_probes,
        suspicion_multiplier=settings.suspicion_multiplier,
        health_max=HEALTH_MAX if settings.local_health else 0,
    )


class SwimDetector:
    """A ``Detector``: a peer counts as dead once its suspicion was not refuted in time.

    Until then it is alive for everybody who coordinates. A message is not a sign of life, only
    gossip is: a peer itself has to refute what is suspected of it.
    """

    def __init__(
        self,
        name: NodeId,
        peers: Iterable[NodeId],
        settings: DynamoSettings,
        rng: Random,
        now_ns: int,
        outbox: Outbox,
        lives: Mapping[NodeId, int],
        counters: Counter[str],
    ) -> None:
        self.swim = Swim(name, list(peers), swim_config(settings), rng, now_ns)
        self._outbox = outbox
        self._died: list[tuple[NodeId, int]] = []  # since the last ``check``
        self._returned: dict[NodeId, int] = {}  # incarnations: alive again, and not yet heard
        self._lives = lives
        self._counters = counters
        self._suspected_life: dict[NodeId, int | None] = {}
        self.swim.greet()
        self._let_out(now_ns)

    def alive(self, peer: NodeId, now_ns: int) -> bool:
        """Tell whether ``peer`` is believed to be alive, or at least not known to be dead."""
        return self.swim.state(peer) != DEAD

    def suspected(self) -> list[NodeId]:
        """Return the peers that are believed to be dead."""
        return self.swim.dead()

    def heard(self, peer: NodeId, now_ns: int) -> bool:
        """Return True for the first message of a peer that is known to live again.

        Only by that message it is certain whether the peer was started anew meanwhile.
        """
        incarnation = self._returned.pop(peer, None)
        if incarnation is None:
            return False
        self._tell_refuted(peer, incarnation, was_dead=True)
        return True

    def receive(self, now_ns: int, sender: NodeId, gossip: dynamo_pb2.Gossip) -> None:
        """Take a message of another node."""
        self.swim.receive(now_ns, sender, gossip)
        self._let_out(now_ns)

    def check(self, now_ns: int) -> list[tuple[NodeId, int]]:
        """Let the time pass. Returns the peers that were found dead, here or by others."""
        if now_ns >= self.swim.wake_at():
            self.swim.tick(now_ns)
            self._let_out(now_ns)
        died, self._died = self._died, []
        return died

    def set_peers(self, peers: Iterable[NodeId], now_ns: int) -> None:
        """Watch these from now on; whoever is new counts as alive."""
        self.swim.set_peers(list(peers), now_ns)

    def heartbeat_due(self, now_ns: int) -> bool:
        """No: a probe is one."""
        return False

    def wake_at(self) -> int:
        """Return when to ``check`` again."""
        return self.swim.wake_at()

    def _let_out(self, now_ns: int) -> None:
        for peer, gossip in self.swim.sends:
            self._outbox.send(peer, dynamo_pb2.DynamoMessage(gossip=gossip))
        self.swim.sends = []
        for transition in self.swim.transitions:
            self._tell(transition)
        self.swim.transitions = []
        for peer, incarnation in self.swim.lives:
            learned = event_pb2.IncarnationLearned(peer=peer, incarnation=incarnation)
            self._outbox.observe(event_pb2.Event(incarnation_learned=learned))
        self.swim.lives = []

    def _tell(self, transition: Transition) -> None:
        peer, incarnation = transition.node, transition.incarnation
        if transition.state == DEAD:
            self._returned.pop(peer, None)
            self._suspected_life.setdefault(peer, self._lives.get(peer))
            self._died.append((peer, transition.after_ns))
        elif transition.before == DEAD:
            self._returned[peer] = incarnation
        elif transition.state == ALIVE:
            self._tell_refuted(peer, incarnation, was_dead=False)
        elif transition.before == ALIVE:
            self._suspected_life[peer] = self._lives.get(peer)
            raised = event_pb2.SuspicionRaised(peer=peer, incarnation=incarnation, by=transition.by)
            self._outbox.observe(event_pb2.Event(suspicion_raised=raised))

    def _tell_refuted(self, peer: NodeId, incarnation: int, *, was_dead: bool) -> None:
        same_life = self._suspected_life.pop(peer, None) == self._lives.get(peer)
        if same_life:
            self._counters["false_suspicions"] += 1
        refuted = event_pb2.SuspicionRefuted(
            peer=peer, incarnation=incarnation, was_dead=was_dead, same_life=same_life
        )
        self._outbox.observe(event_pb2.Event(suspicion_refuted=refuted))


def make_detector(
    name: NodeId,
    peers: Iterable[NodeId],
    settings: DynamoSettings,
    rng: Random,
    now: Instant,
    outbox: Outbox,
    lives: Mapping[NodeId, int],
    counters: Counter[str],
) -> Detector:
    """Return the failure detector that the settings ask for."""
    match settings.detector:
        case Detection.SWIM:
            own = Random(rng.getrandbits(64))
            now_ns = now.monotonic_ns
            return SwimDetector(name, peers, settings, own, now_ns, outbox, lives, counters)
        case Detection.PHI:
            threshold = settings.phi_threshold
            return PhiDetector(peers, settings.heartbeat_ns, threshold, now.monotonic_ns)
        case Detection.SILENCE:
            return SilenceDetector(
                peers, settings.heartbeat_ns, settings.suspect_after_ns, now.monotonic_ns
            )
