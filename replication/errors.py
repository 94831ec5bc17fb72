"""What can go wrong with an operation, and whether it may have happened all the same.

    ReplicationError
    ├── OperationError          an operation was refused or is not known to have taken effect
    │   ├── InvalidRequest      definite
    │   ├── Conflict            definite
    │   ├── NotLeader           definite
    │   ├── QuorumUnreachable   definite
    │   ├── Overloaded          definite
    │   ├── Unreachable         definite, told by the client alone
    │   ├── Expired             definite, told by the client alone
    │   ├── LeadershipLost      indefinite
    │   ├── QuorumTimeout       indefinite
    │   └── Indefinite          everything that nobody classified
    ├── ConfigError             the user's mistake: all problems at once
    └── CorruptStore            the disk's: stop the node

A *definite* error means that the operation did not and never will take effect: the history says
``fail``. An *indefinite* one means that it may have, or may yet: the history says ``unknown``.
A failed read is always ``fail``, since it has no effect to be unsure of.

The gRPC status of each class is chosen so that a client without our details errs on the safe side:
gRPC libraries make UNAVAILABLE, DEADLINE_EXCEEDED and RESOURCE_EXHAUSTED up themselves, never
FAILED_PRECONDITION, ABORTED or INVALID_ARGUMENT (grpc/grpc, doc/statuscodes.md).
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

ERROR_DOMAIN = "replication"


class ReplicationError(Exception):
    """The common base: catch it at an edge, never inside."""


class ConfigError(ReplicationError):
    """The user's input is wrong. Carries every problem found, one line each, with its place."""

    def __init__(self, problems: Sequence[str]) -> None:
        assert problems, "a ConfigError names at least one problem"
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)

    def __reduce__(self) -> tuple[type["ConfigError"], tuple[tuple[str, ...]]]:
        """Let it come out of another process as it went in."""
        return ConfigError, (self.problems,)


class CorruptStore(ReplicationError):
    """A record in the middle of a store fails its checksum: the node must not go on."""


class OperationError(ReplicationError):
    """An operation did not succeed. ``metadata`` holds the fields of the class as text."""

    definite: ClassVar[bool] = False
    grpc_status: ClassVar[str] = "UNKNOWN"  # a name of grpc.StatusCode
    retry_after_ms: ClassVar[int | None] = None  # when trying again elsewhere or later makes sense

    def __init__(self, message: str, metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = dict(metadata or {})

    @property
    def reason(self) -> str:
        """The class of the error as it travels in ``ErrorInfo.reason``."""
        return type(self).__name__

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, OperationError):
            return NotImplemented
        return type(self) is type(other) and self.metadata == other.metadata

    def __hash__(self) -> int:
        return hash((type(self), tuple(sorted(self.metadata.items()))))


class InvalidRequest(OperationError):
    """Malformed, too large, or a consistency level that this backend cannot give."""

    definite = True
    grpc_status = "INVALID_ARGUMENT"


class Conflict(OperationError):
    """A compare-and-set found another value: read again."""

    definite = True
    grpc_status = "ABORTED"


class NotLeader(OperationError):
    """Refused before anything was appended. ``leader`` may be empty (unknown) or stale."""

    definite = True
    grpc_status = "FAILED_PRECONDITION"
    retry_after_ms = 20

    def __init__(self, leader: str, term: int) -> None:
        message = f"not the leader of term {term}; " + (
            f"try {leader}" if leader else "no leader is known"
        )
        super().__init__(message, {"leader": leader, "term": str(term)})
        self.leader = leader
        self.term = term


class QuorumUnreachable(OperationError):
    """Too few replicas are alive; refused before anything was sent."""

    definite = True
    grpc_status = "FAILED_PRECONDITION"
    retry_after_ms = 50

    def __init__(self, needed: int, alive: int) -> None:
        super().__init__(
            f"needs {needed} replicas, {alive} alive", {"needed": str(needed), "alive": str(alive)}
        )
        self.needed = needed
        self.alive = alive


class Overloaded(OperationError):
    """The node's inbox is full; refused before anything was done."""

    definite = True
    grpc_status = "RESOURCE_EXHAUSTED"
    retry_after_ms = 50

    def __init__(self, message: str = "the node's inbox is full") -> None:
        super().__init__(message)


class Unreachable(OperationError):
    """The client has no connection to the node: nothing was sent."""

    definite = True
    grpc_status = "UNAVAILABLE"

    def __init__(self, node: str) -> None:
        super().__init__(f"no connection to {node}; nothing was sent", {"node": node})
        self.node = node


class Expired(OperationError):
    """Its time had passed before the client was free for it: nothing was sent."""

    definite = True
    grpc_status = "DEADLINE_EXCEEDED"

    def __init__(self) -> None:
        super().__init__("its time had passed before the client came to it; nothing was sent")


class NothingRead(OperationError):
    """It would have changed what its client had read, and the read failed: nothing was sent."""

    definite = True
    grpc_status = "FAILED_PRECONDITION"

    def __init__(self, why: str = "the read that it builds on failed") -> None:
        super().__init__(f"{why}; nothing was sent")


class LeadershipLost(OperationError):
    """In the log of a leader that stepped down: a later leader may commit it or drop it."""

    grpc_status = "UNAVAILABLE"

    def __init__(self, term: int) -> None:
        super().__init__(
            f"the leader of term {term} stepped down before the entry was committed",
            {"term": str(term)},
        )
        self.term = term


class QuorumTimeout(OperationError):
    """Fewer answers than needed in time. Replicas may hold the write, and repair may spread it."""

    grpc_status = "DEADLINE_EXCEEDED"

    def __init__(self, got: int, needed: int) -> None:
        super().__init__(
            f"{got} of {needed} replicas answered in time", {"got": str(got), "needed": str(needed)}
        )
        self.got = got
        self.needed = needed


class Indefinite(OperationError):
    """Nobody said what became of the operation: a broken connection, a deadline, a foreign error.

    ``code`` is the gRPC status that was seen, or the client's own word (``TIMEOUT``).
    """

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(message or code, {"code": code})
        self.code = code


def operation_error(reason: str, message: str, metadata: Mapping[str, str]) -> OperationError:
    """Rebuild the error that travelled as ``reason`` with ``metadata``.

    An unknown reason, or one whose fields do not parse, becomes ``Indefinite``: in doubt an
    operation may have happened.
    """
    try:
        match reason:
            case "InvalidRequest":
                return InvalidRequest(message, metadata)
            case "Conflict":
                return Conflict(message, metadata)
            case "NotLeader":
                return NotLeader(metadata["leader"], int(metadata["term"]))
            case "QuorumUnreachable":
                return QuorumUnreachable(int(metadata["needed"]), int(metadata["alive"]))
            case "Overloaded":
                return Overloaded(message)
            case "LeadershipLost":
                return LeadershipLost(int(metadata["term"]))
            case "QuorumTimeout":
                return QuorumTimeout(int(metadata["got"]), int(metadata["needed"]))
    except (KeyError, ValueError):
        return Indefinite("MALFORMED_ERROR", f"{reason}: {message}")
    return Indefinite(metadata.get("code", reason or "UNKNOWN"), message)
