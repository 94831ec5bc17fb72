"""Coming back: rewinding and naming what is lost, all keys anew, restarts, new disks, lag."""

import pytest

from leader.primary_backup import Mode
from replication.errors import NotLeader
from replication.v1 import event_pb2, storage_pb2
from tests.support.backup_cluster import Cluster
from tests.support.raft_cluster import MS, MemoryDisk, put

PUT = storage_pb2.PutResponse


def returned(cluster: Cluster, old: str) -> list[event_pb2.LogTruncated]:
    cluster.mend()
    cluster.run(300)
    return [each.log_truncated for each in cluster.told("log_truncated", old)]


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("fencing", [True, False])
def test_an_old_primary_rewinds_and_names_every_acknowledged_write_that_it_lost(
    fencing: bool, restart: bool
) -> None:
    cluster = Cluster(mode=Mode.ASYNC, fencing=fencing)
    old = cluster.primary()
    cluster.result(old, put("a", b"kept", "a"))
    cluster.result(old, put("b", b"kept", "b"))
    cluster.isolate(old)
    assert isinstance(cluster.result(old, put("a", b"lost", "c")), PUT)
    assert isinstance(cluster.result(old, put("z", b"lost", "d")), PUT)
    new = cluster.successor(old)
    cluster.result(new, put("b", b"new", "e"))
    if restart:
        cluster.kill(old)
        cluster.start(old)
    (truncated,) = returned(cluster, old)
    assert truncated.entries == 2
    lost = [(each.write_id.client_id, each.key) for each in truncated.acknowledged]
    assert lost == [("c", "a"), ("d", "z")]
    assert [cluster.value(old, key) for key in "abz"] == [b"kept", b"new", None]
    assert cluster.primaries() == [new]


def test_what_was_never_acknowledged_is_dropped_without_a_loss() -> None:
    cluster = Cluster()
    old = cluster.primary()
    cluster.isolate(old)
    cluster.ask(old, put("k", b"v"))
    new = cluster.successor(old)
    cluster.result(new, put("k", b"w", "d"))
    (truncated,) = returned(cluster, old)
    assert [each.client_id for each in truncated.write_ids] == ["c"]
    assert not truncated.acknowledged
    assert cluster.value(old, "k") == b"w"


def fill(cluster: Cluster, node: str, first: int, last: int) -> None:
    for number in range(first, last + 1):
        answer = cluster.result(node, put(f"k{number % 7}", b"%d" % number, sequence=number))
        assert isinstance(answer, PUT), answer


def test_a_standby_that_was_away_for_longer_than_the_log_gets_all_keys() -> None:
    cluster = Cluster(log_records_max=8, replicate_bytes_max=20)
    primary = cluster.primary()
    away = cluster.others(primary)[0]
    cluster.kill(away)
    fill(cluster, primary, 1, 40)
    assert cluster.cores[primary].replica.log.trimmed_index > 20
    cluster.start(away)
    cluster.run(300)
    fill(cluster, primary, 41, 50)
    cluster.run(60)
    assert list(cluster.cores[away].replica.database.items()) == list(
        cluster.cores[primary].replica.database.items()
    )
    states = [each.replication_changed.state for each in cluster.told("replication_changed")]
    assert event_pb2.REPLICATION_STATE_RESYNCING in states
    assert states[-1] == event_pb2.REPLICATION_STATE_STREAMING


@pytest.mark.parametrize("log_records_max", [8, 10_000])
def test_a_standby_with_a_new_disk_gets_everything(log_records_max: int) -> None:
    cluster = Cluster(log_records_max=log_records_max)
    primary = cluster.primary()
    fill(cluster, primary, 1, 40)
    wiped = cluster.others(primary)[0]
    cluster.kill(wiped)
    cluster.disks[wiped] = MemoryDisk()
    cluster.start(wiped)
    cluster.run(200)
    fill(cluster, primary, 41, 45)
    cluster.run(60)
    assert cluster.primaries() == [primary]
    assert dict(cluster.cores[wiped].replica.database.items()) == dict(
        cluster.cores[primary].replica.database.items()
    )


def test_logs_that_part_below_the_checkpoint_are_replaced_and_the_loss_is_told() -> None:
    cluster = Cluster(mode=Mode.ASYNC, fencing=False, log_records_max=8)
    old = cluster.primary()
    fill(cluster, old, 1, 5)
    cluster.isolate(old)
    fill(cluster, old, 6, 40)
    new = cluster.successor(old)
    for number in range(1, 40):
        cluster.result(new, put(f"n{number % 5}", b"%d" % number, "d", number))
    told = returned(cluster, old)
    kept = 40 + 1 - cluster.cores[new].replica.log.trimmed_index
    assert kept < 35
    assert sum(len(each.acknowledged) for each in told) >= 8, "those it still had records of"
    assert dict(cluster.cores[old].replica.database.items()) == dict(
        cluster.cores[new].replica.database.items()
    )
    assert cluster.value(old, "k6") != b"34"


@pytest.mark.parametrize("log_records_max", [4, 10_000])
def test_a_restarted_node_has_what_it_had_and_is_no_primary(log_records_max: int) -> None:
    cluster = Cluster(log_records_max=log_records_max)
    primary = cluster.primary()
    fill(cluster, primary, 1, 30)
    cluster.run(60)
    before = {name: dict(cluster.cores[name].replica.database.items()) for name in cluster.members}
    for name in cluster.members:
        cluster.kill(name)
    for name in cluster.members:
        cluster.start(name)
    assert not cluster.primaries()
    assert isinstance(cluster.result(primary, put("k", b"v", "z")), NotLeader)
    again = cluster.primary()
    cluster.run(60)
    assert cluster.cores[again].replica.state.epoch == 2
    for name in cluster.members:
        assert dict(cluster.cores[name].replica.database.items()) == before[name]


def test_the_lag_of_a_standby_is_in_the_status_and_told_once() -> None:
    cluster = Cluster(5)
    primary = cluster.primary()
    away = cluster.others(primary)[0]
    cluster.isolate(away)
    fill(cluster, primary, 1, 9)
    cluster.run(600)
    (status,) = [each for each in cluster.cores[primary].status().peers if each.node == away]
    assert status.lag_entries == 9
    assert status.lag_ns >= 600 * MS
    told = [each.replication_changed for each in cluster.told("replication_changed", primary)]
    assert [(each.standby, each.state) for each in told] == [
        (away, event_pb2.REPLICATION_STATE_LAGGING)
    ]
    assert told[0].lag_entries == 9
