"""Counters and sets: values that replicas merge by themselves (Shapiro, Preguica, Baquero and
Zawirski, "A comprehensive study of Convergent and Commutative Replicated Data Types", 2011).

Their state is a :class:`Siblings` like that of any key, so every way on which versions travel
carries them, and ``DottedVersions.merge`` is their merge: commutative, associative, idempotent.

- An **observed-remove set** (§3.3.5, OR-Set) is a version for each addition; its dot is the unique
  tag of the paper. Removed tags are those that the vector covers, so none is kept (Bieniusa et al.,
  "An optimized conflict-free replicated set", 2012). A removal covers the additions that its
  context covers, and no others: of an addition and a removal at the same time, the addition wins.
- A **counter** (§3.1.3, PN-Counter) is a version for each life of a coordinator, with the sum of
  what was counted through it. Only that one ever replaces it, so nothing is counted twice.

What a retry with the same write id does
- Of an addition: the element is there once, whoever took the attempts. If it was removed between
  the two, it is added again.
- Of a removal: nothing more, whatever was added meanwhile.
- Of an increment: it counts once, as long as no ``LATEST_MAX`` later increments of the key went
  through one of the coordinators that took the attempts before the others heard of it.

A delete, or a plain put with a context, replaces what its context covers. A counter that is counted
at the same time keeps the whole sum of the coordinator that counted.
"""

from typing import Final

from leaderless.dynamo.vector import NOTHING, VersionVector
from leaderless.dynamo.versions import Dot, Siblings, Version
from leaderless.v1 import dynamo_pb2
from replication.errors import InvalidRequest
from replication.v1 import storage_pb2

INCREMENT: Final = storage_pb2.UPDATE_INCREMENT
ADD: Final = storage_pb2.UPDATE_ADD
REMOVE: Final = storage_pb2.UPDATE_REMOVE
SEPARATOR: Final = b","
LATEST_MAX: Final = 32  # increments of each coordinator whose write ids are kept
AMOUNT_MAX: Final = 2**31  # a sum of 2**32 of them still fits
_DIGITS_MAX: Final = 10

WriteName = tuple[str, int]  # client and sequence


def amount_of(value: bytes) -> int:
    """Return what an increment adds. Raises InvalidRequest for anything but a decimal integer."""
    digits = value.removeprefix(b"-")
    if not digits.isdigit() or len(digits) > _DIGITS_MAX or int(digits) > AMOUNT_MAX:
        raise InvalidRequest(
            f"the amount is {value[:20]!r}, expected an integer from -{AMOUNT_MAX} to {AMOUNT_MAX}"
        )
    return int(value)


def require_form(body: storage_pb2.PutRequest) -> None:
    """Raise InvalidRequest for an update that is none, or whose value it cannot take."""
    if body.update == INCREMENT:
        amount_of(body.value)
    elif body.update not in (ADD, REMOVE):
        raise InvalidRequest(f"the update {body.update} is not offered")
    elif not body.value or SEPARATOR in body.value:
        raise InvalidRequest("an element has at least one byte, and no comma")


def recognised(held: Siblings, body: storage_pb2.PutRequest, actor: str) -> Version | None:
    """Return the version that holds this update already, rather ``actor``'s own than another's."""
    if body.update != INCREMENT:
        return held.holding(body.write_id)
    for version in sorted(_counters(held), key=lambda each: each.dot.actor != actor):
        tally = dynamo_pb2.Tally.FromString(version.value)
        if any(each.write_id == body.write_id for each in tally.latest):
            return version
    return None


def value_of(held: Siblings, body: storage_pb2.PutRequest, actor: str) -> bytes:
    """Return the value of the version that ``actor`` makes of an update."""
    if body.update == ADD:
        return body.value
    return _tally(held, body, actor).SerializeToString() if body.update == INCREMENT else b""


def write_of(held: Siblings, version: Version, removed: bytes, context: VersionVector) -> Siblings:
    """Return an update as it is merged and sent: ``version``, and what it replaces.

    ``removed`` is the element of a removal by somebody who had read ``context``.
    """
    dot = (version.dot.actor, version.dot.counter)
    gone = [
        each
        for each, other in held.versions.items()
        if each != dot
        and replaces(version, other, removed)
        and (version.update != REMOVE or other.tombstone or context.covers(*each))
    ]
    vector = NOTHING
    if version.update == INCREMENT:
        vector = _superseded(held, version.dot.actor, [*gone, dot])
    for each in sorted({*gone, dot}):
        if not vector.covers(*each):
            vector = vector.with_dot(*each)
    return Siblings({dot: version}, vector, vector)


