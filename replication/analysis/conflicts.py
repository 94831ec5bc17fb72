"""No acknowledged write vanished: nobody overwrote what he had not read.

**Vanished** is an acknowledged write that is not among the final versions of its key and that no
accepted write covers: nobody who overwrote it had seen it. ``based_on`` of a write are the ids that
its context covered, so it is enough that any accepted write covers it directly: what covers that
one covers this one too.

With siblings (dotted version vectors) this must never happen: whatever no writer had read is kept
beside the others. With last-write-wins it is the price, and this is the number: of two writes that
know nothing of each other one is dropped. A blind write that replaces an earlier, acknowledged one
counts as well, though a register would call that plain overwriting: siblings would have kept both.
A delete counts like a put, unless nothing is left of the key, or it was purged: then it is in
force. Not so if a version that it had read is there again.

With one order per key (``single_register``) overwriting is what put means: nothing vanishes here
(what is lost all the same, ``durability`` tells), but a read of siblings breaks the promise.
"""

from bisect import bisect_right
from collections import Counter

from replication.analysis import pairs, words
from replication.analysis.causes import cause
from replication.analysis.conflict_findings import AppearedWrite, ConflictLedger, VanishedWrite
from replication.analysis.coverage import conclude, coverage
from replication.analysis.findings import Finding, Verdict, Witness
from replication.analysis.promised import promises_no_vanished_writes
from replication.analysis.registers import Impossible
from replication.analysis.repairs import repairs
from replication.analysis.siblings import (
    concurrent_writes,
    conflicts,
    covered_by,
    endings,
    episodes,
    left,
    purged_deletes,
)
from replication.analysis.view import View
from replication.analysis.words import plural
from replication.analysis.worst_keys import conflicting_keys, space_time
from replication.history import Operation, OperationKind, Outcome, SeenVersion

NAME = "conflicts"
TITLE = "No write overwritten unread"
WITNESSES_MAX = 5
VANISHED_MAX = 100
APPEARED_MAX = 100
OPEN_SETS_POINTS = 300


def ledger(view: View) -> ConflictLedger:
    """Return what concurrency did to the data; call through ``View.once``."""
    told = view.once(episodes)
    gone = view.once(vanished)
    kept = [each for each in told.found if each.dropped_by is None]
    shown = view.once(appeared)
    endings_found = view.once(endings)
    worst = conflicting_keys(view, gone, shown)
    return ConflictLedger(
        concurrent_writes=concurrent_writes(view),
        sibling_sets=len(kept),
        siblings_at_end=sum(_has_siblings(view, key) for key in view.by_key),
        sibling_count_max=told.largest,
        resolved=sum(1 for each in kept if each.resolved_by is not None and not left(view, each)),
        dropped_by_timestamp=len(told.dropped),
        read_repairs=sum(1 for event in view.history.events if event.name == "read_repaired"),
        vanished=[_vanished(view, each) for each in gone[:VANISHED_MAX]],
        vanished_count=len(gone),
        conflicts=conflicts(view, told.found),
        pair_count=sum(each.count for each in view.once(pairs.pairs).values()),
        pairs=pairs.told(view),
        ended=endings_found.ways,
        resolvers=dict(Counter(endings_found.resolvers).most_common()),
        vanished_by_cause=dict(
            Counter(cause(view, each, _winner(view, each)) for each in gone).most_common()
        ),
        failed_visible=sum(1 for each in shown if each.outcome is Outcome.FAIL),
        unknown_visible=sum(1 for each in shown if each.outcome is Outcome.UNKNOWN),
        appeared=[_appeared(view, each) for each in shown[:APPEARED_MAX]],
        worst_keys=worst,
        open_sets=_open_sets(view, endings_found.spans),
        repairs=repairs(view),
        space_time=space_time(view, worst, gone),
    )


