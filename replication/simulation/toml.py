"""Writing a scenario's tables as TOML that people read, and ``tomllib`` reads back as they were."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
INLINE_CHARACTERS_MAX = 80


def to_toml(tables: Mapping[str, Any], comment: str = "") -> str:
    """Return the text of a file; ``comment`` goes on top, each line behind a #.

    Values are text, numbers, booleans, lists of these, and tables. A table without tables inside
    that fits on a line is written inline.
    """
    lines = [f"# {line}".rstrip() for line in comment.splitlines()]
    lines += [""] if lines else []
    lines += _table((), tables)
    return "\n".join(lines).strip("\n") + "\n"


def _table(path: tuple[str, ...], table: Mapping[str, Any]) -> Iterator[str]:
    values = {key: value for key, value in table.items() if not _is_section(path, value)}
    sections = {key: value for key, value in table.items() if _is_section(path, value)}
    for key, value in values.items():
        yield f"{_key(key)} = {_value(value)}"
    for key, value in sections.items():
        inner = (*path, key)
        name = ".".join(_key(part) for part in inner)
        if isinstance(value, list):
            for each in value:
                yield f"\n[[{name}]]"
                yield from _table(inner, each)
        else:
            body = list(_table(inner, value))
            if not body or not body[0].startswith("\n["):
                yield f"\n[{name}]"
            yield from body


def _is_section(path: tuple[str, ...], value: Any) -> bool:
    if isinstance(value, Mapping):
        if not path:
            return True
        nested = any(isinstance(each, Mapping | list) and each for each in value.values())
        return nested or len(_value(value)) > INLINE_CHARACTERS_MAX
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _text(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list):
        return f"[{', '.join(_value(each) for each in value)}]"
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(key)} = {_value(each)}" for key, each in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    assert isinstance(value, int | float), f"a scenario holds no {type(value).__name__}"
    return repr(value)


def _text(text: str) -> str:
    # JSON's escapes are TOML's, but for one control character that JSON leaves as it is.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
