"""Plans as a whole: from files and overrides, through JSON and back, as a schedule, in words."""

import json
import pickle
import tomllib
from functools import cache
from pathlib import Path

import pytest

from replication.errors import ConfigError
from replication.history import OperationKind
from replication.plan import (
    Plan,
    Route,
    describe,
    find_backend,
    json_schema,
    load_scenario,
    make_plan,
    read_plan,
    read_scenario,
    schedule,
)
from replication.protocol import Family

find = cache(find_backend)

SCENARIO = """
title = "A bit of everything"
question = "Does it all arrive?"
[run]
duration = "6s"
warmup = "500ms"
seed = 11
[cluster]
sync = "off"
[leader.raft]
heartbeat = "20ms"
[leaderless.dynamo]
versions = "lww"
[workload]
clients = 7
placement = ["n2", "n4"]
route = "pinned"
keys = { count = 10, pick = "hotspot", hot_keys = 0.3 }
arrival = { kind = "closed", think = "5ms" }
context = false
consistency = { leader = { get = "local" } }
replicas = { get = 1, put = 3 }
[[fault]]
kind = "loss"
at = "3s"
loss = 0.1
target = "all"
[[fault]]
kind = "pause"
at = "1s"
until = "3s"
target = "coordinator-of:k0001"
[[fault]]
kind = "restart"
at = "3s"
target = "follower"
[[fault]]
kind = "partition"
at = "4s"
for = "1s"
sides = [["n1"], ["n2", "n3"]]
[[fault]]
kind = "delay"
at = "4500ms"
delay = "10ms"
jitter = "5ms"
target = { leader = "leader", leaderless = "random" }
[[expect]]
check = "durability"
[[expect]]
side = "leader"
measure = "failovers.0.write_outage_ns"
below = "1.5s"
above = 10
[[expect]]
side = "leaderless"
check = "durability"
verdict = "violated"
when = { leaderless.dynamo.versions = "lww", leader.raft.heartbeat = "0.02s" }
[[expect]]
side = "leaderless"
check = "conflicts"
when = { leaderless.dynamo.versions = "dvv" }
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "everything.toml"
    path.write_text(SCENARIO)
    return path


def planned(path: Path, *overrides: str) -> Plan:
    return make_plan(load_scenario(path, overrides, find=find))


def test_a_scenario_arrives_in_the_plan(path: Path) -> None:
    plan = planned(path)
    assert (plan.name, plan.seed, plan.sync) == ("everything", 11, "off")
    assert plan.timing.duration_ns == 6_000_000_000
    assert [client.home for client in plan.clients] == ["n2", "n4", "n2", "n4", "n2", "n4", "n2"]
    assert {client.route for client in plan.clients} == {Route.PINNED}
    assert {client.think_ns for client in plan.clients} == {5_000_000}
    assert plan.backends[Family.LEADER].path == "leader.raft:backend"
    assert plan.backends[Family.LEADER].settings.heartbeat_ns == 20_000_000
    assert plan.backends[Family.LEADERLESS].settings.versions == "lww"
    assert plan.keys() == tuple(f"k{rank:04d}" for rank in range(1, 11))


def test_faults_are_numbered_in_order_of_time(path: Path) -> None:
    faults = planned(path).faults
    assert [(each.number, each.kind.value, each.at_ns // 1_000_000) for each in faults] == [
        (1, "pause", 1000),
        (2, "loss", 3000),
        (3, "restart", 3000),
        (4, "partition", 4000),
        (5, "delay", 4500),
    ]
    assert faults[3].until_ns == 5_000_000_000
    assert faults[1].until_ns is None
    # A replica of a key is no role of a leader cluster: each side is resolved by itself.
    assert [each.shared_target for each in faults] == [False, True, True, True, False]


def test_the_schedule_heals_before_it_injects_and_heals_everything(path: Path) -> None:
    steps = [
        (step.at_ns // 1_000_000, step.action.value, step.fault.number)
        for step in schedule(planned(path), Family.LEADER)
    ]
    assert steps == [
        (1000, "inject", 1),
        (3000, "heal", 1),
        (3000, "inject", 2),
        (3000, "inject", 3),
        (4000, "inject", 4),
        (4500, "inject", 5),
        (5000, "heal", 4),
        (6000, "heal", 2),
        (6000, "heal", 5),
    ]


def test_levels_are_asked_for_on_the_side_that_has_them(path: Path) -> None:
    plan = planned(path)
    assert plan.consistency(Family.LEADER, OperationKind.GET) == "local"
    assert plan.consistency(Family.LEADERLESS, OperationKind.GET) is None
    assert plan.replicas(Family.LEADERLESS, OperationKind.PUT) == 3
    assert plan.replicas(Family.LEADER, OperationKind.PUT) == 0

    def asked(family: Family | None) -> set[tuple[str, str | None, int, bool]]:
        operations = plan.operations("c1", family)
        return {
            (each.kind.value, each.consistency, each.replicas, each.with_context)
            for _, each in zip(range(100), operations, strict=False)
        }

    assert asked(Family.LEADER) == {("get", "local", 0, False), ("put", None, 0, False)}
    assert asked(Family.LEADERLESS) == {("get", None, 1, False), ("put", None, 3, False)}
    assert asked(None) == {("get", None, 0, False), ("put", None, 0, False)}


def test_a_name_that_is_no_client_is_refused(path: Path) -> None:
    with pytest.raises(ValueError, match="c8"):
        planned(path).operations("c8")


def test_expectations_apply_where_their_settings_do(path: Path) -> None:
    found = [
        (each.place, each.side.value, each.check or each.measure, each.verdict, each.below)
        for each in planned(path).expectations
    ]
    assert found == [
        ("expect[1]", "leader", "durability", "valid", None),
        ("expect[1]", "leaderless", "durability", "valid", None),
        ("expect[2]", "leader", "failovers.0.write_outage_ns", None, 1_500_000_000),
        ("expect[3]", "leaderless", "durability", "violated", None),
    ]
    other = planned(path, "leaderless.dynamo.versions=dvv").expectations
    assert [each.place for each in other] == ["expect[1]", "expect[1]", "expect[2]", "expect[4]"]
    slow = planned(path, "leader.raft.heartbeat=50ms").expectations
    assert [each.place for each in slow] == ["expect[1]", "expect[1]", "expect[2]"]


def test_a_plan_survives_json_and_pickle(path: Path) -> None:
    plan = make_plan(load_scenario(path, ["leaderless.dynamo.w=1"], find=find), seed=5)
    record = json.loads(json.dumps(plan.to_json({"replication": "0.1.0"})))
    assert record["versions"] == {"replication": "0.1.0"}
    assert record["backends"]["leaderless"]["settings"]["w"] == 1
    again = Plan.from_json(record, find)
    assert again == plan
    assert again.seed == 5
    assert pickle.loads(pickle.dumps(plan)) == plan


def test_a_plan_is_read_from_its_file(path: Path, tmp_path: Path) -> None:
    plan = planned(path)
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(plan.to_json()))
    assert read_plan(file, find=find) == plan


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "plan.json: Expecting property name"),
        ("[]", "plan.json: expected a JSON object"),
        ("{}", "plan.json: format is None, expected 1"),
        ('{"format": 1, "name": "x", "seed": 1}', "plan.json: scenario is missing"),
        (
            '{"format": 1, "name": "x", "seed": -1, "scenario": {}}',
            "plan.json: seed is -1, expected a whole number from 0",
        ),
        (
            '{"format": 1, "name": "x", "seed": 1, "scenario": []}',
            "plan.json: scenario is no table",
        ),
    ],
)
def test_what_is_no_plan_is_refused_in_words(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_plan(file, find=find)
    assert words in str(caught.value)


def test_the_seed_of_the_scenario_is_the_default(path: Path) -> None:
    scenario = load_scenario(path, find=find)
    assert make_plan(scenario).seed == 11
    assert make_plan(scenario, seed=0).seed == 0
    with pytest.raises(ValueError, match="seed is -1"):
        make_plan(scenario, seed=-1)


EXPLICIT = """
title = "A failure, shrunk"
question = "Is it still there?"
[run]
duration = "2s"
warmup = "0s"
[workload]
kind = "explicit"
clients = 2
[[workload.operation]]
client = "c2"
at = "100ms"
kind = "put"
key = "b"
value = "1"
[[workload.operation]]
client = "c1"
kind = "compare-and-set"
key = "a"
value = "2"
expected = "1"
[[workload.operation]]
client = "c2"
at = "100ms"
kind = "get"
key = "b"
"""


def test_listed_operations_are_done_as_listed(tmp_path: Path) -> None:
    path = tmp_path / "shrunk.toml"
    path.write_text(EXPLICIT)
    plan = planned(path)
    assert plan.keys() == ("a", "b")
    second = list(plan.operations("c2"))
    assert [(each.sequence, each.due_ns, each.kind.value, each.value) for each in second] == [
        (1, 100_000_000, "put", "1"),
        (2, 100_000_000, "get", None),
    ]
    (first,) = plan.operations("c1")
    assert (first.due_ns, first.expected, first.value) == (None, "1", "2")
    assert Plan.from_json(json.loads(json.dumps(plan.to_json())), find) == plan


def test_a_plan_can_be_told_in_words(path: Path) -> None:
    assert describe(planned(path)) == [
        "Does it all arrive?",
        "Each side has 5 nodes, n1 to n5; writes are not synced to disk, power loss may take them.",
        "Leader side: raft with heartbeat = 20ms.",
        'Leaderless side: dynamo with versions = "lww".',
        "7 clients: 4 beside n2, 3 beside n4. They ask no other node.",
        "For 6s, of which no measure counts the first 500ms, each starts an operation 5ms after "
        "its last one has ended: 50% get, 50% put on 10 keys, 80% of it on the first 30% of them.",
        "Every value is unique and has at least 64 bytes; writes carry no context, as if nothing "
        "had been read.",
        "Leader side, asked explicitly: get at local.",
        "Leaderless side, asked explicitly: get with 1 replica, put with 3 replicas.",
        "At 1s: pause the leader (SIGSTOP); let it go on at 3s. "
        "Leaderless side: the coordinator of k0001.",
        "At 3s: lose 10% of the messages on every link between nodes; "
        "stop that when the load ends.",
        "At 3s: stop a follower in good order and start it again at once. "
        "Leaderless side: the same node.",
        "At 4s: cut the links between n1 | n2, n3 | whoever is not listed, "
        "clients with their node; heal at 5s.",
        "At 4.5s: delay messages by 10ms to 15ms on every link of the leader to other nodes; "
        "stop that when the load ends. Leaderless side: a random node.",
        "At 6s the load ends: everything is healed, the replicas have up to 5s to become equal, "
        "and every key is read back.",
        "Expected of the leader side: durability is valid.",
        "Expected of the leaderless side: durability is valid.",
        "Expected of the leader side: write outage is above 10ns and below 1.5s.",
        "Expected of the leaderless side: durability is violated.",
    ]


FAULTS = """
title = "Faults"
question = "What can go wrong?"
[run]
duration = "9s"
[cluster]
spares = 1
[workload]
arrival = { kind = "closed" }
"""
TOLD = [
    ('kind = "wipe"\ntarget = "all"', "kill all nodes and wipe the disk; start them again, with"),
    ('kind = "join"', "start the spare node n6 and add it to the cluster."),
    ('kind = "leave"\ntarget = "follower"', "remove a follower from the cluster. Leaderless"),
    ('kind = "replace"\ntarget = "n2"', "kill n2 for good and put n6 in its place."),
    ('kind = "transfer"', "transfer the leadership. Leader side only."),
    (
        'kind = "partition"\nshape = "one-way"\ntarget = "leader"',
        "cut what the leader would hear, and not what it sends, clients with their node; heal",
    ),
    (
        'kind = "partition"\nshape = "bridge"',
        "cut the nodes into two halves that only one node in the middle reaches, clients with",
    ),
    ('kind = "bandwidth"\nbandwidth = "1.5MB/s"\ntarget = "n1"', "let 1.5MB/s pass on every link"),
    (
        'kind = "loss"\nloss = 0.1\ntarget = "c1"',
        "lose 10% of the messages on every link of c1 to the",
    ),
    (
        'kind = "clock"\noffset = "-2s"\nstrobe = "50ms"\ndrift_ppm = 10\ntarget = "n1,n2"',
        "put the wall clock of n1, n2 2s behind, on and off every 50ms and let the clocks of",
    ),
    (
        'kind = "disk"\neffect = "lose-unsynced"\ntorn = true\ntarget = "minority-with-leader"',
        "cut the power of a minority with the leader and lose what was not synced, a torn part",
    ),
    (
        'kind = "disk"\neffect = "slow"\ndelay = "5ms"\ntarget = "n1"',
        "slow every sync of n1 by 5ms",
    ),
    ('kind = "kill"\nside = "leaderless"\ntarget = "n1"', "kill n1 (SIGKILL); start it again when"),
]


@pytest.mark.parametrize(("table", "words"), TOLD)
def test_every_kind_of_fault_can_be_told_in_words(table: str, words: str) -> None:
    raw = tomllib.loads(f'{FAULTS}[[fault]]\nat = "2s"\n{table}\n')
    plan = read_scenario(raw, "faults", "faults.toml", find=find).plan
    (told,) = [each for each in describe(plan) if each.startswith("At 2s: ")]
    assert told.startswith(f"At 2s: {words}"), told
    warned = any(each.startswith("Careful: ") for each in describe(plan))
    assert warned == ("wipe" in table)
    assert Plan.from_json(json.loads(json.dumps(plan.to_json())), find) == plan


def test_the_schema_knows_every_section() -> None:
    schema = json_schema()
    assert set(schema["properties"]) == {
        *("title", "question", "run", "cluster", "leader", "leaderless", "workload"),
        *("fault", "expect", "variant", "simulation", "swarm"),
    }
    assert schema["$defs"]["FaultTable"]["properties"]["for"]["anyOf"][0]["type"] == "string"
    assert schema["additionalProperties"] is False
