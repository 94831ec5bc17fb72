"""What every fault cost, step by step, per side: the failover ledgers in words."""

from collections.abc import Iterable

from replication.analysis.findings import (
    Failover,
    FailoverPrediction,
    RunFindings,
    SideFindings,
    SplitBrain,
)
from replication.report import formats
from replication.report.leader_rows import snapshot_table
from replication.report.model import Chapter, Table

WRITE_IDS_MAX = 100
LEASES_MAX = 100
STANDBYS_MAX = 100
REPLACED = (
    "Those that a later write of the same key replaced are named too; nobody misses them, and the "
    "verdict does not count them as lost."
)


def failovers(run: RunFindings) -> list[Chapter]:
    """Return the failover ledger of every side that had a fault."""
    return [
        Chapter(
            side=name,
            sentences=[] if side.failovers else ["No fault of this run has a failover ledger."],
            tables=list(_tables(side)),
        )
        for name, side in run.sides.items()
    ]


def _tables(side: SideFindings) -> Iterable[Table]:
    for failover in side.failovers:
        yield _failover_table(failover, side)
        if failover.by_side:
            yield _partition_table(failover)
    if side.leases:
        yield _lease_table(side)
    if side.standbys:
        yield _standby_table(side)
    if side.snapshots:
        yield snapshot_table(side)
    if side.split_brains:
        yield _split_brain_table(side)


def _partition_table(failover: Failover) -> Table:
    return Table(
        title=f"Fault {failover.fault}: the operations of the clients on each side",
        columns=["side", "ok", "failed", "unknown", "redirected"],
        rows=[
            [
                formats.sentence(each.name),
                *(formats.count(n) for n in (each.ok, each.failed, each.unknown, each.redirected)),
            ]
            for each in failover.by_side
        ],
    )


def _lease_table(side: SideFindings) -> Table:
    return Table(
        title="Leases: who might answer reads by its clock alone",
        columns=["node", "term", "from", "to, as it noticed", "why it ended"],
        rows=[
            [
                formats.value_text(each.node),
                str(each.term),
                formats.moment(each.start_ns, side.load_start_ns),
                "the end"
                if each.end_ns is None
                else formats.moment(each.end_ns, side.load_start_ns),
                formats.sentence(each.why) or formats.DASH,
            ]
            for each in side.leases[:LEASES_MAX]
        ],
        note=formats.shown_of(min(len(side.leases), LEASES_MAX), len(side.leases)),
    )


def _standby_table(side: SideFindings) -> Table:
    shown = side.standbys[:STANDBYS_MAX]
    return Table(
        title="Standbys: who lagged, and how many a write waited for",
        columns=["at", "primary", "says that it"],
        rows=[
            [
                formats.moment(each.at_ns, side.load_start_ns),
                formats.value_text(each.node),
                formats.sentence(each.words),
            ]
            for each in shown
        ],
        note=formats.shown_of(len(shown), len(side.standbys)),
    )


def _split_brain_table(side: SideFindings) -> Table:
    return Table(
        title="Split brain: two leaders acknowledged writes in the same interval",
        columns=["from", "to", "old leader", "new leader", "acknowledged writes lost"],
        rows=[_split_brain_row(each, side.load_start_ns) for each in side.split_brains],
        note="The old leader's writes count from the new one's first acknowledgement on, and only "
        "those that were begun after it: no answer that was merely late is among them. "
        f"{REPLACED}",
    )


def _split_brain_row(each: SplitBrain, origin_ns: int) -> list[str]:
    return [
        formats.moment(each.start_ns, origin_ns),
        formats.moment(each.end_ns, origin_ns),
        f"{formats.value_text(each.old)}, term {each.old_term}: "
        f"{formats.plural(each.old_writes, 'write')}",
        f"{formats.value_text(each.new)}, term {each.new_term}: "
        f"{formats.plural(each.new_writes, 'write')}",
        f"{formats.count(each.lost_count)}{_named(each.lost, each.lost_count)}",
    ]


def _named(write_ids: list[str], total: int) -> str:
    if not write_ids:
        return ""
    shown = [formats.value_text(each) for each in write_ids[:WRITE_IDS_MAX]]
    rest = total - len(shown)
    more = f" and {formats.count(rest)} more, in findings.json" if rest > 0 else ""
    return f": {', '.join(shown)}{more}"


def _failover_table(failover: Failover, side: SideFindings) -> Table:
    return Table(
        title=f"Fault {failover.fault}: {formats.sentence(failover.words)}",
        columns=["step", "at", "after the fault", "how it is known"],
        rows=[
            [
                formats.sentence(step.name),
                formats.moment(step.at_ns, side.load_start_ns),
                formats.duration_ns(step.after_fault_ns),
                formats.sentence(step.detail) or formats.DASH,
            ]
            for step in failover.steps
        ],
        note=" ".join(_failover_sentences(failover, side)),
    )


