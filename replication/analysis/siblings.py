"""Concurrent versions of a key: which were there together, and how that ended."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from replication.analysis.conflict_findings import Conflict
from replication.analysis.view import View
from replication.history import NodeEvent, Operation, Outcome, SeenVersion

CONFLICTS_MAX = 100


@dataclass(slots=True)
class Episode:
    """Versions of one key that were siblings, together with all that joined them until the end.

    ``live`` are those that nobody is known to have replaced; with one left the episode is over.
    """

    key: str
    at_ns: int
    node: str | None
    versions: dict[str, dict[str, Any]]  # write id -> version as an event or a read tells it
    live: dict[str, None] = field(default_factory=dict)
    largest: int = 0  # most that were live at once
    resolved_by: str | None = None
    dropped_by: str | None = None  # last-write-wins: the write that won
    ended_at_ns: int | None = None


@dataclass(slots=True)
class Episodes:
    """All of a history, in order of time."""

    found: list[Episode] = field(default_factory=list)
    largest: int = 0  # most live versions and tombstones that were there at once
    dropped: dict[str, str] = field(default_factory=dict)  # lww: write id -> the winner's


def episodes(view: View) -> Episodes:
    """Return what events and reads tell of concurrent versions; call through ``View.once``.

    Every replica tells of its own siblings, some long after the others: versions that are known
    already begin nothing new, versions that join live ones belong to their episode.
    """
    result = Episodes()
    by_write: dict[tuple[str, str], Episode] = {}
    for at_ns, node, key, told in _sightings(view):
        if isinstance(told, NodeEvent):
            _resolve(view, by_write, told)
            continue
        result.largest = max(result.largest, len(told))
        names = [(key, _write_id(each)) for each in told]
        known = [by_write.get(each) for each in names]
        if all(known):
            continue
        episode = next((each for each in known if each and each.ended_at_ns is None), None)
        if episode is None:
            episode = Episode(key, at_ns, node, {})
            result.found.append(episode)
        for name, version in zip(names, told, strict=True):
            if name[1] not in episode.versions:
                _join(view, episode, name[1], version)
                by_write[name] = episode
    for event in view.history.events:
        if event.name == "version_dropped":
            _drop(result, event)
    result.found.sort(key=lambda episode: episode.at_ns)
    return result


def _join(view: View, episode: Episode, write_id: str, told: "Told") -> None:
    """Add a version; what its writer had read is replaced by it."""
    episode.versions[write_id] = _as_told(told)
    episode.live[write_id] = None
    write = view.writes.get(write_id)
    for covered in () if write is None else write.based_on:
        episode.live.pop(covered, None)
    episode.largest = max(episode.largest, len(episode.live))


# A version as an event tells it, or as a read returned it.
Told: TypeAlias = dict[str, Any] | SeenVersion


def _sightings(
    view: View,
) -> list[tuple[int, str | None, str, Sequence[Told] | NodeEvent]]:
    """Return (when, where, key, versions) of every sight of more than one version.

    In order of time, and among them the events that tell of a resolution.
    """
    found: list[tuple[int, str | None, str, Sequence[Told] | NodeEvent]] = []
    for event in view.history.events:
        key = event.fields.get("key", "")
        if event.name == "siblings_created":
            versions = event.fields.get("versions", ())
            found.append((event.time_ns, event.node, key, versions))
        elif event.name == "siblings_resolved":
            found.append((event.time_ns, event.node, key, event))
    for operation in view.history.operations:
        if len(operation.seen) > 1 and operation.outcome is Outcome.OK:
            at_ns = operation.complete_ns or operation.invoke_ns
            found.append((at_ns, operation.node, operation.key, operation.seen))
    found.sort(key=lambda each: each[0])
    return found


def _write_id(told: Told) -> str:
    return told.write_id if isinstance(told, SeenVersion) else str(told["write_id"])


def _as_told(told: Told) -> dict[str, Any]:
    if isinstance(told, SeenVersion):
        return {"write_id": told.write_id, "dot": told.dot, "tombstone": told.tombstone}
    return told


def _resolve(view: View, by_write: dict[tuple[str, str], Episode], event: NodeEvent) -> None:
    """A write covered several versions: the episode is over if it left no other one."""
    key, resolver = event.fields.get("key", ""), event.fields.get("resolved_by") or ""
    dropped = [each["write_id"] for each in event.fields.get("dropped", ())]
    write = view.writes.get(resolver)
    for write_id in dropped:
        episode = by_write.get((key, write_id))
        if episode is None or episode.ended_at_ns is not None:
            continue
        for covered in (*dropped, *(() if write is None else write.based_on)):
            episode.live.pop(covered, None)
        if set(episode.live) <= {resolver}:
            episode.resolved_by, episode.ended_at_ns = resolver, event.time_ns


def _drop(result: Episodes, event: NodeEvent) -> None:
    """One dropped version is one episode, however many replicas tell of it."""
    dropped, winner = event.fields.get("dropped"), event.fields.get("winner")
    if not dropped or not winner or dropped["write_id"] in result.dropped:
        return
    result.dropped[dropped["write_id"]] = winner["write_id"]
    result.found.append(
        Episode(
            event.fields.get("key", ""),
            event.time_ns,
            event.node,
            {each["write_id"]: dict(each) for each in (dropped, winner)},
            dropped_by=winner["write_id"],
            ended_at_ns=event.time_ns,
        )
    )


def conflicts(view: View, found: Iterable[Episode]) -> list[Conflict]:
    """Return the first episodes with writers, dots and values, and how each ended."""
    coverers = view.once(covered_by)
    told: list[Conflict] = []
    for episode in found:
        if len(told) == CONFLICTS_MAX:
            break
        how, ended_at_ns = ended(view, episode, coverers)
        versions = [_version(view, each) for each in episode.versions.values()]
        told.append(Conflict(episode.key, episode.at_ns, episode.node, versions, how, ended_at_ns))
    return told


def left(view: View, episode: Episode) -> bool:
    """Return whether two or more of the versions can still be read at the end."""
    finals = view.final_versions(episode.key) or ()
    return sum(1 for version in finals if version.write_id in episode.versions) > 1


def ended(
    view: View, episode: Episode, coverers: dict[str, list[Operation]]
) -> tuple[str, int | None]:
    """Return how an episode ended, and when if that is known."""
    if episode.dropped_by is not None:
        return f"dropped by timestamp: {episode.dropped_by} won", episode.ended_at_ns
    if left(view, episode):
        return "left as siblings", None
    if episode.resolved_by is not None:
        return f"resolved by {episode.resolved_by}", episode.ended_at_ns
    covering: dict[str, int] = {}
    for write_id in episode.versions:
        for write in coverers.get(write_id, ()):
            if write.write_id is not None and write.write_id not in episode.versions:
                covering[write.write_id] = covering.get(write.write_id, 0) + 1
    if not covering:
        return "dropped", None
    # Nobody told of it: the write that covered most of them, the first of those in time.
    resolver = view.writes[
        max(covering, key=lambda each: (covering[each], -view.writes[each].invoke_ns, each))
    ]
    return f"resolved by {resolver.write_id}", resolver.complete_ns


def purged_deletes(view: View) -> dict[str, int]:
    """Return the deletes whose tombstones nodes tell they have purged: write id -> when first."""
    found: dict[str, int] = {}
    for event in view.history.events:
        if event.name == "tombstone_purged":
            for write_id in event.fields["write_ids"]:
                found[write_id] = min(event.time_ns, found.get(write_id, event.time_ns))
    return found


def accepted_writes(view: View) -> dict[str, None]:
    """Return the ids of the writes that took effect; call through ``View.once``.

    That is a write that was acknowledged, or whose outcome is unknown and which was noticed: read,
    still there at the end, a delete that a node tells it has purged, or covered by an accepted
    write itself. An unknown write that nobody noticed may never have happened, so it excuses
    nothing.
    """
    purged = view.once(purged_deletes)
    final = {version.write_id for key in view.by_key for version in view.final_versions(key) or ()}
    accepted: dict[str, None] = {}
    waiting = [
        write_id
        for write_id, write in view.writes.items()
        if write.outcome is Outcome.OK
        or (
            write.outcome is Outcome.UNKNOWN
            and (write_id in final or write_id in view.first_seen_ns or write_id in purged)
        )
    ]
    while waiting:
        write_id = waiting.pop()
        write = view.writes.get(write_id)
        if write is None or write_id in accepted or write.outcome is Outcome.FAIL:
            continue
        accepted[write_id] = None
        waiting += [each for each in write.based_on if each not in accepted]
    return accepted


def covered_by(view: View) -> dict[str, list[Operation]]:
    """Return write id -> the accepted writes whose context covered it; through ``View.once``."""
    accepted = view.once(accepted_writes)
    found: dict[str, list[Operation]] = {}
    for write_id, write in view.writes.items():
        if write_id in accepted:
            for covered in write.based_on:
                if covered != write_id:
                    found.setdefault(covered, []).append(write)
    return found


@dataclass(slots=True)
class Endings:
    """How all sibling sets of a history ended."""

    ways: dict[str, int] = field(default_factory=dict)  # way -> how many
    resolvers: dict[str, int] = field(default_factory=dict)  # client -> how many it resolved
    spans: list[tuple[int, int | None]] = field(default_factory=list)  # (from, to; None: left)


def endings(view: View) -> Endings:
    """Return how the sibling sets ended, those that last-write-wins decided left out."""
    result = Endings()
    coverers = view.once(covered_by)
    purged = view.once(purged_deletes)
    for episode in view.once(episodes).found:
        if episode.dropped_by is not None:
            continue
        how, ended_at_ns = ended(view, episode, coverers)
        way, _, resolver = how.partition(" by ")
        write = view.writes.get(resolver)
        if write is not None:
            result.resolvers[write.client] = result.resolvers.get(write.client, 0) + 1
            way = "replaced by a write that had read them"
            # Nobody told of a resolution that happened on the way: it began when the write did.
            ended_at_ns = ended_at_ns or write.invoke_ns
        elif way == "dropped" and purged.keys() & episode.versions.keys():
            way = "purged, all that was left of them being deletes"
            ended_at_ns = max(purged[each] for each in purged.keys() & episode.versions.keys())
        elif way == "dropped":
            way = "gone, and nobody told how"
            ended_at_ns = max(_last_seen_ns(view, episode), episode.at_ns)
        result.ways[way] = result.ways.get(way, 0) + 1
        result.spans.append((episode.at_ns, ended_at_ns))
    return result


def _last_seen_ns(view: View, episode: Episode) -> int:
    return max((view.first_seen_ns.get(each, 0) for each in episode.versions), default=0)


def concurrent_writes(view: View) -> int:
    """Return how many acknowledged writes overlapped another one of the key, neither seen."""
    return sum(_concurrent_of_key(view, each) for each in view.by_key.values())


def _concurrent_of_key(view: View, operations: Sequence[Operation]) -> int:
    writes = sorted(
        (
            each
            for each in operations
            if each.outcome is Outcome.OK and each.write_id in view.writes and each.complete_ns
        ),
        key=lambda each: (each.invoke_ns, each.index),
    )
    counted: set[int] = set()
    under_way: list[Operation] = []
    for write in writes:
        under_way = [each for each in under_way if (each.complete_ns or 0) >= write.invoke_ns]
        for other in under_way:
            both = write.index in counted and other.index in counted
            if other.client == write.client:
                continue  # a client has one operation under way: this one has just ended
            if not both and not has_seen(view, write, other) and not has_seen(view, other, write):
                counted |= {write.index, other.index}
        under_way.append(write)
    return len(counted)


_WALK_MAX = 64


def has_seen(view: View, later: Operation, earlier: Operation) -> bool:
    """Return whether ``later``'s context covered ``earlier``, directly or through others.

    What began before ``earlier`` cannot have covered it, so the walk is short; it is cut all the
    same, and what was cut counts as not seen.
    """
    waiting, visited = list(later.based_on), 0
    while waiting and visited < _WALK_MAX:
        write_id = waiting.pop()
        visited += 1
        if write_id == earlier.write_id:
            return True
        write = view.writes.get(write_id)
        if write is not None and write.invoke_ns >= earlier.invoke_ns:
            waiting += write.based_on
    return False


def _version(view: View, told: dict[str, Any]) -> dict[str, Any]:
    """Return a version with what its operation knows of it; events carry no values."""
    write = view.writes.get(told["write_id"])
    version = {
        "write_id": told["write_id"],
        "dot": told.get("dot"),
        "tombstone": bool(told.get("tombstone")),
        "client": None,
        "value": None,
        "node": None,
    }
    if write is not None:
        version |= {"client": write.client, "value": write.value, "node": write.node}
        version["outcome"] = write.outcome.value
        version["dot"] = version["dot"] or write.dot
    return version
