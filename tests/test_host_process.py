"""Node processes as a launcher sees them: start, signals, crashes, restarts, its own death."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import grpc.aio
import pytest

from replication.errors import ConfigError
from replication.host.config import (
    EXIT_BUG,
    EXIT_CONFIG,
    EXIT_DATA_LOSS,
    NodeConfig,
    parse_ready_line,
    ready_line,
)
from tests.support.host_cluster import (
    ROOT,
    Client,
    Spawned,
    configs,
    held_ports,
    operations,
    release,
    spawn,
    spawned,
)

pytestmark = pytest.mark.processes


def puts(node: Spawned, *keys: str) -> None:
    """Store the keys, one after the other."""

    async def run() -> None:
        client = Client(node.config.address)
        for key in keys:
            await client.put(key, key.encode())
        await client.channel.close()

    asyncio.run(run())


def gets(node: Spawned, *keys: str) -> list[bytes | None]:
    async def run() -> list[bytes | None]:
        client = Client(node.config.address)
        values = [await client.get(key) for key in keys]
        await client.channel.close()
        return values

    return asyncio.run(run())


def event_names(node: Spawned) -> list[str]:
    lines = (Path(node.config.folder) / "events.jsonl").read_text().splitlines()
    return [json.loads(line)["event"] for line in lines]


def test_sigterm_ends_a_node_cleanly_within_half_a_second_streams_open_or_not(
    tmp_path: Path,
) -> None:
    with spawned(tmp_path, 3) as nodes:
        puts(nodes[0], "k")

        async def with_open_stream(node: Spawned) -> tuple[int, float]:
            client = Client(node.config.address)
            stream = client.storage.Pipeline()
            await stream.wait_for_connection()
            ended = node.end(signal.SIGTERM)
            await client.channel.close()
            return ended

        ends = [asyncio.run(with_open_stream(node)) for node in nodes[:2]]
        ends.append(nodes[2].end(signal.SIGTERM))
        for node, (code, _) in zip(nodes, ends, strict=True):
            assert code == 0, node.log_text()
            assert "Traceback" not in node.log_text()
            assert event_names(node) == ["node_started", "role_changed", "node_stopping"]
        # The quickest counts: on a busy machine any of them may have waited for its turn.
        assert min(seconds for _, seconds in ends) < 0.5 * _slowness()


def _slowness() -> float:
    """Return how much longer than on an idle machine things may take now."""
    return max(1.0, 2 * os.getloadavg()[0] / (os.cpu_count() or 1))


def test_operations_in_flight_are_answered_before_the_end(tmp_path: Path) -> None:
    with spawned(tmp_path, 1) as (node,):

        async def run() -> list[str]:
            client = Client(node.config.address)
            stream = client.storage.Pipeline()
            request = operations([client.put_request("stuck-1"), client.put_request("k")])
            request.operations[0].timeout_ms = 150
            await stream.write(request)
            first = await stream.read()
            node.popen.send_signal(signal.SIGTERM)
            second = await stream.read()
            await client.channel.close()
            return [each.failure.reason for each in (*first.results, *second.results)]

        assert asyncio.run(run()) == ["", "QuorumTimeout"]
        assert node.popen.wait(5) == 0


def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    keys = [f"k{number}" for number in range(20)]
    with held_ports(1) as ports:
        (config,) = configs(tmp_path, ports).values()
        for life in range(3):
            node = spawn(config)
            node.wait_ready()
            assert gets(node, *keys[: 5 * life]) == [key.encode() for key in keys[: 5 * life]]
            puts(node, *keys[5 * life : 5 * life + 5])
            assert node.end(signal.SIGKILL)[0] == -signal.SIGKILL
            release(node)
        lines = (tmp_path / "n1" / "events.jsonl").read_text().splitlines()
        starts = [json.loads(line) for line in lines if "node_started" in line]
        assert [each["recovered_records"] for each in starts] == [0, 5, 10]
        assert [each["torn_bytes"] for each in starts] == [0, 0, 0]
        times = [json.loads(line)["t"] for line in lines]
        assert times == sorted(times)


def test_a_torn_tail_is_cut_and_told(tmp_path: Path) -> None:
    with held_ports(1) as ports:
        (config,) = configs(tmp_path, ports).values()
        for _ in range(2):
            node = spawn(config)
            node.wait_ready()
            puts(node, "k")
            node.end(signal.SIGKILL)
            release(node)
            with (tmp_path / "n1" / "store.log").open("ab") as stream:
                stream.write(b"garbage")
        lines = (tmp_path / "n1" / "events.jsonl").read_text().splitlines()
        events = [json.loads(line) for line in lines]
        starts = [each for each in events if each["event"] == "node_started"]
        assert [each["torn_bytes"] for each in starts] == [0, len(b"garbage")]
        assert [each["recovered_records"] for each in starts] == [0, 1]


def test_a_corrupt_store_stops_the_node_with_data_loss_in_its_log(tmp_path: Path) -> None:
    with held_ports(1) as ports:
        (config,) = configs(tmp_path, ports).values()
        node = spawn(config)
        node.wait_ready()
        puts(node, "a", "b", "c")
        node.end(signal.SIGKILL)
        release(node)
        store = tmp_path / "n1" / "store.log"
        data = bytearray(store.read_bytes())
        data[40] ^= 1
        store.write_bytes(data)
        again = spawn(config)
        assert again.popen.wait(10) == EXIT_DATA_LOSS
        assert "DATA_LOSS" in again.log_text()
        assert "store.log" in again.log_text()
        release(again)


@pytest.mark.parametrize(
    ("key", "words"),
    [("bug-1", "the core does not like bug-1"), ("twice-1", "was answered before")],
)
def test_a_bug_in_the_core_stops_the_node_with_a_traceback(
    tmp_path: Path, key: str, words: str
) -> None:
    with spawned(tmp_path, 1) as (node,):
        try:
            puts(node, key)
        except grpc.aio.AioRpcError:
            assert key == "bug-1", "of two answers the first is a good one"
        assert node.popen.wait(10) == EXIT_BUG
        assert "Traceback" in node.log_text()
        assert words in node.log_text()
        assert event_names(node)[-1] == "node_stopping"


LAUNCHER = """
import sys
from pathlib import Path
from tests.support.host_cluster import configs, held_ports, spawn
with held_ports(1) as ports:
    (config,) = configs(Path(sys.argv[1]), ports).values()
    node = spawn(config)
    node.wait_ready()
    print(node.popen.pid, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("stopped", [False, True])
def test_a_node_dies_with_its_launcher_even_when_it_is_stopped(
    tmp_path: Path, stopped: bool
) -> None:
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert launcher.stdin is not None
    assert launcher.stdout is not None
    node = int(launcher.stdout.readline())
    if stopped:
        os.kill(node, signal.SIGSTOP)
    launcher.kill()
    launcher.wait(10)
    begun = time.monotonic()
    while _alive(node):
        assert time.monotonic() - begun < 2 * _slowness(), "the node outlived its launcher"
        time.sleep(0.01)
    launcher.stdin.close()
    launcher.stdout.close()


def _alive(pid: int) -> bool:
    try:
        # Somebody else has to reap it: a zombie is dead.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_the_end_of_stdin_ends_a_node_cleanly(tmp_path: Path) -> None:
    """Where the kernel does not tell of the launcher's death, the pipe does."""
    with spawned(tmp_path, 1) as (node,):
        assert node.popen.stdin is not None
        node.popen.stdin.close()
        assert node.popen.wait(5) == 0
        assert "the launcher is gone" in node.log_text()


def test_an_orphan_needs_no_launcher(tmp_path: Path) -> None:
    with spawned(tmp_path, 1, orphan=True) as (node,):
        assert node.popen.stdin is not None
        node.popen.stdin.close()
        puts(node, "k")
        assert node.end()[0] == 0


def test_connections_are_refused_while_the_launcher_alone_holds_the_port(tmp_path: Path) -> None:
    with held_ports(1) as (port,), socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_an_address_that_another_process_serves_is_refused(tmp_path: Path) -> None:
    """SO_REUSEPORT alone would let two nodes share it, each getting half of the calls."""
    with spawned(tmp_path, 1) as (node,):
        (tmp_path / "other").mkdir()
        thief = spawn(replace(node.config, folder=str(tmp_path / "other")))
        assert thief.popen.wait(10) == EXIT_CONFIG
        assert "another process listens" in thief.log_text()
        release(thief)


def test_a_folder_that_another_node_uses_is_refused(tmp_path: Path) -> None:
    with spawned(tmp_path, 1) as (node,), held_ports(1) as (port,):
        config = replace(node.config, addresses={"n1": f"127.0.0.1:{port}"})
        thief = spawn(config)
        assert thief.popen.wait(10) == EXIT_CONFIG
        assert "in use by another process" in thief.log_text()
        release(thief)


IMPORTS = """
import sys
import replication.host.main, replication.host.process
from replication.protocol import load_backend
load_backend(sys.argv[1])
print(*sorted(sys.modules))
"""
FORBIDDEN = {
    *("numpy", "pydantic", "jinja2", "sqlite_utils", "click", "rich"),
    *("replication.analysis", "replication.report", "replication.plan", "replication.run"),
    *("replication.cli", "replication.cluster", "replication.simulation", "multiprocessing"),
    *("google.protobuf.json_format", "grpc_reflection.v1alpha.reflection"),
}


@pytest.mark.parametrize(
    "backend",
    ["tests.support.echo_core:backend", "leader.raft:backend", "leaderless.dynamo:backend"],
)
def test_a_node_imports_nothing_heavy(backend: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", IMPORTS, backend],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    imported = set(result.stdout.split())
    assert "replication.host.node" in imported
    assert not imported & FORBIDDEN


def test_a_configuration_survives_the_file_and_bad_ones_name_every_problem(tmp_path: Path) -> None:
    config = NodeConfig(
        node="n1",
        addresses={"n1": "127.0.0.1:4001", "n2": "127.0.0.1:4002"},
        backend="a.b:c",
        folder="/somewhere",
        secret="s",
        settings={"n": 3},
        sync="off",
        seed=7,
    )
    assert NodeConfig.from_json(config.to_json()) == config
    assert config.peers == ("n2",)
    values = json.loads(config.to_json())
    bad = {**values, "node": "n9", "sync": "sometimes", "backend": "raft", "secret": ""}
    with pytest.raises(ConfigError) as caught:
        NodeConfig.from_json(json.dumps(bad))
    assert len(caught.value.problems) == 4
    for text in ("[]", "{", json.dumps({"seed": True, "extra": 1})):
        with pytest.raises(ConfigError):
            NodeConfig.from_json(text)
    assert parse_ready_line(ready_line("n1", "h:1")) == ("n1", "h:1")
    assert parse_ready_line("Traceback (most recent call last):") is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tell_peers": "yes"}, "settings.tell_peers: 'yes' is of type str, expected bool"),
        ({"speed": 9}, "settings.speed is not a setting of echo"),
    ],
)
def test_settings_that_do_not_fit_the_backend_are_told_in_the_log(
    tmp_path: Path, settings: dict[str, object], words: str
) -> None:
    with held_ports(1) as ports:
        (config,) = configs(tmp_path, ports, settings=settings).values()
        node = spawn(config)
        assert node.popen.wait(10) == EXIT_CONFIG
        assert words in node.log_text()
        release(node)
