"""results.db: rows, views, imports again and at the same time."""

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_utils import Database

from replication.analysis.findings import LeasePeriod, RunFindings, SplitBrain
from replication.analysis.gossip_findings import Gossip
from replication.analysis.meanwhile import Handoff, MemberChange, Percentiles, SnapshotInstall
from replication.errors import ConfigError
from replication.report import results_db
from replication.report.results_schema import MIGRATIONS, SCHEMA_VERSION, TABLES, VIEWS
from tests.support import findings_sample as sample
from tests.support import pictures_sample

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


def with_everything() -> RunFindings:
    """A run in which a leader lingered, held leases and sent a snapshot, and hints were kept."""
    run = sample.leader_crash()
    leader, leaderless = run.sides.values()
    origin_ns = leader.load_start_ns
    before, during = Percentiles(count=900, p99_ms=4.0), Percentiles(count=40, p99_ms=9.5)
    leader.split_brains.append(
        SplitBrain("n1", 1, "n2", 2, origin_ns, origin_ns + 2_000_000, 7, 9, 1, ["c1:4"])
    )
    leader.leases.append(LeasePeriod("n2", 2, origin_ns + 5_000_000))
    leader.snapshots.append(
        SnapshotInstall("n3", "n2", 40, 0, 9, 9, 1000, 1200, during=during, before=before)
    )
    leaderless.handoffs.append(
        Handoff("n3", 0, 9, 9, 30, 3000, 2, {"cap": 4}, 4, during=during, before=before)
    )
    leaderless.member_changes.append(
        MemberChange("n6 joined", 0, 9, 9, 12, 3000, during=during, before=before)
    )
    leaderless.gossip = Gossip(5, 10_000_000, 40, 1, 2.5, 4, 2.38, 1.05, 2.32)
    return run


def test_every_table_and_view_has_rows_and_no_key_dangles(path: Path) -> None:
    results_db.import_run(path, RUN, with_everything())
    results_db.import_run(path, "other", sample.split_writers("lww"))
    for name in (*TABLES, *VIEWS):
        assert query(path, f'SELECT count(*) AS n FROM "{name}"')[0]["n"] > 0, name
    assert query(path, "PRAGMA foreign_key_check") == []
    for table in TABLES[1:]:
        assert query(path, f'PRAGMA foreign_key_list("{table}")'), table


def test_two_leaders_leases_and_what_caught_up_have_tables(path: Path) -> None:
    results_db.import_run(path, RUN, with_everything())
    (both,) = query(path, "SELECT * FROM split_brains")
    assert (both["old"], both["new"], both["end_ms"], both["lost"]) == ("n1", "n2", 2.0, '["c1:4"]')
    (lease,) = query(path, "SELECT * FROM leases")
    assert (lease["node"], lease["start_ms"], lease["end_ms"]) == ("n2", 5.0, None)
    (snapshot,) = query(path, "SELECT * FROM snapshots")
    assert (snapshot["bytes"], snapshot["bytes_sent"], snapshot["p99_ms"]) == (1000, 1200, 9.5)
    (change,) = query(path, "SELECT * FROM member_changes")
    assert (change["words"], change["keys"], change["count"]) == ("n6 joined", 12, 40)
    (handoff,) = query(path, "SELECT * FROM handoffs")
    assert (handoff["hints"], handoff["refused"]) == (30, '{"cap": 4}')
    assert handoff["p99_before_ms"] == 4.0


def test_a_database_of_the_first_schema_gets_the_tables_that_came_later(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        MIGRATIONS[0](Database(connection))
        connection.execute("PRAGMA user_version = 1")
    results_db.import_run(path, RUN, with_everything())
    assert query(path, "PRAGMA user_version")[0][0] == SCHEMA_VERSION
    assert query(path, "SELECT hints FROM handoffs")[0]["hints"] == 30


def test_the_failover_view_splits_the_gap(path: Path) -> None:
    results_db.import_run(path, RUN, sample.leader_crash())
    leader, leaderless = query(path, "SELECT * FROM failover_report ORDER BY side")
    assert leader["detected_ms"] == 171
    assert leader["elected_ms"] == 198
    assert leader["first_acknowledged_write_ms"] == leader["write_outage_ms"] == 347
    assert leader["back_to_95_percent_ms"] == 600
    assert leaderless["elected_ms"] is None
    assert leaderless["write_outage_ms"] == 9


def test_the_failover_view_has_the_prediction_beside_what_was_measured(path: Path) -> None:
    results_db.import_run(path, RUN, pictures_sample.leader_crash())
    leader, leaderless = query(path, "SELECT * FROM failover_report ORDER BY side")
    assert (leader["predicted_low_ms"], leader["predicted_high_ms"]) == (270, 435)
    assert (leader["predicted_ms"], leader["predicted_elected_ms"]) == (335, 354)
    assert (leader["pre_votes"], leader["split_votes"], leader["handed_over"]) == (1, 0, 0)
    assert leaderless["predicted_ms"] is None


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
