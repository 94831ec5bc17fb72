"""Read repair: which replicas answered with less than all answers together say (Dynamo §5).

What goes out is the merge of all answers, and a replica merges it into what it holds by then. So
only newer overwrites older, however late the repair arrives, and no sibling is ever lost by it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce

from leaderless.dynamo.versions import EMPTY, Siblings, Versioning
from replication.protocol import NodeId
from replication.v1 import storage_pb2


@dataclass(slots=True)
class Findings:
    """What the answers of the replicas say together, and who has to hear it."""

    merged: Siblings
    stale: dict[NodeId, list[storage_pb2.WriteId]]  # the replica, and the writes it lacked


def merge_answers(
    answers: Mapping[NodeId, bytes], decode: Callable[[bytes], Siblings], versioning: Versioning
) -> Siblings:
    """Return what all ``answers`` say together."""
    # Most often all answers are the same bytes, and there is nothing to merge.
    distinct = dict.fromkeys(answers.values())
    return reduce(versioning.merge, map(decode, distinct), EMPTY)


def compare_answers(
    answers: Mapping[NodeId, bytes], decode: Callable[[bytes], Siblings], versioning: Versioning
) -> Findings:
    """Return the merge, and every replica whose answer differs from it.

    A replica may be stale and lack no write: it holds a version that another has seen superseded.
    """
    merged = merge_answers(answers, decode, versioning)
    stale = {}
    for replica, answer in answers.items():
        held = decode(answer)
        if not merged.same(held):
            stale[replica] = [
                version.write_id
                for dot, version in sorted(merged.versions.items())
                if dot not in held.versions
            ]
    return Findings(merged, stale)
