"""What concurrency did, step by step: conflicts, vanished writes and convergence, per side."""

from collections.abc import Iterable
from typing import Any

from replication.analysis.conflict_findings import (
    AppearedWrite,
    ConcurrentPair,
    Conflict,
    ConflictingKey,
    ConflictLedger,
    VanishedWrite,
)
from replication.analysis.findings import RunFindings, SideFindings, StaleRead
from replication.analysis.gossip_findings import Gossip
from replication.analysis.meanwhile import Handoff
from replication.report import formats, space_time
from replication.report.model import Chapter, Table

DIFFERING_KEYS_MAX = 50
VERSIONS_MAX = 10
COUNTS_MAX = 8
NAMES_MAX = 6


def conflicts(run: RunFindings) -> list[Chapter]:
    """Return the conflict ledger of every side."""
    return [
        Chapter(
            side=name,
            sentences=list(_conflict_sentences(side)),
            tables=list(_conflict_tables(side)),
        )
        for name, side in run.sides.items()
    ]


def _conflict_sentences(side: SideFindings) -> Iterable[str]:
    ledger = side.conflicts
    if not any(side.operations.values()):
        yield "No operation was measured."
        return
    if not ledger.pair_count and not ledger.sibling_sets and not ledger.vanished_count:
        yield "No concurrent versions were seen and no acknowledged write vanished."
        durability = side.findings.get("durability")
        lost = 0 if durability is None else int(durability.counts.get("lost", 0))
        if lost:
            yield (
                f"Not overwritten but lost with a leader: "
                f"{formats.plural(lost, 'acknowledged write')}."
            )
    else:
        yield (
            f"{formats.plural(ledger.pair_count, 'pair')} of concurrent writes; "
            f"{formats.plural(ledger.concurrent_writes, 'acknowledged write')} overlapped another "
            f"of the same key in time, unseen by each. "
            f"{formats.plural(ledger.sibling_sets, 'sibling set')} made (at most "
            f"{formats.count(ledger.sibling_count_max)} siblings), "
            f"{formats.plural(ledger.siblings_at_end, 'key')} with siblings left at the end; "
            f"{formats.plural(ledger.dropped_by_timestamp, 'version')} dropped by timestamp; "
            f"{formats.plural(ledger.vanished_count, 'acknowledged write')} vanished"
            f"{_counted(ledger.vanished_by_cause)}."
        )
    if ledger.ended:
        yield f"The sibling sets ended{_counted(ledger.ended)}."
    if ledger.resolvers:
        yield f"Resolved by the writes of clients{_counted(ledger.resolvers)}."
    if ledger.failed_visible or ledger.unknown_visible:
        yield (
            f"{formats.plural(ledger.failed_visible, 'failed write')} and "
            f"{formats.plural(ledger.unknown_visible, 'unknown write')} took effect without an "
            "acknowledgement."
        )
    yield from _repair_sentences(ledger)
    yield from map(_handoff_sentence, side.handoffs)
    if side.gossip is not None:
        yield _gossip_sentence(side.gossip)


def _counted(counts: dict[str, int]) -> str:
    """Return ": 26 by a later write, 3 left", the first few of them."""
    shown = list(counts.items())[:COUNTS_MAX]
    words = ", ".join(f"{formats.sentence(name)} {formats.count(each)}" for name, each in shown)
    rest = sum(counts.values()) - sum(each for _, each in shown)
    return f": {words}" + (f", others {formats.count(rest)}" if rest else "") if words else ""


