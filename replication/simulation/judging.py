"""Whether a simulated side has failed, and of what."""

from dataclasses import dataclass

from replication.analysis import Verdict, analyse
from replication.history import Outcome, Phase
from replication.simulation.execute import Simulated


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong. Two failures are the same when their ``check`` is."""

    check: str  # "Election Safety", "linearizability", "progress" ...
    text: str
    time_ns: int | None = None
    in_flight: bool = False  # it showed in a step, and ended the simulation there


def judge(simulated: Simulated) -> Failure | None:
    """Return the gravest failure of a side, None if it kept every promise.

    In this order: an invariant broken or an error in the core; a cluster that does not serve once
    everything is healed (phase two: progress); a promise broken in the history; a final read that
    nobody answered.
    """
    broken = simulated.broken
    if broken is not None:
        kind, _, text = broken.text.partition(": ")
        named = kind == "AssertionError" and ("(" in text or ":" in text)
        check = text.partition(":")[0].partition(" (")[0] if named else broken.text
        return Failure(check, f"{broken.node}: {text or kind}", broken.time_ns, in_flight=True)
    history = simulated.history
    if history.problems:
        return Failure("progress", "; ".join(history.problems))
    # What the backends promise of histories, they promise of disks that forget nothing. What holds
    # all the same when a disk is wiped is for the invariants to say. The disk of a node that is
    # replaced is one that is lost: where one node acknowledges (W = 1), too much.
    alone = history.settings.get("w") == 1
    wiped = any(
        (fault.kind == "wipe" and fault.effective) or (fault.kind == "replace" and alone)
        for fault in history.faults
    )
    findings = {} if wiped else analyse(history).findings
    for name, finding in findings.items():
        if finding.promised and finding.verdict is Verdict.VIOLATED:
            witness = finding.witnesses[0] if finding.witnesses else None
            text = finding.summary if witness is None else f"{finding.summary}. {witness.words}"
            return Failure(name, text, None if witness is None else witness.at_ns)
    final = [each for each in history.operations if each.phase is Phase.FINAL]
    answered = {each.key for each in final if each.outcome is Outcome.OK}
    for operation in final:
        if operation.key not in answered:
            text = f"the final read of {operation.key} ended in {operation.error}"
            return Failure("progress", text, operation.complete_ns)
    return None
