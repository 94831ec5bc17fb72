"""What a Dynamo-style cluster never does, checked at every step of a simulation.

- A dot names one write for ever: no two writes of a key get the same one.
- What a replica has seen of a key only grows, crashes included: a dot that it has let anybody know
  of is known to it after every restart.
- With siblings (``dvv``) a version goes only when a write that had read it has come: no
  acknowledged write is dropped by another one that was concurrent. An update of a counter or a set
  also replaces what it repeats.
- What a writer had read is in the context that it gets back: contexts only grow.
- A write that was acknowledged is durable at every replica that the answer names, or was at one
  that stood in for a primary and has handed it over since, or that has purged a delete since.

From these follows that a version which W replicas have acknowledged is never lost from all of them.
A wiped disk may forget; it owes nothing from before. Everything is incremental: a step is looked at
where it wrote. What a replica knows counts as promised once it is *released*: durable, and followed
by whatever the step let out.

A broken promise raises AssertionError that names the key, the dot and the nodes.
"""

from collections import deque
from collections.abc import Sequence

from leaderless.dynamo import types
from leaderless.dynamo.context import CONTEXT_HOLES_MAX, decode_context
from leaderless.dynamo.core import DynamoCore
from leaderless.dynamo.replica import SPACE, STAND_IN_SPACE
from leaderless.dynamo.settings import DynamoSettings, Purge
from leaderless.dynamo.vector import NOTHING, VersionVector
from leaderless.dynamo.versions import EMPTY, Siblings, Version, decode
from replication.errors import InvalidRequest, OperationError
from replication.protocol import Core, Effect, NodeId, Persist, Put, RequestBody, Response
from replication.v1 import storage_pb2

WriteName = tuple[str, int]  # client and sequence
Dot = tuple[str, int]
Place = tuple[str, str]  # space and key: what a node holds as a primary, or for one
Changes = list[tuple[Place, Siblings]]


