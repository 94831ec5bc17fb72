"""A cluster that is up, and commands on it as a shell gives them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from click.testing import CliRunner, Result

from replication.cli import main


class Shell:
    """Runs commands on one folder of runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, line: str) -> Result:
        return CliRunner().invoke(main, [*line.split(), "--out", str(self.folder)])

    def output(self, line: str) -> str:
        result = self(line)
        assert result.exit_code == 0, result.output
        return result.stdout.strip()


@contextmanager
def cluster(tmp_path: Path, backend: str) -> Iterator[Shell]:
    shell = Shell(tmp_path / "runs")
    assert f"{backend.split()[0]} is up: 3 nodes" in shell.output(f"up {backend} --nodes 3")
    try:
        yield shell
    finally:
        assert shell.output("down").endswith("is down")
