"""The operations of a history as operations on registers, and the reads that no register gives."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from replication.analysis import words
from replication.analysis.findings import Witness
from replication.analysis.view import View
from replication.analysis.why import reasons
from replication.history import Operation, OperationKind, Outcome, SeenVersion

IMPOSSIBLE_TOLD_MAX = 5  # of one key


@dataclass(slots=True)
class Impossible:
    """A read that contradicts a register by itself."""

    read: Operation
    kind: str  # "siblings" | "phantom" | "failed write" | "altered"
    version: SeenVersion | None = None

    def witness(self, view: View) -> Witness:
        """Tell it."""
        return _TELL[self.kind](view, self)


@dataclass(slots=True)
class Registers:
    """What is left to judge once the impossible reads are told."""

    operations: dict[str, list[Operation]] = field(default_factory=dict)  # by key
    impossible: dict[str, list[Impossible]] = field(default_factory=dict)  # by key, the first few
    impossible_count: int = 0
    unclear_reads: int = 0  # returned only tombstones, more than one: which delete is not said

    def refuse(self, read: Operation, kind: str, version: SeenVersion | None = None) -> None:
        """Note a read that is impossible by itself."""
        self.impossible_count += 1
        told = self.impossible.setdefault(read.key, [])
        if len(told) < IMPOSSIBLE_TOLD_MAX:
            told.append(Impossible(read, kind, version))


def registers(view: View, *, skip: frozenset[int] = frozenset()) -> Registers:
    """Return acknowledged reads and all writes that may have happened, key by key.

    Left out: failed operations, unknown writes that nobody can have noticed, reads of the indexes
    in ``skip``, and reads that are impossible by themselves.
    """
    found = Registers()
    for key, operations in view.by_key.items():
        compared = _compared(operations)
        kept = []
        for each in operations:
            if each.kind is not OperationKind.GET:
                if _may_have_happened(view, each, compared):
                    kept.append(each)
            elif each.outcome is Outcome.OK and each.index not in skip and _fits(view, found, each):
                kept.append(each)
        if kept:
            found.operations[key] = kept
    return found


def _compared(operations: list[Operation]) -> frozenset[str | None] | None:
    """Return the values that a compare-and-set of the key may have met; None: any value."""
    swaps = [each for each in operations if each.kind is OperationKind.COMPARE_AND_SET]
    if any(refused(each) for each in swaps):
        return None  # a refusal is explained by every other value
    return frozenset(each.expected for each in swaps if each.outcome is not Outcome.FAIL)


def _may_have_happened(
    view: View, write: Operation, compared: frozenset[str | None] | None
) -> bool:
    """Return whether ``write`` matters to the order: whether anybody can have noticed it.

    An unknown write that no read returned, and whose value no compare-and-set can have met, is
    dropped: whatever order explains the others with it explains them without it.
    """
    if write.write_id is None or view.writes.get(write.write_id) is not write:
        return False  # a write id that is missing or used twice: see View.problems
    if write.outcome is Outcome.OK:
        return True
    if write.outcome is Outcome.UNKNOWN:
        if write.write_id in view.first_seen_ns:
            return True
        return compared is None or write.value in compared
    # A compare-and-set that was refused tells what the register did not hold.
    return refused(write)


def refused(write: Operation) -> bool:
    """Return whether this is a compare-and-set that lost, at the first attempt.

    After several attempts an earlier one may have won without an answer.
    """
    return (
        write.kind is OperationKind.COMPARE_AND_SET
        and write.outcome is Outcome.FAIL
        and write.error == "Conflict"
        and write.attempts <= 1
        and write.complete_ns is not None
    )


def _fits(view: View, found: Registers, read: Operation) -> bool:
    """Return whether ``read`` can be judged as the read of one version; note why it cannot."""
    live = 0
    for version in read.seen:
        live += not version.tombstone
        write = view.writes.get(version.write_id)
        if write is None or write.key != read.key:
            found.refuse(read, "phantom", version)
        elif write.outcome is Outcome.FAIL:
            found.refuse(read, "failed write", version)
        elif version.value != write.value and None not in (version.value, write.value):
            found.refuse(read, "altered", version)
        else:
            continue
        return False
    if len(read.seen) > 1:
        if live > 1:
            found.refuse(read, "siblings")
            return False
        if live == 0:
            found.unclear_reads += 1
            return False
    return True


def version_read(read: Operation) -> str | None:
    """Return the write that a read of one version returned; None: the key was never written.

    A value beside tombstones is what a client reads.
    """
    live = [version.write_id for version in read.seen if not version.tombstone]
    if live:
        return live[0]
    return read.seen[0].write_id if read.seen else None


def read_words(view: View, read: Operation) -> str:
    """Return "c3 read c1:17 (put 'v17') of k1 from n1 at 12.413 s"."""
    assert read.complete_ns is not None, "a judged read has ended"
    write_id = version_read(read)
    what = "found nothing in" if write_id is None else f"read {words.write(view, write_id)} of"
    by = f" from {read.node}" if read.node else ""
    begun = words.moment(view, read.invoke_ns)
    ended = words.moment(view, read.complete_ns)
    when = f"at {ended}" if begun == ended else f"between {begun} and {ended}"
    return f"{read.client} {what} {read.key}{by} {when}"


def _siblings(view: View, found: Impossible) -> Witness:
    read = found.read
    live = [version for version in read.seen if not version.tombstone]
    return Witness(
        f"{read.client} got {len(live)} values of {read.key} at once{words.served(read)} at "
        f"{words.moment(view, read.complete_ns or read.invoke_ns)}: {words.versions(view, live)}. "
        "A register holds one value; these are siblings of concurrent writes.",
        read.key,
        [*_indexes(view, live), read.index],
        read.complete_ns,
    )


def _phantom(view: View, found: Impossible) -> Witness:
    read, version = found.read, found.version
    assert version is not None, "a phantom is a version"
    write = view.writes.get(version.write_id)
    whose = (
        "although no client ever wrote that"
        if write is None
        else f"although {version.write_id} was written to {write.key}"
    )
    return Witness(
        f"{read.client} read {version.write_id} ({words.quoted(version.value)}) of {read.key}"
        f"{words.served(read)} at {words.moment(view, read.complete_ns or read.invoke_ns)}, "
        f"{whose}.",
        read.key,
        [*([] if write is None else [write.index]), read.index],
        read.complete_ns,
    )


def _failed_write(view: View, found: Impossible) -> Witness:
    read, version = found.read, found.version
    assert version is not None, "a failed write is a version"
    return failed_write_witness(view, view.writes[version.write_id], read)


def failed_write_witness(view: View, write: Operation, read: Operation) -> Witness:
    """Tell that ``read`` returned a write which had been refused for good."""
    assert write.write_id is not None, "a write has an id"
    ended = write.invoke_ns if write.complete_ns is None else write.complete_ns
    return Witness(
        f"{read.client} read {words.write(view, write.write_id)} of {read.key}"
        f"{words.served(read)} at {words.moment(view, read.complete_ns or read.invoke_ns)}, "
        f"although that write had failed at {words.moment(view, ended)} with "
        f"{write.error or 'an error'}, which says that it never takes effect."
        f"{reasons(view, read, [write, read])}",
        read.key,
        [write.index, read.index],
        read.complete_ns,
    )


def _altered(view: View, found: Impossible) -> Witness:
    read, version = found.read, found.version
    assert version is not None, "an altered value is a version"
    write = view.writes[version.write_id]
    return Witness(
        f"{read.client} read {words.quoted(version.value)} as {version.write_id} of {read.key}"
        f"{words.served(read)} at {words.moment(view, read.complete_ns or read.invoke_ns)}, "
        f"although {write.client} had written {words.quoted(write.value)} under that id.",
        read.key,
        [write.index, read.index],
        read.complete_ns,
    )


def _indexes(view: View, seen: list[SeenVersion]) -> Iterator[int]:
    for version in seen:
        write = view.writes.get(version.write_id)
        if write is not None:
            yield write.index


_TELL = {
    "siblings": _siblings,
    "phantom": _phantom,
    "failed write": _failed_write,
    "altered": _altered,
}
