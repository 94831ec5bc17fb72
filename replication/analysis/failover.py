"""The failover ledger: what a fault cost, step by step (design §8).

One ledger per kill, restart, pause and partition, and for other faults that cost a leader its
place. On a leaderless side there is nobody to elect, so the same fault gets the steps that exist.

- *detected*: the first election that another node starts after the fault, pre-votes included; on a
  leaderless side, the first time that a node outside the fault suspects one inside it.
- *elected*: the first node that leads in a higher term than the leader at the fault.
- *clients redirected*: the first time that a client sent what the new leader then served.
- *first acknowledged write*: after an election, the first write that the new term acknowledged
  (by the end of the write); without one, the first that was invoked after the fault. A write that
  was under way at the fault and whose answer was already travelling proves no recovery.
- *back to 95 %*: the start of the first half second, at or after that write, in which at least 95 %
  of the earlier rate of acknowledged operations was reached; the earlier rate is that of the two
  seconds before the fault, or of what there is of them, at least half a second.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from replication.analysis import words
from replication.analysis.failover_picture import picture
from replication.analysis.findings import Failover, FailoverStep, PartitionSide
from replication.analysis.leadership import campaigns
from replication.analysis.prediction import predicted
from replication.analysis.promised import setting
from replication.analysis.roles import Turn, disables, roles, struck_nodes, window_end_ns
from replication.analysis.view import FAIL, OK, UNKNOWN, Times, View, columns
from replication.history import FaultRecord, NodeEvent, Operation, OperationKind, Outcome

Chosen: TypeAlias = NDArray[np.bool_]

BEFORE_NS_MAX = 2_000_000_000
BEFORE_NS_MIN = 500_000_000
PICTURES_MAX = 6  # of the first faults; each takes a hundred kilobytes of the page
RATE_WINDOW_NS = 500_000_000
RATE_STEP_NS = 50_000_000
RECOVERED_SHARE = 0.95
DROPPED_MAX = 1_000  # write ids named
WATCHED_NS_MAX = 3_600_000_000_000


@dataclass(slots=True)
class _Case:
    """One fault and the leader that it found."""

    fault: FaultRecord
    at_ns: int  # injected
    end_ns: int  # of the fault
    until_ns: int  # the next fault that touches the leader, or the end of the history
    leader: str | None  # at the fault, if the fault touched it
    term: int


def failovers(view: View) -> list[Failover]:
    """Return a ledger for every fault that has one, in order of time."""
    found: list[Failover] = []
    cases = [_case(view, each) for each in view.history.faults if each.injected_ns is not None]
    cases.sort(key=lambda case: case.at_ns)
    touched = [case for case in cases if case.leader is not None]
    for case, following in pairwise(touched):
        case.until_ns = following.at_ns
    for case in cases:
        elected = _elected(view, case)
        strikes = disables(case.fault)
        if strikes or elected is not None:
            found.append(_ledger(view, case, elected, strikes))
    for ledger in found[PICTURES_MAX:]:
        ledger.picture = None
    return found


def _case(view: View, fault: FaultRecord) -> _Case:
    assert fault.injected_ns is not None, "only injected faults have a ledger"
    led = view.once(roles).leader_at(fault.injected_ns - 1)
    leader, term = (None, 0) if led is None or led[0] not in struck_nodes(view, fault) else led
    end_ns = window_end_ns(view, fault)
    until_ns = max(view.history.settle_end_ns, end_ns)
    return _Case(fault, fault.injected_ns, end_ns, until_ns, leader, term)


def _elected(view: View, case: _Case) -> tuple[str, Turn] | None:
    if case.leader is None:
        return None
    found = view.once(roles).elected_after(case.at_ns, above_term=case.term)
    return None if found is None or found[1].at_ns >= case.until_ns else found


def _ledger(view: View, case: _Case, elected: tuple[str, Turn] | None, strikes: bool) -> Failover:
    leads = view.history.family == "leader"
    ledger = Failover(case.fault.number, case.fault.words)
    ledger.left_the_leader_alone = leads and case.leader is None
    detected = _detected(view, case)
    _add(
        ledger,
        case,
        "detected",
        None if detected is None else detected.time_ns,
        _detected_words(detected),
    )
    if leads:
        at_ns = None if elected is None else elected[1].at_ns
        told = "" if elected is None else f"{elected[0]} in term {elected[1].term}"
        _add(ledger, case, "elected", at_ns, told)
        at_ns, told = _redirected(view, case, elected)
        _add(ledger, case, "clients redirected", at_ns, told)
    write = _first_write(view, case, elected)
    at_ns = None if write is None else write.complete_ns
    told = "" if write is None else f"{write.write_id}{words.served(write)}"
    _add(ledger, case, "first acknowledged write", at_ns, told)
    at_ns, told = _recovered(view, case, at_ns)
    _add(ledger, case, "back to 95 %", at_ns, told)
    _count(view, case, ledger, max(case.end_ns, 0 if write is None else write.complete_ns or 0))
    _count_terms(view, case, ledger)
    _follow_old_leader(view, case, ledger)
    if case.leader is not None:
        ledger.old_leader = case.leader
        ledger.took_the_majority = not case.fault.sides and case.leader not in case.fault.nodes
        ledger.handed_over = _handed_over(view, detected)
        if strikes and not _tried_to_hand_over(view, case) and not _was_in_trouble(view, case):
            touched = struck_nodes(view, case.fault)
            followers = [each for each in view.history.nodes if each not in touched]
            ledger.prediction = predicted(view, case.at_ns, followers, case.fault.deafens)
    ledger.picture = picture(view, case.at_ns, case.until_ns, ledger.steps)
    return ledger


def _add(ledger: Failover, case: _Case, name: str, at_ns: int | None, detail: str) -> None:
    after_ns = None if at_ns is None else at_ns - case.at_ns
    ledger.steps.append(FailoverStep(name, at_ns, after_ns, detail))


def _detected(view: View, case: _Case) -> NodeEvent | None:
    """Return the event by which another node first showed that it missed somebody."""
    found = [
        event
        for event in view.history.events
        if case.at_ns < event.time_ns < case.until_ns
        and (
            (event.name == "election_started" and case.leader not in (None, event.node))
            or (event.name == "peer_suspected" and _suspects(case, event))
        )
    ]
    return min(found, key=lambda event: (event.time_ns, event.node), default=None)


def _suspects(case: _Case, event: NodeEvent) -> bool:
    """Return whether somebody out of the fault's reach suspects somebody within, while it lasts."""
    fault, peer = case.fault, event.fields.get("peer")
    if event.time_ns > case.end_ns and not fault.momentary:
        return False
    if fault.sides:
        return any(event.node in side and peer not in side for side in fault.sides)
    return peer in fault.nodes and event.node not in fault.nodes


