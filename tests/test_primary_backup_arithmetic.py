"""The arithmetic that primary-backup rests on, against brute force; its log and its way back."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leader.primary_backup import Mode, PrimaryBackupSettings, backend, is_lossless
from leader.primary_backup.counting import lossless_standbys, majority, reached_by
from leader.primary_backup.database import Database
from leader.primary_backup.log import SPACE, Log, log_key
from leader.v1 import primary_backup_pb2
from replication.errors import CorruptStore
from replication.protocol import Erase
from replication.v1 import storage_pb2

MS = 1_000_000


@pytest.mark.parametrize("members", range(1, 8))
def test_with_fewer_standbys_some_majority_misses_a_write(members: int) -> None:
    """k + 1 holders meet every majority exactly if k >= n - majority(n)."""
    nodes = range(members)
    for standbys in range(members):
        holders = set(range(standbys + 1))  # by symmetry any set of this size
        met = all(holders & set(chosen) for chosen in combinations(nodes, majority(members)))
        assert met == (standbys >= lossless_standbys(members))


@given(st.lists(st.integers(0, 9), max_size=7), st.integers(1, 7))
def test_reached_by_is_the_highest_level_that_so_many_have_reached(
    levels: list[int], count: int
) -> None:
    reached = [level for level in range(10) if sum(each >= level for each in levels) >= count]
    assert reached_by(levels, count) == (max(reached) if reached else 0)


def record(epoch: int, key: str = "", value: bytes = b"") -> bytes:
    found = primary_backup_pb2.LogRecord(epoch=epoch)
    if key:
        found.change.key = key
        found.change.version.value = value
    return found.SerializeToString()


def filled(*epochs: int) -> Log:
    log = Log()
    for number, epoch in enumerate(epochs, 1):
        log.append(epoch, record(epoch, f"k{number % 3}", b"%d" % number))
    return log


EPOCHS = st.lists(st.integers(1, 4), max_size=12).map(sorted)


@given(EPOCHS, st.integers(0, 12), st.integers(0, 5))
def test_last_not_above_passes_whole_epochs(epochs: list[int], index: int, epoch: int) -> None:
    found = filled(*epochs).last_not_above(index, epoch)
    fits = [
        each
        for each in range(min(index, len(epochs)) + 1)
        if each == 0 or epochs[each - 1] <= epoch
    ]
    assert found == max(fits)


@given(EPOCHS, st.integers(0, 12))
def test_a_trimmed_log_still_knows_where_each_epoch_began(epochs: list[int], until: int) -> None:
    log = filled(*epochs)
    log.take_writes()
    until = min(until, len(epochs))
    log.trim(until)
    assert [log.epoch_at(index) for index in range(1, len(epochs) + 1)] == epochs
    copy = Log()
    copy.begin_at(until, log.history())
    assert [copy.epoch_at(index) for index in range(1, until + 1)] == epochs[:until]


def test_what_was_cut_is_erased_before_new_records_are_written() -> None:
    log = filled(1, 1, 1)
    log.take_writes()
    assert len(log.truncate(2)) == 2
    log.append(2, record(2))
    first, *rest = log.take_writes()
    assert first == Erase(SPACE, log_key(2), None)
    assert len(rest) == 1
    assert log.history() == [
        primary_backup_pb2.EpochStart(epoch=1, index=1),
        primary_backup_pb2.EpochStart(epoch=2, index=2),
    ]


@pytest.mark.parametrize(
    ("saved", "said"),
    [
        ([(log_key(2), 1, record(1))], "expected index 1"),
        ([(log_key(1), 2, record(2)), (log_key(2), 1, record(1))], "epoch 1 follows 2"),
    ],
)
def test_a_log_with_a_gap_is_corrupt(saved: list[tuple[bytes, int, bytes]], said: str) -> None:
    with pytest.raises(CorruptStore, match=said):
        Log().restore(saved)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.binary(max_size=2)), max_size=12), st.data())
def test_rewinding_restores_every_earlier_state(
    writes: list[tuple[str, bytes]], data: st.DataObject
) -> None:
    database, states = Database(), [dict[str, storage_pb2.Version]()]
    for index, (key, value) in enumerate(writes, 1):
        database.apply(index, record(1, key, value))
        states.append(dict(database.items()))
    index = data.draw(st.integers(0, len(writes)))
    database.rewind(index)
    assert dict(database.items()) == states[index]
    assert database.applied_index == index


@pytest.mark.parametrize(
    ("settings", "members", "lossless"),
    [
        (PrimaryBackupSettings(), 5, True),
        (PrimaryBackupSettings(mode=Mode.SYNC), 3, True),
        (PrimaryBackupSettings(mode=Mode.SYNC, remove_standby_after_ns=MS), 3, True),
        (PrimaryBackupSettings(mode=Mode.ASYNC), 3, False),
        (PrimaryBackupSettings(mode=Mode.ASYNC), 1, True),  # nobody to fail over to
        (PrimaryBackupSettings(fencing=False), 5, False),
        (PrimaryBackupSettings(semi_sync_standbys=1), 3, True),
        (PrimaryBackupSettings(semi_sync_standbys=1), 5, False),
        (PrimaryBackupSettings(async_after_ns=MS), 3, False),
    ],
)
def test_only_these_settings_promise_that_nothing_is_lost(
    settings: PrimaryBackupSettings, members: int, lossless: bool
) -> None:
    assert is_lossless(settings, members) is lossless
    assert backend.lossless(settings, members) is lossless


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (PrimaryBackupSettings(mode=Mode.ASYNC), "loses the acknowledged writes"),
        (PrimaryBackupSettings(mode=Mode.ASYNC, fencing=False), "beside the new"),
        (PrimaryBackupSettings(fencing=False), "is lost"),
        (PrimaryBackupSettings(async_after_ns=200 * MS), "slow for 200ms"),
        (PrimaryBackupSettings(semi_sync_standbys=1), "if every majority"),
        (PrimaryBackupSettings(), "linearizable"),
    ],
)
def test_the_promise_says_what_the_settings_are_worth(
    settings: PrimaryBackupSettings, said: str
) -> None:
    assert said in backend.promise(settings)
    assert backend.promise(settings).endswith(".")


def test_every_problem_names_its_setting_and_what_would_do() -> None:
    settings = PrimaryBackupSettings(
        mode=Mode.ASYNC,
        semi_sync_standbys=9,
        async_after_ns=MS,
        remove_standby_after_ns=MS,
        lease_ns=100 * MS,
        detection_timeout_ns=100 * MS,
        log_records_max=0,
    )
    assert list(settings.problems(3)) == [
        "log_records_max is 0, expected at least 1",
        "semi_sync_standbys is 9, expected 1 to 2",
        'semi_sync_standbys is set, expected mode = "semi_sync" with it',
        'async_after is set, expected mode = "semi_sync" with it',
        'remove_standby_after is set, expected mode = "sync" with it',
        "lease is 100ms, expected at least 3 x heartbeat = 150ms",
        "detection_timeout is 100ms, expected at least 1.1 x lease = 110ms",
    ]
    assert not list(PrimaryBackupSettings().problems(3))
