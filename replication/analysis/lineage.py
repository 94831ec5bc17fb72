"""Which version can stand in for which: what a store that lost nothing could have returned.

A read that had to see a write w and returned other versions is excused as soon as one of them may
have replaced w. Whether it may have depends on how the store decides:

- one order per key: not if it had taken effect before w began (real time decides);
- siblings: only if its writer had read w, directly or from one who had (``based_on``);
- last-write-wins: not if its timestamp is the lower one; without both timestamps it may have.

Nothing returned at all is excused by any delete that may have come after w, and by w itself if it
is one. Where siblings are kept a delete that was purged excuses as well: nothing of it is left for
others to replace. Not for a read that returned what this delete had read: that is back.
"""

from collections.abc import Callable, Iterable

from replication.analysis.promised import keeps_siblings
from replication.analysis.siblings import purged_deletes
from replication.analysis.view import NEVER, View
from replication.history import Operation, OperationKind, Outcome, SeenVersion


class Lineage:
    """Answers for one history; call ``lineage`` through ``View.once``."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._register = view.history.single_register
        self._siblings = not self._register and keeps_siblings(view)
        self._timestamps = {} if self._register or self._siblings else _timestamps(view)
        self._descends: dict[str, dict[str, bool]] = {}  # ancestor -> what descends from it
        self._deletes: dict[str, list[Operation]] = {}
        self._purged: dict[str, list[tuple[str, int]]] = {}
        purged_ns = view.once(purged_deletes)
        for key, operations in view.by_key.items():
            deletes = [
                each
                for each in operations
                if each.kind is OperationKind.DELETE and each.outcome is not Outcome.FAIL
            ]
            self._deletes[key] = deletes
            names = [each.write_id for each in deletes if each.write_id in purged_ns]
            self._purged[key] = [(name, purged_ns[name]) for name in names if name]

    def lacks(self, read: Operation, write: Operation) -> bool:
        """Return whether ``read`` surely shows a state without ``write``."""
        if any(version.write_id == write.write_id for version in read.seen):
            return False
        if not read.seen:
            return write.kind is not OperationKind.DELETE and not any(
                self.may_replace(each, write) for each in self._deletes[read.key]
            )
        for version in read.seen:
            source = self._view.writes.get(version.write_id)
            if source is None or self.may_replace(source, write):
                return False
        return not (self._siblings and self.forgotten(read, write))

    def forgotten(self, read: Operation, write: Operation) -> bool:
        """Return whether a purged delete is the reason why ``read`` shows nothing of ``write``."""
        end_ns = NEVER if read.complete_ns is None else read.complete_ns
        seen = [self._view.writes.get(version.write_id) for version in read.seen]
        return any(
            at_ns <= end_ns
            and self.descends(delete, write)
            and not any(each is not None and self.descends(delete, each) for each in seen)
            for delete, at_ns in self._purged[read.key]
        )

    def may_replace(self, newer: Operation, older: Operation) -> bool:
        """Return whether ``newer`` may stand where ``older`` stood."""
        assert newer.write_id is not None, "a write has an id"
        assert older.write_id is not None, "a write has an id"
        if newer.write_id == older.write_id:
            return False
        if self._siblings:
            return self.descends(newer.write_id, older)
        if self._register:
            end_ns = self._view.effective_end_ns(newer.write_id)
            return end_ns is None or end_ns >= older.invoke_ns
        mine = self._timestamps.get(newer.write_id)
        other = self._timestamps.get(older.write_id)
        return mine is None or other is None or mine >= other

    def descends(self, write_id: str, ancestor: Operation) -> bool:
        """Return whether a write had read ``ancestor``, directly or from one who had.

        ``based_on`` is followed from write to write; each is walked once for each ancestor.
        """
        assert ancestor.write_id is not None, "a write has an id"
        known = self._descends.setdefault(ancestor.write_id, {ancestor.write_id: True})
        if write_id in known:
            return known[write_id]
        walked = {write_id}
        waiting = [write_id]
        while waiting:
            each = self._view.writes.get(waiting.pop())
            # What had ended before the ancestor began does not descend from it.
            if each is None or (each.complete_ns or NEVER) < ancestor.invoke_ns:
                continue
            for base in each.based_on:
                if known.get(base):
                    known[write_id] = True
                    return True
                if base not in known and base not in walked:
                    walked.add(base)
                    waiting.append(base)
        known.update(dict.fromkeys(walked, False))
        return False


def lineage(view: View) -> Lineage:
    """Return the answers for this history."""
    return Lineage(view)


def _timestamps(view: View) -> dict[str, int]:
    found: dict[str, int] = {}
    for versions in _all_versions(view):
        for version in versions:
            if version.timestamp_ns is not None:
                found[version.write_id] = version.timestamp_ns
    return found


def _all_versions(view: View) -> Iterable[list[SeenVersion]]:
    yield from (each.seen for each in view.history.operations if each.seen)
    yield from (each.versions for each in view.history.contents)


class Latest:
    """Of operations on one key, the one that began last among those that had ended by a moment."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        ended = [
            (each.complete_ns, each.index, each)
            for each in operations
            if each.complete_ns is not None
        ]
        ended.sort(key=lambda each: each[:2])
        self._ends = [end_ns for end_ns, _, _ in ended]
        self._latest: list[Operation] = []
        for _, _, each in ended:
            last = self._latest[-1] if self._latest else None
            self._latest.append(each if last is None or each.invoke_ns >= last.invoke_ns else last)

    def before(self, at_ns: int, bisect: Callable[[list[int], int], int]) -> Operation | None:
        """Return it; ``bisect`` counts the ends before ``at_ns``."""
        position = bisect(self._ends, at_ns)
        return self._latest[position - 1] if position else None
