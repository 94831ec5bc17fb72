"""What raftos lets its users set about timing, with its own defaults."""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, ClassVar

from replication.protocol import SETTINGS_CONFIG


@dataclass(frozen=True, slots=True)
class RaftosSettings:
    """Names and defaults of ``raftos.conf``.

    A leader without answers from a majority for ``step_down_missed_heartbeats`` heartbeats steps
    down; an election timeout is drawn from that time to ``election_interval_spread`` times it.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = SETTINGS_CONFIG

    heartbeat_interval_ns: int = 300_000_000
    step_down_missed_heartbeats: int = 5
    election_interval_spread: int = 3

    def problems(self, members: int) -> Iterable[str]:
        """Yield what does not fit together, and whether the package is missing."""
        if find_spec("raftos") is None:
            yield "heartbeat_interval: raftos is not installed, expected uv sync --extra raftos"
        for name in ("heartbeat_interval_ns", "step_down_missed_heartbeats"):
            value = getattr(self, name)
            if value < 1:
                yield f"{name.removesuffix('_ns')} is {value}, expected at least 1"
        if self.election_interval_spread < 2:
            yield f"election_interval_spread is {self.election_interval_spread}, expected 2 or more"


def promise(settings: Any) -> str:
    """Return in one sentence what the package says of itself: it is Raft."""
    return (
        "An implementation of Raft, by its own description: reads and writes would be "
        "linearizable and survive the loss of any minority of the nodes."
    )
