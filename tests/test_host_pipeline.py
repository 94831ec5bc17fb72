"""The stream for load: every operation is answered, many at a time, and nobody is flooded."""

from pathlib import Path

import grpc.aio
import pytest

from replication.v1 import storage_pb2
from tests.support.host_cluster import Client, Nodes, eventually, on_one_node, operations


def test_pipeline_answers_every_operation_and_coalesces_what_completes_together(
    tmp_path: Path,
) -> None:
    async def story(nodes: Nodes, client: Client) -> None:
        stream = client.storage.Pipeline()
        count = 1000
        await stream.write(operations([client.put_request(f"k{n}") for n in range(count)]))
        await stream.done_writing()
        sizes, numbers = [], []
        while (response := await stream.read()) is not grpc.aio.EOF:
            sizes.append(len(response.results))
            assert all(each.WhichOneof("result") == "put" for each in response.results)
            numbers += [each.number for each in response.results]
        assert sorted(numbers) == list(range(1, count + 1))
        # One turn took all, one sync covered all, so one response carries all.
        assert len(sizes) == 1
        host = (await client.status()).host
        assert (host.persists, host.syncs) == (count, 1)

    on_one_node(tmp_path, story)


def test_pipeline_reports_each_kind_of_failure_by_its_class(tmp_path: Path) -> None:
    async def story(nodes: Nodes, client: Client) -> None:
        stream = client.storage.Pipeline()
        request = operations([client.put_request("k" * 2048), client.put_request("stuck-1")])
        request.operations[1].timeout_ms = 50
        request.operations.add(number=3)
        request.operations.add(number=4, get=storage_pb2.GetRequest(key="k"))
        await stream.write(request)
        await stream.done_writing()
        results = {}
        while (response := await stream.read()) is not grpc.aio.EOF:
            results.update({each.number: each for each in response.results})
        reasons = {number: each.failure.reason for number, each in results.items()}
        assert reasons == {1: "InvalidRequest", 2: "QuorumTimeout", 3: "InvalidRequest", 4: ""}
        assert dict(results[2].failure.metadata) == {"got": "1", "needed": "2"}
        assert results[4].HasField("get")

    on_one_node(tmp_path, story)


def test_a_pipeline_that_nobody_reads_is_not_read_from_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("replication.host.pipeline.UNANSWERED_MAX", 10)

    async def story(nodes: Nodes, client: Client) -> None:
        node = nodes.processes["n1"].node
        stream = client.storage.Pipeline()
        for frame in range(8):
            request = operations([client.put_request(f"stuck-{frame}-{n}") for n in range(5)])
            for operation in request.operations:
                operation.timeout_ms = 300
            await stream.write(request)
        await stream.done_writing()
        # The third frame is read when there are fewer than ten, and then nothing is.
        await eventually(lambda: node.in_flight == 10, "two frames are in flight")
        answered, most = 0, 0
        while (response := await stream.read()) is not grpc.aio.EOF:
            answered += len(response.results)
            most = max(most, node.in_flight)
        assert answered == 40
        assert most <= 10

    on_one_node(tmp_path, story)
