"""The folders of runs: names, the link to the latest, finding, writing and reading back."""

import json
import threading
from pathlib import Path

import pytest

from replication.errors import ConfigError
from replication.report import run_directory
from replication.report.run_directory import create, find_run, list_runs
from tests.support import findings_sample as sample

STARTED_NS = 1_795_470_903 * 10**9  # 2026-11-23 21:55:03 UTC
SECOND_NS = 10**9


def names(runs: Path) -> list[str]:
    return [entry.folder.name for entry in list_runs(runs)]


def test_a_folder_is_named_by_time_scenario_and_seed(tmp_path: Path) -> None:
    folder = create(tmp_path / "runs", "leader-crash", 7, STARTED_NS)
    assert folder.name == "20261123T215503Z-leader-crash-7"
    assert folder.is_dir()


def test_a_scenario_name_cannot_leave_the_folder(tmp_path: Path) -> None:
    folder = create(tmp_path, "../../etc/pass wd", 7, STARTED_NS)
    assert folder.parent == tmp_path
    assert folder.name == "20261123T215503Z-etc-pass-wd-7"
    assert create(tmp_path, "...", 7, STARTED_NS).name == "20261123T215503Z-run-7"


def test_runs_of_the_same_second_never_share_a_folder(tmp_path: Path) -> None:
    found: list[Path] = []
    ready = threading.Barrier(8)

    def start() -> None:
        ready.wait()
        found.append(create(tmp_path, "steady", 1, STARTED_NS))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 8
    # All are listed as runs of this scenario and seed, and nothing else is left behind.
    assert {(entry.scenario, entry.seed) for entry in list_runs(tmp_path)} == {("steady", 1)}
    assert len(list(tmp_path.iterdir())) == 9
    assert (tmp_path / "latest").resolve() in found


def test_latest_points_to_the_newest_and_survives_a_move(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    create(runs, "steady", 1, STARTED_NS)
    second = create(runs, "steady", 2, STARTED_NS + SECOND_NS)
    assert find_run(runs, "latest") == second.resolve()
    moved = runs.rename(tmp_path / "moved")
    assert find_run(moved, "latest").name == second.name


def test_a_folder_called_latest_is_not_destroyed(tmp_path: Path) -> None:
    (tmp_path / "latest").mkdir()
    (tmp_path / "latest" / "precious").touch()
    with pytest.raises(ConfigError, match="cannot become a link"):
        create(tmp_path, "steady", 1, STARTED_NS)
    assert (tmp_path / "latest" / "precious").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["latest"]


def test_runs_are_listed_newest_first_with_their_verdicts(tmp_path: Path) -> None:
    first = create(tmp_path, "leader-crash", 7, STARTED_NS)
    run_directory.write_reports(first, sample.leader_crash())
    second = create(tmp_path, "split-writers", -3, STARTED_NS + SECOND_NS)
    (tmp_path / "notes").mkdir()
    entries = list_runs(tmp_path)
    assert [entry.folder for entry in entries] == [second, first]
    assert [entry.verdict for entry in entries] == ["unfinished", "valid"]
    assert (entries[0].scenario, entries[0].seed) == ("split-writers", -3)
    assert entries[1].started == "2026-11-23 21:55:03 UTC"
    assert list_runs(tmp_path / "nowhere") == []


def test_a_verdict_is_known_without_the_database(tmp_path: Path) -> None:
    folder = create(tmp_path, "split-writers", 7, STARTED_NS)
    run_directory.write_reports(folder, sample.split_writers("lww"))
    (tmp_path / "results.db").unlink()
    assert [entry.verdict for entry in list_runs(tmp_path)] == ["violated"]
    (folder / "findings.json").write_text("{ torn")
    assert [entry.verdict for entry in list_runs(tmp_path)] == ["unfinished"]


def test_the_second_run_of_a_second_is_the_newer_one(tmp_path: Path) -> None:
    made = [create(tmp_path, "steady", 1, STARTED_NS).name for _ in range(11)]
    assert names(tmp_path) == made[::-1]


def test_a_run_is_found_by_name_beginning_scenario_or_path(tmp_path: Path) -> None:
    crash = create(tmp_path, "leader-crash", 7, STARTED_NS)
    old = create(tmp_path, "steady", 1, STARTED_NS + SECOND_NS)
    steady = create(tmp_path, "steady", 1, STARTED_NS + SECOND_NS)
    assert find_run(tmp_path, crash.name) == crash
    assert find_run(tmp_path, "20261123T215503Z") == crash
    assert find_run(tmp_path, old.name) == old  # also the beginning of the other's name
    assert find_run(tmp_path, "steady") == steady
    assert find_run(tmp_path / "nowhere", str(crash)) == crash.resolve()


def test_an_unknown_run_gets_suggestions(tmp_path: Path) -> None:
    crash = create(tmp_path, "leader-crash", 7, STARTED_NS)
    create(tmp_path, "steady", 1, STARTED_NS)
    with pytest.raises(ConfigError, match=f"no run 'crash'; did you mean {crash.name}"):
        find_run(tmp_path, "crash")
    with pytest.raises(ConfigError, match=r"beginning of several runs: .*steady.*leader-crash"):
        find_run(tmp_path, "2026")
    with pytest.raises(ConfigError, match="there are no runs in"):
        find_run(tmp_path / "nowhere", "latest")
    with pytest.raises(ConfigError, match="there are no runs in"):
        find_run(tmp_path / "nowhere", "")


def test_all_outputs_are_written_and_the_findings_read_back(tmp_path: Path) -> None:
    folder = create(tmp_path, "leader-crash", 7, STARTED_NS)
    run = sample.leader_crash()
    outputs = run_directory.write_reports(folder, run)
    assert sorted(path.name for path in folder.iterdir()) == [
        "findings.json",
        "junit.xml",
        "report.html",
        "report.md",
    ]
    assert outputs.page == folder / "report.html"
    assert outputs.database == tmp_path / "results.db"
    assert json.loads(outputs.findings.read_text())["verdict"] == "valid"
    again = run_directory.read_findings(folder)
    assert again == run
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    run_directory.write_reports(folder, again)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_hostile_run_can_be_written(tmp_path: Path) -> None:
    folder = create(tmp_path, sample.HOSTILE, 7, STARTED_NS)
    outputs = run_directory.write_reports(folder, sample.hostile())
    assert outputs.page.stat().st_size > 10_000
    again = run_directory.read_findings(folder)
    assert again.sides["leaderless"].conflicts.vanished[0].key == sample.HOSTILE


def test_findings_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    folder = create(tmp_path, "steady", 1, STARTED_NS)
    with pytest.raises(ConfigError, match="did not finish"):
        run_directory.read_findings(folder)
    (folder / "findings.json").write_text('{"name": "steady"}')
    with pytest.raises(ConfigError, match=r"findings\.json: expected findings in format"):
        run_directory.read_findings(folder)
    (folder / "findings.json").write_text("{ torn")
    with pytest.raises(ConfigError, match=r"findings\.json: line 1"):
        run_directory.read_findings(folder)
    (folder / "findings.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"findings\.json: .*can't decode"):
        run_directory.read_findings(folder)
