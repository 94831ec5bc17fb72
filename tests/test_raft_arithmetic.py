"""Quorum and log arithmetic against brute force."""

from collections.abc import Sequence
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leader.raft.deadlines import GRAIN_NS, Deadlines
from leader.raft.log import Log, log_key
from leader.raft.progress import Progress, State
from leader.raft.quorum import Tally, majority, reached_by_majority, tally
from leader.v1 import raft_pb2
from replication.errors import CorruptStore
from replication.protocol import Erase, Put

sizes = st.integers(1, 9)
# A busy machine is no finding.
relaxed = settings(deadline=None)


def voters_of(size: int) -> list[str]:
    return [f"n{number}" for number in range(size)]


@pytest.mark.parametrize("size", range(1, 52))
def test_two_majorities_share_a_voter_and_half_is_none(size: int) -> None:
    assert 2 * majority(size) > size
    assert 2 * (majority(size) - 1) <= size


@relaxed
@given(st.lists(st.integers(0, 20), min_size=1, max_size=7))
def test_reached_by_majority_is_the_highest_level_that_some_majority_has(levels: list[int]) -> None:
    voters = voters_of(len(levels))
    by_voter = dict(zip(voters, levels, strict=True))
    brute = max(
        min(by_voter[voter] for voter in group)
        for group in combinations(voters, majority(len(voters)))
    )
    assert reached_by_majority(by_voter, voters) == brute


def test_a_silent_voter_has_reached_nothing_and_a_stranger_does_not_count() -> None:
    assert reached_by_majority({"n0": 7, "stranger": 9}, ["n0", "n1", "n2"]) == 0
    assert reached_by_majority({"n0": 7, "n1": 5}, ["n0", "n1", "n2"]) == 5


@relaxed
@given(sizes, st.data())
def test_tally_says_won_or_lost_exactly_when_no_missing_vote_can_change_it(
    size: int, data: st.DataObject
) -> None:
    voters = voters_of(size)
    votes = data.draw(st.dictionaries(st.sampled_from([*voters, "stranger"]), st.booleans()))
    granted = sum(votes.get(voter, False) for voter in voters)
    silent = sum(voter not in votes for voter in voters)
    outcomes = {granted + more >= majority(size) for more in range(silent + 1)}
    expected = {True: Tally.WON, False: Tally.LOST}
    assert tally(votes, voters) == (
        expected[outcomes.pop()] if len(outcomes) == 1 else Tally.PENDING
    )


def log_of(terms: Sequence[int]) -> Log:
    log = Log()
    for index, term in enumerate(terms, 1):
        log.append(term, b"%d/%d" % (index, term))
    log.take_writes()
    return log


rising = st.lists(st.integers(1, 6), max_size=12).map(sorted)


@relaxed
@given(rising, st.integers(0, 14), st.integers(0, 7))
def test_last_not_above_is_what_a_walk_back_finds(terms: list[int], index: int, term: int) -> None:
    log = log_of(terms)
    walk = min(index, log.last_index)
    while walk and log.term_at(walk) > term:
        walk -= 1
    assert log.last_not_above(index, term) == walk


@relaxed
@given(rising, rising, rising)
def test_backtracking_finds_the_last_match_in_at_most_one_round_trip_per_term(
    common: list[int], ours: list[int], theirs: list[int]
) -> None:
    """Raft §5.3: the leader finds where the logs part; ours stops at each term at most once."""
    top = common[-1] if common else 0
    leader = log_of([*common, *(top + term for term in ours)])
    follower = log_of([*common, *(top + term + 7 for term in theirs)])
    parted = min(leader.last_index, follower.last_index, len(common))
    prev_index = leader.last_index
    trips = 0
    while not follower.matches(prev_index, leader.term_at(prev_index)):
        trips += 1
        hint = follower.last_not_above(prev_index, leader.term_at(prev_index))
        next_prev = leader.last_not_above(hint, follower.term_at(hint))
        assert next_prev < prev_index
        prev_index = next_prev
    assert prev_index >= parted
    assert trips <= 1 + min(len(set(ours)), len(set(theirs)))


@relaxed
@given(rising, rising, st.integers(1, 13))
def test_writes_lead_the_disk_to_the_log_in_memory(
    before: list[int], after: list[int], cut: int
) -> None:
    log = log_of(before)
    disk = {index.to_bytes(8, "big"): log.data_at(index) for index in range(1, len(before) + 1)}
    log.truncate(min(cut, log.last_index + 1))
    for term in after:
        log.append(log.last_term + term, b"new %d" % term)
    for write in log.take_writes():
        if isinstance(write, Put):
            disk[write.key] = write.value
        else:
            assert isinstance(write, Erase)
            assert write.end is None
            disk = {key: value for key, value in disk.items() if key < write.start}
    assert sorted(disk.items()) == [
        (index.to_bytes(8, "big"), log.data_at(index)) for index in range(1, log.last_index + 1)
    ]
    assert log.take_writes() == []
    assert log.handed_index == log.last_index


