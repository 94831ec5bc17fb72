"""What the clients are asked to do: drawn from the seed, spread as the formulas say."""

import hashlib
import json
import subprocess
import sys
from collections import Counter
from itertools import islice, pairwise
from math import sqrt
from pathlib import Path

import pytest

from replication.history import OperationKind
from replication.plan import describe, read_scenario
from replication.plan.model import PlannedOperation, Update
from replication.plan.workload import (
    ClosedArrival,
    Keys,
    OpenArrival,
    Pick,
    RegisterWorkload,
    Spacing,
    UpdateWorkload,
)
from replication.protocol import Family
from tests.support.scenarios import find

ROOT = Path(__file__).resolve().parents[1]
SECOND_NS = 1_000_000_000
MIX = (
    (OperationKind.GET, 0.5),
    (OperationKind.PUT, 0.45),
    (OperationKind.DELETE, 0.05),
)


def workload(
    *,
    clients: int = 4,
    keys: Keys = Keys(20),  # noqa: B008 (frozen)
    arrival: OpenArrival | ClosedArrival = ClosedArrival(),  # noqa: B008 (frozen)
    value_bytes: int = 16,
) -> RegisterWorkload:
    return RegisterWorkload(MIX, keys, arrival, clients, value_bytes, with_context=True)


def take(
    work: RegisterWorkload, count: int, client: int = 0, seed: int = 1
) -> list[PlannedOperation]:
    return list(islice(work.operations(seed, client, 10 * SECOND_NS), count))


def what(operations: list[PlannedOperation]) -> list[tuple[str, str, str | None]]:
    return [(each.kind, each.key, each.value) for each in operations]


def test_the_same_seed_asks_for_the_same() -> None:
    assert take(workload(), 200) == take(workload(), 200)
    assert what(take(workload(), 200)) != what(take(workload(), 200, seed=2))
    assert what(take(workload(), 200)) != what(take(workload(), 200, client=1))


def test_neither_clients_nor_rate_nor_duration_move_what_a_client_does() -> None:
    alone = take(workload(), 100)
    crowd = take(workload(clients=9, arrival=OpenArrival(90.0)), 100)
    assert what(alone) == what(crowd)
    short = list(workload(arrival=OpenArrival(40.0)).operations(1, 0, 2 * SECOND_NS))
    long = list(workload(arrival=OpenArrival(40.0)).operations(1, 0, 5 * SECOND_NS))
    assert short == long[: len(short)]
    assert len(long) > len(short) > 0


def test_a_change_of_the_mix_does_not_move_the_keys() -> None:
    other = RegisterWorkload(
        ((OperationKind.PUT, 1.0),), Keys(20), ClosedArrival(), 4, 16, with_context=True
    )
    assert [each.key for each in take(other, 100)] == [each.key for each in take(workload(), 100)]


def test_the_first_operations_of_seed_1_are_these_for_ever() -> None:
    """A stored plan asks for the same years later: only ``random()`` is drawn from."""
    work = workload(arrival=OpenArrival(100.0), keys=Keys(50, Pick.ZIPFIAN))
    found = [(each.due_ns, each.kind.value, each.key) for each in take(work, 4)]
    assert found == GOLDEN


GOLDEN = [
    (38020451, "put", "k0002"),
    (97402053, "get", "k0001"),
    (156550750, "delete", "k0001"),
    (228592302, "get", "k0004"),
]


