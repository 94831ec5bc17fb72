"""What the analysis says of stale reads: how old they were, and how likely they had to be.

Plain data like ``replication.analysis.findings``, of which it is a part.
"""

from dataclasses import dataclass, field


@dataclass(slots=True)
class VisibilityBin:
    """Reads that began between two distances from the end of the newest write of their key."""

    from_ms: float
    to_ms: float
    reads: int
    fresh: int
    predicted: float | None  # None: nothing was predicted

    @property
    def share(self) -> float:
        """Return how many of the reads were fresh."""
        return self.fresh / self.reads


@dataclass(slots=True)
class KeyAtomicity:
    """How far one key was from one copy (``analysis.atomicity``)."""

    key: str
    delta_ns: int | None  # least D for which it is D-atomic, to a microsecond; None: no D is
    k_at_least: int  # it is k-atomic for no smaller k


@dataclass(slots=True)
class Pbs:
    """Probabilistically bounded staleness, predicted and measured (``analysis.t_visibility``)."""

    n: int
    r: int
    w: int
    # Of the reads while nothing failed, by versions: the newest, one of the last two ...
    within_predicted: list[float]  # lower bounds, by k - 1
    within_measured: list[float]
    bins: list[VisibilityBin] = field(default_factory=list)
    rmse: float | None = None  # over the bins with enough reads, as a share
    rmse_by_chance: float | None = None  # what so many reads would differ by if all were true
    drawn_from: dict[str, int] = field(default_factory=dict)  # leg -> delays measured
    note: str = ""  # why there is no prediction
