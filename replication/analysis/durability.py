"""Durable: what was acknowledged can still be read, or was replaced; what failed never shows up.

**Lost.** Let F be the versions of a key that can still be read when all faults are healed: what the
final reads returned and, without one order per key, what any owner still holds. An acknowledged
write w of the key is *lost* if w is not in F and no write that could have replaced it is:

- every version in F comes from a write that had taken effect before w was invoked; or
- F is empty, and no delete that was not refused could have taken effect after w was invoked.

This is the weakest accusation that deserves the name, and it holds for every family. A write that
took effect before w began cannot have replaced w, whatever order a register, a clock or a vector
puts them in: a store that returns it has forgotten w. A write that overlaps w may rightly stand in
its place on a register or under last-write-wins, so it acquits w here; whether its writer had seen
w is the question of ``conflicts``, whether readers saw time run backwards that of
``linearizability``. An unknown write takes effect at the end of its first read at the latest; one
that nobody read may take effect whenever it likes, and acquits.

**A failed write became visible.** An error of a definite class says that the write never takes
effect (``replication/errors.py``). If anybody reads it, or an owner holds it, the store lied.

**A delete came undone**: a version that an acknowledged delete had covered is live at the end.
**A value came from nowhere**: a version that no client wrote. **A retry took effect twice**: a
write stands beside itself, or a key holds it again after another one; that is counted, since only
some stores promise that it does not.

Without a look at the end (an interrupted run) nothing is known to have survived: UNKNOWN.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from replication.analysis import words
from replication.analysis.coverage import conclude, coverage
from replication.analysis.findings import Finding, Verdict, Witness
from replication.analysis.lineage import lineage
from replication.analysis.promised import keeps_siblings, promises_durability
from replication.analysis.registers import failed_write_witness
from replication.analysis.view import View
from replication.analysis.words import plural
from replication.history import Operation, OperationKind, Outcome, SeenVersion

NAME = "durability"
TITLE = "Acknowledged writes kept"
WITNESSES_MAX = 5


@dataclass(slots=True)
class _Fate:
    """What became of the writes."""

    lost: list[tuple[Operation, list[SeenVersion]]] = field(default_factory=list)
    visible: list[Operation] = field(default_factory=list)  # failed ones
    keys_not_looked_at: list[str] = field(default_factory=list)  # with acknowledged writes
    acknowledged: int = 0
    unknown: int = 0
    took_effect: int = 0  # of the unknown ones
    resurrected: list[tuple[Operation, Operation]] = field(default_factory=list)  # delete, version
    nowhere: list[tuple[str, str, list[str]]] = field(default_factory=list)  # key, id, holders
    duplicated: set[str] = field(default_factory=set)  # writes that took effect twice


def check(view: View) -> Finding:
    """Return the verdict on every write of the history."""
    fate = view.once(_fate)
    found = coverage(view, reads=False)
    if not fate.acknowledged:
        found.notes.append("no write was acknowledged: nothing can have been lost")
    shown = [
        *_lost_witnesses(view, fate),
        *_visible_witnesses(view, fate),
        *_returned_witnesses(view, fate),
    ]
    violations = len(fate.lost) + len(fate.visible) + len(fate.resurrected) + len(fate.nowhere)
    if violations:
        verdict = Verdict.VIOLATED
    elif not fate.acknowledged or fate.keys_not_looked_at or view.history.interrupted:
        verdict = Verdict.UNKNOWN
    else:
        verdict = Verdict.VALID
    if fate.keys_not_looked_at:
        found.notes.append(
            f"nobody read {words.listed(fate.keys_not_looked_at)} at the end: whether "
            "acknowledged writes survived there is not known"
        )
    finding = Finding(
        NAME,
        TITLE,
        verdict,
        _summary(fate),
        found,
        sorted(shown, key=lambda each: each.at_ns or 0)[:WITNESSES_MAX],
        violations,
        promises_durability(view),
        {
            "acknowledged": fate.acknowledged,
            "lost": len(fate.lost),
            "failed_visible": len(fate.visible),
            "unknown": fate.unknown,
            "unknown_took_effect": fate.took_effect,
            "resurrected": len(fate.resurrected)
            + sum(write.kind is OperationKind.DELETE for write, _ in fate.lost),
            "from_nowhere": len(fate.nowhere),
            "duplicated": len(fate.duplicated),
        },
    )
    return conclude(view, finding)


def lost_writes(view: View) -> list[Operation]:
    """Return the acknowledged writes that are lost."""
    return [write for write, _ in view.once(_fate).lost]


def failed_visible(view: View) -> list[Operation]:
    """Return the writes that failed for certain and were noticed all the same."""
    return view.once(_fate).visible


def _fate(view: View) -> _Fate:
    fate = _Fate()
    for key, operations in view.by_key.items():
        finals = view.final_versions(key)
        writes = [each for each in operations if each.write_id in view.writes]
        kept = {version.write_id for version in finals or ()}
        acknowledged = [each for each in writes if each.outcome is Outcome.OK]
        fate.acknowledged += len(acknowledged)
        for each in writes:
            noticed = each.write_id in kept or each.write_id in view.first_seen_ns
            if each.outcome is Outcome.UNKNOWN:
                fate.unknown += 1
                fate.took_effect += noticed
            elif each.outcome is Outcome.FAIL and noticed:
                fate.visible.append(each)
        _note_strangers(view, fate, key, operations)
        if view.history.single_register and view.history.lossless:
            _note_repeated(fate, operations)
        if finals is None:
            if acknowledged:
                fate.keys_not_looked_at.append(key)
            continue
        settled_ns = _settled_ns(view, finals, writes)
        if settled_ns is not None:
            fate.lost += [
                (each, finals)
                for each in acknowledged
                if each.invoke_ns > settled_ns and each.write_id not in kept
            ]
        if view.once(keeps_siblings) and not view.history.single_register:
            _note_resurrected(view, fate, acknowledged, finals)
    return fate


def _note_strangers(view: View, fate: _Fate, key: str, operations: list[Operation]) -> None:
    """Note versions of writes that no client sent, and writes that stand beside themselves.

    A retried write that took effect twice gets two dots where siblings are kept.
    """
    held = [(each.node, each.versions) for each in view.held.get(key, ())]
    read = [(each.client, each.seen) for each in operations if each.seen]
    strangers: dict[str, list[str]] = {}
    for who, versions in (*read, *held):
        ids = [version.write_id for version in versions]
        if len(set(ids)) < len(ids):
            fate.duplicated.update(each for each in ids if ids.count(each) > 1)
        for each in ids:
            source = view.writes.get(each)
            if source is None or source.key != key:
                strangers.setdefault(each, []).append(who)
    fate.nowhere += [
        (key, write_id, list(dict.fromkeys(who))) for write_id, who in strangers.items()
    ]


def _note_repeated(fate: _Fate, operations: list[Operation]) -> None:
    """Note writes that a key holds, then another one, then them again, in the order of the log."""
    held: list[tuple[int, str]] = []
    for each in operations:
        if each.outcome is Outcome.OK and each.log_index is not None:
            ids = [each.write_id] if each.kind.is_write else [seen.write_id for seen in each.seen]
            held += [(each.log_index, write_id) for write_id in ids if write_id]
    before = ""
    replaced: set[str] = set()
    for _, write_id in sorted(held):
        if write_id != before:
            replaced.add(before)
            before = write_id
            if write_id in replaced:
                fate.duplicated.add(write_id)


def _note_resurrected(
    view: View, fate: _Fate, acknowledged: list[Operation], finals: list[SeenVersion]
) -> None:
    """Note live versions that an acknowledged delete had covered, where siblings are kept.

    Elsewhere a delete that did not last is lost like any write.
    """
    judges = view.once(lineage)
    lost = {write.index for write, _ in fate.lost}
    for delete in acknowledged:
        if delete.kind is not OperationKind.DELETE or delete.index in lost:
            continue
        for version in finals:
            source = view.writes.get(version.write_id)
            if source is None or version.tombstone or source.outcome is Outcome.FAIL:
                continue
            if judges.may_replace(delete, source):
                fate.resurrected.append((delete, source))


def _settled_ns(view: View, finals: list[SeenVersion], writes: list[Operation]) -> int | None:
    """Return the moment from which on no write has left a trace; None if that cannot be said.

    A write that was invoked after it and is not among ``finals`` is lost.
    """
    ends: list[int] = []
    for version in finals:
        end_ns = view.effective_end_ns(version.write_id)
        if end_ns is None:
            return None
        ends.append(end_ns)
    if not finals:
        for each in writes:
            if each.kind is OperationKind.DELETE and each.outcome is not Outcome.FAIL:
                end_ns = view.effective_end_ns(each.write_id or "")
                if end_ns is None:
                    return None
                ends.append(end_ns)
    return max(ends, default=-1)


def _summary(fate: _Fate) -> str:
    parts = [
        f"{len(fate.lost):,} of {plural(fate.acknowledged, 'acknowledged write')} lost",
        f"{plural(len(fate.visible), 'failed write')} became visible",
        f"{fate.took_effect:,} of {plural(fate.unknown, 'unknown write')} seen to take effect",
    ]
    for amount, what, many in (
        (len(fate.resurrected), "deleted version came back", "deleted versions came back"),
        (len(fate.nowhere), "version came from nowhere", "versions came from nowhere"),
        (len(fate.duplicated), "write took effect twice", "writes took effect twice"),
    ):
        if amount:
            parts.append(plural(amount, what, many))
    return ", ".join(parts)


def _lost_witnesses(view: View, fate: _Fate) -> Iterator[Witness]:
    ordered = sorted(fate.lost, key=lambda each: (each[0].complete_ns or 0, each[0].index))
    for write, finals in ordered[:WITNESSES_MAX]:
        yield _lost_witness(view, write, finals)


def _lost_witness(view: View, write: Operation, finals: list[SeenVersion]) -> Witness:
    assert write.write_id is not None, "a write has an id"
    assert write.complete_ns is not None, "an acknowledged write has ended"
    older = [view.writes[each.write_id] for each in finals if each.write_id in view.writes]
    begun = words.moment(view, write.invoke_ns)
    if finals:
        verb = "was" if len(finals) == 1 else "were"
        left = (
            f"all that can be read at the end is {words.versions(view, finals)}, which {verb} "
            f"there before {write.client} began to write at {begun}"
        )
    else:
        left = "at the end nothing can be read, and no delete explains that"
    reads = view.final_reads.get(write.key, [])
    text = (
        f"{write.client}'s {words.write(view, write.write_id)} of {write.key} was acknowledged"
        f"{words.served(write)} at {words.moment(view, write.complete_ns)} and is lost: {left}."
        f"{_last_seen(view, write)}{_truncated(view, write)}"
    )
    shown = [*(each.index for each in older), write.index, *(each.index for each in reads[:1])]
    return Witness(text, write.key, list(dict.fromkeys(shown)), write.complete_ns)


def _last_seen(view: View, write: Operation) -> str:
    """Say who read it last, for then it had been there."""
    ends = [
        each.complete_ns
        for each in view.by_key[write.key]
        if each.complete_ns is not None
        and any(version.write_id == write.write_id for version in each.seen)
    ]
    return f" It was last read at {words.moment(view, max(ends))}." if ends else ""


def _truncated(view: View, write: Operation) -> str:
    """Say which node dropped it from its log, if one told."""
    for event in view.history.events:
        if event.name == "log_truncated" and write.write_id in event.fields.get("write_ids", ()):
            at = words.moment(view, event.time_ns)
            known = [each.get("write_id") for each in event.fields.get("acknowledged", ())]
            how = "having acknowledged" if write.write_id in known else "never having committed"
            return f" {event.node} dropped it from its log at {at}, {how} it."
    return ""


def _visible_witnesses(view: View, fate: _Fate) -> Iterator[Witness]:
    for write in fate.visible[:WITNESSES_MAX]:
        for read in view.by_key[write.key]:
            if any(version.write_id == write.write_id for version in read.seen):
                yield failed_write_witness(view, write, read)
                break
        else:
            yield _held_witness(view, write)


def _returned_witnesses(view: View, fate: _Fate) -> Iterator[Witness]:
    for delete, version in fate.resurrected[:WITNESSES_MAX]:
        at_ns = delete.complete_ns or delete.invoke_ns
        yield Witness(
            f"{words.write(view, version.write_id or '')} of {version.key} can be read at the end, "
            f"although {delete.client}'s delete {delete.write_id}, which had read it, was "
            f"acknowledged{words.served(delete)} at {words.moment(view, at_ns)}.",
            version.key,
            [version.index, delete.index],
            at_ns,
        )
    for key, write_id, holders in fate.nowhere[:WITNESSES_MAX]:
        reads = [
            each.index
            for each in view.by_key[key]
            if any(version.write_id == write_id for version in each.seen)
        ]
        yield Witness(
            f"No client ever wrote {write_id} to {key}, but {words.listed(holders)} had it.",
            key,
            reads[:1],
        )


def _held_witness(view: View, write: Operation) -> Witness:
    holders = [
        each.node
        for each in view.held.get(write.key, [])
        if any(version.write_id == write.write_id for version in each.versions)
    ]
    assert write.write_id is not None, "a write has an id"
    return Witness(
        f"{words.write(view, write.write_id)} of {write.key} had failed with "
        f"{write.error or 'an error'}, which says that it never takes effect, but "
        f"{words.listed(holders)} still held it at the end.",
        write.key,
        [write.index],
        write.complete_ns,
    )
