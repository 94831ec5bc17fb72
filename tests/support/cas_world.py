"""Dynamo cores under compare-and-set and serial reads alone, with faults, judged by search."""

from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush
from random import Random

from leaderless.dynamo import DynamoCore, DynamoSettings, Versions
from replication.analysis.findings import Verdict
from replication.analysis.models import Register
from replication.analysis.search import Action, Budget, Step, search
from replication.errors import Conflict, OperationError
from replication.protocol import (
    Effect,
    Instant,
    Membership,
    NodeId,
    Observe,
    Persist,
    Reply,
    Request,
    Send,
)
from replication.v1 import storage_pb2
from tests.support.dynamo_cluster import FIVE, MS, WALL_NS, Disk

LOAD_NS = 3_000 * MS
TIMEOUT_NS = 400 * MS


class CasWorld:
    """One run from a seed: everything random comes from it."""

    def __init__(self, seed: int, create: type[DynamoCore] = DynamoCore) -> None:
        self.seed = seed
        self.rng = Random(seed)
        self.create = create
        self.members = FIVE[: self.rng.choice((3, 5))]
        self.settings = DynamoSettings(
            versions=self.rng.choice((*Versions, Versions.DVV)),
            write_timeout_ns=300 * MS,
            read_timeout_ns=300 * MS,
        )
        self.loss = self.rng.choice((0.0, 0.05, 0.2))
        self.duplicate = self.rng.choice((0.0, 0.1))
        self.delay_ns = self.rng.choice((2 * MS, 10 * MS, 40 * MS))
        self.skew_ns = {node: self.rng.randint(-SKEW_NS, SKEW_NS) for node in self.members}
        self.faults = self.rng.choice(((), ("crash",), ("cut",), ("crash", "cut")))
        self.now_ns = 0
        self.cores: dict[NodeId, DynamoCore] = {}
        self.disks = {node: Disk() for node in self.members}
        self.lives = dict.fromkeys(self.members, 0)
        self.cut: frozenset[NodeId] = frozenset()
        self.steps: list[Step] = []
        self.waiting: dict[int, Callable[[object], None]] = {}
        self.told: list[str] = []
        self.outcomes = {"ok": 0, "conflict": 0, "refused": 0, "unknown": 0}
        self._requests = 0
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self._order = 0

    def run(self) -> None:
        """Let three clients work on one key, then judge what they saw."""
        for node in self.members:
            self._start(node)
        for number in range(3):
            self.after(self.rng.randrange(20 * MS), partial(self._client, f"c{number}", 1, None))
        if self.faults:
            self.after(200 * MS, self._fault)
        while self._agenda and self._agenda[0][0] <= LOAD_NS + 2 * TIMEOUT_NS:
            self.now_ns, _, action = heappop(self._agenda)
            action()
        steps = sorted(self.steps, key=lambda step: step.invoke_ns)
        order = search(steps, Register(), Budget())
        assert order.verdict is Verdict.VALID, f"seed {self.seed}: {order.verdict}"

    def after(self, delay_ns: int, action: Callable[[], None]) -> None:
        self._order += 1
        heappush(self._agenda, (self.now_ns + delay_ns, self._order, action))

    # Nodes.

    def _instant(self, node: NodeId) -> Instant:
        return Instant(self.now_ns, WALL_NS + self.now_ns + self.skew_ns[node])

    def _start(self, node: NodeId) -> None:
        self.lives[node] += 1
        rng = Random(f"{self.seed} {node} {self.lives[node]}")
        core = self.create(Membership(node, self.members), self.settings, rng)
        self.cores[node] = core
        self._perform(node, core.start(self._instant(node), self.disks[node]))
        self._turn(node, lambda core: [])
        self._tick(node, self.lives[node])

    def _tick(self, node: NodeId, life: int) -> None:
        if self.lives[node] == life and node in self.cores:
            self._turn(node, lambda core: core.wake(self._instant(node)))
            self.after(5 * MS, partial(self._tick, node, life))

    def _turn(self, node: NodeId, call: Callable[[DynamoCore], list[Effect]]) -> None:
        core = self.cores.get(node)
        if core is not None:
            self._perform(node, call(core))
            self._perform(node, core.flush(self._instant(node)))

    def _perform(self, node: NodeId, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Persist():
                    self.disks[node].apply(effect)
                case Send():
                    for _ in range(1 + (self.rng.random() < self.duplicate)):
                        if self.rng.random() >= self.loss:
                            delay_ns = self.rng.randint(MS // 10, self.delay_ns)
                            self.after(delay_ns, partial(self._arrive, node, effect))
                case Reply():
                    self.waiting.pop(effect.request_id, lambda _: None)(effect.result)
                case Observe():
                    self.told.append(effect.event.WhichOneof("kind") or "")

    def _arrive(self, sender: NodeId, send: Send) -> None:
        if (sender in self.cut) == (send.to in self.cut):
            self._turn(
                send.to,
                lambda core: core.receive(self._instant(send.to), sender, send.message),
            )

    def _fault(self) -> None:
        if self.now_ns > LOAD_NS:
            self.cut = frozenset()
            return
        node = self.rng.choice(self.members)
        if self.rng.choice(self.faults) == "crash":
            if node in self.cores:
                del self.cores[node]
                self.after(self.rng.randint(MS, 400 * MS), partial(self._start, node))
        else:
            count = self.rng.randint(0, len(self.members) // 2)
            self.cut = frozenset(self.rng.sample(self.members, count))
        self.after(self.rng.randint(50 * MS, 400 * MS), self._fault)

    # Clients.

    def _client(self, name: str, sequence: int, known: str | None) -> None:
        """Do one operation at a node that runs, then go on with what it has taught."""
        if self.now_ns > LOAD_NS:
            return
        node = self.rng.choice(self.members)
        if node not in self.cores:
            self.after(10 * MS, partial(self._client, name, sequence, known))
            return
        self._requests += 1
        number, begun_ns = self._requests, self.now_ns
        is_read = self.rng.random() < 0.35
        value = f"{name}:{sequence}"
        body = get_serial() if is_read else compare_and_set(name, sequence, known, value)

        def done(result: object) -> None:
            self.waiting.pop(number, None)
            after = self._judge(begun_ns, is_read, known, value, result)
            # A write that was not answered is not tried again: the search knows it as unknown.
            pause_ns = self.rng.randint(0, 10 * MS)
            self.after(pause_ns, partial(self._client, name, sequence + 1, after))

        self.waiting[number] = done
        request = Request(body, self.now_ns + TIMEOUT_NS)
        self.after(TIMEOUT_NS + 100 * MS, lambda: number in self.waiting and done(None))
        self._turn(node, lambda core: core.submit(self._instant(node), number, request))

    def _judge(
        self, begun_ns: int, is_read: bool, known: str | None, value: str, result: object
    ) -> str | None:
        """Keep the operation for the search. Returns what the client believes the key holds."""
        cas = Action("cas", (known, value))
        if isinstance(result, storage_pb2.GetResponse):
            live = [each.value.decode() for each in result.versions]
            assert len(live) < 2, f"seed {self.seed}: a serial read shows siblings {live}"
            held = live[0] if live else None
            self.steps.append(Step(begun_ns, self.now_ns, Action("read", None, held)))
            self.outcomes["ok"] += 1
            return held
        if is_read:
            return known
        if isinstance(result, storage_pb2.CompareAndSetResponse):
            self.steps.append(Step(begun_ns, self.now_ns, cas))
            self.outcomes["ok"] += 1
            return value
        if isinstance(result, Conflict):
            refused = Action("refused", (known, value))
            self.steps.append(Step(begun_ns, self.now_ns, refused))
            self.outcomes["conflict"] += 1
            return known if self.rng.random() < 0.2 else self._guess()
        if isinstance(result, OperationError) and result.definite:
            self.outcomes["refused"] += 1
            return known
        self.steps.append(Step(begun_ns, None, cas))
        self.outcomes["unknown"] += 1
        return self._guess()

    def _guess(self) -> str | None:
        """What others wrote is a better guess than what this client knew."""
        swaps = [each.action.argument[1] for each in self.steps if each.action.name == "cas"]
        return self.rng.choice(swaps[-3:]) if swaps else None


SKEW_NS = 200 * MS
KEY = "acorn"


def get_serial() -> storage_pb2.GetRequest:
    return storage_pb2.GetRequest(key=KEY, consistency=storage_pb2.CONSISTENCY_LINEARIZABLE)


def compare_and_set(
    client: str, sequence: int, expected: str | None, value: str
) -> storage_pb2.CompareAndSetRequest:
    return storage_pb2.CompareAndSetRequest(
        key=KEY,
        expected=None if expected is None else expected.encode(),
        value=value.encode(),
        write_id=storage_pb2.WriteId(client_id=client, sequence=sequence),
    )
