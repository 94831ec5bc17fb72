"""Named, independent streams of chance, all from the seed of a plan."""

from hashlib import blake2b
from random import Random


def stream(seed: int, *names: str | int) -> Random:
    """Return the generator of this name: the same in every process, for ever.

    Streams of different names are independent, so one more draw in one of them moves no other.
    Draw with ``random()`` alone where a plan depends on it: of a generator's methods it is the one
    whose sequence Python promises to keep across versions.
    """
    text = "/".join(str(each) for each in (seed, *names))
    return Random(int.from_bytes(blake2b(text.encode(), digest_size=16).digest(), "big"))