@pytest.mark.parametrize("hash_seed", ["0", "4711"])
def test_another_process_with_another_hash_seed_makes_the_same_plan(hash_seed: str) -> None:
    script = (
        "import sys; sys.path.insert(0, '.'); "
        "from tests.test_plan_workload import plan_digest; print(plan_digest())"
    )
    found = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={"PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == plan_digest()


def plan_digest() -> str:
    """Return a digest of everything that a plan decides, in its order."""
    from replication.plan import ClusterView, load_scenario, make_plan, resolve, schedule
    from replication.protocol import Family

    plan = make_plan(load_scenario("leader-crash", ['fault[1].target="random"']), seed=3)
    view = ClusterView(
        Family.LEADERLESS,
        plan.nodes,
        frozenset(plan.nodes),
        None,
        {client.name: client.home for client in plan.clients},
    )
    decided = [
        plan.to_json(),
        [repr(each) for client in plan.clients for each in plan.operations(client.name)],
        [repr(resolve(each, view, plan.fault_random(each))) for each in plan.faults],
        [repr(step) for step in schedule(plan, Family.LEADER)],
        plan.keys(),
    ]
    return hashlib.sha256(json.dumps(decided).encode()).hexdigest()


def test_sequences_have_no_gaps_and_values_are_unique() -> None:
    work = workload()
    operations = [each for client in range(4) for each in take(work, 300, client)]
    for client in range(4):
        mine = [each for each in operations if each.client == f"c{client + 1}"]
        assert [each.sequence for each in mine] == list(range(1, 301))
    values = [each.value for each in operations if each.kind is OperationKind.PUT]
    assert len(values) > 400
    assert len(set(values)) == len(values)
    assert {len(value or "") for value in values} == {16}


def test_values_say_who_wrote_them_and_are_never_cut() -> None:
    writes = [each for each in take(workload(value_bytes=12), 50) if each.value is not None]
    assert writes[0].value == f"c1-{writes[0].sequence}".ljust(12, ".")
    tiny = [each for each in take(workload(value_bytes=0), 50) if each.value is not None]
    assert tiny[0].value == f"c1-{tiny[0].sequence}"
    others = [each for each in take(workload(), 50) if each.kind is not OperationKind.PUT]
    assert all(each.value is None for each in others)


def assert_shares(found: Counter[str], expected: dict[str, float]) -> None:
    """Assert that every count is within 5 standard deviations of its expectation."""
    total = found.total()
    assert set(found) <= set(expected)
    for name, share in expected.items():
        deviation = sqrt(total * share * (1 - share))
        assert abs(found[name] - total * share) <= 5 * deviation + 1, name


def test_the_mix_is_as_asked() -> None:
    found = Counter(each.kind.value for each in take(workload(), 10_000))
    assert_shares(found, {kind.value: share for kind, share in MIX})


@pytest.mark.parametrize("theta", [0.0, 0.5, 0.99, 1.5])
def test_zipfian_keys_follow_the_formula(theta: float) -> None:
    keys = Keys(30, Pick.ZIPFIAN, theta)
    total = sum(1 / rank**theta for rank in range(1, 31))
    expected = {f"k{rank:04d}": 1 / rank**theta / total for rank in range(1, 31)}
    found = Counter(each.key for each in take(workload(keys=keys), 20_000))
    assert_shares(found, expected)


def test_uniform_keys_are_all_alike() -> None:
    found = Counter(each.key for each in take(workload(), 20_000))
    assert_shares(found, {f"k{rank:04d}": 1 / 20 for rank in range(1, 21)})


def test_a_hotspot_gets_its_share() -> None:
    keys = Keys(10, Pick.HOTSPOT, hot_keys=0.2, hot_operations=0.9)
    found = Counter(each.key for each in take(workload(keys=keys), 10_000))
    hot = dict.fromkeys(["k0001", "k0002"], 0.45)
    assert_shares(found, hot | {f"k{rank:04d}": 0.1 / 8 for rank in range(3, 11)})
    everything = Keys(3, Pick.HOTSPOT, hot_keys=1.0, hot_operations=0.5)
    found = Counter(each.key for each in take(workload(keys=everything), 3_000))
    assert_shares(found, {f"k{rank:04d}": 1 / 3 for rank in range(1, 4)})


def test_keys_are_named_by_rank() -> None:
    assert Keys(3).names() == ("k0001", "k0002", "k0003")
    assert Keys(10_000).names()[-1] == "k10000"


def dues(work: RegisterWorkload, client: int, seconds: int) -> list[int]:
    found = [each.due_ns for each in work.operations(7, client, seconds * SECOND_NS)]
    assert None not in found
    return [each for each in found if each is not None]


def test_an_open_loop_keeps_its_rate_over_all_clients() -> None:
    work = workload(clients=5, arrival=OpenArrival(400.0))
    times = sorted(due for client in range(5) for due in dues(work, client, 30))
    assert all(0 <= due < 30 * SECOND_NS for due in times)
    # 12,000 arrivals of a Poisson process: one standard deviation is 110.
    assert abs(len(times) - 12_000) < 5 * sqrt(12_000)


def test_poisson_gaps_are_exponential() -> None:
    """Their mean and their standard deviation are the same, and 37 % are longer than it."""
    times = dues(workload(clients=1, arrival=OpenArrival(200.0)), 0, 50)
    gaps = [later - sooner for sooner, later in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    deviation = sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps))
    assert mean == pytest.approx(SECOND_NS / 200, rel=0.05)
    assert deviation == pytest.approx(mean, rel=0.05)
    assert sum(gap > mean for gap in gaps) / len(gaps) == pytest.approx(0.3679, abs=0.02)


