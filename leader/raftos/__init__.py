"""raftos 0.2.6, the published package, behind the same API: a specimen to be looked at.

It is not a core: timers and coroutines of its own run on the host's event loop, and it writes its
own files, which it never syncs. ``adapter`` is what stands around it. It cannot be simulated.

Run as published. What the adapter replaces is the network (its datagrams travel over the project's
peer links, so that link faults apply to them) and what current Pythons have removed:

* ``raftos.server`` is not used: it makes a queue with ``loop=``, gone since Python 3.10.
* ``asyncio.futures.InvalidStateError`` is put back, gone since 3.8; without it nothing is applied.
* The serializer is the package's own JSON one: with its default, MessagePack, the fifth write to a
  log cannot be read again, on every Python.
* ``cryptography`` is left out (its pin does not build): raftos then sends in the clear.

Writes are made one at a time, as its own ``Replicated.set`` does. Whoever has waited until the
deadline is told that nothing is known, and the next write waits for the one before.

Known from its source and from measuring it: a vote is forgotten with every turn to follower; a
majority is counted among the others (so half of an even cluster is one); reads are answered from
the leader's memory, not confirmed; a late copy of an AppendEntries makes a follower erase committed
entries; commit stops at entries of older terms. It promises what Raft promises, and the checks hold
it to that.

Install with ``uv sync --extra raftos``: its pins need uv's ``override-dependencies``.
"""

from leader.raftos.adapter import create
from leader.raftos.settings import RaftosSettings, promise
from leader.v1 import raftos_pb2
from replication.protocol import Backend, Family
from replication.v1 import storage_pb2

__all__ = ["RaftosSettings", "backend", "create"]

backend = Backend(
    name="raftos",
    family=Family.LEADER,
    title="raftos 0.2.6",
    message_type=raftos_pb2.RaftosDatagram,
    settings_type=RaftosSettings,
    create=create,
    consistencies=frozenset({storage_pb2.CONSISTENCY_LOCAL}),
    single_register=True,
    promise=promise,
    hosted=True,
)