def _repair_sentences(ledger: ConflictLedger) -> Iterable[str]:
    found = ledger.repairs
    yield from _read_sentences(found)
    if "read_repairs_sent" in found:
        yield (
            f"{formats.plural(found['read_repairs_sent'], 'read repair')} sent, "
            f"{formats.plural(found.get('versions_healed', 0), 'version')} healed by them."
        )
    if "hints_stored" in found:
        yield (
            f"{formats.plural(found['hints_stored'], 'hint')} stored, "
            f"{formats.count(found.get('hints_delivered'))} delivered, "
            f"{formats.count(found.get('hints_expired'))} expired, "
            f"{formats.count(found.get('hints_refused'))} refused."
        )
    if found.get("tombstones_purged"):
        yield (
            f"{formats.plural(found['tombstones_purged'], 'tombstone')} purged, "
            f"{formats.plural(found.get('deletes_undone', 0), 'delete')} undone by an old copy "
            "afterwards."
        )
    if "merkle_ranges_compared" in found:
        differing, sent = found.get("merkle_bytes_differing"), found.get("merkle_bytes_sent")
        yield (
            f"{formats.plural(found['merkle_ranges_compared'], 'Merkle range')} compared, "
            f"{formats.count(found.get('merkle_ranges_differing'))} differed; "
            f"{formats.byte_count(sent)} sent for {formats.byte_count(differing)} that differed"
            f"{_overstreaming(sent, differing)}."
        )


def _overstreaming(sent: int | None, differing: int | None) -> str:
    if not sent or not differing:
        return ""
    return f" (overstreaming {formats.significant(sent / differing)}{formats.MULTIPLE})"


def _read_sentences(found: dict[str, int]) -> Iterable[str]:
    """Yield what reads cost at other replicas, and whom detectors took for dead."""
    if found.get("read_bytes"):
        digests = ""
        if found.get("digest_reads"):
            digests = (
                f"; {formats.plural(found['digest_reads'], 'answer')} asked for as a digest, of "
                f"which {formats.count(found.get('digest_mismatches'))} differed and were asked "
                "for in full"
            )
        size = formats.byte_count(found["read_bytes"])
        yield f"Reads were answered by other replicas with {size}{digests}."
    if found.get("hedged_reads"):
        yield (
            f"{formats.plural(found['hedged_reads'], 'read')} asked one more replica after a "
            f"while; {formats.count(found.get('hedges_won'))} of these answers came in time to "
            "count."
        )
    if found.get("taken_for_dead") or found.get("false_suspicions"):
        yield (
            f"{formats.plural(found.get('taken_for_dead', 0), 'time')} a node was taken for dead; "
            f"{formats.plural(found.get('false_suspicions', 0), 'time')} one that was suspected or "
            "taken for dead was alive."
        )


def _handoff_sentence(each: Handoff) -> str:
    brought = (
        f"{each.node} came back: {formats.plural(each.hints, 'hint')} "
        f"({formats.byte_count(each.bytes)}) from {formats.plural(each.senders, 'node')} in "
        f"{formats.duration_ns(each.duration_ns)}. Of all operations meanwhile "
        f"p90 was {formats.duration_ms(each.during.p90_ms)} and p99 "
        f"{formats.duration_ms(each.during.p99_ms)}; before any fault "
        f"{formats.duration_ms(each.before.p90_ms)} and {formats.duration_ms(each.before.p99_ms)}."
    )
    if not each.refused:
        return brought
    refused = formats.plural(each.refused_count, "hint")
    return f"{brought} {refused} for it were refused{_counted(each.refused)}."


def _gossip_sentence(found: Gossip) -> str:
    unheard = f"; {formats.count(found.unheard)} did not reach all" if found.unheard else ""
    return (
        f"{formats.plural(found.count, 'time')} a node that was suspected said that it lives. All "
        f"{formats.count(found.nodes)} knew after {formats.number(found.rounds_mean)} rounds of "
        f"{formats.setting_duration(found.round_ns)} on average, "
        f"{formats.count(found.rounds_worst)} at most{unheard}. Push-pull of the textbook takes "
        f"{formats.number(found.push_pull_rounds)}, log2 of the nodes is "
        f"{formats.number(found.log2_nodes)}."
    )


def _gossip_table(found: Gossip, origin_ns: int) -> Table:
    return Table(
        title="News that went round by gossip: a node that was suspected lives",
        columns=["node", "incarnation", "said", "the last one knew", "who", "rounds", "known to"],
        rows=[
            [
                formats.value_text(each.node),
                formats.count(each.incarnation),
                formats.moment(each.begun_ns, origin_ns),
                formats.moment(each.ended_ns, origin_ns),
                formats.value_text(each.last),
                formats.count(each.rounds),
                f"{formats.count(each.heard)} of {formats.count(each.of)} others",
            ]
            for each in found.spreads
        ],
        note=formats.shown_of(len(found.spreads), found.count),
    )


