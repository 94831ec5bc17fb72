"""Snapshots and log compaction (dissertation §5): taken in steps, kept, sent in chunks, resumed."""

from dataclasses import replace
from itertools import pairwise

import pytest

from leader.raft import RaftSettings
from leader.raft.log import log_key
from leader.raft.progress import State
from leader.raft.snapshots import CHUNK_GAP_NS, chunk_key
from replication.errors import CorruptStore
from replication.protocol import Erase
from replication.v1 import storage_pb2
from tests.support.raft_cluster import Cluster, Envelope, Rule, get, put, to

SETTINGS = RaftSettings(
    snapshot_entries=10,
    snapshot_chunk_bytes=100,
    snapshot_trailing_entries=0,
)
TRAILING = RaftSettings(snapshot_entries=10, snapshot_chunk_bytes=100, snapshot_trailing_entries=4)


def write(cluster: Cluster, count: int, leader: str = "n1", drop: str = "") -> None:
    """Put ``count`` values under as many keys, one after the other."""
    first = cluster.cores[leader].replica.log.last_index
    for number in range(first, first + count):
        body = put(f"k{number}", b"v" * 40, sequence=number)
        answer = cluster.answer(leader, body, to(drop))
        assert isinstance(answer, storage_pb2.PutResponse)


def tend(cluster: Cluster, *nodes: str, drop: str = "") -> None:
    """Let the steps of compaction that are due happen, and nothing else."""
    for _ in range(100):
        cluster.pass_time(CHUNK_GAP_NS)
        cluster.effects.clear()
        for node in nodes:
            cluster.wake(node)
        cluster.settle(to(drop))
        if all(cluster.cores[node]._compaction.due_ns is None for node in nodes):
            return
    raise AssertionError("compaction does not end")


def lagging(settings: RaftSettings = SETTINGS) -> Cluster:
    """Return a cluster whose n3 has missed what the others know from a snapshot only."""
    cluster = Cluster(3, settings)
    cluster.elect("n1")
    fall_silent(cluster, "n3")
    write(cluster, 20, drop="n3")
    tend(cluster, "n1", "n2", drop="n3")
    assert cluster.cores["n1"].replica.log.start_index > 1
    return cluster


def fall_silent(cluster: Cluster, node: str, leader: str = "n1") -> None:
    """Let an election timeout pass in which the leader hears from everybody but ``node``."""
    beats = cluster.settings.election_timeout_max_ns // cluster.settings.heartbeat_ns
    for _ in range(beats + 1):
        cluster.heartbeat(leader, drop=to(node))


def with_entries(node: str) -> Rule:
    """Messages that bring ``node`` entries; heartbeats do not."""
    return lambda each: each.to == node and len(each.message.append_entries.entries) > 0


def entries_kept(cluster: Cluster) -> list[int]:
    """Return how many entries n1 kept behind each of its snapshots."""
    start_index, kept = 0, []
    for each in cluster.events_of("snapshot_taken", "n1"):
        start_index += each.snapshot_taken.entries_dropped
        kept.append(each.snapshot_taken.index - start_index)
    return kept


def starve(cluster: Cluster, count: int) -> None:
    """Put ``count`` values; none of them gets through to n3, which answers heartbeats."""
    first = cluster.cores["n1"].replica.log.last_index
    for number in range(first, first + count):
        body = put(f"more{number % 5}", b"v" * 400, client=f"d{number % 5}", sequence=number)
        answer = cluster.answer("n1", body, drop=with_entries("n3"))
        assert isinstance(answer, storage_pb2.PutResponse)
        cluster.heartbeat("n1", drop=with_entries("n3"))


def chunks(sent: list[Envelope]) -> list[int]:
    """Return the numbers of the chunks among ``sent``."""
    return [
        each.message.install_snapshot.position - 1
        for each in sent
        if each.kind == "install_snapshot" and each.message.install_snapshot.HasField("data")
    ]


