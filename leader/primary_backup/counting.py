"""The arithmetic that the promises rest on."""

from collections.abc import Iterable


def majority(members: int) -> int:
    """Return how many of ``members`` are a majority. Any two majorities share a member."""
    return members // 2 + 1


def lossless_standbys(members: int) -> int:
    """Return how many standbys have to hold a write so that any majority includes a holder.

    The holders are the primary and k standbys: k + 1 + majority > members.
    """
    return members - majority(members)


def reached_by(levels: Iterable[int], count: int) -> int:
    """Return the highest level that at least ``count`` of ``levels`` have reached.

    0 when there are fewer than ``count``; ``count`` is at least 1.
    """
    descending = sorted(levels, reverse=True)
    return descending[count - 1] if count <= len(descending) else 0
