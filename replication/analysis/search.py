"""Linearizability by search, for keys with compare-and-set (Wing and Gong 1993, Lowe 2017).

Depth first over the orders in which the operations of one key may have taken effect. A pair of
(operations placed so far, state) from which the search has already come back in vain is not tried
again. Four rules cut orders that cannot decide anything:

- what changes nothing and fits now (a read, a refusal) is placed now: any order that has it later
  is legal with it here too;
- a state that is still to be read must not be replaced, since a write id comes only once;
- an operation that may never have happened is tried after those that have, and only if somebody
  waits for the value that it would set;
- one key at a time: a history is linearizable if and only if its part on every key is (locality,
  Herlihy and Wing 1990, §3.1).

The problem is NP-complete all the same. So the search is bounded in steps and in memory, and past
either bound the answer is UNKNOWN.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from replication.analysis.findings import Verdict

STEPS_MAX = 1_500_000  # of one history: a few seconds
MEMORY_BYTES_MAX = 128 * 1024 * 1024  # of one key
_ENTRY_BYTES = 200  # a tuple of three in a set, besides the bits
_CHOICES_PER_COST = 8
_OPERATIONS_PER_COST = 10_000  # a step handles a number of as many bits as there are operations

INITIAL = -1  # the state of a key that was never written


class Effect(Enum):
    """What an operation does to the register, or demands of it."""

    WRITE = auto()  # sets the state, whatever it was
    READ = auto()  # demands the state
    SWAP = auto()  # demands a value and sets the state
    REFUSAL = auto()  # demands that the value is another than the expected one


@dataclass(slots=True)
class Step:
    """One operation of a key. A state names the write that made it, or is INITIAL."""

    invoke_ns: int
    complete_ns: int | None  # None: may take effect at any time after, or never
    effect: Effect
    state: int  # that it sets, or that it read
    expected: str | None = None  # SWAP and REFUSAL; None means missing


@dataclass(slots=True)
class Budget:
    """Steps that the search may still take, shared by the keys of a history."""

    steps: int = STEPS_MAX
    memory_bytes: int = MEMORY_BYTES_MAX


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
    state: int  # after it
    choices: list[int]  # steps that may follow, the most promising last
    before: "_Place | None"
    count: int


def search(steps: Sequence[Step], values: Sequence[str | None], budget: Budget) -> Order:
    """Return whether some legal order respects real time, and the longest one found.

    ``steps`` are numbered in order of invocation. ``values[state]`` is the value in a state, None
    after a delete. Takes from ``budget``.
    """
    return _Search(steps, values, budget).run()


class _Search:
    def __init__(self, steps: Sequence[Step], values: Sequence[str | None], budget: Budget) -> None:
        self._steps = steps
        self._values = values
        self._budget = budget
        self._head, self._calls = _moments(steps)
        self._optional = [index for index, step in enumerate(steps) if step.complete_ns is None]
        self._required = len(steps) - len(self._optional)
        self._reads_left = Counter(step.state for step in steps if step.effect is Effect.READ)
        self._bits = 0  # one for each placed step
        self._cost = 1 + len(steps) // _OPERATIONS_PER_COST

    def run(self) -> Order:
        tried: set[tuple[int, int, int]] = set()
        tried_bytes = 0
        place = longest = _Place(-1, INITIAL, self._choices(INITIAL), None, 0)
        while self._required:
            if self._budget.steps <= 0 or tried_bytes > self._budget.memory_bytes:
                return Order(Verdict.UNKNOWN, _order(longest))
            self._budget.steps -= self._cost
            if not place.choices:
                if place.before is None:
                    return Order(Verdict.VIOLATED, _order(longest))
                self._take_back(place.step)
                place = place.before
                continue
            index = place.choices.pop()
            state = self._after(index, place.state)
            assert state is not None, "a choice is possible"
            entry = _fingerprint(self._bits | (1 << index), state)
            if entry in tried:
                continue
            tried.add(entry)
            tried_bytes += _ENTRY_BYTES + entry[1].bit_length() // 8
            self._put(index)
            place = _Place(index, state, self._choices(state), place, place.count + 1)
            if place.count > longest.count:
                longest = place
        return Order(Verdict.VALID, _order(place))

    def _put(self, index: int) -> None:
        self._bits |= 1 << index
        call = self._calls[index]
        if call is not None:
            self._required -= 1
            _lift(call)
        if self._steps[index].effect is Effect.READ:
            self._reads_left[self._steps[index].state] -= 1

    def _take_back(self, index: int) -> None:
        self._bits &= ~(1 << index)
        call = self._calls[index]
        if call is not None:
            self._required += 1
            _unlift(call)
        if self._steps[index].effect is Effect.READ:
            self._reads_left[self._steps[index].state] += 1

    def _choices(self, state: int) -> list[int]:
        """Return what may come next in ``state``: nothing that has ended before another began."""
        waiting: list[int] = []
        moment = self._head.after
        while moment is not None and moment.is_call:
            index = moment.step
            changes = self._steps[index].effect in (Effect.WRITE, Effect.SWAP)
            if not changes and self._after(index, state) is not None:
                return [index]
            waiting.append(index)
            moment = moment.after
        self._budget.steps -= len(waiting) // _CHOICES_PER_COST
        if moment is None or self._reads_left[state]:
            return []
        changing = [
            index
            for index in waiting
            if self._steps[index].effect in (Effect.WRITE, Effect.SWAP)
            and self._after(index, state) is not None
        ]
        latest_ns = self._steps[moment.step].complete_ns
        assert latest_ns is not None, "it is a completion"
        return self._helpful(state, latest_ns, waiting) + changing[::-1]

    def _helpful(self, state: int, latest_ns: int, waiting: list[int]) -> list[int]:
        """Return steps that may never have happened, but would give others what they wait for."""
        open_steps = [
            index
            for index in self._optional
            if self._steps[index].invoke_ns <= latest_ns and not self._bits >> index & 1
        ]
        read: set[int] = set()
        wanted: set[str | None] = set()
        refused: set[str | None] = set()
        for index in (*waiting, *open_steps):
            step = self._steps[index]
            if step.effect is Effect.READ:
                read.add(step.state)
            elif step.effect is Effect.SWAP:
                wanted.add(step.expected)
            elif step.effect is Effect.REFUSAL:
                refused.add(step.expected)
        found = []
        for index in open_steps:
            sets = self._steps[index].state
            value = self._values[sets]
            # Two refusals with different expectations are never both of one value.
            explains = len(refused) > 1 or (bool(refused) and value not in refused)
            helps = sets in read or value in wanted or explains
            if helps and self._after(index, state) is not None:
                found.append(index)
        return found

    def _after(self, index: int, state: int) -> int | None:
        return _apply(self._steps[index], state, self._values)


def _order(last: _Place | None) -> list[int]:
    found: list[int] = []
    while last is not None and last.before is not None:
        found.append(last.step)
        last = last.before
    return found[::-1]


def _apply(step: Step, state: int, values: Sequence[str | None]) -> int | None:
    """Return the state after ``step``, None if it is impossible in ``state``."""
    match step.effect:
        case Effect.WRITE:
            return step.state
        case Effect.READ:
            return state if state == step.state else None
        case Effect.SWAP | Effect.REFUSAL:
            holds = None if state == INITIAL else values[state]
            if step.effect is Effect.SWAP:
                return step.state if holds == step.expected else None
            return state if holds != step.expected else None


def _fingerprint(bits: int, state: int) -> tuple[int, int, int]:
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
