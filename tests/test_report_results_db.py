"""results.db: rows, views, imports again and at the same time."""

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from replication.errors import ConfigError
from replication.report import results_db
from replication.report.results_schema import SCHEMA_VERSION, TABLES, VIEWS
from tests.support import findings_sample as sample

RUN = "20261123T215503Z-leader-crash-7"


def query(path: Path, sql: str, *values: object) -> list[sqlite3.Row]:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return list(connection.execute(sql, values))


def dump(path: Path) -> dict[str, list[tuple[object, ...]]]:
    return {
        table: [tuple(row) for row in query(path, f'SELECT * FROM "{table}" ORDER BY id')]
        for table in TABLES
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.db"


def test_every_table_and_view_has_rows_and_no_key_dangles(path: Path) -> None:
    results_db.import_run(path, RUN, sample.leader_crash())
    results_db.import_run(path, "other", sample.split_writers("lww"))
    for name in (*TABLES, *VIEWS):
        assert query(path, f'SELECT count(*) AS n FROM "{name}"')[0]["n"] > 0, name
    assert query(path, "PRAGMA foreign_key_check") == []
    for table in TABLES[1:]:
        assert query(path, f'PRAGMA foreign_key_list("{table}")'), table


def test_the_failover_view_splits_the_gap(path: Path) -> None:
    results_db.import_run(path, RUN, sample.leader_crash())
    leader, leaderless = query(path, "SELECT * FROM failover_report ORDER BY side")
    assert leader["detected_ms"] == 171
    assert leader["elected_ms"] == 198
    assert leader["first_acknowledged_write_ms"] == leader["write_outage_ms"] == 347
    assert leader["back_to_95_percent_ms"] == 600
    assert leaderless["elected_ms"] is None
    assert leaderless["write_outage_ms"] == 9


def test_the_other_views_compare_conflicts_and_costs(path: Path) -> None:
    results_db.import_run(path, RUN, sample.split_writers("lww"))
    rows = {row["side"]: row for row in query(path, "SELECT * FROM conflict_report")}
    assert rows["leaderless"]["vanished_writes"] == 38
    assert rows["leaderless"]["converged_after_heal_ms"] is None
    rows = {row["side"]: row for row in query(path, "SELECT * FROM comparison")}
    assert rows["leader"]["side_verdict"] == "valid"
    assert rows["leaderless"]["side_verdict"] == "violated"
    assert rows["leader"]["write_p99_ms"] > rows["leaderless"]["write_p99_ms"]


def test_importing_again_changes_nothing(path: Path) -> None:
    results_db.import_run(path, "other", sample.split_writers())
    results_db.import_run(path, RUN, sample.leader_crash())
    before = dump(path)
    results_db.import_run(path, RUN, sample.leader_crash())
    assert dump(path) == before


def test_importing_again_replaces_what_has_gone(path: Path) -> None:
    results_db.import_run(path, RUN, sample.split_writers("lww"))
    assert query(path, "SELECT * FROM vanished_writes")
    results_db.import_run(path, RUN, sample.leader_crash())
    assert query(path, "SELECT * FROM vanished_writes") == []
    assert results_db.verdicts(path) == {RUN: "valid"}


def test_runs_that_end_at_the_same_time_are_all_kept(path: Path) -> None:
    run = sample.nothing_measured()
    ready = threading.Barrier(6)
    failures: list[BaseException] = []

    def write(name: str) -> None:
        ready.wait()
        try:
            results_db.import_run(path, name, run)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(f"run-{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sorted(results_db.verdicts(path)) == [f"run-{number}" for number in range(6)]


def test_an_import_that_fails_leaves_the_old_rows(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results_db.import_run(path, RUN, sample.leader_crash())
    before = dump(path)
    broken = sample.leader_crash()
    broken.sides["leader"].throughput_per_s = object()  # type: ignore[assignment]
    with pytest.raises(sqlite3.Error):
        results_db.import_run(path, RUN, broken)
    assert dump(path) == before


def test_a_database_of_a_newer_version_is_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(ConfigError, match=r"upgrade, or move the file away"):
        results_db.import_run(path, RUN, sample.nothing_measured())
    assert query(path, "SELECT * FROM sqlite_master") == []


def test_a_file_that_is_no_database_is_refused_in_one_line(path: Path) -> None:
    path.write_bytes(b"not a database, and longer than a page header would be" * 50)
    with pytest.raises(ConfigError, match=r"results\.db: .*not a database"):
        results_db.import_run(path, RUN, sample.nothing_measured())
    assert results_db.verdicts(path) == {}


def test_hostile_values_are_stored_as_they_are(path: Path) -> None:
    results_db.import_run(path, RUN, sample.hostile())
    (row,) = query(path, "SELECT DISTINCT key FROM vanished_writes")
    assert row["key"] == sample.HOSTILE.replace("\ud800", "\\ud800")