def _detected_words(event: NodeEvent | None) -> str:
    if event is None:
        return ""
    silence_ns = int(event.fields.get("silence_ns") or 0)
    heard = f" after {words.milliseconds(silence_ns)} of silence" if silence_ns else ""
    if event.name == "peer_suspected":
        return f"{event.node} suspected {event.fields.get('peer')}{heard}"
    return f"{event.node} stood for election{heard}"


def _redirected(
    view: View, case: _Case, elected: tuple[str, Turn] | None
) -> tuple[int | None, str]:
    """Return when the first client turned to the new leader, and by when every client had."""
    if elected is None:
        return None, ""
    node, turn = elected
    turned: dict[str, int] = {}  # client -> when it sent what the new leader served first
    for each in view.once(columns).operations:
        if each.node != node or each.outcome is not Outcome.OK:
            continue
        sent_ns = each.invoke_ns if each.turned_ns is None else each.turned_ns
        if turn.at_ns <= sent_ns < min(turned.get(each.client, case.until_ns), case.until_ns):
            turned[each.client] = sent_ns
    if not turned:
        return None, ""
    first = min(turned, key=lambda client: (turned[client], client))
    last_ns = max(turned.values())
    many = len(turned) > 1
    told = f"; {len(turned)} clients by {words.moment(view, last_ns)}" if many else ""
    return turned[first], f"{first} turned to {node}{told}"


