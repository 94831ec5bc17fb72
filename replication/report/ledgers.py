"""What concurrency did, step by step: conflicts, vanished writes and convergence, per side."""

from collections.abc import Iterable
from typing import Any

from replication.analysis.findings import (
    Conflict,
    ConflictLedger,
    RunFindings,
    SideFindings,
    VanishedWrite,
)
from replication.report import formats
from replication.report.model import Chapter, Table

DIFFERING_KEYS_MAX = 50
VERSIONS_MAX = 10


def conflicts(run: RunFindings) -> list[Chapter]:
    """Return the conflict ledger of every side."""
    return [
        Chapter(
            side=name,
            sentences=[
                _conflict_sentence(side.conflicts)
                if any(side.operations.values())
                else "No operation was measured."
            ],
            tables=list(_conflict_tables(side)),
        )
        for name, side in run.sides.items()
    ]


def _conflict_sentence(ledger: ConflictLedger) -> str:
    if not ledger.concurrent_writes and not ledger.sibling_sets and not ledger.vanished_count:
        return "No concurrent versions were seen and no acknowledged write vanished."
    return (
        f"{formats.plural(ledger.concurrent_writes, 'acknowledged write')} overlapped another of "
        f"the same key, unseen by each. {formats.plural(ledger.sibling_sets, 'sibling set')} made "
        f"(at most {formats.count(ledger.sibling_count_max)} siblings), "
        f"{formats.count(ledger.resolved)} resolved by a later write, "
        f"{formats.plural(ledger.siblings_at_end, 'key')} with siblings left at the end; "
        f"{formats.plural(ledger.dropped_by_timestamp, 'version')} dropped by timestamp; "
        f"{formats.plural(ledger.read_repairs, 'read repair')}; "
        f"{formats.plural(ledger.vanished_count, 'acknowledged write')} vanished."
    )


def _conflict_tables(side: SideFindings) -> Iterable[Table]:
    ledger = side.conflicts
    if ledger.vanished:
        yield Table(
            title="Acknowledged writes that vanished",
            columns=["write", "key", "value", "acknowledged", "by", "in its place", "why"],
            rows=[_vanished_row(each, side.load_start_ns) for each in ledger.vanished],
            note=_shown_of(len(ledger.vanished), ledger.vanished_count),
        )
    if ledger.conflicts:
        yield Table(
            title="Concurrent versions and how they ended",
            columns=["key", "seen", "dot", "writer", "value", "via", "ended"],
            rows=[
                row
                for conflict in ledger.conflicts
                for row in _conflict_rows(conflict, side.load_start_ns)
            ],
            note=_shown_of(len(ledger.conflicts), ledger.sibling_sets),
        )


def _shown_of(shown: int, total: int) -> str:
    return f"The first {formats.count(shown)} of {formats.count(total)}." if total > shown else ""


def _vanished_row(write: VanishedWrite, origin_ns: int) -> list[str]:
    return [
        formats.key_text(write.write_id),
        formats.key_text(write.key),
        formats.value_text(write.value),
        formats.moment(write.acknowledged_ns, origin_ns),
        formats.value_text(write.acknowledged_by),
        formats.value_text(write.winner),
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
    if report.differing_at_end:
        listed = report.differing_at_end[:DIFFERING_KEYS_MAX]
        rest = len(report.differing_at_end) - len(listed)
        more = f" and {formats.count(rest)} more" if rest else ""
        names = ", ".join(formats.key_text(key) for key in listed)
        sentences.append(f"Keys that differ: {names}{more}.")
    return Chapter(name, sentences)
