"""The routing and retry policy of one client, as a pure state machine.

A session is given planned operations, the time and what became of each attempt. It answers with
the next step (``steps``). Whoever performs it (the load driver, the simulation) keeps one step
outstanding at a time.

**What is tried again.** Reads, and operations that were refused with a definite error. A write
whose fate is not known is not sent again: it ends as ``unknown``, and its write id may show up in a
later read. A client with ``retries`` sends it again, that many times, to a cluster of the leader
family, with the same write id: whether it then takes effect once is what the cluster promises
(Raft: ``sessions``). After the first such attempt a refusal says nothing about the write any more.

**Where.** A leader's clients ask the leader they know of, follow hints of a term that is not older
than what they know, and otherwise take the nodes in turn. Within one *round* no node is asked
twice; when nobody is left to ask, the session pauses (longer each time) and a new round begins.
Clients of a leaderless cluster ask their home node, then the next in turn; what it says of too few
replicas being alive is believed at once. A pinned client asks its home node and no other; one that
reads at home asks it first for every read, whoever leads. A node that was silent until a timeout is
suspected for a while: others are asked first, and hints at it count only in a later term.
"""

from collections.abc import Sequence

from replication.client.requests import (
    NOTHING_CARRIED,
    Carried,
    Known,
    based_on,
    build_request,
    carried_after,
    known_after,
    record_response,
    write_id,
)
from replication.client.steps import Attempt, Finished, Step, Wait
from replication.client.suspicion import Suspicions
from replication.client.updates import derived
from replication.errors import (
    Conflict,
    Expired,
    Indefinite,
    InvalidRequest,
    LeadershipLost,
    NothingRead,
    NotLeader,
    OperationError,
    Overloaded,
    Unreachable,
)
from replication.history import Operation, OperationKind, Outcome, Phase
from replication.plan.model import PlannedClient, PlannedOperation, Route
from replication.protocol import Family, NodeId, StorageRequest, StorageResponse

MILLISECOND_NS = 1_000_000

PAUSES_NS = (5 * MILLISECOND_NS, 10 * MILLISECOND_NS, 20 * MILLISECOND_NS, 40 * MILLISECOND_NS)
REST_NS = 20 * MILLISECOND_NS
READ_TIMEOUT_SHARE = 4  # a read gives its first node a quarter of the operation's time
READ_TIMEOUT_NS_MIN = 200 * MILLISECOND_NS
ANSWER_MARGIN_NS_MAX = 50 * MILLISECOND_NS


