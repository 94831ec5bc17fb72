"""What a read makes of siblings: nothing, or what a registered merge says (Dynamo §4.4, §6).

Whoever resolves, the reader's context covers every version that was found, so its next write of the
key ends the conflict. ``lww`` and ``max`` show one version and bury the others by that, unseen.
"""

from collections.abc import Sequence
from enum import StrEnum

from leaderless.dynamo.versions import Version


class Resolve(StrEnum):
    """Who resolves the siblings that a read finds."""

    SIBLINGS = "siblings"  # the client: it gets them all
    LWW = "lww"  # the one with the greatest timestamp is shown, the others are not
    MAX = "max"  # the one with the greatest value, bytes compared
    UNION = "union"  # all are shown, and the lines of all values together


def resolved_of(kind: Resolve, versions: list[Version]) -> tuple[list[Version], bytes | None]:
    """Return the versions to show and what the merge makes of them, None for no merge.

    ``versions`` are concurrent, in a fixed order: every replica resolves them alike.
    """
    if kind is Resolve.SIBLINGS:
        return versions, None
    live = [version for version in versions if not version.tombstone]
    if not live:
        return versions, None
    if kind is Resolve.UNION:
        return versions, _union([version.value for version in live])
    chosen = _newest(versions) if kind is Resolve.LWW else _greatest(live)
    return [chosen], None if chosen.tombstone else chosen.value


def _union(values: Sequence[bytes]) -> bytes:
    return b"\n".join(sorted({line for value in values for line in value.split(b"\n") if line}))


def _newest(versions: Sequence[Version]) -> Version:
    return max(versions, key=lambda each: (each.timestamp_ns, each.dot.actor, each.dot.counter))


def _greatest(versions: Sequence[Version]) -> Version:
    return max(versions, key=lambda each: (each.value, each.dot.actor, each.dot.counter))
