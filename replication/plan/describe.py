"""A plan in words, for whoever wants to know what exactly will be done."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from itertools import combinations

from replication.history import OperationKind
from replication.plan.measures import measure_words
from replication.plan.model import (
    BackendChoice,
    Direction,
    Expectation,
    FaultKind,
    PartitionShape,
    PlannedFault,
    Route,
    Update,
)
from replication.plan.plan import Plan
from replication.plan.regions import places, round_trip_ns
from replication.plan.resolve import deed_words, effect_words, link_ends
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
    UpdateWorkload,
)
from replication.protocol import Family


def describe(plan: Plan) -> list[str]:
    """Return the plan as sentences: the clusters, the work, every fault, what is expected."""
    sentences = [plan.question, _cluster(plan), *_regions(plan)]
    sentences += [
        f"{family.value.capitalize()} side: {_backend(plan.backends[family])}."
        for family in plan.families
    ]
    sentences += [_clients(plan), *_workload(plan)]
    sentences += [_levels(plan, family) for family in plan.families if _levels(plan, family)]
    sentences += [_fault(fault) for fault in plan.faults] + _warnings(plan)
    sentences.append(
        f"At {duration_text(plan.timing.duration_ns)} the load ends: everything is healed, the "
        f"replicas have up to {duration_text(plan.timing.settle_ns)} to become equal, and every "
        "key is read back."
    )
    return sentences + [_expectation(each) for each in plan.expectations]


def _cluster(plan: Plan) -> str:
    size = len(plan.nodes)
    names = "one node, n1" if size == 1 else f"{size} nodes, n1 to {plan.nodes[-1]}"
    if plan.spares:
        names += f", and to spare {', '.join(plan.spares)}"
    whose = "Each side has"
    if len(plan.families) == 1:
        whose = f"Only the {plan.families[0].value} side is run: it has"
    if plan.sync == "always":
        return f"{whose} {names}; a write is on disk before it counts."
    return f"{whose} {names}; writes are not synced to disk, power loss may take them."


def _regions(plan: Plan) -> list[str]:
    if not plan.regions:
        return []
    region = places(plan.regions, plan.nodes, {})
    named = list(dict.fromkeys(region.values()))
    homes = [f"{each} ({', '.join(n for n in plan.nodes if region[n] == each)})" for each in named]
    trips = [
        f"{one} to {other} {duration_text(round_trip_ns(one, other))}"
        for one, other in combinations(named, 2)
    ]
    text = f"They are in {', '.join(homes)}, each client in the region of its node."
    return [f"{text} Round trips: {', '.join(trips)}." if trips else text]


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


_ROUTES = {
    Route.FOLLOW: "turn to another node when they must",
    Route.PINNED: "ask no other node",
    Route.READS_AT_HOME: "read there, and turn to another node when they must",
}


def _clients(plan: Plan) -> str:
    beside = Counter(client.home for client in plan.clients)
    places = ", ".join(f"{beside[node]} beside {node}" for node in plan.nodes if beside[node])
    route = _ROUTES[plan.clients[0].route]
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
    if isinstance(work, UpdateWorkload):
        reads = f"{(1 - work.updates) * 100:g}% get, {work.updates * 100:g}% {work.update.value}"
        return [f"{load}: {reads} on {_keys(work.keys)}.", _updates(plan, work.update)]
    return [f"{load}: {_mix(work)} on {_keys(work.keys)}.", _writes(work)]


def _mix(work: RegisterWorkload) -> str:
    return ", ".join(f"{share * 100:g}% {kind}" for kind, share in work.mix)


def _keys(keys: Keys) -> str:
    text = _count(keys.count, "key")
    match keys.pick:
        case Pick.ZIPFIAN:
            return f"{text}, zipfian with theta = {keys.theta:g}, k0001 the hottest"
        case Pick.LATEST:
            return f"{text}, written in turn and read the sooner the later written"
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


_APPLIED = "an update that the replicas merge by themselves, without the read,"


def _updates(plan: Plan, update: Update) -> str:
    what = {
        Update.REPLACE: "write a new value",
        Update.COUNT: "write the greatest number found and one more",
        Update.ADD: "write every element found and one more",
        Update.APPEND: "write the list found with one element more at its end",
    }[update]
    ways = {
        OperationKind.PUT: "a put with the context of the read",
        OperationKind.COMPARE_AND_SET: "a compare-and-set, which fails when the key has changed",
    }
    kinds = [plan.update_kinds.get(family, OperationKind.PUT) for family in Family]
    sides = " and ".join(
        f"{_APPLIED if family in plan.updates_applied else ways[kind]} on the {family.value} side"
        for family, kind in zip(Family, kinds, strict=True)
    )
    if kinds[0] is kinds[1] and not plan.updates_applied:
        sides = f"{ways[kinds[0]]}"
    return f"To {update.value} is to read the key and {what}: {sides}."


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
    whom, it = _whom(fault), "them" if _is_plural(_text(fault)) else "it"
    match fault.kind:
        case FaultKind.RESTART:
            return f"stop {whom} in good order and start {it} again at once"
        case FaultKind.KILL:
            return f"kill {whom} (SIGKILL); start {it} again {end}"
        case FaultKind.PAUSE:
            return f"pause {whom} (SIGSTOP); let {it} go on {end}"
        case FaultKind.WIPE:
            return f"kill {whom} and wipe the disk; start {it} again, with nothing, {end}"
        case FaultKind.TRANSFER:
            return deed_words(fault, "" if _text(fault) == ALL else whom)
        case FaultKind.JOIN:
            return f"start the spare node {whom} and {deed_words(fault, 'it')}"
        case FaultKind.LEAVE | FaultKind.REPLACE:
            return deed_words(fault, whom)
        case FaultKind.CLOCK:
            return f"{deed_words(fault, whom)}; right again {end}"
        case FaultKind.DISK if fault.takes_down:
            return f"{deed_words(fault, whom)}; start {it} again {end}"
        case FaultKind.DISK:
            return f"{deed_words(fault, whom)}; stop that {end}"
        case FaultKind.PARTITION:
            return f"{_cut(fault)}, clients with their node; heal {end}"
    links = "every link between nodes"
    if _text(fault) != ALL:
        links = f"every link of {whom} to {link_ends(parse_target(_text(fault)).arguments)}"
    return f"{effect_words(fault)} on {links}; stop that {end}"


def _cut(fault: PlannedFault) -> str:
    match fault.shape:
        case PartitionShape.ISOLATE:
            return f"cut {_whom(fault)} off from all others"
        case PartitionShape.MINORITY_WITH_LEADER:
            return f"cut {_whom(fault)} and the rest of a minority off from the majority"
        case PartitionShape.HALVES:
            return "cut the first half of the nodes off from the rest"
        case PartitionShape.ONE_WAY if fault.direction is Direction.INBOUND:
            return f"cut what {_whom(fault)} would hear, and not what it sends"
        case PartitionShape.ONE_WAY:
            return f"cut what {_whom(fault)} sends, and not what it hears"
        case PartitionShape.BRIDGE:
            middle = "one node in the middle" if _text(fault) == ALL else _whom(fault)
            return f"cut the nodes into two halves that only {middle} reaches"
        case PartitionShape.MAJORITIES_RING:
            return "let every node hear a majority of the nodes, no two the same"
    listed = " | ".join(", ".join(side) for side in fault.sides)
    return f"cut the links between {listed} | whoever is not listed"


def _text(fault: PlannedFault) -> str:
    """Return the target of the side that has it first."""
    return next(iter(fault.targets.values()))


def _whom(fault: PlannedFault) -> str:
    if parse_target(_text(fault)).key is not None and Family.LEADER in fault.targets:
        return "the leader"
    return _target(_text(fault))


def _other_side(fault: PlannedFault) -> str:
    """Return a sentence on what the other side gets, where that is not plain."""
    if len(fault.targets) == 1:
        (family,) = fault.targets
        return f" {family.value.capitalize()} side only."
    leader, leaderless = (fault.targets[family] for family in Family)
    if not fault.shared_target:
        return "" if leader == leaderless == ALL else f" Leaderless side: {_target(leaderless)}."
    if parse_target(leader).role in (Role.ALL, Role.NAMED):
        return ""
    return f" Leaderless side: the same node{'s' if _is_plural(leader) else ''}."


def _is_plural(text: str) -> bool:
    target = parse_target(text)
    return len(target.arguments) > 1 or target.role in (Role.ALL, Role.MINORITY)


def _target(text: str) -> str:
    target = parse_target(text)
    match target.role:
        case Role.LEADER:
            return "the leader"
        case Role.FOLLOWER:
            return "a follower"
        case Role.RANDOM:
            return "a random node"
        case Role.MINORITY:
            return "a minority with the leader"
        case Role.ALL:
            return "all nodes"
        case Role.FIRST_REPLICA | Role.COORDINATOR:
            return f"the {target.role} of {target.key}"
    return ", ".join(target.arguments)


def _warnings(plan: Plan) -> list[str]:
    """Return what a reader of the plan should know before it is carried out."""
    wiped = [
        fault
        for fault in plan.faults
        if fault.kind is FaultKind.WIPE and Family.LEADER in fault.targets
    ]
    sizes = {Role.ALL: len(plan.nodes), Role.MINORITY: (len(plan.nodes) - 1) // 2}
    warnings = []
    for fault in wiped:
        target = parse_target(fault.targets[Family.LEADER])
        count = len(target.arguments) or sizes.get(target.role, 1)
        if 2 * count > len(plan.nodes):
            warnings.append(
                f"Careful: fault {fault.number} wipes {count} of {len(plan.nodes)} nodes. What a "
                "majority has forgotten was never promised to survive."
            )
    return warnings


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
    return f"{measure_words(measure)} is {' and '.join(texts)}"


def _bound(measure: str, value: float) -> str:
    unit_ns = 1 if measure.endswith("_ns") else 1e6 if measure.endswith("_ms") else 0
    if unit_ns and value >= 0:
        return duration_text(round(value * unit_ns))
    return f"{value:,.0f}" if value == round(value) else f"{value:g}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
