"""What a node answers on the wire: operations, errors, the secret, health, reflection, status."""

import asyncio
import logging
import os
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from replication.host.config import SECRET_METADATA
from replication.host.process import NodeProcess
from replication.v1 import control_pb2, event_pb2, peer_pb2, storage_pb2
from tests.support.host_cluster import (
    KNOWS_SECRET,
    Client,
    Nodes,
    configs,
    eventually,
    held_ports,
    nodes_in_process,
    on_one_node,
    operations,
)


async def refusal(call: Awaitable[Any]) -> tuple[grpc.StatusCode, error_details_pb2.ErrorInfo]:
    """Return how a unary call was refused: its status and its ErrorInfo."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    status = rpc_status.from_call(caught.value)
    info = error_details_pb2.ErrorInfo()
    assert status is not None, caught.value
    assert status.details[0].Unpack(info)
    return caught.value.code(), info


def test_what_was_put_is_got(tmp_path: Path) -> None:
    async def story(nodes: Nodes, client: Client) -> None:
        assert await client.get("k") is None
        response = await client.put("k", b"v")
        assert response.served.node == "n1"
        assert await client.get("k") == b"v"
        await client.put("large", bytes(1024 * 1024))
        assert len(await client.get("large") or b"") == 1024 * 1024

    on_one_node(tmp_path, story)


def test_bad_requests_are_invalid_arguments_and_say_why(tmp_path: Path) -> None:
    async def story(nodes: Nodes, client: Client) -> None:
        without_id = storage_pb2.PutRequest(key="k")
        bad = {
            "2048 bytes": client.put("k" * 2048),
            "2097152 bytes": client.put("k", bytes(2 * 1024 * 1024)),
            "write_id": client.storage.Put(without_id),
            "the level lease; it offers": client.storage.Get(
                storage_pb2.GetRequest(key="k", consistency=storage_pb2.CONSISTENCY_LEASE)
            ),
            "99": client.storage.Get(storage_pb2.GetRequest(key="k", consistency=99)),
        }
        for words, call in bad.items():
            with pytest.raises(grpc.aio.AioRpcError, match=words) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            status = rpc_status.from_call(caught.value)
            info = error_details_pb2.ErrorInfo()
            assert status.details[0].Unpack(info)
            assert (info.reason, info.domain) == ("InvalidRequest", "replication")
            assert len(status.details) == 1, "trying the same again is of no use"

    on_one_node(tmp_path, story)


def test_an_error_of_the_core_carries_its_fields_before_the_deadline_strikes(
    tmp_path: Path,
) -> None:
    async def story(nodes: Nodes, client: Client) -> None:
        code, info = await refusal(client.put("stuck-1", deadline_s=1.0))
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert info.reason == "QuorumTimeout"
        assert dict(info.metadata) == {"got": "1", "needed": "2"}

    on_one_node(tmp_path, story)


def test_operations_beyond_the_bound_are_refused_as_overloaded_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("replication.host.node.REQUESTS_MAX", 3)

    async def story(nodes: Nodes, client: Client) -> None:
        stuck = [asyncio.ensure_future(client.put(f"stuck-{n}", deadline_s=1.0)) for n in range(3)]
        node = nodes.processes["n1"].node
        await eventually(lambda: node.in_flight == 3, "all are in flight")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.put("k")
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        status = rpc_status.from_call(caught.value)
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        assert status.details[0].Unpack(info)
        assert status.details[1].Unpack(retry)
        assert info.reason == "Overloaded"
        assert retry.retry_delay.ToMilliseconds() == 50
        assert (await client.status()).host.inbox_refused == 1
        for each in stuck:
            with pytest.raises(grpc.aio.AioRpcError, match="answered in time"):
                await each
        await client.put("k")

    on_one_node(tmp_path, story)


def test_control_and_peer_demand_the_secret_and_storage_does_not(tmp_path: Path) -> None:
    async def story(nodes: Nodes, client: Client) -> None:
        wrong = grpc.aio.Metadata((SECRET_METADATA, "a guess"))
        for metadata in (None, wrong):
            for call in (
                client.control.Status(control_pb2.StatusRequest(), metadata=metadata),
                client.control.SetLinkFaults(control_pb2.SetLinkFaultsRequest(), metadata=metadata),
                client.control.Command(control_pb2.CommandRequest(), metadata=metadata),
            ):
                with pytest.raises(grpc.aio.AioRpcError, match=SECRET_METADATA) as caught:
                    await call
                assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
            for stream in (
                client.peer.Exchange(metadata=metadata),
                client.control.WatchEvents(control_pb2.WatchEventsRequest(), metadata=metadata),
                client.control.ListContents(control_pb2.ListContentsRequest(), metadata=metadata),
            ):
                with pytest.raises(grpc.aio.AioRpcError, match=SECRET_METADATA) as caught:
                    await stream.read()
                assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert (await client.status()).status.backend == "echo"
        await client.put("k")

    on_one_node(tmp_path, story)


def test_a_command_reaches_the_core_and_an_empty_one_does_not(tmp_path: Path) -> None:
    async def story(nodes: Nodes, client: Client) -> None:
        transfer = control_pb2.TransferLeadership(to="n1")
        command = control_pb2.CommandRequest(transfer_leadership=transfer)
        response = await client.control.Command(command, metadata=KNOWS_SECRET)
        assert (response.served.node, response.words) == ("n1", "heard of transfer_leadership")
        with pytest.raises(grpc.aio.AioRpcError, match="no command") as caught:
            await client.control.Command(control_pb2.CommandRequest(), metadata=KNOWS_SECRET)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    on_one_node(tmp_path, story)


def test_a_stranger_cannot_send_messages_as_a_peer(tmp_path: Path) -> None:
    async def story(nodes: Nodes, client: Client) -> None:
        stream = client.peer.Exchange(metadata=KNOWS_SECRET)
        await stream.write(peer_pb2.ExchangeRequest(sender="n9", frame=1))
        with pytest.raises(grpc.aio.AioRpcError, match="n9") as caught:
            await stream.read()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    on_one_node(tmp_path, story)


def test_health_and_reflection_answer(tmp_path: Path) -> None:
    async def story(nodes: Nodes, client: Client) -> None:
        health: Any = health_pb2_grpc.HealthStub(client.channel)
        for service in ("", "replication.v1.StorageService"):
            request = health_pb2.HealthCheckRequest(service=service)
            response = await health.Check(request)
            assert response.status == health_pb2.HealthCheckResponse.SERVING
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(client.channel)
        stream = reflection.ServerReflectionInfo()
        await stream.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        answer = await stream.read()
        names = {each.name for each in answer.list_services_response.service}
        assert {"replication.v1.StorageService", "grpc.health.v1.Health"} <= names
        symbol = "replication.v1.StorageService"
        await stream.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol))
        answer = await stream.read()
        assert answer.file_descriptor_response.file_descriptor_proto
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF

    on_one_node(tmp_path, story)


def test_health_of_storage_follows_what_the_core_says(tmp_path: Path) -> None:
    async def story(nodes: Nodes, client: Client) -> None:
        node = nodes.processes["n1"].node
        core: Any = node.core
        health: Any = health_pb2_grpc.HealthStub(client.channel)
        request = health_pb2.HealthCheckRequest(service="replication.v1.StorageService")
        core.serving = False

        async def not_serving() -> bool:
            response = await health.Check(request)
            return bool(response.status == health_pb2.HealthCheckResponse.NOT_SERVING)

        await eventually(not_serving, "the change is seen without an event")
        whole = await health.Check(health_pb2.HealthCheckRequest())
        assert whole.status == health_pb2.HealthCheckResponse.SERVING

    on_one_node(tmp_path, story)


def test_a_client_that_goes_away_does_not_disturb_the_node(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(nodes: Nodes, client: Client) -> None:
        node = nodes.processes["n1"].node
        stream = client.storage.Pipeline()
        request = operations([client.put_request("stuck-1")])
        request.operations[0].timeout_ms = 200
        await stream.write(request)
        unary = asyncio.ensure_future(client.put("stuck-2", deadline_s=0.2))
        await eventually(lambda: node.in_flight == 2, "both are in flight")
        stream.cancel()
        unary.cancel()
        await eventually(lambda: node.in_flight == 0, "the core answered both all the same")
        await client.put("k")

    on_one_node(tmp_path, story)
    assert [each for each in caplog.records if each.levelno >= logging.WARNING] == []


def test_events_are_replayed_then_streamed_and_in_the_file(tmp_path: Path) -> None:
    async def story(nodes: Nodes, client: Client) -> None:
        stream = client.control.WatchEvents(control_pb2.WatchEventsRequest(), metadata=KNOWS_SECRET)
        kinds = []
        for _ in range(2):
            response = await stream.read()
            kinds.append(response.event.WhichOneof("kind"))
            assert response.event.node == "n1"
            assert response.event.monotonic_ns > 0
        assert kinds == ["node_started", "role_changed"]
        fault = event_pb2.LinkFault(peer="client-7", loss=1)
        request = control_pb2.SetLinkFaultsRequest(faults=[fault])
        for _ in range(2):
            await client.control.SetLinkFaults(request, metadata=KNOWS_SECRET)
        response = await stream.read()
        assert list(response.event.link_faults_changed.faults) == [fault]
        await client.control.SetLinkFaults(
            control_pb2.SetLinkFaultsRequest(), metadata=KNOWS_SECRET
        )
        response = await stream.read()
        assert response.event.HasField("link_faults_changed")
        assert not response.event.link_faults_changed.faults
        stream.cancel()

    on_one_node(tmp_path, story)
    lines = (tmp_path / "n1" / "events.jsonl").read_text().splitlines()
    assert [line.split('"event":"')[1].split('"')[0] for line in lines] == [
        *("node_started", "role_changed"),
        *("link_faults_changed", "link_faults_changed", "node_stopping"),
    ]


def test_a_fault_out_of_range_is_refused(tmp_path: Path) -> None:
    async def story(nodes: Nodes, client: Client) -> None:
        fault = event_pb2.LinkFault(peer="n2", loss=1.5)
        request = control_pb2.SetLinkFaultsRequest(faults=[fault])
        call = client.control.SetLinkFaults(request, metadata=KNOWS_SECRET)
        code, info = await refusal(call)
        assert (code, info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "InvalidRequest")

    on_one_node(tmp_path, story)


def test_contents_come_in_chunks_and_completely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("replication.host.services.CONTENTS_CHUNK_KEYS", 10)

    async def story(nodes: Nodes, client: Client) -> None:
        stream = client.storage.Pipeline()
        await stream.write(operations([client.put_request(f"k{n:03}") for n in range(35)]))
        await stream.done_writing()
        while await stream.read() is not grpc.aio.EOF:
            pass
        listing = client.control.ListContents(
            control_pb2.ListContentsRequest(), metadata=KNOWS_SECRET
        )
        chunks = [[each.key for each in response.keys] async for response in listing]
        assert [len(chunk) for chunk in chunks] == [10, 10, 10, 5]
        assert [key for chunk in chunks for key in chunk] == [f"k{n:03}" for n in range(35)]

    on_one_node(tmp_path, story)


def test_a_disk_that_fails_to_sync_stops_the_node_and_nothing_is_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed sync nobody knows what is on disk; trying again would hide it."""

    def broken(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    async def run() -> None:
        with held_ports(1) as ports:
            (config,) = configs(tmp_path, ports).values()
            process = NodeProcess(config)
            await process.start()
            client = Client(config.address)
            await client.put("before")
            monkeypatch.setattr(os, "fdatasync", broken)
            call = asyncio.ensure_future(client.put("k", deadline_s=5))
            assert isinstance(await process.node.failed, OSError)
            await process.stop("failed")
            with pytest.raises(grpc.aio.AioRpcError):
                await call
            await client.channel.close()

    asyncio.run(asyncio.wait_for(run(), 20))


@pytest.mark.parametrize("sync", ["always", "off"])
def test_a_store_that_is_mostly_garbage_is_rewritten_while_the_node_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync: str
) -> None:
    monkeypatch.setattr("replication.host.store.COMPACTION_BYTES_MIN", 50_000)

    async def run() -> None:
        async with asyncio.timeout(20), nodes_in_process(tmp_path, 1, sync=sync) as nodes:
            client, node = nodes.clients["n1"], nodes.processes["n1"].node
            for _ in range(20):
                await client.put("same key", bytes(10_000))

            async def rewritten() -> bool:
                await client.put("meanwhile")
                return bool((await client.status()).host.store_bytes < 50_000)

            await eventually(rewritten, "a compaction after the last large put")
            # The new file serves a moment before the thread that wrote it has counted it.
            await eventually(lambda: node.disk.compactions > 0, "it was a compaction")
            assert await client.get("same key") == bytes(10_000)

    asyncio.run(run())


def test_messages_beyond_the_bound_are_dropped_and_do_not_shut_out_operations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("replication.host.node.MESSAGES_MAX", 5)

    async def story(nodes: Nodes, client: Client) -> None:
        node = nodes.processes["n1"].node
        for number in range(20):
            node.receive("n2", client.put_request(f"k{number}"))
        assert node.inbox_length == 5
        await client.put("k")
        assert node.core.status().counters["heard_n2"] == 5

    on_one_node(tmp_path, story)
