"""Server reflection, imported when somebody asks for it: most nodes never need it."""

from typing import Any

import grpc

_METHOD = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


class LazyReflection(grpc.GenericRpcHandler):
    """Answers ``grpcurl list`` and its like."""

    def __init__(self, service_names: tuple[str, ...]) -> None:
        """Reveal the services of these full names, and the one of reflection itself."""
        self._service_names = service_names
        self._handler: Any = None

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Return the handler if the call is for reflection, else None."""
        if handler_call_details.method != _METHOD:
            return None
        if self._handler is None:
            self._handler = _make_handler(self._service_names)
        return self._handler


def _make_handler(service_names: tuple[str, ...]) -> Any:
    from grpc_reflection.v1alpha import reflection
    from grpc_reflection.v1alpha._async import ReflectionServicer
    from grpc_reflection.v1alpha.reflection_pb2 import (
        ServerReflectionRequest,
        ServerReflectionResponse,
    )

    servicer = ReflectionServicer((*service_names, reflection.SERVICE_NAME))
    return grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=ServerReflectionRequest.FromString,
        response_serializer=ServerReflectionResponse.SerializeToString,
    )