def deliver_chunks(cluster: Cluster, count: int) -> None:
    """Let n1 begin to send its snapshot and at least ``count`` chunks of it arrive."""
    for _ in range(3):
        cluster.pass_time(SETTINGS.heartbeat_ns)
        cluster.wake("n1")
        for _ in range(20):
            if len(chunks(cluster.delivered)) >= count:
                return
            cluster.deliver()
    raise AssertionError("no chunks arrive")


def test_a_snapshot_takes_the_place_of_the_log_and_a_restart_finds_the_same_state() -> None:
    cluster = Cluster(1, SETTINGS)
    cluster.elect("n1")
    write(cluster, 15)
    tend(cluster, "n1")
    write(cluster, 3)
    before = cluster.get_all("n1")
    taken = [each.snapshot_taken for each in cluster.events_of("snapshot_taken")]
    assert [each.index for each in taken] == [10]
    assert taken[0].bytes == sum(len(data) for _, data in cluster.disks["n1"].scan("snapshot"))
    assert next(key for key, _ in cluster.disks["n1"].scan("log")) == log_key(11)
    cluster.start("n1")
    cluster.elect("n1")
    assert cluster.get_all("n1") == before


def test_a_restart_from_a_snapshot_remembers_what_clients_have_written() -> None:
    """Sessions are part of the state (dissertation §6.3): a retry still takes effect once."""
    cluster = Cluster(1, SETTINGS)
    cluster.elect("n1")
    write(cluster, 12)
    tend(cluster, "n1")
    index = cluster.cores["n1"].replica.snapshots.index
    cluster.start("n1")
    cluster.elect("n1")
    again = cluster.answer("n1", put(f"k{index - 1}", b"v" * 40, sequence=index - 1))
    # The sequence of the last write in the snapshot, or one that a later write has superseded.
    assert cluster.cores["n1"].replica.machine.get(f"k{index - 1}") is not None
    assert not isinstance(again, storage_pb2.PutResponse) or again.served.log_index == index


def test_a_snapshot_is_written_in_steps_and_what_comes_meanwhile_is_not_in_it() -> None:
    cluster = Cluster(1, SETTINGS)
    cluster.elect("n1")
    write(cluster, 10)
    replica = cluster.cores["n1"].replica
    assert replica.snapshots.due_ns is not None, "it was begun"
    assert replica.snapshots.complete is None
    index = 10  # the entry with which it was due
    write(cluster, 5)
    tend(cluster, "n1")
    assert replica.snapshots.complete is not None
    assert replica.snapshots.index == index, "as of the entry at which it was begun"
    cluster.disks["n1"].write([Erase("log", log_key(replica.snapshots.index + 1), None)])
    cluster.disks["n1"].write([Erase("meta", b"commit_index", b"commit_index\0")])
    cluster.start("n1")
    restored = cluster.cores["n1"].replica
    assert restored.machine.applied_index == replica.snapshots.index
    assert len(restored.machine) == replica.snapshots.index - 1, "one key per entry but the no-op"


def test_the_snapshot_before_stays_valid_until_the_next_is_complete() -> None:
    cluster = Cluster(1, SETTINGS)
    cluster.elect("n1")
    write(cluster, 10)
    tend(cluster, "n1")
    first = cluster.cores["n1"].replica.snapshots.index
    write(cluster, 30)
    core = cluster.cores["n1"]
    assert core.replica.snapshots.due_ns is not None, "the next one is being taken"
    cluster.pass_time(CHUNK_GAP_NS)
    cluster.wake("n1")
    keys = cluster.get_all("n1")
    assert {key[:8] for key, _ in cluster.disks["n1"].scan("snapshot")} > {chunk_key(first, 0)[:8]}
    cluster.start("n1")
    replica = cluster.cores["n1"].replica
    assert replica.snapshots.index == first
    cluster.elect("n1")
    assert cluster.get_all("n1") == keys
    tend(cluster, "n1")
    left = {key[:8] for key, _ in cluster.disks["n1"].scan("snapshot")}
    assert left == {chunk_key(replica.snapshots.index, 0)[:8]}, "what was cut short is gone"


