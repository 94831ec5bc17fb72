"""Every mistake in a scenario is told, at once, in a line that says where and what would do."""

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from replication.errors import ConfigError
from replication.plan import load_scenario, read_scenario
from replication.plan.backends import FoundBackend
from replication.protocol import Backend, Family
from tests.support.scenarios import SOUND, find, problems

FAULT = '[[fault]]\nkind = "kill"\nat = "2s"\ntarget = "n1"\n'


def test_nothing_is_wrong_with_a_sound_scenario() -> None:
    assert problems(SOUND) == []
    assert problems(SOUND + FAULT) == []


def test_five_mistakes_give_five_lines(tmp_path: Path) -> None:
    path = tmp_path / "five.toml"
    path.write_text("""
title = "Five mistakes"
question = "Are they all told?"
[run]
duration = 8
[leaderless.dynamo]
w = 5
[workload]
mix = { get = 0.5, put = 0.6 }
arrival = { kind = "open", rate = "400/s" }
[[fault]]
kind = "kill"
at = "2s"
tagret = "leader"
[[fault]]
kind = "pause"
at = "-1s"
target = "leader"
""")
    with pytest.raises(ConfigError) as caught:
        load_scenario(path)
    assert caught.value.problems == (
        'five.toml: run.duration: 8 has no unit, write "8s" or "8ms"',
        "five.toml: leaderless.dynamo.w is 5, expected 1 to n = 3",
        "five.toml: workload.mix: the shares sum to 1.1, expected 1",
        'five.toml: fault[1].tagret: unknown key; did you mean "target"?',
        'five.toml: fault[2].at: "-1s" is negative, expected 0s or more',
    )


def replaced(old: str, new: str) -> str:
    assert old in SOUND
    return SOUND.replace(old, new)


FORM = [
    (replaced('title = "Sound"', ""), "title: missing, expected one line of text"),
    (replaced('title = "Sound"', 'title = ""'), "title: empty, expected text"),
    (replaced('title = "Sound"', "title = 3"), "title: 3 is a number, expected text"),
    (replaced('"8s"', "8"), 'run.duration: 8 has no unit, write "8s" or "8ms"'),
    (replaced('"8s"', '"0s"'), 'run.duration: "0s" is no load at all, expected more than 0s'),
    (
        replaced('"1s"', '"8s"'),
        "run.warmup: 8s leaves nothing to measure, expected less than run.duration = 8s",
    ),
    (
        replaced('"1s"', '"1s"\noperation_timeout = "1ms"'),
        "run.operation_timeout: 1ms is too short, expected 10ms or more",
    ),
    (replaced("duration", "durration"), 'run.durration: unknown key; did you mean "duration"?'),
    (
        "duration = '8s'\n" + SOUND,
        'duration: unknown key; did you mean "run.duration"?',
    ),
    (replaced('"1s"', '"1s"\nseed = "x"'), 'run.seed: "x" is text, expected a whole number'),
    (replaced('"1s"', '"1s"\nseed = 1.5'), "run.seed: 1.5 is a number, expected a whole number"),
    (replaced('"1s"', '"1s"\nseed = -1'), "run.seed: -1 is too small, expected 0 or more"),
    (
        replaced('"1s"', "2020-01-01"),
        "run.warmup: 2020-01-01 cannot be used here, expected text or a number",
    ),
    (
        SOUND + "mix = { get = nan }",
        "workload.mix.get: nan cannot be used here, expected text or a number",
    ),
    (SOUND + "[cluster]\nnodes = 1001", "cluster.nodes: 1001 is too large, expected at most 1000"),
    (SOUND + "[cluster]\nnodes = 0", "cluster.nodes: 0 is too small, expected 1 or more"),
    (
        SOUND + '[cluster]\nsync = "on"',
        'cluster.sync: "on" is unknown, expected "always" or "off"',
    ),
    (
        SOUND + "context = 1",
        "workload.context: 1 is a number, expected true or false",
    ),
    (SOUND + "placement = { a = 1 }", "workload.placement: a table, expected a list"),
    (
        replaced('"1s"', '"1s"\nseed = 99999999999999999999'),
        "run.seed: 99999999999999999999 is too large, expected at most 9223372036854775807",
    ),
    ("run = 3\n" + SOUND.replace("[run]", "[workload.x]"), "run: 3 is a number, expected a table"),
    (
        SOUND + '[fault]\nkind = "kill"',
        "fault: one table, write [[fault]] with double brackets",
    ),
    ('fault = ["x"]\n' + SOUND, 'fault[1]: "x" is text, expected a table'),
]


