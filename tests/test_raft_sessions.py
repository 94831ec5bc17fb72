"""Sessions (dissertation §6.3): how they end, at the same entry everywhere, and what without."""

from leader.raft import RaftSettings
from leader.raft.state_machine import StateMachine
from leader.v1 import raft_pb2
from replication.errors import Indefinite
from replication.v1 import storage_pb2
from tests.support.raft_cluster import MS, SECOND, Cluster, put


def machine_after(settings: RaftSettings, *writes: tuple[int, str, int]) -> StateMachine:
    """Return the state after ``writes``: (cluster time in ms, client, sequence)."""
    machine = StateMachine(settings)
    for index, (time_ms, client, sequence) in enumerate(writes, 1):
        body = put(client, b"%d" % index, client, sequence)
        machine.apply(index, raft_pb2.Entry(term=1, put=body, cluster_time_ms=time_ms))
    return machine


def test_a_session_ends_its_timeout_after_its_last_write() -> None:
    settings = RaftSettings(session_timeout_ns=100 * MS)
    assert machine_after(settings, (0, "a", 1), (90, "a", 2), (189, "b", 1)).sessions == 2
    assert machine_after(settings, (0, "a", 1), (90, "a", 2), (190, "b", 1)).sessions == 1


def test_beyond_the_limit_the_session_that_wrote_longest_ago_ends() -> None:
    settings = RaftSettings(sessions_max=2)
    machine = machine_after(settings, (0, "a", 1), (1, "b", 1), (2, "a", 2), (3, "c", 1))
    assert machine.sessions == 2
    again = machine.apply(5, raft_pb2.Entry(term=1, put=put("a", b"late", "a", 2)))
    assert again.index == 3, "a is known still: it was b that ended"


def test_a_snapshot_carries_the_age_of_sessions() -> None:
    """A node that got the snapshot forgets the same session at the same entry as the others."""
    settings = RaftSettings(session_timeout_ns=100 * MS)
    machine = machine_after(settings, (0, "a", 1), (50, "b", 1))
    copy = StateMachine(settings)
    for data in machine.chunks(10):
        copy.restore(data)
    copy.restored(raft_pb2.Snapshot(index=2, cluster_time_ms=50))
    for index, time_ms in enumerate((99, 100, 149, 150), 3):
        for each in (machine, copy):
            each.apply(index, raft_pb2.Entry(term=1, cluster_time_ms=time_ms))
        assert machine.sessions == copy.sessions
    assert copy.sessions == 0


def test_the_time_of_the_cluster_goes_on_under_a_new_leader() -> None:
    """Clocks of nodes have nothing to do with each other: only how long they ran counts."""
    cluster = Cluster(3)
    cluster.elect("n1")
    cluster.pass_time(250 * MS)
    cluster.answer("n1", put("k", b"v"))
    cluster.pass_time(10 * SECOND)
    cluster.elect("n2")
    cluster.pass_time(100 * MS)
    cluster.answer("n2", put("k", b"w", sequence=2))
    times = [raft_pb2.Entry.FromString(data).cluster_time_ms for data in cluster.log("n2")]
    assert times[1] - times[0] == 250
    assert times[2] - times[1] == 0, "what passes between two leaders is nobody's time"
    assert times[3] - times[2] == 100


def test_without_sessions_a_write_that_is_sent_again_takes_effect_again() -> None:
    """The counterpart: A writes 1, B writes 2, the retry of A brings 1 back."""
    for sessions, value in ((True, b"2"), (False, b"1")):
        cluster = Cluster(3, RaftSettings(sessions=sessions))
        cluster.elect("n1")
        cluster.answer("n1", put("k", b"1", "a"))
        cluster.answer("n1", put("k", b"2", "b"))
        assert isinstance(cluster.answer("n1", put("k", b"1", "a")), storage_pb2.PutResponse)
        assert cluster.get_all("n1")["k"].value == value


def test_a_write_that_was_overtaken_by_its_own_client_stays_dropped() -> None:
    cluster = Cluster(3)
    cluster.elect("n1")
    cluster.answer("n1", put("k", b"2", "a", 2))
    late = cluster.answer("n1", put("k", b"1", "a", 1))
    assert isinstance(late, Indefinite)
    assert cluster.get_all("n1")["k"].value == b"2"
