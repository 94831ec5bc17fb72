"""Linearizability by search, for any object that a model describes (Wing and Gong 1993, Lowe 2017).

Depth first over the orders in which the operations may have taken effect. A pair of (operations
placed so far, state) from which the search has already come back in vain is not tried again. The
caller splits a history into objects first: it is linearizable if and only if its part on every
object is (locality, Herlihy and Wing 1990, §3.1; P-compositionality, Horn and Kroening 2015).

Four rules cut orders that cannot decide anything:

- what changes nothing and fits now (a read, a refusal) is placed now: any order that has it later
  is legal with it here too;
- what somebody still needs and nobody can set any more must not be replaced;
- an operation that may never have happened is tried after those that have;
- and, where a write replaces all that was before, only if somebody waits for what it would set.

The problem is NP-complete all the same. So the search is bounded in steps, in memory and by the
caller's own clock, and past any of them the answer is UNKNOWN.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from replication.analysis.findings import Verdict

STEPS_MAX = 1_500_000  # of one history: a few seconds
MEMORY_BYTES_MAX = 128 * 1024 * 1024  # of one object
_ENTRY_BYTES = 200  # a tuple of three in a set, besides the bits
_STATE_BYTES = 64  # of each distinct state, besides what it says of itself
_CHOICES_PER_COST = 8
_OPERATIONS_PER_COST = 10_000  # a step handles a number of as many bits as there are operations
_STEPS_PER_LOOK = 1_024  # at the caller's clock


@dataclass(frozen=True, slots=True)
class Action:
    """What an operation does to an object, or demands of it; its model knows the names."""

    name: str
    argument: Any = None
    result: Any = None


@dataclass(slots=True)
class Step:
    """One operation of one object."""

    invoke_ns: int
    complete_ns: int | None  # None: may take effect at any time after, or never
    action: Action


class Model(Protocol):
    """A sequential object. States are hashable; ``None`` is no state but an impossibility."""

    @property
    def initial(self) -> Hashable:
        """The state before anything happened."""

    def apply(self, state: Any, action: Action) -> Hashable | None:
        """Return the state after ``action``, None if that cannot happen in ``state``."""

    def changes(self, action: Action) -> bool:
        """Return whether ``action`` can change any state at all."""

    def needs(self, action: Action) -> Hashable | None:
        """Return what must have been set last for ``action`` to be possible; None: says nothing.

        Only where every change replaces the whole state (a register).
        """

    def gives(self, action: Action | None) -> tuple[Hashable, ...]:
        """Return the needs that hold after ``action``, or initially; empty: see ``needs``."""


@dataclass(slots=True)
class Budget:
    """What the search may still take, shared by the objects of a history."""

    steps: int = STEPS_MAX
    memory_bytes: int = MEMORY_BYTES_MAX
    expired: Callable[[], bool] = field(default=lambda: False)  # the caller's clock


@dataclass(slots=True)
class Order:
    """What the search found."""

    verdict: Verdict
    placed: list[int] = field(default_factory=list)  # the longest order that fits, as indexes


@dataclass(slots=True)
class _Moment:
    """An invocation or a completion, in a doubly linked list in order of time."""

    step: int
    is_call: bool
    before: "_Moment | None" = None
    after: "_Moment | None" = None
    match: "_Moment | None" = None  # the completion of a call, if it has one


@dataclass(slots=True)
class _Place:
    """A place in the order: who was put there, and who may come next."""

    step: int
    state: Any  # after it
    given: tuple[Hashable, ...]  # the needs that hold in the state
    choices: list[int]  # steps that may follow, the most promising last
    before: "_Place | None"
    count: int


def search(steps: Sequence[Step], model: Model, budget: Budget) -> Order:
    """Return whether some legal order respects real time, and the longest one found.

    ``steps`` are numbered in order of invocation. Takes from ``budget``.
    """
    return _Search(steps, model, budget).run()


class _Search:
    def __init__(self, steps: Sequence[Step], model: Model, budget: Budget) -> None:
        self._steps = steps
        self._model = model
        self._budget = budget
        self._actions = [step.action for step in steps]
        self._changes = [model.changes(action) for action in self._actions]
        self._needs = [model.needs(action) for action in self._actions]
        self._gives = [model.gives(action) if model.changes(action) else () for action in
                       self._actions]  # fmt: skip
        # Where changes replace everything, what may never have happened must be wanted by somebody.
        self._replaces = bool(model.gives(None))
        self._head, self._calls = _moments(steps)
        self._optional = [index for index, step in enumerate(steps) if step.complete_ns is None]
        self._required = len(steps) - len(self._optional)
        self._needed = Counter(
            need
            for need, step in zip(self._needs, steps, strict=True)
            if need is not None and step.complete_ns is not None
        )
        self._supply = Counter(need for given in self._gives for need in given)
        self._bits = 0  # one for each placed step
        self._cost = 1 + len(steps) // _OPERATIONS_PER_COST

    def run(self) -> Order:
        tried: set[tuple[int, int, Hashable]] = set()
        states: set[Hashable] = set()
        tried_bytes = looked_at = 0
        initial = self._model.initial
        given = self._model.gives(None)
        place = longest = _Place(-1, initial, given, self._choices(initial, given), None, 0)
        while self._required:
            looked_at += 1
            late = looked_at % _STEPS_PER_LOOK == 0 and self._budget.expired()
            if late or self._budget.steps <= 0 or tried_bytes > self._budget.memory_bytes:
                return Order(Verdict.UNKNOWN, _order(longest))
            self._budget.steps -= self._cost
            if not place.choices:
                if place.before is None:
                    return Order(Verdict.VIOLATED, _order(longest))
                self._take_back(place.step)
                place = place.before
                continue
            index = place.choices.pop()
            state = self._model.apply(place.state, self._actions[index])
            assert state is not None, "a choice is possible"
            entry = _fingerprint(self._bits | (1 << index), state)
            if entry in tried:
                continue
            tried.add(entry)
            tried_bytes += _ENTRY_BYTES + entry[1].bit_length() // 8
            if state not in states:
                states.add(state)
                tried_bytes += _STATE_BYTES + 8 * len(state if isinstance(state, tuple) else ())
            self._put(index)
            given = self._gives[index] if self._changes[index] else place.given
            place = _Place(index, state, given, self._choices(state, given), place, place.count + 1)
            if place.count > longest.count:
                longest = place
        return Order(Verdict.VALID, _order(place))

    def _put(self, index: int) -> None:
        self._bits |= 1 << index
        call = self._calls[index]
        if call is not None:
            self._required -= 1
            self._needed[self._needs[index]] -= 1
            _lift(call)
        for need in self._gives[index]:
            self._supply[need] -= 1

    def _take_back(self, index: int) -> None:
        self._bits &= ~(1 << index)
        call = self._calls[index]
        if call is not None:
            self._required += 1
            self._needed[self._needs[index]] += 1
            _unlift(call)
        for need in self._gives[index]:
            self._supply[need] += 1

    def _choices(self, state: Any, given: tuple[Hashable, ...]) -> list[int]:
        """Return what may come next in ``state``: nothing that has ended before another began."""
        apply, actions, changes = self._model.apply, self._actions, self._changes
        waiting: list[int] = []
        moment = self._head.after
        while moment is not None and moment.is_call:
            index = moment.step
            if not changes[index] and apply(state, actions[index]) is not None:
                return [index]
            waiting.append(index)
            moment = moment.after
        self._budget.steps -= len(waiting) // _CHOICES_PER_COST
        if moment is None:
            return []
        last = self._last_chances(given)
        changing = [
            index
            for index in waiting
            if changes[index]
            and (not last or self._keeps(index, last))
            and apply(state, actions[index]) is not None
        ]
        latest_ns = self._steps[moment.step].complete_ns
        assert latest_ns is not None, "it is a completion"
        optional = self._open(latest_ns)
        if last:
            return changing[::-1]
        if self._replaces:
            optional = self._helpful(state, waiting, optional)
        return [index for index in optional if apply(state, actions[index]) is not None] + changing[
            ::-1
        ]

    def _last_chances(self, given: tuple[Hashable, ...]) -> list[Hashable]:
        """Return what holds now, is still needed, and can never be set again."""
        return [need for need in given if self._needed[need] > 0 and self._supply[need] == 0]

    def _keeps(self, index: int, last: list[Hashable]) -> bool:
        """Return whether ``index`` is itself the one that needs what must not be replaced."""
        need = self._needs[index]
        return all(need == each and self._needed[each] == 1 for each in last)

    def _open(self, latest_ns: int) -> list[int]:
        """Return steps that may never have happened, and may have by ``latest_ns``."""
        return [
            index
            for index in self._optional
            if self._steps[index].invoke_ns <= latest_ns
            and not self._bits >> index & 1
            and self._changes[index]
        ]

    def _helpful(self, state: Any, waiting: list[int], optional: list[int]) -> list[int]:
        """Return those of ``optional`` that would give others what they wait for."""
        apply = self._model.apply
        wanted = {self._needs[index] for index in (*waiting, *optional)}
        wanted.discard(None)
        refused = [
            index for index in waiting if not self._changes[index] and self._needs[index] is None
        ]
        found = []
        for index in optional:
            helps = any(need in wanted for need in self._gives[index])
            if not helps and refused:
                after = apply(state, self._actions[index])
                helps = after is not None and any(
                    apply(after, self._actions[each]) is not None for each in refused
                )
            if helps:
                found.append(index)
        return found


def _order(last: _Place | None) -> list[int]:
    found: list[int] = []
    while last is not None and last.before is not None:
        found.append(last.step)
        last = last.before
    return found[::-1]


def _fingerprint(bits: int, state: Hashable) -> tuple[int, int, Hashable]:
    """Return the placed operations and the state; the long run of ones at the low end as a number.

    Operations are numbered by invocation, so all but the concurrent ones are in that run: an entry
    stays small in a long history.
    """
    run = (~bits & (bits + 1)).bit_length() - 1
    return run, bits >> run, state


def _moments(steps: Sequence[Step]) -> tuple[_Moment, list[_Moment | None]]:
    """Return the head of the list, and for each step its call; None if it may never have happened.

    In the same nanosecond calls come first: intervals are closed.
    """
    timed: list[tuple[int, int, _Moment]] = []
    calls: list[_Moment | None] = []
    for index, step in enumerate(steps):
        if step.complete_ns is None:
            calls.append(None)
            continue
        call = _Moment(index, is_call=True, match=_Moment(index, is_call=False))
        calls.append(call)
        assert call.match is not None, "it was just made"
        timed.append((step.invoke_ns, 0, call))
        timed.append((step.complete_ns, 1, call.match))
    timed.sort(key=lambda each: each[:2])
    head = last = _Moment(-1, is_call=False)
    for _, _, moment in timed:
        last.after, moment.before = moment, last
        last = moment
    return head, calls


def _lift(call: _Moment) -> None:
    """Take a call and its completion out of the list."""
    for moment in (call, call.match):
        if moment is not None:
            assert moment.before is not None, "the head stays"
            moment.before.after = moment.after
            if moment.after is not None:
                moment.after.before = moment.before


def _unlift(call: _Moment) -> None:
    """Put both back, in the opposite order."""
    for moment in (call.match, call):
        if moment is not None:
            assert moment.before is not None, "the head stays"
            moment.before.after = moment
            if moment.after is not None:
                moment.after.before = moment


@dataclass(slots=True)
class Turn:
    """Where a history stops being explicable."""

    steps: list[int]  # that completed then; every order of what was before fails on one of them
    at_ns: int
    before_ns: int | None  # the completion before it; up to then there is an order
    order: list[int] | None  # that order, as indexes; None if it was not found within the bounds


def first_inexplicable(steps: Sequence[Step], model: Model, budget: Budget) -> Turn:
    """Return the first completion that no order explains, of a history that is not linearizable.

    Found by halving: a history that is linearizable is so up to any moment. Bounded; if the bound
    is met, the moment told is later than the first one, and still one that no order explains.
    """
    ends = sorted({step.complete_ns for step in steps if step.complete_ns is not None})
    low, high = -1, len(ends) - 1  # ends[high] is known to be inexplicable
    while high - low > 1:
        middle = (low + high) // 2
        _, upto = _until(steps, model, ends[middle])
        if search(upto, model, budget).verdict is Verdict.VIOLATED:
            high = middle
        else:
            low = middle
    culprits = [index for index, step in enumerate(steps) if step.complete_ns == ends[high]]
    if low < 0:
        return Turn(culprits, ends[high], None, None)
    indexes, upto = _until(steps, model, ends[low])
    found = search(upto, model, budget)
    order = [indexes[each] for each in found.placed] if found.verdict is Verdict.VALID else None
    return Turn(culprits, ends[high], ends[low], order)


def _until(steps: Sequence[Step], model: Model, at_ns: int) -> tuple[list[int], list[Step]]:
    """Return the history up to a moment: what had not ended by then may or may not have happened.

    Only what changes the object can matter without having ended.
    """
    kept = [
        (index, step)
        for index, step in enumerate(steps)
        if step.invoke_ns <= at_ns and (_ended(step, at_ns) or model.changes(step.action))
    ]
    upto = [step if _ended(step, at_ns) else replace(step, complete_ns=None) for _, step in kept]
    return [index for index, _ in kept], upto


def _ended(step: Step, at_ns: int) -> bool:
    return step.complete_ns is not None and step.complete_ns <= at_ns
