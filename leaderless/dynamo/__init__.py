"""A Dynamo-style key-value store as a pure core: any node serves, quorums of replicas agree.

Read in this order: ``ring`` (who holds a key), ``vector`` and ``versions`` (what is kept when
writes meet), ``types`` (counters and sets), ``resolve`` (what a read makes of it), ``context``
(what a client carries from a read to its next write), ``quorum`` (what a coordinator waits for),
``targets`` (whom it asks),
``coordinator``, ``reading`` and ``repair``, ``writing``, ``hints`` (what waits for who was away),
``tombstones`` (when deleted keys go), ``forwarder`` (keys of other nodes), ``detector``, ``phi``,
``swim`` and ``gossip`` (who seems alive), ``merkle``, ``anti_entropy`` and
``rounds`` (replicas that compare themselves), ``paxos`` and ``conditional`` (compare-and-set),
``membership``, ``ring_changes`` and ``transfer`` (nodes that come and go),
``commands`` (of an operator), ``replica`` and ``outbox`` (state and effects), ``core``.

What a cluster of these guarantees, while what is persisted stays persisted
- A write is acknowledged when W nodes have it on their disks: primaries of its key, the first N
  nodes on the ring, and with ``quorum = "sloppy"`` or at level ANY also nodes that stand in for
  primaries that seem dead. Responses name them all and mark the stand-ins; PR and PW count
  primaries only.
- ``versions = "dvv"``: an acknowledged write, or one that has read it, directly or through others,
  is among the versions of the key while fewer than W disks are lost. A write supersedes exactly
  what its context covers; whatever else there is stays as its sibling.
- ``versions = "version_vector"``: the same, but many versions that were superseded stay as
  siblings, since one vector per key cannot tell which of them a writer had read.
- ``versions = "lww"``: all replicas keep the version with the greatest timestamp of a coordinator's
  wall clock. Acknowledged writes vanish by skewed clocks and by concurrency; VersionDropped tells
  of each that goes although the winner had not seen it. With ``"hlc"`` a hybrid clock decides: only
  concurrent writes vanish, never one that the winner's writer had read.
- Updates (``storage_pb2.Update``, with ``"dvv"``): a counter shows every acknowledged increment
  once, a set every element that was added and not removed by somebody who had seen it added. Nobody
  has to read before; a retry of an increment may count twice only after 32 later ones.
- ``resolve`` other than ``"siblings"``: a read answers with what a registered merge makes of the
  siblings. ``"lww"`` and ``"max"`` show one, and the reader's next write buries the others.
- R + W > N, counted in primaries: a read sees every write acknowledged before it began, or a
  successor of it. It is not linearizable: a write that failed, or is under way, may be seen by one
  read and not by the next, and by a later one again. Any other R and W may read what is stale.
- What a primary missed waits for it elsewhere as a hint. It arrives, unless the hint was refused
  (``hints_max``, ``hint_window``), expired, lay in a buffer or was yet to be made when its node
  crashed: then read repair, anti-entropy or the next write has to help.
- ``read_repair = "blocking"`` and 2R > N: what one read has shown, or a successor of it, every
  later one shows too, since R replicas hold it before the reader is answered.
- With ``anti_entropy`` on, replicas that can talk to each other become equal, whatever they missed
  and whether or not anybody reads. BARRIER_REPAIRED is answered when a round of every node has
  found nothing different: then what was acknowledged before it is at all its replicas.
- ``compare_and_set = "paxos"``: compare-and-set and reads at LINEARIZABLE of a key are linearizable
  as long as it is written in no other way and no replica's disk is lost. QuorumTimeout and
  Indefinite leave the outcome open; a retry with the same write id finds out. Keys that are also
  written plainly have no such order: WritesMixed tells of them.
- ``purge = "time"``: a delete is undone by a copy that turns up after its grace, from a replica or
  a hint that was away for longer. DeleteUndone tells of it. Not with ``"never"``, nor with
  ``"after_repair"``, while no message is under way for longer than the grace, and no node that was
  away when it was removed comes back with hints: it is not asked any more.
- Rings have epochs, decided one after the other by a majority of the members of the ring before.
  With ``ring_changes = "joint"`` no acknowledged write is lost and R + W > N stays what it is while
  nodes come, go and are replaced: old and new owners both need their quorums until the new ones
  have merged what enough old ones hold; then these drop it, but for what they have hints of. With
  ``"eager"`` the new owners answer before, and what a node no longer owns stays on its disk.
- A node that is replaced and seems dead is not waited for: all other owners are enough. What was
  acknowledged by it alone (W = 1) is lost with its disk.
- A refusal (QuorumUnreachable, InvalidRequest, Overloaded) means that nothing was done.
  QuorumTimeout means that replicas may hold the write, and read repair may spread it.
- A write that is retried with its write id takes effect once if the coordinator still holds its
  version. Otherwise it may get a second dot. Readers are never shown the same write twice, but a
  version that others have superseded meanwhile can come back as their sibling.
- No dot is given away twice, whatever a disk forgets: every life of a node is an actor of its own.
  Vectors pay for it with an entry per restart of a coordinator, some twenty bytes in each key that
  it wrote in that life.

Where it differs from the paper (DeCandia et al., SOSP 2007)
- Primaries coordinate, reads too, and a fallback only if no primary is alive; the paper lets any
  node coordinate a read (§4.5, §5).
- Dotted version vectors in place of vector clocks: a clock per coordinator cannot tell two writes
  through it apart and takes concurrent ones for each other's successors, or keeps both for ever.
  Vectors are not truncated; the paper drops the oldest entry of more than ten (§4.4).
- ``read_fanout = "digest"`` asks R replicas and not N, the others for a digest (Cassandra): fewer
  bytes, a second round when copies differ, and only those that were asked are repaired.
- Quorums are strict unless ``quorum = "sloppy"`` (§4.6); hints are kept in both cases. Members are
  agreed on (§4.8 lets them drift together by gossip).
- Merkle trees (§4.7) are kept up with every write and built anew from the store at a start. One
  tree per partition serves all pairs of its replicas, since they are to hold the same keys.
- Tombstones are versions, and are kept unless ``purge`` says when they go. The paper says nothing
  of deletes.

How it grows without being rebuilt: what goes between nodes are kinds of ``DynamoMessage``; the ring
is made from a table of owners, so that joins can make another; the detector answers one question;
merging is the only way in which a replica changes, whoever brings the versions.
"""

