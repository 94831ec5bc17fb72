"""The schema of results.db. A change is a new migration at the end and a higher version."""

from collections.abc import Callable
from functools import partial
from typing import Any

from sqlite_utils import Database

_SIDE = ("side", "sides")
# table -> (columns, foreign keys); parents before children.
_Tables = dict[str, tuple[dict[str, type], list[tuple[str, str]]]]
_FIRST: _Tables = {
    "runs": (
        {
            **dict.fromkeys(("id", "scenario", "title", "question", "seed", "started"), str),
            **dict.fromkeys(("verdict", "again", "versions"), str),
        },
        [],
    ),
    "sides": (
        {
            **dict.fromkeys(("id", "run", "side", "backend", "title", "promise", "verdict"), str),
            **dict.fromkeys(("simulated", "generator_bound", "interrupted"), int),
            "problems": str,
            "nodes": int,
            **dict.fromkeys(("load_ms", "healed_ms", "converged_after_heal_ms"), float),
            "throughput_per_s": float,
            **dict.fromkeys(("ok", "fail", "unknown"), int),
            **dict.fromkeys(("messages_per_operation", "bytes_per_operation"), float),
            **dict.fromkeys(("cpu_us_per_operation", "fdatasync_ms_p50"), float),
            "fdatasync_ms_p99": float,
            **dict.fromkeys(("concurrent_writes", "sibling_sets", "siblings_at_end"), int),
            **dict.fromkeys(("sibling_count_max", "resolved", "dropped_by_timestamp"), int),
            **dict.fromkeys(("read_repairs", "vanished_writes", "stale_reads"), int),
            **dict.fromkeys(("stale_share", "stale_age_ms_p99"), float),
            "settings": str,
        },
        [("run", "runs")],
    ),
    "findings": (
        {
            **dict.fromkeys(("id", "side", "check_name", "title", "verdict"), str),
            **dict.fromkeys(("promised", "violations"), int),
            "summary": str,
            **dict.fromkeys(("judged", "keys"), int),
            "notes": str,
            "seconds": float,
        },
        [_SIDE],
    ),
    "witnesses": (
        {
            **dict.fromkeys(("id", "finding", "words", "key"), str),
            "at_ms": float,
            "operations": str,
        },
        [("finding", "findings")],
    ),
    "expectations": (
        dict.fromkeys(("id", "run", "side", "place", "expected", "observed", "verdict"), str),
        [("run", "runs"), _SIDE],
    ),
    "faults": (
        {
            **dict.fromkeys(("id", "side"), str),
            "number": int,
            **dict.fromkeys(("kind", "words"), str),
            **dict.fromkeys(("planned_ms", "injected_ms", "healed_ms"), float),
            **dict.fromkeys(("nodes", "evidence"), str),
            "effective": int,
            "problem": str,
        },
        [_SIDE],
    ),
    "failovers": (
        {
            **dict.fromkeys(("id", "side", "fault", "words"), str),
            **dict.fromkeys(("write_outage_ms", "read_outage_ms"), float),
            **dict.fromkeys(("failed", "unknown", "redirected", "elections", "terms"), int),
            **dict.fromkeys(("truncated_entries", "truncated_acknowledged"), int),
            "old_leader_returned_ms": float,
            "left_the_leader_alone": int,
        },
        [_SIDE, ("fault", "faults")],
    ),
    "failover_steps": (
        {
            **dict.fromkeys(("id", "failover", "step"), str),
            **dict.fromkeys(("at_ms", "after_fault_ms"), float),
            "detail": str,
        },
        [("failover", "failovers")],
    ),
    "conflicts": (
        {
            **dict.fromkeys(("id", "side", "key"), str),
            "at_ms": float,
            **dict.fromkeys(("node", "writers", "versions", "ended"), str),
            "ended_ms": float,
        },
        [_SIDE],
    ),
    "vanished_writes": (
        {
            **dict.fromkeys(("id", "side", "write_id", "key", "value", "client"), str),
            "acknowledged_ms": float,
            **dict.fromkeys(("acknowledged_by", "why", "winner"), str),
        },
        [_SIDE],
    ),
    "availability": (
        {
            **dict.fromkeys(("id", "side", "operations"), str),
            **dict.fromkeys(("ok", "fail", "unknown"), int),
            **dict.fromkeys(("ok_share", "longest_outage_ms", "outage_start_ms"), float),
            "unavailable_buckets": int,
        },
        [_SIDE],
    ),
    "latency": (
        {
            **dict.fromkeys(("id", "side", "operations"), str),
            "count": int,
            **dict.fromkeys(("p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms"), float),
        },
        [_SIDE],
    ),
}
# Of the acknowledged operations meanwhile, and of those before any fault.
_DURING: dict[str, type] = {
    "count": int,
    **dict.fromkeys(("p50_ms", "p99_ms", "p50_before_ms", "p99_before_ms"), float),
}
_SECOND: _Tables = {
    "split_brains": (
        {
            **dict.fromkeys(("id", "side", "old"), str),
            "old_term": int,
            "new": str,
            "new_term": int,
            **dict.fromkeys(("start_ms", "end_ms"), float),
            **dict.fromkeys(("old_writes", "new_writes", "lost_count"), int),
            "lost": str,
        },
        [_SIDE],
    ),
    "leases": (
        {
            **dict.fromkeys(("id", "side", "node"), str),
            "term": int,
            **dict.fromkeys(("start_ms", "end_ms"), float),
            "why": str,
        },
        [_SIDE],
    ),
    "snapshots": (
        {
            **dict.fromkeys(("id", "side", "node", "sender"), str),
            "log_index": int,
            **dict.fromkeys(("start_ms", "end_ms", "duration_ms"), float),
            **dict.fromkeys(("bytes", "bytes_sent"), int),
            **_DURING,
        },
        [_SIDE],
    ),
    "handoffs": (
        {
            **dict.fromkeys(("id", "side", "node"), str),
            **dict.fromkeys(("start_ms", "end_ms", "duration_ms"), float),
            **dict.fromkeys(("hints", "bytes", "senders", "refused_count"), int),
            "refused": str,
            **_DURING,
        },
        [_SIDE],
    ),
    "member_changes": (
        {
            **dict.fromkeys(("id", "side", "words"), str),
            **dict.fromkeys(("start_ms", "end_ms", "duration_ms"), float),
            **dict.fromkeys(("keys", "bytes"), int),
            **_DURING,
        },
        [_SIDE],
    ),
}
_THIRD: dict[str, dict[str, type]] = {  # columns that tables were given later
    "failovers": {
        **dict.fromkeys(("split_votes", "pre_votes", "handed_over"), int),
        **dict.fromkeys(("predicted_ms", "predicted_low_ms", "predicted_high_ms"), float),
        "predicted_elected_ms": float,
    }
}
_FOURTH: _Tables = {
    "gossip": (
        {
            **dict.fromkeys(("id", "side"), str),
            **dict.fromkeys(("nodes", "news", "unheard", "rounds_worst"), int),
            **dict.fromkeys(("round_ms", "rounds_mean", "push_pull_rounds"), float),
            **dict.fromkeys(("push_pull_ratio", "log2_nodes"), float),
        },
        [_SIDE],
    ),
}
TABLES = (*_FIRST, *_SECOND, *_FOURTH)


