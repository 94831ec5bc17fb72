"""results.db: all runs in one SQLite file, made for SQL and for Datasette.

Importing a run again replaces its rows. Two runs may write at the same time: each import is one
transaction that takes the write lock before it reads (a read that turns into a write could only
fail), and waits for the other one.
"""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from sqlite_utils import Database

from replication.analysis.findings import RunFindings
from replication.errors import ConfigError
from replication.report.results_rows import rows
from replication.report.results_schema import MIGRATIONS, SCHEMA_VERSION, create_views

BUSY_TIMEOUT_S = 30.0


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
            for table, records in rows(run_id, run).items():
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