def _first_write(view: View, case: _Case, elected: tuple[str, Turn] | None) -> Operation | None:
    def proves_recovery(write: Operation) -> bool:
        if elected is None:
            return write.invoke_ns >= case.at_ns
        if write.term is not None:
            return write.term > case.term
        return (write.complete_ns or 0) >= elected[1].at_ns

    found = [
        each
        for each in view.once(columns).operations
        if each.kind is not OperationKind.GET
        and each.outcome is Outcome.OK
        and each.complete_ns is not None
        and each.complete_ns > case.at_ns
        and proves_recovery(each)
    ]
    return min(found, key=lambda each: (each.complete_ns or 0, each.index), default=None)


def _recovered(view: View, case: _Case, from_ns: int | None) -> tuple[int | None, str]:
    history = view.history
    loaded = view.once(columns)
    acknowledged = np.sort(loaded.complete[loaded.outcome == OK])
    begin_ns = max(history.load_start_ns, case.at_ns - BEFORE_NS_MAX)
    before_ns = case.at_ns - begin_ns
    if before_ns < BEFORE_NS_MIN:
        return None, "less than half a second of load before the fault to compare with"
    before = _between(acknowledged, begin_ns, case.at_ns) * 1e9 / before_ns
    if before == 0:
        return None, "nothing was acknowledged just before the fault to compare with"
    if from_ns is None:
        return None, ""
    last_ns = min(history.load_end_ns - RATE_WINDOW_NS, from_ns + WATCHED_NS_MAX)
    starts = np.arange(from_ns, last_ns + 1, RATE_STEP_NS)
    reached = np.searchsorted(acknowledged, starts + RATE_WINDOW_NS, side="left")
    rates = (reached - np.searchsorted(acknowledged, starts, side="left")) * 1e9 / RATE_WINDOW_NS
    enough = np.flatnonzero(rates >= RECOVERED_SHARE * before)
    if not len(enough):
        return None, f"not again before the load ended; {before:,.0f}/s before the fault"
    at = int(enough[0])
    return int(starts[at]), f"{rates[at]:,.0f}/s, {before:,.0f}/s before the fault"


def _between(ascending: Times, start_ns: int, end_ns: int) -> int:
    """Return how many moments lie in [start, end)."""
    start, end = np.searchsorted(ascending, [start_ns, end_ns], side="left")
    return int(end - start)


def _count(view: View, case: _Case, ledger: Failover, end_ns: int) -> None:
    """Count what was under way or due from the fault to ``end_ns``, and the outages.

    That is while the fault lasted, or until the first acknowledged write if that came later.
    """
    loaded = view.once(columns)
    inside = (loaded.complete >= case.at_ns) & (loaded.intended <= end_ns)
    ledger.failed = int(np.count_nonzero(inside & (loaded.outcome == FAIL)))
    ledger.unknown = int(np.count_nonzero(inside & (loaded.outcome == UNKNOWN)))
    ledger.redirected = int(np.count_nonzero(inside & (loaded.redirects > 0)))
    ledger.by_side = [_count_side(view, side, inside) for side in case.fault.sides]
    ok = loaded.outcome == OK
    ledger.write_outage_ns = _outage(view, case, loaded.complete[ok & loaded.write])
    ledger.read_outage_ns = _outage(view, case, loaded.complete[ok & ~loaded.write])


def _count_side(view: View, side: list[str], inside: Chosen) -> PartitionSide:
    loaded = view.once(columns)
    mine = [index for index, client in enumerate(loaded.clients) if client in side]
    here = inside & np.isin(loaded.client, mine)
    return PartitionSide(
        words.listed(side),
        ok=int(np.count_nonzero(here & (loaded.outcome == OK))),
        failed=int(np.count_nonzero(here & (loaded.outcome == FAIL))),
        unknown=int(np.count_nonzero(here & (loaded.outcome == UNKNOWN))),
        redirected=int(np.count_nonzero(here & (loaded.redirects > 0))),
    )


