"""The routing and retry policy of a client, as transcripts and over random answers."""

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.client.requests import COVERED_IDS_MAX
from replication.client.session import MILLISECOND_NS, PAUSES_NS, Session
from replication.client.steps import Attempt, Finished, Step, Wait
from replication.errors import (
    Conflict,
    Indefinite,
    InvalidRequest,
    LeadershipLost,
    NotLeader,
    OperationError,
    Overloaded,
    QuorumTimeout,
    QuorumUnreachable,
    Unreachable,
)
from replication.history import Operation, OperationKind, Outcome, Phase
from replication.plan.model import PlannedClient, PlannedOperation, Route, Update
from replication.protocol import Family, StorageResponse
from replication.v1 import storage_pb2

NODES = ("n1", "n2", "n3", "n4", "n5")
TIMEOUT_NS = 1_000 * MILLISECOND_NS

Answer = StorageResponse | OperationError


def session(
    family: Family = Family.LEADER, home: str = "n1", route: Route = Route.FOLLOW
) -> Session:
    return Session(PlannedClient("c1", home, route), family, NODES, TIMEOUT_NS)


def put(sequence: int = 1, **more: object) -> PlannedOperation:
    return PlannedOperation("c1", sequence, None, OperationKind.PUT, "k", value="v", **more)  # type: ignore[arg-type]


def get(sequence: int = 1, **more: object) -> PlannedOperation:
    return PlannedOperation("c1", sequence, None, OperationKind.GET, "k", **more)  # type: ignore[arg-type]


def stored(node: str = "n1", term: int = 0, context: bytes = b"") -> storage_pb2.PutResponse:
    return storage_pb2.PutResponse(
        context=context, served=storage_pb2.Served(node=node, term=term, log_index=7 * term)
    )


def read(*sequences: int, context: bytes = b"", node: str = "n1") -> storage_pb2.GetResponse:
    versions = [
        storage_pb2.Version(
            value=b"v", write_id=storage_pb2.WriteId(client_id="c2", sequence=sequence)
        )
        for sequence in sequences
    ]
    served = storage_pb2.Served(node=node)
    return storage_pb2.GetResponse(versions=versions, context=context, served=served)


def play(
    one: Session, planned: PlannedOperation, answers: Iterable[Answer | None], now_ns: int = 0
) -> tuple[list[str], Step]:
    """Perform an operation with scripted answers, None for silence; return who was asked."""
    asked: list[str] = []
    step: Step = one.begin(now_ns, planned, index=1, phase=Phase.LOAD)
    for answer in answers:
        while isinstance(step, Wait):
            now_ns = step.until_ns
            step = one.resume(now_ns)
        assert isinstance(step, Attempt), f"{step} while {answer!r} was still to come"
        asked.append(step.node)
        if answer is None:
            now_ns = step.deadline_ns
            step = one.timed_out(now_ns)
        else:
            step = one.answered(now_ns, answer)
    return asked, step


def ended(step: Step) -> Operation:
    assert isinstance(step, Finished)
    return step.operation


def test_a_hint_is_followed_and_remembered() -> None:
    one = session()
    asked, step = play(one, put(), [NotLeader("n4", 3), stored("n4", 3)])
    assert asked == ["n1", "n4"]
    operation = ended(step)
    assert operation.outcome is Outcome.OK
    assert (operation.attempts, operation.redirects) == (2, 1)
    assert (operation.node, operation.term, operation.log_index) == ("n4", 3, 21)
    asked, _ = play(one, put(2), [stored("n4", 3)])
    assert asked == ["n4"]


def test_a_hint_of_an_older_term_is_not_believed() -> None:
    one = session()
    play(one, put(), [NotLeader("n4", 3), stored("n4", 3)])
    # n4 has stepped down in term 4; n5 has not heard of it and still points at n2 of term 2.
    asked, _ = play(
        one, put(2), [NotLeader("", 4), NotLeader("n2", 2), NotLeader("n3", 4), stored("n3", 4)]
    )
    assert asked == ["n4", "n5", "n1", "n3"]