def test_no_snapshot_is_taken_before_the_log_is_as_large_as_the_last_one() -> None:
    """Dissertation §5.1.3: else a large state would be written again and again."""
    settings = RaftSettings(snapshot_entries=2, snapshot_chunk_bytes=10_000)
    cluster = Cluster(1, settings)
    cluster.elect("n1")
    for number in range(1, 31):
        cluster.answer("n1", put(f"k{number}", b"v" * 500, sequence=number))
        tend(cluster, "n1")
    sizes = [each.snapshot_taken.bytes for each in cluster.events_of("snapshot_taken")]
    assert 2 <= len(sizes) <= 6
    assert all(after > 1.7 * before for before, after in pairwise(sizes[1:]))


def test_a_few_entries_stay_for_followers_that_lag_a_little() -> None:
    cluster = Cluster(3, TRAILING)
    cluster.elect("n1")
    write(cluster, 12)
    write(cluster, 3, drop="n3")
    tend(cluster, "n1", "n2")
    log = cluster.cores["n1"].replica.log
    assert log.start_index == cluster.cores["n1"].replica.snapshots.index - 4
    cluster.heartbeat("n1")
    cluster.heartbeat("n1")
    assert cluster.cores["n3"].replica.commit_index == log.last_index
    assert not cluster.events_of("snapshot_sent")


def test_a_follower_that_lags_behind_the_log_gets_a_snapshot_and_then_entries() -> None:
    cluster = lagging()
    write(cluster, 2)
    for _ in range(3):
        cluster.heartbeat("n1")
    first, third = cluster.cores["n1"].replica, cluster.cores["n3"].replica
    assert list(third.machine.items()) == list(first.machine.items())
    assert third.commit_index == first.commit_index
    sent = cluster.events_of("snapshot_sent", "n1")[0].snapshot_sent
    installed = cluster.events_of("snapshot_installed", "n3")[0].snapshot_installed
    assert (sent.to, installed.sender) == ("n3", "n1")
    assert sent.index == installed.index == first.snapshots.index
    assert sent.bytes == installed.bytes > 0
    cluster.start("n3")
    assert cluster.cores["n3"].replica.commit_index >= installed.index


def test_a_follower_that_restarts_half_way_goes_on_where_it_was() -> None:
    cluster = lagging()
    half = 3
    deliver_chunks(cluster, half)
    assert cluster.cores["n3"].replica.snapshots.incoming is not None
    cluster.in_flight.clear()
    cluster.start("n3")
    received = cluster.cores["n3"].replica.snapshots.incoming
    assert received is not None, "a restart keeps what was received"
    already = len(received.chunks)
    assert already >= half
    cluster.delivered.clear()
    for _ in range(3):
        cluster.heartbeat("n1")
    again = chunks(cluster.delivered)
    assert min(again) == already, "nothing that is durable comes a second time"
    assert cluster.events_of("snapshot_installed", "n3")


def test_a_new_leader_goes_on_with_a_snapshot_of_the_same_bytes() -> None:
    cluster = lagging()
    deliver_chunks(cluster, 2)
    headers = [cluster.cores[node].replica.snapshots.complete for node in ("n1", "n2")]
    assert headers[0] is not None
    assert headers[1] is not None
    assert headers[0].header == headers[1].header
    cluster.in_flight.clear()
    incoming = cluster.cores["n3"].replica.snapshots.incoming
    assert incoming is not None
    already = len(incoming.chunks)
    cluster.delivered.clear()
    cluster.elect("n2", drop=to("n1"))
    for _ in range(3):
        cluster.heartbeat("n2", drop=to("n1"))
    assert min(chunks(cluster.delivered)) == already
    assert cluster.events_of("snapshot_installed", "n3")[0].snapshot_installed.sender == "n2"


