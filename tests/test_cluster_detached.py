"""Clusters that outlive the command that started them."""

import asyncio
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from replication.client.grpc_client import UnaryClient
from replication.client.session import Session
from replication.cluster.control import Control
from replication.cluster.detached import (
    SPEC_FILE,
    STATE_FILE,
    Detached,
    down,
    list_states,
    read_state,
    start_ticks,
    up,
)
from replication.cluster.launcher import ClusterSpec
from replication.cluster.process import NodeFailed, process_state
from replication.errors import ConfigError
from replication.history import OperationKind
from replication.plan.model import BackendChoice, PlannedClient, PlannedOperation, Route
from replication.protocol import Family, StorageResponse, load_backend
from replication.v1 import storage_pb2

RAFT = "leader.raft:backend"


def spec(folder: Path, nodes: tuple[str, ...] = ("n1", "n2", "n3")) -> ClusterSpec:
    settings = load_backend(RAFT).settings_type()
    return ClusterSpec(nodes, BackendChoice("raft", RAFT, settings), Family.LEADER, folder)


def all_gone(state: Detached, within_s: float = 2.0) -> bool:
    pids = [state.supervisor_pid, *state.pids.values()]
    deadline = time.monotonic() + within_s
    while any(process_state(pid) not in "XZ" for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def perform(state: Detached, planned: PlannedOperation) -> StorageResponse | None:
    async def work() -> StorageResponse | None:
        client = UnaryClient(state.endpoints)
        nodes = tuple(state.endpoints)
        session = Session(PlannedClient("me", nodes[0], Route.FOLLOW), state.family, nodes, 10**10)
        try:
            _, response = await client.run(session, planned)
            return response
        finally:
            await client.close()

    return asyncio.run(work())


@pytest.mark.processes
def test_a_detached_cluster_serves_until_it_is_taken_down_and_keeps_its_data(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "up" / "mine"
    first = up("mine", spec(folder))
    try:
        assert first.alive
        assert (folder / STATE_FILE).stat().st_mode & 0o777 == 0o600
        assert [each.name for each in list_states(tmp_path / "up")] == ["mine"]
        control_status = asyncio.run(_serving(first))
        assert control_status == ["n1", "n2", "n3"]
        put = PlannedOperation("me", 1, None, OperationKind.PUT, "k", value="kept")
        assert isinstance(perform(first, put), storage_pb2.PutResponse)
        with pytest.raises(ConfigError, match="mine is up already"):
            up("mine", spec(folder))
    finally:
        assert down(first)
    assert all_gone(first)
    assert read_state(folder) is None
    assert not down(first), "it is gone already"

    again = up("mine", spec(folder))
    try:
        get = PlannedOperation("me", 2, None, OperationKind.GET, "k")
        response = perform(again, get)
        assert isinstance(response, storage_pb2.GetResponse)
        assert [version.value for version in response.versions] == [b"kept"]
        os.kill(again.supervisor_pid, signal.SIGKILL)
        assert all_gone(again), "nodes end with their supervisor"
        stale = read_state(folder)
        assert stale is not None
        assert not stale.alive
        assert not down(stale)
        assert not (folder / STATE_FILE).exists()
    finally:
        down(again)


async def _serving(state: Detached) -> list[str]:
    control = Control(state.endpoints, state.secret)
    try:
        found = await control.statuses(state.endpoints)
        return sorted(node for node, answer in found.items() if answer.status.serving)
    finally:
        await control.close()


@pytest.mark.processes
def test_a_cluster_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "n2").mkdir(parents=True)
    (tmp_path / "n2" / "store.log").write_bytes(b"this was never a store, whatever it is")
    with pytest.raises(NodeFailed, match="DATA_LOSS"):
        up("broken", spec(tmp_path))
    assert read_state(tmp_path) is None


def test_data_of_another_kind_of_cluster_is_not_touched(tmp_path: Path) -> None:
    five = spec(tmp_path, ("n1", "n2", "n3", "n4", "n5"))
    (tmp_path / SPEC_FILE).write_text(
        '{"name": "x", "family": "leader", "nodes": ["n1"], "sync": "always", "seed": 0,'
        f'"backend": {{"name": "raft", "path": "{RAFT}", "settings": {{}}}}}}'
    )
    with pytest.raises(ConfigError, match="raft of 1 nodes"):
        up("x", five)


def test_another_process_with_the_same_number_is_not_mistaken(tmp_path: Path) -> None:
    ours = start_ticks(os.getpid())
    assert ours is not None
    state = Detached("x", tmp_path, Family.LEADER, "raft", {}, "secret", os.getpid(), ours, {})
    assert state.alive
    assert not replace(state, supervisor_started=ours - 1).alive
    state.write()
    assert read_state(tmp_path) == state


def test_a_damaged_state_file_is_an_error_of_the_user(tmp_path: Path) -> None:
    (tmp_path / STATE_FILE).write_text("{")
    with pytest.raises(ConfigError, match=STATE_FILE):
        read_state(tmp_path)