@pytest.mark.parametrize(("text", "line"), FORM, ids=[line for _, line in FORM])
def test_mistakes_of_form_are_told_in_plain_words(text: str, line: str) -> None:
    found = problems(text)
    assert line in found
    # A table in a wrong place, see "run = 3", brings along a key that is none.
    assert len([each for each in found if "unknown key" not in each]) <= 1


YCSB_E = (
    "workload.kind: YCSB E scans ranges of keys, which the storage API does not offer, "
    "expected A to F without E"
)
BACKENDS = [
    (
        '[cluster]\nleader = "raff"',
        "cluster.leader: no backend 'raff'; installed: dynamo, primary_backup, raft, raftos",
    ),
    (
        '[cluster]\nleaderless = "raft"',
        'cluster.leaderless: "raft" is a leader backend, expected a leaderless backend',
    ),
    (
        "[leader.zab]\na = 1",
        "leader.zab: no backend 'zab'; installed: dynamo, primary_backup, raft, raftos",
    ),
    (
        "[leader.dynamo]\nn = 3",
        'leader.dynamo: "dynamo" is a leaderless backend, expected a leader backend',
    ),
    ("[leader]\nraft = 3", "leader.raft: 3 is a number, expected a table"),
    (
        "[leader.raft]\nheartbeat = 50",
        'leader.raft.heartbeat: 50 has no unit, write "50s" or "50ms"',
    ),
    (
        '[leader.raft]\nheartbeat_ns = "50ms"',
        'leader.raft.heartbeat_ns: unknown key; did you mean "heartbeat"?',
    ),
    (
        "[leader.raft]\npre_vote = 1",
        "leader.raft.pre_vote: 1 is a number, expected true or false",
    ),
    (
        '[leaderless.dynamo]\nversions = "lwv"',
        'leaderless.dynamo.versions: "lwv" is unknown; did you mean "lww"?',
    ),
    (
        '[leaderless.dynamo]\nr = "2"',
        'leaderless.dynamo.r: "2" is text, expected a whole number',
    ),
    ("[leaderless.dynamo]\nw = 5", "leaderless.dynamo.w is 5, expected 1 to n = 3"),
    (
        "[leaderless.dynamo]\nn = 3\n[cluster]\nnodes = 2",
        "leaderless.dynamo.n is 3, expected 1 to 2, the number of members",
    ),
]


@pytest.mark.parametrize(("text", "line"), BACKENDS, ids=[line for _, line in BACKENDS])
def test_settings_are_judged_by_their_backend(text: str, line: str) -> None:
    assert problems(SOUND + text) == [line]


def test_what_stands_in_for_a_wrong_setting_is_not_blamed() -> None:
    """w = 5 would fit n = 5, which is only missing its unit-less form: one mistake, one line."""
    found = problems(SOUND + '[leaderless.dynamo]\nn = "5"\nw = 5\nheartbeat = 1')
    assert found == [
        'leaderless.dynamo.heartbeat: 1 has no unit, write "1s" or "1ms"',
        'leaderless.dynamo.n: "5" is text, expected a whole number',
    ]


def test_settings_that_wait_for_their_backend_are_judged_too(
    fake_raft: Callable[[str], FoundBackend],
) -> None:
    text = SOUND + '[cluster]\nleader = "my.core:backend"\n[leader.raft]\nheartbeat = 3'
    with pytest.raises(ConfigError) as caught:
        read_scenario(tomllib.loads(text), "x", "x.toml", find=fake_raft)
    assert caught.value.problems == (
        'x.toml: leader.raft.heartbeat: 3 has no unit, write "3s" or "3ms"',
    )


