"""The rows of results.db.

Every id is made of names, so links to rows stay good when a run is imported again. Times are
milliseconds after the load began (``_ms``), as the page has them.
"""

import json
from collections.abc import Iterable
from typing import Any

from replication.analysis.conflict_findings import Conflict
from replication.analysis.findings import FailoverPrediction, RunFindings, SideFindings
from replication.analysis.meanwhile import Handoff, MemberChange, SnapshotInstall
from replication.report import formats
from replication.report.results_schema import TABLES

Record = dict[str, Any]


def rows(run_id: str, run: RunFindings) -> dict[str, list[Record]]:
    """Return the records of every table, parents before children."""
    records: dict[str, list[Record]] = {table: [] for table in TABLES}
    records["runs"].append(
        {
            "id": run_id,
            "scenario": run.name,
            "title": run.title,
            "question": run.question,
            "seed": str(run.seed),  # SQLite's integers end at 63 bits
            "started": formats.iso(run.started_unix_ns),
            "verdict": str(run.verdict),
            "again": run.again,
            "versions": json.dumps(run.versions),
        }
    )
    for name, side in run.sides.items():
        side_id = f"{run_id}-{name}"
        records["sides"].append(_side(side_id, run_id, name, side))
        _add_findings(records, side_id, side)
        _add_faults(records, side_id, side)
        _add_conflicts(records, side_id, side)
        _add_measures(records, side_id, side)
        _add_leadership(records, side_id, side)
        _add_catching_up(records, side_id, side)
    for number, each in enumerate(run.expectations, 1):
        known = each.side in run.sides
        records["expectations"].append(
            {
                "id": f"{run_id}-expect-{number}",
                "run": run_id,
                "side": f"{run_id}-{each.side}" if known else None,
                "place": each.place,
                "expected": each.words,
                "observed": each.observed,
                "verdict": str(each.verdict),
            }
        )
    return {
        table: [{name: _storable(value) for name, value in each.items()} for each in found]
        for table, found in records.items()
    }


def _storable(value: Any) -> Any:
    """Escape what SQLite cannot encode (lone surrogates); keep all else as it is."""
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    return value


def _ms(nanoseconds: int | None, origin_ns: int = 0) -> float | None:
    return None if nanoseconds is None else round((nanoseconds - origin_ns) / 1_000_000, 6)


def _side(side_id: str, run_id: str, name: str, side: SideFindings) -> Record:
    origin = side.load_start_ns
    return {
        "id": side_id,
        "run": run_id,
        "side": name,
        "backend": side.backend,
        "title": side.title,
        "promise": side.promise,
        "verdict": str(side.verdict),
        "simulated": int(side.simulated),
        "generator_bound": int(side.generator_bound),
        "interrupted": int(side.interrupted),
        "problems": json.dumps(side.problems),
        "nodes": len(side.nodes),
        "load_ms": _ms(side.load_end_ns, origin),
        "healed_ms": _ms(side.convergence.heal_ns, origin),
        "converged_after_heal_ms": _ms(side.convergence.after_heal_ns),
        "throughput_per_s": side.throughput_per_s,
        "ok": side.operations.get("ok", 0),
        "fail": side.operations.get("fail", 0),
        "unknown": side.operations.get("unknown", 0),
        "messages_per_operation": side.messages_per_operation,
        "bytes_per_operation": side.bytes_per_operation,
        "cpu_us_per_operation": side.cpu_us_per_operation,
        "fdatasync_ms_p50": side.fdatasync_ms_p50,
        "fdatasync_ms_p99": side.fdatasync_ms_p99,
        "concurrent_writes": side.conflicts.concurrent_writes,
        "sibling_sets": side.conflicts.sibling_sets,
        "siblings_at_end": side.conflicts.siblings_at_end,
        "sibling_count_max": side.conflicts.sibling_count_max,
        "resolved": side.conflicts.resolved,
        "dropped_by_timestamp": side.conflicts.dropped_by_timestamp,
        "read_repairs": side.conflicts.read_repairs,
        "vanished_writes": side.conflicts.vanished_count,
        "stale_reads": side.staleness.stale,
        "stale_share": side.staleness.share,
        "stale_age_ms_p99": side.staleness.p99_age_ms,
        "settings": json.dumps(side.settings, default=str),
    }


