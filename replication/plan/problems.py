"""Everything that is wrong with a scenario, gathered before anything is said."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import TypeAlias

from replication.errors import ConfigError

# Keys and positions from the top of the file; positions count from 0, people count from 1.
Path: TypeAlias = tuple[str | int, ...]

_SECTIONS = (
    *("title", "question", "run", "cluster", "leader", "leaderless", "workload", "fault"),
    *("expect", "simulation", "swarm"),
)


def path_text(path: Path) -> str:
    """Return a path as messages show it: "fault[2].at"."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part + 1}]"
        else:
            text += f".{part}" if text else part
    return text


class Problems:
    """The mistakes found so far, each at its place.

    A check that draws on several values asks first whether they are ``sound``: a value that is
    already complained of was replaced by a default, and would only make for a second complaint.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self._found: list[tuple[Path, str]] = []
        self._unsound: list[Path] = []

    def add(self, path: Path, words: str) -> None:
        """Complain of the value at ``path``."""
        self._found.append((path, f"{path_text(path)}: {words}" if path else words))
        self._unsound.append(path)

    def add_sentence(self, path: Path, sentence: str) -> None:
        """Complain in a sentence that names the place itself."""
        self._found.append((path, sentence))
        self._unsound.append(path)

    def excuse(self, path: Path) -> None:
        """Count the value at ``path`` as complained of: another complaint explains it."""
        self._unsound.append(path)

    def sound(self, *paths: Path) -> bool:
        """Return whether there is no complaint of these values, nor of a part or the whole."""
        return not any(
            path[: len(bad)] == bad or bad[: len(path)] == path
            for path in paths
            for bad in self._unsound
        )

    def lines(self) -> list[str]:
        """Return the complaints in the order of the sections of a scenario file."""
        ordered = sorted(self._found, key=lambda found: _position(found[0]))
        return [f"{self.source}: {line}" for line in dict.fromkeys(line for _, line in ordered)]

    def raise_if_any(self) -> None:
        """Raise a ConfigError with every complaint, if there is one."""
        if self._found:
            raise ConfigError(self.lines())


def _position(path: Path) -> tuple[int, int]:
    if not path or path[0] not in _SECTIONS:
        return len(_SECTIONS), 0
    index = path[1] if len(path) > 1 and isinstance(path[1], int) else 0
    return _SECTIONS.index(str(path[0])), index


def one_of(words: Iterable[object]) -> str:
    """Return alternatives as a sentence lists them: ``"a", "b" or "c"``."""
    quoted = [f'"{word}"' for word in words]
    if len(quoted) < 2:
        return "".join(quoted)
    return f"{', '.join(quoted[:-1])} or {quoted[-1]}"


def closest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that ``word`` was probably meant to be."""
    found = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def unknown_key(key: str, known: Sequence[str]) -> str:
    """Return the complaint of a key that a table does not have."""
    meant = closest(key, known)
    if meant is not None:
        return f'unknown key; did you mean "{meant}"?'
    return f"unknown key, expected {one_of(known)}" if known else "unknown key"


def hint_at(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean ...?" when ``word`` resembles something known, else nothing."""
    meant = closest(word, known)
    return f'; did you mean "{meant}"?' if meant else ""
