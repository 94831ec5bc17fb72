"""Verdicts and measures, computed from a History alone.

    History ──View──┬─▶ checks (registry.py, one file each) ──▶ Finding: verdict, coverage, witness
                    └─▶ measures: availability, latency, ledgers, roles ──▶ SideFindings
    {side: SideFindings} + expectations ──▶ RunFindings

``analyse`` judges one side, ``analyse_run`` a run. Everything here is pure: the same history gives
the same findings years later, whatever recorded it. Time and memory are bounded; what could not be
decided within the bounds is UNKNOWN, never a pass.

Three rules that hold for every check:

- **What a client does not know, nobody assumes.** A write with an unknown outcome may have taken
  effect at any time after it was sent, or never. A failed write never did: whoever can read it is a
  witness. Reads that failed say nothing.
- **Intervals are closed.** An operation that ends in the same nanosecond in which another begins
  overlaps it (Porcupine's choice): equal times prove no order, so they can accuse nobody.
- **A pass needs something to judge.** A fault that left no evidence, or a fault during which no
  operation was acknowledged, turns VALID into UNKNOWN (``coverage.conclude``).
"""

from replication.analysis.analyse import RunHeader, analyse, analyse_run
from replication.analysis.expect import judge, known_checks, measure_problem
from replication.analysis.findings import Finding, RunFindings, SideFindings, Verdict
from replication.analysis.findings_json import findings_from_json, findings_to_json
from replication.analysis.registry import CHECKS, Check

__all__ = [
    "CHECKS",
    "Check",
    "Finding",
    "RunFindings",
    "RunHeader",
    "SideFindings",
    "Verdict",
    "analyse",
    "analyse_run",
    "findings_from_json",
    "findings_to_json",
    "judge",
    "known_checks",
    "measure_problem",
]
