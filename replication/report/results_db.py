"""results.db: all runs in one SQLite file, made for SQL and for Datasette.

Importing a run again replaces its rows; every id is made of names, so links to rows stay good.
Times are milliseconds after the load began (``_ms``), as the page has them. Two runs may write at
the same time: each import is one transaction that takes the write lock before it reads (a read
that turns into a write could only fail), and waits for the other one.
"""

import json
import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from replication.analysis.conflict_findings import Conflict
from replication.analysis.findings import RunFindings, SideFindings
from replication.errors import ConfigError
from replication.report import formats
from replication.report.results_schema import MIGRATIONS, SCHEMA_VERSION, TABLES, create_views

BUSY_TIMEOUT_S = 30.0
Record = dict[str, Any]


def import_run(path: Path, run_id: str, run: RunFindings) -> None:
    """Write ``run`` under the name of its folder; what stood under that name is replaced.

    Raises ConfigError when the file is no results database or was made by a newer version.
    """
    with closing(_open(path)) as connection:
        database = Database(connection)
        connection.execute("BEGIN IMMEDIATE")
        try:
            _upgrade(database, path)
            # Children go with it: ON DELETE CASCADE.
            connection.execute("DELETE FROM runs WHERE id = ?", [run_id])
            for table, records in _rows(run_id, run).items():
                if records:
                    database.table(table).insert_all(records)
        except BaseException:
            connection.rollback()
            raise
        connection.commit()


def verdicts(path: Path) -> dict[str, str]:
    """Return run folder name -> verdict of what was imported; empty when there is nothing."""
    if not path.is_file():
        return {}
    try:
        with closing(_open(path)) as connection:
            return dict(connection.execute("SELECT id, verdict FROM runs"))
    except (sqlite3.Error, ConfigError):
        return {}  # the caller reads findings.json instead


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)
    try:
        connection.execute("PRAGMA foreign_keys = ON")
        _enable_wal(connection)
    except sqlite3.DatabaseError as error:
        connection.close()
        raise ConfigError([f"{path}: {error}"]) from None
    return connection


def _enable_wal(connection: sqlite3.Connection) -> None:
    """Let readers and a writer work at once. The switch itself ignores the busy timeout."""
    give_up = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > give_up:
                raise
            time.sleep(0.01)
        else:
            return


def _upgrade(database: Database, path: Path) -> None:
    version = database.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        known = f"schema {version}, this version knows {SCHEMA_VERSION}"
        raise ConfigError([f"{path} has {known}: upgrade, or move the file away"])
    for migration in MIGRATIONS[version:]:
        migration(database)
    if version < SCHEMA_VERSION:
        create_views(database)
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _rows(run_id: str, run: RunFindings) -> dict[str, list[Record]]:
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
        table: [{name: _storable(value) for name, value in each.items()} for each in rows]
        for table, rows in records.items()
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
