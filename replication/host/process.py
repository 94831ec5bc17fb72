"""One node, assembled: store, core, links, services, and how they start and end together."""

import asyncio
import contextlib
import logging
import os
import socket
from pathlib import Path
from random import Random

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_health.v1.health_pb2 import HealthCheckResponse

from replication.errors import ConfigError, OperationError
from replication.host.clock import NodeClock
from replication.host.config import (
    EVENTS_FILE,
    MESSAGE_BYTES_MAX,
    STORE_FILE,
    SYNC_ALWAYS,
    NodeConfig,
)
from replication.host.edge import Edge
from replication.host.events import EventLog
from replication.host.links import Link
from replication.host.node import Node
from replication.host.reflection import LazyReflection
from replication.host.services import Answer, ControlService, PeerService, StorageService
from replication.host.settings import build_settings
from replication.host.stamps import Stamps
from replication.host.store import Store
from replication.protocol import HostedCore, Membership, load_backend
from replication.v1 import control_pb2, control_pb2_grpc, event_pb2, peer_pb2_grpc, storage_pb2_grpc

log = logging.getLogger("replication.host")

STOP_GRACE_SECONDS = 0.25  # for operations in flight when the node is told to stop
HAND_OVER_SECONDS = 0.1  # for a leader that is told to stop to let somebody else lead before
ANSWERS_LEAVE_SECONDS = 0.005  # for the last answers to be written to their connections

STORAGE_SERVICE = "replication.v1.StorageService"
_SERVICES = (
    STORAGE_SERVICE,
    "replication.v1.ControlService",
    "replication.v1.PeerService",
    "grpc.health.v1.Health",
)

_SERVER_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", -1),  # siblings of a key go out whatever they add up to
    # The launcher may hold the port with a socket of its own, bound and never listening.
    ("grpc.so_reuseport", 1),
    # Peers ping an idle connection every 10 s; that is no misbehaviour.
    ("grpc.http2.max_ping_strikes", 0),
)


class NodeProcess:
    """Everything that one node process runs, on one event loop."""

    def __init__(self, config: NodeConfig) -> None:
        """Open the store and make the core, without starting anything.

        Raises ConfigError, and CorruptStore when the store is damaged. Must be called on a running
        loop.
        """
        self._config = config
        backend = load_backend(config.backend)
        settings = build_settings(backend, config.settings, len(config.members))
        membership = Membership(config.node, config.members)
        core = backend.create(membership, settings, Random(f"{config.seed}/{config.node}"))
        folder = Path(config.folder)
        synced = config.sync == SYNC_ALWAYS
        self._store = Store(folder / STORE_FILE, config.sync)
        self._events = EventLog(folder / EVENTS_FILE, config.node)
        fault_rng = Random(f"{config.seed}/{config.node}/links")
        power_rng = Random(f"{config.seed}/{config.node}/power")
        parse = backend.message_type.FromString
        self._links = {
            peer: Link(
                config.node,
                peer,
                config.addresses[peer],
                config.secret,
                fault_rng,
                parse,
                stamps=config.stamps,
            )
            for peer in config.peers
        }
        clock = NodeClock()
        self.node = Node(
            core,
            self._store,
            self._links,
            self._events,
            synced=synced,
            clock=clock,
            stamps=Stamps(backend.legs) if config.stamps else None,
        )
        if backend.hosted:
            hosted: HostedCore = core  # type: ignore[assignment]
            hosted.attach(folder, self.node.perform)
        self._server = grpc.aio.server(interceptors=[Edge(config.secret)], options=_SERVER_OPTIONS)
        storage_pb2_grpc.add_StorageServiceServicer_to_server(
            StorageService(self.node, backend), self._server
        )
        control_pb2_grpc.add_ControlServiceServicer_to_server(
            ControlService(
                self.node, backend, self._store, self._links, self._events, clock, power_rng
            ),
            self._server,
        )
        peer_pb2_grpc.add_PeerServiceServicer_to_server(PeerService(self._links), self._server)
        self._health = HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._server.add_generic_rpc_handlers((LazyReflection(_SERVICES),))

    async def start(self) -> None:
        """Serve, then start the core. Raises ConfigError when the address is taken."""
        address = self._config.bind or self._config.address
        _refuse_taken(address)
        try:
            self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise ConfigError([f"cannot listen on {address}: {error}"]) from None
        await self._set_serving(False)
        serving_changed = asyncio.Event()
        self.node.on_serving = lambda serving: serving_changed.set()
        self._health_task = asyncio.create_task(self._keep_health(serving_changed))
        started = event_pb2.NodeStarted(
            pid=os.getpid(),
            recovered_records=self._store.recovered_records,
            torn_bytes=self._store.torn_bytes,
        )
        # The core starts before the first request can come; whoever calls finds it running.
        self.node.start(event_pb2.Event(node_started=started))
        members = self._config.members
        for peer, link in self._links.items():
            # Nobody knows when, or whether, a spare node is started.
            at_once = self._config.node in members and peer in members
            link.start(self.node.receive, self.node.fail, at_once=at_once)
        await self._server.start()

    @property
    def connected(self) -> bool:
        """Return whether all members take messages from this node."""
        members = self._config.members
        return all(link.connected for peer, link in self._links.items() if peer in members)

    async def _keep_health(self, changed: asyncio.Event) -> None:
        while True:
            await changed.wait()
            changed.clear()
            await self._set_serving(self.node.serving)

    async def _set_serving(self, serving: bool) -> None:
        status = HealthCheckResponse.SERVING if serving else HealthCheckResponse.NOT_SERVING
        await self._health.set(STORAGE_SERVICE, status)

    async def _hand_over(self) -> None:
        """Let somebody else lead, if this node does: its end then costs no election timeout.

        A core that offers no such thing, or nobody to hand over to, refuses; the end goes on.
        """
        if self.node.core.status().role != event_pb2.ROLE_LEADER:
            return
        answer = Answer()
        request = control_pb2.CommandRequest(transfer_leadership=control_pb2.TransferLeadership())
        deadline_ns = self.node.now_ns() + int(HAND_OVER_SECONDS * 1e9)
        with contextlib.suppress(OperationError, TimeoutError):
            async with asyncio.timeout(HAND_OVER_SECONDS):
                self.node.submit(answer, 0, request, deadline_ns)
                await answer.future

    async def stop(self, reason: str) -> None:
        """Refuse new operations, let those in flight end for a moment, sync, let go of everything.

        After a failure of the node nothing more is performed and nothing synced: what the core and
        the store believe is not to be trusted any more.
        """
        failed = self.node.failed.done()
        if not failed:
            await self._hand_over()
        self.node.tell_stopping(reason)
        if not failed:
            self.node.stop_accepting()
            await self._health.enter_graceful_shutdown()
            refusing = asyncio.create_task(self._server.stop(STOP_GRACE_SECONDS))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_GRACE_SECONDS):
                    await self.node.drained()
            await asyncio.sleep(ANSWERS_LEAVE_SECONDS)
            refusing.cancel()
        await self._server.stop(None)
        self._health_task.cancel()
        for link in self._links.values():
            await link.stop()
        self.node.close()
        if failed:
            self._store.abandon()
        else:
            self._store.close()
        self._events.close()


def _refuse_taken(address: str) -> None:
    """Raise ConfigError when somebody listens there: SO_REUSEPORT would share the port silently."""
    host, _, port = address.rpartition(":")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.settimeout(0.5)
        if probe.connect_ex((host.strip("[]"), int(port))) == 0:
            raise ConfigError([f"another process listens on {address}"])
