"""Events as Jepsen's family of tools writes them, paired into calls.

An event has a type (invoke, ok, fail, info), a function, a value and a process. A process has one
operation under way; ``info`` ends nothing for certain, and its process never comes back.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from replication.analysis.calls import Call, Calls
from replication.analysis.models import UNREAD
from replication.errors import ConfigError
from replication.exchange.edn import hashable
from replication.history import Outcome

PROBLEMS_MAX = 10
_TYPES = ("invoke", "ok", "fail", "info")
_NAMES = {
    "read": "read",
    "get": "read",
    "r": "read",
    "write": "write",
    "put": "write",
    "w": "write",
    "cas": "cas",
    "compare-and-set": "cas",
    "add": "add",
    "inc": "add",
    "increment": "add",
    "append": "append",
    "acquire": "acquire",
    "lock": "acquire",
    "release": "release",
    "unlock": "release",
    "txn": "txn",
}


@dataclass(slots=True)
class Event:
    """One line of a history."""

    line: int
    process: str
    type: str
    name: str
    value: Any
    key: Any = None  # where it stands beside the value


def event_of(record: Any, line: int) -> Event | str | None:
    """Return an event from a mapping, None if it is not a client's, or what is wrong with it."""
    if not isinstance(record, Mapping):
        return f"expected a map with :type, :f, :value and :process, found {record!r:.40}"
    process = record.get("process")
    if isinstance(process, str) and not process.lstrip("-").isdigit():
        return None  # the nemesis
    missing = [name for name in ("type", "f", "process") if record.get(name) is None]
    if missing:
        return f"an event without {' and '.join(missing)}, expected :type, :f, :value and :process"
    kind = str(record["type"])
    if kind not in _TYPES:
        return f"the type is {kind!r}, expected one of {', '.join(_TYPES)}"
    name = str(record["f"])
    if name not in _NAMES:
        return f"the operation is {name!r}, expected one of {', '.join(sorted(set(_NAMES)))}"
    return Event(
        line, str(process), kind, _NAMES[name], record.get("value"), hashable(record.get("key"))
    )


def calls_of(events: Iterable[Event], place: str, *, refusals: bool = False) -> Calls:
    """Pair invocations and completions; times are the positions of the events.

    ``refusals``: a failed compare-and-set had met another value, as in Porcupine's logs. Otherwise
    a failed operation never happened and nothing more is known, as in Jepsen's.
    """
    events = list(events)
    if _independent(events):
        for event in events:
            event.key, event.value = hashable(event.value[0]), event.value[1]
    found = Calls()
    problems: list[str] = []
    under_way: dict[str, Call] = {}
    for position, event in enumerate(events):
        if event.type == "invoke":
            if event.process in under_way:
                before = under_way[event.process].line
                problems.append(
                    f"{place}:{event.line}: process {event.process} invokes again, expected the "
                    f"end of what it invoked in line {before}"
                )
                continue
            problem, call = _invoked(event, position)
            problems += [f"{place}:{event.line}: {problem}"] if problem else []
            under_way[event.process] = call
            found.calls.append(call)
        elif event.process not in under_way:
            problems.append(
                f"{place}:{event.line}: process {event.process} completes {event.name}, expected "
                "an :invoke of it before"
            )
        else:
            _complete(under_way.pop(event.process), event, position, refusals)
        if len(problems) >= PROBLEMS_MAX:
            break
    if problems:
        raise ConfigError(problems)
    if not found.calls:
        raise ConfigError([f"{place}: no operation of any client, expected events of a history"])
    return found


def _independent(events: list[Event]) -> bool:
    """Return whether every value is a pair of key and value (jepsen.independent).

    Told by the reads: they are invoked with ``[key nil]``.
    """
    reads = [each for each in events if each.type == "invoke" and each.name == "read"]
    pairs = all(isinstance(each.value, list | tuple) and len(each.value) == 2 for each in events)
    return pairs and bool(reads) and all(each.value[1] is None for each in reads)


def _invoked(event: Event, position: int) -> tuple[str | None, Call]:
    argument = event.value
    problem = None
    if event.name == "cas" and not (isinstance(argument, list | tuple) and len(argument) == 2):
        problem = f"the value of cas is {argument!r:.40}, expected [from to]"
    elif event.name == "add" and argument is None:
        argument = 1
    elif event.name == "txn":
        problem, argument = _micro_operations(argument, known=False)
    call = Call(
        event.process,
        event.name,
        hashable(argument),
        UNREAD,
        event.key,
        position,
        None,
        Outcome.UNKNOWN,
        event.line,
    )
    return problem, call


def _micro_operations(value: Any, *, known: bool) -> tuple[str | None, tuple[Any, ...]]:
    """Return [[f register value]]; what a read returned is not known before it ended."""
    found = []
    for each in value if isinstance(value, list | tuple) else (value,):
        if not isinstance(each, list | tuple) or len(each) != 3:
            return f"a transaction holds {each!r:.40}, expected [f register value]", ()
        name, register, argument = each
        reads = name in ("r", "read", "get")
        found.append((name, hashable(register), UNREAD if reads and not known else argument))
    return None, tuple(found)


def _complete(call: Call, event: Event, position: int, refusals: bool) -> None:
    call.end_line = event.line
    if event.type == "info":
        return
    if event.type == "fail":
        call.complete_ns, call.outcome = position, Outcome.FAIL
        # A read that timed out says nothing; a compare-and-set that failed does.
        if refusals and call.name == "cas" and isinstance(event.value, list | tuple):
            call.name = "refused"
        return
    call.complete_ns, call.outcome = position, Outcome.OK
    if call.name == "read":
        call.result = hashable(event.value)
    elif call.name == "txn":
        _, argument = _micro_operations(event.value, known=True)
        call.argument = tuple(
            (name, register, tuple(value) if isinstance(value, list) else value)
            for name, register, value in argument or call.argument
        )
