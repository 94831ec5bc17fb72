"""What is wrong with faults and expectations is told in one line each, with its place."""

import pytest

from tests.support.scenarios import SOUND, problems

FAULT = '[[fault]]\nkind = "kill"\nat = "2s"\ntarget = "n1"\n'
PARTITION = '[[fault]]\nkind = "partition"\nat = "2s"\n'


TARGETS = (
    "leader, follower, random, all, minority-with-leader, first-replica-of:KEY, coordinator-of:KEY"
)
SPARES = "[cluster]\nspares = 1\n"
FAULTS = [
    (FAULT.replace('kind = "kill"\n', ""), ".kind: missing, expected "),
    (FAULT.replace("kill", "kil"), '.kind: "kil" is unknown; did you mean "kill"?'),
    (FAULT.replace('at = "2s"\n', ""), ".at: missing, expected the time after the start"),
    (FAULT.replace("2s", "-1s"), '.at: "-1s" is negative, expected 0s or more'),
    (
        FAULT.replace("2s", "9s"),
        ".at: 9s is not within the load, expected less than run.duration = 8s",
    ),
    (FAULT + 'until = "1s"', ".until: 1s is not after at = 2s"),
    (FAULT + 'for = "0s"', '.for: "0s" is no time at all, expected more than 0s'),
    (
        FAULT + 'for = "7s"',
        ".for: ends at 9s, after the end of the load (run.duration = 8s); "
        "leave out for and until to heal it then",
    ),
    (FAULT + 'for = "1s"\nuntil = "3s"', ".until: both for and until are set"),
    (
        FAULT.replace("2s", "0s") + 'for = "1s"',
        ".for: ends at 1s, within the warm-up, which no measure counts (run.warmup = 1s)",
    ),
    (
        FAULT.replace("kill", "restart") + 'for = "1s"',
        '.for: a restarted node comes back at once; to keep it down write kind = "kill"',
    ),
    (FAULT.replace('target = "n1"\n', ""), f".target: missing, expected n1 to n5, {TARGETS}"),
    (FAULT.replace("n1", "n9"), '.target: "n9" names no node'),
    (
        FAULT.replace("n1", "folower"),
        '.target: "folower" names no node; did you mean "follower"?',
    ),
    (FAULT.replace("n1", "zzz"), f'.target: "zzz" names no node, expected n1 to n5, {TARGETS}'),
    (PARTITION + 'target = "all"', '.target: "all" leaves nobody to be cut off from'),
    (FAULT.replace("n1", "n1,n9"), '.target: "n9" names no node'),
    (FAULT.replace('"n1"', '["n1", "n1"]'), ".target: a name stands there twice"),
    (FAULT.replace("n1", "c1"), '.target: "c1" is a client, which belongs to kind = "delay"'),
    (
        FAULT.replace("n1", "minority-with-leader")
        + "[cluster]\nnodes = 2\n[leaderless.dynamo]\nn=2",
        '.target: "minority-with-leader" needs 3 nodes or more, cluster.nodes is 2',
    ),
    (FAULT + 'side = "follower"', '.side: "follower" is unknown, expected "leader" or'),
    (
        FAULT.replace('"n1"', '{ leader = "n1", leaderless = "n2" }') + 'side = "leader"',
        ".target: expected one target, the fault is for the leader side only",
    ),
    (
        '[[fault]]\nkind = "transfer"\nat = "2s"\nside = "leaderless"',
        ".side: a leaderless cluster has no leadership to transfer",
    ),
    (
        '[[fault]]\nkind = "transfer"\nat = "2s"\ntarget = "n1,n2"',
        '.target: "n1,n2" is more than one node, expected one for kind = transfer',
    ),
    (
        '[[fault]]\nkind = "join"\nat = "2s"',
        '.kind: "join" needs a spare node, cluster.spares is 0',
    ),
    (
        '[[fault]]\nkind = "join"\nat = "2s"\ntarget = "n1"\n' + SPARES,
        ".target: expected a spare node, n6",
    ),
    (
        FAULT.replace("kill", "replace"),
        '.kind: "replace" needs a spare node, cluster.spares is 0',
    ),
    (
        FAULT.replace("kill", "replace").replace("n1", "n1,n2") + SPARES,
        '.target: "n1,n2" is more than one node, expected one for kind = replace',
    ),
    (
        FAULT.replace("kill", "replace").replace('target = "n1"', "") + SPARES,
        f".target: missing, expected n1 to n5, {TARGETS}",
    ),
    (
        FAULT.replace("n1", "n6") + SPARES,
        ".target: n6 is a spare node that has not joined by then",
    ),
    (FAULT.replace("kill", "leave").replace("n1", "all"), '.target: "all" is more than one node'),
    (
        FAULT.replace("n1", "first-replica-of:hot"),
        '.target: "hot" is no key of the workload, expected k0001 to k0020',
    ),
    (
        FAULT.replace('"n1"', '{ leader = "leader" }'),
        ".target.leaderless: missing, expected a target for each side",
    ),
    (FAULT + "loss = 0.5", '.loss: belongs to kind = "loss", not to kill'),
    (FAULT.replace("kill", "loss"), ".loss: missing, expected the share of messages to lose"),
    (
        FAULT.replace("kill", "delay"),
        '.delay: missing, expected a duration such as "100ms"',
    ),
    (
        FAULT.replace("kill", "delay") + "delay = 100",
        '.delay: 100 has no unit, write "100s" or "100ms"',
    ),
    (FAULT.replace("kill", "duplicate"), ".duplicate: missing, expected the share of messages"),
    (FAULT.replace("kill", "reorder"), ".reorder: missing, expected the share of messages"),
    (FAULT.replace("kill", "jitter"), '.jitter: missing, expected a duration such as "20ms"'),
    (FAULT.replace("kill", "bandwidth"), ".bandwidth: missing, expected what a link carries, such"),
    (
        FAULT.replace("kill", "bandwidth") + 'bandwidth = "64"',
        '.bandwidth: "64" is not a bandwidth, expected text such as "64KB/s"',
    ),
    (
        FAULT.replace("kill", "bandwidth") + 'bandwidth = "1B/s"',
        '.bandwidth: "1B/s" is out of range, expected "1KB/s" to "10GB/s"',
    ),
    (
        FAULT.replace("kill", "reorder") + 'reorder = 0.1\nhold = "0s"',
        '.hold: "0s" holds nothing back, expected more than 0s',
    ),
    (
        FAULT.replace("kill", "duplicate").replace("n1", "c1") + "duplicate = 0.1",
        '.target: "c1" is a client, which belongs to kind = "delay", "jitter" or "loss"',
    ),
    (FAULT.replace("kill", "clock"), '.offset: missing, expected offset = "2s" or drift_ppm = 500'),
    (
        FAULT.replace("kill", "clock") + 'drift_ppm = 5\nstrobe = "1s"',
        ".strobe: belongs to an offset, which comes and goes",
    ),
    (FAULT.replace("kill", "clock") + 'offset = "--2s"', '.offset: "-2s" is negative'),
    (FAULT.replace("kill", "clock") + "drift_ppm = 999999", ".drift_ppm: 999999 is too large"),
    (FAULT.replace("kill", "disk"), '.effect: missing, expected "slow", "stall", "full" or'),
    (FAULT.replace("kill", "disk") + 'effect = "slow"', ".delay: missing, expected what a sync"),
    (
        FAULT.replace("kill", "disk") + 'effect = "stall"\ndelay = "1s"',
        '.delay: belongs to effect = "slow", not to "stall"',
    ),
    (
        FAULT.replace("kill", "disk") + 'effect = "full"\ntorn = true',
        '.torn: belongs to "lose-unsynced", not to "full"',
    ),
    (PARTITION, '.shape: missing, expected "isolate", "halves", "minority-with-leader", "nodes"'),
    (
        PARTITION + 'target = "n1"\ndirection = "inbound"',
        '.direction: belongs to shape = "one-way", not to "isolate"',
    ),
    (
        PARTITION + 'shape = "bridge"\ntarget = "minority-with-leader"',
        '.target: "minority-with-leader" is more than one node, expected one for shape = "bridge"',
    ),
    (PARTITION + 'shape = "isolate"', f".target: missing, expected n1 to n5, {TARGETS}"),
    (
        PARTITION + 'sides = [["n1", "n2"], ["n2", "n3"]]',
        '.sides: "n2" is on two sides',
    ),
    (PARTITION + 'sides = [["n1", "n1"]]', '.sides: "n1" is twice on one side'),
    (PARTITION + 'sides = [["n1"], []]', ".sides[2]: empty, expected at least one node or client"),
    (
        PARTITION + 'sides = [["n1", "n2", "n3", "n4", "n5"]]',
        ".sides: all nodes are on one side, expected two sides",
    ),
    (
        PARTITION + 'sides = [["n1", "x1"]]',
        '.sides[1]: "x1" is neither a node (n1 to n5) nor a client (c1 to c4)',
    ),
    (PARTITION + "sides = [[1]]", ".sides[1][1]: 1 is a number, expected text"),
    (
        PARTITION + 'shape = "halves"\ntarget = "n1"',
        '.target: belongs to shape = "isolate", "one-way", "minority-with-leader" or "bridge"',
    ),
    (
        PARTITION + 'shape = "halves"\nsides = [["n1"]]',
        '.sides: belongs to shape = "nodes", not to "halves"',
    ),
    (
        PARTITION
        + 'shape = "minority-with-leader"\n[cluster]\nnodes = 2\n[leaderless.dynamo]\nn=2',
        '.shape: "minority-with-leader" needs 3 nodes or more, cluster.nodes is 2',
    ),
]


