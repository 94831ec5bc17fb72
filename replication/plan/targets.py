"""Target expressions: who a fault is for, by name or by role."""

from dataclasses import dataclass
from enum import StrEnum

ALL = "all"


class Role(StrEnum):
    """What a target expression names; the value is how a sentence calls it."""

    NAMED = "named"
    ALL = "all nodes"
    LEADER = "leader"
    FOLLOWER = "follower"
    RANDOM = "random node"
    MINORITY = "minority with the leader"
    FIRST_REPLICA = "first replica"
    COORDINATOR = "coordinator"


@dataclass(frozen=True, slots=True)
class Target:
    """A parsed expression. ``arguments`` are the names, or the key of which a replica is meant."""

    role: Role
    arguments: tuple[str, ...] = ()

    @property
    def key(self) -> str | None:
        """Return the key of which a replica is meant; None when none is."""
        of_key = self.role in (Role.FIRST_REPLICA, Role.COORDINATOR)
        return self.arguments[0] if of_key else None


_WORDS = {
    "leader": Role.LEADER,
    "follower": Role.FOLLOWER,
    "random": Role.RANDOM,
    ALL: Role.ALL,
    "minority-with-leader": Role.MINORITY,
}
_OF_KEY = {"first-replica-of": Role.FIRST_REPLICA, "coordinator-of": Role.COORDINATOR}
EXPRESSIONS = (*_WORDS, *(f"{word}:KEY" for word in _OF_KEY))  # besides the names themselves


def parse_target(text: str) -> Target:
    """Return what ``text`` names. Whatever is no expression is taken for names, "n1" or "n1,n2"."""
    if text in _WORDS:
        return Target(_WORDS[text])
    word, colon, key = text.partition(":")
    if colon and word in _OF_KEY:
        return Target(_OF_KEY[word], (key,))
    return Target(Role.NAMED, tuple(name.strip() for name in text.split(",")))
