"""Raft as a pure state machine: one leader, a replicated log, linearizable reads and writes.

Read in this order: ``quorum`` (the arithmetic), ``log``, ``state_machine`` (what entries do,
sessions), ``configuration``, ``snapshots``, ``replica`` (what a node has in every role, and its
outbox), ``compaction``, ``election``, ``following``, ``progress``, ``reads``, ``leading``, ``core``
(the changes of role, and the seam). The messages and what is on disk:
``protos/leader/v1/raft.proto``. "Raft §" is the paper (Ongaro and Ousterhout, 2014), "dissertation
§" is Ongaro's of the same year.

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
  no clock (ReadIndex, dissertation §6.4). A LOCAL read sees what the asked node has applied; on a
  follower that can talk to its leader this is at most about a heartbeat old.
* A write takes effect once however often it is sent (``state_machine``, sessions), as long as it is
  sent again within ``session_timeout`` of the client's last write.
* Log and memory are bounded: by the size of the state, of ``snapshot_entries`` and
  ``snapshot_bytes``, and of what waits for a majority.
* A cluster with a majority that can talk elects a leader, and a leader without one steps down
  within an election timeout (check-quorum, §6.2), unless two settings are turned off.

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
* ``context`` of the storage API is ignored and returned empty: there are no siblings to cover.

Not here yet: changes of membership, leases, linearizable reads at followers, leadership transfer.
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
    consistencies=frozenset({storage_pb2.CONSISTENCY_LINEARIZABLE, storage_pb2.CONSISTENCY_LOCAL}),
    single_register=True,
    promise=promise,
)
