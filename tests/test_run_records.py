"""What a run writes down: link faults and their evidence, convergence, counters, events."""

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from replication.cluster.control import ControlFailed
from replication.contents import replica_contents, sample
from replication.plan.model import LinkRule
from replication.run.cuts import Cuts
from replication.run.record import Ledger, measure_fdatasync, read_delays, read_events
from replication.run.settle import settle
from replication.run.wires import Wires
from replication.v1 import control_pb2, event_pb2, storage_pb2

NODES = ("n1", "n2", "n3")


class FakeControl:
    """Three nodes that remember their link faults and count as they are told to."""

    def __init__(self) -> None:
        self.faults: dict[str, list[event_pb2.LinkFault]] = {node: [] for node in NODES}
        self.calls: list[str] = []
        self.links = {
            node: {peer: control_pb2.LinkStatus(peer=peer) for peer in NODES if peer != node}
            for node in NODES
        }

    async def set_link_faults(self, node: str, faults: Iterable[event_pb2.LinkFault]) -> None:
        self.calls.append(node)
        self.faults[node] = list(faults)

    async def statuses(self, nodes: Iterable[str]) -> dict[str, control_pb2.StatusResponse]:
        return {
            node: control_pb2.StatusResponse(
                host=control_pb2.HostStatus(pid=1, links=list(self.links[node].values()))
            )
            for node in nodes
        }


class FakeCluster:
    """As much of a cluster as link faults need."""

    def __init__(self) -> None:
        self.control = FakeControl()
        self.spec = SimpleNamespace(everybody=NODES)
        self.down: set[str] = set()

    def is_up(self, node: str) -> bool:
        return node not in self.down


def cuts_of(cluster: FakeCluster) -> tuple[Cuts, Wires]:
    wires = Wires(Random(1))
    fake: Any = cluster
    return Cuts(fake, wires, Ledger()), wires


def told(cluster: FakeCluster, node: str) -> set[tuple[str, bool, float]]:
    return {(each.peer, each.inbound, each.loss) for each in cluster.control.faults[node]}


def test_a_cut_is_enforced_at_both_ends_and_partial_loss_at_its_source() -> None:
    cluster = FakeCluster()
    cuts, _ = cuts_of(cluster)

    async def work() -> None:
        await cuts.add(1, (LinkRule("n1", "n2", loss=1.0), LinkRule("c1", "n2", loss=1.0)))
        await cuts.add(2, (LinkRule("n3", "n2", loss=0.5),))

    asyncio.run(work())
    assert told(cluster, "n1") == {("n2", False, 1.0)}
    assert told(cluster, "n2") == {("n1", True, 1.0)}, "half of the rest is lost once, not twice"
    assert told(cluster, "n3") == {("n2", False, 0.5)}


def test_healing_one_fault_leaves_the_others_in_force() -> None:
    cluster = FakeCluster()
    cuts, wires = cuts_of(cluster)

    async def work() -> str:
        await cuts.add(1, (LinkRule("n1", "n2", loss=1.0), LinkRule("c1", "n2", loss=1.0)))
        await cuts.add(2, (LinkRule("n1", "n3", delay_ns=5), LinkRule("n3", "n1", delay_ns=5)))
        wires.delay_ns("c1", "n2")
        cluster.control.links["n1"]["n2"].outbound_dropped += 7
        cluster.control.links["n2"]["n1"].inbound_dropped += 2
        cluster.control.links["n1"]["n3"].delayed += 40
        evidence = await cuts.remove(1)
        assert evidence.shown
        assert told(cluster, "n1") == {("n3", False, 0.0)}
        assert told(cluster, "n2") == set()
        assert wires.delay_ns("c1", "n2") == 0
        delayed = await cuts.remove(2)
        assert delayed.words.startswith("40 messages between nodes delayed on 1 of 2 links")
        return evidence.words

    assert asyncio.run(work()) == (
        "9 messages between nodes and 1 between clients and nodes dropped on 2 of 2 links "
        "(n1 to n2 9, c1 to n2 1)"
    )


