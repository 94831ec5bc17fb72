"""The folders of runs: ``runs/<UTC time>-<scenario>-<seed>/`` and the link ``runs/latest``."""

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path

from replication.analysis.findings import RunFindings
from replication.errors import ConfigError
from replication.report import formats

LATEST = "latest"
DATABASE = "results.db"
FINDINGS = "findings.json"
UNFINISHED = "unfinished"
_TIME_FORMAT = "%Y%m%dT%H%M%SZ"
_NAME = re.compile(r"(\d{8}T\d{6}Z)-(.+?)-(-?\d+)(?:\.(\d+))?")
_SCENARIO_CHARACTERS_MAX = 60
_SAME_SECOND_MAX = 1000
_SUGGESTIONS_MAX = 5


@dataclass(frozen=True, slots=True)
class RunEntry:
    """One run as ``runs`` lists it."""

    folder: Path
    started: str  # "2026-11-23 21:55:03 UTC"
    scenario: str
    seed: int
    verdict: str  # "valid", "violated", "unknown", or "unfinished": it has no findings


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where the reports of a run are."""

    findings: Path
    page: Path
    markdown: Path
    junit: Path
    database: Path


def create(runs: Path, scenario: str, seed: int, started_unix_ns: int) -> Path:
    """Make the folder of a new run and point ``latest`` to it; never one that exists.

    Runs that start in the same second get ``.2``, ``.3`` behind their names.
    """
    runs.mkdir(parents=True, exist_ok=True)
    started = datetime.fromtimestamp(started_unix_ns // formats.NS_PER_S, UTC)
    slug = re.sub(r"[^A-Za-z0-9_-]+", "-", scenario)[:_SCENARIO_CHARACTERS_MAX].strip("-")
    base = f"{started.strftime(_TIME_FORMAT)}-{slug or 'run'}-{seed}"
    for number in range(1, _SAME_SECOND_MAX):
        folder = runs / (base if number == 1 else f"{base}.{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        try:
            link_latest(folder)
        except ConfigError:
            folder.rmdir()
            raise
        return folder
    raise ConfigError([f"{runs / base}: {_SAME_SECOND_MAX - 1} runs have this name already"])


def link_latest(folder: Path) -> None:
    """Point ``latest`` beside ``folder`` to it; readers see the old run or the new one."""
    link = folder.parent / LATEST
    fresh = folder.parent / f".{LATEST}-{folder.name}-{os.getpid()}"
    fresh.symlink_to(folder.name, target_is_directory=True)
    try:
        os.replace(fresh, link)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise ConfigError([f"{link} cannot become a link: {error.strerror}"]) from None


def list_runs(runs: Path) -> list[RunEntry]:
    """Return the runs below ``runs``, the newest first; other folders are not runs."""
    from replication.report import results_db

    folders = _folders(runs)
    known = results_db.verdicts(runs / DATABASE) if folders else {}
    found = []
    for folder, match in folders:
        started = datetime.strptime(match[1], _TIME_FORMAT).strftime("%Y-%m-%d %H:%M:%S UTC")
        verdict = known.get(folder.name) or _verdict(folder)
        found.append(RunEntry(folder, started, match[2], int(match[3]), verdict))
    return found


def _folders(runs: Path) -> list[tuple[Path, re.Match[str]]]:
    if not runs.is_dir():
        return []
    found = [
        (path, match)
        for path in runs.iterdir()
        if not path.is_symlink() and (match := _NAME.fullmatch(path.name)) and path.is_dir()
    ]
    # Of the same second the higher number is the newer one.
    return sorted(found, key=lambda each: (each[1][1], int(each[1][4] or 1)), reverse=True)


def _verdict(folder: Path) -> str:
    try:
        return str(json.loads((folder / FINDINGS).read_text(encoding="utf-8"))["verdict"])
    except (OSError, ValueError, KeyError, TypeError):
        return UNFINISHED


def find_run(runs: Path, name: str) -> Path:
    """Return the folder that ``name`` means: a path, a folder's name or its unambiguous beginning,
    "latest", or a scenario (its newest run).

    Raises ConfigError with suggestions.
    """
    names = [path.name for path, _ in _folders(runs)]
    if name == LATEST:
        # By its own name: reports say where they are, and "latest" will be another run.
        folder = runs / (runs / LATEST).resolve().name
        if (runs / LATEST).is_symlink() and folder.is_dir():
            return folder
        raise ConfigError([f"{runs / LATEST}: {_nothing_here(runs, names)}"])
    if name in names:
        return runs / name
    if os.sep in name and Path(name).is_dir():
        return Path(name).resolve()
    beginning = [each for each in names if name and each.startswith(name)]
    if len(beginning) == 1:
        return runs / beginning[0]
    if beginning:
        raise ConfigError([f"{name!r} is the beginning of several runs: {_listed(beginning)}"])
    of_scenario = [path for path, match in _folders(runs) if match[2] == name]
    if of_scenario:
        return of_scenario[0]
    raise ConfigError([f"no run {name!r}; {_nothing_here(runs, names, name)}"])


def _nothing_here(runs: Path, names: list[str], wanted: str = "") -> str:
    if not names:
        return f"there are no runs in {runs}"
    close = [each for each in names if wanted and wanted in each]
    close += get_close_matches(wanted, names, _SUGGESTIONS_MAX, cutoff=0.4)
    suggested = list(dict.fromkeys(close)) or names
    return f"did you mean {_listed(suggested)}?" if wanted else f"there is {_listed(names)}"


def _listed(names: Iterable[str]) -> str:
    shown = list(names)
    rest = f" and {len(shown) - _SUGGESTIONS_MAX} more" if len(shown) > _SUGGESTIONS_MAX else ""
    return ", ".join(shown[:_SUGGESTIONS_MAX]) + rest


def write_reports(folder: Path, run: RunFindings) -> Outputs:
    """Write every report of ``run`` into ``folder`` and its rows into ``results.db`` beside it.

    May be called again: each file is replaced as a whole, the rows too. The findings come first, so
    that a report that cannot be written never costs them.
    """
    # Loaded here: listing and finding runs must not wait for templates and a database toolkit.
    from replication.analysis.findings_json import findings_to_json
    from replication.report import junit, markdown, page, results_db
    from replication.report.summary import summarize

    outputs = Outputs(
        findings=folder / FINDINGS,
        page=folder / "report.html",
        markdown=folder / "report.md",
        junit=folder / "junit.xml",
        database=folder.parent / DATABASE,
    )
    _write(outputs.findings, findings_to_json(run))
    summary = summarize(run)
    _write(outputs.page, page.page(run, summary))
    _write(outputs.markdown, markdown.markdown(summary))
    _write(outputs.junit, junit.junit_xml(summary, formats.iso(run.started_unix_ns)))
    results_db.import_run(outputs.database, folder.name, run)
    return outputs


def _write(path: Path, text: str) -> None:
    """Replace ``path`` at once, so that a reader or a crash never sees half of it."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # A lone surrogate of somebody's key has no UTF-8; "\\ud800" is the same in JSON.
        fresh.write_text(text, encoding="utf-8", errors="backslashreplace")
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


def read_findings(folder: Path) -> RunFindings:
    """Return the findings that ``write_reports`` left in ``folder``.

    Raises ConfigError when there are none, or they cannot be read.
    """
    from replication.analysis.findings_json import findings_from_json

    path = folder / FINDINGS
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError([f"{path} does not exist: the run did not finish"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: {error}"]) from None
    return findings_from_json(text, str(path))
