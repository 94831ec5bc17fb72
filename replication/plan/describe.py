"""A plan in words, for whoever wants to know what exactly will be done."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields

from replication.plan.model import (
    BackendChoice,
    Expectation,
    FaultKind,
    PartitionShape,
    PlannedFault,
    Route,
)
from replication.plan.plan import Plan
from replication.plan.resolve import effect_words
from replication.plan.targets import ALL, Role, parse_target
from replication.plan.units import duration_text, shown
from replication.plan.workload import (
    ClosedArrival,
    ExplicitWorkload,
    Keys,
    OpenArrival,
    Pick,
    RegisterWorkload,
    Spacing,
)
from replication.protocol import Family


def describe(plan: Plan) -> list[str]:
    """Return the plan as sentences: the clusters, the work, every fault, what is expected."""
    sentences = [plan.question, _cluster(plan)]
    sentences += [
        f"{family.value.capitalize()} side: {_backend(plan.backends[family])}." for family in Family
    ]
    sentences += [_clients(plan), *_workload(plan)]
    sentences += [_levels(plan, family) for family in Family if _levels(plan, family)]
    sentences += [_fault(fault) for fault in plan.faults]
    sentences.append(
        f"At {duration_text(plan.timing.duration_ns)} the load ends: everything is healed, the "
        f"replicas have up to {duration_text(plan.timing.settle_ns)} to become equal, and every "
        "key is read back."
    )
    return sentences + [_expectation(each) for each in plan.expectations]


def _cluster(plan: Plan) -> str:
    size = len(plan.nodes)
    names = "one node, n1" if size == 1 else f"{size} nodes, n1 to {plan.nodes[-1]}"
    if plan.sync == "always":
        return f"Each side has {names}; a write is on disk before it counts."
    return f"Each side has {names}; writes are not synced to disk, power loss may take them."


def _backend(choice: BackendChoice) -> str:
    default = type(choice.settings)()
    changed = [
        f"{each.name.removesuffix('_ns')} = {_setting(each.name, value)}"
        for each in fields(choice.settings)
        if (value := getattr(choice.settings, each.name)) != getattr(default, each.name)
    ]
    return f"{choice.name} with {', '.join(changed)}" if changed else f"{choice.name} as it comes"


def _setting(name: str, value: object) -> str:
    if name.endswith("_ns") and isinstance(value, int):
        return duration_text(value)
    return shown(value)


def _clients(plan: Plan) -> str:
    beside = Counter(client.home for client in plan.clients)
    places = ", ".join(f"{beside[node]} beside {node}" for node in plan.nodes if beside[node])
    pinned = plan.clients[0].route is Route.PINNED
    route = "ask no other node" if pinned else "turn to another node when they must"
    return f"{_count(len(plan.clients), 'client')}: {places}. They {route}."


def _workload(plan: Plan) -> list[str]:
    work = plan.workload
    load = f"For {duration_text(plan.timing.duration_ns)}"
    if plan.timing.warmup_ns:
        load += f", of which no measure counts the first {duration_text(plan.timing.warmup_ns)},"
    if isinstance(work, ExplicitWorkload):
        return [f"{load} they do the {_count(len(work.listed), 'operation')} that are listed."]
    match work.arrival:
        case OpenArrival(rate_per_s=rate, spacing=spacing):
            gaps = "at random times (Poisson)" if spacing is Spacing.POISSON else "evenly spaced"
            load += f" they start {rate:g} operations a second in all, {gaps}, answered or not"
        case ClosedArrival(think_ns=think_ns):
            pause = f"{duration_text(think_ns)} after" if think_ns else "as soon as"
            load += f" each starts an operation {pause} its last one has ended"
    return [f"{load}: {_mix(work)} on {_keys(work.keys)}.", _writes(work)]


def _mix(work: RegisterWorkload) -> str:
    return ", ".join(f"{share * 100:g}% {kind}" for kind, share in work.mix)


def _keys(keys: Keys) -> str:
    text = _count(keys.count, "key")
    match keys.pick:
        case Pick.ZIPFIAN:
            return f"{text}, zipfian with theta = {keys.theta:g}, k0001 the hottest"
        case Pick.HOTSPOT:
            return (
                f"{text}, {keys.hot_operations * 100:g}% of it on the first "
                f"{keys.hot_keys * 100:g}% of them"
            )
    return f"{text}, all alike"


def _writes(work: RegisterWorkload) -> str:
    size = f"Every value is unique and has at least {work.value_bytes} bytes"
    if work.with_context:
        return f"{size}; a write carries the context of its client's last read of the key."
    return f"{size}; writes carry no context, as if nothing had been read."


def _levels(plan: Plan, family: Family) -> str:
    asked = [f"{kind} at {level}" for kind, level in plan.levels.get(family, {}).items()]
    if family is Family.LEADERLESS:
        asked += [
            f"{kind} with {_count(count, 'replica')}" for kind, count in plan.replica_counts.items()
        ]
    return (
        f"{family.value.capitalize()} side, asked explicitly: {', '.join(asked)}." if asked else ""
    )


def _fault(fault: PlannedFault) -> str:
    return f"At {duration_text(fault.at_ns)}: {_act(fault)}.{_other_side(fault)}"


def _act(fault: PlannedFault) -> str:
    end = "when the load ends" if fault.until_ns is None else f"at {duration_text(fault.until_ns)}"
    match fault.kind:
        case FaultKind.RESTART:
            return f"stop {_whom(fault)} in good order and start it again at once"
        case FaultKind.KILL:
            return f"kill {_whom(fault)} (SIGKILL); start it again {end}"
        case FaultKind.PAUSE:
            return f"pause {_whom(fault)} (SIGSTOP); let it go on {end}"
        case FaultKind.PARTITION:
            return f"cut {_sides(fault)}, clients with their node; heal {end}"
    links = (
        "every link between nodes"
        if fault.targets[Family.LEADER] == ALL
        else f"every link of {_whom(fault)} to other nodes"
    )
    return f"{effect_words(fault)} on {links}; stop that {end}"


def _sides(fault: PlannedFault) -> str:
    match fault.shape:
        case PartitionShape.ISOLATE:
            return f"{_whom(fault)} off from all others"
        case PartitionShape.MINORITY_WITH_LEADER:
            return f"{_whom(fault)} and the rest of a minority off from the majority"
        case PartitionShape.HALVES:
            return "the first half of the nodes off from the rest"
    listed = " | ".join(", ".join(side) for side in fault.sides)
    return f"the links between {listed} | whoever is not listed"


def _whom(fault: PlannedFault) -> str:
    text = fault.targets[Family.LEADER]
    if parse_target(text).role in (Role.FIRST_REPLICA, Role.COORDINATOR):
        return "the leader"
    return _target(text)


def _other_side(fault: PlannedFault) -> str:
    """Return a sentence on what the leaderless side gets, where that is not plain."""
    leader, leaderless = (fault.targets[family] for family in Family)
    if not fault.shared_target:
        return "" if leader == leaderless == ALL else f" Leaderless side: {_target(leaderless)}."
    role = parse_target(leader).role
    named = leader == ALL or role is Role.NODE
    return "" if named else " Leaderless side: the same node."


def _target(text: str) -> str:
    target = parse_target(text)
    match target.role:
        case Role.LEADER:
            return "the leader"
        case Role.FOLLOWER:
            return "a follower"
        case Role.RANDOM:
            return "a random node"
        case Role.FIRST_REPLICA | Role.COORDINATOR:
            return f"the {target.role} of {target.argument}"
    return "all nodes" if text == ALL else target.argument


def _expectation(expectation: Expectation) -> str:
    return f"Expected of the {expectation.side} side: {expectation_words(expectation)}."


def expectation_words(expectation: Expectation) -> str:
    """Return what is expected: "linearizability is valid"."""
    if expectation.check is not None:
        return f"{expectation.check} is {expectation.verdict}"
    bounds: Sequence[tuple[str, float | None]] = (
        ("above", expectation.above),
        ("below", expectation.below),
        ("equal to", expectation.equals),
    )
    measure = expectation.measure or ""
    texts = [f"{word} {_bound(measure, value)}" for word, value in bounds if value is not None]
    return f"{measure} is {' and '.join(texts)}"


def _bound(measure: str, value: float) -> str:
    return duration_text(round(value)) if measure.endswith("_ns") and value >= 0 else f"{value:g}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
