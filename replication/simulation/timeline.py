"""Virtual time: what is to happen, in order, in integer nanoseconds."""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Any, TypeAlias

Action: TypeAlias = Callable[[Any], None]


class Timeline:
    """A queue of actions, each due at one moment. Actions of one moment happen as they were added.

    That rule, and nothing that depends on memory addresses or hash order, decides between equals:
    two runs that add the same actions perform the same ones.
    """

    __slots__ = ("done", "heap", "now_ns", "number")

    def __init__(self) -> None:
        self.now_ns = 0
        self.done = 0  # actions so far
        # Links and nodes push to the heap themselves, as ``at`` does: a call costs as much as that.
        self.heap: list[tuple[int, int, Action, Any]] = []
        self.number = count(1).__next__

    def at(self, when_ns: int, action: Action, argument: Any = None) -> None:
        """Call ``action(argument)`` at ``when_ns``, which has not passed."""
        heappush(self.heap, (when_ns, self.number(), action, argument))

    def after(self, delay_ns: int, action: Action, argument: Any = None) -> None:
        """Call ``action(argument)`` ``delay_ns`` from now."""
        self.at(self.now_ns + delay_ns, action, argument)

    def run(self, until_ns: int) -> None:
        """Perform everything due up to ``until_ns``, and what that adds; then it is that time."""
        heap = self.heap
        done = 0
        while heap and heap[0][0] <= until_ns:
            when_ns, _, action, argument = heappop(heap)
            assert when_ns >= self.now_ns, "time does not go back"
            self.now_ns = when_ns
            done += 1
            action(argument)
        self.done += done
        self.now_ns = max(self.now_ns, until_ns)

    def next_ns(self) -> int | None:
        """Return when the next action is due, None when nothing will ever happen again."""
        return self.heap[0][0] if self.heap else None