def _failover_sentences(failover: Failover, side: SideFindings) -> Iterable[str]:
    if failover.left_the_leader_alone:
        yield "The fault did not touch a leader: no failover was due."
    if failover.took_the_majority:
        yield "With this fault no majority was left: nobody could lead until some were back."
    yield (
        f"Longest stretch without an acknowledged write: "
        f"{formats.duration_ns(failover.write_outage_ns)}; "
        f"without an acknowledged read: {formats.duration_ns(failover.read_outage_ns)}."
    )
    yield (
        f"{formats.plural(failover.failed, 'operation')} failed, "
        f"{formats.count(failover.unknown)} unknown, "
        f"{formats.count(failover.redirected)} redirected."
    )
    if failover.elections or failover.terms or failover.pre_votes:
        yield (
            f"{formats.plural(failover.elections, 'election')}, "
            f"{formats.plural(failover.terms, 'term')} burnt, "
            f"{formats.plural(failover.split_votes, 'split vote')}, "
            f"{formats.plural(failover.pre_votes, 'round')} of pre-votes."
        )
    if failover.handed_over:
        yield "The leader handed over before it went: nobody had to miss it."
    yield from _prediction_sentences(failover)
    yield from _old_leader_sentences(failover, side)


def _prediction_sentences(failover: Failover) -> Iterable[str]:
    """Say what the timeouts let expect, how that was computed, and what was measured."""
    expected = failover.prediction
    if expected is None:
        return
    yield (
        f"Predicted from the timeouts: detected after "
        f"{formats.duration_ns(expected.detected_ns)} on average, in nine of ten cases between "
        f"{formats.duration_ns(expected.detected_low_ns)} and "
        f"{formats.duration_ns(expected.detected_high_ns)}"
        + (
            "."
            if expected.elected_ns is None
            else f"; elected after {formats.duration_ns(expected.elected_ns)}."
        )
    )
    yield _formula(expected)


def _formula(expected: FailoverPrediction) -> str:
    spread_ns = expected.timeout_max_ns - expected.timeout_min_ns
    first_ns = expected.timeout_min_ns + spread_ns / (expected.followers + 1)
    resigned = ""
    if expected.resigned_ns:
        resigned = (
            f"The leader gives up {formats.setting_duration(expected.resigned_ns)} after it last "
            f"heard from a majority, and is missed from then on. "
        )
    low = formats.setting_duration(expected.timeout_min_ns)
    if not spread_ns:
        waits = f"Each of {formats.plural(expected.followers, 'node')} gives up {low} after"
    else:
        high = formats.setting_duration(expected.timeout_max_ns)
        waits = (
            f"Each of {formats.plural(expected.followers, 'node')} waits between {low} and {high}, "
            f"so the first of them gives up {formats.duration_ns(first_ns)} after"
            if expected.followers > 1
            else f"The node whose turn is first waits between {low} and {high}, and gives up "
            f"{formats.duration_ns(first_ns)} after"
        )
    text = f"{resigned}{waits} it last heard of the leader, on average. {_heard(expected)}"
    if expected.round_ns is None:
        return text
    rounds = formats.plural(expected.rounds, "round")
    return (
        f"{text} Then {rounds} of votes, each taken as the median write before the fault "
        f"({formats.duration_ns(expected.round_ns)})."
    )


def _heard(expected: FailoverPrediction) -> str:
    """Say how long before it went silent the leader had been heard, and why that is known."""
    every = f"a heartbeat every {formats.setting_duration(expected.heartbeat_ns)}"
    if expected.write_gap_ns is not None:
        every += f" and a write every {formats.duration_ns(expected.write_gap_ns)}"
    return f"With {every}, that was {formats.duration_ns(expected.heard_ns)} before, on average."


def _old_leader_sentences(failover: Failover, side: SideFindings) -> Iterable[str]:
    if failover.truncated_entries:
        acknowledged = formats.count(failover.truncated_acknowledged)
        named = _named(failover.dropped_acknowledged, failover.truncated_acknowledged)
        yield (
            f"{formats.plural(failover.truncated_entries, 'log entry', 'log entries')} dropped by "
            f"a returning leader, {acknowledged} of them acknowledged to a client{named}."
        )
        if failover.truncated_acknowledged:
            yield REPLACED
    elif failover.old_leader_returned_ns is not None:
        yield "The old leader had no log entry to drop."
    if failover.old_leader_returned_ns is not None:
        returned = formats.moment(failover.old_leader_returned_ns, side.load_start_ns)
        who = formats.value_text(failover.old_leader) if failover.old_leader else "The old leader"
        yield f"{who} was back as a follower at {returned}."
    elif failover.old_leader is not None and not _leads_again(failover):
        yield f"{formats.value_text(failover.old_leader)}, the leader, was not seen as a follower."


def _leads_again(failover: Failover) -> bool:
    return any(
        step.name == "elected" and step.detail.startswith(f"{failover.old_leader} ")
        for step in failover.steps
    )
