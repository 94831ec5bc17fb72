"""What a verdict rests on, and when there was too little to judge."""

import numpy as np

from replication.analysis.findings import Coverage, Finding, Verdict
from replication.analysis.roles import window_end_ns
from replication.analysis.view import OK, View, columns
from replication.history import FaultRecord, OperationKind, Outcome

_RULE_OF_THREE = 3


def coverage(view: View, *, reads: bool, judged: int | None = None) -> Coverage:
    """Return the operations behind a check that judges all writes, and reads if it says so.

    Judged are acknowledged operations and writes with an unknown outcome. Failed ones are counted
    in ``by_outcome`` and judge nothing: they did not happen.
    """
    found = Coverage(
        keys=len(view.by_key),
        by_fault=dict(view.once(acknowledged_by_fault)),
        by_side=dict(view.once(acknowledged_by_side)),
    )
    for outcome in Outcome:
        found.by_outcome[outcome] = sum(
            view.tally[kind, outcome] for kind in OperationKind if reads or kind.is_write
        )
    for kind in OperationKind:
        if reads or kind.is_write:
            count = view.tally[kind, Outcome.OK]
            if kind.is_write:
                count += view.tally[kind, Outcome.UNKNOWN]
            if count:
                found.by_kind[kind] = count
    found.judged = sum(found.by_kind.values()) if judged is None else judged
    return found


def acknowledged_by_fault(view: View) -> dict[int, int]:
    """Return for each fault how many operations were invoked and acknowledged while it lasted.

    A restart is a moment, not a stretch: it is judged by everything after it.
    """
    loaded = view.once(columns)
    found: dict[int, int] = {}
    for fault in view.history.faults:
        count = 0
        if fault.injected_ns is not None:
            inside = (loaded.outcome == OK) & (loaded.invoke >= fault.injected_ns)
            inside &= loaded.complete <= _judged_until_ns(view, fault)
            count = int(np.count_nonzero(inside))
        found[fault.number] = count
    return found


def acknowledged_by_side(view: View) -> dict[str, int]:
    """Return for each side of each partition what its clients got acknowledged while it lasted."""
    loaded = view.once(columns)
    found: dict[str, int] = {}
    for fault in view.history.faults:
        if fault.injected_ns is None:
            continue
        for side in fault.sides:
            clients = [n for n, name in enumerate(loaded.clients) if name in side]
            nodes = [name for name in side if name in view.history.nodes]
            if not clients or not nodes:
                continue
            inside = (loaded.outcome == OK) & (loaded.invoke >= fault.injected_ns)
            inside &= loaded.complete <= _judged_until_ns(view, fault)
            inside &= np.isin(loaded.client, clients)
            name = f"fault {fault.number}, beside {', '.join(nodes)}"
            found[name] = int(np.count_nonzero(inside))
    return found


def _judged_until_ns(view: View, fault: FaultRecord) -> int:
    end_ns = window_end_ns(view, fault)
    return max(end_ns, view.history.load_end_ns) if fault.momentary else end_ns


def inconclusive(view: View) -> list[str]:
    """Return why this history can show no pass: one sentence for each reason (design §7)."""
    notes: list[str] = []
    counts = view.once(acknowledged_by_fault)
    for fault in view.history.faults:
        name = f"fault {fault.number} ({fault.words})"
        if fault.injected_ns is None:
            notes.append(f"{name} was not injected: {fault.problem or 'no reason is recorded'}")
        elif not fault.effective:
            notes.append(f"{name} left no evidence that it took effect")
        elif counts[fault.number] == 0:
            notes.append(f"no operation was acknowledged during {name}: nothing shows its effect")
    return notes


def conclude(view: View, finding: Finding) -> Finding:
    """Return the finding as it stands once the whole history is looked at.

    A VALID that rests on nothing becomes UNKNOWN, with the reasons in the notes. A violation stays
    a violation: it was seen.
    """
    notes = [*view.problems[:3], *view.once(inconclusive)]
    if finding.coverage.judged == 0:
        notes.append("there was nothing to judge")
    elif not any(view.tally[kind, Outcome.OK] for kind in OperationKind):
        notes.append("no operation was acknowledged")
    notes += [f"the run broke: {problem}" for problem in view.history.problems[:1]]
    finding.coverage.notes += notes
    if notes and finding.verdict is Verdict.VALID:
        finding.verdict = Verdict.UNKNOWN
    if finding.verdict is Verdict.VALID:
        finding.coverage.smallest = _smallest(finding.coverage.judged)
    return finding


def _smallest(judged: int) -> str:
    """Return what a pass could hardly have missed.

    If one in m goes wrong, n in a row go right with a chance of (1 - 1/m)^n, which is below 5 % for
    n of three times m (the rule of three, Hanley and Lippman-Hand 1983).
    """
    if judged < _RULE_OF_THREE:
        return ""
    one_in = judged // _RULE_OF_THREE
    return f"had one in {one_in:,} gone wrong, it would have shown with a chance of 95 %"