@relaxed
@given(st.lists(st.integers(1, 30), max_size=20), st.integers(1, 8), st.integers(1, 60))
def test_a_batch_keeps_both_limits_and_always_advances(
    lengths: list[int], entries_max: int, bytes_max: int
) -> None:
    log = Log()
    for length in lengths:
        log.append(1, b"x" * length)
    for start in range(1, log.last_index + 1):
        batch = log.batch(start, entries_max, bytes_max)
        assert 1 <= len(batch) <= entries_max
        assert len(batch) == 1 or sum(map(len, batch)) <= bytes_max
        following = start + len(batch)
        if len(batch) < entries_max and following <= log.last_index:
            assert sum(map(len, batch)) + lengths[following - 1] > bytes_max


def test_a_log_with_a_gap_or_a_falling_term_is_corrupt() -> None:
    with pytest.raises(CorruptStore):
        Log().restore(raft_pb2.LogStart(), [(log_key(2), 1, b"")])
    with pytest.raises(CorruptStore):
        Log().restore(raft_pb2.LogStart(), [(log_key(1), 2, b""), (log_key(2), 1, b"")])
    with pytest.raises(CorruptStore):
        Log().restore(raft_pb2.LogStart(index=5, term=2), [(log_key(5), 2, b"")])


steps = st.lists(
    st.tuples(st.sampled_from(["send", "accept", "refuse"]), st.integers(0, 30)), max_size=40
)


@relaxed
@given(steps)
def test_progress_never_forgets_a_match_and_never_exceeds_its_window(
    moves: list[tuple[str, int]],
) -> None:
    follower = Progress("n2", 11, inflight_max=3, inflight_bytes_max=100, now_ns=0)
    best = 0
    for move, number in moves:
        if move == "send" and follower.may_send():
            follower.sent(follower.next_index + number, 1)
        elif move == "accept":
            # A follower can only have stored what was sent, or what it had from before.
            match_index = min(number, follower.next_index - 1)
            follower.accepted(match_index)
            best = max(best, match_index)
        elif move == "refuse":
            follower.refused(number, number // 2 + 1)
        assert follower.match_index == best < follower.next_index
        assert len(follower._inflight) <= 3


def test_a_lost_append_leads_back_to_the_match_and_a_stale_refusal_does_not() -> None:
    follower = Progress("n2", 6, inflight_max=4, inflight_bytes_max=100, now_ns=0)
    assert follower.accepted(5)
    follower.sent(7, 1)
    follower.sent(9, 1)
    assert (follower.state, follower.next_index) == (State.REPLICATE, 10)
    assert not follower.refused(prev_index=5, next_index=1), "it has matched there since"
    assert follower.refused(prev_index=7, next_index=6)
    assert (follower.state, follower.next_index) == (State.PROBE, 6)
    assert follower.may_send()
    follower.sent(7, 1)
    assert not follower.may_send(), "one probe at a time"
    assert not follower.refused(prev_index=7, next_index=3), "an answer to an older message"


@relaxed
@given(st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=30), st.integers(0, 60))
def test_who_waits_is_due_at_the_deadline_and_at_most_a_grain_later(
    requests: list[tuple[int, bool]], grains: int
) -> None:
    waiting: set[int] = set()
    deadlines: Deadlines[int] = Deadlines(waiting)
    by_key = {}
    for key, (deadline, answered) in enumerate(requests):
        deadline_ns = deadline * GRAIN_NS // 3
        waiting.add(key)
        deadlines.add(deadline_ns, key)
        if answered:
            waiting.discard(key)
        else:
            by_key[key] = deadline_ns
    now_ns = grains * GRAIN_NS // 3
    next_ns = deadlines.next_ns()
    assert (next_ns is None) == (not by_key)
    if next_ns is not None:
        assert 0 <= next_ns - min(by_key.values()) < GRAIN_NS
    due = deadlines.due(now_ns)
    assert len(due) == len(set(due))
    assert all(by_key[key] <= now_ns for key in due)
    assert set(due) >= {key for key, at_ns in by_key.items() if at_ns <= now_ns - GRAIN_NS}
