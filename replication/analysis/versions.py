"""A key whose states are its writes: the model of the search for histories of our own.

Every write has an id of its own, so a read says which write it saw, while compare-and-set asks for
a value, which several writes may have set.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from replication.analysis.registers import refused, version_read
from replication.analysis.search import Action, Step
from replication.analysis.view import View
from replication.history import Operation, OperationKind, Outcome

INITIAL = -1  # the state of a key that was never written


@dataclass(frozen=True, slots=True)
class Versions:
    """The register of one key. A state is the number of the write that made it, or INITIAL.

    Actions: ``write`` (argument: the number), ``read`` (result: the number), ``cas`` (argument:
    the expected value and the number), ``refused`` (argument: the expected value and nothing).
    """

    values: Sequence[str | None]  # by number; None after a delete

    @property
    def initial(self) -> int:
        """See Model."""
        return INITIAL

    def apply(self, state: int, action: Action) -> int | None:
        """See Model."""
        if action.name == "write":
            number: int = action.argument
            return number
        if action.name == "read":
            return state if state == action.result else None
        expected, number = action.argument
        holds = self._value(state) == expected
        if action.name == "cas":
            return number if holds else None
        return None if holds else state

    def changes(self, action: Action) -> bool:
        """See Model."""
        return action.name in ("write", "cas")

    def needs(self, action: Action) -> Hashable | None:
        """See Model: a number where a write is asked for, a tuple where a value is."""
        if action.name == "read":
            number: int = action.result
            return number
        return (action.argument[0],) if action.name == "cas" else None

    def gives(self, action: Action | None) -> tuple[Hashable, ...]:
        """See Model."""
        if action is None:
            number = INITIAL
        else:
            number = action.argument if action.name == "write" else action.argument[1]
        return (number, (self._value(number),))

    def _value(self, state: int) -> str | None:
        return None if state == INITIAL else self.values[state]


def steps_of(view: View, ordered: Sequence[Operation]) -> tuple[list[Step], Versions]:
    """Return the operations of one key, in order of invocation, as steps, and their model.

    A write with an unknown outcome that was read has taken effect by the end of its first read.
    """
    numbers: dict[str | None, int] = {None: INITIAL}
    values: list[str | None] = []
    for each in ordered:
        if each.kind is not OperationKind.GET:
            numbers[each.write_id] = len(values)
            values.append(each.value)
    steps = []
    for each in ordered:
        end_ns = each.complete_ns
        if each.kind is OperationKind.GET:
            action = Action("read", result=numbers[version_read(each)])
        elif refused(each):
            action = Action("refused", (each.expected, None))
        else:
            if each.outcome is Outcome.UNKNOWN and each.write_id is not None:
                end_ns = view.first_seen_ns.get(each.write_id)
            number = numbers[each.write_id]
            if each.kind is OperationKind.COMPARE_AND_SET:
                action = Action("cas", (each.expected, number))
            else:
                action = Action("write", number)
        steps.append(Step(each.invoke_ns, end_ns, action))
    return steps, Versions(values)