def test_constant_spacing_is_even_over_all_clients() -> None:
    work = workload(clients=4, arrival=OpenArrival(100.0, Spacing.CONSTANT))
    times = sorted(due for client in range(4) for due in dues(work, client, 2))
    assert times == [10_000_000 * turn for turn in range(200)]


def test_a_closed_loop_never_ends_and_has_no_times() -> None:
    assert [each.due_ns for each in take(workload(), 1_000)] == [None] * 1_000


def updates(update: Update = Update.ADD, share: float = 0.5, **more: object) -> UpdateWorkload:
    values = {"keys": Keys(5), "arrival": ClosedArrival(), "clients": 3, "value_bytes": 9, **more}
    return UpdateWorkload(update, share, **values)  # type: ignore[arg-type]


def test_an_update_is_a_read_and_the_write_that_builds_on_it() -> None:
    made = list(islice(updates().operations(1, 1, SECOND_NS), 200))
    assert [each.sequence for each in made] == list(range(1, 201)), "without gaps"
    writes = [each for each in made if each.update is not None]
    assert 50 < len(writes) < 80, "half of the rounds, two operations each"
    for write in writes:
        before = made[write.sequence - 2]
        assert (before.kind, before.key) == (OperationKind.GET, write.key)
        assert (write.kind, write.due_ns) == (OperationKind.PUT, None)
        assert write.value == f"c2-{write.sequence}", "the element names the write that adds it"
    kinds = {update: updates(update).kind for update in Update}
    assert kinds == {"replace": "register", "count": "counter", "add": "set", "append": "append"}


def test_the_open_loop_says_when_a_read_is_due_and_its_write_follows() -> None:
    work = updates(share=1.0, arrival=OpenArrival(30.0, Spacing.CONSTANT))
    made = list(work.operations(1, 0, SECOND_NS))
    assert [each.due_ns for each in made[::2]] == [number * SECOND_NS // 10 for number in range(10)]
    assert {each.due_ns for each in made[1::2]} == {None}


def test_latest_writes_in_turn_and_reads_what_was_written_last() -> None:
    keys = Keys(12, Pick.LATEST)
    work = RegisterWorkload(MIX[:2], keys, ClosedArrival(), 3, 4, with_context=True)
    made = take(work, 3000, client=1)
    written = [each.key for each in made if each.kind is OperationKind.PUT]
    assert written[:5] == ["k0002", "k0005", "k0008", "k0011", "k0002"], "every third one is ours"
    newest, near, reads = 1, 0, 0
    for each in made:
        if each.kind is OperationKind.PUT:
            newest += 3
        else:
            reads += 1
            distance = (newest - 1 - (int(each.key[1:]) - 1)) % 12
            near += distance < 3
    assert near > 0.5 * reads


YCSB = {
    "ycsb-a": {"get": 0.5, "put": 0.5},
    "ycsb-b": {"get": 0.95, "put": 0.05},
    "ycsb-c": {"get": 1.0},
    "ycsb-d": {"get": 0.95, "put": 0.05},
    "ycsb-f": {"get": 2 / 3, "compare-and-set": 1 / 3},
}


@pytest.mark.parametrize("kind", YCSB)
def test_ycsb_workloads_have_their_mix_and_their_keys(kind: str) -> None:
    work: dict[str, object] = {"kind": kind, "arrival": {"kind": "closed"}, "clients": 2}
    raw = {"title": "t", "question": "q", "workload": work}
    plan = read_scenario(raw, "y", "y.toml", find=find).plan
    made = list(islice(plan.operations("c1", Family.LEADER), 2000))
    found = Counter(each.kind.value for each in made)
    for name, share in YCSB[kind].items():
        assert abs(found[name] / 2000 - share) < 0.04
    assert set(found) == set(YCSB[kind])
    assert {len(each.value) for each in made if each.value is not None} <= {1000}
    there = list(islice(plan.operations("c1", Family.LEADERLESS), 2000))
    assert [each.key for each in there] == [each.key for each in made]
    assert all(each.kind is not OperationKind.COMPARE_AND_SET for each in there)
    (told,) = [line for line in describe(plan) if "keys" in line and line.startswith("For ")]
    assert ("written in turn" if kind == "ycsb-d" else "zipfian") in told
