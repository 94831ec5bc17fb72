"""Histories of any origin: operations as some tool recorded them, judged against a model.

Registers whose written values are unique are judged by zones, everything else by search, object by
object. First a prune that is sound for values that only one operation sets: an indeterminate one
that nobody saw is dropped, one that was seen has ended with the first read that saw it.
"""

from collections import Counter as Tally
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from replication.analysis.columns import INITIAL_VALUE, RegisterColumns, contradictions
from replication.analysis.findings import Coverage, Finding, Verdict, Witness
from replication.analysis.models import MODELS, UNREAD, Register
from replication.analysis.search import Action, Budget, Model, Step, first_inexplicable, search
from replication.analysis.view import NEVER
from replication.analysis.words import listed, plural
from replication.history import Outcome

WITNESSES_MAX = 5
_UNDER_WAY_MAX = 4
_TEXT_CHARACTERS_MAX = 60
_STORY_STEPS_MAX = 200_000
_SETTERS = ("write", "append", "add", "cas")


@dataclass(slots=True)
class Call:
    """One operation. Where a file gives no times, a time is a position: only order counts."""

    process: str
    name: str  # of an action of its model; "refused": a compare-and-set that lost
    argument: Any
    result: Any  # of a read
    key: Hashable
    invoke_ns: int
    complete_ns: int | None  # None: it may take effect at any time after, or never
    outcome: Outcome
    line: int  # of its invocation
    end_line: int | None = None

    @property
    def action(self) -> Action:
        """What it does to an object."""
        return Action(self.name, self.argument, self.result)


@dataclass(slots=True)
class Calls:
    """A history as it was read."""

    calls: list[Call] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what was left out, and why


def guess_model(calls: Sequence[Call]) -> str:
    """Return the simplest model whose operations these are."""
    names = {call.name for call in calls} - {"refused"}
    if names <= {"read", "add"} and "add" in names:
        counts = all(
            isinstance(each.result, int) or each.result in (None, UNREAD) for each in calls
        )
        return "counter" if counts else "set"
    for name, kind in MODELS.items():
        if names <= set(kind.operations):
            return name
    return "multi-register"


def judge_calls(
    history: Calls, model: str, initial: Any, budget: Budget, *, all_objects: bool = False
) -> Finding:
    """Return whether the history is linearizable; the search stops at the first bad object unless
    asked for all. ``violations`` counts objects.
    """
    by_key: dict[Hashable, list[Call]] = {}
    for call in history.calls:
        if call.outcome is not Outcome.FAIL or call.name == "refused":
            by_key.setdefault(call.key, []).append(call)
    made = MODELS[model].make(initial)
    judged = _Judged()
    if isinstance(made, Register) and _unique(by_key, made):
        _by_zones([each for calls in by_key.values() for each in calls], made, judged)
    else:
        _by_search(by_key, made, budget, judged, all_objects)
    return _finding(history, model, len(by_key), judged)


@dataclass(slots=True)
class _Judged:
    bad: dict[Hashable, Witness] = field(default_factory=dict)  # by object, its first violation
    undecided: list[Hashable] = field(default_factory=list)
    left_out: int = 0  # objects behind the first bad one


def _unique(by_key: dict[Hashable, list[Call]], model: Register) -> bool:
    """Return whether every read tells which write it saw."""
    for calls in by_key.values():
        written = [_hashable(each.argument) for each in calls if each.name == "write"]
        if any(each.name not in ("read", "write") for each in calls):
            return False
        if len({*written, _hashable(model.start)}) <= len(written):
            return False
    return True


def _hashable(value: Any) -> Hashable:
    return tuple(map(_hashable, value)) if isinstance(value, list | tuple) else value


