"""Raft as a pure state machine: one leader, a replicated log, linearizable reads and writes.

Read in this order: ``quorum`` (the arithmetic), ``log``, ``state_machine`` (what entries do,
sessions), ``configuration`` (who votes), ``snapshots``, ``replica`` (what a node has in every role,
and its outbox), ``compaction``, ``election``, ``following``, ``progress``, ``installing``,
``reads``, ``lease``, ``membership``, ``steering`` (what an operator asks of a leader), ``leading``,
``waiting``, ``status``, ``core`` (the changes of role, and the seam); ``invariants`` says what must
hold at every step. The messages and what is on disk: ``protos/leader/v1/raft.proto``. "Raft §" is
the paper (Ongaro and Ousterhout, 2014), "dissertation §" is Ongaro's of the same year.

Duties of the host are those of ``replication.protocol``. Two of them carry this package:

* *Order.* A vote, an acknowledgement and a reply stand behind the ``Persist`` they speak of. A
  leader sends entries before it writes them itself, and counts its own copy at once
  (``leading`` says why that is sound).
* *flush.* Requests only fill the log; a leader's messages leave in ``flush``, one batch for all
  that came in since the last. A host that did not call it would have a mute leader. One message
  object may be sent to several followers: a host that serialises by identity does so once.

What is on disk: space ``log`` (eight bytes big-endian index → ``Entry``), space ``snapshot`` (its
index and the number of the chunk → ``SnapshotChunk``), space ``meta`` (``hard_state``,
``log_start``, ``snapshot``, ``incoming`` → the messages of these names, ``commit_index`` → eight
bytes big-endian). The commit index is saved along with entries and may lag; a restarted node loads
its snapshot, applies the log up to the commit index at once and the rest when a leader tells.

Guarantees, as long as a minority of disks forgets nothing and a majority can talk:

* Election Safety, Leader Append-Only, Log Matching, Leader Completeness, State Machine Safety
  (Raft figure 3), under loss, duplication, reordering, delay, pauses, crashes and any clock.
* A write that was acknowledged is in every later leader's log. A write refused with ``NotLeader``
  or ``Overloaded`` is in no log. ``LeadershipLost`` and ``QuorumTimeout``: it may be in some.
* A LINEARIZABLE read sees every write and read that was answered before it was sent, and waits for
  no clock (ReadIndex, dissertation §6.4), at a follower too if ``follower_reads`` is set. A LEASE
  read sees the same as long as no clock runs faster than another by more than ``clock_drift_max``
  (§6.4.1); where that is seen to be broken, and where the lease has ended, it is confirmed as a
  LINEARIZABLE one. A LOCAL read sees what the asked node has applied; on a follower that can talk
  to its leader this is at most about a heartbeat old.
* A write takes effect once however often it is sent (``state_machine``, sessions), as long as it is
  sent again within ``session_timeout`` of the client's last write.
* Log and memory are bounded: by the size of the state, of ``snapshot_entries`` and
  ``snapshot_bytes``, and of what waits for a majority.
* A cluster with a majority that can talk elects a leader, and a leader without one steps down
  within an election timeout (check-quorum, §6.2), unless two settings are turned off.
* Members change one command at a time, and every decision meanwhile is one of both the old and the
  new voters (joint consensus, §4.3). Who votes has caught up before. A node that was removed cannot
  depose a leader that the members hear, unless ``check_quorum`` is off.
* A leader that hands over (§3.10) refuses writes for at most an election timeout.

Deviations from the paper, each for a reason:

* Pre-vote (dissertation §9.6), and no vote within an election timeout of a leader's word (§4.2.3).
  Requests carry the sender's term in the header and the campaign's beside it, so a pre-vote
  request is no lie about terms.
* A refused AppendEntries brings the last place that can still match, and the leader skips by its
  own terms too (as etcd does); the paper sketches the follower's half (§5.3).
* Heartbeats go on while appends are under way, and read rounds are numbered in every
  AppendEntries: no extra kind of message confirms a leader.
* The commit index travels with the next append or heartbeat, never in a message of its own.
* A node that never knew a term waits less for its first election: a new cluster serves sooner.
* A write whose client has a newer one applied is dropped (dissertation §6.3 leaves this open).
* Voters change by joint consensus whatever the change (``configuration`` says why); learners come
  and go in one step.
* A restarted node keeps the promise of not voting within an election timeout that it may have given
  before, and a promise outlives the news of a higher term: leases rest on both (§6.4.1).
* A leader whose transfer was given up has no lease for the rest of its term (``lease``).
* Messages are taken from everybody, members or not (§4.2.2); strangers count in no quorum.
* A removed leader asks its successor to stand and steps down at once, not waiting for the outcome.
* ``context`` of the storage API is ignored and returned empty: there are no siblings to cover.

"""

from leader.raft.core import RaftCore, create
from leader.raft.settings import DefaultRead, RaftSettings, promise
from leader.v1 import raft_pb2
from replication.protocol import Backend, Family
from replication.v1 import storage_pb2

__all__ = ["DefaultRead", "RaftCore", "RaftSettings", "backend", "create"]

backend = Backend(
    name="raft",
    family=Family.LEADER,
    title="Raft",
    message_type=raft_pb2.RaftMessage,
    settings_type=RaftSettings,
    create=create,
    consistencies=frozenset(
        {
            storage_pb2.CONSISTENCY_LINEARIZABLE,
            storage_pb2.CONSISTENCY_LEASE,
            storage_pb2.CONSISTENCY_LOCAL,
        }
    ),
    single_register=True,
    promise=promise,
)
