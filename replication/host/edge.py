"""The edge of the gRPC server: who may call what; the one place where errors are mapped."""

import hmac
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc
import grpc.aio

from replication.errors import ERROR_DOMAIN, OperationError
from replication.host.config import SECRET_METADATA
from replication.v1 import storage_pb2

_GUARDED = ("/replication.v1.ControlService/", "/replication.v1.PeerService/")
_DETAILS_METADATA = "grpc-status-details-bin"

# Quoted: generic in the type stubs alone.
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"
_Continuation: TypeAlias = Callable[[grpc.HandlerCallDetails], Awaitable[_Handler]]


class Edge(grpc.aio.ServerInterceptor):
    """Demands the secret where a caller could break the cluster, and maps errors of unary calls."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()
        self._handlers: dict[str, _Handler] = {}  # of the methods that anybody may call

    async def intercept_service(
        self, continuation: _Continuation, details: grpc.HandlerCallDetails
    ) -> _Handler:
        """Return the handler of the call; grpc calls this for each one."""
        method = details.method
        known = self._handlers.get(method)
        if known is not None:
            return known
        if method.startswith(_GUARDED):
            if not self._knows_secret(details):
                return _REFUSAL
            return _mapped(await continuation(details))
        handler = _mapped(await continuation(details))
        if handler is not None:
            self._handlers[method] = handler
        return handler

    def _knows_secret(self, details: grpc.HandlerCallDetails) -> bool:
        shown = dict(details.invocation_metadata).get(SECRET_METADATA, "")
        shown_bytes = shown.encode() if isinstance(shown, str) else shown
        return hmac.compare_digest(shown_bytes, self._secret)


async def _refuse(_requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    await context.abort(
        grpc.StatusCode.UNAUTHENTICATED, f"metadata {SECRET_METADATA} is not the cluster's secret"
    )


# A handler of streams refuses at once whatever the call's kind; one of unary calls would wait for
# the request first.
_REFUSAL: _Handler = grpc.stream_stream_rpc_method_handler(_refuse)


def _mapped(handler: _Handler) -> _Handler:
    """Return the handler, its OperationErrors turned into gRPC statuses if it is a unary one."""
    if handler is None or handler.unary_unary is None:
        return handler
    inner = handler.unary_unary

    async def call(request: Any, context: Any) -> Any:
        try:
            return await inner(request, context)
        except OperationError as error:
            details = ((_DETAILS_METADATA, rich_details(error)),)
            await context.abort(grpc.StatusCode[error.grpc_status], error.message, details)

    return grpc.unary_unary_rpc_method_handler(
        call, handler.request_deserializer, handler.response_serializer
    )


def rich_details(error: OperationError) -> bytes:
    """Return an error as a serialised google.rpc.Status with ErrorInfo and, perhaps, RetryInfo."""
    # Imported when the first operation fails: a node that starts does not need them.
    from google.rpc import error_details_pb2, status_pb2

    status = status_pb2.Status(
        code=grpc.StatusCode[error.grpc_status].value[0], message=error.message
    )
    status.details.add().Pack(
        error_details_pb2.ErrorInfo(
            reason=error.reason, domain=ERROR_DOMAIN, metadata=error.metadata
        )
    )
    if error.retry_after_ms is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(error.retry_after_ms)
        status.details.add().Pack(retry)
    data: bytes = status.SerializeToString()
    return data


def failure(error: OperationError) -> storage_pb2.OperationFailure:
    """Return an error as it travels in a Pipeline."""
    return storage_pb2.OperationFailure(
        reason=error.reason, message=error.message, metadata=error.metadata
    )
