"""What the page draws large: a failover from lane to lane, a conflicting key across the nodes.

Plain data, like the findings it belongs to: the report draws it and computes nothing. A picture
that had to leave something out says so in ``left_out``.
"""

from dataclasses import dataclass, field


@dataclass(slots=True)
class NodeMark:
    """Something a node told at one moment."""

    at_ns: int
    node: str
    kind: str  # "pre-vote", "stood", "granted", "refused", "leads", "suspects", "siblings", ...
    words: str  # a sentence without a full stop
    sent_ns: int | None = None  # votes: when the candidate asked
    sender: str | None = None  # votes: who asked
    versions: list[str] = field(default_factory=list)  # write ids that it speaks of


@dataclass(slots=True)
class OperationMark:
    """One operation as a stretch of time on its client's lane."""

    operation: int  # index in the history
    client: str
    kind: str
    outcome: str
    start_ns: int  # invoked
    end_ns: int  # completed, or the end of the picture
    turned_ns: int | None  # when it was sent for the last time, if not for the first
    node: str | None  # that answered last
    attempts: int
    redirects: int
    words: str
    replicas: list[str] = field(default_factory=list)  # whose answers counted
    versions: list[str] = field(default_factory=list)  # write ids: written, or returned
    context: list[str] = field(default_factory=list)  # writes: what they replaced


@dataclass(slots=True)
class FailoverPicture:
    """The moments around one fault: what every node and every client went through."""

    start_ns: int
    end_ns: int
    election_start_ns: int | None  # the part to magnify; None: nobody stood
    election_end_ns: int | None
    nodes: list[NodeMark] = field(default_factory=list)
    operations: list[OperationMark] = field(default_factory=list)
    left_out: str = ""


@dataclass(slots=True)
class SpaceTime:
    """One key across clients and nodes: its writes, its reads and the versions they met."""

    key: str
    start_ns: int
    end_ns: int
    why: str  # why this key, and this stretch of its life
    names: dict[str, str] = field(default_factory=dict)  # write id -> dot and value in words
    nodes: list[NodeMark] = field(default_factory=list)
    operations: list[OperationMark] = field(default_factory=list)
    left_out: str = ""


@dataclass(slots=True)
class WitnessBar:
    """One operation around a violation."""

    operation: int  # index in the history
    client: str
    kind: str
    outcome: str
    start_ns: int
    end_ns: int  # completed, or the end of the picture
    open_end: bool  # it may have taken effect at any time after
    words: str  # "put 'v9'", "read c1:4"
    node: str | None  # that answered last
    proof: bool  # whether it is one of the few that prove the violation
    point_ns: int | None = None  # when it may have taken effect, in an order that explains it


@dataclass(slots=True)
class WitnessBand:
    """A fault that lasted into the picture."""

    fault: int  # number
    words: str
    start_ns: int
    end_ns: int


@dataclass(slots=True)
class WitnessPicture:
    """A violation as a timeline: operations on its key as bars, faults as bands."""

    start_ns: int
    end_ns: int
    bars: list[WitnessBar] = field(default_factory=list)
    bands: list[WitnessBand] = field(default_factory=list)
    left_out: str = ""
