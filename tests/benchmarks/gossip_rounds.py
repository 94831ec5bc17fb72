"""The scenario gossip-rounds: how many rounds until all know, from 3 to 1,000 nodes?

    uv run python -m tests.benchmarks.gossip_rounds [--nodes 3 5 10 50 100 300 1000] [--trials 20]

``leaderless/dynamo/swim.py`` alone, in virtual time: a scenario of the runner has at most 51 nodes.
One node announces something; in every round each node exchanges all it knows with one random other.
Beside log2 N the table shows the same process computed with sets, which knows nothing of SWIM.
"""

import argparse
from collections.abc import Sequence
from math import log2
from random import Random
from statistics import mean

from tests.support.swim_network import rounds_until_all_know


def oracle(count: int, rng: Random) -> int:
    """Return the rounds of push-pull with one random other, computed with a set."""
    knowing = {0}
    rounds = 0
    while len(knowing) < count:
        rounds += 1
        met = [(node, (node + rng.randrange(1, count)) % count) for node in range(count)]
        knowing = knowing.union(
            *({one, other} for one, other in met if one in knowing or other in knowing)
        )
    return rounds


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=[3, 5, 10, 50, 100, 300, 1000])
    parser.add_argument("--trials", type=int, default=20)
    options = parser.parse_args(arguments)
    print(f"{'nodes':>6} {'mean':>6} {'worst':>6} {'oracle':>7} {'log2 N':>7}")
    for count in options.nodes:
        trials = max(1, options.trials if count < 300 else options.trials // 10)
        rounds = [rounds_until_all_know(count, seed) for seed in range(trials)]
        expected = mean(oracle(count, Random(seed)) for seed in range(1000 if count < 300 else 50))
        print(
            f"{count:6} {mean(rounds):6.2f} {max(rounds):6} {expected:7.2f} {log2(count):7.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