class Session:
    """One client. Times are nanoseconds on any one clock of the caller's."""

    def __init__(
        self,
        client: PlannedClient,
        family: Family,
        nodes: Sequence[NodeId],
        operation_timeout_ns: int,
        spares: Sequence[NodeId] = (),
    ) -> None:
        """``spares`` are asked once a hint says that one of them leads."""
        assert client.home in nodes, f"{client.home} is no node"
        start = nodes.index(client.home)
        self.client = client
        self._family = family
        self._pinned = client.route is Route.PINNED
        self._order = [*nodes[start:], *nodes[:start]]  # in turn, the home node first
        self._spares = spares
        self._timeout_ns = operation_timeout_ns
        self._carried: dict[str, Carried] = {}
        self._known: dict[str, Known] = {}  # by key: as last read, or written since
        self._suspicions = Suspicions()
        self._leader: NodeId | None = None
        self._term = 0
        # Of the operation in progress:
        self._operation: Operation | None = None
        self._request: StorageRequest | None = None
        self._at_home = False  # it is for the home node, whoever leads
        self._sent = NOTHING_CARRIED  # what the request carried
        self._deadline_ns = 0
        self._node: NodeId | None = None  # asked and not answered yet
        self._last = client.home  # asked last
        self._next: NodeId | None = None  # to ask after the pause
        self._round: list[NodeId] = []  # asked since the last pause
        self._pauses = 0
        self._silences = 0
        self._unsure_attempts = 0  # of this write, whose fate is not known
        self._error: OperationError | None = None

    @property
    def busy(self) -> bool:
        """Whether an operation is in progress."""
        return self._operation is not None

    def carry(self, key: str, context: bytes) -> None:
        """Base the next write of ``key`` on a context that was read elsewhere."""
        self._carried[key] = Carried(context, ())

    def begin(
        self,
        now_ns: int,
        planned: PlannedOperation,
        *,
        index: int,
        phase: Phase,
        intended_ns: int | None = None,
    ) -> Attempt | Finished:
        """Start an operation; the one before has ended. ``intended_ns`` defaults to now.

        Its time counts from the intended start, as its latency does: who waited for the client to
        be free has waited. An operation whose time has passed fails without being sent.
        """
        assert self._operation is None, f"{self.client.name} has an operation in progress"
        known = self._known.get(planned.key)
        planned, problem = derived(planned, None if known is None else known.values)
        is_write = planned.kind.is_write
        carries = is_write and planned.with_context
        self._sent = self._carried.get(planned.key, NOTHING_CARRIED) if carries else NOTHING_CARRIED
        self._request = build_request(planned, self._family, self._sent.context)
        operation = self._operation = Operation(
            index=index,
            client=planned.client,
            kind=planned.kind,
            key=planned.key,
            phase=phase,
            intended_ns=now_ns if intended_ns is None else intended_ns,
            invoke_ns=now_ns,
            complete_ns=None,
            outcome=Outcome.UNKNOWN,
            value=planned.value,
            expected=planned.expected,
            write_id=write_id(planned) if is_write else None,
            update=planned.update.value if planned.applied and planned.update else None,
            based_on=based_on(planned, self._sent, known),
            consistency=planned.consistency,
            replicas_asked=planned.replicas if self._family is Family.LEADERLESS else 0,
            attempts=0,
        )
        reads_at_home = self.client.route is Route.READS_AT_HOME and not is_write
        self._at_home = operation.consistency == "local" or reads_at_home
        self._deadline_ns = operation.intended_ns + self._timeout_ns
        self._round = []
        self._pauses = self._silences = self._unsure_attempts = 0
        self._error = problem
        if self._deadline_ns - now_ns < MILLISECOND_NS:
            self._error = Expired()
        if self._error is not None:
            return self._give_up(now_ns)
        return self._ask(now_ns, self._first(now_ns))

    def answered(self, now_ns: int, result: StorageResponse | OperationError) -> Step:
        """Take the answer to the outstanding attempt, or the error that it ended with."""
        node, self._node = self._node, None
        assert node is not None, "an attempt is outstanding"
        if not isinstance(result, Unreachable):
            self._suspicions.clear(node)
        if not isinstance(result, OperationError):
            return self._succeed(now_ns, node, result)
        self._error = result
        if result.definite:
            return self._refused(now_ns, node, result)
        return self._unsure(now_ns, node)

    def timed_out(self, now_ns: int) -> Step:
        """The outstanding attempt has had no answer until its deadline."""
        node, self._node = self._node, None
        assert node is not None, "an attempt is outstanding"
        self._silences += 1
        self._suspicions.suspect(now_ns, node, self._term)
        self._error = Indefinite("TIMEOUT", f"no answer from {node} in time")
        return self._unsure(now_ns, node)

    def resume(self, now_ns: int) -> Step:
        """The pause is over."""
        assert self._operation is not None, "an operation is in progress"
        assert self._node is None, "no attempt is outstanding"
        self._round = []
        node = self._next or self._in_turn(now_ns)
        assert node is not None, "a new round has somebody to ask"
        return self._ask_in_time(now_ns, node)

    def abandon(self) -> Operation | None:
        """End the operation in progress because the run ends; None when there is none.

        A write that is on its way is ``unknown``; one that only met definite refusals, and every
        read, is ``fail``. ``complete_ns`` stays None.
        """
        operation, self._operation = self._operation, None
        open_write = self._node is not None or self._unsure_attempts
        if operation is not None and not (open_write and operation.kind.is_write):
            operation.outcome = Outcome.FAIL
        if operation is not None and self._error is not None:
            operation.error, operation.message = self._error.reason, self._error.message
        self._node = None
        return operation

    # Where to ask.

    def _first(self, now_ns: int) -> NodeId:
        if self._pinned:
            return self.client.home
        leader = None if self._at_home else self._leader
        if leader is not None and self._hint_is_good(now_ns, leader):
            return leader
        self._last = self._order[-1]  # the home node is next in turn
        node = self._in_turn(now_ns)
        assert node is not None, "a new round has somebody to ask"
        return node

    def _in_turn(self, now_ns: int) -> NodeId | None:
        """Return the next node that was not asked in this round; None when nobody is left.

        Suspected nodes are asked only when every other node is suspected too.
        """
        start = self._order.index(self._last) + 1
        turn = [*self._order[start:], *self._order[:start]]
        if self._pinned:
            turn = [self.client.home]
        for node in turn:
            if node not in self._round and not self._suspicions.avoids(now_ns, node):
                return node
        return None if self._round else turn[0]

    def _hint_is_good(self, now_ns: int, node: NodeId) -> bool:
        if node in self._round or node not in self._order:
            return False
        return not self._suspicions.doubts_hint(now_ns, node, self._term)

    def _learn(self, refused_by: NodeId, error: NotLeader) -> None:
        """Believe a hint unless it is of an older term than what is known (Raft §5.1)."""
        if self._leader == refused_by:
            self._leader = None
        if error.term < self._term:
            return
        if error.leader and error.leader != refused_by:
            self._leader = error.leader
            if error.leader in self._spares and error.leader not in self._order:
                self._order.append(error.leader)
        elif error.term > self._term:
            self._leader = None
        self._term = error.term

    # How an attempt or an operation begins and ends.

    def _ask(self, now_ns: int, node: NodeId) -> Attempt:
        assert self._operation is not None, "an operation is in progress"
        assert self._request is not None, "it has a request"
        left_ns = self._deadline_ns - now_ns
        if self._retries > 0 or not self._operation.kind.is_write:
            share_ns = (self._timeout_ns // READ_TIMEOUT_SHARE) << self._silences
            left_ns = min(left_ns, max(share_ns, READ_TIMEOUT_NS_MIN))
        self._operation.attempts += 1
        if self._operation.attempts > 1:
            self._operation.turned_ns = now_ns
        self._node = self._last = node
        self._next = None
        self._round.append(node)
        margin_ns = min(left_ns // 10, ANSWER_MARGIN_NS_MAX)
        return Attempt(node, self._request, left_ns - margin_ns, now_ns + left_ns)

    def _ask_in_time(self, now_ns: int, node: NodeId) -> Step:
        if self._deadline_ns - now_ns < MILLISECOND_NS:
            return self._give_up(now_ns)
        return self._ask(now_ns, node)

    def _ask_next(self, now_ns: int) -> Step:
        node = self._in_turn(now_ns)
        return self._pause(now_ns) if node is None else self._ask_in_time(now_ns, node)

    def _pause(self, now_ns: int, then: NodeId | None = None) -> Step:
        until_ns = now_ns + PAUSES_NS[min(self._pauses, len(PAUSES_NS) - 1)]
        if until_ns + MILLISECOND_NS > self._deadline_ns:
            return self._give_up(now_ns)
        self._pauses += 1
        self._next = then
        return Wait(until_ns)

    def _refused(self, now_ns: int, node: NodeId, error: OperationError) -> Step:
        match error:
            case NotLeader():
                return self._redirected(now_ns, node, error)
            case Unreachable():
                if self._leader == node:
                    self._leader = None
                return self._ask_next(now_ns)
            case Overloaded():
                if self._family is Family.LEADER:
                    return self._pause(now_ns, then=node)  # the others would only send us back
                return self._ask_next(now_ns)
        # Among them QuorumUnreachable. Another node could know better, but when it lies across a
        # partition the write ends as unknown after a timeout, where it was known to have failed.
        return self._give_up(now_ns)

    def _redirected(self, now_ns: int, node: NodeId, error: NotLeader) -> Step:
        assert self._operation is not None, "an operation is in progress"
        self._operation.redirects += 1
        self._learn(node, error)
        if self._pinned:
            return self._give_up(now_ns)
        if self._leader is not None and self._hint_is_good(now_ns, self._leader):
            return self._ask_in_time(now_ns, self._leader)
        return self._pause(now_ns)

    def _unsure(self, now_ns: int, node: NodeId) -> Step:
        assert self._operation is not None, "an operation is in progress"
        if self._leader == node:
            self._leader = None
        if self._operation.kind.is_write:
            if not self._retries:
                return self._give_up(now_ns)
            self._unsure_attempts += 1
        return self._ask_next(now_ns)

    @property
    def _retries(self) -> int:
        """How often a write whose fate is not known may still be sent again."""
        allowed = self.client.retries if self._family is Family.LEADER else 0
        return allowed - self._unsure_attempts

    def _give_up(self, now_ns: int) -> Finished:
        operation, error = self._operation, self._error
        assert operation is not None, "an operation is in progress"
        assert error is not None, "there is a reason to give up"
        self._operation = None
        sure = not operation.kind.is_write or (error.definite and not self._unsure_attempts)
        operation.outcome = Outcome.FAIL if sure else Outcome.UNKNOWN
        operation.complete_ns = now_ns
        operation.node = self._last if operation.attempts else None
        operation.error, operation.message = error.reason, error.message
        if isinstance(error, NotLeader | LeadershipLost):
            operation.term = error.term
        if operation.kind is OperationKind.GET:
            self._known.pop(operation.key, None)
        pointless = isinstance(error, Conflict | Expired | InvalidRequest | NothingRead)
        return Finished(operation, 0 if pointless else REST_NS)

    def _succeed(self, now_ns: int, node: NodeId, response: StorageResponse) -> Finished:
        operation = self._operation
        assert operation is not None, "an operation is in progress"
        self._operation = None
        operation.outcome = Outcome.OK
        operation.complete_ns = now_ns
        record_response(operation, response, node)
        if (carried := carried_after(operation, response, self._sent)) is not None:
            self._carried[operation.key] = carried
        self._known[operation.key] = known_after(operation)
        if self._family is Family.LEADER and not self._at_home:
            term = operation.term or 0
            # A follower may serve reads too, so a read does not make its node the leader.
            if term >= self._term and (operation.kind.is_write or self._leader is None):
                self._leader, self._term = node, term
        return Finished(operation, 0)
