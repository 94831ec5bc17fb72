"""Converged: after healing, all owners of every key came to hold the same and stayed so."""

from replication.analysis import words
from replication.analysis.coverage import conclude, coverage
from replication.analysis.findings import ConvergenceReport, Finding, Verdict, Witness
from replication.analysis.promised import promises_convergence
from replication.analysis.view import View
from replication.analysis.words import plural
from replication.history import ContentsSample

NAME = "convergence"
TITLE = "Replicas equal after healing"
WITNESSES_MAX = 5


def report(view: View) -> ConvergenceReport:
    """Return when all replicas were equal for good; call through ``View.once``.

    Seen at the first sample after healing from which on no sample differs: the replicas became
    equal between it and the sample before, so the time is late by up to one interval.
    """
    history = view.history
    samples = _after_healing(view)
    found = ConvergenceReport(history.heal_ns, None, None)
    found.watched = [
        (each.time_ns, len(each.differing))
        for each in sorted(history.samples, key=lambda each: each.time_ns)
    ]
    if not samples:
        return found
    found.keys = max(sample.keys for sample in samples)
    found.differing_at_heal = len(samples[0].differing)
    found.differing_at_end = sorted(samples[-1].differing)
    for sample in reversed(samples):
        if not _equal(sample):
            break
        found.converged_ns = sample.time_ns
        found.after_heal_ns = sample.time_ns - history.heal_ns
    return found


def _after_healing(view: View) -> list[ContentsSample]:
    ordered = sorted(view.history.samples, key=lambda each: each.time_ns)
    return [each for each in ordered if each.time_ns >= view.history.heal_ns]


def _equal(sample: ContentsSample) -> bool:
    return not sample.differing and not sample.unreachable


def check(view: View) -> Finding:
    """Return whether the replicas were equal when the run stopped watching.

    VIOLATED means: not within the time that the run settled. A node that could not be asked makes
    it UNKNOWN, since its contents are not known to differ.
    """
    found = view.once(report)
    samples = _after_healing(view)
    finding = Finding(
        NAME,
        TITLE,
        Verdict.UNKNOWN,
        "nobody compared the replicas after healing",
        coverage(view, reads=False, judged=found.keys),
        promised=promises_convergence(view),
    )
    if not samples:
        return conclude(view, finding)
    last = samples[-1]
    if found.after_heal_ns is not None:
        finding.verdict = Verdict.VALID
        first = "when first compared, " if found.converged_ns == samples[0].time_ns else ""
        finding.summary = (
            f"{plural(found.keys, 'key')} equal on all owners {first}"
            f"{words.milliseconds(found.after_heal_ns)} after healing"
        )
    elif last.unreachable:
        finding.summary = f"{words.listed(last.unreachable)} could not be asked at the end"
    else:
        finding.verdict = Verdict.VIOLATED
        finding.violations = len(last.differing)
        watched = words.milliseconds(last.time_ns - view.history.heal_ns)
        finding.summary = (
            f"{len(last.differing):,} of {plural(found.keys, 'key')} still differed {watched} "
            "after healing"
        )
        finding.witnesses = [
            _witness(view, key, last.time_ns) for key in found.differing_at_end[:WITNESSES_MAX]
        ]
    return conclude(view, finding)


def _witness(view: View, key: str, at_ns: int) -> Witness:
    held = [
        f"{each.node} held " + (words.versions(view, each.versions) if each.versions else "nothing")
        for each in sorted(view.held.get(key, []), key=lambda each: each.node)
    ]
    told = "; ".join(held) or "what its owners held is not recorded"
    return Witness(
        f"The owners of {key} differed at {words.moment(view, at_ns)}. At the end {told}.",
        key,
        [],
        at_ns,
    )