def test_lost_chunks_are_sent_again_and_no_more_than_a_few_are_under_way() -> None:
    cluster = lagging()
    lost: set[int] = set()
    highest = 0

    def lose(each: Envelope) -> bool:
        nonlocal highest
        under_way = chunks(cluster.in_flight) if cluster.in_flight else []
        highest = max(highest, len(under_way))
        number = chunks([each])
        if number and number[0] % 3 == 1 and number[0] not in lost:
            lost.add(number[0])
            return True
        return False

    for _ in range(12):
        cluster.heartbeat("n1", lose)
    assert len(lost) >= 2
    assert highest <= 2 * 4, "a window, and its repetition"
    assert (
        cluster.cores["n3"].replica.snapshots.index == cluster.cores["n1"].replica.snapshots.index
    )


def test_a_dead_follower_is_asked_and_not_flooded() -> None:
    cluster = lagging()
    sent: list[Envelope] = []
    for _ in range(5):
        cluster.pass_time(SETTINGS.heartbeat_ns)
        cluster.wake("n1")
        sent += [each for each in cluster.in_flight if each.to == "n3"]
        cluster.settle(to("n3"))
    assert {each.kind for each in sent} <= {"install_snapshot", "append_entries"}
    assert chunks(sent) == [], "chunks leave when it has answered"


def test_the_log_behind_a_snapshot_that_is_being_sent_is_kept() -> None:
    """Else a follower that needs long for a snapshot would need the next one right away."""
    cluster = lagging()
    cluster.heartbeat("n1", drop=lambda each: bool(chunks([each])))
    follower = cluster.cores["n1"].leader.followers["n3"]  # type: ignore[union-attr]
    assert follower.state is State.SNAPSHOT
    assert follower.install is not None
    sent_index = follower.install.snapshot.header.index
    for _ in range(2):
        for number in range(15):
            body = put(
                f"more{number}", b"v" * 400, client=f"d{cluster.now_ns}", sequence=number + 1
            )
            cluster.answer("n1", body, drop=lambda each: bool(chunks([each])))
            cluster.heartbeat("n1", drop=lambda each: bool(chunks([each])))
    replica = cluster.cores["n1"].replica
    assert replica.snapshots.index > sent_index, "newer ones were taken meanwhile"
    assert replica.log.start_index <= sent_index
    for _ in range(4):
        cluster.heartbeat("n1")
    assert len(cluster.events_of("snapshot_installed", "n3")) == 1
    assert cluster.cores["n3"].replica.commit_index == replica.commit_index


def test_the_log_is_kept_for_a_follower_that_catches_up_after_a_snapshot() -> None:
    """Else one on a slow link would be brought a snapshot after the other and never catch up."""
    cluster = lagging()
    for _ in range(3):
        cluster.heartbeat("n1")
    assert len(cluster.events_of("snapshot_installed", "n3")) == 1
    replica = cluster.cores["n1"].replica
    starve(cluster, 60)
    assert replica.snapshots.index > cluster.cores["n3"].replica.commit_index, "newer ones"
    for _ in range(4):
        cluster.heartbeat("n1")
    assert len(cluster.events_of("snapshot_installed", "n3")) == 1
    assert cluster.cores["n3"].replica.commit_index == replica.commit_index


