"""What replicas hold, compared: when are all owners of every key equal.

Real runs and simulations ask their nodes in their own ways and judge alike.
"""

from collections.abc import Mapping, Sequence

from replication.client.requests import seen_version
from replication.history import ContentsSample, ReplicaContents, SeenVersion
from replication.protocol import NodeId
from replication.v1 import control_pb2, storage_pb2

EQUAL_IN_A_ROW = 2  # samples: one alone may have been taken from node to node over a write

Contents = Mapping[NodeId, Sequence[control_pb2.KeyContents] | None]  # None: did not answer


def sample(contents: Contents, time_ns: int, *, absent_differ: bool = True) -> ContentsSample:
    """Compare the owners of every key. A key whose owners cannot all be asked counts as differing.

    So does one of which somebody keeps a version in the place of an owner, when no owner has it:
    it is still to come. Unless ``absent_differ`` is False, for a look while faults last: then only
    those owners that answer are compared. Versions are the same when their write ids are: an id
    names one write for ever.
    """
    owners: dict[str, set[NodeId]] = {}
    held: dict[str, dict[NodeId, frozenset[tuple[str, int]]]] = {}
    to_come: dict[str, set[tuple[str, int]]] = {}
    for node, keys in contents.items():
        for key in keys or ():
            owners.setdefault(key.key, set()).update(key.owners)
            here = held.setdefault(key.key, {})
            ids = frozenset(
                (version.write_id.client_id, version.write_id.sequence) for version in key.versions
            )
            if key.stand_in:
                to_come.setdefault(key.key, set()).update(ids)
            else:
                here[node] = ids
    differing = []
    for name in sorted(owners):
        answering = [owner for owner in owners[name] if contents.get(owner) is not None]
        versions = {held[name].get(owner, frozenset()) for owner in answering}
        missing = absent_differ and (
            len(answering) < len(owners[name])
            or not to_come.get(name, frozenset()) <= frozenset().union(*versions)
        )
        if missing or len(versions) > 1:
            differing.append(name)
    unreachable = [node for node, keys in contents.items() if keys is None]
    return ContentsSample(time_ns, len(owners), differing, unreachable)


def settled(samples: Sequence[ContentsSample]) -> bool:
    """Return whether everybody answered and was equal in each of the last samples."""
    latest = samples[-EQUAL_IN_A_ROW:]
    return len(latest) == EQUAL_IN_A_ROW and not any(
        each.differing or each.unreachable for each in latest
    )


def replica_contents(contents: Contents) -> list[ReplicaContents]:
    """Return what every replica holds, as the history keeps it."""
    return [
        ReplicaContents(
            node,
            key.key,
            node in key.owners and not key.stand_in,
            [_without_value(v) for v in key.versions],
        )
        for node, keys in contents.items()
        for key in keys or ()
    ]


def _without_value(version: storage_pb2.Version) -> SeenVersion:
    seen = seen_version(version)
    seen.value = None  # contents are listed without them
    return seen