def appeared(view: View) -> list[Operation]:
    """Return the writes that took effect without an acknowledgement; call through ``View.once``.

    Failed ones first: they broke a promise. An unknown one may take effect, and it did.
    """
    final = {version.write_id for key in view.by_key for version in view.final_versions(key) or ()}
    found = [
        each
        for write_id, each in view.writes.items()
        if each.outcome is not Outcome.OK and (write_id in final or write_id in view.first_seen_ns)
    ]
    return sorted(found, key=lambda each: (each.outcome is not Outcome.FAIL, each.invoke_ns))


def _appeared(view: View, write: Operation) -> AppearedWrite:
    write_id = write.write_id or ""
    return AppearedWrite(
        write_id,
        write.key,
        write.client,
        write.outcome.value,
        write.error,
        write.complete_ns,
        view.first_seen_ns.get(write_id),
    )


def _open_sets(view: View, spans: list[tuple[int, int | None]]) -> list[tuple[int, int]]:
    """Return how many sibling sets were there at even distances in time."""
    history = view.history
    start_ns, end_ns = history.load_start_ns, history.settle_end_ns
    if not spans or end_ns <= start_ns:
        return []
    begun = sorted(begin for begin, _ in spans)
    ended = sorted(end for _, end in spans if end is not None)
    moments = [start_ns + (end_ns - start_ns) * n // OPEN_SETS_POINTS
               for n in range(OPEN_SETS_POINTS + 1)]  # fmt: skip
    return [(at_ns, bisect_right(begun, at_ns) - bisect_right(ended, at_ns)) for at_ns in moments]


def _has_siblings(view: View, key: str) -> bool:
    """Return whether one reader, or one owner, sees more than one version at the end."""
    return any(len(read.seen) > 1 for read in view.final_reads.get(key, ())) or any(
        len(contents.versions) > 1 for contents in view.held.get(key, ())
    )


def vanished(view: View) -> list[Operation]:
    """Return the vanished writes in order of their acknowledgement; call through ``View.once``."""
    if view.history.single_register:
        return []
    coverers = view.once(covered_by)
    purged = view.once(purged_deletes)
    found = []
    for key, operations in view.by_key.items():
        finals = view.final_versions(key)
        if finals is None:
            continue
        kept = {version.write_id for version in finals}
        found += [
            each
            for each in operations
            if each.outcome is Outcome.OK
            and each.write_id in view.writes
            and each.write_id not in kept
            and each.write_id not in coverers
            and not (each.kind is OperationKind.DELETE and not finals)
            and (each.write_id not in purged or not kept.isdisjoint(each.based_on))
        ]
    found.sort(key=lambda each: (each.complete_ns or 0, each.index))
    return found


def _vanished(view: View, write: Operation) -> VanishedWrite:
    assert write.write_id is not None, "a write has an id"
    assert write.complete_ns is not None, "an acknowledged write has ended"
    winner = _winner(view, write)
    return VanishedWrite(
        write.write_id,
        write.key,
        write.value,
        write.client,
        write.complete_ns,
        write.node,
        _why(view, write, winner),
        winner,
        cause(view, write, winner),
    )


def _winner(view: View, write: Operation) -> str | None:
    """Return the write that stands in its place: as the nodes tell, or the newest that is left."""
    dropped = view.once(episodes).dropped.get(write.write_id or "")
    if dropped is not None:
        return dropped
    finals = view.final_versions(write.key) or []
    if write.kind is OperationKind.DELETE:
        # What it had deleted and is back says more than what is newest.
        finals = [each for each in finals if each.write_id in write.based_on] or finals
    newest = max(finals, key=lambda each: (_rank(view, each), each.write_id), default=None)
    return None if newest is None else newest.write_id


def _rank(view: View, version: SeenVersion) -> tuple[int, int]:
    write = view.writes.get(version.write_id)
    return version.timestamp_ns or 0, 0 if write is None else write.invoke_ns


