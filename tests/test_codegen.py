"""The committed modules are what the .proto files say."""

from pathlib import Path

from tests.support.codegen import ROOT, generate

PACKAGES = ("replication/v1", "leader/v1", "leaderless/v1")


def generated(base: Path) -> dict[str, str]:
    return {
        str(path.relative_to(base)): path.read_text()
        for package in PACKAGES
        for path in sorted((base / package).glob("*_pb2*.py*"))
    }


def test_committed_modules_are_what_the_proto_files_say(tmp_path: Path) -> None:
    generate(tmp_path)
    fresh, committed = generated(tmp_path), generated(ROOT)
    assert sorted(fresh) == sorted(committed)
    stale = [name for name, text in fresh.items() if committed[name] != text]
    assert not stale, f"run: uv run python tests/support/codegen.py (stale: {stale})"
