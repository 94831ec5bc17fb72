"""Compiles ``protos/`` into the packages beside it: ``uv run python tests/support/codegen.py``.

The generated modules are committed, so that nobody needs a compiler to run the project;
``tests/test_codegen.py`` fails when they differ from what the .proto files say.
"""

import sys
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parents[2]


def proto_files() -> list[str]:
    """Return every .proto file below ``protos/``, relative to it, in order."""
    base = ROOT / "protos"
    return sorted(str(path.relative_to(base)) for path in base.rglob("*.proto"))


def generate(output: Path) -> None:
    """Write the generated modules below ``output``; raise RuntimeError when the compiler fails."""
    names = proto_files()
    scripts = Path(sys.executable).parent  # the plug-ins need not be on the PATH
    arguments = [
        "protoc",
        f"--plugin={scripts / 'protoc-gen-mypy'}",
        f"--plugin={scripts / 'protoc-gen-mypy_grpc'}",
        f"-I{ROOT / 'protos'}",
        f"-I{files('grpc_tools') / '_proto'}",
        f"--python_out={output}",
        f"--mypy_out={output}",
    ]
    if protoc.main([*arguments, *names]) != 0:
        raise RuntimeError("protoc failed")
    services = [name for name in names if "service " in (ROOT / "protos" / name).read_text()]
    grpc_out = [f"--grpc_python_out={output}", f"--mypy_grpc_out={output}"]
    if protoc.main([*arguments[:5], *grpc_out, *services]) != 0:
        raise RuntimeError("protoc failed for the services")


if __name__ == "__main__":
    generate(ROOT)
    print(f"compiled {len(proto_files())} files below {ROOT / 'protos'}", file=sys.stderr)
