"""What a session wants done next: one of these at a time. Times are of the session's clock."""

from dataclasses import dataclass
from typing import TypeAlias

from replication.history import Operation
from replication.protocol import NodeId, StorageRequest


@dataclass(slots=True)
class Attempt:
    """Send ``request`` to ``node``; when nothing came back at ``deadline_ns``, it timed out.

    The node is told ``node_timeout_ns``, which is a little less, so that it can still say what it
    knows. An answer that arrives after its attempt timed out is dropped by whoever performs.
    """

    node: NodeId
    request: StorageRequest
    node_timeout_ns: int
    deadline_ns: int
    sent_ns: int = 0  # when it was handed to the connection
    left_ns: int = 0  # when the answer left the node, if it told; all on the machine's own clock


@dataclass(slots=True)
class Wait:
    """Do nothing, then call ``resume``."""

    until_ns: int


@dataclass(slots=True)
class Finished:
    """The operation has ended. A closed loop rests ``rest_ns`` before its next one.

    Without the rest, a client that is refused at once would burn its plan in no time.
    """

    operation: Operation
    rest_ns: int


Step: TypeAlias = Attempt | Wait | Finished