def _by_zones(calls: list[Call], model: Register, judged: _Judged) -> None:
    rows = [
        each
        for each in calls
        if each.name == "write" or (each.result is not UNREAD and each.complete_ns is not None)
    ]
    keys: dict[Hashable, int] = {}
    values: dict[tuple[Hashable, Hashable], int] = {}
    start = _hashable(model.start)

    def number(call: Call) -> int:
        value = _hashable(call.argument if call.name == "write" else call.result)
        if call.name == "read" and value == start:
            return INITIAL_VALUE
        return values.setdefault((call.key, value), len(values))

    columns = RegisterColumns(
        key=np.array([keys.setdefault(each.key, len(keys)) for each in rows], dtype=np.int64),
        value=np.array([number(each) for each in rows], dtype=np.int64),
        write=np.array([each.name == "write" for each in rows], dtype=np.bool_),
        failed=np.zeros(len(rows), dtype=np.bool_),
        invoke=np.array([each.invoke_ns for each in rows], dtype=np.int64),
        complete=np.array(
            [NEVER if each.complete_ns is None else each.complete_ns for each in rows],
            dtype=np.int64,
        ),
    )
    found = contradictions(columns)
    for row in found.nowhere.tolist():
        judged.bad.setdefault(
            rows[row].key, _witness([rows[row]], f"{_told(rows[row])}, which nobody wrote.")
        )
    for row in found.early.tolist():
        judged.bad.setdefault(
            rows[row].key,
            _witness([rows[row]], f"{_told(rows[row])}, before anybody began to write that."),
        )
    for several in found.exclusive.tolist():
        shown = sorted({rows[row].line: rows[row] for row in several}.values(), key=_begun)
        judged.bad.setdefault(shown[0].key, _back_and_forth(shown))


def _begun(call: Call) -> tuple[int, int]:
    return call.invoke_ns, call.line


def _back_and_forth(shown: list[Call]) -> Witness:
    on = "" if shown[0].key is None else f" on {_text(shown[0].key)}"
    return _witness(
        shown,
        f"No order explains these{on}, for each of two values was there after the other: "
        + "; ".join(_told(each) for each in shown)
        + ".",
    )


def _by_search(
    by_key: dict[Hashable, list[Call]],
    model: Model,
    budget: Budget,
    judged: _Judged,
    all_objects: bool,
) -> None:
    for position, (key, calls) in enumerate(by_key.items(), 1):
        ordered = sorted(_without_unseen(calls, model), key=_begun)
        steps = [
            Step(each.invoke_ns, end_ns, each.action) for each, end_ns in _ends(ordered, model)
        ]
        verdict = search(steps, model, budget).verdict
        if verdict is Verdict.UNKNOWN:
            judged.undecided.append(key)
        elif verdict is Verdict.VIOLATED:
            judged.bad[key] = _no_order(ordered, steps, model)
            if not all_objects:
                judged.left_out = len(by_key) - position
                return


def _without_unseen(calls: list[Call], model: Model) -> Iterator[Call]:
    """Leave out indeterminate operations that nobody can have noticed."""
    seen = _seen(calls)
    # A refusal judges what was not there; a text or list that is also written as a whole hides
    # what it held before.
    anything = any(each.name == "refused" for each in calls) or (
        not isinstance(model, Register) and any(each.name == "write" for each in calls)
    )
    for call in calls:
        if call.complete_ns is None:
            if not model.changes(call.action):
                continue
            if call.name in _SETTERS and not anything and seen is not None:
                if _sets(call) in seen:
                    yield call
                continue
        yield call


def _seen(calls: list[Call]) -> set[Hashable] | None:
    """Return every value or element that somebody read or compared with; None: cannot be told."""
    found: set[Hashable] = set()
    for call in calls:
        if call.name == "cas":
            found.add(_hashable(call.argument[0]))
        elif call.name == "add" and isinstance(call.argument, int | float):
            if not all(isinstance(each.result, list | tuple) for each in calls if _reads(each)):
                return None  # a counter: an addition cannot be told from others
        elif _reads(call):
            if isinstance(call.result, list | tuple | frozenset):
                found.update(map(_hashable, call.result))
            elif isinstance(call.result, str) and any(each.name == "append" for each in calls):
                return None  # a text may hold it anywhere
            found.add(_hashable(call.result))
    return found


def _reads(call: Call) -> bool:
    return call.name == "read" and call.result is not UNREAD


def _sets(call: Call) -> Hashable:
    return _hashable(call.argument[1] if call.name == "cas" else call.argument)


def _ends(calls: list[Call], model: Model) -> Iterator[tuple[Call, int | None]]:
    """Yield each with its end; of an indeterminate one the first read that saw it.

    Only where no other operation sets the same, and it was not there from the beginning: nothing
    else can have been seen then.
    """
    setters = Tally(_sets(each) for each in calls if each.name in _SETTERS)
    unsaid = any(each.name not in ("read", "write", "append") for each in calls)
    start: Any = model.initial
    for call in calls:
        end_ns = call.complete_ns
        told = not unsaid and setters[_sets(call)] == 1 and not _shows(start, _sets(call))
        if end_ns is None and told:
            ends = [
                each.complete_ns
                for each in calls
                if _reads(each)
                and each.complete_ns is not None
                and each.complete_ns >= call.invoke_ns
                and _shows(each.result, _sets(call))
            ]
            end_ns = min(ends, default=None)
        yield call, end_ns


