"""What operators of PostgreSQL, MySQL and Redis know from their failovers, step by step."""

import pytest

from leader.primary_backup import DefaultRead, Mode
from replication.errors import (
    Conflict,
    InvalidRequest,
    LeadershipLost,
    NotLeader,
    Overloaded,
    QuorumTimeout,
)
from replication.v1 import control_pb2, storage_pb2
from tests.support.backup_cluster import Cluster
from tests.support.raft_cluster import MS, SECOND, compare_and_set, delete, get, put

PUT = storage_pb2.PutResponse


def read(cluster: Cluster, node: str, key: str) -> bytes | None:
    answer = cluster.result(node, storage_pb2.GetRequest(key=key))
    assert isinstance(answer, storage_pb2.GetResponse), answer
    return answer.versions[0].value if answer.versions else None


# When a write is acknowledged.


def test_async_acknowledges_what_no_standby_has() -> None:
    cluster = Cluster(mode=Mode.ASYNC)
    primary = cluster.primary()
    cluster.isolate(primary)
    assert isinstance(cluster.result(primary, put("k", b"v")), PUT)
    assert [cluster.value(other, "k") for other in cluster.others(primary)] == [None, None]


def test_semi_sync_waits_for_as_many_standbys_as_it_was_told() -> None:
    cluster = Cluster(5, semi_sync_standbys=3)
    primary = cluster.primary()
    first, second, *_ = cluster.others(primary)
    cluster.isolate(first)
    assert isinstance(cluster.result(primary, put("k", b"1", sequence=1)), PUT)
    cluster.isolate(first, second)
    number = cluster.ask(primary, put("k", b"2", sequence=2), timeout_ns=100 * MS)
    assert number not in cluster.results
    cluster.run(101)
    # Two standbys hold it, which is enough for every majority: it is not lost, only not promised.
    assert cluster.results[number] == QuorumTimeout(3, 4)


def test_sync_writes_stop_while_a_standby_is_gone_and_go_on_when_it_is_back() -> None:
    cluster = Cluster(mode=Mode.SYNC)
    primary = cluster.primary()
    gone = cluster.others(primary)[0]
    cluster.kill(gone)
    number = cluster.ask(primary, put("k", b"v"), timeout_ns=10 * SECOND)
    cluster.run(1000)
    assert number not in cluster.results
    assert read(cluster, primary, "k") == b"v", "a majority has it, so readers may"
    cluster.start(gone)
    cluster.run(200)
    assert isinstance(cluster.results[number], PUT)


def test_sync_goes_on_without_a_standby_that_was_removed_and_waits_for_it_again() -> None:
    cluster = Cluster(mode=Mode.SYNC, remove_standby_after_ns=200 * MS)
    primary = cluster.primary()
    gone, other = cluster.others(primary)
    cluster.kill(gone)
    number = cluster.ask(primary, put("k", b"v"), timeout_ns=10 * SECOND)
    cluster.run(300)
    assert isinstance(cluster.results[number], PUT)
    cluster.start(gone)
    cluster.run(300)
    told = [each.acknowledgement_changed for each in cluster.told("acknowledgement_changed")]
    assert [each.standbys for each in told] == [1, 2]
    assert gone in told[0].reason
    # Never fewer than any majority needs: without both nothing is acknowledged.
    cluster.isolate(primary, gone)
    cluster.kill(gone)
    number = cluster.ask(primary, put("k", b"w", sequence=2), timeout_ns=10 * SECOND)
    cluster.run(290)
    assert number not in cluster.results
    assert cluster.value(other, "k") == b"v"


def test_semi_sync_falls_back_to_async_and_returns_when_standbys_have_caught_up() -> None:
    """MySQL's default: after the timeout a commit no longer waits for anybody."""
    cluster = Cluster(async_after_ns=200 * MS, fencing=False)
    primary = cluster.primary()
    cluster.isolate(primary)
    number = cluster.ask(primary, put("k", b"1", sequence=1), timeout_ns=10 * SECOND)
    assert number not in cluster.results
    cluster.run(201)
    assert isinstance(cluster.results[number], PUT)
    assert isinstance(cluster.result(primary, put("k", b"2", sequence=2)), PUT)
    cluster.mend()
    cluster.run(100)
    told = [
        each.acknowledgement_changed.standbys for each in cluster.told("acknowledgement_changed")
    ]
    assert told == [0, 1]


