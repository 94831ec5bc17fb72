"""What primaries said of their standbys: who lags by how much, and how many a write waits for.

A primary that has given up waiting acknowledges alone: what it then acknowledges is on one disk.
"""

from replication.analysis import event_words
from replication.analysis.findings import StandbyNote
from replication.analysis.view import View

_TOLD = ("replication_changed", "acknowledgement_changed")


def standbys(view: View) -> list[StandbyNote]:
    """Return every change from the beginning of the load on, in order of time."""
    history = view.history
    told = (
        event
        for event in history.events
        if event.name in _TOLD and history.load_start_ns <= event.time_ns <= history.settle_end_ns
    )
    return [
        StandbyNote(event.node, event.time_ns, event_words.told(event))
        for event in sorted(told, key=lambda each: each.time_ns)
    ]
