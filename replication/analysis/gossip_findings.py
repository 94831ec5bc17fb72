"""What the analysis says of gossip. Plain data like ``findings``, of which it is a part."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Spread:
    """How one piece of news went round: that a node which was suspected lives."""

    node: str  # who said so of itself
    incarnation: int
    begun_ns: int  # it said so
    heard: int  # other nodes that came to know
    of: int  # others that lived
    ended_ns: int | None = None  # the last of them knew; None: some never did while the run watched
    last: str | None = None  # who that was
    rounds: int | None = None  # begun until then


@dataclass(slots=True)
class Gossip:
    """In how many rounds news went round, of what was said while measuring.

    A round is the interval in which every node probes one other and both tell what they know.
    """

    nodes: int
    round_ns: int
    count: int  # pieces of news
    unheard: int  # of them not known to all at the end
    rounds_mean: float | None  # until all knew
    rounds_worst: int | None
    push_pull_rounds: float  # of the textbook's push-pull with as many nodes, computed with sets
    push_pull_ratio: float | None  # the mean over that
    log2_nodes: float
    spreads: list[Spread] = field(default_factory=list)  # the first 100