def replaces(version: Version, other: Version, removed: bytes) -> bool:
    """Tell whether an update may take the place of ``other``: it says no more than ``version``.

    Tombstones go with any update: what they covered stays covered.
    """
    if other.tombstone:
        return True
    match version.update:
        case storage_pb2.UPDATE_INCREMENT:
            return other.update == INCREMENT and other.dot.actor == version.dot.actor
        case storage_pb2.UPDATE_ADD:
            return other.update == ADD and other.value == version.value
        case storage_pb2.UPDATE_REMOVE:
            return other.update == ADD and other.value == removed
    return False


def shown(siblings: Siblings) -> list[Version]:
    """Return what a read shows: a counter and a set as one version each, plain ones one per write.

    A merged version has the names of the newest of those that it was made of.
    """
    if not any(version.update for version in siblings.versions.values()):
        return siblings.distinct()
    plain = {dot: each for dot, each in siblings.versions.items() if not each.update}
    versions = Siblings(plain, siblings.vector, siblings.seen).distinct() if plain else []
    counters = _counters(siblings)
    if counters:
        versions.append(_merged(counters, str(total(siblings)).encode()))
    additions = [each for each in siblings.versions.values() if each.update == ADD]
    if additions:
        elements = sorted({each.value for each in additions})
        versions.append(_merged(additions, SEPARATOR.join(elements)))
    return versions or siblings.distinct()


def total(siblings: Siblings) -> int:
    """Return what a counter shows: every increment once, whoever has counted it."""
    names: set[WriteName] = set()
    result = 0
    for version in _counters(siblings):
        tally = dynamo_pb2.Tally.FromString(version.value)
        result += tally.settled
        for increment in tally.latest:
            name = _name(increment.write_id)
            if name not in names:
                names.add(name)
                result += increment.amount
    return result


def _tally(held: Siblings, body: storage_pb2.PutRequest, actor: str) -> dynamo_pb2.Tally:
    """Return what ``actor`` has counted, this increment included.

    The oldest ones are settled. Not those that another coordinator lists as well: either of the two
    would be counted once more, when it is no longer known that they are the same.
    """
    tally = dynamo_pb2.Tally()
    latest: list[dynamo_pb2.Increment] = []
    elsewhere: set[WriteName] = set()
    for version in _counters(held):
        other = dynamo_pb2.Tally.FromString(version.value)
        if version.dot.actor == actor:
            tally.settled += other.settled
            latest += other.latest
        else:
            elsewhere.update(_name(each.write_id) for each in other.latest)
    latest.append(dynamo_pb2.Increment(write_id=body.write_id, amount=amount_of(body.value)))
    excess = len(latest) - LATEST_MAX
    for increment in latest:
        if excess > 0 and _name(increment.write_id) not in elsewhere:
            tally.settled += increment.amount
            excess -= 1
        else:
            tally.latest.append(increment)
    return tally


def _superseded(held: Siblings, actor: str, gone: list[Dot]) -> VersionVector:
    """Return the dots of ``actor`` that nothing which stays is named by.

    So a counter's writes leave no holes in the vectors of those who missed some of them.
    """
    top = held.vector.top(actor)
    if not top or any(dot[0] == actor and dot not in gone for dot in held.versions):
        return NOTHING
    holes = held.vector.holes.get(actor)
    return VersionVector({actor: top}, {actor: holes} if holes else None)


def _counters(siblings: Siblings) -> list[Version]:
    return [
        version for _, version in sorted(siblings.versions.items()) if version.update == INCREMENT
    ]


def _merged(versions: list[Version], value: bytes) -> Version:
    newest = max(versions, key=lambda each: (each.dot.counter, each.dot.actor))
    return Version(value=value, write_id=newest.write_id, dot=newest.dot, update=newest.update)


def _name(write_id: storage_pb2.WriteId) -> WriteName:
    return write_id.client_id, write_id.sequence