def _why(view: View, write: Operation, winner: str | None) -> str:
    if winner is None:
        return "nothing is left of the key, and no write or delete that had read it explains that"
    if winner in write.based_on:
        return f"{winner}, which it had read, can be read again"
    dropped = view.once(episodes).dropped.get(write.write_id or "")
    replacing = view.writes.get(winner)
    by = "" if replacing is None else f" of {replacing.client}"
    how = "dropped by last-write-wins for" if dropped is not None else "gone, and in its place is"
    return f"{how} {winner}{by}, which had not read it{_apart(write, replacing)}"


def _apart(write: Operation, other: Operation | None) -> str:
    """Say how the two writes lay in time."""
    if other is None or write.complete_ns is None:
        return ""
    if other.invoke_ns > write.complete_ns:
        after = words.milliseconds(other.invoke_ns - write.complete_ns)
        return f"; it began {after} after the acknowledgement"
    if other.complete_ns is not None and other.complete_ns < write.invoke_ns:
        before = words.milliseconds(write.invoke_ns - other.complete_ns)
        return f"; it had even ended {before} before this write began, so clocks disagreed"
    return "; both were under way at once"


def check(view: View) -> Finding:
    """Return whether every acknowledged write was kept or overwritten by somebody who knew it."""
    gone = view.once(vanished)
    acknowledged = sum(view.tally[kind, Outcome.OK] for kind in OperationKind if kind.is_write)
    finding = Finding(
        NAME,
        TITLE,
        Verdict.VALID,
        f"{len(gone):,} of {plural(acknowledged, 'acknowledged write')} vanished",
        coverage(view, reads=False, judged=acknowledged),
        promised=promises_no_vanished_writes(view),
        counts={"vanished": len(gone)},
    )
    if view.history.single_register:
        _judge_register(view, finding)
    else:
        _judge_vanished(view, finding, gone)
    return conclude(view, finding)


def _judge_register(view: View, finding: Finding) -> None:
    """One order per key: more than one live version in a read is a violation by itself."""
    seen = [
        each
        for each in view.history.operations
        if each.outcome is Outcome.OK
        and len(each.seen) > 1
        and sum(1 for version in each.seen if not version.tombstone) > 1
    ]
    finding.counts["sibling_reads"] = len(seen)
    finding.summary = (
        "one order per key: a put replaces what it finds"
        if not seen
        else f"{plural(len(seen), 'read')} returned siblings where one order per key is promised"
    )
    if seen:
        finding.verdict = Verdict.VIOLATED
        finding.violations = len(seen)
        finding.witnesses = [
            Impossible(each, "siblings").witness(view) for each in seen[:WITNESSES_MAX]
        ]


def _judge_vanished(view: View, finding: Finding, gone: list[Operation]) -> None:
    if gone:
        finding.verdict = Verdict.VIOLATED
        finding.violations = len(gone)
        finding.witnesses = [_witness(view, each) for each in gone[:WITNESSES_MAX]]
    elif view.history.interrupted or not _looked_at_all(view):
        finding.verdict = Verdict.UNKNOWN
        finding.coverage.notes.append(
            "not every key was read at the end: what is left of the others is not known"
        )


def _looked_at_all(view: View) -> bool:
    return all(
        view.final_versions(key) is not None
        for key, operations in view.by_key.items()
        if any(each.kind.is_write and each.outcome is Outcome.OK for each in operations)
    )


def _witness(view: View, write: Operation) -> Witness:
    told = _vanished(view, write)
    winner = view.writes.get(told.winner or "")
    text = (
        f"{write.client}'s {words.write(view, told.write_id)} of {write.key} was acknowledged"
        f"{words.served(write)} at {words.moment(view, told.acknowledged_ns)} and vanished: "
        f"{told.why}."
    )
    indexes = [write.index] if winner is None else [write.index, winner.index]
    return Witness(text, write.key, indexes, told.acknowledged_ns)
