"""Sets, lists and counters: what was added, and what was read of it.

The semantics are those of Jepsen's checkers set-full and counter (jepsen.checker). An element is
*known* from the acknowledgement of its addition, or the end of the first read that showed it. It is

- *lost* if a read that began later than it was known, and later than every read that showed it, did
  not show it;
- *stale* if reads that began after it was known missed it, but later ones showed it;
- *never read* if no read that began after it was known is there to tell.

A read of a counter must lie between what had been acknowledged when it began, and what had been
begun when it ended (additions of unknown outcome may count or not).
"""

from bisect import bisect_left, bisect_right
from collections import Counter as Tally
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from replication.analysis import words
from replication.analysis.coverage import conclude, coverage
from replication.analysis.findings import Finding, Verdict, Witness
from replication.analysis.promised import merges_updates, promises_durability, setting
from replication.analysis.view import View
from replication.analysis.words import plural
from replication.history import Operation, OperationKind, Outcome, Phase

NAME = "elements"
TITLE = "Elements kept"
COUNTER_NAME = "counter"
COUNTER_TITLE = "Counter within bounds"
WITNESSES_MAX = 5


@dataclass(frozen=True, slots=True)
class Addition:
    """An element that somebody added, or an amount that was counted."""

    operation: int  # index in the history
    element: str
    invoke_ns: int
    complete_ns: int | None  # None: the outcome is not known
    failed: bool = False  # for certain
    amount: int = 1


@dataclass(frozen=True, slots=True)
class Look:
    """A read: the elements that it showed, or the number."""

    operation: int
    invoke_ns: int
    complete_ns: int
    shown: tuple[str, ...] = ()
    number: int = 0


@dataclass(slots=True)
class Elements:
    """What became of the elements of one set or list."""

    acknowledged: int = 0
    stable: int = 0
    lost: list[tuple[Addition, Look]] = field(default_factory=list)  # with the look that lacks it
    stale: list[tuple[Addition, int]] = field(default_factory=list)  # ns until all looks showed it
    never_read: list[Addition] = field(default_factory=list)
    duplicated: list[tuple[str, Look]] = field(default_factory=list)
    unexpected: list[tuple[str, Look]] = field(
        default_factory=list
    )  # nobody added it, or it failed
    reordered: list[tuple[Look, Look]] = field(default_factory=list)  # lists only


def judge_elements(
    additions: Sequence[Addition], looks: Sequence[Look], *, ordered: bool = False
) -> Elements:
    """Return what became of every element; ``ordered``: elements never change places."""
    found = Elements()
    looks = sorted(looks, key=lambda each: (each.invoke_ns, each.operation))
    seen = _follow(found, looks, {each.element for each in additions if not each.failed})
    for addition in additions:
        if not addition.failed:
            _judge_element(found, addition, looks, seen.get(addition.element))
    if ordered:
        found.reordered = [
            (before, after)
            for before, after in pairwise(looks)
            if not _same_order(before.shown, after.shown)
        ]
    return found


@dataclass(slots=True)
class _Seen:
    """When an element was there, by numbers of looks."""

    known_ns: int  # the first end of a look that showed it
    last_shown: int
    last_absent: int  # -1: every look showed it


def _follow(found: Elements, looks: Sequence[Look], known: set[str]) -> dict[str, _Seen]:
    """Go from look to look and follow what changes: sets are long, and mostly grow."""
    seen: dict[str, _Seen] = {}
    sets = [frozenset(each.shown) for each in looks]
    before: frozenset[str] = frozenset()
    for number, (look, shown) in enumerate(zip(looks, sets, strict=True)):
        if len(shown) < len(look.shown):
            amounts = Tally(look.shown)
            found.duplicated += [(each, look) for each, amount in amounts.items() if amount > 1]
        for each in sorted(shown - before):
            if each not in known:
                found.unexpected.append((each, look))
            known_ns = _first_end_ns(looks, sets, number, each)
            mine = seen.setdefault(each, _Seen(known_ns, number, -1))
            mine.known_ns = min(mine.known_ns, known_ns)
            mine.last_shown, mine.last_absent = number, number - 1
        for each in before - shown:
            seen[each].last_shown, seen[each].last_absent = number - 1, number
        before = shown
    for each, mine in seen.items():
        if each in before:
            mine.last_shown = len(looks) - 1
        else:
            mine.last_absent = len(looks) - 1
    return seen