def _create(database: Database, tables: _Tables) -> None:
    for name, (columns, foreign_keys) in tables.items():
        written = [f'"{column}" {_TYPES[kind]}' for column, kind in columns.items()]
        written[0] += " PRIMARY KEY"
        # sqlite-utils writes no ON DELETE clause; replacing a run relies on it.
        written += [
            f'FOREIGN KEY ("{column}") REFERENCES "{parent}" ("id") ON DELETE CASCADE'
            for column, parent in foreign_keys
        ]
        database.execute(f'CREATE TABLE "{name}" ({", ".join(written)})')
        for column, _ in foreign_keys:
            database.table(name).create_index([column])


def _widen(database: Database, tables: dict[str, dict[str, type]]) -> None:
    for name, columns in tables.items():
        for column, kind in columns.items():
            database.execute(f'ALTER TABLE "{name}" ADD COLUMN "{column}" {_TYPES[kind]}')


_TYPES: dict[type, str] = {str: "TEXT", int: "INTEGER", float: "FLOAT"}
MIGRATIONS: list[Callable[[Database], Any]] = [
    partial(_create, tables=_FIRST),
    partial(_create, tables=_SECOND),
    partial(_widen, tables=_THIRD),
    partial(_create, tables=_FOURTH),
]
SCHEMA_VERSION = len(MIGRATIONS)