def test_a_fault_that_met_no_message_is_no_evidence() -> None:
    cluster = FakeCluster()
    cluster.control.links["n1"]["n2"].outbound_dropped = 100  # by an earlier fault
    cuts, _ = cuts_of(cluster)

    async def work() -> bool:
        await cuts.add(1, (LinkRule("n1", "n2", loss=1.0),))
        return (await cuts.remove(1)).shown

    assert not asyncio.run(work())


def test_nodes_that_were_away_learn_what_they_have_missed() -> None:
    cluster = FakeCluster()
    cuts, _ = cuts_of(cluster)

    async def work() -> None:
        cluster.down = {"n1"}
        await cuts.add(1, (LinkRule("n1", "n2", loss=1.0),))
        assert told(cluster, "n1") == set()
        cluster.down = set()
        await cuts.renew("n1", started=False)
        assert told(cluster, "n1") == {("n2", False, 1.0)}
        calls = len(cluster.control.calls)
        await cuts.renew("n1", started=False)
        assert len(cluster.control.calls) == calls, "it knows already"
        await cuts.renew("n1", started=True)
        assert len(cluster.control.calls) == calls + 1, "a new process knows nothing"
        cluster.down = {"n1"}  # paused while the fault is healed
        await cuts.remove(1)
        cluster.down = set()
        await cuts.renew("n1", started=False)
        assert told(cluster, "n1") == set()

    asyncio.run(work())


def versions(*sequences: int) -> list[storage_pb2.Version]:
    return [
        storage_pb2.Version(write_id=storage_pb2.WriteId(client_id="c1", sequence=each))
        for each in sequences
    ]


def held(key: str, owners: str, *sequences: int) -> control_pb2.KeyContents:
    return control_pb2.KeyContents(key=key, owners=owners.split(), versions=versions(*sequences))


def test_replicas_are_equal_when_all_owners_hold_the_same_writes() -> None:
    equal = sample(
        {
            "n1": [held("a", "n1 n2", 1, 2), held("b", "n2 n3", 9)],
            "n2": [held("a", "n1 n2", 2, 1), held("b", "n2 n3", 3)],
            "n3": [held("b", "n2 n3", 3)],
        },
        5,
    )
    assert (equal.time_ns, equal.keys, equal.differing) == (5, 2, []), "n1 does not own b"
    missing = sample({"n1": [held("a", "n1 n2", 1)], "n2": [], "n3": []}, 5)
    assert missing.differing == ["a"]
    silent = sample({"n1": [held("a", "n1 n2", 1)], "n2": None, "n3": []}, 5)
    assert (silent.differing, silent.unreachable) == (["a"], ["n2"])


def test_what_a_stand_in_is_still_to_bring_is_waited_for() -> None:
    """Seed 21000927 of storm: what one stand-in alone had acknowledged was not there yet."""
    kept = held("a", "n1 n2", 2)
    kept.stand_in = True
    owners = {"n1": [held("a", "n1 n2", 1)], "n2": [held("a", "n1 n2", 1)]}
    assert sample({**owners, "n3": [kept]}, 5).differing == ["a"]
    assert sample({**owners, "n3": [kept]}, 5, absent_differ=False).differing == []
    brought = {"n1": [held("a", "n1 n2", 1, 2)], "n2": [held("a", "n1 n2", 2, 1)]}
    assert sample({**brought, "n3": [kept]}, 5).differing == []
    own_and_kept = {**owners, "n2": [held("a", "n1 n2", 1), kept]}
    assert sample(own_and_kept, 5).differing == ["a"], "n2 owns it since it stood in"
    assert [each.owner for each in replica_contents({"n2": own_and_kept["n2"]})] == [True, False]


def test_contents_name_owners_and_carry_no_values() -> None:
    contents = replica_contents({"n1": [held("a", "n2", 4)], "n2": None})
    (only,) = contents
    assert (only.node, only.key, only.owner) == ("n1", "a", False)
    assert [(each.write_id, each.value) for each in only.versions] == [("c1:4", None)]


