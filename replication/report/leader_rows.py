"""The measures that only a side with leaders has: elections over the whole load, and snapshots."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import TypeVar

from replication.analysis.findings import Leadership, SideFindings
from replication.analysis.meanwhile import Handoff, MemberChange, SnapshotInstall
from replication.report import formats
from replication.report.model import Cell, Row, Table

_Lasting = TypeVar("_Lasting", SnapshotInstall, Handoff, MemberChange)

_ELECTIONS: tuple[tuple[str, Callable[[Leadership], int]], ...] = (
    ("Elections in the whole load", attrgetter("elections")),
    ("of them needless: no fault had taken the leader away", attrgetter("needless")),
    ("Terms burnt in the whole load", attrgetter("terms")),
    ("Rounds of pre-votes in the whole load", attrgetter("pre_votes")),
)


def election_rows(sides: Mapping[str, SideFindings]) -> Iterable[Row]:
    """Yield what was elected, and how much of it for nothing; nothing where nobody ever stood."""
    found = {name: side.leadership for name, side in sides.items() if side.leadership is not None}
    if any(each.elections or each.pre_votes for each in found.values()):
        for label, measure in _ELECTIONS:
            cells = {name: Cell(formats.count(measure(each))) for name, each in found.items()}
            yield Row(label, cells)


def snapshot_rows(sides: Mapping[str, SideFindings]) -> Iterable[Row]:
    """Yield what the longest install of a snapshot took, and what clients saw meanwhile."""
    counts = {
        name: Cell(formats.count(len(side.snapshots)))
        for name, side in sides.items()
        if side.snapshots
    }
    if counts:
        yield Row("Followers brought up to date by a snapshot", counts)
    installs = {name: side.snapshots for name, side in sides.items()}
    yield from longest_rows("Longest install of a snapshot", installs, _size_and_time)


def longest_rows(
    label: str, found: Mapping[str, Sequence[_Lasting]], text: Callable[[_Lasting], str]
) -> Iterable[Row]:
    """Yield what the longest took on each side that has any, and what clients saw meanwhile."""
    longest = {
        name: max(all_of_it, key=lambda each: each.duration_ns)
        for name, all_of_it in found.items()
        if all_of_it
    }
    if longest:
        yield Row(label, {name: Cell(text(each)) for name, each in longest.items()})
        meanwhile = {name: Cell(_meanwhile(each)) for name, each in longest.items()}
        yield Row("Operations meanwhile, p99", meanwhile)


def _size_and_time(each: SnapshotInstall) -> str:
    took = formats.duration_ns(each.duration_ns)
    return f"{formats.byte_count(each.bytes)} to {formats.value_text(each.node)} in {took}"


def _meanwhile(each: SnapshotInstall | Handoff | MemberChange) -> str:
    before = formats.duration_ms(each.before.p99_ms)
    return f"{formats.duration_ms(each.during.p99_ms)} ({before} before any fault)"


def snapshot_table(side: SideFindings) -> Table:
    """Return every snapshot that was installed."""
    return Table(
        title="Followers that were too far behind for the log, and got a snapshot",
        columns=["node", "from", "index", "begun", "took", "size", "sent", "meanwhile", "p99"],
        rows=[
            [
                formats.value_text(each.node),
                formats.value_text(each.sender),
                formats.count(each.index),
                formats.moment(each.start_ns, side.load_start_ns),
                formats.duration_ns(each.duration_ns),
                formats.byte_count(each.bytes),
                formats.byte_count(each.bytes_sent),
                formats.plural(each.during.count, "operation"),
                _meanwhile(each),
            ]
            for each in side.snapshots
        ],
        note="Sent: what went out for it, repetitions included, as the sender told. Meanwhile: "
        "operations acknowledged while it lasted.",
    )
