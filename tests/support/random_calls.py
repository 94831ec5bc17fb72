"""Histories of one compare-and-set register, as calls."""

from random import Random
from typing import Any

from replication.analysis.calls import Call
from replication.analysis.models import UNREAD
from replication.history import Outcome


def cas_history(rng: Random, operations: int, clients: int, unknown: float) -> list[Call]:
    """Return what one register would have recorded, with operations that stay open."""
    calls: list[Call] = []
    free = [0] * clients
    for number in range(operations):
        client = min(range(clients), key=lambda each: (free[each], rng.random()))
        start = free[client] + rng.randrange(1, 4)
        end = start + rng.randrange(1, 60)
        free[client] = end
        calls.append(Call(f"p{client}", "", None, UNREAD, None, start, end, Outcome.OK, number))
    held: Any = None
    for call in sorted(calls, key=lambda each: rng.uniform(each.invoke_ns, each.complete_ns or 0)):
        call.name = rng.choice(("read", "write", "cas"))
        indeterminate = rng.random() < unknown
        if call.name == "read":
            call.result = held
        elif call.name == "write":
            call.argument = rng.randrange(5)
        else:
            call.argument = (rng.randrange(5), rng.randrange(5))
            if call.argument[0] != held:
                call.name = "refused"
                indeterminate = False
        if call.name in ("write", "cas"):
            if indeterminate and rng.random() < 0.5:
                call.complete_ns, call.outcome = None, Outcome.UNKNOWN
                continue  # it never took effect
            held = call.argument if call.name == "write" else call.argument[1]
        if indeterminate:
            call.complete_ns, call.outcome = None, Outcome.UNKNOWN
    return calls
