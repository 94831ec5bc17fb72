"""The whole way from a scenario to a report, for the command line and for Python."""

import asyncio
import json
import platform
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from importlib.metadata import version
from pathlib import Path

import uvloop

from replication.analysis.analyse import RunHeader, analyse_run
from replication.analysis.calls import guess_model, judge_calls
from replication.analysis.expect import known_checks, measure_problem
from replication.analysis.findings import Finding, RunFindings
from replication.analysis.models import MODELS
from replication.analysis.search import Budget
from replication.errors import ConfigError
from replication.exchange import parse_history
from replication.exchange.json_lines import judge_lines
from replication.exchange.reading import is_our_own
from replication.history import History
from replication.history_files import read_history, write_history
from replication.plan import Plan, Scenario, list_scenarios, make_plan, read_plan
from replication.plan import load_scenario as load_any_scenario
from replication.protocol import Family
from replication.report import run_directory
from replication.run import both
from replication.run.execute import Tell
from replication.simulation import refuse, simulate_both

__all__ = [
    "analyse",
    "check",
    "check_run",
    "compare",
    "list_scenarios",
    "load_scenario",
    "run",
    "simulate",
]

PLAN_FILE = "plan.json"
RUN_FILE = "run.json"


def load_scenario(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Scenario:
    """Return a scenario by name or from a file, with ``path=value`` overrides applied.

    Raises ConfigError with every problem, unknown checks and measures in expectations included.
    """
    return load_any_scenario(
        name_or_path, overrides, known_checks=known_checks(), measure_problem=measure_problem
    )


def compare(
    scenario: Scenario,
    seed: int | None = None,
    runs: Path = Path("runs"),
    tell: Tell | None = None,
    again: str | None = None,
) -> RunFindings:
    """Run both sides on real processes, write every report below ``runs``, return the findings.

    ``tell`` is called with the progress, ``again`` is the command that reports name for repeating
    the run. Ctrl-C and SIGTERM end the run early: what was recorded is kept and analysed, and the
    findings of the side say that it was interrupted.
    """
    return run(scenario, tuple(Family), seed, runs, tell, again)


def run(
    scenario: Scenario,
    families: Sequence[Family],
    seed: int | None = None,
    runs: Path = Path("runs"),
    tell: Tell | None = None,
    again: str | None = None,
) -> RunFindings:
    """Run one side, or both in the order of ``families``; otherwise as ``compare``."""
    plan = make_plan(scenario, seed)
    families = plan.sides(families)
    both.refuse(plan)
    folder, header = _begin(plan, runs, again, "compare")
    histories = uvloop.run(_until_told_to_stop(plan, families, folder, tell))
    return _report(folder, plan, header, histories)


def simulate(
    scenario: Scenario,
    seed: int | None = None,
    runs: Path = Path("runs"),
    again: str | None = None,
    families: Sequence[Family] = tuple(Family),
) -> RunFindings:
    """Run both sides in virtual time, or one; otherwise as ``compare``. Equal seeds give equal
    histories.

    A core that raises, or breaks an invariant of its family, ends its side: ``problems`` says so.
    """
    plan = make_plan(scenario, seed)
    families = plan.sides(families)
    refuse(plan, families)
    folder, header = _begin(plan, runs, again, "simulate")
    sides = simulate_both(plan, families=families)
    histories = {family: side.history for family, side in sides.items()}
    for family, history in histories.items():
        (folder / family.value).mkdir()
        write_history(history, folder / family.value)
    return _report(folder, plan, header, histories)


def analyse(folder: Path) -> RunFindings:
    """Analyse a stored run again from its histories, and write its reports anew.

    Raises ConfigError when the folder holds no run, or its files cannot be read.
    """
    findings = check_run(folder)
    run_directory.write_reports(folder, findings)
    return findings


def check_run(folder: Path) -> RunFindings:
    """Analyse a stored run again from its histories, and write nothing.

    Raises ConfigError when the folder holds no run, or its files cannot be read.
    """
    plan = read_plan(folder / PLAN_FILE)
    try:
        header = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError([f"{folder / RUN_FILE}: {error}"]) from None
    sides = [each for each in Family if (folder / each.value / "history.jsonl").exists()]
    if not sides:
        raise ConfigError([f"{folder} holds no history: the run broke before it began"])
    histories = {family: read_history(folder / family.value) for family in sides}
    return _findings(folder, plan, header, histories)


def check(
    path: Path,
    *,
    model: str | None = None,
    initial: str | None = None,
    timeout_s: float = 60.0,
    all_objects: bool = False,
) -> Finding:
    """Return whether the history in a file is linearizable, whatever tool recorded it.

    ``initial`` is JSON, or a plain text. Raises ConfigError with line and column of what is wrong.
    """
    if model is not None and model not in MODELS:
        close = get_close_matches(model, MODELS, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(MODELS)}"
        raise ConfigError([f"there is no model {model!r}; {hint}"])
    deadline = time.monotonic() + timeout_s
    # The clock bounds a search from the command line; the steps are only that of a whole analysis.
    budget = Budget(steps=sys.maxsize, expired=lambda: time.monotonic() > deadline)
    try:
        with path.open("rb") as stream:
            if is_our_own(stream.read(4096)):
                if model not in (None, "register", "cas-register") or initial is not None:
                    raise ConfigError([f"{path} is our own: it is a register of unknown beginning"])

                def lines() -> Iterator[bytes]:
                    stream.seek(0)
                    yield from stream

                return judge_lines(lines, str(path), budget)
            stream.seek(0)
            text = stream.read().decode("utf-8")
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: byte {error.start} is no UTF-8, expected text"]) from None
    calls = parse_history(text, str(path))
    name = model or guess_model(calls.calls)
    return judge_calls(calls, name, _initial(initial), budget, all_objects=all_objects)


def _initial(text: str | None) -> object:
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return tuple(value) if isinstance(value, list) else value


def _begin(
    plan: Plan, runs: Path, again: str | None, command: str
) -> tuple[Path, dict[str, object]]:
    """Make the folder of a run, and write down what it is before anything happens."""
    started_unix_ns = time.time_ns()
    folder = run_directory.create(runs, plan.name, plan.seed, started_unix_ns)
    versions = _versions()
    again = again or shlex.join(["replication", command, plan.name, "--seed", str(plan.seed)])
    header: dict[str, object] = {
        "started_unix_ns": started_unix_ns,
        "again": again,
        "versions": versions,
    }
    _write_json(folder / PLAN_FILE, plan.to_json(versions))
    _write_json(folder / RUN_FILE, header)
    return folder, header


async def _until_told_to_stop(
    plan: Plan, families: Sequence[Family], folder: Path, tell: Tell | None
) -> Mapping[Family, History]:
    task = asyncio.current_task()
    assert task is not None, "coroutines run in tasks"
    # SIGINT cancels the task by asyncio's own handler; SIGTERM is to do the same.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await both.execute_both(plan, folder, tell, families)


def _report(
    folder: Path, plan: Plan, header: Mapping[str, object], histories: Mapping[Family, History]
) -> RunFindings:
    findings = _findings(folder, plan, header, histories)
    run_directory.write_reports(folder, findings)
    return findings


def _findings(
    folder: Path, plan: Plan, header: Mapping[str, object], histories: Mapping[Family, History]
) -> RunFindings:
    started, versions = header["started_unix_ns"], header["versions"]
    assert isinstance(started, int)
    assert isinstance(versions, dict)
    return analyse_run(
        RunHeader(
            name=plan.name,
            title=plan.title,
            question=plan.question,
            seed=plan.seed,
            started_unix_ns=started,
            versions=versions,
            again=str(header["again"]),
            expectations=plan.expectations,
            folder=str(folder),
        ),
        {family.value: history for family, history in histories.items()},
        time.perf_counter,
    )


def _versions() -> dict[str, str]:
    return {
        "replication": version("replication"),
        "python": platform.python_version(),
        "grpcio": version("grpcio"),
        "platform": platform.platform(),
    }


def _write_json(path: Path, record: Mapping[str, object]) -> None:
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