class DynamoInvariants:
    """All promises of one cluster; fulfils ``replication.simulation.watching.Watcher``."""

    def __init__(self, settings: DynamoSettings, nodes: Sequence[NodeId]) -> None:
        self._keeps_siblings = settings.versions.keeps_siblings
        self._purges = settings.purge is not Purge.NEVER
        self._writes: dict[tuple[str, Dot], WriteName] = {}  # who got which dot of which key
        self._contexts: dict[WriteName, VersionVector] = {}  # of writes that were submitted
        self._conditional: set[WriteName] = set()  # compare-and-sets that were submitted
        self._superseded: dict[str, VersionVector] = {}  # by key: what some writer had read
        self._held: dict[NodeId, dict[Place, Siblings]] = {node: {} for node in nodes}
        self._durable: dict[NodeId, dict[Place, Siblings]] = {node: {} for node in nodes}
        # What steps wrote that nobody may rely on yet: a crash may leave it on the disk.
        self._written: dict[NodeId, deque[Changes]] = {node: deque() for node in nodes}
        self._dropped: dict[tuple[NodeId, str], VersionVector] = {}  # handed over or purged
        self._wiped: set[NodeId] = set()  # ever

    def clock_runs(self, node: NodeId, ppm: int) -> None:
        """What is checked here rests on no clock."""

    def started(self, node: NodeId, core: Core) -> None:
        """A life begins with at least what was released before."""
        for place, siblings in self._durable[node].items():
            written = (
                each for changes in self._written[node] for at, each in changes if at == place
            )
            if self._purges and any(each.is_deleted() for each in (siblings, *written)):
                continue  # Its grace may have ended while the node was away.
            self._grows(node, place[1], siblings, _siblings(core, place), "forgot in a restart")
        self._written[node].clear()
        self._held[node] = dict(self._durable[node])

    def submitted(self, node: NodeId, body: RequestBody) -> None:
        """Remember what a writer had read: only that may its write drop."""
        if isinstance(body, storage_pb2.PutRequest | storage_pb2.DeleteRequest):
            try:
                context = decode_context(body.key, body.context)
            except InvalidRequest:
                return
            self._contexts[body.write_id.client_id, body.write_id.sequence] = context
        elif isinstance(body, storage_pb2.CompareAndSetRequest):
            self._conditional.add((body.write_id.client_id, body.write_id.sequence))

    def stepped(self, node: NodeId, core: Core, effects: Sequence[Effect]) -> Changes | None:
        """Check every key that the step wrote; return them, to be promised once released."""
        changes: Changes = []
        held = self._held[node]
        for effect in effects:
            if type(effect) is not Persist:
                continue
            for write in effect.writes:
                if write.space not in (SPACE, STAND_IN_SPACE):
                    continue
                key = (write.key if isinstance(write, Put) else write.start).decode()
                place = (write.space, key)
                before = held.get(place, EMPTY)
                after = _siblings(core, place) if isinstance(write, Put) else EMPTY
                if after is EMPTY and isinstance(write, Put):
                    # Dropped since, in the same step: that is written with the next one.
                    after = decode(write.value)
                if after is before:
                    continue
                if isinstance(write, Put):
                    self._changed(node, key, before, after)
                held[place] = after
                changes.append((place, after))
        if not changes:
            return None
        self._written[node].append(changes)
        return changes

    def released(self, node: NodeId, core: Core, token: object) -> None:
        """What is written may be relied on by others from now on."""
        assert token is self._written[node].popleft(), "steps are released in their order"
        assert isinstance(token, list), "the token is what stepped returned"
        durable = self._durable[node]
        for place, siblings in token:
            key = place[1]
            for dot, version in siblings.versions.items():
                name = (version.write_id.client_id, version.write_id.sequence)
                self._writes.setdefault((key, dot), name)
            if siblings is EMPTY:
                self._handed_over(node, key, durable.pop(place, EMPTY).vector)
            else:
                durable[place] = siblings

    def replied(self, node: NodeId, body: RequestBody, result: Response | OperationError) -> None:
        """An acknowledged write is durable wherever the answer says."""
        if not isinstance(result, storage_pb2.PutResponse | storage_pb2.DeleteResponse):
            return
        dot = (result.dot.actor, result.dot.counter)
        assert isinstance(body, storage_pb2.PutRequest | storage_pb2.DeleteRequest), "a write"
        self._context_grew(body, result)
        for replica in result.served.replicas:
            if replica.node in self._wiped:
                continue
            space = STAND_IN_SPACE if replica.fallback else SPACE
            held = self._durable[replica.node].get((space, body.key), EMPTY).vector
            held = held.join(self._dropped.get((replica.node, body.key), NOTHING))
            assert held.covers(*dot), (
                f"An acknowledged write is durable: {node} says that {replica.node} holds "
                f"{_dot(dot)} of {body.key}, and its disk does not"
            )

    def _handed_over(self, node: NodeId, key: str, vector: VersionVector) -> None:
        self._dropped[node, key] = self._dropped.get((node, key), NOTHING).join(vector)

    def _context_grew(
        self,
        body: storage_pb2.PutRequest | storage_pb2.DeleteRequest,
        result: storage_pb2.PutResponse | storage_pb2.DeleteResponse,
    ) -> None:
        """A write's answer covers what its writer had read, and the write."""
        write_id = body.write_id
        before = self._contexts.get((write_id.client_id, write_id.sequence), NOTHING)
        after = decode_context(body.key, result.context)
        assert after.includes(before.forgetting(CONTEXT_HOLES_MAX)), (
            f"Contexts only grow: the writer of {body.key} ({_write(write_id)}) had read {before}, "
            f"and was told {after}"
        )

    def stopped(self, node: NodeId, wiped: bool) -> None:
        """A node whose disk is gone owes nothing from before."""
        if wiped:
            self._durable[node] = {}
            self._wiped.add(node)

    def _changed(self, node: NodeId, key: str, before: Siblings, after: Siblings) -> None:
        for dot, version in after.versions.items():
            if dot not in before.versions:
                self._named(node, key, dot, version.write_id, before, after)
        self._grows(node, key, before, after, "forgot")
        if not self._keeps_siblings:
            return
        superseded = self._superseded.get(key, NOTHING)
        for dot, version in before.versions.items():
            assert dot in after.versions or superseded.covers(*dot), (
                f"A version goes only when a write that had read it comes: {node} dropped "
                f"{_dot(dot)} of {key} (write {_write(version.write_id)}), which no writer had read"
            )

    def _named(
        self,
        node: NodeId,
        key: str,
        dot: Dot,
        write_id: storage_pb2.WriteId,
        before: Siblings,
        after: Siblings,
    ) -> None:
        name = (write_id.client_id, write_id.sequence)
        first = self._writes.get((key, dot))
        if first is None:
            # Not registered before it is released: a dot that dies with its node was never given.
            context = self._contexts.get(name, NOTHING)
            if after.versions[dot].update:
                context = _replaced(after.versions[dot], before, after, context)
            if name in self._conditional:
                # Its proposer read for it: the proposal carries what that was.
                context = after.vector
            self._superseded[key] = self._superseded.get(key, NOTHING).join(context)
        else:
            assert first == name, (
                f"A dot names one write: {_dot(dot)} of {key} was {first[0]}:{first[1]}, and "
                f"{node} holds it as {name[0]}:{name[1]}"
            )

    def _grows(self, node: NodeId, key: str, before: Siblings, after: Siblings, verb: str) -> None:
        assert after.vector.includes(before.vector), (
            f"What a replica has seen only grows: {node} had seen {before.vector} of {key} and "
            f"{verb} some of it: {after.vector}"
        )


def _replaced(
    version: Version, before: Siblings, after: Siblings, context: VersionVector
) -> VersionVector:
    """Return what an update may drop: what says no more than it, whoever has read it."""
    vector = context if version.update == types.REMOVE else NOTHING
    for dot, other in sorted(before.versions.items()):
        if dot not in after.versions and types.replaces(version, other, b""):
            vector = vector.with_dot(*dot)
    return vector


def _siblings(core: Core, place: Place) -> Siblings:
    assert isinstance(core, DynamoCore), "these are the invariants of DynamoCore"
    space, key = place
    node = core._node
    return (node.replica if space == SPACE else node.stand_ins).siblings(key)


def _dot(dot: Dot) -> str:
    return f"{dot[0]}:{dot[1]}"


def _write(write_id: storage_pb2.WriteId) -> str:
    return f"{write_id.client_id}:{write_id.sequence}"


def invariants(settings: DynamoSettings, nodes: tuple[NodeId, ...]) -> DynamoInvariants:
    """Return the watcher of one simulated cluster."""
    return DynamoInvariants(settings, nodes)
