"""How often, how long, how many: the arithmetic of SWIM (see ``swim``)."""

from dataclasses import dataclass
from math import ceil, log, log10
from typing import Final

HEALTH_MAX: Final = 7
RETRANSMIT_MULTIPLIER: Final = 4
SUSPICION_MAX_MULTIPLIER: Final = 6


@dataclass(frozen=True, slots=True)
class SwimConfig:
    """How often, how long, how many. Defaults: memberlist's for a LAN, five times as fast."""

    probe_ns: int = 200_000_000
    probe_timeout_ns: int = 100_000_000
    gossip_ns: int = 40_000_000  # 0: news rides on probes and their answers alone (SWIM §4.1)
    push_pull_ns: int = 6_000_000_000
    indirect_probes: int = 3
    suspicion_multiplier: int = 4
    health_max: int = HEALTH_MAX  # 0: no awareness of the node's own health


def suspicion_timeout_ns(config: SwimConfig, members: int, confirmations: int) -> int:
    """Return how long a suspicion waits when so many others share it (Lifeguard §IV-B)."""
    shortest = config.suspicion_multiplier * max(1.0, log10(members)) * config.probe_ns
    expected = config.suspicion_multiplier - 2
    if members - 2 < expected:
        expected = 0  # there are not enough nodes to share it
    if expected < 1:
        return round(shortest)
    longest = SUSPICION_MAX_MULTIPLIER * shortest
    share = log(confirmations + 1) / log(expected + 1)
    return round(max(shortest, longest - share * (longest - shortest)))


def retransmissions(members: int) -> int:
    """Return how often one piece of gossip is sent on (SWIM §4.1: a multiple of log n)."""
    return RETRANSMIT_MULTIPLIER * ceil(log10(members + 1))
