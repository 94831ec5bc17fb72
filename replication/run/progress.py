"""What a run tells while it works, for a line on the terminal."""

from dataclasses import dataclass
from enum import StrEnum

from replication.protocol import Family


class Stage(StrEnum):
    """What a side of a run is busy with."""

    STARTING = "starting"
    LOADING = "loading"
    SETTLING = "settling"
    READING_BACK = "reading back"
    STOPPING = "stopping"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Progress:
    """One moment of one side of a run. Counts are of operations that have ended."""

    family: Family
    stage: Stage
    elapsed_ns: int  # of the load while loading, else since the start of the side
    total_ns: int  # how long the load is
    ok: int = 0
    fail: int = 0
    unknown: int = 0
    fault: str = ""  # what is in force, in words; empty: nothing
