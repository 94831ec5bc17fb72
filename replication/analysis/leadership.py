"""Who stood for election over a stretch of a run, and whether there was a reason to.

An election is needless if the last leader could have gone on: since it came to lead no fault had
taken it down, put it to sleep, or left it without a majority, and nobody had asked it to go. That
is what a timeout that is too short for its network costs, whether a follower loses patience or the
leader steps down, and a node that comes back with a later term.
"""

from dataclasses import dataclass

from replication.analysis.findings import Leadership
from replication.analysis.roles import disables, roles, struck_nodes, window_end_ns
from replication.analysis.view import View
from replication.history import NodeEvent

ASKED = ("transfer", "leave")  # by an operator, to give up the lead


@dataclass(slots=True)
class Campaigns:
    """The elections that began within a stretch of time."""

    elections: int = 0  # that entered a term
    pre_votes: int = 0
    split_votes: int = 0  # terms that somebody stood for and nobody won
    highest_term: int = 0  # that anybody entered; 0: none


def campaigns(view: View, start_ns: int, end_ns: int) -> Campaigns:
    """Count what began after ``start_ns`` and before ``end_ns``."""
    found = Campaigns()
    stood: set[int] = set()
    for event in view.history.events:
        if not start_ns < event.time_ns < end_ns:
            continue
        asks = bool(event.fields.get("pre_vote"))
        term = int(event.fields.get("term") or 0)
        if event.name == "election_started":
            found.pre_votes += asks
            found.elections += not asks
            if not asks:
                stood.add(term)
        if event.name in ("election_started", "role_changed") and not asks:
            found.highest_term = max(found.highest_term, term)
    found.split_votes = len(stood - _won(view))
    return found


def _won(view: View) -> set[int]:
    return {
        turn.term
        for turns in view.once(roles).turns.values()
        for turn in turns
        if turn.role == "leader"
    }


def leadership(view: View) -> Leadership | None:
    """Return the elections from the beginning of the load to the end of it; None without terms."""
    history = view.history
    start_ns, end_ns = history.load_start_ns, history.load_end_ns
    if history.family != "leader":
        return None
    turns = [turn for mine in view.once(roles).turns.values() for turn in mine]
    before = max((turn.term for turn in turns if turn.at_ns <= start_ns), default=0)
    found = campaigns(view, start_ns, end_ns)
    return Leadership(
        elections=found.elections,
        needless=sum(
            _is_needless(view, event)
            for event in history.events
            if event.name == "election_started" and start_ns < event.time_ns < end_ns
        ),
        pre_votes=found.pre_votes,
        split_votes=found.split_votes,
        terms=max(found.highest_term - before, 0),
        changes=sum(turn.role == "leader" and start_ns < turn.at_ns < end_ns for turn in turns),
    )


def _is_needless(view: View, event: NodeEvent) -> bool:
    if event.fields.get("pre_vote"):
        return False
    last = max(
        (
            (turn.at_ns, node)
            for node, turns in view.once(roles).turns.items()
            for turn in turns
            if turn.role == "leader" and turn.at_ns < event.time_ns
        ),
        default=None,
    )
    if last is None:
        return False
    since_ns, leader = last
    # A transfer is asked of whoever leads, and names no node.
    return not any(
        (fault.kind == "transfer" or leader in struck_nodes(view, fault))
        for fault in view.history.faults
        if (disables(fault) or fault.kind in ASKED)
        and fault.injected_ns is not None
        and fault.injected_ns <= event.time_ns
        and since_ns <= window_end_ns(view, fault)
    )
