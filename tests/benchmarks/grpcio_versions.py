"""What a unary call costs with each release of grpcio: the reason for the pin in pyproject.toml.

    uv run python tests/benchmarks/grpcio_versions.py 1.76.0 1.78.2 1.80.1 1.85.1

Makes one environment per release in a temporary folder, then measures them in turn, several rounds,
64 calls in flight, 100-byte values, client and server in processes of their own. Prints calls per
second and the CPU of client and server per call, as medians, and the ratio to the first release.
Releases older than the one that generated the committed modules refuse to import them.
"""

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ECHO = Path(__file__).with_name("echo.py")
IN_FLIGHT = 64


async def measure(seconds: float) -> dict[str, float]:
    """Return the rate and the CPU per call of one client against one echo server."""
    sys.path.insert(0, str(ROOT))
    import grpc

    from replication.v1 import storage_pb2, storage_pb2_grpc

    server = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ECHO),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert server.stdout is not None
    assert server.stdin is not None
    port = int(await server.stdout.readline())
    request = storage_pb2.PutRequest(key="key", value=b"x" * 100)
    calls = 0
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        put = storage_pb2_grpc.StorageServiceStub(channel).Put
        await put(request)
        start, cpu_start = time.perf_counter(), time.process_time()
        end = start + seconds

        async def caller() -> None:
            nonlocal calls
            while time.perf_counter() < end:
                await put(request)
                calls += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(IN_FLIGHT):
                group.create_task(caller())
        elapsed, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    server.stdin.close()
    await server.wait()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "rate": calls / elapsed,
        "client_us": cpu / calls * 1e6,
        "server_us": (children.ru_utime + children.ru_stime) / calls * 1e6,
    }


def make_environment(folder: Path, version: str) -> Path:
    """Return the interpreter of a new environment that holds this release."""
    environment = folder / version
    subprocess.run(
        ["uv", "venv", "--quiet", "--python", sys.executable, str(environment)], check=True
    )
    python = environment / "bin" / "python"
    # Generated code refuses a protobuf older than its compiler, and newer releases of grpcio work
    # with the same protobuf: only grpcio differs between the environments.
    packages = [f"grpcio=={version}", "protobuf>=6.33,<7", "uvloop"]
    subprocess.run(
        ["uv", "pip", "install", "--quiet", "--python", str(python), *packages], check=True
    )
    return python


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("versions", nargs="*")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--one", action="store_true", help="measure the running environment")
    options = parser.parse_args()
    if options.one:
        import uvloop

        print(json.dumps(uvloop.run(measure(options.seconds))))
        return
    if not options.versions:
        parser.error("name at least one release")
    results: dict[str, list[dict[str, float]]] = {version: [] for version in options.versions}
    with tempfile.TemporaryDirectory() as folder:
        pythons = {each: make_environment(Path(folder), each) for each in options.versions}
        for _ in range(options.rounds):
            for version, python in pythons.items():
                command = [str(python), __file__, "--one", "--seconds", str(options.seconds)]
                environment = {**os.environ, "VIRTUAL_ENV": str(python.parents[1])}
                printed = subprocess.run(command, check=True, capture_output=True, env=environment)
                results[version].append(json.loads(printed.stdout))

    def median(version: str, name: str) -> float:
        return statistics.median(each[name] for each in results[version])

    first = options.versions[0]
    print("  grpcio  calls/s  client us  server us rate ratio CPU ratio")
    for version in options.versions:
        rate, client, server = (median(version, n) for n in ("rate", "client_us", "server_us"))
        cpu = (client + server) / (median(first, "client_us") + median(first, "server_us"))
        ratio = rate / median(first, "rate")
        print(f"{version:>8} {rate:8.0f} {client:10.0f} {server:10.0f} {ratio:10.2f} {cpu:9.2f}")


if __name__ == "__main__":
    main()