def _conflict_tables(side: SideFindings) -> Iterable[Table]:
    ledger, origin_ns = side.conflicts, side.load_start_ns
    if side.gossip is not None:
        yield _gossip_table(side.gossip, origin_ns)
    if ledger.worst_keys:
        yield Table(
            title="The keys that suffered most",
            columns=["key", "vanished", "deletes undone", "differs at the end", "appeared",
                     "stale reads", "most siblings", "sibling sets", "pairs"],
            rows=[_key_row(each) for each in ledger.worst_keys],
        )  # fmt: skip
    if ledger.vanished:
        yield Table(
            title="Acknowledged writes that vanished",
            columns=["write", "key", "value", "acknowledged", "by", "in its place", "cause", "why"],
            rows=[_vanished_row(each, origin_ns) for each in ledger.vanished],
            note=formats.shown_of(len(ledger.vanished), ledger.vanished_count),
        )
    if ledger.appeared:
        yield Table(
            title="Writes that took effect without an acknowledgement",
            columns=["write", "key", "the client was told", "at", "first read"],
            rows=[_appeared_row(each, origin_ns) for each in ledger.appeared],
            note=formats.shown_of(
                len(ledger.appeared), ledger.failed_visible + ledger.unknown_visible
            ),
        )
    if side.staleness.worst:
        yield Table(
            title="The stalest reads",
            columns=["read", "key", "by", "begun", "age", "returned"],
            rows=[_stale_row(each, origin_ns) for each in side.staleness.worst],
            note=formats.shown_of(len(side.staleness.worst), side.staleness.stale),
        )
    if ledger.space_time is not None:
        yield space_time.story(ledger.space_time, origin_ns)
    if ledger.conflicts:
        yield Table(
            title="Concurrent versions and how they ended",
            columns=["key", "seen", "dot", "writer", "value", "via", "ended"],
            rows=[
                row for conflict in ledger.conflicts for row in _conflict_rows(conflict, origin_ns)
            ],
            note=formats.shown_of(len(ledger.conflicts), ledger.sibling_sets),
        )
    if ledger.pairs:
        yield Table(
            title="Pairs of concurrent writes",
            columns=["key", "writer", "via", "when", "had read", "apart", "became"],
            rows=[row for pair in ledger.pairs for row in _pair_rows(pair, origin_ns)],
            note=formats.shown_of(len(ledger.pairs), ledger.pair_count),
        )


def _key_row(each: ConflictingKey) -> list[str]:
    return [
        formats.key_text(each.key),
        formats.count(each.vanished),
        formats.count(each.undone),
        "yes" if each.differs else "no",
        formats.count(each.appeared),
        formats.count(each.stale_reads),
        formats.count(each.sibling_count_max),
        formats.count(each.sibling_sets),
        formats.count(each.pairs),
    ]


def _appeared_row(each: AppearedWrite, origin_ns: int) -> list[str]:
    error = f" ({formats.value_text(each.error)})" if each.error else ""
    return [
        formats.key_text(each.write_id),
        formats.key_text(each.key),
        f"{formats.value_text(each.outcome)}{error}",
        formats.moment(each.told_ns, origin_ns),
        formats.moment(each.seen_ns, origin_ns)
        if each.seen_ns is not None
        else "on a replica only",
    ]


def _stale_row(each: StaleRead, origin_ns: int) -> list[str]:
    return [
        f"{formats.value_text(each.client)}, operation {each.operation}",
        formats.key_text(each.key),
        formats.value_text(each.node),
        formats.moment(each.at_ns, origin_ns),
        formats.duration_ns(each.age_ns),
        _names(each.returned) or "nothing",
    ]


def _pair_rows(pair: ConcurrentPair, origin_ns: int) -> Iterable[list[str]]:
    apart = "overlap" if pair.apart_ns is None else formats.duration_ns(pair.apart_ns)
    for write in (pair.first, pair.second):
        first = write is pair.first
        begun = formats.moment(write.begun_ns, origin_ns)
        ended = formats.moment(write.ended_ns, origin_ns)
        doubt = "" if write.outcome == "ok" else f" ({formats.value_text(write.outcome)})"
        yield [
            formats.key_text(pair.key) if first else "",
            formats.value_text(write.write_id) + doubt,
            formats.value_text(write.node),
            f"{begun} to {ended}",
            _names(write.context) or "nothing",
            apart if first else "",
            formats.sentence(pair.became) if first else "",
        ]


