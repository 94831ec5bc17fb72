"""Which keys suffered most, and the space-time picture of the worst of them."""

from collections import Counter

from replication.analysis import event_words, words
from replication.analysis.conflict_findings import ConflictingKey
from replication.analysis.convergence import report
from replication.analysis.failover_picture import operation_mark
from replication.analysis.pairs import pairs
from replication.analysis.pictures import NodeMark, SpaceTime
from replication.analysis.siblings import episodes
from replication.analysis.staleness import stale_reads
from replication.analysis.view import View
from replication.history import NodeEvent, Operation, Outcome, Phase

KEYS_MAX = 10
OPERATIONS_MAX = 22  # of a picture: more cannot be followed by eye
BEFORE_MAX = 6  # of them before the conflict
MARKS_MAX = 40
SPAN_NS_MAX = 5_000_000_000


def conflicting_keys(
    view: View, vanished: list[Operation], appeared: list[Operation]
) -> list[ConflictingKey]:
    """Return the worst keys first: by what vanished or came back, then stale reads and siblings."""
    found: dict[str, ConflictingKey] = {}

    def of(key: str) -> ConflictingKey:
        return found.setdefault(key, ConflictingKey(key))

    for key, of_key in view.once(pairs).items():
        of(key).pairs = of_key.count
    for episode in view.once(episodes).found:
        if episode.dropped_by is None:
            each = of(episode.key)
            each.sibling_sets += 1
            each.sibling_count_max = max(each.sibling_count_max, episode.largest)
    for name, operations in (
        ("vanished", vanished),
        ("appeared", appeared),
        ("stale_reads", [read for read, _ in view.once(stale_reads)]),
    ):
        for key, count in Counter(each.key for each in operations).items():
            setattr(of(key), name, count)
    for event in _undone(view):
        of(event.fields["key"]).undone += 1
    for key in view.once(report).differing_at_end:
        of(key).differs = True
    if view.history.single_register:
        # Overlapping puts are what a register is for: alone they are no conflict.
        found = {key: each for key, each in found.items() if _rank(each)[:-1] > (0,) * 6}
    return sorted(found.values(), key=lambda each: (*(-n for n in _rank(each)), each.key))[
        :KEYS_MAX
    ]


def _undone(view: View) -> list[NodeEvent]:
    return [each for each in view.history.events if each.name == "delete_undone"]


def _rank(each: ConflictingKey) -> tuple[int, ...]:
    return (
        each.vanished,
        each.undone,
        int(each.differs),
        each.appeared,
        each.stale_reads,
        each.sibling_count_max,
        each.pairs,
    )


def space_time(view: View, worst: list[ConflictingKey], vanished: list[Operation]) -> (
    SpaceTime | None
):  # fmt: skip
    """Return the picture of the worst key around what went wrong with it."""
    if not worst:
        return None
    key = worst[0].key
    at_ns, why = _moment(view, key, vanished)
    operations = [
        each
        for each in view.by_key[key]
        if each.phase is not Phase.FINAL and each.outcome is not Outcome.FAIL
    ]
    operations.sort(key=lambda each: (each.invoke_ns, each.index))
    before = [each for each in operations if (each.complete_ns or 0) < at_ns][-BEFORE_MAX:]
    rest = [each for each in operations if (each.complete_ns or at_ns) >= at_ns]
    shown = [*before, *rest[: OPERATIONS_MAX - len(before)]]
    shown = [each for each in shown if abs(each.invoke_ns - at_ns) <= SPAN_NS_MAX]
    if not shown:
        return None
    start_ns = min(each.invoke_ns for each in shown)
    end_ns = max(max(each.complete_ns or each.invoke_ns for each in shown), at_ns)
    room_ns = max((end_ns - start_ns) // 40, 100_000)
    marks = [
        NodeMark(
            event.time_ns,
            event.node,
            _KINDS[event.name],
            event_words.told(event),
            versions=_versions(event),
        )
        for event in sorted(view.history.events, key=lambda each: each.time_ns)
        if event.name in _KINDS
        and event.fields.get("key") == key
        and start_ns <= event.time_ns <= end_ns + room_ns
    ]
    hidden = len(operations) - len(shown)
    left_out = [f"{words.plural(hidden, 'operation')} on this key"] if hidden else []
    if len(marks) > MARKS_MAX:
        left_out.append(f"{words.plural(len(marks) - MARKS_MAX, 'node event')}")
    drawn = [operation_mark(view, each) for each in shown]
    named = [*(each.versions for each in drawn), *(each.versions for each in marks[:MARKS_MAX])]
    return SpaceTime(
        key,
        start_ns - room_ns,
        end_ns + room_ns,
        why,
        {write_id: _name(view, write_id) for each in named for write_id in each},
        marks[:MARKS_MAX],
        drawn,
        " and ".join(left_out),
    )


def _versions(event: NodeEvent) -> list[str]:
    """Return the write ids that an event speaks of."""
    told = list(event.fields.get("versions", ()))
    dropped = event.fields.get("dropped")
    told += dropped if isinstance(dropped, list) else [dropped] if dropped else []
    version = event.fields.get("version")
    found = [str(each["write_id"]) for each in [*told, *([version] if version else [])]]
    return found + [str(each) for each in event.fields.get("write_ids", ())]


def _name(view: View, write_id: str) -> str:
    write = view.writes.get(write_id)
    dot = f", dot {write.dot}" if write is not None and write.dot else ""
    return f"{words.write(view, write_id)}{dot}"


_KINDS = {
    "siblings_created": "siblings",
    "siblings_resolved": "resolved",
    "version_dropped": "dropped",
    "read_repaired": "repaired",
    "delete_undone": "undone",
    "hint_stored": "hint",
}


def _moment(view: View, key: str, vanished: list[Operation]) -> tuple[int, str]:
    """Return when it went wrong, and why this key and moment were chosen."""
    undone = [each.time_ns for each in _undone(view) if each.fields["key"] == key]
    if undone:
        return min(undone), "here a version came back that had been deleted"
    for write in vanished:
        if write.key == key:
            return write.invoke_ns, f"here {write.write_id} was acknowledged, and it vanished"
    stale = [read for read, _ in view.once(stale_reads) if read.key == key]
    if stale:
        read = stale[0]
        return read.invoke_ns, f"here {read.client} read a version that had been replaced"
    told = [each for each in view.once(episodes).found if each.key == key]
    if told:
        largest = max(told, key=lambda each: each.largest)
        return _begin_ns(view, largest.versions), "here it came to hold the most siblings"
    paired = view.once(pairs).get(key)
    if paired is not None:
        return paired.first[0][0].invoke_ns, "here it was written twice at once"
    return view.by_key[key][0].invoke_ns, "its replicas differed at the end"


def _begin_ns(view: View, write_ids: dict[str, dict[str, object]]) -> int:
    begun = [view.writes[each].invoke_ns for each in write_ids if each in view.writes]
    return min(begun, default=view.history.load_start_ns)
