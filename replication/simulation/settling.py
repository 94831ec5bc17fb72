"""Comparing what the replicas hold."""

from collections.abc import Iterable, Mapping, Sequence

from replication.client.requests import seen_version
from replication.history import ContentsSample, ReplicaContents
from replication.protocol import NodeId
from replication.v1 import control_pb2

Contents = Mapping[NodeId, Mapping[str, control_pb2.KeyContents]]


def compare(time_ns: int, nodes: Sequence[NodeId], contents: Contents) -> ContentsSample:
    """Compare the owners of every key; ``contents`` lacks the nodes that could not be asked.

    A key whose owners cannot all be asked counts as differing. Versions are the same when their
    write ids are: an id names one write for ever.
    """
    owners: dict[str, dict[NodeId, None]] = {}
    for held in contents.values():
        for key, each in held.items():
            owners.setdefault(key, {}).update(dict.fromkeys(each.owners))
    differing = [key for key in sorted(owners) if not _agree(key, owners[key], contents)]
    unreachable = [node for node in nodes if node not in contents]
    return ContentsSample(time_ns, len(owners), differing, unreachable)


def _agree(key: str, owners: Iterable[NodeId], contents: Contents) -> bool:
    if any(owner not in contents for owner in owners):
        return False
    return len({_write_ids(contents[owner].get(key)) for owner in owners}) == 1


def _write_ids(contents: control_pb2.KeyContents | None) -> frozenset[tuple[str, int]]:
    versions = () if contents is None else contents.versions
    return frozenset((each.write_id.client_id, each.write_id.sequence) for each in versions)


def replica_contents(contents: Contents) -> list[ReplicaContents]:
    """Return the contents as histories keep them, by node and key."""
    found = []
    for node, held in contents.items():
        for key, each in held.items():
            versions = [seen_version(version) for version in each.versions]
            for version in versions:
                version.value = None  # listings carry no values
            found.append(ReplicaContents(node, key, node in each.owners, versions))
    return found
