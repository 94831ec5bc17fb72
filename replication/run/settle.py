"""After healing: when do all replicas hold the same, and what is it."""

import asyncio
from collections.abc import Callable, Iterable, Mapping

from replication.client.requests import seen_version
from replication.cluster.control import Control, ControlFailed
from replication.history import ContentsSample, ReplicaContents, SeenVersion
from replication.protocol import NodeId
from replication.v1 import control_pb2, storage_pb2

POLL_S = 0.12
EQUAL_IN_A_ROW = 2

Contents = Mapping[NodeId, list[control_pb2.KeyContents] | None]  # None: did not answer


async def settle(
    control: Control,
    nodes: Iterable[NodeId],
    now_ns: Callable[[], int],
    until_ns: int,
    samples: list[ContentsSample],
) -> None:
    """Add samples until all owners of every key were equal twice in a row, or until ``until_ns``.

    At least one sample is taken. They go to ``samples`` as they are taken: a run that is cut short
    keeps them.
    """
    asked = list(nodes)
    equal = 0
    while True:
        samples.append(sample(await all_contents(control, asked), now_ns()))
        equal = 0 if samples[-1].differing or samples[-1].unreachable else equal + 1
        if equal >= EQUAL_IN_A_ROW or now_ns() >= until_ns:
            return
        await asyncio.sleep(POLL_S)


async def all_contents(control: Control, nodes: Iterable[NodeId]) -> Contents:
    """Ask all nodes at once what they hold."""

    async def ask(node: NodeId) -> list[control_pb2.KeyContents] | None:
        try:
            return await control.contents(node)
        except ControlFailed:
            return None

    asked = list(nodes)
    answers = await asyncio.gather(*(ask(node) for node in asked))
    return dict(zip(asked, answers, strict=True))


def sample(contents: Contents, time_ns: int) -> ContentsSample:
    """Compare the owners of every key. A key whose owners cannot all be asked counts as differing.

    Versions are the same when their write ids are: an id names one write for ever.
    """
    owners: dict[str, set[NodeId]] = {}
    held: dict[str, dict[NodeId, frozenset[tuple[str, int]]]] = {}
    for node, keys in contents.items():
        for key in keys or ():
            owners.setdefault(key.key, set()).update(key.owners)
            held.setdefault(key.key, {})[node] = frozenset(
                (version.write_id.client_id, version.write_id.sequence) for version in key.versions
            )
    differing = []
    for name in sorted(owners):
        versions = {held[name].get(owner, frozenset()) for owner in owners[name]}
        silent = any(contents.get(owner) is None for owner in owners[name])
        if silent or len(versions) > 1:
            differing.append(name)
    unreachable = [node for node, keys in contents.items() if keys is None]
    return ContentsSample(time_ns, len(owners), differing, unreachable)


def replica_contents(contents: Contents) -> list[ReplicaContents]:
    """Return what every replica holds, as the history keeps it."""
    return [
        ReplicaContents(
            node, key.key, node in key.owners, [_without_value(v) for v in key.versions]
        )
        for node, keys in contents.items()
        for key in keys or ()
    ]


def _without_value(version: storage_pb2.Version) -> SeenVersion:
    seen = seen_version(version)
    seen.value = None  # contents are listed without them
    return seen
