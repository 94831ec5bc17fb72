"""Whole stories, message by message, against recorded ones: a change of the protocol is a diff.

``pytest tests/test_raft_transcripts.py --rerecord`` records them anew; the diff is to be reviewed.
"""

import pytest

from leader.raft import RaftSettings
from leader.raft.snapshots import CHUNK_GAP_NS
from replication.v1 import control_pb2, storage_pb2
from tests.support.raft_cluster import MS, put, to
from tests.support.raft_transcript import Transcript, compare

PLAIN = RaftSettings(pre_vote=False, check_quorum=False)


@pytest.fixture
def rerecord(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--rerecord"))


def led(settings: RaftSettings | None = None, spares: int = 0, size: int = 3) -> Transcript:
    cluster = Transcript(size, settings, spares=spares)
    cluster.elect("n1")
    cluster.heartbeat("n1")
    cluster.lines.clear()
    return cluster


def beat(cluster: Transcript, leader: str, lost: set[str] | None = None) -> None:
    cluster.pass_time(cluster.settings.heartbeat_ns)
    cluster.wake(leader)
    cluster.deliver_all(lost)


def test_election(rerecord: bool) -> None:
    """Raft §5.2 and dissertation §9.6."""
    cluster = Transcript(3)
    cluster.say("n1 asks whether it would win, then asks in earnest")
    cluster.campaign("n1")
    cluster.deliver_all()
    cluster.say("n1 falls silent and n2 takes over")
    cluster.campaign("n2")
    cluster.deliver_all({"n1"})
    compare("election", cluster, rerecord)


def test_split_vote(rerecord: bool) -> None:
    """Raft §5.2: nobody wins a term, and chance decides the next."""
    cluster = Transcript(4, PLAIN)
    cluster.say("n1 and n2 stand at once, each gets one vote beside its own")
    cluster.campaign("n1")
    cluster.wake("n2")
    cluster.deliver(lambda each: (each.sender, each.to) in (("n1", "n3"), ("n2", "n4")))
    cluster.deliver_all()
    cluster.say("n2 times out first")
    cluster.campaign("n2")
    cluster.deliver_all()
    compare("split_vote", cluster, rerecord)


def test_log_repair(rerecord: bool) -> None:
    """Raft figure 7: the leader of term 8 against a follower that lacks entries, one that has too
    many, and one whose entries are of terms that nobody else knows."""
    leader = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6]
    terms = {
        "n1": leader,
        "n2": leader[:9],
        "n3": [1, 1, 1, 4],
        "n4": [*leader, 6],
        "n5": [1, 1, 1, 4, 4, 4, 4],
        "n6": [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
        "n7": [*leader, 7, 7],
    }
    cluster = Transcript(7, PLAIN, terms=terms, current_term=7)
    cluster.say("n1 wins term 8")
    cluster.campaign("n1")
    cluster.deliver_all()
    cluster.say("a heartbeat finds what is left to repair")
    beat(cluster, "n1")
    assert all(cluster.log(node) == cluster.log("n1") for node in cluster.members)
    compare("log_repair", cluster, rerecord)


def test_figure_8(rerecord: bool) -> None:
    """Raft §5.4.2: an entry of an old term on a majority is not committed by being there."""
    terms = {"n1": [1, 2], "n2": [1, 2], "n3": [1], "n4": [1], "n5": [1, 3]}
    settings = RaftSettings(pre_vote=False, check_quorum=False, append_entries_max=1)
    cluster = Transcript(5, settings, terms=terms, current_term=3)
    cluster.say("n1 leads term 4 and brings its entry of term 2 to n3: a majority has it")
    cluster.campaign("n1")
    cluster.deliver_all({"n4", "n5"})
    cluster.say("with an entry of term 4 on the same majority both are committed")
    beat(cluster, "n1", {"n4", "n5"})
    cluster.say("n5 cannot win any more")
    cluster.campaign("n5")
    cluster.deliver_all({"n1"})
    compare("figure_8", cluster, rerecord)


def test_snapshot_install(rerecord: bool) -> None:
    """Dissertation §5: chunks, a lost one, a restart half-way."""
    settings = RaftSettings(
        snapshot_entries=6, snapshot_chunk_bytes=100, snapshot_trailing_entries=0
    )
    cluster = led(settings)
    cluster.say("n3 is away while n1 and n2 take a snapshot")
    for _ in range(1 + settings.election_timeout_max_ns // settings.heartbeat_ns):
        beat(cluster, "n1", {"n3"})
    for number in range(1, 9):
        cluster.submit("n1", put(f"k{number}", b"v" * 30, sequence=number))
        cluster.settle(to("n3"))
    for _ in range(8):
        cluster.pass_time(CHUNK_GAP_NS)
        cluster.wake("n1")
        cluster.settle(to("n3"))
    cluster.lines.clear()
    cluster.say("n3 is back: it is asked how much it has, and gets two chunks")
    cluster.pass_time(settings.heartbeat_ns)
    cluster.wake("n1")
    for _ in range(6):
        cluster.deliver(
            lambda each: (
                "n2" not in (each.to, each.sender) and each.message.install_snapshot.position <= 2
            )
        )
    cluster.in_flight.clear()
    cluster.say("n3 restarts, and goes on where it was")
    cluster.start("n3")
    for _ in range(3):
        beat(cluster, "n1", {"n2"})
    assert cluster.get_all("n3") == cluster.get_all("n1")
    compare("snapshot_install", cluster, rerecord)


def test_leadership_transfer(rerecord: bool) -> None:
    """Dissertation §3.10."""
    cluster = led()
    cluster.say("n3 lacks an entry")
    cluster.submit("n1", put("k", b"v"))
    cluster.deliver_all({"n3"})
    cluster.say("n1 is to hand over to n3, which gets the entry first")
    to_n3 = control_pb2.TransferLeadership(to="n3")
    cluster.submit("n1", control_pb2.CommandRequest(transfer_leadership=to_n3))
    cluster.submit("n1", put("k", b"w", sequence=2))
    cluster.deliver_all()
    beat(cluster, "n1")
    compare("leadership_transfer", cluster, rerecord)


def test_membership_change(rerecord: bool) -> None:
    """Dissertation §4: n4 takes the place of n1, which leads."""
    cluster = led(spares=1)
    cluster.say("n4 is to come in the place of n1")
    replace = control_pb2.ReplaceMember(node="n1", by="n4")
    cluster.submit("n1", control_pb2.CommandRequest(replace_member=replace))
    cluster.deliver_all()
    for _ in range(4):
        if 1 in cluster.replies:
            break
        beat(cluster, "n1")
    cluster.deliver_all()
    assert isinstance(cluster.replies[1], control_pb2.CommandResponse)
    compare("membership_change", cluster, rerecord)


def test_lease_read(rerecord: bool) -> None:
    """Dissertation §6.4.1: by the clock, then confirmed by a majority, then refused."""
    cluster = led()
    body = storage_pb2.GetRequest(key="k", consistency=storage_pb2.CONSISTENCY_LEASE)
    cluster.say("within the lease: no message")
    cluster.submit("n1", body)
    cluster.say("n1 was paused; the lease has ended: a round confirms the read")
    cluster.pass_time(280 * MS)
    cluster.submit("n1", body)
    cluster.deliver_all()
    cluster.say("cut off for longer than an election timeout: it leads no more")
    cluster.pass_time(400 * MS)
    cluster.submit("n1", body)
    compare("lease_read", cluster, rerecord)
