"""The bytes of the store's log: records in checksummed frames, and how a log is read back.

    file    = header frame*
    header  = magic (8 bytes) salt (8) checksum of both (u32)
    frame   = marker (4) length (u32) checksum (u32) payload        little-endian
    payload = record*
    record  = kind (u8) space (u8) size of a (u32) size of b (u32) a b

A frame is what one commit wrote: it counts wholly or not at all. Its checksum covers the salt of
the file and the offset of the frame too, so that a stale frame, or the image of one inside a
client's value, is never taken for one of this place.
"""

import struct
from dataclasses import dataclass, field
from zlib import crc32

from replication.errors import CorruptStore
from replication.host.spaces import RECORD_OVERHEAD_BYTES, Space

MAGIC = b"replog\x00\x01"
HEADER_BYTES = 20
MARKER = b"\xf7fr\x01"
SPACES_MAX = 256

_FRAME = struct.Struct("<4sII")
_SEED = struct.Struct("<8sQI")
_RECORD = struct.Struct("<BBII")
_PUT, _ERASE, _ERASE_TO_LAST, _DEFINE_SPACE = 1, 2, 3, 4

assert _RECORD.size == RECORD_OVERHEAD_BYTES


def file_header(salt: bytes) -> bytes:
    """Return the first bytes of a log."""
    assert len(salt) == 8
    return MAGIC + salt + crc32(MAGIC + salt).to_bytes(4, "little")


def frame(salt: bytes, offset: int, payload: bytes) -> bytes:
    """Return the frame that carries ``payload`` at ``offset`` of the file."""
    return _FRAME.pack(MARKER, len(payload), _checksum(salt, offset, payload)) + payload


def put_head(space: int, key: bytes, value: bytes) -> bytes:
    """Return the head of a record that stores a pair; key and value follow it."""
    return _RECORD.pack(_PUT, space, len(key), len(value))


def erase_record(space: int, start: bytes, end: bytes | None) -> bytes:
    """Return a record that removes [start, end)."""
    if end is None:
        return _RECORD.pack(_ERASE_TO_LAST, space, len(start), 0) + start
    return _RECORD.pack(_ERASE, space, len(start), len(end)) + start + end


def space_record(space: int, name: str) -> bytes:
    """Return a record that gives a space its number; it stands before the first use."""
    encoded = name.encode()
    return _RECORD.pack(_DEFINE_SPACE, space, len(encoded), 0) + encoded


def _checksum(salt: bytes, offset: int, payload: bytes | memoryview) -> int:
    return crc32(payload, crc32(_SEED.pack(salt, offset, len(payload))))


@dataclass(slots=True)
class Recovered:
    """What a log adds up to."""

    salt: bytes = b""  # empty: not even the header is whole, begin a new file
    spaces: dict[str, Space] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)  # of the spaces, as records name them
    end: int = 0  # offset behind the last whole frame
    torn_bytes: int = 0  # behind it: a commit that a crash interrupted


def recover(data: bytes) -> Recovered:
    """Return the contents of a log.

    A commit goes to disk only after the one before it was synced, so a crash can spoil the last
    frame alone: it is left out and counted in ``torn_bytes``. A bad frame with a good one behind it
    is damage to what was durable: CorruptStore. (With sync off, power loss can leave the same
    picture; then too data is gone that somebody was promised.) Damage to the very last frame looks
    like a torn one and is treated as such.
    """
    salt = data[len(MAGIC) : len(MAGIC) + 8]
    if len(data) < HEADER_BYTES or data.count(0) == len(data):
        # A crash while the file was made, before anything was promised.
        if data.count(0) < len(data) and not MAGIC.startswith(data[: len(MAGIC)]):
            raise CorruptStore("the first bytes are not those of a store")
        return Recovered(torn_bytes=len(data))
    if not data.startswith(file_header(salt)):
        raise CorruptStore("the first bytes are not those of a store, or damaged")
    found = Recovered(salt=salt, end=HEADER_BYTES)
    names: dict[int, str] = {}
    while (payload := _payload_at(data, found.salt, found.end)) is not None:
        _apply(payload, found, names)
        found.end += _FRAME.size + len(payload)
    found.torn_bytes = len(data) - found.end
    if found.torn_bytes:
        _refuse_damage(data, found)
    return found


def _payload_at(data: bytes, salt: bytes, offset: int) -> memoryview | None:
    """Return the payload of the frame at ``offset`` when all of it is there and intact."""
    if offset + _FRAME.size > len(data):
        return None
    marker, length, checksum = _FRAME.unpack_from(data, offset)
    start = offset + _FRAME.size
    if marker != MARKER or start + length > len(data):
        return None
    payload = memoryview(data)[start : start + length]
    return payload if _checksum(salt, offset, payload) == checksum else None


def _refuse_damage(data: bytes, found: Recovered) -> None:
    candidate = data.find(MARKER, found.end + 1)
    while candidate != -1:
        if _payload_at(data, found.salt, candidate) is not None:
            raise CorruptStore(
                f"the frame at offset {found.end} is damaged, yet one at {candidate} is intact"
            )
        candidate = data.find(MARKER, candidate + 1)


def _apply(payload: memoryview, found: Recovered, names: dict[int, str]) -> None:
    """Carry out the records of one frame. Its checksum was right, so its form is too."""
    offset, size = 0, len(payload)
    while offset < size:
        kind, number, a_size, b_size = _RECORD.unpack_from(payload, offset)
        middle = offset + _RECORD.size + a_size
        a = bytes(payload[offset + _RECORD.size : middle])
        offset = middle + b_size
        if kind == _PUT:
            found.spaces[names[number]].put(a, bytes(payload[middle:offset]))
        elif kind == _ERASE:
            found.spaces[names[number]].erase(a, bytes(payload[middle:offset]))
        elif kind == _ERASE_TO_LAST:
            found.spaces[names[number]].erase(a, None)
        elif kind == _DEFINE_SPACE:
            names[number] = a.decode()
            found.spaces.setdefault(names[number], Space())
            found.numbers[names[number]] = number
        else:
            raise CorruptStore(f"a record of kind {kind}: written by a newer release?")
