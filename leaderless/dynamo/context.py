"""The opaque context of the storage API: what a client has seen of one key.

A read's context covers the versions it returned and what they superseded. A write's context covers
what the request's context covered and the new dot, never a version that the writer has not read:
its next put would erase that silently.
"""

from typing import Final
from zlib import crc32

from google.protobuf.message import DecodeError

from leaderless.dynamo.vector import NOTHING, VersionVector, fill_vector, vector_of
from leaderless.v1 import dynamo_pb2
from replication.errors import InvalidRequest

# Writers who never read, on a key that others write too, gather a hole for each write of the
# others. Beyond this many the oldest dots of the client's own writes are forgotten; each may come
# back as a sibling from a replica that has missed the last 256 writes of this client, no more.
CONTEXT_HOLES_MAX: Final = 256

# A counter above this was never handed out, and the next one after it must fit into 64 bits.
COUNTER_MAX: Final = 2**62

# A context cannot carry a clock beyond the year 2116.
TIMESTAMP_NS_MAX: Final = 2**62


def encode_context(key: str, vector: VersionVector, timestamp_ns: int = 0) -> bytes:
    """Return the context of somebody who has seen ``vector``; empty for nothing at all."""
    if not vector.tops:
        return b""
    message = dynamo_pb2.Context(key_check=crc32(key.encode()), timestamp_ns=timestamp_ns)
    fill_vector(message.vector, vector.forgetting(CONTEXT_HOLES_MAX))
    return message.SerializeToString()


def decode_context(key: str, context: bytes) -> VersionVector:
    """Return what the client has seen of ``key``.

    Raises InvalidRequest for bytes that are no context, or are the context of another key.
    """
    if not context:
        return NOTHING
    try:
        message = dynamo_pb2.Context.FromString(context)
        vector = vector_of(message.vector)
    except (DecodeError, ValueError):
        raise InvalidRequest("the context is not one that a read or write returned") from None
    if message.key_check != crc32(key.encode()):
        raise InvalidRequest("the context belongs to another key")
    if not all(1 <= top <= COUNTER_MAX for top in vector.tops.values()):
        raise InvalidRequest("the context is not one that a read or write returned")
    return vector


def context_timestamp_ns(context: bytes) -> int:
    """Return the greatest timestamp that the owner of a valid context has read, 0 for none."""
    return min(dynamo_pb2.Context.FromString(context).timestamp_ns, TIMESTAMP_NS_MAX)
