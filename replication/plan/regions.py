"""Round trips between regions of public clouds, and how far that puts nodes and clients apart.

Averages between regions of Amazon EC2 in 2017, the two directions averaged and rounded; us-west is
Oregon, us-east Northern Virginia. Source: the table "Latency Between AWS Global Regions" as quoted
in acomputerscientistlearnsaws.blogspot.com/2017/04/aws-regions.html. Figures to reason with: routes
have become shorter since, and light in fibre alone takes about 10 ms per 1,000 km of round trip.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations

from replication.plan.model import LinkRule
from replication.protocol import NodeId

# Milliseconds there and back. One direction is listed; half of it is taken each way.
ROUND_TRIP_MS: dict[tuple[str, str], float] = {
    ("us-east", "us-west"): 88,
    ("us-east", "eu-west"): 81,
    ("us-east", "eu-central"): 89,
    ("us-east", "ap-northeast"): 145,
    ("us-east", "ap-southeast"): 217,
    ("us-east", "sa-east"): 120,
    ("us-east", "au-southeast"): 230,
    ("us-west", "eu-west"): 137,
    ("us-west", "eu-central"): 160,
    ("us-west", "ap-northeast"): 89,
    ("us-west", "ap-southeast"): 161,
    ("us-west", "sa-east"): 183,
    ("us-west", "au-southeast"): 162,
    ("eu-west", "eu-central"): 20,
    ("eu-west", "ap-northeast"): 212,
    ("eu-west", "ap-southeast"): 239,
    ("eu-west", "sa-east"): 191,
    ("eu-west", "au-southeast"): 310,
    ("eu-central", "ap-northeast"): 237,
    ("eu-central", "ap-southeast"): 326,
    ("eu-central", "sa-east"): 195,
    ("eu-central", "au-southeast"): 323,
    ("ap-northeast", "ap-southeast"): 74,
    ("ap-northeast", "sa-east"): 257,
    ("ap-northeast", "au-southeast"): 104,
    ("ap-southeast", "sa-east"): 328,
    ("ap-southeast", "au-southeast"): 175,
    ("sa-east", "au-southeast"): 323,
}


def regions() -> list[str]:
    """Return every region that has a place in the table, sorted."""
    return sorted({name for pair in ROUND_TRIP_MS for name in pair})


def round_trip_ns(one: str, other: str) -> int:
    """Return the round trip in nanoseconds; raise KeyError for an unknown region.

    Within a region it is what the machines themselves take: 0.
    """
    if one == other:
        if one not in regions():
            raise KeyError(one)
        return 0
    found = ROUND_TRIP_MS.get((one, other)) or ROUND_TRIP_MS[(other, one)]
    return int(found * 1e6)


def places(
    named: Sequence[str], nodes: Sequence[NodeId], clients: Mapping[str, NodeId]
) -> dict[str, str]:
    """Return the region of everybody: nodes are dealt to them in turn, clients are at home."""
    found = {node: named[number % len(named)] for number, node in enumerate(nodes)}
    return found | {client: found[home] for client, home in clients.items()}


def distances(
    named: Sequence[str], nodes: Sequence[NodeId], clients: Mapping[str, NodeId]
) -> tuple[LinkRule, ...]:
    """Return what the regions add to every link, each way half of the round trip."""
    if not named:
        return ()
    region = places(named, nodes, clients)
    return tuple(
        LinkRule(one, other, delay_ns=round_trip_ns(region[one], region[other]) // 2)
        for one, other in permutations(region, 2)
        if region[one] != region[other] and not (one in clients and other in clients)
    )


def missing_pairs() -> Iterator[tuple[str, str]]:
    """Yield the pairs of regions without a figure; a test wants none."""
    names = regions()
    for number, one in enumerate(names):
        for other in names[number + 1 :]:
            if (one, other) not in ROUND_TRIP_MS and (other, one) not in ROUND_TRIP_MS:
                yield one, other
