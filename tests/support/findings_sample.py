"""Findings as a run leaves them, made up from a seed: for tests of the report and to look at it."""

from collections.abc import Callable
from dataclasses import replace
from random import Random

from replication.analysis.conflict_findings import Conflict, ConflictLedger, VanishedWrite
from replication.analysis.findings import (
    Availability,
    ConvergenceReport,
    Coverage,
    ExpectationResult,
    Failover,
    FailoverStep,
    Finding,
    LatencyPoint,
    RolePeriod,
    RunFindings,
    SideFindings,
    Staleness,
    Verdict,
    Witness,
)
from replication.analysis.meanwhile import Percentiles
from replication.history import FaultRecord

MS = 1_000_000
S = 1_000 * MS
LOAD_START = 1_230 * MS
WARMUP_END = LOAD_START + S
LOAD_END = LOAD_START + 12 * S
FAULT_AT = LOAD_START + 4 * S
HEALED_AT = LOAD_START + 8 * S
SETTLE_END = LOAD_START + 13_400 * MS
NODES = ["n1", "n2", "n3", "n4", "n5"]
RATE_PER_S = 340  # with 12 s of load: 4,080 operations

Respond = Callable[[Random, int, str], tuple[str, float]]  # (at, kind) -> (outcome, ms)


def points(seed: int, respond: Respond) -> list[LatencyPoint]:
    """Return one point per operation of an open loop, as ``respond`` answers it."""
    rng = Random(seed)
    found = []
    for index in range(12 * RATE_PER_S):
        at_ns = LOAD_START + index * S // RATE_PER_S
        kind = rng.choices(["get", "put", "delete"], [50, 45, 5])[0]
        outcome, latency_ms = respond(rng, at_ns, kind)
        found.append(LatencyPoint(at_ns, latency_ms, outcome, kind, index))
    return found