def test_a_spare_that_came_to_lead_is_followed_and_taken_into_the_round() -> None:
    client = PlannedClient("c1", "n1", Route.FOLLOW)
    one = Session(client, Family.LEADER, NODES, TIMEOUT_NS, spares=("n6",))
    asked, _ = play(one, put(), [NotLeader("n6", 2), stored("n6", 2)])
    assert asked == ["n1", "n6"]
    asked, _ = play(one, put(2), [NotLeader("", 3), NotLeader("", 3), stored("n2", 3)])
    assert asked[0] == "n6", "it is remembered"
    stranger = Session(client, Family.LEADER, NODES, TIMEOUT_NS)
    asked, _ = play(stranger, put(), [NotLeader("n6", 2), stored("n1", 2)])
    assert "n6" not in asked, "nobody told this client where it is"


def test_an_update_builds_on_the_read_before_it_and_is_not_sent_without_one() -> None:
    one = session(Family.LEADERLESS)
    add = PlannedOperation("c1", 2, None, OperationKind.PUT, "k", value="c1-2", update=Update.ADD)
    unread = ended(one.begin(0, add, index=1, phase=Phase.LOAD))
    assert (unread.outcome, unread.error, unread.attempts) == (Outcome.FAIL, "NothingRead", 0)
    play(one, get(), [read(7, context=b"seen")])
    step = one.begin(0, add, index=3, phase=Phase.LOAD)
    assert isinstance(step, Attempt)
    assert isinstance(step.request, storage_pb2.PutRequest)
    assert (step.request.value, step.request.context) == (b"c1-2,v", b"seen")
    assert ended(one.answered(1, stored("n1"))).value == "c1-2,v"


def test_a_compare_and_set_of_a_mix_expects_what_its_client_last_knew_of() -> None:
    one = session()
    cas = PlannedOperation(
        *("c1", 2, None, OperationKind.COMPARE_AND_SET, "k"), value="new", expects_last=True
    )
    expected = []
    for before in (None, read(7), read()):
        if before is not None:
            play(one, get(), [before])
        step = one.begin(0, cas, index=1, phase=Phase.LOAD)
        assert isinstance(step, Attempt)
        assert isinstance(step.request, storage_pb2.CompareAndSetRequest)
        there = step.request.HasField("expected")
        expected.append(step.request.expected if there else None)
        one.answered(1, Conflict("another value"))
    assert expected == [None, b"v", None]


def test_a_compare_and_set_replaces_the_write_whose_value_it_expects() -> None:
    one = session()
    cas = OperationKind.COMPARE_AND_SET
    swapped = storage_pb2.CompareAndSetResponse()
    found = []
    for sequence, expects_last, expected in ((1, True, None), (2, True, None), (3, False, "x")):
        planned = PlannedOperation(
            *("c1", sequence, None, cas, "k"), value=f"v{sequence}", expects_last=expects_last
        )
        planned = replace(planned, expected=expected)
        step = one.begin(0, planned, index=sequence, phase=Phase.LOAD)
        assert isinstance(step, Attempt)
        found.append(ended(one.answered(1, swapped)).based_on)
    assert found == [[], ["c1:1"], []]


def test_nodes_that_point_at_each_other_are_not_asked_twice_in_a_round() -> None:
    one = session()
    one_another = {"n1": "n2", "n2": "n1", "n3": "n1", "n4": "n1", "n5": "n1"}
    step: Step = one.begin(0, put(), index=1, phase=Phase.LOAD)
    now_ns = 0
    in_round: list[str] = []
    while not isinstance(step, Finished):
        if isinstance(step, Wait):
            now_ns, in_round = step.until_ns, []
            step = one.resume(now_ns)
            continue
        assert step.node not in in_round
        in_round.append(step.node)
        step = one.answered(now_ns, NotLeader(one_another[step.node], 1))
    operation = step.operation
    assert (operation.outcome, operation.error) == (Outcome.FAIL, "NotLeader")
    assert now_ns <= TIMEOUT_NS
    rounds = TIMEOUT_NS // PAUSES_NS[-1] + len(PAUSES_NS)
    assert operation.attempts <= rounds * len(NODES)


