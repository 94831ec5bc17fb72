"""What each side promises, so that a broken promise fails a run and a known weakness only informs.

Decided from what the history says of its backend and settings. ``History.promise`` is the same in
one sentence for people.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from replication.analysis.view import View
from replication.history import Operation

_WEAK_LEVELS = ("local", "one", "any")


def setting(view: View, name: str) -> str | None:
    """Return a setting of the backend as text, wherever it is nested; None when there is none."""
    return view.once(_settings).get(name)


def _settings(view: View) -> dict[str, str]:
    return {name: str(value) for name, value in _flat(view.history.settings)}


def _flat(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value)
        else:
            yield key, value


def reads_weaker(view: View, read: Operation) -> bool:
    """Return whether ``read`` asked for less than a linearizable answer, or got less by default."""
    level = read.consistency or setting(view, "default_read")
    return level in _WEAK_LEVELS


def promises_linearizability(view: View) -> bool:
    """One order per key, which LINEARIZABLE and LEASE reads see. Weaker ones are judged apart.

    A register that may lose what it acknowledged shows it to one reader and not to the next.
    """
    return view.history.single_register and promises_durability(view)


def promises_durability(view: View) -> bool:
    """Both sides: acknowledged by a majority, or by W replicas, survives while disks are intact.

    Not where the backend says that its settings give that up (asynchronous replication), nor where
    a write that was sent again may have taken effect again, in the place of later ones.
    """
    return view.history.lossless and not view.once(_sent_again_without_sessions)


def _sent_again_without_sessions(view: View) -> bool:
    """Whether a client sent a write more than once, and the cluster cannot tell (``sessions``)."""
    writes = (each for each in view.history.operations if each.kind.is_write)
    return setting(view, "sessions") == "False" and any(each.attempts > 1 for each in writes)


def keeps_siblings(view: View) -> bool:
    """Return whether concurrent writes are kept, rather than decided by a clock.

    By the setting ``versions``; a backend without it is judged by what it returned: dots without
    timestamps.
    """
    versions = setting(view, "versions")
    if versions is None:
        return view.once(_never_decided_by_a_clock)
    return versions in ("dvv", "version_vector")


def _never_decided_by_a_clock(view: View) -> bool:
    seen = (version for operation in view.history.operations for version in operation.seen)
    return all(version.timestamp_ns is None for version in seen)


def promises_no_vanished_writes(view: View) -> bool:
    """One order per key means that a put replaces; siblings mean that none is dropped unseen.

    Not where deletes are forgotten while copies of what they had read may be elsewhere.
    """
    if view.history.single_register:
        return promises_durability(view)
    return keeps_siblings(view) and setting(view, "purge") != "time"


def promises_convergence(view: View) -> bool:
    """Logs are repaired until they agree (Raft §5.3).

    A leaderless cluster promises it once it compares replicas by itself; read repair alone mends
    only what is read.
    """
    return view.history.single_register or setting(view, "anti_entropy") not in (
        None,
        "off",
        "False",
    )


def reads_show_writes(view: View) -> bool:
    """Return whether a version that is read stands for one write, the one that it names.

    Not where the store itself merges updates of counters and sets: one version shows many of them.
    """
    return not view.once(merges_updates)


def merges_updates(view: View) -> bool:
    """Return whether updates were left to the store."""
    return any(each.update is not None for each in view.history.operations)