def test_a_compare_and_set_is_decided_against_what_is_not_acknowledged_yet() -> None:
    cluster = Cluster()
    primary = cluster.primary()
    cluster.isolate(primary)
    waiting = cluster.ask(primary, put("k", b"1", "a"))
    lost = compare_and_set("k", None, b"2", "b")
    assert isinstance(cluster.result(primary, lost), Conflict)
    won = cluster.ask(primary, compare_and_set("k", b"1", b"3", "c"))
    removed = cluster.ask(primary, delete("k", "d"))
    again = cluster.ask(primary, compare_and_set("k", None, b"4", "e"))
    cluster.mend()
    cluster.run(60)
    assert all(number in cluster.results for number in (waiting, won, removed, again))
    assert isinstance(cluster.results[won], storage_pb2.CompareAndSetResponse)
    assert read(cluster, primary, "k") == b"4"


# Reads and redirection.


def test_a_standby_redirects_and_serves_local_reads() -> None:
    cluster = Cluster()
    primary = cluster.primary()
    standby = cluster.others(primary)[0]
    cluster.result(primary, put("k", b"v"))
    refused = cluster.result(standby, put("k", b"w", sequence=2))
    assert isinstance(refused, NotLeader)
    assert (refused.leader, refused.term) == (primary, 1)
    assert isinstance(cluster.result(standby, storage_pb2.GetRequest(key="k")), NotLeader)
    cluster.run(60)
    local = cluster.result(standby, get("k", local=True))
    assert isinstance(local, storage_pb2.GetResponse)
    assert local.versions[0].value == b"v"
    assert local.served.node == standby


def test_reads_are_local_by_default_if_that_was_chosen() -> None:
    cluster = Cluster(default_read=DefaultRead.LOCAL)
    standby = cluster.others(cluster.primary())[0]
    assert read(cluster, standby, "k") is None


def test_there_is_no_lease_without_fencing_and_no_command() -> None:
    cluster = Cluster(fencing=False)
    primary = cluster.primary()
    lease = storage_pb2.GetRequest(key="k", consistency=storage_pb2.CONSISTENCY_LEASE)
    assert isinstance(cluster.result(primary, lease), InvalidRequest)
    weak = put("k", b"v")
    weak.consistency = storage_pb2.CONSISTENCY_LOCAL
    assert isinstance(cluster.result(primary, weak), InvalidRequest)
    command = control_pb2.CommandRequest()
    assert isinstance(cluster.result(primary, command), InvalidRequest)  # type: ignore[arg-type]


def test_a_new_primary_reads_only_when_it_knows_what_was_committed() -> None:
    cluster = Cluster()
    old = cluster.primary()
    cluster.result(old, put("k", b"v"))
    cluster.kill(old)
    new = cluster.successor(old)
    assert read(cluster, new, "k") == b"v"


def test_a_primary_refuses_more_than_it_can_hold() -> None:
    cluster = Cluster(unacknowledged_records_max=2)
    primary = cluster.primary()
    cluster.isolate(primary)
    cluster.ask(primary, put("a", b"v", "a"))
    cluster.ask(primary, put("b", b"v", "b"))
    assert isinstance(cluster.result(primary, put("c", b"v", "c")), Overloaded)


# Failover.


def test_a_minority_that_misses_the_primary_replaces_nobody() -> None:
    cluster = Cluster(5)
    primary = cluster.primary()
    alone = cluster.others(primary)[0]
    cluster.isolate(alone)
    cluster.run(2000)
    assert cluster.primaries() == [primary]
    assert [each.peer_suspected.peer for each in cluster.told("peer_suspected", alone)] == [primary]
    cluster.mend()
    cluster.run(100)
    assert [each.peer_trusted.peer for each in cluster.told("peer_trusted", alone)] == [primary]
    assert cluster.cores[primary].replica.state.epoch == 1


