"""Rounds of gossip until all nodes know what one has said, beside push-pull and log2 N.

What is said: a node that was suspected lives, in a higher incarnation (SWIM §4.2). Nobody but the
node itself can say so, and all others have it by gossip, which rides on probes and their answers:
in each round every node exchanges news with one other. That is push-pull with a random partner
(Karp, Schindelhauer, Shenker and Voecking, "Randomized Rumor Spreading", FOCS 2000), of which the
oracle here is a simulation in step: what is learned in a round is passed on in the next.
"""

from functools import cache
from math import log2
from random import Random
from statistics import mean
from typing import Final

from replication.analysis.gossip_findings import Gossip, Spread
from replication.analysis.roles import DOWN, PAUSED, role_periods
from replication.analysis.view import View
from replication.history import NodeEvent

LEARNED: Final = "incarnation_learned"
SPREADS_MAX: Final = 100
ORACLE_STEPS: Final = 60_000  # nodes times trials: a mean to within one in a hundred


def gossip(view: View) -> Gossip | None:
    """Return how news went round; None where no node tells of any."""
    history = view.history
    round_ns = history.settings.get("probe_ns")
    learned: dict[str, list[NodeEvent]] = {}
    for event in history.events:
        if event.name == LEARNED:
            learned.setdefault(event.fields["peer"], []).append(event)
    said = [
        event
        for events in learned.values()
        for event in events
        if event.node == event.fields["peer"]
        and history.measure_start_ns <= event.time_ns < history.load_end_ns
    ]
    if not said or not isinstance(round_ns, int):
        return None
    said.sort(key=lambda each: each.time_ns)
    away = [each for each in role_periods(view) if each.role in (DOWN, PAUSED)]
    spreads = []
    for event in said:
        gone = {
            each.node for each in away if each.start_ns <= event.time_ns < each.end_ns
        }  # these cannot hear it
        living = [each for each in history.nodes if each != event.node and each not in gone]
        spreads.append(_spread(event, learned[event.node], living, round_ns))
    return _told(len(history.nodes), round_ns, spreads)


def _spread(said: NodeEvent, learned: list[NodeEvent], living: list[str], round_ns: int) -> Spread:
    incarnation = int(said.fields["incarnation"])
    known: dict[str, int] = {}  # who hears a later incarnation first knows this one, too
    for event in learned:
        if event.time_ns >= said.time_ns and event.fields["incarnation"] >= incarnation:
            known.setdefault(event.node, event.time_ns)
    heard = [each for each in living if each in known]
    found = Spread(said.node, incarnation, said.time_ns, len(heard), len(living))
    if living and len(heard) == len(living):
        found.last = max(heard, key=known.__getitem__)
        found.ended_ns = known[found.last]
        found.rounds = -((said.time_ns - found.ended_ns) // round_ns)
    return found


def _told(nodes: int, round_ns: int, spreads: list[Spread]) -> Gossip:
    rounds = [each.rounds for each in spreads if each.rounds is not None]
    oracle = push_pull_rounds(nodes)
    return Gossip(
        nodes=nodes,
        round_ns=round_ns,
        count=len(spreads),
        unheard=len(spreads) - len(rounds),
        rounds_mean=mean(rounds) if rounds else None,
        rounds_worst=max(rounds, default=None),
        push_pull_rounds=oracle,
        push_pull_ratio=mean(rounds) / oracle if rounds and oracle else None,
        log2_nodes=log2(nodes),
        spreads=spreads[:SPREADS_MAX],
    )


@cache
def push_pull_rounds(nodes: int) -> float:
    """Return the mean number of rounds of push-pull until all of ``nodes`` know."""
    if nodes < 2:
        return 0.0
    rng = Random(nodes)
    return mean(_rounds(nodes, rng) for _ in range(max(50, ORACLE_STEPS // nodes)))


def _rounds(nodes: int, rng: Random) -> int:
    knowing = {0}
    rounds = 0
    while len(knowing) < nodes:
        rounds += 1
        told = set()
        for node in range(nodes):
            met = (node + 1 + int(rng.random() * (nodes - 1))) % nodes
            if node in knowing:
                told.add(met)
            elif met in knowing:
                told.add(node)
        knowing |= told
    return rounds
