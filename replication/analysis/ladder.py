"""The consistency ladder: the strongest rung that held, and the first that broke.

From the ground up: replicas that agree in the end, the four session guarantees, causal, sequential,
linearizable. Each rung implies those of reads below it (Viotti and Vukolic 2016, figure 1).
"""

from collections.abc import Mapping

from replication.analysis import causal, convergence, linearizability, sequential, sessions
from replication.analysis.findings import Finding, Ladder, Rung, Verdict, combine

SESSIONS = "sessions"
_SESSIONS_TITLE = "Session guarantees"
_RUNGS = (
    (convergence.NAME, "Convergent"),
    (SESSIONS, _SESSIONS_TITLE),
    (causal.NAME, "Causal"),
    (sequential.NAME, "Sequential"),
    (linearizability.NAME, "Linearizable"),
)


def ladder(findings: Mapping[str, Finding]) -> Ladder:
    """Return the rungs, the lowest first."""
    found = Ladder()
    for name, title in _RUNGS:
        checks = list(sessions.TITLES) if name == SESSIONS else [name]
        judged = [findings[each] for each in checks if each in findings]
        if judged:
            verdict = combine(each.verdict for each in judged)
            found.rungs.append(Rung(name, title, verdict))
            if verdict is Verdict.VIOLATED and found.broke is None:
                found.broke = title
                found.why = _why(judged)
    held = [each for each in found.rungs if each.verdict is Verdict.VALID]
    found.strongest = held[-1].title if held else None
    return found


def _why(judged: list[Finding]) -> str:
    """Return the first witness in time, with the guarantee that it breaks."""
    broken = [each for each in judged if each.verdict is Verdict.VIOLATED]
    told = [
        (witness.at_ns or 0, each.title, witness.words)
        for each in broken
        for witness in each.witnesses
    ]
    if not told:
        return broken[0].summary
    _, title, words = min(told)
    return words if len(judged) == 1 else f"{title}: {words}"