@pytest.mark.parametrize("fencing", [True, False])
def test_the_most_advanced_standby_is_promoted_in_a_new_epoch(fencing: bool) -> None:
    cluster = Cluster(5, mode=Mode.ASYNC, fencing=fencing)
    old = cluster.primary()
    advanced, *behind = cluster.others(old)
    cluster.cut = {frozenset((old, name)) for name in behind}
    cluster.result(old, put("k", b"v"))
    cluster.kill(old)
    cluster.mend()
    new = cluster.successor(old)
    assert new == advanced
    assert cluster.cores[new].replica.state.config_epoch == 2
    cluster.run(60)
    assert [cluster.value(name, "k") for name in cluster.others(old)] == [b"v"] * 4


def test_a_paused_clock_of_a_primary_ends_its_lease_before_it_answers() -> None:
    cluster = Cluster(mode=Mode.ASYNC)
    primary = cluster.primary()
    core = cluster.cores.pop(primary)
    cluster.run(1000)
    cluster.cores[primary] = core
    answer = cluster.result(primary, storage_pb2.GetRequest(key="k"))
    assert isinstance(answer, NotLeader)
    assert primary not in cluster.primaries()


def test_with_fencing_an_isolated_primary_stops_within_its_lease() -> None:
    cluster = Cluster(mode=Mode.ASYNC)
    old = cluster.primary()
    cluster.isolate(old)
    assert isinstance(cluster.result(old, put("k", b"1", sequence=1)), PUT)
    cluster.run(301)
    assert old not in cluster.primaries()
    assert isinstance(cluster.result(old, put("k", b"2", sequence=2)), NotLeader)
    assert cluster.successor(old) != old


def test_without_fencing_two_primaries_acknowledge_at_once() -> None:
    cluster = Cluster(5, mode=Mode.ASYNC, fencing=False)
    old = cluster.primary()
    cluster.isolate(old, cluster.others(old)[0])
    new = cluster.successor(old)
    assert isinstance(cluster.result(new, put("k", b"new", "a")), PUT)
    assert isinstance(cluster.result(old, put("k", b"old", "b")), PUT)
    assert isinstance(cluster.result(new, put("k", b"newer", "c")), PUT)
    assert set(cluster.primaries()) == {old, new}


def test_a_voter_refuses_the_old_primary_before_it_knows_the_new_one() -> None:
    """The promise that makes counting copies safe: no acknowledgement behind a voter's back."""
    cluster = Cluster(3)
    old = cluster.primary()
    voter, other = cluster.others(old)
    cluster.cut = {frozenset((old, voter)), frozenset((old, other)), frozenset((voter, other))}
    cluster.run(500)
    monitor = cluster.cores[voter].monitor
    assert monitor.down(cluster.now_ns)
    monitor.vote(cluster.now_ns, other, 2, serves=False)
    cluster.cut = {frozenset((old, other)), frozenset((voter, other))}
    # As if the old primary had been asleep: its lease has run out meanwhile, its records come late.
    replica = cluster.cores[voter].replica
    message = cluster.cores[old].replica.message()
    message.replicate.prev_index = replica.log.last_index
    message.replicate.prev_epoch = replica.log.last_epoch
    message.replicate.records.append(b"")
    message.epoch, message.primary = 1, old
    before = replica.log.last_index
    effects = cluster.cores[voter].receive(cluster.now, old, message)
    assert replica.log.last_index == before
    assert replica.counters.fenced == 1
    assert any("superseded" in str(effect) for effect in effects)


def test_a_write_that_waited_when_its_primary_was_replaced_is_not_known_to_have_failed() -> None:
    cluster = Cluster()
    old = cluster.primary()
    cluster.isolate(old)
    number = cluster.ask(old, put("k", b"v"), timeout_ns=10 * SECOND)
    cluster.run(400)
    assert cluster.results[number] == LeadershipLost(1)
