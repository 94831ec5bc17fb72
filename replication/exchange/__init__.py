"""Histories of other tools: read into calls that the analysis judges, and written for theirs.

    bytes ──read_history_file──▶ Calls ──analysis.calls──▶ Finding
    History ──export──▶ text

Four formats are told apart by how they begin: our own JSON Lines, EDN as Jepsen and Knossos write
it (and Porcupine's key-value logs, which are lines of it), Porcupine's Jepsen logs
(``INFO jepsen.util - 4 :invoke :write 3``), and JSON events as elle-cli takes them.
"""

from replication.exchange.export import FORMATS, export
from replication.exchange.reading import parse_history

__all__ = ["FORMATS", "export", "parse_history"]
