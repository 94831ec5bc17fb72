"""Round trips between regions of public clouds, and how far that puts nodes and clients apart.

Rounded from general knowledge of the inter-region latencies that the large public clouds publish
and that independent monitors show (2020 to 2025, medians): they are figures to reason with, good to
about ten percent, not measurements of ours. Light in fibre takes about 10 ms per 1,000 km of round
trip, and cables are not straight: each figure is 1.2 to 2 times that floor.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations

from replication.plan.model import LinkRule
from replication.protocol import NodeId

# Milliseconds there and back. One direction is listed; half of it is taken each way.
ROUND_TRIP_MS: dict[tuple[str, str], float] = {
    ("us-east", "us-west"): 65,
    ("us-east", "eu-west"): 75,
    ("us-east", "eu-central"): 92,
    ("us-east", "ap-northeast"): 155,
    ("us-east", "ap-southeast"): 220,
    ("us-east", "ap-south"): 195,
    ("us-east", "sa-east"): 115,
    ("us-east", "au-southeast"): 200,
    ("us-west", "eu-west"): 135,
    ("us-west", "eu-central"): 150,
    ("us-west", "ap-northeast"): 100,
    ("us-west", "ap-southeast"): 165,
    ("us-west", "ap-south"): 220,
    ("us-west", "sa-east"): 175,
    ("us-west", "au-southeast"): 140,
    ("eu-west", "eu-central"): 26,
    ("eu-west", "ap-northeast"): 210,
    ("eu-west", "ap-southeast"): 175,
    ("eu-west", "ap-south"): 125,
    ("eu-west", "sa-east"): 180,
    ("eu-west", "au-southeast"): 260,
    ("eu-central", "ap-northeast"): 225,
    ("eu-central", "ap-southeast"): 160,
    ("eu-central", "ap-south"): 120,
    ("eu-central", "sa-east"): 205,
    ("eu-central", "au-southeast"): 250,
    ("ap-northeast", "ap-southeast"): 70,
    ("ap-northeast", "ap-south"): 125,
    ("ap-northeast", "sa-east"): 260,
    ("ap-northeast", "au-southeast"): 105,
    ("ap-southeast", "ap-south"): 60,
    ("ap-southeast", "sa-east"): 325,
    ("ap-southeast", "au-southeast"): 95,
    ("ap-south", "sa-east"): 300,
    ("ap-south", "au-southeast"): 150,
    ("sa-east", "au-southeast"): 310,
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
