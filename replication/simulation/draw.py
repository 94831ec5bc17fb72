"""Drawing a scenario within the limits of ``[swarm]``: one for each seed.

The result is an ordinary scenario as tables, with explicit times, so that it can be written to a
file, replayed by ``simulate``, and (as far as real machines can be treated so) run by ``compare``.
Every topic has its own stream: a new kind of fault does not move the workload.
"""

from collections.abc import Mapping
from random import Random
from typing import Any

from replication.errors import ConfigError
from replication.plan.streams import stream
from replication.plan.swarm import Choices, SwarmTable
from replication.plan.units import duration_text
from replication.simulation.tables import read_tables

Tables = dict[str, Any]

MACHINE_KINDS = (
    *("wipe", "power-loss", "clock-jump", "clock-drift"),
    *("slow-disk", "stalled-disk", "full-disk"),
)
MILLISECOND_NS = 1_000_000
JOINS_MAX = 2
LEAVES_MAX = 1  # of three members two are left
REPLACE = "replace"
REPLACED_SHARE = 0.25  # of the seeds have a node replaced: one, since its disk is lost
CHANGES_MAX = {"join": JOINS_MAX, "leave": LEAVES_MAX}
MOMENTARY_KINDS = ("restart", "transfer", "join", "leave")
WIPE_GAP_NS = 500 * MILLISECOND_NS  # between wipes: what a wiped node lacks must be sent again


def draw_scenario(raw: Mapping[str, Any], name: str, seed: int) -> Tables:
    """Return the scenario of ``seed`` within the limits that ``raw`` states.

    What ``[swarm]`` does not draw (routes, consistency levels, backends, the mix of operations) is
    as the scenario has it. Raises ConfigError when its tables are wrong.
    """
    document = read_tables(raw, name)
    if document.workload.kind == "explicit":
        words = 'operations that are listed cannot be drawn, expected "register"'
        raise ConfigError([f"{name}: workload.kind: {words}"])
    limits = document.swarm
    cluster = stream(seed, "swarm", "cluster")
    duration_ns = _between(cluster, limits.duration)
    nodes = limits.nodes[int(cluster.random() * len(limits.nodes))]
    drawn: Tables = {
        "title": f"{raw.get('title', name)} (seed {seed})",
        "question": raw.get("question", "Does anything break?"),
        "run": {**raw.get("run", {}), "warmup": "0s", "seed": seed},
        "cluster": {**raw.get("cluster", {}), "nodes": nodes},
        "workload": {
            **_workload(raw, limits, stream(seed, "swarm", "workload")),
            **_chosen(limits.workload, stream(seed, "swarm", "workload", "choices")),
        },
        "simulation": _room(raw, limits, stream(seed, "swarm", "room")),
        "fault": [],
    }
    drawn["run"]["duration"] = duration_text(_whole_ms(duration_ns))
    for family in ("leader", "leaderless"):
        settings = _settings(raw, limits, family, stream(seed, "swarm", "settings", family))
        if settings:
            drawn[family] = settings
    spares = JOINS_MAX * ("join" in limits.fault_kinds)
    if spares:
        drawn["cluster"]["spares"] = spares
    _faults(drawn, limits, nodes, _whole_ms(duration_ns), stream(seed, "swarm", "faults"))
    if REPLACE in limits.fault_kinds:
        _replace(drawn, _whole_ms(duration_ns), stream(seed, "swarm", REPLACE))
    return drawn


def _between(rng: Random, bounds: list[int]) -> int:
    low, high = bounds
    return low + int(rng.random() * (high - low + 1))