@pytest.fixture
def fake_raft() -> Callable[[str], FoundBackend]:
    """Return a finder that knows one more backend than is installed."""
    raft = find("raft").backend

    def find_mine(name: str) -> FoundBackend:
        if name != "my.core:backend":
            return find(name)
        mine = Backend(
            "mine",
            Family.LEADER,
            "Mine",
            raft.message_type,
            raft.settings_type,
            raft.create,
            raft.consistencies,
            True,
            raft.promise,
        )
        return FoundBackend(name, mine)

    return find_mine


WORKLOAD = [
    ('kind = "ycsb-e"', YCSB_E),
    (
        'kind = "ycsb-a"\nmix = { get = 1.0 }',
        "workload.mix: ycsb-a has its own mix, which is why it is called so",
    ),
    (
        'kind = "set"\nmix = { put = 1.0 }',
        'workload.mix.put: unknown key, expected "get" or "add"',
    ),
    (
        'update = { leader = "put" }',
        'workload.update: belongs to kind = "counter", "set", "append" or "ycsb-f" only',
    ),
    ("mix = { get = 0.5, put = 0.4 }", "workload.mix: the shares sum to 0.9, expected 1"),
    ("mix = { get = 2 }", "workload.mix.get: 2 is too large, expected at most 1"),
    (
        "mix = { get = 0.5, putt = 0.5 }",
        'workload.mix.putt: unknown key; did you mean "put"?',
    ),
    (
        'placement = "spraed"',
        'workload.placement: "spraed" is unknown, '
        'expected "spread" or a list of nodes such as ["n1", "n3"]',
    ),
    ('placement = ["n1", "n9"]', 'workload.placement[2]: "n9" is no node, expected n1 to n5'),
    ("placement = []", "workload.placement: empty, expected at least one node"),
    (
        'route = "follo"',
        'workload.route: "follo" is unknown; did you mean "follow"?',
    ),
    (
        'consistency = { leader = { get = "quorum" } }',
        'workload.consistency.leader.get: "quorum" is no level that raft offers a get, '
        'expected "lease", "linearizable" or "local"',
    ),
    (
        'consistency = { leader = { put = "local" } }',
        'workload.consistency.leader.put: "local" is no level that raft offers a put, '
        'expected "linearizable"',
    ),
    (
        'consistency = { leaderless = { gt = "one" } }',
        'workload.consistency.leaderless.gt: unknown key; did you mean "get"?',
    ),
    (
        "replicas = { get = 4 }",
        "workload.replicas.get: 4 is out of range, expected 1 to n = 3",
    ),
    (
        'replicas = { get = 1 }\nconsistency = { leaderless = { get = "one" } }',
        "workload.replicas.get: both this and workload.consistency.leaderless.get = "
        '"one" are set, expected one of them',
    ),
    (
        "[[workload.operation]]",
        'workload.operation: listed operations belong to kind = "explicit" only',
    ),
]


@pytest.mark.parametrize(("text", "line"), WORKLOAD, ids=[line for _, line in WORKLOAD])
def test_mistakes_in_the_workload_are_told(text: str, line: str) -> None:
    assert problems(SOUND + text) == [line]


ARRIVAL = 'arrival = { kind = "open", rate = "100/s" }'
ARRIVALS = [
    (
        ARRIVAL,
        "",
        'workload.arrival: missing, expected { kind = "open", rate = "400/s" } '
        'or { kind = "closed" }',
    ),
    (
        ARRIVAL,
        'arrival = { kind = "open" }',
        'workload.arrival.rate: missing, expected the rate of all clients, such as "400/s"',
    ),
    (
        ARRIVAL,
        'arrival = { kind = "open", rate = 400 }',
        'workload.arrival.rate: 400 has no unit, write "400/s"',
    ),
    (
        ARRIVAL,
        'arrival = { kind = "closed", rate = "4/s" }',
        'workload.arrival.rate: belongs to kind = "open" only',
    ),
    (
        "{ count = 20 }",
        '{ count = 20, pick = "zipf" }',
        'workload.keys.pick: "zipf" is unknown; did you mean "zipfian"?',
    ),
    (
        "{ count = 20 }",
        "{ count = 20, theta = 0.9 }",
        'workload.keys.theta: belongs to pick = "zipfian" or "latest" only',
    ),
]


