"""Target expressions: who a fault is for, by name or by role."""

from dataclasses import dataclass
from enum import StrEnum

ALL = "all"


class Role(StrEnum):
    """What a target expression names; the value is how a sentence calls it."""

    NODE = "node"
    LEADER = "leader"
    FOLLOWER = "follower"
    RANDOM = "random node"
    FIRST_REPLICA = "first replica"
    COORDINATOR = "coordinator"


@dataclass(frozen=True, slots=True)
class Target:
    """A parsed expression. ``argument`` is the node, or the key of which a replica is meant."""

    role: Role
    argument: str = ""


_WORDS = {"leader": Role.LEADER, "follower": Role.FOLLOWER, "random": Role.RANDOM}
_OF_KEY = {"first-replica-of": Role.FIRST_REPLICA, "coordinator-of": Role.COORDINATOR}
EXPRESSIONS = (*_WORDS, *(f"{word}:KEY" for word in _OF_KEY))  # besides the nodes themselves


def parse_target(text: str) -> Target:
    """Return what ``text`` names. Whatever is no expression is taken for the name of a node."""
    if text in _WORDS:
        return Target(_WORDS[text])
    word, colon, key = text.partition(":")
    if colon and word in _OF_KEY:
        return Target(_OF_KEY[word], key)
    return Target(Role.NODE, text)