def _step(name: str) -> str:
    return f"max(CASE WHEN failover_steps.step = '{name}' THEN failover_steps.after_fault_ms END)"


_VIEWS = {
    "failover_report": f"""
        SELECT runs.started, runs.scenario, runs.seed, sides.side, sides.backend, failovers.words,
               {_step("detected")} AS detected_ms, failovers.predicted_ms,
               failovers.predicted_low_ms, failovers.predicted_high_ms,
               {_step("elected")} AS elected_ms, failovers.predicted_elected_ms,
               {_step("clients redirected")} AS clients_redirected_ms,
               {_step("first acknowledged write")} AS first_acknowledged_write_ms,
               {_step("back to 95 %")} AS back_to_95_percent_ms,
               failovers.write_outage_ms, failovers.read_outage_ms, failovers.failed,
               failovers.unknown, failovers.redirected, failovers.elections, failovers.terms,
               failovers.split_votes, failovers.pre_votes, failovers.handed_over,
               failovers.truncated_entries, failovers.truncated_acknowledged, sides.run
        FROM failovers
        JOIN sides ON sides.id = failovers.side
        JOIN runs ON runs.id = sides.run
        LEFT JOIN failover_steps ON failover_steps.failover = failovers.id
        GROUP BY failovers.id
        ORDER BY runs.started DESC, failovers.id""",
    "conflict_report": """
        SELECT runs.started, runs.scenario, runs.seed, sides.side, sides.backend,
               sides.concurrent_writes, sides.sibling_sets, sides.siblings_at_end,
               sides.sibling_count_max, sides.resolved, sides.dropped_by_timestamp,
               sides.read_repairs, sides.vanished_writes, sides.stale_reads, sides.stale_share,
               sides.stale_age_ms_p99, sides.converged_after_heal_ms, sides.run
        FROM sides
        JOIN runs ON runs.id = sides.run
        ORDER BY runs.started DESC, sides.id""",
    "comparison": """
        SELECT runs.started, runs.scenario, runs.seed, runs.verdict, sides.side, sides.backend,
               sides.verdict AS side_verdict, sides.throughput_per_s,
               reads.p50_ms AS read_p50_ms, reads.p99_ms AS read_p99_ms,
               writes.p50_ms AS write_p50_ms, writes.p99_ms AS write_p99_ms,
               read_availability.ok_share AS reads_ok_share,
               write_availability.ok_share AS writes_ok_share,
               write_availability.longest_outage_ms AS write_outage_ms,
               sides.vanished_writes, sides.messages_per_operation, sides.bytes_per_operation,
               sides.fdatasync_ms_p50, sides.generator_bound, sides.run
        FROM sides
        JOIN runs ON runs.id = sides.run
        LEFT JOIN latency AS reads ON reads.side = sides.id AND reads.operations = 'reads'
        LEFT JOIN latency AS writes ON writes.side = sides.id AND writes.operations = 'writes'
        LEFT JOIN availability AS read_availability
          ON read_availability.side = sides.id AND read_availability.operations = 'reads'
        LEFT JOIN availability AS write_availability
          ON write_availability.side = sides.id AND write_availability.operations = 'writes'
        ORDER BY runs.started DESC, sides.id""",
}
VIEWS = tuple(_VIEWS)


def create_views(database: Database) -> None:
    """Make the views, or make them anew after a migration."""
    for name, query in _VIEWS.items():
        database.create_view(name, query, replace=True)