def _whole_ms(duration_ns: int) -> int:
    return max(1, duration_ns // MILLISECOND_NS) * MILLISECOND_NS


def _ms_text(duration_ns: float) -> str:
    return duration_text(_whole_ms(int(duration_ns)))


def _workload(raw: Mapping[str, Any], limits: SwarmTable, rng: Random) -> Tables:
    low, high = limits.rate
    return {
        **raw.get("workload", {}),
        "clients": _between(rng, limits.clients),
        "keys": {"count": _between(rng, limits.keys)},
        "arrival": {"kind": "open", "rate": f"{round(low + rng.random() * (high - low))}/s"},
    }


def _room(raw: Mapping[str, Any], limits: SwarmTable, rng: Random) -> Tables:
    """Each kind of disorder is there in half of the seeds, so that its absence is seen as well."""
    given = raw.get("simulation", {})
    network = dict(given.get("network", {}))
    for kind, most in (
        ("loss", limits.loss),
        ("duplicate", limits.duplicate),
        ("reorder", limits.reorder),
    ):
        wanted, amount = rng.random() < 0.5, rng.random()
        if wanted and most:
            network[kind] = round(most * amount, 4)
    clock = dict(given.get("clock", {}))
    if rng.random() < 0.5 and limits.clock_offset:
        clock["offset"] = _ms_text(limits.clock_offset * rng.random())
    if rng.random() < 0.5 and limits.clock_drift_ppm:
        clock["drift_ppm"] = int(limits.clock_drift_ppm * rng.random())
    return {**given, "network": network, "clock": clock}


def _settings(raw: Mapping[str, Any], limits: SwarmTable, family: str, rng: Random) -> Tables:
    settings = {name: dict(table) for name, table in raw.get(family, {}).items()}
    for backend, choices in getattr(limits, family).items():
        settings[backend] = {**settings.get(backend, {}), **_chosen(choices, rng)}
    return settings


def _chosen(choices: Choices, rng: Random) -> Tables:
    return {key: values[int(rng.random() * len(values))] for key, values in choices.items()}


def _faults(drawn: Tables, limits: SwarmTable, nodes: int, duration_ns: int, rng: Random) -> None:
    wiped_until_ns = -WIPE_GAP_NS
    found: list[tuple[int, Tables]] = []
    kinds = [kind for kind in limits.fault_kinds if kind != REPLACE]
    for _ in range(_between(rng, limits.faults) if kinds else 0):
        at_ns = _whole_ms(int(rng.random() * duration_ns * 0.9))
        length_ns = _whole_ms(_between(rng, limits.fault_length))
        until_ns = min(at_ns + length_ns, duration_ns)
        kind = kinds[int(rng.random() * len(kinds))]
        table: Tables = {"kind": kind, "at": _ms_text(at_ns)}
        if kind not in MOMENTARY_KINDS:
            table["for"] = _ms_text(until_ns - at_ns)
        if kind in MACHINE_KINDS:
            table["target"] = f"n{1 + int(rng.random() * nodes)}"
            _machine_fault(table, limits, rng)
        else:
            _plan_fault(table, limits, nodes, rng)
        if kind == "wipe":
            # Two disks wiped at once are more than three replicas promise to survive.
            if at_ns < wiped_until_ns + WIPE_GAP_NS:
                continue
            wiped_until_ns = max(wiped_until_ns, until_ns)
        changes = sum(each["kind"] == kind for _, each in found)
        if changes == CHANGES_MAX.get(kind):
            continue
        found.append((at_ns, table))
    drawn["fault"] += [table for _, table in sorted(found, key=lambda each: each[0])]


def _replace(drawn: Tables, duration_ns: int, rng: Random) -> None:
    """Let a node be replaced in some seeds. The other faults of a seed stay what they are."""
    wanted, moment, choice = rng.random(), rng.random(), rng.random()
    if wanted >= REPLACED_SHARE and drawn["fault"]:
        return
    drawn["cluster"]["spares"] = drawn["cluster"].get("spares", 0) + 1
    target = "leader" if choice < 0.4 else "follower"
    at = _ms_text(moment * duration_ns * 0.9)
    drawn["fault"].append({"kind": REPLACE, "at": at, "target": target})


def _machine_fault(table: Tables, limits: SwarmTable, rng: Random) -> None:
    amount, sign = rng.random(), "" if rng.random() >= 0.5 else "-"
    match table["kind"]:
        case "clock-jump":
            table.update(kind="clock", offset=sign + _ms_text(limits.clock_jump * amount))
        case "clock-drift":
            ppm = int(limits.clock_drift_ppm * amount) or 1
            # The sign of a drift is drawn the other way round; old seeds stay what they were.
            table.update(kind="clock", drift_ppm=ppm if sign else -ppm)
        case "slow-disk":
            table.update(kind="disk", effect="slow", delay=_ms_text(limits.slow_disk * amount))
        case "stalled-disk":
            table.update(kind="disk", effect="stall")
        case "full-disk":
            table.update(kind="disk", effect="full")
        case "power-loss":
            table.update(kind="disk", effect="lose-unsynced", torn=True)


def _plan_fault(table: Tables, limits: SwarmTable, nodes: int, rng: Random) -> None:
    choice, amount, other = rng.random(), rng.random(), rng.random()
    # Leaders are struck more often than their share: most of what may break hangs on them.
    target = "leader" if choice < 0.4 else f"n{1 + int(other * nodes)}"
    match table["kind"]:
        case "partition":
            shapes = ["isolate", "halves"]
            if nodes >= 3:
                shapes.append("minority-with-leader")
            table["shape"] = shapes[int(amount * len(shapes))]
            if table["shape"] != "halves":
                table["target"] = target
        case "delay":
            table["target"] = "all" if choice > 0.8 else target
            table["delay"] = _ms_text(limits.fault_delay * amount)
            table["jitter"] = _ms_text(limits.fault_delay * other)
        case "loss":
            table["target"] = "all" if choice > 0.8 else target
            table["loss"] = max(0.01, round(limits.fault_loss * amount, 3))
        case "jitter":
            table.update(target=target, jitter=_ms_text(limits.fault_delay * amount))
        case "duplicate" | "reorder" as kind:
            hold = _ms_text(limits.fault_delay * other)
            table.update({"target": target, kind: max(0.01, round(amount, 3)), "hold": hold})
        case "bandwidth":
            # From what a heartbeat needs to what a busy link carries.
            table.update(target=target, bandwidth=f"{round(4 * 1000**amount)}KB/s")
        case "one-way":
            direction = "inbound" if amount < 0.5 else "outbound"
            table.update(kind="partition", shape="one-way", target=target, direction=direction)
        case "bridge":
            table.update(kind="partition", shape="bridge", target=target)
        case "join":
            pass  # whichever spare is next
        case "leave":
            table["target"] = "leader" if choice < 0.4 else "follower"
        case "transfer":
            if choice < 0.5:
                table["target"] = "follower"
        case "majorities-ring":
            table.update(kind="partition", shape="majorities-ring")
        case _:
            table["target"] = target
