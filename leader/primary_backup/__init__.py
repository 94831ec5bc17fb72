"""Primary-backup replication as a pure state machine: PostgreSQL, MySQL and Redis with a sentinel.

One primary takes all writes and ships its log to standbys; monitors replace it when it is gone. It
is what most databases do, with the choices that they leave to their operators, and the wounds that
the wrong ones leave. Read in this order: ``counting`` (the arithmetic), ``settings`` (what each
choice promises), ``log``, ``database``, ``replica`` (what a node has in every role), ``following``
(the standby), ``standby`` and ``primary``, ``monitor`` (failure detection and failover), ``core``
(the changes of role, and the seam). The messages and what is on disk:
``protos/leader/v1/primary_backup.proto``.

The parts and whose they are:

* *When a write is acknowledged* (``mode``). ``async``: at once (Redis, PostgreSQL's
  ``synchronous_commit = local``). ``semi_sync``: when ``semi_sync_standbys`` hold it (MySQL;
  PostgreSQL's ``ANY k``), with or without MySQL's fall-back to async after a timeout. ``sync``:
  when every standby holds it; one that is gone blocks all writes, unless ``remove_standby_after``
  lets the primary go on without it (Patroni's ``synchronous_mode``), though never with fewer than a
  majority would need.
* *Detection.* Every node is a monitor too. Silence for ``detection_timeout`` makes a suspect
  (Sentinel's S_DOWN), a majority of suspicions makes it down (O_DOWN).
* *Failover.* A monitor with the votes of a majority for the next *epoch* (Sentinel's configuration
  epoch) promotes the most advanced replica among its voters: by the epoch, then the index of the
  last record (the LSN). One failover per epoch; an epoch that fails is burnt.
* *Fencing.* On: every message carries an epoch, a node that voted for a newer one refuses the older
  one's records, and a primary that has had no answer from a majority within ``lease`` demotes
  itself. Off: an old primary that nobody can reach goes on, so there are two; it steps down when
  the news reaches it.
* *Return.* A node whose log differs from the primary's rewinds to where they parted, as
  ``pg_rewind`` does, and tells of each acknowledged write that this lost (``LogTruncated``). A node
  that was away for more records than are kept gets all keys anew.

Guarantees:

* With fencing, no fall-back, and every write on n - majority(n) standbys or more (the default;
  ``settings.is_lossless`` has the proof): an acknowledged write is never lost while a majority of
  disks lives. Reads of the primary are linearizable as long as clocks run at the same rate within a
  tenth: a lease ends before any monitor may vote.
* Otherwise: the log of the node that was promoted is what counts, and what others had acknowledged
  beside it is lost. Reads of a primary that was replaced are stale.
* LOCAL reads see what the asked node has applied, which the primary had acknowledged or could have.
* An error's class says what is known, as everywhere: NotLeader is in no log.

Not promised, as in the originals: a write that is sent twice is done twice (there are no sessions);
an epoch is not a fair election (who is cut off and comes back may cost one). A restarted primary
does not resume its epoch: a failover, perhaps back to it, comes first. Members are fixed.
"""

from leader.primary_backup.core import PrimaryBackupCore, create
from leader.primary_backup.settings import (
    DefaultRead,
    Mode,
    PrimaryBackupSettings,
    is_lossless,
    promise,
)
from leader.v1 import primary_backup_pb2
from replication.protocol import Backend, Family
from replication.v1 import storage_pb2

__all__ = [
    "DefaultRead",
    "Mode",
    "PrimaryBackupCore",
    "PrimaryBackupSettings",
    "backend",
    "create",
    "is_lossless",
]

backend = Backend(
    name="primary_backup",
    family=Family.LEADER,
    title="Primary-backup",
    message_type=primary_backup_pb2.PrimaryBackupMessage,
    settings_type=PrimaryBackupSettings,
    create=create,
    consistencies=frozenset({storage_pb2.CONSISTENCY_LEASE, storage_pb2.CONSISTENCY_LOCAL}),
    single_register=True,
    promise=promise,
    lossless=is_lossless,
)