def _add_findings(records: dict[str, list[Record]], side_id: str, side: SideFindings) -> None:
    for check, finding in side.findings.items():
        finding_id = f"{side_id}-{check}"
        records["findings"].append(
            {
                "id": finding_id,
                "side": side_id,
                "check_name": check,
                "title": finding.title,
                "verdict": str(finding.verdict),
                "promised": int(finding.promised),
                "violations": finding.violations,
                "summary": finding.summary,
                "judged": finding.coverage.judged,
                "keys": finding.coverage.keys,
                "notes": json.dumps(finding.coverage.notes),
                "seconds": finding.seconds,
            }
        )
        for number, witness in enumerate(finding.witnesses, 1):
            records["witnesses"].append(
                {
                    "id": f"{finding_id}-{number}",
                    "finding": finding_id,
                    "words": witness.words,
                    "key": witness.key,
                    "at_ms": _ms(witness.at_ns, side.load_start_ns),
                    "operations": json.dumps(witness.operations),
                }
            )


def _add_faults(records: dict[str, list[Record]], side_id: str, side: SideFindings) -> None:
    origin = side.load_start_ns
    for fault in side.faults:
        records["faults"].append(
            {
                "id": f"{side_id}-fault-{fault.number}",
                "side": side_id,
                "number": fault.number,
                "kind": fault.kind,
                "words": fault.words,
                "planned_ms": _ms(fault.planned_ns, origin),
                "injected_ms": _ms(fault.injected_ns, origin),
                "healed_ms": _ms(fault.healed_ns, origin),
                "nodes": json.dumps(fault.nodes),
                "evidence": json.dumps(fault.evidence),
                "effective": int(fault.effective),
                "problem": fault.problem,
            }
        )
    known = {fault.number for fault in side.faults}
    for failover in side.failovers:
        failover_id = f"{side_id}-failover-{failover.fault}"
        records["failovers"].append(
            {
                "id": failover_id,
                "side": side_id,
                "fault": f"{side_id}-fault-{failover.fault}" if failover.fault in known else None,
                "words": failover.words,
                "write_outage_ms": _ms(failover.write_outage_ns),
                "read_outage_ms": _ms(failover.read_outage_ns),
                "failed": failover.failed,
                "unknown": failover.unknown,
                "redirected": failover.redirected,
                "elections": failover.elections,
                "terms": failover.terms,
                "truncated_entries": failover.truncated_entries,
                "truncated_acknowledged": failover.truncated_acknowledged,
                "old_leader_returned_ms": _ms(failover.old_leader_returned_ns, origin),
                "left_the_leader_alone": int(failover.left_the_leader_alone),
                "split_votes": failover.split_votes,
                "pre_votes": failover.pre_votes,
                "handed_over": int(failover.handed_over),
                **_prediction(failover.prediction),
            }
        )
        for number, step in enumerate(failover.steps, 1):
            records["failover_steps"].append(
                {
                    "id": f"{failover_id}-{number}",
                    "failover": failover_id,
                    "step": step.name,
                    "at_ms": _ms(step.at_ns, origin),
                    "after_fault_ms": _ms(step.after_fault_ns),
                    "detail": step.detail,
                }
            )


def _prediction(expected: FailoverPrediction | None) -> Record:
    return {
        "predicted_ms": None if expected is None else _ms(expected.detected_ns),
        "predicted_low_ms": None if expected is None else _ms(expected.detected_low_ns),
        "predicted_high_ms": None if expected is None else _ms(expected.detected_high_ns),
        "predicted_elected_ms": None if expected is None else _ms(expected.elected_ns),
    }


def _add_conflicts(records: dict[str, list[Record]], side_id: str, side: SideFindings) -> None:
    origin = side.load_start_ns
    for number, conflict in enumerate(side.conflicts.conflicts, 1):
        records["conflicts"].append(
            {
                "id": f"{side_id}-conflict-{number}",
                "side": side_id,
                "key": conflict.key,
                "at_ms": _ms(conflict.at_ns, origin),
                "node": conflict.node,
                "writers": ", ".join(_writers(conflict)),
                "versions": json.dumps(conflict.versions, default=str),
                "ended": conflict.ended,
                "ended_ms": _ms(conflict.ended_at_ns, origin),
            }
        )
    for number, write in enumerate(side.conflicts.vanished, 1):
        records["vanished_writes"].append(
            {
                "id": f"{side_id}-vanished-{number}",
                "side": side_id,
                "write_id": write.write_id,
                "key": write.key,
                "value": write.value,
                "client": write.client,
                "acknowledged_ms": _ms(write.acknowledged_ns, origin),
                "acknowledged_by": write.acknowledged_by,
                "why": write.why,
                "winner": write.winner,
            }
        )


def _writers(conflict: Conflict) -> Iterable[str]:
    for version in conflict.versions:
        yield str(version.get("write_id") or version.get("client") or "?")


