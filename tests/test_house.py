"""Who may know whom (design: the house). Read from the source, so that no import order hides it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PURE = (
    "leader/raft",
    "leader/primary_backup",
    "leaderless/dynamo",
    "replication/protocol.py",
    "replication/errors.py",
    "replication/contents.py",
    "replication/history.py",
    "replication/history_files.py",
    "replication/legs.py",
    "replication/plan",
    "replication/client/session.py",
    "replication/client/steps.py",
    "replication/simulation",
    "replication/analysis",
    "replication/exchange",
)
# Loading a scenario and spreading seeds over processes are the shells of two pure rooms.
SHELLS = {"replication/plan/load.py", "replication/simulation/pool.py"}
IMPURE_MODULES = {
    *("asyncio", "concurrent", "grpc", "multiprocessing", "os", "random", "select", "signal"),
    *("socket", "subprocess", "threading", "time", "uvloop"),
}


def modules(*places: str) -> list[Path]:
    found: list[Path] = []
    for place in places:
        path = ROOT / place
        found += [path] if path.suffix == ".py" else sorted(path.rglob("*.py"))
    return [path for path in found if "_pb2" not in path.name]


def imported(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield (module, names) for every import in the file, wherever it stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, []
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide who knows whom"
            yield node.module or "", [alias.name for alias in node.names]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_rooms_exist() -> None:
    assert all(modules(place) for place in PURE)


@pytest.mark.parametrize("place", PURE)
def test_pure_rooms_touch_no_clock_no_chance_no_network(place: str) -> None:
    for path in modules(place):
        if relative(path) in SHELLS:
            continue
        for module, names in imported(path):
            top = module.split(".")[0]
            # A seeded generator that is handed in is not chance.
            if top == "random" and names == ["Random"]:
                continue
            assert top not in IMPURE_MODULES, f"{relative(path)} imports {module}"


@pytest.mark.parametrize(("family", "other"), [("leader", "leaderless"), ("leaderless", "leader")])
def test_families_know_the_seam_and_nothing_else(family: str, other: str) -> None:
    allowed = ("replication.protocol", "replication.errors", "replication.v1")
    for path in modules(family):
        for module, _ in imported(path):
            assert module.split(".")[0] != other, f"{relative(path)} imports {module}"
            if module.split(".")[0] == "replication":
                assert module.startswith(allowed), f"{relative(path)} imports {module}"


def test_replication_imports_no_family_by_name() -> None:
    for path in modules("replication"):
        for module, _ in imported(path):
            assert module.split(".")[0] not in ("leader", "leaderless", "tests"), relative(path)


def test_analysis_and_report_know_no_runner() -> None:
    for path in modules("replication/analysis", "replication/report", "replication/plan"):
        for module, _ in imported(path):
            room = module.split(".")[1:2]
            assert room not in (["host"], ["run"], ["cluster"], ["cli"], ["simulation"]), (
                f"{relative(path)} imports {module}"
            )


def test_nothing_but_the_layout_lies_at_the_top() -> None:
    known = {"protos", "replication", "leader", "leaderless", "tests", "scenarios"}
    folders = {
        path.name
        for path in ROOT.iterdir()
        if path.is_dir() and not path.name.startswith(".") and path.name != "runs"
    }
    assert folders - {"build", "dist"} <= known
    assert known <= folders