def _first_end_ns(
    looks: Sequence[Look], sets: Sequence[frozenset[str]], number: int, element: str
) -> int:
    """Return the first end among the looks that show it, from one on: only a look that began
    before that one ended can have ended sooner.
    """
    end_ns = looks[number].complete_ns
    for later in range(number + 1, len(looks)):
        if looks[later].invoke_ns >= end_ns:
            break
        if element in sets[later]:
            end_ns = min(end_ns, looks[later].complete_ns)
    return end_ns


def _judge_element(
    found: Elements, addition: Addition, looks: Sequence[Look], seen: _Seen | None
) -> None:
    ends = [seen.known_ns] if seen is not None else []
    if addition.complete_ns is not None:
        found.acknowledged += 1
        ends.append(addition.complete_ns)
    if not ends:
        return  # of unknown outcome, and nobody saw it: it may never have happened
    known_ns = min(ends)
    last_absent = len(looks) - 1 if seen is None else seen.last_absent
    late = last_absent >= 0 and looks[last_absent].invoke_ns > known_ns
    if late and (seen is None or looks[last_absent].invoke_ns > looks[seen.last_shown].invoke_ns):
        found.lost.append((addition, looks[last_absent]))
    elif seen is None:
        found.never_read.append(addition)
    else:
        found.stable += 1
        if late:
            found.stale.append((addition, looks[last_absent].invoke_ns - known_ns))


def _same_order(before: Sequence[str], after: Sequence[str]) -> bool:
    if after[: len(before)] == before:
        return True  # it grew at its end
    common = set(before) & set(after)
    return [each for each in before if each in common] == [each for each in after if each in common]


def judge_counter(
    additions: Sequence[Addition], looks: Sequence[Look]
) -> list[tuple[Look, int, int]]:
    """Return the looks outside their bounds, each with the lower and the upper one."""
    acknowledged = _sums((each.complete_ns, each.amount) for each in additions if not each.failed)
    begun = _sums((each.invoke_ns, each.amount) for each in additions if not each.failed)
    found = []
    for look in looks:
        lower = acknowledged[1][bisect_left(acknowledged[0], look.invoke_ns)]
        upper = begun[1][bisect_right(begun[0], look.complete_ns)]
        if not lower <= look.number <= upper:
            found.append((look, lower, upper))
    return found


def _sums(amounts: Iterable[tuple[int | None, int]]) -> tuple[list[int], list[int]]:
    """Return moments ascending, and the sum up to each, from 0."""
    ordered = sorted((at_ns, amount) for at_ns, amount in amounts if at_ns is not None)
    sums = [0]
    for _, amount in ordered:
        sums.append(sums[-1] + amount)
    return [at_ns for at_ns, _ in ordered], sums


# Our own workloads: a value is the elements joined by commas (``client.updates``).


def additions_of(operations: Iterable[Operation]) -> list[Addition]:
    """Return what the writes of one key added: each names itself, as "client-sequence"."""
    return [
        Addition(
            each.index,
            (each.write_id or "").replace(":", "-"),
            each.invoke_ns,
            each.complete_ns if each.outcome is Outcome.OK else None,
            # After several attempts an earlier one may have won without an answer.
            each.outcome is Outcome.FAIL and each.attempts <= 1,
        )
        for each in operations
        if each.kind.is_write
    ]


def looks_of(operations: Iterable[Operation]) -> list[Look]:
    """Return what the reads of one key showed; siblings are one set, and the greatest number."""
    found = []
    for each in operations:
        if each.kind is OperationKind.GET and each.outcome is Outcome.OK and each.complete_ns:
            values = [version.value or "" for version in each.seen if not version.tombstone]
            lists = [value.split(",") if value else [] for value in values]
            shown = lists[0] if len(lists) == 1 else sorted({one for each in lists for one in each})
            number = max((int(value) for value in values if value.isdecimal()), default=0)
            found.append(Look(each.index, each.invoke_ns, each.complete_ns, tuple(shown), number))
    return found


def applies(view: View) -> bool:
    """Return whether the values are sets or lists."""
    return view.history.workload in ("set", "append")


def counts(view: View) -> bool:
    """Return whether the values are counters."""
    return view.history.workload == "counter"


def _promised(view: View) -> bool:
    """Compare-and-set on one order per key loses nothing, nor do updates that the store merges.

    A put replaces what it has not read.
    """
    if view.once(merges_updates):
        return promises_durability(view)
    writes = [each for each in view.history.operations if each.kind.is_write]
    swaps = all(each.kind is OperationKind.COMPARE_AND_SET for each in writes)
    return view.history.single_register and swaps


