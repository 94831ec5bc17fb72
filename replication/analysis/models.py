"""Sequential objects for the search: what each operation does to a state, or demands of it.

A state is a tuple, so that it can be hashed and is never None. A read whose result is not known
demands nothing. Values are compared as they stand: 1 is not "1".
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from replication.analysis.search import Action, Model

State = tuple[Any, ...]
UNREAD = object()  # the result of a read that returned nothing to judge


@dataclass(frozen=True, slots=True)
class Register:
    """One value: read, write, cas from one value to another, and cas that was refused."""

    start: Any = None

    @property
    def initial(self) -> State:
        """See Model."""
        return (self.start,)

    def apply(self, state: State, action: Action) -> State | None:
        """See Model."""
        match action.name:
            case "write":
                return (action.argument,)
            case "read":
                return state if action.result is UNREAD or state[0] == action.result else None
            case "cas":
                expected, new = action.argument
                return (new,) if state[0] == expected else None
            case _:  # refused
                return state if state[0] != action.argument[0] else None

    def changes(self, action: Action) -> bool:
        """See Model."""
        return action.name in ("write", "cas")

    def needs(self, action: Action) -> Hashable | None:
        """See Model: the value in a tuple, since None is a value."""
        if action.name == "read" and action.result is not UNREAD:
            return (action.result,)
        return (action.argument[0],) if action.name == "cas" else None

    def gives(self, action: Action | None) -> tuple[Hashable, ...]:
        """See Model."""
        if action is None:
            return ((self.start,),)
        return ((action.argument if action.name == "write" else action.argument[1],),)


class _Accumulates:
    """What an operation sets is not all that there is: nothing is known to be needed."""

    __slots__ = ()

    def needs(self, action: Action) -> Hashable | None:
        """See Model."""
        return None

    def gives(self, action: Action | None) -> tuple[Hashable, ...]:
        """See Model."""
        return ()


@dataclass(frozen=True, slots=True)
class Counter(_Accumulates):
    """A number: add, which may be negative, and read."""

    start: Any = 0

    @property
    def initial(self) -> State:
        """See Model."""
        return (self.start or 0,)

    def apply(self, state: State, action: Action) -> State | None:
        """See Model."""
        if action.name == "add":
            return (state[0] + action.argument,)
        return state if action.result is UNREAD or state[0] == action.result else None

    def changes(self, action: Action) -> bool:
        """See Model."""
        return action.name == "add"


@dataclass(frozen=True, slots=True)
class Append(_Accumulates):
    """A list, or a text: append to its end, write it as a whole, read all of it.

    A state is the parts in order; a text is read as its parts joined.
    """

    start: Any = ()

    @property
    def initial(self) -> State:
        """See Model."""
        return (self.start,) if isinstance(self.start, str) else tuple(self.start or ())

    def apply(self, state: State, action: Action) -> State | None:
        """See Model."""
        if action.name == "append":
            return (*state, action.argument)
        if action.name == "write":
            return (action.argument,)
        result = action.result
        if result is UNREAD:
            return state
        if isinstance(result, str):
            return state if "".join(map(str, state)) == result else None
        return state if state == tuple(result or ()) else None

    def changes(self, action: Action) -> bool:
        """See Model."""
        return action.name in ("append", "write")


@dataclass(frozen=True, slots=True)
class Set(_Accumulates):
    """Elements: add one, read all. A state is the elements in order of their texts."""

    start: Any = ()

    @property
    def initial(self) -> State:
        """See Model."""
        return _ordered(self.start or ())

    def apply(self, state: State, action: Action) -> State | None:
        """See Model."""
        if action.name == "add":
            return state if action.argument in state else _ordered((*state, action.argument))
        return state if action.result is UNREAD or state == _ordered(action.result or ()) else None

    def changes(self, action: Action) -> bool:
        """See Model."""
        return action.name == "add"


def _ordered(elements: Any) -> State:
    return tuple(sorted(set(elements), key=lambda each: (str(type(each)), str(each))))


@dataclass(frozen=True, slots=True)
class Mutex(_Accumulates):
    """A lock: acquire while it is free, release while it is held."""

    start: Any = False

    @property
    def initial(self) -> State:
        """See Model."""
        return (bool(self.start),)

    def apply(self, state: State, action: Action) -> State | None:
        """See Model."""
        wanted = action.name == "acquire"
        return (wanted,) if state[0] is not wanted else None

    def changes(self, action: Action) -> bool:
        """See Model."""
        return True


@dataclass(frozen=True, slots=True)
class MultiRegister(_Accumulates):
    """Several registers that one operation reads and writes at once: ``[[f, register, value]]``.

    With append a register is a list. Judged by real time too: strictly serializable. A state is
    the pairs of register and value in order.
    """

    start: Any = ()

    @property
    def initial(self) -> State:
        """See Model."""
        pairs = self.start.items() if isinstance(self.start, Mapping) else self.start or ()
        return _pairs(dict(pairs))

    def apply(self, state: State, action: Action) -> State | None:
        """See Model."""
        held = dict(state)
        for name, register, value in action.argument:
            if name in ("w", "write"):
                held[register] = value
            elif name == "append":
                held[register] = (*(held.get(register) or ()), value)
            elif value is not UNREAD and _or_none(held.get(register)) != _or_none(value):
                return None
        return _pairs(held)

    def changes(self, action: Action) -> bool:
        """See Model."""
        return any(name in ("w", "write", "append") for name, _, _ in action.argument)


def _or_none(value: Any) -> Any:
    """Return the same for a list that is empty and one that was never begun."""
    return None if value == () else value


def _pairs(held: dict[Any, Any]) -> State:
    return tuple(sorted(held.items(), key=lambda each: str(each[0])))


@dataclass(frozen=True, slots=True)
class Kind:
    """A model as the command line knows it."""

    make: Callable[[Any], Model]  # from the initial value, None if none was given
    operations: tuple[str, ...]
    words: str


MODELS: dict[str, Kind] = {
    "register": Kind(Register, ("read", "write"), "one value: read, write"),
    "cas-register": Kind(
        Register, ("read", "write", "cas"), "one value: read, write, compare-and-set"
    ),
    "counter": Kind(
        lambda start: Counter(start or 0), ("read", "add"), "a number: add and read, exactly"
    ),
    "append": Kind(
        lambda start: Append(start or ()),
        ("read", "append", "write"),
        "a list or text: append to its end, read all of it",
    ),
    "set": Kind(lambda start: Set(start or ()), ("read", "add"), "elements: add one, read all"),
    "mutex": Kind(Mutex, ("acquire", "release"), "a lock: acquire, release"),
    "multi-register": Kind(
        lambda start: MultiRegister(start or ()),
        ("txn", "read", "write"),
        "several registers that one operation reads and writes at once",
    ),
}
