"""The keys that this node holds, in memory and, through its effects, on its disk.

A key is kept as the bytes that are stored and sent, and decoded when it is needed: a read that
finds the same bytes at all replicas decodes nothing, and a restart reads a large store fast.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from leaderless.dynamo.merkle import MerkleForest
from leaderless.dynamo.ring import Ring
from leaderless.dynamo.versions import EMPTY, Siblings, Versioning, decode, encode, without_value
from replication.protocol import Erase, Put, Saved, Write
from replication.v1 import control_pb2

SPACE: Final = "kv"
STAND_IN_SPACE: Final = "stand-in"  # keys of which this node is no primary, see ``hints``

# A decoded key takes about 2 KiB more than its bytes; 20,000 of them are 40 MiB.
DECODED_MAX: Final = 20_000


class Replica:
    """What this node knows of each key. Changes are merges: nothing is ever overwritten."""

    def __init__(
        self, versioning: Versioning, space: str = SPACE, forest: MerkleForest | None = None
    ) -> None:
        self._versioning = versioning
        self._space = space
        self._forest = forest  # kept up with every write; None: nobody compares
        self._encoded: dict[str, bytes | None] = {}  # every key; None: see ``_decoded``
        self._decoded: dict[str, Siblings] = {}  # of some keys
        self.changed: dict[str, None] = {}  # since the last call of ``writes``
        self._dropped: set[str] = set()  # of these: some may be held again

    def __len__(self) -> int:
        return len(self._encoded)

    def __contains__(self, key: str) -> bool:
        return key in self._encoded

    def keys(self) -> Iterable[str]:
        """Return every key, in no order."""
        return self._encoded

    def load(self, saved: Saved) -> None:
        """Take over what was durable."""
        held = {key.decode(): encoded for key, encoded in saved.scan(self._space)}
        self._encoded.update(held)
        if self._forest is not None:
            self._forest.load(held)

    def siblings(self, key: str) -> Siblings:
        """Return what is known of ``key``, EMPTY for nothing."""
        siblings = self._decoded.get(key)
        if siblings is None:
            encoded = self._encoded.get(key)
            if encoded is None:
                return EMPTY
            if len(self._decoded) >= DECODED_MAX:
                self._forget_decoded()
            siblings = self._decoded[key] = decode(encoded)
        return siblings

    def encoded(self, key: str) -> bytes:
        """Return the same as bytes, empty for nothing."""
        encoded = self._encoded.get(key)
        if encoded is None:
            if key not in self._encoded:
                return b""
            encoded = self._encoded[key] = encode(self._decoded[key])
        return encoded

    def merge(self, key: str, incoming: Siblings, encoded: bytes) -> tuple[Siblings, Siblings]:
        """Merge ``incoming`` (and its bytes) into ``key``. Returns what was held and what is now.

        Both are the same object if nothing changed; otherwise ``writes`` has the change.
        """
        held = self.siblings(key)
        merged = self._versioning.merge(held, incoming)
        if merged is not held:
            self._encoded[key] = encoded if merged is incoming else None
            self._decoded[key] = merged
            self.changed[key] = None
        return held, merged

    def is_written(self, key: str) -> bool:
        """Tell whether ``writes`` has returned all that is held of ``key``."""
        return key not in self.changed

    def drop(self, key: str) -> None:
        """Forget ``key``, its vector too: a copy of it that comes later is news again."""
        del self._encoded[key]
        self._decoded.pop(key, None)
        self.changed[key] = None
        self._dropped.add(key)

    def writes(self) -> list[Write]:
        """Return what must become durable before anybody may hear of it, once."""
        if not self.changed:
            return []
        if self._forest is not None:
            for key in self.changed:
                self._forest.update(key, self.encoded(key))
        names = [(key, key.encode()) for key in self.changed]
        writes: list[Write] = []
        if self._dropped:
            erased = [name for key, name in names if key in self._dropped]
            writes += [Erase(self._space, name, name + b"\0") for name in erased]
            self._dropped = set()
            names = [(key, name) for key, name in names if key in self._encoded]
        writes += [Put(self._space, name, self.encoded(key)) for key, name in names]
        self.changed = {}
        if len(self._decoded) > DECODED_MAX:
            self._forget_decoded()
        return writes

    def _forget_decoded(self) -> None:
        for key in self.changed:
            self.encoded(key)
        self._decoded = {}

    def contents(self, ring: Ring, *, stand_in: bool) -> Iterator[control_pb2.KeyContents]:
        """Yield every key with its replicas and its versions without values, in order of key."""
        for key in sorted(self._encoded):
            # Not through ``siblings``: a listing of everything must not keep everything decoded.
            held = self._decoded.get(key) or decode(self.encoded(key))
            yield control_pb2.KeyContents(
                key=key,
                owners=ring.preference(key),
                versions=[without_value(each) for each in held.distinct()],
                stand_in=stand_in,
            )