@pytest.mark.parametrize(("text", "line"), FAULTS, ids=[line for _, line in FAULTS])
def test_mistakes_in_faults_are_told(text: str, line: str) -> None:
    found = problems(SOUND + text)
    assert len(found) == 1
    assert found[0].startswith(f"fault[1]{line}")


EXPECT = "[[expect]]\n"
EXPECTATIONS = [
    ("", ": expected either a check or a measure, neither is set"),
    (
        'check = "durability"\nmeasure = "known.a"\nbelow = 1',
        ": expected either a check or a measure, both are set",
    ),
    ('check = "durabilty"', '.check: "durabilty" is no check; did you mean "durability"?'),
    (
        'check = "xyz"',
        '.check: "xyz" is no check, expected one of durability, linearizability',
    ),
    ('check = "durability"\nbelow = 1', ".below: belongs to a measure, not to a check"),
    (
        'check = "durability"\nverdict = "unknown"',
        '.verdict: "unknown" is unknown, expected "valid" or "violated"',
    ),
    ('measure = "known.a"', ": the measure has no bound, expected below, above or equals"),
    ('measure = "other.a"\nbelow = 1', '.measure: "other.a" is no measure'),
    ('measure = "known.a"\nbelow = "1s"', '.below: "1s" is text, expected a number'),
    ('measure = "known.a_ns"\nbelow = "1"', '.below: "1" is not a duration, expected'),
    ('measure = "known.a"\nbelow = true', ".below: true is no more than true or false"),
    ('measure = "known.a"\nequals = 1\nbelow = 2', ".equals: goes with neither below nor above"),
    ('measure = "known.a"\nbelow = 1\nverdict = "valid"', ".verdict: belongs to a check"),
    ('side = "leaders"\ncheck = "durability"', '.side: "leaders" is unknown; did you mean'),
    (
        'check = "durability"\nwhen = { run.seed = 1 }',
        '.when.run: unknown key, expected "leader", "leaderless" or "workload"',
    ),
    (
        'check = "durability"\nwhen = { workload.mx = 1 }',
        '.when.workload.mx: unknown key; did you mean "mix"?',
    ),
    (
        'check = "durability"\nwhen = { leaderless.dynamo.versions = "lwv" }',
        '.when.leaderless.dynamo.versions: "lwv" is unknown; did you mean "lww"?',
    ),
    (
        'check = "durability"\nwhen = { leader.raft.heartbet = "1s" }',
        '.when.leader.raft.heartbet: unknown key; did you mean "heartbeat"?',
    ),
    (
        'check = "durability"\nwhen = { leader = "raft" }',
        '.when.leader: expected settings such as leader.NAME.SETTING = "value"',
    ),
]


@pytest.mark.parametrize(("text", "line"), EXPECTATIONS, ids=[line for _, line in EXPECTATIONS])
def test_mistakes_in_expectations_are_told(text: str, line: str) -> None:
    found = problems(SOUND + EXPECT + text)
    assert len(found) == 1
    assert found[0].startswith(f"expect[1]{line}")


def test_members_come_and_go_in_order_of_time() -> None:
    joins = '[[fault]]\nkind = "join"\nat = "2s"\n'
    later = '[[fault]]\nkind = "leave"\nat = "3s"\ntarget = "n6"\n'
    assert not problems(SOUND + "[cluster]\nspares = 1\n" + joins + later)
    after = '[[fault]]\nkind = "kill"\nat = "4s"\ntarget = "n6"\n'
    (found,) = problems(SOUND + "[cluster]\nspares = 1\n" + joins + later + after)
    assert found == "fault[3].target: n6 has left the cluster by then"
    (found,) = problems(SOUND + "[cluster]\nspares = 1\n" + joins + joins.replace("2s", "3s"))
    assert found == "fault[2].kind: no spare node is left, cluster.spares is 1"
