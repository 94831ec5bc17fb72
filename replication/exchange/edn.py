"""EDN, as far as histories need it (github.com/edn-format/edn), with the place of every problem."""

import re
from collections.abc import Iterator
from typing import Any

from replication.errors import ConfigError

_TOKEN = re.compile(
    r"""(?P<space>[\s,]+|;[^\n]*)
    |(?P<open>\#\{|[\[({])|(?P<close>[\])}])
    |"(?P<text>(?:[^"\\]|\\.)*)"
    |(?P<discard>\#_)|(?P<tag>\#[A-Za-z][\w.\-/]*)
    |(?P<meta>\^)|\\(?P<char>\w+|.)
    |(?P<number>[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?[NM]?)(?=[\s,;()\[\]{}"]|\Z)
    |:(?P<keyword>[^\s,;()\[\]{}"]+)|(?P<symbol>[^\s,;()\[\]{}":\#\\^][^\s,;()\[\]{}"]*)
    """,
    re.VERBOSE,
)
_CLOSES = {"[": "]", "(": ")", "{": "}", "#{": "}"}
_NAMED = {"nil": None, "true": True, "false": False, "##Inf": float("inf")}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"'}
_DEPTH_MAX = 100


class Reader:
    """Reads the forms of a text one after the other. A keyword is its name, a tag is dropped."""

    def __init__(self, text: str, place: str) -> None:
        self._text = text
        self._place = place
        self._at = 0
        self._line, self._line_at = 1, 0  # the last place asked for

    def forms(self) -> Iterator[tuple[int, Any]]:
        """Yield (line, form) for each form at the top."""
        while (token := self._next()) is not None:
            line = self.line_of(token.start())
            yield line, self._form(token, 0)

    def line_of(self, at: int) -> int:
        """Return the line of a position, which must not lie before the last one asked for."""
        self._line += self._text.count("\n", self._line_at, at)
        self._line_at = at
        return self._line

    def problem(self, at: int, words: str) -> ConfigError:
        """Return what is wrong at a position."""
        line = self._text.count("\n", 0, at) + 1
        column = at - self._text.rfind("\n", 0, at)
        return ConfigError([f"{self._place}:{line}: column {column}: {words}"])

    def _next(self) -> re.Match[str] | None:
        """Return the next token that means something, None at the end."""
        while self._at < len(self._text):
            token = _TOKEN.match(self._text, self._at)
            if token is None:
                found = self._text[self._at]
                words = "the text never ends" if found == '"' else f"{found!r} begins no EDN value"
                raise self.problem(self._at, f"{words}, expected one")
            self._at = token.end()
            if token["space"]:
                continue
            if token["discard"] or token["meta"]:
                self._form(self._needed(token), 0)
                continue
            return token
        return None

    def _needed(self, after: re.Match[str]) -> re.Match[str]:
        token = self._next()
        if token is None:
            raise self.problem(
                after.start(), f"the file ends inside what begins here with {after[0]!r}"
            )
        return token

    def _form(self, token: re.Match[str], depth: int) -> Any:
        if depth > _DEPTH_MAX:
            raise self.problem(token.start(), f"nested deeper than {_DEPTH_MAX}")
        match token.lastgroup:
            case "open":
                return self._collection(token, depth)
            case "close":
                raise self.problem(token.start(), f"{token[0]!r} closes nothing, expected a value")
            case "text":
                return re.sub(r"\\(.)", lambda each: _ESCAPES.get(each[1], each[1]), token["text"])
            case "number":
                digits = token["number"].rstrip("NM")
                return int(digits) if re.fullmatch(r"[+-]?\d+", digits) else float(digits)
            case "keyword":
                return token["keyword"]
            case "tag":
                return self._form(self._needed(token), depth + 1)
            case "char":
                return token["char"]
        name = token["symbol"]
        return _NAMED.get(name, name)

    def _collection(self, opening: re.Match[str], depth: int) -> Any:
        closing = _CLOSES[opening[0]]
        items: list[Any] = []
        while True:
            token = self._needed(opening)
            if token.lastgroup == "close":
                if token[0] != closing:
                    raise self.problem(token.start(), f"found {token[0]!r}, expected {closing!r}")
                break
            items.append(self._form(token, depth + 1))
        if opening[0] != "{":
            return tuple(items) if opening[0] != "#{" else frozenset(map(hashable, items))
        if len(items) % 2:
            raise self.problem(opening.start(), "a map with a key but no value for it")
        return {hashable(key): value for key, value in zip(items[::2], items[1::2], strict=True)}


def hashable(value: Any) -> Any:
    """Return a form that can be in a set or a key of a map."""
    if isinstance(value, dict):
        return tuple(sorted(value.items(), key=str))
    if isinstance(value, list | tuple):
        return tuple(map(hashable, value))
    return value


def text_of(value: Any) -> str:
    """Return a plain value as EDN; texts are quoted, mappings get keywords."""
    match value:
        case None:
            return "nil"
        case bool():
            return "true" if value else "false"
        case str():
            escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
            return f'"{escaped}"'
        case list() | tuple():
            return f"[{' '.join(map(text_of, value))}]"
        case dict():
            return "{" + ", ".join(f":{name} {text_of(each)}" for name, each in value.items()) + "}"
    return str(value)
