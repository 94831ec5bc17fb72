"""What a change of a key is worth telling the history. Events never carry values."""

from collections.abc import Iterator

from leaderless.dynamo.versions import Dot, Siblings, Version, without_value
from replication.v1 import event_pb2


def change_events(key: str, before: Siblings, after: Siblings) -> Iterator[event_pb2.Event]:
    """Yield what happened when a replica went from ``before`` to ``after``.

    A replica tells each transition once: a message that changes nothing tells nothing.
    """
    added = [dot for dot in after.versions if dot not in before.versions]
    dropped = [dot for dot in before.versions if dot not in after.versions]
    if added and len(after.versions) > 1:
        # Counters and sets are merged, whatever number of versions they are kept as.
        siblings = [version for version in after.distinct() if not version.update]
        if len(siblings) > 1:
            created = event_pb2.SiblingsCreated(
                key=key, versions=[without_value(version) for version in siblings]
            )
            yield event_pb2.Event(siblings_created=created)
    # With more than one version added by a repair it is not known which of them had read what.
    if len(dropped) > 1 and len(added) == 1 and not after.versions[added[0]].update:
        yield from _resolved(key, before, after.versions[added[0]], dropped)
    # With siblings this is never so: a version that goes was read by the writer of a newer one.
    for dot in dropped:
        if not after.seen.covers(*dot):
            yield version_dropped(key, before.versions[dot], after)


def version_dropped(key: str, dropped: Version, after: Siblings) -> event_pb2.Event:
    """Return the event that last-write-wins let go a version which the winner had not seen."""
    (winner,) = after.versions.values()
    return event_pb2.Event(
        version_dropped=event_pb2.VersionDropped(
            key=key, dropped=without_value(dropped), winner=without_value(winner)
        )
    )


def _resolved(
    key: str, before: Siblings, by: Version, dropped: list[Dot]
) -> Iterator[event_pb2.Event]:
    versions = {
        (version.write_id.client_id, version.write_id.sequence): without_value(version)
        for version in (before.versions[dot] for dot in dropped)
    }
    if len(versions) > 1:
        yield event_pb2.Event(
            siblings_resolved=event_pb2.SiblingsResolved(
                key=key, resolved_by=by.write_id, dropped=list(versions.values())
            )
        )
