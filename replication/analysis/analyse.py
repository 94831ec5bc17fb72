"""From histories to findings: every check and every measure of a side, and the run as a whole."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from replication.analysis import convergence
from replication.analysis.atomicity import KEYS_MAX, key_atomicity
from replication.analysis.availability import availability
from replication.analysis.conflict_findings import ConflictLedger
from replication.analysis.conflicts import ledger
from replication.analysis.expect import judge, overall
from replication.analysis.explain import explain
from replication.analysis.failover import failovers
from replication.analysis.findings import Finding, RunFindings, SideFindings, Staleness, combine
from replication.analysis.gossip import gossip
from replication.analysis.handoffs import handoffs
from replication.analysis.ladder import ladder
from replication.analysis.latency import lag_share, latency_points, percentiles, throughput_per_s
from replication.analysis.leadership import leadership
from replication.analysis.leases import leases
from replication.analysis.member_changes import member_changes
from replication.analysis.promised import reads_show_writes
from replication.analysis.registry import CHECKS
from replication.analysis.roles import role_periods
from replication.analysis.snapshots import snapshots
from replication.analysis.split_brain import split_brains
from replication.analysis.staleness import staleness
from replication.analysis.standbys import standbys
from replication.analysis.t_visibility import pbs
from replication.analysis.view import View
from replication.history import History, OperationKind, Outcome, Phase
from replication.plan.model import Expectation

Clock = Callable[[], float]  # seconds; only for how long each check took


@dataclass(frozen=True, slots=True)
class RunHeader:
    """What a report says of a run besides its findings."""

    name: str
    title: str
    question: str
    seed: int
    started_unix_ns: int
    versions: Mapping[str, str]
    again: str
    expectations: Sequence[Expectation] = ()
    folder: str | None = None


def analyse(history: History, clock: Clock | None = None) -> SideFindings:
    """Return everything there is to say of one side.

    The same history gives the same findings; only ``Finding.seconds`` differs, and that is 0
    without a ``clock``.
    """
    view = View(history)
    findings = {}
    for check in CHECKS:
        if not check.applies(view):
            continue
        begun = clock() if clock is not None else 0.0
        findings[check.name] = check.judge(view)
        for witness in findings[check.name].witnesses:
            explain(view, witness)
        if clock is not None:
            findings[check.name].seconds = clock() - begun
    return _side(view, findings)


def _side(view: View, findings: dict[str, Finding]) -> SideFindings:
    history = view.history
    points, thinned = latency_points(view)
    per_operation = _per_acknowledged(view)
    return SideFindings(
        family=history.family,
        backend=history.backend,
        title=history.title,
        promise=history.promise,
        simulated=history.simulated,
        seed=history.seed,
        nodes=list(history.nodes),
        load_start_ns=history.load_start_ns,
        measure_start_ns=history.measure_start_ns,
        load_end_ns=history.load_end_ns,
        heal_ns=history.heal_ns,
        settle_end_ns=history.settle_end_ns,
        verdict=combine(each.verdict for each in findings.values() if each.promised),
        findings=findings,
        reads=percentiles(view, writes=False),
        writes=percentiles(view, writes=True),
        availability=availability(view),
        failovers=failovers(view),
        split_brains=split_brains(view),
        leases=leases(view),
        standbys=standbys(view),
        leadership=leadership(view),
        snapshots=snapshots(view),
        handoffs=handoffs(view),
        member_changes=member_changes(view),
        gossip=gossip(view),
        conflicts=view.once(ledger) if reads_show_writes(view) else ConflictLedger(),
        convergence=view.once(convergence.report),
        faults=list(history.faults),
        roles=role_periods(view),
        latency_points=points,
        staleness=_staleness(view) if reads_show_writes(view) else Staleness(),
        ladder=ladder(findings),
        pbs=pbs(view),
        throughput_per_s=throughput_per_s(view),
        operations=_outcomes(view),
        messages_per_operation=per_operation(history.links.messages),
        bytes_per_operation=per_operation(history.links.bytes),
        cpu_us_per_operation=per_operation(sum(history.node_cpu_seconds.values()) * 1e6),
        fdatasync_ms_p50=_ms(history.fdatasync_ns_p50),
        fdatasync_ms_p99=_ms(history.fdatasync_ns_p99),
        thinned=thinned,
        generator_bound=history.driver.generator_bound,
        driver=history.driver,
        lag_share=lag_share(view),
        interrupted=history.interrupted,
        problems=[*history.problems, *view.problems[:5]],
        settings=dict(history.settings),
    )


def _staleness(view: View) -> Staleness:
    found = staleness(view)
    keys = key_atomicity(view)
    found.inconsistent_keys = len(keys)
    found.keys = keys[:KEYS_MAX]
    found.k_at_least = max((each.k_at_least for each in keys), default=1)
    found.max_delta_ms = _ms(max((each.delta_ns or 0 for each in keys), default=0) or None)
    return found


def _per_acknowledged(view: View) -> Callable[[float], float | None]:
    """Return a division by all acknowledged operations of the run: totals cover the whole run."""
    acknowledged = sum(view.tally[kind, Outcome.OK] for kind in OperationKind)
    return lambda total: total / acknowledged if acknowledged and total else None


def _outcomes(view: View) -> dict[str, int]:
    """Return how many operations ended how, warm-up and final reads left out."""
    found = {outcome.value: 0 for outcome in Outcome}
    for each in view.history.operations:
        if each.phase is Phase.LOAD:
            found[each.outcome] += 1
    return found


def _ms(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / 1e6


def analyse_run(
    header: RunHeader, histories: Mapping[str, History], clock: Clock | None = None
) -> RunFindings:
    """Return the findings of a run; ``histories`` by side, one or both, in any order."""
    order = sorted(histories, key=("leader", "leaderless").index)
    sides = {side: analyse(histories[side], clock) for side in order}
    expectations = judge(header.expectations, sides)
    return RunFindings(
        name=header.name,
        title=header.title,
        question=header.question,
        seed=header.seed,
        started_unix_ns=header.started_unix_ns,
        versions=dict(header.versions),
        sides=sides,
        expectations=expectations,
        verdict=overall(header.expectations, expectations, sides),
        again=header.again,
        folder=header.folder,
    )