def _add_measures(records: dict[str, list[Record]], side_id: str, side: SideFindings) -> None:
    for name, found in side.availability.items():
        records["availability"].append(
            {
                "id": f"{side_id}-{name}",
                "side": side_id,
                "operations": name,
                "ok": found.ok,
                "fail": found.fail,
                "unknown": found.unknown,
                "ok_share": found.ok_share,
                "longest_outage_ms": _ms(found.longest_outage_ns),
                "outage_start_ms": _ms(found.outage_start_ns, side.load_start_ns),
                "unavailable_buckets": found.unavailable_buckets,
            }
        )
    for name, latency in (("reads", side.reads), ("writes", side.writes)):
        records["latency"].append(
            {
                "id": f"{side_id}-{name}",
                "side": side_id,
                "operations": name,
                "count": latency.count,
                "p50_ms": latency.p50_ms,
                "p90_ms": latency.p90_ms,
                "p99_ms": latency.p99_ms,
                "p999_ms": latency.p999_ms,
                "max_ms": latency.max_ms,
            }
        )


def _add_leadership(records: dict[str, list[Record]], side_id: str, side: SideFindings) -> None:
    origin = side.load_start_ns
    for number, both in enumerate(side.split_brains, 1):
        records["split_brains"].append(
            {
                "id": f"{side_id}-split-brain-{number}",
                "side": side_id,
                "old": both.old,
                "old_term": both.old_term,
                "new": both.new,
                "new_term": both.new_term,
                "start_ms": _ms(both.start_ns, origin),
                "end_ms": _ms(both.end_ns, origin),
                "old_writes": both.old_writes,
                "new_writes": both.new_writes,
                "lost_count": both.lost_count,
                "lost": json.dumps(both.lost),
            }
        )
    for number, lease in enumerate(side.leases, 1):
        records["leases"].append(
            {
                "id": f"{side_id}-lease-{number}",
                "side": side_id,
                "node": lease.node,
                "term": lease.term,
                "start_ms": _ms(lease.start_ns, origin),
                "end_ms": _ms(lease.end_ns, origin),
                "why": lease.why,
            }
        )


def _add_catching_up(records: dict[str, list[Record]], side_id: str, side: SideFindings) -> None:
    origin = side.load_start_ns
    for number, install in enumerate(side.snapshots, 1):
        records["snapshots"].append(
            {
                "id": f"{side_id}-snapshot-{number}",
                "side": side_id,
                "node": install.node,
                "sender": install.sender,
                "log_index": install.index,
                "start_ms": _ms(install.start_ns, origin),
                "end_ms": _ms(install.end_ns, origin),
                "duration_ms": _ms(install.duration_ns),
                "bytes": install.bytes,
                "bytes_sent": install.bytes_sent,
                **_meanwhile(install),
            }
        )
    for number, handoff in enumerate(side.handoffs, 1):
        records["handoffs"].append(
            {
                "id": f"{side_id}-handoff-{number}",
                "side": side_id,
                "node": handoff.node,
                "start_ms": _ms(handoff.start_ns, origin),
                "end_ms": _ms(handoff.end_ns, origin),
                "duration_ms": _ms(handoff.duration_ns),
                "hints": handoff.hints,
                "bytes": handoff.bytes,
                "senders": handoff.senders,
                "refused_count": handoff.refused_count,
                "refused": json.dumps(handoff.refused),
                **_meanwhile(handoff),
            }
        )
    for number, change in enumerate(side.member_changes, 1):
        records["member_changes"].append(
            {
                "id": f"{side_id}-member-change-{number}",
                "side": side_id,
                "words": change.words,
                "start_ms": _ms(change.start_ns, origin),
                "end_ms": _ms(change.end_ns, origin),
                "duration_ms": _ms(change.duration_ns),
                "keys": change.keys,
                "bytes": change.bytes,
                **_meanwhile(change),
            }
        )
    if side.gossip is not None:
        records["gossip"].append(
            {
                "id": f"{side_id}-gossip",
                "side": side_id,
                "nodes": side.gossip.nodes,
                "news": side.gossip.count,
                "unheard": side.gossip.unheard,
                "rounds_worst": side.gossip.rounds_worst,
                "round_ms": _ms(side.gossip.round_ns),
                "rounds_mean": side.gossip.rounds_mean,
                "push_pull_rounds": side.gossip.push_pull_rounds,
                "push_pull_ratio": side.gossip.push_pull_ratio,
                "log2_nodes": side.gossip.log2_nodes,
            }
        )


def _meanwhile(each: SnapshotInstall | Handoff | MemberChange) -> Record:
    return {
        "count": each.during.count,
        "p50_ms": each.during.p50_ms,
        "p99_ms": each.during.p99_ms,
        "p50_before_ms": each.before.p50_ms,
        "p99_before_ms": each.before.p99_ms,
    }
