"""What a simulated run does: the options of a seed, and the clients that work meanwhile."""

from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING

from leader.raft import RaftSettings
from replication.errors import NotLeader, OperationError
from replication.protocol import Response, StorageRequest, StorageResponse
from replication.v1 import control_pb2, storage_pb2
from tests.support.raft_cluster import MS, compare_and_set, delete, get, put
from tests.support.raft_judge import Operation

if TYPE_CHECKING:
    from tests.support.raft_simulation import Simulation

OPERATION_TIMEOUT_NS = 400 * MS
LINEARIZABLE = storage_pb2.CONSISTENCY_LINEARIZABLE


@dataclass
class Options:
    """What may go wrong and how cores are set: drawn per seed, so that seeds differ in kind."""

    size: int
    settings: RaftSettings
    loss: float
    duplicate: float
    delay_max_ns: int
    sync_max_ns: int
    fault_gap_max_ns: int
    crash: bool
    pause: bool
    cut: bool
    haunt: float  # chance that a new leader is crashed soon
    spares: int = 0  # nodes that an operator adds, and puts in the place of others
    drift_ppm: int = 0  # by which clocks run too fast or too slow
    lease: float = 0.0  # share of the reads that ask for a lease

    @classmethod
    def hostile(cls, rng: Random) -> "Options":
        """Return options under which leaders die young and logs part often."""
        settings = RaftSettings(
            heartbeat_ns=10 * MS,
            election_timeout_min_ns=30 * MS,
            election_timeout_max_ns=90 * MS,
            pre_vote=False,
            check_quorum=False,
            append_entries_max=1,
            inflight_appends_max=1,
        )
        return cls(
            size=rng.choice((3, 3, 5)),
            settings=settings,
            loss=0.0,
            duplicate=0.0,
            delay_max_ns=rng.choice((2, 5, 8)) * MS,
            sync_max_ns=MS,
            fault_gap_max_ns=rng.choice((30, 60, 120)) * MS,
            crash=True,
            pause=rng.random() < 0.5,
            cut=True,
            haunt=0.7,
        )

    @classmethod
    def draw(cls, rng: Random) -> "Options":
        # Short timeouts on a fast network: many elections in little time.
        fast = rng.random() < 0.4
        settings = RaftSettings(
            heartbeat_ns=(10 if fast else 50) * MS,
            election_timeout_min_ns=(30 if fast else 300) * MS,
            election_timeout_max_ns=(90 if fast else 600) * MS,
            pre_vote=rng.random() < 0.7,
            check_quorum=rng.random() < 0.7,
            append_entries_max=rng.choice((1, 2, 1024)),
            append_bytes_max=rng.choice((64, 1024 * 1024)),
            inflight_appends_max=rng.choice((1, 2, 16)),
            snapshot_entries=rng.choice((5, 20, 60, 10_000)),
            snapshot_chunk_bytes=rng.choice((32, 256, 65_536)),
            snapshot_trailing_entries=rng.choice((0, 0, 3, 20)),
            follower_reads=rng.random() < 0.4,
            priority=rng.choice(("", "", "n1", "n2,n1")),
        )
        spares = rng.choice((0, 0, 1, 2))
        if spares:
            # Without it a node that was removed and does not know may depose leaders for ever.
            settings = replace(settings, check_quorum=True)
        return cls(
            size=rng.choice((1, 2, 3, 3, 3, 4, 5, 5)),
            settings=settings,
            loss=rng.choice((0.0, 0.02, 0.2)),
            duplicate=rng.choice((0.0, 0.1)),
            delay_max_ns=rng.choice((MS, 5 * MS) if fast else (MS, 10 * MS, 80 * MS)),
            sync_max_ns=rng.choice((MS // 10, 5 * MS) if fast else (MS // 10, 5 * MS, 40 * MS)),
            fault_gap_max_ns=rng.choice((50 * MS, 150 * MS, 500 * MS)),
            crash=rng.random() < 0.8,
            pause=rng.random() < 0.5,
            cut=rng.random() < 0.8,
            haunt=rng.choice((0.0, 0.0, 0.5)),
            spares=spares,
            drift_ppm=rng.choice((0, 1_000, 40_000)),
            lease=rng.choice((0.0, 0.3, 0.8)),
        )


class Client:
    """Does one operation after the other, some of them again with the same write id."""

    def __init__(self, simulation: "Simulation", number: int) -> None:
        self._simulation = simulation
        self._rng = Random(simulation.rng.random())
        self._name = f"c{number}"
        self._sequence = 0
        self._target = self._rng.choice(simulation.names)
        self._attempt = 0
        simulation.plan(self._rng.randrange(20 * MS), self._next)

    def _next(self) -> None:
        rng = self._rng
        key = rng.choice("ab")
        kind = rng.random()
        if kind < 0.45:
            body: StorageRequest = get(key, local=rng.random() < 0.15)
            if rng.random() < self._simulation.options.lease and body.consistency == LINEARIZABLE:
                body.consistency = storage_pb2.CONSISTENCY_LEASE
        else:
            self._sequence += 1
            value = f"{self._name}/{self._sequence}".encode()
            identity = (self._name, self._sequence)
            if kind < 0.8:
                body = put(key, value, *identity)
            elif kind < 0.9:
                body = delete(key, *identity)
            else:
                expected = rng.choice((None, self._simulation.judge.some_value(rng)))
                body = compare_and_set(key, expected, value, *identity)
        operation = Operation(self._name, body, self._simulation.now_ns)
        self._simulation.judge.history.append(operation)
        self._try(operation, 1)

    def _try(self, operation: Operation, tries: int) -> None:
        self._attempt += 1
        attempt = self._attempt
        simulation = self._simulation

        def done(result: Response | OperationError) -> None:
            assert not isinstance(result, control_pb2.CommandResponse), "it asked to read or write"
            # Judged when the answer leaves the node, heard only if the client still waits.
            simulation.judge.replied(operation, result)
            if attempt == self._attempt:
                self._attempt += 1
                self._heard(operation, result, tries)

        def silence() -> None:
            if attempt == self._attempt:
                self._attempt += 1
                self._heard(operation, None, tries)

        simulation.submit(self._target, operation.body, done)
        simulation.plan(OPERATION_TIMEOUT_NS + 50 * MS, silence)

    def _heard(
        self, operation: Operation, result: StorageResponse | OperationError | None, tries: int
    ) -> None:
        rng = self._rng
        definite = operation.attempt(result)
        if result is None or isinstance(result, OperationError):
            hint = result.leader if isinstance(result, NotLeader) else ""
            self._target = hint or rng.choice(self._simulation.names)
            may_retry = definite or not isinstance(operation.body, storage_pb2.GetRequest)
            if tries < 4 and may_retry and not operation.conflict and rng.random() < 0.7:
                pause_ns = rng.randrange(MS, 60 * MS)
                self._simulation.plan(pause_ns, lambda: self._try(operation, tries + 1))
                return
        operation.finish(self._simulation.now_ns, result)
        self._simulation.plan(rng.randrange(MS, 30 * MS), self._next)


class Operator:
    """Adds, removes and replaces members and moves the leadership, one command after the other."""

    def __init__(self, simulation: "Simulation") -> None:
        self._simulation = simulation
        self._rng = Random(simulation.rng.random())
        self._target = self._rng.choice(simulation.members)
        self._waits = 0
        self.done: list[str] = []  # in words
        simulation.plan(self._rng.randrange(300 * MS), self._next)

    def _next(self) -> None:
        if self._simulation.healed:
            return
        rng, names = self._rng, self._simulation.names
        request = control_pb2.CommandRequest()
        match rng.randrange(5):
            case 0:
                request.transfer_leadership.to = rng.choice(("", *names))
            case 1:
                request.add_member.node = rng.choice(names)
                request.add_member.learner = rng.random() < 0.3
            case 2:
                request.remove_member.node = rng.choice(names)
            case _:
                request.replace_member.node = rng.choice(names)
                request.replace_member.by = rng.choice(names)
        self._waits += 1
        waits = self._waits

        def answered(result: Response | OperationError | None) -> None:
            if waits != self._waits:
                return
            self._waits += 1
            if isinstance(result, NotLeader) and result.leader:
                self._target = result.leader
            else:
                self._target = rng.choice(names)
            if isinstance(result, control_pb2.CommandResponse):
                self.done.append(result.words)
            self._simulation.plan(rng.randrange(10 * MS, 200 * MS), self._next)

        self._simulation.submit(self._target, request, answered)
        self._simulation.plan(OPERATION_TIMEOUT_NS + 50 * MS, lambda: answered(None))