@pytest.mark.parametrize(("old", "new", "line"), ARRIVALS, ids=[line for *_, line in ARRIVALS])
def test_mistakes_in_arrival_and_keys_are_told(old: str, new: str, line: str) -> None:
    assert problems(replaced(old, new)) == [line]


EXPLICIT = replaced(ARRIVAL, 'kind = "explicit"').replace("keys = { count = 20 }\n", "")
OPERATION = '[[workload.operation]]\nclient = "c1"\nkind = "put"\nkey = "k"\nvalue = "v"\n'
OPERATIONS = [
    ("", "workload.operation: missing, expected at least one operation"),
    (OPERATION.replace("c1", "c9"), '.client: "c9" is no client, expected c1 to c4'),
    (OPERATION.replace('key = "k"\n', ""), ".key: missing"),
    (OPERATION.replace('value = "v"', ""), ".value: missing, expected what the put writes"),
    (OPERATION.replace("put", "get"), ".value: belongs to no get"),
    (OPERATION + 'expected = "u"', ".expected: belongs to compare-and-set only"),
    (
        OPERATION + 'at = "8s"',
        ".at: after the end of the load, expected less than run.duration",
    ),
]


@pytest.mark.parametrize(("text", "line"), OPERATIONS, ids=[line for _, line in OPERATIONS])
def test_mistakes_in_listed_operations_are_told(text: str, line: str) -> None:
    path = "workload.operation[1]" if line.startswith(".") else ""
    assert problems(EXPLICIT + text) == [path + line]


def test_listed_operations_of_a_client_are_in_order_of_time() -> None:
    text = EXPLICIT + OPERATION + 'at = "2s"\n' + OPERATION + 'at = "1s"\n'
    assert problems(text) == [
        "workload.operation[2].at: 1s is before the operation of c1 listed above it, "
        "expected them in order"
    ]


EXPECT = "[[expect]]\n"


def test_a_list_is_counted_from_one_as_people_do() -> None:
    found = problems(SOUND + FAULT + FAULT.replace("n1", "n8"))
    assert [line.split(":")[0] for line in found] == ["fault[2].target"]


def test_a_wrong_duration_of_the_run_blames_no_fault() -> None:
    assert problems(replaced('"8s"', "1") + FAULT) == [
        'run.duration: 1 has no unit, write "1s" or "1ms"'
    ]


def test_problems_come_in_the_order_of_the_sections() -> None:
    found = problems(
        SOUND.replace("title", "titel")
        + "[leaderless.dynamo]\nw = 9\n"
        + EXPECT
        + "[cluster]\nnodes = 'x'\n"
        + FAULT.replace("2s", "2")
    )
    assert [line.split(":")[0].split(" ")[0] for line in found] == [
        "cluster.nodes",
        "fault[1].at",
        "expect[1]",
        "titel",
    ]


def test_what_is_left_of_a_broken_table_brings_no_second_complaint() -> None:
    delay = SOUND + '[simulation.network]\ndelay = { kind = "exponential", floor = "1ms" }\n'
    variants = 'variant = [7, { name = "a", set = ["run.duration=5s"] }, { set = ["x=1"] }]\n'

    assert problems(delay) == [
        'simulation.network.delay.kind: unknown key, expected "median", "sigma", "floor", "mean", '
        '"low" or "high"'
    ]
    assert problems(variants + SOUND) == [
        "variant[1]: 7 is a number, expected a table",
        "variant[3].name: missing",
    ]
    assert problems(SOUND + '[variant]\nname = "a"\n') == [
        "variant: one table, write [[variant]] with double brackets"
    ]