def _reads_are_fresh(view: View) -> bool:
    """Return whether every read meets every acknowledged write: one order, or R + W > N."""
    if view.history.single_register:
        return True
    n, r, w = (int(setting(view, name) or 0) for name in "nrw")
    asked = any(
        each.consistency or each.replicas_asked
        for each in view.history.operations
        if each.phase is not Phase.FINAL
    )
    return r + w > n and setting(view, "quorum") == "strict" and not asked


def check(view: View) -> Finding:
    """Return whether every element that was acknowledged was there to the end."""
    ordered = view.history.workload == "append" and view.history.single_register
    total = Elements()
    witnesses: list[Witness] = []
    for key, operations in view.by_key.items():
        found = judge_elements(additions_of(operations), looks_of(operations), ordered=ordered)
        total.acknowledged += found.acknowledged
        total.stable += found.stable
        for name in ("lost", "stale", "never_read", "duplicated", "unexpected", "reordered"):
            getattr(total, name).extend(getattr(found, name))
        witnesses += _witnesses(view, key, found)
    violations = len(total.lost) + len(total.duplicated)
    violations += len(total.unexpected) + len(total.reordered)
    witnesses.sort(key=lambda each: each.at_ns or 0)
    finding = Finding(
        NAME,
        TITLE,
        Verdict.VIOLATED if violations else Verdict.VALID,
        f"{len(total.lost):,} of {plural(total.acknowledged, 'acknowledged element')} lost, "
        f"{len(total.stale):,} stale for a while, {len(total.never_read):,} never read, "
        f"{len(total.duplicated):,} duplicated, {len(total.unexpected):,} from nowhere",
        coverage(view, reads=True, judged=total.acknowledged - len(total.never_read)),
        witnesses[:WITNESSES_MAX],
        violations,
        _promised(view),
        {
            "acknowledged": total.acknowledged,
            "lost": len(total.lost),
            "stale": len(total.stale),
            "never_read": len(total.never_read),
            "duplicated": len(total.duplicated),
            "unexpected": len(total.unexpected),
            "reordered": len(total.reordered),
        },
    )
    return conclude(view, finding)


def _witnesses(view: View, key: str, found: Elements) -> Iterable[Witness]:
    for addition, look in found.lost[:WITNESSES_MAX]:
        yield _told(
            view,
            key,
            look,
            f"lacked {addition.element}, although "
            + (
                f"that had been acknowledged at {words.moment(view, addition.complete_ns)}"
                if addition.complete_ns is not None
                else "that had been read before"
            )
            + ", and no later read showed it",
            addition.operation,
        )
    for element, look in found.duplicated[:WITNESSES_MAX]:
        yield _told(view, key, look, f"showed {element} more than once")
    for element, look in found.unexpected[:WITNESSES_MAX]:
        yield _told(
            view, key, look, f"showed {element}, which nobody added, or whose addition failed"
        )
    for before, after in found.reordered[:WITNESSES_MAX]:
        yield _told(
            view,
            key,
            after,
            "showed elements in another order than a read before",
            before.operation,
        )


def _told(view: View, key: str, look: Look, what: str, *others: int) -> Witness:
    read = view.by_index[look.operation]
    begun = words.moment(view, look.invoke_ns)
    text = f"{read.client}'s read of {key}{words.served(read)} from {begun} on {what}."
    return Witness(text, key, [*others, look.operation], look.invoke_ns)


def check_counter(view: View) -> Finding:
    """Return whether every read of a counter lay within its bounds."""
    judged = 0
    found: list[tuple[str, Look, int, int]] = []
    for key, operations in view.by_key.items():
        looks = looks_of(operations)
        judged += len(looks)
        found += [(key, *each) for each in judge_counter(additions_of(operations), looks)]
    found.sort(key=lambda each: (each[1].invoke_ns, each[1].operation))
    finding = Finding(
        COUNTER_NAME,
        COUNTER_TITLE,
        Verdict.VIOLATED if found else Verdict.VALID,
        f"{len(found):,} of {plural(judged, 'read')} out of bounds",
        coverage(view, reads=True, judged=judged),
        [
            _told(
                view,
                key,
                look,
                f"showed {look.number:,}, although {lower:,} had been acknowledged when it began "
                f"and {upper:,} begun when it ended",
            )
            for key, look, lower, upper in found[:WITNESSES_MAX]
        ],
        len(found),
        _promised(view) and _reads_are_fresh(view),
        {"out_of_bounds": len(found)},
    )
    return conclude(view, finding)