from leaderless.dynamo.core import DynamoCore
from leaderless.dynamo.resolve import Resolve
from leaderless.dynamo.settings import (
    DynamoSettings,
    Fanout,
    Hints,
    Purge,
    Quorum,
    ReadRepair,
    promise,
)
from leaderless.dynamo.versions import Versions
from leaderless.v1 import dynamo_pb2
from replication.protocol import Backend, Family
from replication.v1 import storage_pb2

__all__ = [
    "DynamoCore",
    "DynamoSettings",
    "Fanout",
    "Hints",
    "Purge",
    "Quorum",
    "ReadRepair",
    "Resolve",
    "Versions",
    "backend",
]

backend = Backend(
    name="dynamo",
    family=Family.LEADERLESS,
    title="Dynamo-style quorum",
    message_type=dynamo_pb2.DynamoMessage,
    settings_type=DynamoSettings,
    create=DynamoCore,
    consistencies=frozenset(
        {
            storage_pb2.CONSISTENCY_ONE,
            storage_pb2.CONSISTENCY_QUORUM,
            storage_pb2.CONSISTENCY_ALL,
            storage_pb2.CONSISTENCY_ANY,
            storage_pb2.CONSISTENCY_LINEARIZABLE,
        }
    ),
    single_register=False,
    promise=promise,
    legs={
        "write": "batch.stores",
        "acknowledgement": "batch.stored",
        "read": "batch.loads",
        "response": "batch.loaded",
        "forward": "batch.forwards",
        "backward": "batch.forwarded",
    },
    # A clock that is behind makes a later write lose to an earlier one, acknowledged or not. A
    # delete that was purged is undone by an old copy.
    lossless=lambda settings, members: (
        settings.versions.keeps_siblings and settings.purge is not Purge.TIME
    ),
    updates=lambda settings: settings.versions is Versions.DVV,
)