def availability(name: str, chosen: list[LatencyPoint]) -> Availability:
    """Count the measured points per 100 ms of their completion."""
    buckets = [[0, 0, 0] for _ in range((LOAD_END - WARMUP_END) // (100 * MS))]
    for point in chosen:
        if point.at_ns >= WARMUP_END:
            column = ("ok", "fail", "unknown").index(point.outcome)
            ended_ns = point.at_ns + round(point.latency_ms * MS)
            position = (ended_ns - WARMUP_END) // (100 * MS)
            buckets[min(position, len(buckets) - 1)][column] += 1
    ok, fail, unknown = (sum(bucket[column] for bucket in buckets) for column in range(3))
    return Availability(
        name=name,
        ok=ok,
        fail=fail,
        unknown=unknown,
        ok_share=ok / (ok + fail + unknown),
        buckets=[(bucket[0], bucket[1], bucket[2]) for bucket in buckets],
    )


def percentiles(chosen: list[LatencyPoint]) -> Percentiles:
    values = sorted(point.latency_ms for point in chosen if point.outcome == "ok")
    at = [values[min(int(len(values) * part), len(values) - 1)] for part in (0.5, 0.9, 0.99, 0.999)]
    return Percentiles(len(values), *at, values[-1])


def kill_record(words: str) -> FaultRecord:
    return FaultRecord(
        number=1,
        kind="kill",
        words=words,
        planned_ns=FAULT_AT,
        injected_ns=FAULT_AT + 2 * MS,
        healed_ns=HEALED_AT,
        nodes=["n3"],
        evidence=["process 4711 ended by SIGKILL after 0.8 ms", "5 connections were refused"],
        effective=True,
        takes_down=True,
    )


def crash_of_a_leader(rng: Random, at_ns: int, kind: str) -> tuple[str, float]:
    """Nobody is served until the new leader is there; then the backlog is."""
    base = rng.lognormvariate(0.9 if kind == "get" else 1.35, 0.35)
    back_ns = FAULT_AT + 347 * MS
    if FAULT_AT - 6 * MS <= at_ns < FAULT_AT and kind != "get":
        return "unknown", 500 + rng.random() * 20
    if FAULT_AT <= at_ns < back_ns:
        if rng.random() < 0.12:
            return "fail", 60 + rng.random() * 200
        return "ok", (back_ns - at_ns) / MS + base
    return "ok", base * (1.6 if at_ns < back_ns + 300 * MS and at_ns >= FAULT_AT else 1)


def crash_of_a_replica(rng: Random, at_ns: int, kind: str) -> tuple[str, float]:
    """A fifth of the operations goes to the dead coordinator until its peers suspect it."""
    base = rng.lognormvariate(0.6 if kind == "get" else 0.95, 0.45)
    if FAULT_AT <= at_ns < FAULT_AT + 90 * MS and rng.random() < 0.35:
        return ("unknown", 90 + rng.random() * 30) if kind != "get" else ("fail", base * 9)
    return "ok", base * (1.25 if FAULT_AT <= at_ns < HEALED_AT else 1)


def side(
    family: str, found: list[LatencyPoint], faults: list[FaultRecord], **changes: object
) -> SideFindings:
    """Return a side with everything that follows from its points; ``changes`` replace fields."""
    reads = [point for point in found if point.kind == "get"]
    writes = [point for point in found if point.kind != "get"]
    groups = {"reads": availability("reads", reads), "writes": availability("writes", writes)}
    outcomes = [point.outcome for point in found]
    leader = family == "leader"
    fields: dict[str, object] = {
        "family": family,
        "backend": "raft" if leader else "dynamo",
        "title": "Raft" if leader else "Dynamo-style",
        "promise": RAFT_PROMISE if leader else DYNAMO_PROMISE,
        "simulated": False,
        "seed": 7,
        "nodes": NODES,
        "load_start_ns": LOAD_START,
        "measure_start_ns": WARMUP_END,
        "load_end_ns": LOAD_END,
        "heal_ns": HEALED_AT,
        "settle_end_ns": SETTLE_END,
        "verdict": Verdict.VALID,
        "findings": {},
        "reads": percentiles(reads),
        "writes": percentiles(writes),
        "availability": groups,
        "failovers": [],
        "conflicts": ConflictLedger(),
        "convergence": ConvergenceReport(HEALED_AT, HEALED_AT + 212 * MS, 212 * MS, 200, 31),
        "faults": faults,
        "roles": [],
        "latency_points": found,
        "throughput_per_s": outcomes.count("ok") / 12,
        "operations": {name: outcomes.count(name) for name in ("ok", "fail", "unknown")},
        "messages_per_operation": 3.12 if leader else 5.87,
        "bytes_per_operation": 812.4 if leader else 1480.0,
        "cpu_us_per_operation": 612.0 if leader else 940.0,
        "staleness": Staleness(2040, 0, 0.0)
        if leader
        else Staleness(2040, 7, 7 / 2040, 12.5, 38.0),
        "fdatasync_ms_p50": 0.412,
        "fdatasync_ms_p99": 1.87,
        "settings": dict(RAFT_SETTINGS if leader else DYNAMO_SETTINGS),
    }
    return SideFindings(**{**fields, **changes})  # type: ignore[arg-type]


RAFT_PROMISE = (
    "Every acknowledged write survives while a majority of the nodes does, and reads and writes of "
    "a key appear in one order that agrees with real time."
)
DYNAMO_PROMISE = (
    "Every acknowledged write is on 2 of 3 replicas, reads ask 2 of 3, and concurrent writes are "
    "all kept as siblings; it does not promise one order per key."
)
RAFT_SETTINGS = {"nodes": 5, "sync": True, "heartbeat_ns": 30 * MS, "election_timeout_ns": 150 * MS}
DYNAMO_SETTINGS = {
    "nodes": 5,
    "sync": True,
    "quorum": {"n": 3, "r": 2, "w": 2},
    "versions": "dvv",
    "read_repair": "async",
}


def finding(check: str, title: str, summary: str, **changes: object) -> Finding:
    """Return a check that judged everything and found nothing wrong."""
    coverage = Coverage(
        judged=3740,
        by_outcome={"ok": 3698, "fail": 21, "unknown": 21},
        by_kind={"get": 1870, "put": 1683, "delete": 187},
        keys=200,
        by_fault={1: 1310},
    )
    fields: dict[str, object] = {"verdict": Verdict.VALID, "coverage": coverage, "seconds": 0.41}
    return Finding(check=check, title=title, summary=summary, **{**fields, **changes})  # type: ignore[arg-type]


def good_findings(*, linearizable: Finding | None = None) -> dict[str, Finding]:
    found = [
        linearizable
        or finding("linearizability", "Linearizable", "One order explains all 3,740 operations."),
        finding("durability", "Acknowledged writes kept", "All 1,849 acknowledged writes read."),
        finding(
            "convergence",
            "Replicas equal after healing",
            "All 200 keys are equal on their replicas.",
        ),
    ]
    return {each.check: each for each in found}


def stale_read() -> Finding:
    """What a quorum store may do: no promise broken."""
    return finding(
        "linearizability",
        "Linearizable",
        "3 of 200 keys have no order that agrees with real time.",
        verdict=Verdict.VIOLATED,
        promised=False,
        violations=3,
        witnesses=[
            Witness(
                words="Client c2 read k17 = v880 from n1 and n5, after c4's write of v902 had been "
                "acknowledged by n2 and n4 38 ms earlier; no write of v880 came in between.",
                key="k17",
                operations=[1391, 1402, 1404],
                at_ns=FAULT_AT + 131 * MS,
            )
        ],
    )


def crash_failover(leader: bool) -> Failover:
    times: list[tuple[str, int | None, str]] = (
        [
            ("detected", 171, "n1 started an election after 173 ms of silence"),
            ("elected", 198, "n1 is the leader of term 4 with the votes of n1, n2, n5"),
            ("first acknowledged write", 347, "c3:418 by n1, index 1,377"),
            ("back to 95 %", 600, "mean of the second before the fault: 339/s"),
        ]
        if leader
        else [
            ("detected", 84, "n5 suspected n3 after 82 ms of silence"),
            ("elected", None, ""),
            ("first acknowledged write", 9, "c1:402 by n2, n4"),
            ("back to 95 %", 100, "mean of the second before the fault: 340/s"),
        ]
    )
    return Failover(
        fault=1,
        words="kill the leader (n3)" if leader else "kill n3",
        steps=[
            FailoverStep(
                name,
                None if after is None else FAULT_AT + (after + 2) * MS,
                None if after is None else after * MS,
                detail,
            )
            for name, after, detail in times
        ],
        write_outage_ns=(347 if leader else 9) * MS,
        read_outage_ns=(347 if leader else 7) * MS,
        failed=14 if leader else 5,
        unknown=2 if leader else 4,
        redirected=96 if leader else 0,
        elections=1 if leader else 0,
        terms=1 if leader else 0,
        truncated_entries=3 if leader else 0,
        old_leader_returned_ns=HEALED_AT + 288 * MS if leader else None,
    )


def leader_roles() -> list[RolePeriod]:
    back = FAULT_AT + 200 * MS
    found = [
        RolePeriod("n3", 300 * MS, FAULT_AT, "leader", 3),
        RolePeriod("n3", FAULT_AT, HEALED_AT + 240 * MS, "down"),
        RolePeriod("n3", HEALED_AT + 240 * MS, SETTLE_END, "follower", 4),
        RolePeriod("n1", 200 * MS, FAULT_AT + 171 * MS, "follower", 3),
        RolePeriod("n1", FAULT_AT + 171 * MS, back, "candidate", 4),
        RolePeriod("n1", back, SETTLE_END, "leader", 4),
    ]
    for node in ("n2", "n4", "n5"):
        found.append(RolePeriod(node, 200 * MS, back, "follower", 3))
        found.append(RolePeriod(node, back, SETTLE_END, "follower", 4))
    return found


def replica_roles() -> list[RolePeriod]:
    found = [RolePeriod(node, 200 * MS, SETTLE_END, "replica") for node in NODES if node != "n3"]
    return [
        *found,
        RolePeriod("n3", 200 * MS, FAULT_AT, "replica"),
        RolePeriod("n3", FAULT_AT, HEALED_AT + 230 * MS, "down"),
        RolePeriod("n3", HEALED_AT + 230 * MS, SETTLE_END, "replica"),
    ]


def leader_crash() -> RunFindings:
    """A run that went as it should: 4,080 operations a side, the leader killed at 4 s."""
    leader = side(
        "leader",
        points(7, crash_of_a_leader),
        [kill_record("kill the leader (n3)")],
        findings=good_findings(),
        failovers=[crash_failover(leader=True)],
        roles=leader_roles(),
    )
    leaderless = side(
        "leaderless",
        points(7, crash_of_a_replica),
        [kill_record("kill n3")],
        findings=good_findings(linearizable=stale_read()),
        failovers=[crash_failover(leader=False)],
        roles=replica_roles(),
        conflicts=ConflictLedger(
            concurrent_writes=14,
            sibling_sets=6,
            sibling_count_max=2,
            resolved=6,
            read_repairs=117,
        ),
        convergence=ConvergenceReport(HEALED_AT, HEALED_AT + 1_940 * MS, 1_940 * MS, 200, 58),
    )
    for each, outage in ((leader, 347), (leaderless, 9)):
        for group in each.availability.values():
            group.longest_outage_ns = outage * MS
            group.outage_start_ns = FAULT_AT + 2 * MS
    return run(
        "leader-crash",
        "Leader crash",
        "How long does nobody get an answer when the node that leads dies?",
        {"leader": leader, "leaderless": leaderless},
        [
            ("leader", "linearizability is valid", Verdict.VALID, "valid"),
            ("leader", "failovers.0.write_outage_ms is below 1500", Verdict.VALID, "347"),
            ("leaderless", "failovers.0.write_outage_ms is below 1500", Verdict.VALID, "9"),
            ("leaderless", "durability is valid", Verdict.VALID, "valid"),
        ],
    )


def run(
    name: str,
    title: str,
    question: str,
    sides: dict[str, SideFindings],
    expected: list[tuple[str, str, Verdict, str]],
) -> RunFindings:
    results = [
        ExpectationResult(f"expect[{number}]", *each) for number, each in enumerate(expected, 1)
    ]
    verdicts = [each.verdict for each in results]
    return RunFindings(
        name=name,
        title=title,
        question=question,
        seed=7,
        started_unix_ns=1_795_470_903 * S,
        versions={"replication": "0.1.0", "python": "3.11.9", "grpcio": "1.76.0"},
        sides=sides,
        expectations=results,
        verdict=max(verdicts, key=list(Verdict).index, default=Verdict.UNKNOWN),
        again=f"uv run replication compare {name} --seed 7",
        folder=f"runs/20261123T215503Z-{name}-7",
    )


def partition_record() -> FaultRecord:
    return FaultRecord(
        number=1,
        kind="partition",
        words="cut n1, n3 (with the leader) off from n2, n4, n5",
        planned_ns=FAULT_AT,
        injected_ns=FAULT_AT + 3 * MS,
        healed_ns=HEALED_AT,
        nodes=["n1", "n3"],
        sides=[["n1", "n3", "c1", "c2"], ["n2", "n4", "n5", "c3", "c4", "c5"]],
        evidence=["4,812 messages between the sides were dropped"],
        effective=True,
    )


def minority_refused(rng: Random, at_ns: int, kind: str) -> tuple[str, float]:
    outcome, latency_ms = crash_of_a_leader(rng, at_ns, kind)
    if FAULT_AT <= at_ns < HEALED_AT and rng.random() < 0.4:
        return ("fail", 500.0) if kind == "get" else ("unknown", 500 + rng.random())
    return outcome, latency_ms


def both_sides_serve(rng: Random, at_ns: int, kind: str) -> tuple[str, float]:
    return "ok", rng.lognormvariate(0.3 if kind == "get" else 0.7, 0.4)


def with_groups(found: SideFindings, left: float, right: float) -> SideFindings:
    for part, ok_share in (("minority", left), ("majority", right)):
        name = f"writes of the {part} during fault 1"
        ok = round(900 * ok_share)
        outage_ns = 4 * S if ok == 0 else round((1 - ok_share) * 8 * S)
        found.availability[name] = Availability(
            name,
            ok=ok,
            fail=900 - ok,
            ok_share=ok_share,
            longest_outage_ns=outage_ns,
            outage_start_ns=FAULT_AT + 3 * MS if outage_ns else None,
        )
    return found


def split_writers(versions: str = "dvv") -> RunFindings:
    """A partition with clients on both sides; under ``lww`` writes vanish."""
    leader = side(
        "leader",
        points(11, minority_refused),
        [partition_record()],
        findings=good_findings(),
        failovers=[replace(crash_failover(leader=True), words=partition_record().words)],
        roles=[
            RolePeriod("n3", 0, FAULT_AT + 310 * MS, "leader", 3),
            RolePeriod("n3", FAULT_AT + 310 * MS, SETTLE_END, "follower", 4),
            *[each for each in leader_roles() if each.node != "n3"],
        ],
    )
    loses = versions == "lww"
    leaderless = side(
        "leaderless",
        points(11, both_sides_serve),
        [partition_record()],
        findings=good_findings(linearizable=stale_read()),
        failovers=[],
        roles=[RolePeriod(node, 0, SETTLE_END, "replica") for node in NODES],
        conflicts=split_conflicts(loses),
        convergence=ConvergenceReport(HEALED_AT, None, None, 40, 38, ["k4", "k11"]),
        settings={**DYNAMO_SETTINGS, "versions": versions, "quorum": {"n": 3, "r": 1, "w": 1}},
    )
    if loses:
        leaderless.findings["durability"] = lost_writes()
        leaderless.verdict = Verdict.VIOLATED
    return run(
        "split-writers",
        "Writers on both sides of a partition",
        "Who may go on writing when the network splits, and what becomes of what they wrote?",
        {
            "leader": with_groups(leader, 0.0, 0.962),
            "leaderless": with_groups(leaderless, 1.0, 0.99995),
        },
        [
            ("leader", "durability is valid", Verdict.VALID, "valid"),
            (
                "leaderless",
                "durability is valid",
                Verdict.VIOLATED if loses else Verdict.VALID,
                "violated" if loses else "valid",
            ),
            ("leaderless", "convergence.after_heal_ms is below 2000", Verdict.UNKNOWN, "missing"),
        ],
    )


def split_conflicts(loses: bool) -> ConflictLedger:
    conflicts = [
        Conflict(
            key=f"k{number}",
            at_ns=HEALED_AT + (31 + number * 7) * MS,
            node="n4",
            versions=[
                {
                    "write_id": f"c1:{400 + number}",
                    "dot": f"n1:{90 + number}",
                    "client": "c1",
                    "value": f"left-{number}",
                    "node": "n1",
                },
                {
                    "write_id": f"c4:{380 + number}",
                    "dot": f"n5:{71 + number}",
                    "client": "c4",
                    "value": f"right-{number}",
                    "node": "n5",
                    "outcome": "unknown" if number == 2 else "ok",
                    "tombstone": number == 3,
                },
            ],
            ended="dropped" if loses else "left as siblings",
            ended_at_ns=HEALED_AT + (32 + number * 7) * MS if loses else None,
        )
        for number in range(1, 7)
    ]
    vanished = [
        VanishedWrite(
            write_id=f"c1:{400 + number}",
            key=f"k{number}",
            value=f"left-{number}",
            client="c1",
            acknowledged_ns=HEALED_AT - 700 * MS + number * 31 * MS,
            acknowledged_by="n1",
            why="its timestamp is 212 ms older than that of a write it never saw",
            winner=f"c4:{380 + number}",
        )
        for number in range(1, 7)
    ]
    return ConflictLedger(
        concurrent_writes=76,
        sibling_sets=38,
        siblings_at_end=0 if loses else 38,
        sibling_count_max=2,
        dropped_by_timestamp=38 if loses else 0,
        read_repairs=44,
        vanished=vanished if loses else [],
        vanished_count=38 if loses else 0,
        conflicts=conflicts,
    )


def lost_writes() -> Finding:
    return finding(
        "durability",
        "Acknowledged writes kept",
        "38 of 1,902 acknowledged writes can be read nowhere and nobody overwrote them knowingly.",
        verdict=Verdict.VIOLATED,
        violations=38,
        witnesses=[
            Witness(
                words="n1 acknowledged c1:401 (k1 = left-1); after healing every replica of k1 "
                "holds right-1 of c4:381, whose writer had not read left-1.",
                key="k1",
                operations=[2401],
                at_ns=HEALED_AT - 669 * MS,
            )
        ],
    )


HOSTILE = "<script>alert(1)</script>&\"'\x1b[31m|`\u202e\ud800\x00"


def hostile() -> RunFindings:
    """A run in which every text that a scenario, client or node can choose is an attack."""
    found = split_writers("lww")
    found.name, found.title, found.question = HOSTILE, HOSTILE, HOSTILE
    for each in found.sides.values():
        each.title = each.promise = HOSTILE
        each.problems = [HOSTILE]
        each.settings = {HOSTILE: HOSTILE}
        each.faults[0].words = HOSTILE
        each.faults[0].evidence = [HOSTILE]
        each.roles[0].role = HOSTILE
        each.latency_points[0].kind = HOSTILE
        each.convergence.differing_at_end = [HOSTILE, "k" * 1024]
        for conflict in each.conflicts.conflicts:
            conflict.key = "k" * 1024
            conflict.versions[0].update(value=HOSTILE, dot=HOSTILE, write_id=HOSTILE, node=HOSTILE)
        for write in each.conflicts.vanished:
            write.key, write.value, write.why = HOSTILE, "v" * 100_000, HOSTILE
        for failover in each.failovers:
            failover.words = failover.steps[0].name = failover.steps[0].detail = HOSTILE
        for check in each.findings.values():
            check.title = check.summary = HOSTILE
            check.coverage.notes = [HOSTILE]
            for witness in check.witnesses:
                witness.words = witness.key = HOSTILE
    for expectation in found.expectations:
        expectation.words = expectation.observed = HOSTILE
    return found


def nothing_measured() -> RunFindings:
    """A run that was interrupted before its first operation."""
    empty = side(
        "leader",
        points(7, crash_of_a_leader),
        [],
        reads=Percentiles(),
        writes=Percentiles(),
        availability={"reads": Availability("reads"), "writes": Availability("writes")},
        convergence=ConvergenceReport(0, None, None),
        latency_points=[],
        operations={},
        throughput_per_s=0.0,
        messages_per_operation=None,
        bytes_per_operation=None,
        cpu_us_per_operation=None,
        staleness=Staleness(),
        fdatasync_ms_p50=None,
        fdatasync_ms_p99=None,
        interrupted=True,
        verdict=Verdict.UNKNOWN,
    )
    return run("steady", "Steady", "What does calm weather cost?", {"leader": empty}, [])
