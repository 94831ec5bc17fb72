"""Snapshots of the state machine: taken, kept, received (dissertation §5).

A node puts its state into a snapshot by itself, whatever its role, and then drops the log that the
snapshot stands for. The world does not stop for it: the image is a shallow copy (versions and
sessions are replaced, never changed), and its chunks are made and written one by one, some
milliseconds apart. The snapshot before stays valid until the last chunk is durable; one write then
makes the new one valid and drops the old one and the log.

A snapshot that a leader sends arrives in the same chunks, each written before it is acknowledged.
A node that restarts half-way goes on where it was, with any leader that sends the same bytes. Until
the last chunk is there the node keeps what it had.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from zlib import crc32

from leader.raft.log import META, Index
from leader.raft.settings import RaftSettings
from leader.raft.state_machine import StateMachine
from leader.v1 import raft_pb2
from replication.errors import CorruptStore
from replication.protocol import Erase, NodeId, Put, Saved, Write

SPACE = "snapshot"
SNAPSHOT = b"snapshot"
INCOMING = b"incoming"

CHUNK_GAP_NS = 5_000_000  # between two chunks of one's own: the node has other things to do


def chunk_key(index: Index, number: int) -> bytes:
    """Return the key of a chunk in the store."""
    return index.to_bytes(8, "big") + number.to_bytes(4, "big")


def erase_snapshot(index: Index) -> Erase:
    """Return the write that drops the chunks of the snapshot at ``index``."""
    return Erase(SPACE, chunk_key(index, 0), chunk_key(index + 1, 0))


@dataclass(slots=True)
class Complete:
    """A snapshot in full: the chunks are those in the store, kept to be sent to followers."""

    header: raft_pb2.Snapshot
    chunks: list[bytes]


@dataclass(slots=True)
class _Taking:
    header: raft_pb2.Snapshot  # its last three fields grow with the chunks
    rest: Iterator[bytes]
    began_ns: int
    chunks: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class Incoming:
    """A snapshot that is being received, and the state it will be."""

    header: raft_pb2.Snapshot
    machine: StateMachine
    sender: NodeId
    began_ns: int
    chunks: list[bytes] = field(default_factory=list)


class Snapshots:
    """The snapshots of one node. Methods that change the disk return what is to be written."""

    def __init__(self, settings: RaftSettings) -> None:
        self._settings = settings
        self.complete: Complete | None = None
        self.index: Index = 0  # of the complete snapshot, 0 if there is none
        self.size = 0  # its bytes
        self.incoming: Incoming | None = None
        self._taking: _Taking | None = None
        # When the next chunk is to be written, None when no snapshot is being taken.
        self.due_ns: int | None = None

    def load(self, saved: Saved, now_ns: int) -> tuple[StateMachine, list[Write]]:
        """Return the state of the saved snapshot, empty if there is none, and what to clear away.

        Raises CorruptStore when chunks are missing or are not those that were written.
        """
        found: dict[Index, list[bytes]] = {}
        for key, data in saved.scan(SPACE):
            chunks = found.setdefault(int.from_bytes(key[:8], "big"), [])
            if int.from_bytes(key[8:], "big") != len(chunks):
                raise CorruptStore(f"snapshot: chunk {len(chunks)} is missing at {key.hex()}")
            chunks.append(data)
        machine = StateMachine(self._settings)
        complete = saved.get(META, SNAPSHOT)
        if complete is not None:
            header = raft_pb2.Snapshot.FromString(complete)
            chunks = found.pop(header.index, [])
            if (header.chunks, header.checksum) != (len(chunks), _checksum(chunks)):
                raise CorruptStore(f"the chunks of the snapshot at {header.index} are damaged")
            self._keep(Complete(header, chunks))
            for data in chunks:
                machine.restore(data)
            machine.restored(header)
        received = saved.get(META, INCOMING)
        if received is not None:
            header = raft_pb2.Snapshot.FromString(received)
            self._begin_incoming(header, "", now_ns)
            for data in found.pop(header.index, []):
                self._take(data)
        # The rest was being taken when the node stopped.
        return machine, [erase_snapshot(index) for index in found]

    # A snapshot of one's own.

    def begin(self, header: raft_pb2.Snapshot, machine: StateMachine, now_ns: int) -> None:
        """Begin to take a snapshot of ``machine``; ``header`` tells of the last entry applied."""
        assert self._taking is None, "one at a time"
        assert self.incoming is None, "what a leader sends is ahead of what can be taken"
        rest = machine.image().chunks(self._settings.snapshot_chunk_bytes)
        self._taking = _Taking(header, rest, now_ns)
        self.due_ns = now_ns

    def next_chunk(self, now_ns: int) -> list[Write] | None:
        """Return the write of one more chunk, None when all are written."""
        taking = self._taking
        assert taking is not None, "begin comes first"
        data = next(taking.rest, None)
        if data is None:
            return None
        number = len(taking.chunks)
        taking.chunks.append(data)
        taking.header.bytes += len(data)
        taking.header.checksum = crc32(data, taking.header.checksum)
        taking.header.chunks = number + 1
        self.due_ns = now_ns + CHUNK_GAP_NS
        return [Put(SPACE, chunk_key(taking.header.index, number), data)]

    def finish(self) -> tuple[raft_pb2.Snapshot, int, list[Write]]:
        """Make the snapshot valid: return it, when it was begun, and what to write."""
        taking, self._taking, self.due_ns = self._taking, None, None
        assert taking is not None, "begin comes first"
        writes = self._replace(Complete(taking.header, taking.chunks))
        return taking.header, taking.began_ns, writes

    def _replace(self, complete: Complete) -> list[Write]:
        writes: list[Write] = [Put(META, SNAPSHOT, complete.header.SerializeToString())]
        if self.complete is not None:
            writes.append(erase_snapshot(self.index))
        self._keep(complete)
        return writes

    def _keep(self, complete: Complete) -> None:
        self.complete = complete
        self.index, self.size = complete.header.index, complete.header.bytes

    def abandon_taking(self) -> list[Write]:
        """Give up a snapshot that is being taken, because a better one comes."""
        taking, self._taking, self.due_ns = self._taking, None, None
        return [erase_snapshot(taking.header.index)] if taking is not None else []

    # A snapshot from a leader.

    def received(self, header: raft_pb2.Snapshot) -> int:
        """Return how many chunks of the snapshot were received."""
        incoming = self.incoming
        return len(incoming.chunks) if incoming is not None and incoming.header == header else 0

    def receive(
        self, header: raft_pb2.Snapshot, number: int, data: bytes, sender: NodeId, now_ns: int
    ) -> list[Write]:
        """Take chunk ``number`` if it is the next one; return what to write."""
        writes: list[Write] = []
        if self.incoming is None or self.incoming.header != header:
            if number != 0:
                return []
            writes += self.abandon_taking() + self.forget_incoming()
            writes.append(Put(META, INCOMING, header.SerializeToString()))
            self._begin_incoming(header, sender, now_ns)
        assert self.incoming is not None, "it was begun"
        if number == len(self.incoming.chunks):
            writes.append(Put(SPACE, chunk_key(header.index, number), data))
            self._take(data)
            self.incoming.sender = sender
        return writes

    def _begin_incoming(self, header: raft_pb2.Snapshot, sender: NodeId, now_ns: int) -> None:
        self.incoming = Incoming(header, StateMachine(self._settings), sender, now_ns)

    def _take(self, data: bytes) -> None:
        assert self.incoming is not None, "a snapshot is being received"
        self.incoming.machine.restore(data)
        self.incoming.chunks.append(data)

    def install(self) -> tuple[Incoming, list[Write]]:
        """Make the received snapshot the valid one: return it and what to write."""
        incoming, self.incoming = self.incoming, None
        assert incoming is not None, "a snapshot was received"
        assert _checksum(incoming.chunks) == incoming.header.checksum, "links alter nothing"
        incoming.machine.restored(incoming.header)
        writes = self._replace(Complete(incoming.header, incoming.chunks))
        return incoming, [*writes, _FORGET_INCOMING]

    def forget_incoming(self) -> list[Write]:
        """Drop what was received of a snapshot that is of no use any more."""
        incoming, self.incoming = self.incoming, None
        if incoming is None:
            return []
        return [erase_snapshot(incoming.header.index), _FORGET_INCOMING]


_FORGET_INCOMING = Erase(META, INCOMING, INCOMING + b"\0")


def _checksum(chunks: list[bytes]) -> int:
    checksum = 0
    for data in chunks:
        checksum = crc32(data, checksum)
    return checksum
