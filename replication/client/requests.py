"""From a planned operation to its request, and from a response to what the history keeps. Pure."""

from dataclasses import dataclass

from replication.history import Operation, OperationKind, SeenVersion
from replication.plan.model import PlannedOperation, Update
from replication.protocol import Family, StorageRequest, StorageResponse
from replication.v1 import storage_pb2

# A carried context may cover more ids than are listed: older ones are reachable through the
# ``based_on`` of the client's own newest write, which is always in the list.
COVERED_IDS_MAX = 64

_LEVELS = {
    name.removeprefix("CONSISTENCY_").lower(): value
    for name, value in storage_pb2.Consistency.items()
}

_UPDATES = {
    Update.COUNT: storage_pb2.UPDATE_INCREMENT,
    Update.ADD: storage_pb2.UPDATE_ADD,
}


# One of each per operation: frozen ones take twice as long to make. Nobody changes them.


@dataclass(slots=True)
class Carried:
    """The context that a client holds of one key, and the write ids it is known to cover."""

    context: bytes
    covers: tuple[str, ...]  # "client:sequence", oldest first


NOTHING_CARRIED = Carried(b"", ())


def level(name: str | None) -> storage_pb2.Consistency.ValueType:
    """Return the level called ``name`` ("quorum"); None is the default of the cluster.

    An unknown name is a mistake of ours: scenarios and command lines are checked before.
    """
    return storage_pb2.CONSISTENCY_UNSPECIFIED if name is None else _LEVELS[name]


def write_id(planned: PlannedOperation) -> str:
    """Return the id of a planned write as histories spell it."""
    return f"{planned.client}:{planned.sequence}"


def build_request(planned: PlannedOperation, family: Family, context: bytes) -> StorageRequest:
    """Return the request that asks for ``planned``. Leaders are never told R or W."""
    asked = level(planned.consistency)
    replicas = planned.replicas if family is Family.LEADERLESS else 0
    if planned.kind is OperationKind.GET:
        return storage_pb2.GetRequest(key=planned.key, consistency=asked, r=replicas)
    identity = storage_pb2.WriteId(client_id=planned.client, sequence=planned.sequence)
    if planned.kind is OperationKind.DELETE:
        return storage_pb2.DeleteRequest(
            key=planned.key, context=context, write_id=identity, consistency=asked, w=replicas
        )
    value = (planned.value or "").encode()
    if planned.kind is OperationKind.PUT:
        return storage_pb2.PutRequest(
            key=planned.key,
            value=value,
            context=context,
            write_id=identity,
            consistency=asked,
            w=replicas,
            update=storage_pb2.UPDATE_UNSPECIFIED
            if planned.update is None or not planned.applied
            else _UPDATES[planned.update],
        )
    return storage_pb2.CompareAndSetRequest(
        key=planned.key,
        expected=None if planned.expected is None else planned.expected.encode(),
        value=value,
        write_id=identity,
        consistency=asked,
    )


def record_response(operation: Operation, response: StorageResponse, asked: str) -> None:
    """Copy what ``response`` of node ``asked`` says into ``operation``."""
    served = response.served
    operation.node = served.node or asked
    operation.term = served.term or None
    operation.log_index = served.log_index or None
    for replica in served.replicas:
        operation.replicas.append(replica.node)
        if replica.fallback:
            operation.fallbacks.append(replica.node)
    if isinstance(response, storage_pb2.GetResponse):
        operation.seen = [seen_version(each) for each in response.versions]
    elif not isinstance(response, storage_pb2.CompareAndSetResponse) and response.HasField("dot"):
        operation.dot = dot_text(response.dot)


def carried_after(
    operation: Operation, response: StorageResponse, carried: Carried
) -> Carried | None:
    """Return what the client carries of the key from now on, None when it is left as it was.

    A read replaces it: the context covers what was seen. A write adds itself to what it carried
    (storage.proto, PutResponse), so a blind write leaves a context that covers only itself.
    """
    if isinstance(response, storage_pb2.CompareAndSetResponse):
        return None
    if not response.context:
        return NOTHING_CARRIED
    if isinstance(response, storage_pb2.GetResponse):
        return Carried(response.context, tuple(each.write_id for each in operation.seen))
    assert operation.write_id is not None, "a write has an id"
    covers = (*carried.covers, operation.write_id)
    return Carried(response.context, covers[-COVERED_IDS_MAX:])


@dataclass(slots=True)
class Known:
    """What a client knows a key to hold: live values, and the writes that it knows of."""

    values: tuple[str, ...]
    write_ids: tuple[str, ...]


def known_after(operation: Operation) -> Known:
    """Return what the client of an ok operation knows of its key."""
    if operation.kind is OperationKind.GET:
        live = (each.value or "" for each in operation.seen if not each.tombstone)
        return Known(tuple(live), tuple(each.write_id for each in operation.seen))
    assert operation.write_id is not None, "a write has an id"
    values = () if operation.kind is OperationKind.DELETE else (operation.value or "",)
    return Known(values, (operation.write_id,))


def based_on(planned: PlannedOperation, carried: Carried, known: Known | None) -> list[str]:
    """Return the writes that this one replaces knowingly: those that its context covers.

    And if a compare-and-set expects what its client knows the key to hold, the write of that value:
    if it takes effect, that is what it replaces.
    """
    found = carried.covers
    if planned.kind is OperationKind.COMPARE_AND_SET and known is not None:
        expected = () if planned.expected is None else (planned.expected,)
        if known.values == expected:
            found = (*found, *known.write_ids)
    return list(dict.fromkeys(found))


def seen_version(version: storage_pb2.Version) -> SeenVersion:
    """Return one version of a response as histories keep it."""
    identity = version.write_id
    return SeenVersion(
        write_id=f"{identity.client_id}:{identity.sequence}",
        tombstone=version.tombstone,
        dot=dot_text(version.dot) if version.HasField("dot") else None,
        value=None if version.tombstone else version.value.decode(errors="replace"),
        timestamp_ns=version.timestamp_ns or None,
    )


def dot_text(dot: storage_pb2.Dot) -> str:
    """Return a dot as histories spell it."""
    return f"{dot.actor}:{dot.counter}"
