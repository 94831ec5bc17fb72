"""Control calls to a node that goes away meanwhile: they fail, and whoever asked goes on."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc.aio
import pytest

from replication.cluster.control import Control, ControlFailed
from replication.errors import Indefinite
from replication.v1 import control_pb2, control_pb2_grpc

NEVER_S = 30.0


class Silent(control_pb2_grpc.ControlServiceServicer):
    """Takes calls and answers none."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def Status(self, request: object, context: object) -> Any:
        self.asked.set()
        await asyncio.Event().wait()

    Command = ListContents = Status  # type: ignore[assignment]


def with_silent(story: Callable[[Silent, Control], Awaitable[None]]) -> None:
    async def run() -> None:
        server, silent = grpc.aio.server(), Silent()  # type: ignore[abstract]
        control_pb2_grpc.add_ControlServiceServicer_to_server(silent, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        control = Control({"n1": f"127.0.0.1:{port}"}, "secret")
        async with asyncio.timeout(20):
            await story(silent, control)
        await control.close()
        await server.stop(None)

    asyncio.run(run())


def test_a_connection_that_is_closed_fails_the_call_and_does_not_cancel_the_caller() -> None:
    async def story(silent: Silent, control: Control) -> None:
        command = control_pb2.CommandRequest()
        for call, error in (
            (control.status("n1", NEVER_S), ControlFailed),
            (control.contents("n1", NEVER_S), ControlFailed),
            (control.command("n1", command, NEVER_S), Indefinite),
        ):
            silent.asked.clear()
            task = asyncio.ensure_future(call)
            await silent.asked.wait()
            await control.forget("n1")
            with pytest.raises(error, match="connection was closed"):
                await task

    with_silent(story)


def test_statuses_leave_out_a_node_that_is_killed_meanwhile() -> None:
    async def story(silent: Silent, control: Control) -> None:
        task = asyncio.create_task(control.statuses(["n1"], NEVER_S))
        await silent.asked.wait()
        await control.forget("n1")
        assert await task == {}

    with_silent(story)


def test_a_caller_that_is_cancelled_is_cancelled() -> None:
    async def story(silent: Silent, control: Control) -> None:
        task = asyncio.create_task(control.statuses(["n1"], NEVER_S))
        await silent.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with_silent(story)