def test_pauses_grow_while_no_leader_is_known() -> None:
    one = session()
    step: Step = one.begin(0, put(), index=1, phase=Phase.LOAD)
    pauses, asked, now_ns = [], [], 0
    while len(pauses) < 6:
        assert isinstance(step, Attempt)
        asked.append(step.node)
        step = one.answered(now_ns, NotLeader("", 2))
        assert isinstance(step, Wait)
        pauses.append((step.until_ns - now_ns) // MILLISECOND_NS)
        now_ns = step.until_ns
        step = one.resume(now_ns)
    assert pauses == [5, 10, 20, 40, 40, 40]
    assert asked == ["n1", "n2", "n3", "n4", "n5", "n1"]


def test_a_dead_leader_that_followers_still_name_is_not_asked_in_circles() -> None:
    one = session()
    play(one, put(), [NotLeader("n4", 3), stored("n4", 3)])
    asked, step = play(one, put(2), [Unreachable("n4"), NotLeader("n4", 3)])
    assert asked == ["n4", "n5"]
    assert isinstance(step, Wait)


@pytest.mark.parametrize(
    "error",
    [
        None,
        LeadershipLost(3),
        QuorumTimeout(1, 2),
        Indefinite("UNAVAILABLE"),
        Indefinite("CANCELLED"),
    ],
)
@pytest.mark.parametrize("family", list(Family))
def test_a_write_of_unknown_fate_is_never_sent_again(
    family: Family, error: OperationError | None
) -> None:
    one = session(family)
    asked, step = play(one, put(), [error])
    operation = ended(step)
    assert asked == ["n1"]
    assert operation.outcome is Outcome.UNKNOWN
    assert operation.attempts == 1
    assert operation.error == ("Indefinite" if error is None else error.reason)


def test_a_write_that_was_refused_is_sent_again_as_it_was() -> None:
    one = session(Family.LEADERLESS)
    play(one, get(), [read(7, context=b"ctx")])
    step: Step = one.begin(0, put(2), index=2, phase=Phase.LOAD)
    requests = []
    for answer in (Unreachable("n1"), Overloaded(), stored("n3", context=b"new")):
        assert isinstance(step, Attempt)
        requests.append(step.request)
        step = one.answered(0, answer)
    assert ended(step).outcome is Outcome.OK
    first = requests[0]
    assert isinstance(first, storage_pb2.PutRequest)
    assert (first.write_id.sequence, first.context) == (2, b"ctx")
    assert all(request == first for request in requests)


def test_a_read_is_asked_elsewhere_and_fails_at_the_end() -> None:
    one = session(Family.LEADERLESS)
    asked, step = play(
        one, get(), [None, QuorumTimeout(1, 2), Indefinite("UNAVAILABLE"), None, None]
    )
    operation = ended(step)
    assert asked == ["n1", "n2", "n3", "n4", "n5"]
    assert (operation.outcome, operation.error) == (Outcome.FAIL, "Indefinite")
    assert operation.complete_ns is not None
    assert operation.complete_ns <= TIMEOUT_NS


@pytest.mark.parametrize("error", [Conflict("held another value"), InvalidRequest("too large")])
def test_an_answer_that_cannot_change_is_final(error: OperationError) -> None:
    asked, step = play(session(), put(), [error])
    assert asked == ["n1"]
    assert ended(step).outcome is Outcome.FAIL


def test_clients_of_a_leaderless_cluster_come_back_to_their_home() -> None:
    one = session(Family.LEADERLESS, home="n4")
    asked, _ = play(one, put(), [Unreachable("n4"), stored("n5")])
    assert asked == ["n4", "n5"]
    asked, _ = play(one, put(2), [stored("n4")])
    assert asked == ["n4"]


def test_too_few_replicas_are_believed_at_once() -> None:
    """Asking on, across a partition perhaps, would make an unknown write of a failed one."""
    one = session(Family.LEADERLESS, home="n5")
    asked, step = play(one, put(), [QuorumUnreachable(2, 1)])
    assert asked == ["n5"]
    assert ended(step).outcome is Outcome.FAIL
    assert isinstance(step, Finished)
    assert step.rest_ns > 0, "a closed loop that is refused at once must not spin"


def test_an_overloaded_leader_is_asked_again_after_a_pause() -> None:
    one = session()
    asked, _ = play(one, put(), [NotLeader("n2", 1), Overloaded(), Overloaded(), stored("n2", 1)])
    assert asked == ["n1", "n2", "n2", "n2"]


@pytest.mark.parametrize("family", list(Family))
def test_a_pinned_client_asks_nobody_else(family: Family) -> None:
    one = session(family, home="n3", route=Route.PINNED)
    asked, step = play(one, get(), [Unreachable("n3"), Overloaded(), Unreachable("n3"), read()])
    assert set(asked) == {"n3"}
    assert ended(step).outcome is Outcome.OK
    asked, step = play(one, put(2), [NotLeader("n1", 9)])
    assert (asked, ended(step).outcome) == (["n3"], Outcome.FAIL)
    asked, step = play(one, put(3), [QuorumUnreachable(2, 1)])
    assert (asked, ended(step).outcome) == (["n3"], Outcome.FAIL)


def test_a_silent_node_is_avoided_for_a_while() -> None:
    one = session(Family.LEADERLESS)
    _, step = play(one, put(), [None])
    now_ns = ended(step).complete_ns or 0
    asked, _ = play(one, put(2), [stored("n2")], now_ns)
    assert asked == ["n2"]
    asked, _ = play(one, put(3), [stored("n1")], now_ns + 10 * TIMEOUT_NS)
    assert asked == ["n1"]


def test_hints_at_a_silent_leader_wait_for_a_new_term() -> None:
    one = session(home="n2")
    play(one, put(), [NotLeader("n1", 3), stored("n1", 3)])
    _, step = play(one, put(2), [None])
    now_ns = ended(step).complete_ns or 0
    asked, step = play(one, put(3), [NotLeader("n1", 3)], now_ns)
    assert isinstance(step, Wait), "n1 leads term 3 still, as n2 believes, and does not answer"
    one.abandon()
    asked, step = play(one, put(4), [NotLeader("n1", 4), stored("n1", 4)], now_ns)
    assert asked == ["n2", "n1"]


def test_local_reads_go_home_and_teach_nothing_about_the_leader() -> None:
    one = session(home="n2")
    play(one, put(), [NotLeader("n5", 3), stored("n5", 3)])
    asked, _ = play(one, get(2, consistency="local"), [read(node="n2")])
    assert asked == ["n2"]
    asked, _ = play(one, put(3), [stored("n5", 3)])
    assert asked == ["n5"]


def test_a_client_that_reads_at_home_writes_to_the_leader() -> None:
    one = session(home="n2", route=Route.READS_AT_HOME)
    asked, _ = play(one, put(), [NotLeader("n5", 3), stored("n5", 3)])
    assert asked == ["n2", "n5"]
    asked, _ = play(one, get(2), [read(node="n2")])
    assert asked == ["n2"]
    asked, _ = play(one, get(3), [NotLeader("n5", 3), read(node="n5")])
    assert asked == ["n2", "n5"]
    asked, _ = play(one, put(4), [stored("n5", 3)])
    assert asked == ["n5"]


def test_writes_carry_what_the_client_has_read_and_written() -> None:
    one = session(Family.LEADERLESS)
    _, step = play(one, get(), [read(3, 9, context=b"a")])
    assert [version.write_id for version in ended(step).seen] == ["c2:3", "c2:9"]
    _, step = play(one, put(2), [stored(context=b"b")])
    assert ended(step).based_on == ["c2:3", "c2:9"]
    _, step = play(one, put(3), [QuorumTimeout(1, 2)])
    assert ended(step).based_on == ["c2:3", "c2:9", "c1:2"]
    _, step = play(one, put(4, with_context=False), [stored(context=b"c")])
    assert ended(step).based_on == []
    _, step = play(one, put(5), [stored(context=b"d")])
    assert ended(step).based_on == ["c1:4"], "a blind write's context covers that write alone"
    _, step = play(one, get(6), [read()])
    _, step = play(one, put(7), [stored()])
    assert ended(step).based_on == [], "a read without a context has seen nothing"


def test_a_long_chain_of_writes_lists_the_newest_ids() -> None:
    one = session(Family.LEADERLESS)
    for sequence in range(1, COVERED_IDS_MAX + 10):
        _, step = play(one, put(sequence), [stored(context=b"x")])
    based_on = ended(step).based_on
    assert len(based_on) == COVERED_IDS_MAX
    assert based_on[-1] == f"c1:{COVERED_IDS_MAX + 8}"


def test_requests_ask_for_what_the_plan_says() -> None:
    one = session(Family.LEADERLESS)
    step = one.begin(0, get(consistency="quorum", replicas=3), index=1, phase=Phase.LOAD)
    assert step.request == storage_pb2.GetRequest(
        key="k", consistency=storage_pb2.CONSISTENCY_QUORUM, r=3
    )
    leader = session()
    planned = PlannedOperation(
        "c1", 4, None, OperationKind.COMPARE_AND_SET, "k", value="new", replicas=2
    )
    step = leader.begin(0, planned, index=1, phase=Phase.LOAD)
    assert isinstance(step.request, storage_pb2.CompareAndSetRequest)
    assert not step.request.HasField("expected")
    leader.abandon()
    step = leader.begin(0, get(replicas=3), index=1, phase=Phase.LOAD)
    assert isinstance(step.request, storage_pb2.GetRequest)
    assert step.request.r == 0, "a leader knows no R"


def test_the_node_is_told_a_little_less_than_the_client_waits() -> None:
    step = session().begin(5, put(), index=1, phase=Phase.LOAD)
    assert step.deadline_ns == 5 + TIMEOUT_NS
    assert TIMEOUT_NS * 0.9 <= step.node_timeout_ns < TIMEOUT_NS


def test_an_operation_in_progress_can_be_abandoned() -> None:
    one = session()
    assert one.abandon() is None
    one.begin(0, put(), index=1, phase=Phase.LOAD)
    on_its_way = one.abandon()
    assert on_its_way is not None
    assert (on_its_way.outcome, on_its_way.complete_ns) == (Outcome.UNKNOWN, None)
    play(one, put(2), [NotLeader("", 1)])
    refused = one.abandon()
    assert refused is not None
    assert (refused.outcome, refused.error) == (Outcome.FAIL, "NotLeader")
    one.begin(0, get(3), index=3, phase=Phase.LOAD)
    asked = one.abandon()
    assert asked is not None
    assert asked.outcome is Outcome.FAIL
    assert not one.busy


ANSWERS: st.SearchStrategy[Answer | None] = st.one_of(
    st.none(),
    st.builds(NotLeader, st.sampled_from(["", *NODES, "n9"]), st.integers(0, 5)),
    st.builds(QuorumUnreachable, st.just(2), st.just(1)),
    st.sampled_from(
        [
            Overloaded(),
            Unreachable("n1"),
            LeadershipLost(2),
            QuorumTimeout(1, 2),
            Indefinite("UNAVAILABLE"),
            Conflict("no"),
        ]
    ),
    st.just(storage_pb2.PutResponse()),
)


@given(
    family=st.sampled_from(list(Family)),
    route=st.sampled_from(list(Route)),
    kinds=st.lists(st.sampled_from([OperationKind.GET, OperationKind.PUT]), max_size=4),
    answers=st.lists(st.tuples(ANSWERS, st.integers(0, 30)), min_size=1, max_size=60),
)
def test_every_operation_ends_in_time_whatever_the_nodes_say(
    family: Family,
    route: Route,
    kinds: list[OperationKind],
    answers: list[tuple[Answer | None, int]],
) -> None:
    one = session(family, route=route)
    now_ns = 0
    script = iter(answers * 50)
    for sequence, kind in enumerate(kinds, 1):
        start_ns = now_ns
        planned = put(sequence) if kind.is_write else get(sequence)
        step: Step = one.begin(now_ns, planned, index=sequence, phase=Phase.LOAD)
        unsure = False
        while not isinstance(step, Finished):
            if isinstance(step, Wait):
                assert now_ns < step.until_ns <= start_ns + TIMEOUT_NS
                now_ns = step.until_ns
                step = one.resume(now_ns)
                continue
            assert not (unsure and kind.is_write), "sent again although it may have happened"
            assert step.node in NODES
            assert now_ns < step.deadline_ns <= start_ns + TIMEOUT_NS
            assert 0 < step.node_timeout_ns <= step.deadline_ns - now_ns
            answer, taken_ms = next(script, (None, 0))
            arrival_ns = now_ns + taken_ms * MILLISECOND_NS
            if answer is None or arrival_ns >= step.deadline_ns:
                now_ns, unsure = step.deadline_ns, True
                step = one.timed_out(now_ns)
                continue
            now_ns = arrival_ns
            if not isinstance(answer, OperationError) and not kind.is_write:
                answer = storage_pb2.GetResponse()
            unsure = isinstance(answer, OperationError) and not answer.definite
            step = one.answered(now_ns, answer)
        operation = step.operation
        assert not one.busy
        assert operation.complete_ns == now_ns <= start_ns + TIMEOUT_NS
        assert operation.outcome is not Outcome.UNKNOWN or (kind.is_write and unsure)
        assert (operation.error is None) is (operation.outcome is Outcome.OK)