def _shows(result: Any, value: Hashable) -> bool:
    if isinstance(result, list | tuple | frozenset):
        return value in map(_hashable, result)
    return _hashable(result) == value


def _no_order(ordered: list[Call], steps: list[Step], model: Model) -> Witness:
    turn = first_inexplicable(steps, model, Budget(_STORY_STEPS_MAX))
    culprit = ordered[turn.steps[0]]
    under_way = [
        each
        for each in ordered
        if each is not culprit
        and each.invoke_ns <= turn.at_ns
        and (each.complete_ns is None or each.complete_ns >= culprit.invoke_ns)
    ][:_UNDER_WAY_MAX]
    on = "" if culprit.key is None else f" on {_text(culprit.key)}"
    text = f"{_told(culprit)}, and no order of the operations{on} until then explains it."
    if turn.order is not None:
        state: Any = model.initial
        for index in turn.order:
            state = model.apply(state, steps[index].action)
        held = state[0] if isinstance(state, tuple) and len(state) == 1 else state
        text += f" Everything before has such an order; it ends with {_text(held)}."
    if under_way:
        text += f" Under way meanwhile: {listed([_told(each) for each in under_way])}."
    return _witness(sorted([culprit, *under_way], key=_begun), text)


def _witness(shown: list[Call], text: str) -> Witness:
    key = shown[0].key
    return Witness(
        text,
        None if key is None else _text(key),
        [each.line for each in shown],
        shown[-1].invoke_ns,
    )


def _told(call: Call) -> str:
    """Return "process 3 read 5 (lines 17 to 20)"."""
    on = "" if call.key is None else f" of {_text(call.key)}"
    what = {
        "read": f"read {_text(call.result)}{on}",
        "write": f"wrote {_text(call.argument)}{on}",
        "add": f"added {_text(call.argument)}{on}",
        "append": f"appended {_text(call.argument)}{on}",
        "acquire": f"acquired{on or ' the lock'}",
        "release": f"released{on or ' the lock'}",
    }.get(call.name)
    if call.name in ("cas", "refused"):
        expected, new = call.argument
        verb = "changed" if call.name == "cas" else "was refused to change"
        what = f"{verb} {_text(expected)} to {_text(new)}{on}"
    unknown = "" if call.complete_ns is not None else ", outcome unknown"
    lines = f"line {call.line}" if call.end_line is None else f"lines {call.line}, {call.end_line}"
    return f"process {call.process} {what or _text(call.argument)} ({lines}{unknown})"


def _text(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, tuple):
        value = list(value)
    text = str(value)
    return text if len(text) <= _TEXT_CHARACTERS_MAX else text[:_TEXT_CHARACTERS_MAX] + "..."


def _finding(history: Calls, model: str, objects: int, judged: _Judged) -> Finding:
    found = _coverage(history.calls, objects)
    found.notes += history.notes
    operations = plural(found.judged, "operation")
    if judged.bad:
        verdict = Verdict.VIOLATED
        behind = f"; {judged.left_out:,} not looked at" if judged.left_out else ""
        names = listed([_text(key) for key in judged.bad]) if objects > 1 else "it"
        summary = (
            f"{len(judged.bad):,} of {plural(objects, model)} did not behave like one copy "
            f"({names}) among {operations}{behind}"
        )
    elif judged.undecided:
        verdict = Verdict.UNKNOWN
        summary = (
            f"the search gave up on {plural(len(judged.undecided), model)} of {objects:,}, within "
            "its bounds of time and memory"
        )
    else:
        verdict = Verdict.VALID if found.judged else Verdict.UNKNOWN
        summary = f"{operations} on {plural(objects, model)} fit one order each"
    if not found.judged:
        found.notes.append("there was nothing to judge")
    return Finding(
        "linearizability",
        f"Linearizable as {model}",
        verdict,
        summary,
        found,
        list(judged.bad.values())[:WITNESSES_MAX],
        len(judged.bad),
        counts={"objects": objects, "undecided": len(judged.undecided)},
    )


def _coverage(calls: Iterable[Call], objects: int) -> Coverage:
    found = Coverage(keys=objects)
    outcomes: Tally[str] = Tally()
    names: Tally[str] = Tally()
    for call in calls:
        outcomes[call.outcome.value] += 1
        if call.outcome is not Outcome.FAIL or call.name == "refused":
            names[call.name] += 1
    found.by_outcome, found.by_kind = dict(outcomes), dict(names)
    found.judged = names.total()
    return found