def test_settling_ends_when_replicas_were_equal_twice_in_a_row() -> None:
    different = {"n1": [held("a", "n1 n2", 1)], "n2": []}
    equal = {"n1": [held("a", "n1 n2", 1)], "n2": [held("a", "n1 n2", 1)]}
    script = iter([different, equal, different, equal, equal, different])

    class Scripted:
        def __init__(self) -> None:
            self.now: dict[str, list[control_pb2.KeyContents]] = {}

        async def contents(self, node: str) -> list[control_pb2.KeyContents]:
            if node == "n1":
                self.now = next(script)
            return self.now[node]

    async def work(until_ns: int) -> list[Any]:
        samples: list[Any] = []
        control: Any = Scripted()
        await settle(control, ["n1", "n2"], lambda: 7, until_ns, samples)
        return samples

    assert [len(each.differing) for each in asyncio.run(work(8))] == [1, 0, 1, 0, 0]
    assert len(asyncio.run(work(0))) == 1, "one sample is always taken"


def test_counters_of_all_lives_of_a_node_are_added() -> None:
    ledger = Ledger()

    def seen(pid: int, count: int) -> dict[str, control_pb2.StatusResponse]:
        link = control_pb2.LinkStatus(peer="n2", messages_sent=count, outbound_dropped=1)
        host = control_pb2.HostStatus(pid=pid, cpu_seconds=0.5, links=[link], syncs=count)
        status = control_pb2.NodeStatus(counters={"reads": count})
        return {"n1": control_pb2.StatusResponse(status=status, host=host)}

    ledger.note(seen(10, 3))
    ledger.note(seen(10, 5))
    ledger.note(seen(11, 2))
    assert ledger.counters()["n1"]["reads"] == 7
    assert ledger.counters()["n1"]["host.syncs"] == 7
    assert ledger.cpu_seconds() == {"n1": 1.0}
    assert (ledger.link_totals().messages, ledger.link_totals().dropped) == (7, 2)


def test_events_of_all_nodes_are_put_on_the_clock_of_the_run(tmp_path: Path) -> None:
    for node, moment in (("n1", 300), ("n2", 200)):
        (tmp_path / node).mkdir()
        line = json.dumps({"t": moment, "node": node, "event": "role_changed", "term": 3})
        (tmp_path / node / "events.jsonl").write_text(line + '\n{"t": 4')  # cut short by a kill
    events = read_events(tmp_path, NODES, 150)
    assert [(each.time_ns, each.node, each.name) for each in events] == [
        (50, "n2", "role_changed"),
        (150, "n1", "role_changed"),
    ]
    assert events[0].fields == {"term": 3}


def test_delays_are_read_from_who_answers_and_set_to_the_time_of_the_history() -> None:
    leg = control_pb2.LegDelays(leg="write", stride=2, arrived_ns=[150, 170], delay_ns=[30, 10])
    answers = {"n1": control_pb2.ListDelaysResponse(legs=[leg])}

    async def delays(node: str) -> control_pb2.ListDelaysResponse:
        if node not in answers:
            raise ControlFailed(node, "ListDelays", _Refused())
        return answers[node]

    control: Any = SimpleNamespace(delays=delays)
    (found,) = asyncio.run(read_delays(control, NODES, 100))
    assert {name: (each.spans, each.stride) for name, each in found.items()} == {
        "write": ([(20, 50), (60, 70)], 2)
    }


def test_the_disk_is_measured_and_left_clean(tmp_path: Path) -> None:
    p50, p99 = measure_fdatasync(tmp_path)
    assert 0 < p50 <= p99
    assert not list(tmp_path.iterdir())


def test_a_node_that_refuses_a_link_fault_is_not_overlooked() -> None:
    cluster = FakeCluster()
    cuts, _ = cuts_of(cluster)

    async def refuse(node: str, _faults: Any) -> None:
        raise ControlFailed(node, "SetLinkFaults", _Refused())

    cluster.control.set_link_faults = refuse  # type: ignore[method-assign]
    with pytest.raises(ControlFailed, match="SetLinkFaults of n1"):
        asyncio.run(cuts.add(1, (LinkRule("n1", "n2", loss=1.0),)))


class _Refused(Exception):
    """Stands for a gRPC error without details."""
