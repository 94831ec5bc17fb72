"""How every client of ours connects to a node."""

from typing import Any

import grpc.aio

from replication.host.config import MESSAGE_BYTES_MAX

RECONNECT_MS = 40  # after a refused connection; gRPC varies it by a fifth
CONNECT_TIMEOUT_MS = 1_000

_OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    # A node that comes back is to be found at once: it is on this machine, or a few hops away.
    ("grpc.initial_reconnect_backoff_ms", RECONNECT_MS),
    ("grpc.max_reconnect_backoff_ms", RECONNECT_MS),
    # Despite its name, the least that one attempt to connect may take: a busy node shakes hands
    # late, and giving up on it early would only make it busier.
    ("grpc.min_reconnect_backoff_ms", CONNECT_TIMEOUT_MS),
    # A fresh channel starts afresh, without the backoff of an earlier one to the same address.
    ("grpc.use_local_subchannel_pool", 1),
    # Retries inside the library would hide attempts from the history.
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
)


def open_channel(address: str) -> grpc.aio.Channel:
    """Return a channel to the node at ``address`` (host:port); it connects when it is used."""
    return grpc.aio.insecure_channel(address, options=_OPTIONS)
