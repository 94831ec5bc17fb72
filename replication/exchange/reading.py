"""A history file of any known format as calls."""

import json
import re
from collections.abc import Iterator
from typing import Any

from replication.analysis.calls import Calls
from replication.errors import ConfigError
from replication.exchange.edn import Reader
from replication.exchange.events import PROBLEMS_MAX, Event, calls_of, event_of

_JEPSEN_LOG = re.compile(
    r"^.*?\bjepsen\.util\s+-\s+(?P<process>\S+)\s+:(?P<type>\w+)\s+:(?P<f>[\w-]+)\s*(?P<value>.*)$"
)
EXPECTED = (
    "expected our JSON Lines, EDN of Jepsen or Knossos, a Jepsen log of Porcupine's, or JSON events"
)


def is_our_own(start: bytes) -> bool:
    """Return whether a file that begins with ``start`` is JSON Lines as ``write_history`` does."""
    head = start.lstrip()[:200]
    return head.startswith(b"{") and re.search(rb'"type":\s*"(header|operation)"', head) is not None


def parse_history(text: str, place: str) -> Calls:
    """Return the calls of a history that is not our own.

    Raises ConfigError with line, column and what was expected.
    """
    stripped = text.lstrip("\ufeff \t\r\n")
    if not stripped:
        raise ConfigError([f"{place}: the file is empty, {EXPECTED}"])
    first_line = stripped.partition("\n")[0]
    if "jepsen.util" in text and not stripped.startswith(("{", "[")):
        return calls_of(_log_events(text, place), place, refusals=True)
    if re.match(r'\{\s*"|\[\s*\{\s*"|\[\s*\]', stripped):
        return calls_of(_checked(_json_records(text, place), place), place)
    if stripped[0] in "{[(#;":
        return calls_of(_checked(_edn_records(text, place), place), place)
    raise ConfigError([f"{place}:1: column 1: found {first_line[:40]!r}, {EXPECTED}"])


def _checked(records: Iterator[tuple[int, Any]], place: str) -> Iterator[Event]:
    problems: list[str] = []
    for line, record in records:
        event = event_of(record, line)
        if isinstance(event, str):
            problems.append(f"{place}:{line}: {event}")
            if len(problems) >= PROBLEMS_MAX:
                break
        elif event is not None and not problems:
            yield event
    if problems:
        raise ConfigError(problems)


def _edn_records(text: str, place: str) -> Iterator[tuple[int, Any]]:
    """Yield the maps of a file: one after the other, or all in one vector."""
    for line, form in Reader(text, place).forms():
        if isinstance(form, tuple):
            yield from ((line, each) for each in form)
        else:
            yield line, form


def _json_records(text: str, place: str) -> Iterator[tuple[int, Any]]:
    """Yield the objects of an array, or of JSON Lines."""
    if text.lstrip().startswith("["):
        decoder = json.JSONDecoder()
        try:
            records = decoder.decode(text)
        except json.JSONDecodeError as error:
            raise _not_json(place, error.lineno, error) from None
        # Lines of an array are known only where it has one object to a line.
        lines = [n for n, each in enumerate(text.splitlines(), 1) if each.lstrip("[ ,").strip("] ")]
        exact = len(lines) == len(records)
        yield from (
            (lines[index] if exact else index + 1, each) for index, each in enumerate(records)
        )
        return
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except json.JSONDecodeError as error:
                raise _not_json(place, number, error) from None


def _not_json(place: str, line: int, error: json.JSONDecodeError) -> ConfigError:
    return ConfigError([f"{place}:{line}: column {error.colno}: {error.msg}, expected JSON"])


def _log_events(text: str, place: str) -> Iterator[Event]:
    """Yield the operations of a log; its other lines are no part of the history."""
    problems: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        match = _JEPSEN_LOG.match(line)
        if match is None:
            continue
        value = _log_value(match["value"], f"{place}:{number}", match.start("value"))
        record = {"process": match["process"], "type": match["type"], "f": match["f"]}
        event = event_of(record | {"value": value}, number)
        if isinstance(event, str):
            problems.append(f"{place}:{number}: {event}")
        elif event is not None:
            yield event
    if problems:
        raise ConfigError(problems[:PROBLEMS_MAX])


def _log_value(text: str, place: str, column: int) -> Any:
    if not text.strip():
        return None
    try:
        return next((form for _, form in Reader(text, place).forms()), None)
    except ConfigError as error:
        words = error.problems[0].split(": column ", 1)[-1].partition(": ")[2]
        raise ConfigError([f"{place}: column {column + 1}: {words}"]) from None