def _names(write_ids: list[str]) -> str:
    shown = ", ".join(formats.value_text(each) for each in write_ids[:NAMES_MAX])
    rest = len(write_ids) - NAMES_MAX
    return f"{shown} and {formats.count(rest)} more" if rest > 0 else shown


def _vanished_row(write: VanishedWrite, origin_ns: int) -> list[str]:
    return [
        formats.key_text(write.write_id),
        formats.key_text(write.key),
        formats.value_text(write.value),
        formats.moment(write.acknowledged_ns, origin_ns),
        formats.value_text(write.acknowledged_by),
        formats.value_text(write.winner),
        formats.sentence(write.cause) or formats.DASH,
        formats.sentence(write.why),
    ]


def _conflict_rows(conflict: Conflict, origin_ns: int) -> Iterable[list[str]]:
    """Yield a row per version; only the first one repeats what they share."""
    seen = formats.moment(conflict.at_ns, origin_ns)
    if conflict.node:
        seen += f" on {formats.value_text(conflict.node)}"
    ended = formats.sentence(conflict.ended)
    if conflict.ended_at_ns is not None:
        ended += f" at {formats.moment(conflict.ended_at_ns, origin_ns)}"
    shown: list[dict[str, Any]] = conflict.versions[:VERSIONS_MAX] or [{}]
    for position, version in enumerate(shown):
        first = position == 0
        yield [
            formats.key_text(conflict.key) if first else "",
            seen if first else "",
            formats.value_text(version.get("dot")),
            _writer(version),
            _value(version),
            formats.value_text(version.get("node")),
            ended if first else "",
        ]
    hidden = len(conflict.versions) - len(shown)
    if hidden > 0:
        yield ["", "", f"and {formats.plural(hidden, 'more version')}", "", "", "", ""]


def _writer(version: dict[str, Any]) -> str:
    """Return the write id, or the client where a version carries none; acknowledged unless said."""
    outcome = version.get("outcome") or "ok"
    doubt = "" if outcome == "ok" else f" ({formats.value_text(outcome)})"
    return formats.value_text(version.get("write_id") or version.get("client")) + doubt


def _value(version: dict[str, Any]) -> str:
    return "tombstone" if version.get("tombstone") else formats.value_text(version.get("value"))


def convergence(run: RunFindings) -> list[Chapter]:
    """Return how each side's replicas became equal after healing."""
    return [_convergence(name, side) for name, side in run.sides.items()]


def _convergence(name: str, side: SideFindings) -> Chapter:
    report = side.convergence
    if not report.keys:
        return Chapter(name, ["The replicas were not compared."])
    healed = formats.moment(report.heal_ns, side.load_start_ns)
    if report.converged_ns is None:
        words = f"Healed at {healed}; the replicas were not equal while the run watched."
    else:
        after = formats.duration_ns(report.after_heal_ns)
        words = f"Healed at {healed}; all replicas were equal {after} later."
    keys = f"{formats.plural(report.keys, 'key')} compared"
    if report.differing_at_heal is not None:
        keys += f", {formats.count(report.differing_at_heal)} differed when healed"
    keys += f", {formats.count(len(report.differing_at_end))} differ at the end."
    sentences = [words, keys]
    if report.watched and report.watched[0][0] >= report.heal_ns:
        sentences.append(
            "Compared from healing on: asking real nodes for all they hold would disturb the load."
        )
    if report.differing_at_end:
        listed = report.differing_at_end[:DIFFERING_KEYS_MAX]
        rest = len(report.differing_at_end) - len(listed)
        more = f" and {formats.count(rest)} more" if rest else ""
        names = ", ".join(formats.key_text(key) for key in listed)
        sentences.append(f"Keys that differ: {names}{more}.")
    return Chapter(name, sentences)
