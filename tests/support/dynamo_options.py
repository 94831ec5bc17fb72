"""What may go wrong in a simulated Dynamo cluster, and with which settings."""

from dataclasses import dataclass
from random import Random

from leaderless.dynamo import DynamoSettings, Fanout, Hints, Purge, Quorum, ReadRepair, Versions
from leaderless.dynamo.settings import Detection
from replication.protocol import NodeId
from tests.support.dynamo_cluster import FIVE, MS


@dataclass
class Options:
    """Drawn per seed, so that seeds differ in kind."""

    members: tuple[NodeId, ...]
    settings: DynamoSettings
    loss: float
    duplicate: float
    delay_max_ns: int
    sync_max_ns: int
    flush_wait_ns: int
    faults: tuple[str, ...]
    fault_gap_ns: int
    clock_skew_ns: int
    clients: int
    wipes: int  # disks that may be lost, fewer than W
    any_share: float  # of the writes that ask for level ANY

    @classmethod
    def draw(cls, rng: Random) -> "Options":
        members = FIVE[: rng.choice((3, 4, 5))]
        r, w = rng.choice(((2, 2), (2, 2), (2, 2), (1, 3), (3, 1), (1, 1), (1, 2)))
        hints = rng.choice((Hints.DURABLE, Hints.DURABLE, Hints.BUFFERED, Hints.OFF))
        sloppy = hints is not Hints.OFF and rng.random() < 0.4
        fanout = rng.choice((Fanout.ALL, Fanout.DIGEST))
        settings = DynamoSettings(
            r=r,
            w=w,
            pw=rng.choice((0, 0, 0, 1)),
            quorum=Quorum.SLOPPY if sloppy else Quorum.STRICT,
            hints=hints,
            hint_flush_ns=rng.choice((50 * MS, 500 * MS)),
            hint_bytes_per_s=rng.choice((0, 10_000)),
            partitions=8,
            versions=rng.choice((Versions.DVV, Versions.DVV, *Versions)),
            read_repair=rng.choice((ReadRepair.ASYNC, ReadRepair.BLOCKING, ReadRepair.OFF)),
            read_fanout=fanout,
            purge=rng.choice((Purge.NEVER, Purge.NEVER, Purge.AFTER_REPAIR)),
            tombstone_grace_ns=600 * MS,
            hedge_after_ns=20 * MS if fanout is Fanout.DIGEST and rng.random() < 0.5 else None,
            read_timeout_ns=200 * MS,
            write_timeout_ns=200 * MS,
            suspect_after_ns=rng.choice((300 * MS, 500 * MS)),
            detector=rng.choice((*Detection, Detection.SILENCE)),
            push_pull_ns=500 * MS,
            anti_entropy_ns=rng.choice((0, 0, 50 * MS, 100 * MS)),
        )
        return cls(
            members=members,
            settings=settings,
            loss=rng.choice((0.0, 0.05, 0.3)),
            duplicate=rng.choice((0.0, 0.2)),
            delay_max_ns=rng.choice((MS, 10 * MS, 80 * MS)),
            sync_max_ns=rng.choice((MS // 10, 3 * MS, 30 * MS)),
            flush_wait_ns=rng.choice((0, MS, 3 * MS)),
            faults=rng.choice((("crash",), ("cut",), ("crash", "cut", "pause"))),
            fault_gap_ns=rng.choice((150 * MS, 400 * MS)),
            clock_skew_ns=rng.choice((0, 5 * MS, 500 * MS)),
            clients=rng.choice((2, 3, 4)),
            wipes=rng.choice((0, 0, w - 1)),
            any_share=rng.choice((0.0, 0.2)) if hints is not Hints.OFF else 0.0,
        )
