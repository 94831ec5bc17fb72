"""A Dynamo-style node with one classic mistake each, for the swarm to find.

Named in scenarios as ``leaderless = "tests.support.planted_dynamo:repair_overwrites"``. The
invariants of the honest core are theirs too.
"""

from collections.abc import Callable
from dataclasses import replace
from random import Random

from google.protobuf.message import Message

from leaderless.dynamo import DynamoCore, DynamoSettings, backend
from leaderless.dynamo.invariants import invariants
from leaderless.v1 import dynamo_pb2
from replication.protocol import Backend, Effect, Instant, Membership, NodeId, Put, Saved
from tests.support.broken_dynamo import KeepsOneOfTwo, RepairOverwrites, SendsBeforeItPersists

__all__ = ["invariants"]  # found by replication.simulation.invariants


class LosesContexts(DynamoCore):
    """Forgets the context of a write that another node had to coordinate.

    The write then supersedes nothing, and what its writer had read and replaced comes back as a
    sibling.
    """

    def receive(self, now: Instant, sender: NodeId, message: Message) -> list[Effect]:
        assert isinstance(message, dynamo_pb2.DynamoMessage), "the host parses our message type"
        if message.batch.forwards:
            # A message is shared with whoever else gets it: only a copy may be changed.
            mine = dynamo_pb2.DynamoMessage()
            mine.CopyFrom(message)
            for forward in mine.batch.forwards:
                if forward.HasField("put"):
                    forward.put.ClearField("context")
                elif forward.HasField("delete"):
                    forward.delete.ClearField("context")
            message = mine
        return super().receive(now, sender, message)


class ForgetsItsIncarnation(DynamoCore):
    """Calls itself the same whatever disk it has, so a wiped one gives away its old dots again."""

    def _identity(self, now: Instant, saved: Saved) -> tuple[str, int, list[Put]]:
        _, life, writes = super()._identity(now, saved)
        return f"{self._membership.node}#0", life, writes


def _planted(
    core: Callable[[Membership, DynamoSettings, Random], DynamoCore], name: str
) -> Backend:
    return replace(backend, name=f"dynamo-{name}", title=f"Dynamo ({name})", create=core)


repair_overwrites = _planted(RepairOverwrites, "repair-overwrites")
loses_contexts = _planted(LosesContexts, "loses-contexts")
forgets_its_incarnation = _planted(ForgetsItsIncarnation, "forgets-its-incarnation")
keeps_one_of_two = _planted(KeepsOneOfTwo, "keeps-one-of-two")
sends_before_it_persists = _planted(SendsBeforeItPersists, "sends-before-it-persists")