def _outage(view: View, case: _Case, acknowledged: Times) -> int:
    """Return the longest gap of those that contain the fault's beginning or begin while it lasts.

    From one acknowledgement to the next; the load's beginning and end stand in for missing ones.
    """
    history = view.history
    edges = np.concatenate(([history.load_start_ns], acknowledged, [history.load_end_ns]))
    edges = np.unique(np.clip(edges, history.load_start_ns, history.load_end_ns))
    begins, gaps = edges[:-1], np.diff(edges)
    chosen = (edges[1:] > case.at_ns) & (begins <= case.end_ns)
    return int(gaps[chosen].max()) if chosen.any() else 0


def _count_terms(view: View, case: _Case, ledger: Failover) -> None:
    """Count elections that burnt a term, and the terms.

    After a fault on the leader up to the next one: its return may cost an election too.
    """
    found = campaigns(view, case.at_ns, case.end_ns if case.leader is None else case.until_ns)
    ledger.elections, ledger.pre_votes = found.elections, found.pre_votes
    ledger.split_votes = found.split_votes
    if case.leader is not None:
        ledger.terms = max(found.highest_term - case.term, 0)


def _follow_old_leader(view: View, case: _Case, ledger: Failover) -> None:
    """Note what the old leader had to drop, and when it followed a later one."""
    if case.leader is None:
        return
    gone_ns = _started_again_ns(view, case)
    for turn in view.once(roles).turns.get(case.leader, []):
        later = gone_ns <= turn.at_ns < case.until_ns and turn.term > case.term
        if later and turn.role == "follower" and turn.leader not in ("", case.leader):
            ledger.old_leader_returned_ns = turn.at_ns
            ledger.old_leader_returned_after_ns = turn.at_ns - case.at_ns
            break
    for event in view.history.events:
        if (
            event.name == "log_truncated"
            and event.node == case.leader
            and case.at_ns < event.time_ns < case.until_ns
        ):
            ledger.truncated_entries += int(event.fields.get("entries") or 0)
            dropped = [
                write_id
                for write_id in event.fields.get("write_ids", ())
                if _was_acknowledged(view, case, event, write_id)
            ]
            ledger.truncated_acknowledged += len(dropped)
            room = max(DROPPED_MAX - len(ledger.dropped_acknowledged), 0)
            ledger.dropped_acknowledged += dropped[:room]


def _started_again_ns(view: View, case: _Case) -> int:
    """Return from when on the old leader can be back: since it was started again, if it ended."""
    fault = case.fault
    if not fault.takes_down and fault.kind != "restart":
        return case.at_ns
    started = (
        event.time_ns
        for event in view.history.events
        if event.name == "node_started" and event.node == case.leader
    )
    return min((each for each in started if each > case.at_ns), default=case.at_ns)


def _handed_over(view: View, detected: NodeEvent | None) -> bool:
    """Return whether a node stood because the leader asked it to: no timeout had passed."""
    timeout = setting(view, "election_timeout_min_ns") or ""
    return (
        detected is not None
        and detected.name == "election_started"
        and timeout.isdigit()
        and int(detected.fields.get("silence_ns") or 0) < int(timeout)
    )


def _tried_to_hand_over(view: View, case: _Case) -> bool:
    """Return whether the leader first asked another to stand: the timeouts count from later on."""
    return any(
        event.name == "leadership_transfer"
        and event.node == case.leader
        and case.at_ns <= event.time_ns < case.until_ns
        for event in view.history.events
    )


def _was_in_trouble(view: View, case: _Case) -> bool:
    """Return whether another fault held the leader already: it may have been silent before."""
    return any(
        other is not case.fault
        and case.leader in other.nodes
        and not other.momentary
        and other.injected_ns is not None
        and other.injected_ns <= case.at_ns < window_end_ns(view, other)
        for other in view.history.faults
    )


def _was_acknowledged(view: View, case: _Case, event: NodeEvent, write_id: str) -> bool:
    """Return whether it is this entry that was acknowledged.

    The same write may have been sent again and acknowledged by a later leader: then its entry has
    a later term, or another place in the log.
    """
    write = view.writes.get(write_id)
    if write is None or write.outcome is not Outcome.OK:
        return False
    if write.term is not None and write.term > case.term:
        return False
    first = int(event.fields.get("from_index") or 0)
    entries = int(event.fields.get("entries") or 0)
    return write.log_index is None or first <= write.log_index < first + entries