@pytest.mark.parametrize(
    ("settings", "entries_max"),
    [(SETTINGS, 4 * 10), (replace(SETTINGS, snapshot_bytes=2_000), 4 * 2_000 // 400)],
    ids=["entries", "bytes"],
)
def test_what_is_kept_for_a_follower_that_lags_is_bounded(
    settings: RaftSettings, entries_max: int
) -> None:
    cluster = Cluster(3, settings)
    cluster.elect("n1")
    starve(cluster, 80)
    kept = entries_kept(cluster)
    assert 3 * entries_max / 4 < max(kept) <= entries_max
    assert cluster.events_of("snapshot_installed", "n3"), "the way out of the bound"


def test_a_follower_that_lags_by_more_than_the_bound_costs_nobody_the_trailing_entries() -> None:
    cluster = Cluster(3, replace(SETTINGS, snapshot_trailing_entries=60))
    cluster.elect("n1")
    starve(cluster, 80)
    assert max(entries_kept(cluster)) == 60
    assert sorted(entries_kept(cluster)) == entries_kept(cluster), "and none but the oldest goes"


def test_nothing_is_kept_for_a_follower_that_is_silent() -> None:
    cluster = Cluster(3, SETTINGS)
    cluster.elect("n1")
    fall_silent(cluster, "n3")
    write(cluster, 20, drop="n3")
    tend(cluster, "n1", "n2", drop="n3")
    replica = cluster.cores["n1"].replica
    assert replica.log.start_index == replica.snapshots.index >= 10


def test_a_follower_that_has_the_entry_needs_no_snapshot_to_know_it_committed() -> None:
    cluster = Cluster(3, SETTINGS)
    cluster.elect("n1")
    write(cluster, 12)
    tend(cluster, "n1")
    replica = cluster.cores["n1"].replica
    assert replica.snapshots.complete is not None
    leader = cluster.cores["n1"].leader
    assert leader is not None
    leader.followers["n2"].begin_install(replica.snapshots.complete, cluster.now_ns)
    cluster.heartbeat("n1")
    cluster.heartbeat("n1")
    assert not cluster.events_of("snapshot_installed", "n2")
    assert cluster.cores["n2"].replica.commit_index == replica.commit_index
    assert leader.followers["n2"].state is State.REPLICATE


def test_entries_that_a_snapshot_contradicts_are_dropped_and_told() -> None:
    """A node may come back with a long log of an old term behind where the others were."""
    cluster = Cluster(3, SETTINGS, terms={"n3": [1] * 39}, current_term=1)
    cluster.elect("n2", drop=to("n3"))
    fall_silent(cluster, "n3", leader="n2")
    write(cluster, 20, leader="n2", drop="n3")
    tend(cluster, "n2", drop="n3")
    for _ in range(4):
        cluster.heartbeat("n2")
    index = cluster.events_of("snapshot_installed", "n3")[0].snapshot_installed.index
    truncated = [each.log_truncated for each in cluster.events_of("log_truncated", "n3")]
    assert [(each.from_index, each.entries) for each in truncated] == [(index + 1, 39 - index)]
    assert cluster.get_all("n3") == cluster.get_all("n2")


@pytest.mark.parametrize("number", [0, 1])
def test_a_snapshot_without_one_of_its_chunks_is_corrupt(number: int) -> None:
    cluster = Cluster(1, SETTINGS)
    cluster.elect("n1")
    write(cluster, 12)
    tend(cluster, "n1")
    key = chunk_key(cluster.cores["n1"].replica.snapshots.index, number)
    cluster.disks["n1"].write([Erase("snapshot", key, key + b"\0")])
    with pytest.raises(CorruptStore):
        cluster.start("n1")


def test_a_log_that_ends_before_its_snapshot_is_corrupt() -> None:
    cluster = Cluster(1, TRAILING)
    cluster.elect("n1")
    write(cluster, 12)
    tend(cluster, "n1")
    index = cluster.cores["n1"].replica.snapshots.index
    cluster.disks["n1"].write([Erase("log", log_key(index), None)])
    with pytest.raises(CorruptStore, match=f"the snapshot is at {index}"):
        cluster.start("n1")


def test_a_read_after_an_install_sees_what_the_log_no_longer_tells() -> None:
    cluster = lagging()
    for _ in range(3):
        cluster.heartbeat("n1")
    answer = cluster.answer("n3", get("k3", local=True))
    assert isinstance(answer, storage_pb2.GetResponse)
    assert answer.versions[0].value == b"v" * 40
