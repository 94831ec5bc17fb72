"""The node's disk: what was synced comes back, what was torn is cut, what is damaged is refused."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from replication.errors import ConfigError, CorruptStore
from replication.host.effects import DiskThread
from replication.host.spaces import Space
from replication.host.store import Store
from replication.protocol import Erase, Put, Write

Contents = dict[str, list[tuple[bytes, bytes]]]
SPACES = ("log", "kv")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.log"


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of stores are opened and nobody pulls the plug: do not wait for the disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: None)


def contents(store: Store) -> Contents:
    return {space: list(store.scan(space)) for space in SPACES}


def reopened(path: Path) -> Contents:
    store = Store(path)
    try:
        return contents(store)
    finally:
        store.abandon()


def commit(store: Store, *writes: Write) -> None:
    store.append(writes)
    store.sync()


def test_synced_batches_are_read_back_in_order_of_key(path: Path) -> None:
    store = Store(path)
    commit(store, Put("kv", b"b", b"2"), Put("log", b"\0", b"x"))
    commit(store, Put("kv", b"a", b"1"), Put("kv", b"b", b"3"))
    assert store.get("kv", b"b") == b"3"
    assert store.get("kv", b"missing") is None
    assert store.get("nothing", b"b") is None
    store.abandon()
    again = Store(path)
    assert contents(again) == {"log": [(b"\0", b"x")], "kv": [(b"a", b"1"), (b"b", b"3")]}
    assert again.recovered_records == 3
    assert again.torn_bytes == 0
    again.abandon()


def test_a_batch_that_was_not_synced_is_not_on_disk(path: Path) -> None:
    store = Store(path)
    commit(store, Put("kv", b"a", b"1"))
    synced_bytes = store.synced_bytes
    store.append([Put("kv", b"b", b"2")])
    assert store.get("kv", b"b") == b"2"
    assert store.synced_bytes == synced_bytes == path.stat().st_size
    store.abandon()
    assert reopened(path)["kv"] == [(b"a", b"1")]


def test_one_sync_covers_all_batches_appended_before_it(path: Path) -> None:
    store = Store(path)
    numbers = [store.append([Put("kv", b"%d" % each, b"v")]) for each in range(100)]
    assert numbers == list(range(1, 101))
    assert store.sync() == 100
    store.abandon()
    assert len(reopened(path)["kv"]) == 100


def test_without_syncs_the_operating_system_has_the_write_and_synced_bytes_stay(path: Path) -> None:
    store = Store(path, "off")
    at_start = store.synced_bytes
    commit(store, Put("kv", b"a", b"1"))
    assert store.synced_bytes == at_start
    assert store.stored_bytes == path.stat().st_size > at_start
    store.abandon()
    assert reopened(path)["kv"] == [(b"a", b"1")]


def test_losing_power_leaves_what_was_synced_and_nothing_is_written_after_it(path: Path) -> None:
    store = Store(path, "off")
    commit(store, Put("kv", b"a", b"1"))
    store.append([Put("kv", b"b", b"2")])
    written = store.stored_bytes - store.synced_bytes
    lost, kept = store.lose_power(None)
    assert kept == 0
    assert lost > written, "what was not even written is lost too"
    store.sync()
    assert path.stat().st_size == store.synced_bytes
    store.abandon()
    assert reopened(path)["kv"] == []


@pytest.mark.parametrize("seed", range(20))
def test_a_torn_tail_leaves_the_first_commits_whole(path: Path, seed: int) -> None:
    store = Store(path, "off")
    for number in range(5):
        commit(store, Put("kv", bytes([number]), b"value"))
    written = store.stored_bytes - store.synced_bytes
    lost, kept = store.lose_power(Random(seed))
    assert lost + kept == written
    assert path.stat().st_size == store.synced_bytes + kept
    store.abandon()
    keys = [key for key, _ in reopened(path)["kv"]]
    assert keys == [bytes([number]) for number in range(len(keys))]


def test_a_full_disk_refuses_the_write_and_a_slow_one_counts_its_syncs(path: Path) -> None:
    store = Store(path)
    commit(store, Put("kv", b"a", b"1"))
    store.fault.set(slow_ns=1000, stalled=False, full=False)
    commit(store, Put("kv", b"b", b"2"))
    assert store.fault.syncs_slowed == 1
    store.fault.set(slow_ns=0, stalled=False, full=True)
    with pytest.raises(OSError, match="No space left"):
        commit(store, Put("kv", b"c", b"3"))
    store.abandon()
    assert reopened(path)["kv"] == [(b"a", b"1"), (b"b", b"2")]


ranges = st.tuples(st.binary(max_size=2), st.one_of(st.none(), st.binary(max_size=2)))
writes = st.one_of(
    st.builds(Put, st.sampled_from(SPACES), st.binary(max_size=2), st.binary(max_size=3)),
    st.builds(lambda space, ends: Erase(space, *ends), st.sampled_from(SPACES), ranges),
    st.builds(
        lambda space, key: Erase(space, key, key + b"\0"),
        st.sampled_from(SPACES),
        st.binary(max_size=2),
    ),
)


def model_of(batches: list[list[Write]]) -> Contents:
    model: dict[str, dict[bytes, bytes]] = {space: {} for space in SPACES}
    for write in (write for batch in batches for write in batch):
        pairs = model[write.space]
        if isinstance(write, Put):
            pairs[write.key] = write.value
        else:
            for key in list(pairs):
                if write.start <= key and (write.end is None or key < write.end):
                    del pairs[key]
    return {space: sorted(pairs.items()) for space, pairs in model.items()}


@pytest.mark.usefixtures("no_waiting")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(writes, max_size=4), max_size=12), syncs=st.sets(st.integers()))
def test_the_store_is_a_sorted_map_with_ranges(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[Write]], syncs: set[int]
) -> None:
    path = tmp_path_factory.mktemp("model") / "store.log"
    store = Store(path, "off")
    for number, batch in enumerate(batches):
        store.append(batch)
        if number in syncs:
            store.sync()
    assert contents(store) == model_of(batches)
    live = sum(space.live_bytes for space in store._spaces.values())
    assert live == sum(
        10 + len(key) + len(value) for pairs in contents(store).values() for key, value in pairs
    )
    store.close()
    assert reopened(path) == model_of(batches)


def test_erasing_a_range_sees_keys_put_out_of_order() -> None:
    space = Space()
    for key in (b"c", b"a", b"d", b"b"):
        space.put(key, key)
    space.erase(b"b", b"d")
    assert list(space.scan()) == [(b"a", b"a"), (b"d", b"d")]


def commits(path: Path, count: int) -> list[tuple[int, Contents]]:
    """Write ``count`` commits; return the size of the file and the contents after each."""
    store = Store(path)
    states = [(store.stored_bytes, contents(store))]
    rng = Random(7)
    for number in range(count):
        batches = rng.randrange(1, 3)
        for _ in range(batches):
            store.append([Put("kv", rng.randbytes(3), rng.randbytes(5)), Put("log", b"n", b"")])
        if number % 3 == 2:
            store.append([Erase("kv", b"\x80", None)])
        store.sync()
        states.append((store.stored_bytes, contents(store)))
    store.abandon()
    return states


@pytest.mark.usefixtures("no_waiting")
def test_a_log_cut_at_any_byte_recovers_exactly_the_whole_commits_before_it(path: Path) -> None:
    states = commits(path, 8)
    data = path.read_bytes()
    assert len(data) == states[-1][0]
    empty = {space: [] for space in SPACES}
    for size in range(len(data) + 1):
        path.write_bytes(data[:size])
        whole = [state for state in states if state[0] <= size]
        end, expected = whole[-1] if whole else (0, empty)
        store = Store(path)
        assert contents(store) == expected, f"cut at {size}"
        assert store.torn_bytes == size - end
        # And it goes on from there: the torn bytes are gone for good.
        commit(store, Put("log", b"after", b"cut"))
        store.abandon()
        assert reopened(path)["log"][0] == (b"after", b"cut")


@pytest.mark.usefixtures("no_waiting")
def test_a_damaged_byte_before_another_commit_is_corruption_and_in_the_last_one_a_torn_tail(
    path: Path,
) -> None:
    states = commits(path, 4)
    data = path.read_bytes()
    last = states[-2][0]
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0x40
        path.write_bytes(damaged)
        if position >= last:
            assert reopened(path) == states[-2][1]
        else:
            with pytest.raises(CorruptStore):
                Store(path)


def test_zeros_behind_the_last_commit_are_a_torn_tail(path: Path) -> None:
    """After losing power a file may have its new size and none of the bytes."""
    states = commits(path, 3)
    with path.open("ab") as stream:
        stream.write(bytes(5000))
    store = Store(path)
    assert contents(store) == states[-1][1]
    assert store.torn_bytes == 5000
    store.abandon()


def test_a_file_of_zeros_is_a_store_that_was_never_written(path: Path) -> None:
    path.write_bytes(bytes(64))
    store = Store(path)
    assert store.torn_bytes == 64
    commit(store, Put("kv", b"a", b"1"))
    store.abandon()
    assert reopened(path)["kv"] == [(b"a", b"1")]


def test_the_image_of_a_frame_inside_a_torn_value_is_not_taken_for_a_commit(path: Path) -> None:
    states = commits(path, 3)
    image = path.read_bytes()
    store = Store(path)
    commit(store, Put("kv", b"evil", image + bytes(100)))
    store.abandon()
    os.truncate(path, path.stat().st_size - 50)
    assert reopened(path) == states[-1][1]


def test_a_foreign_file_is_refused_and_left_alone(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0 and so on")
    with pytest.raises(CorruptStore, match=r"store\.log"):
        Store(path)
    assert path.read_bytes().startswith(b"SQLite")


def test_a_store_belongs_to_one_process_at_a_time(path: Path) -> None:
    store = Store(path)
    with pytest.raises(ConfigError, match="in use"):
        Store(path)
    store.close()
    Store(path).close()


def overwritten(path: Path, sync_mode: str = "always") -> Store:
    """Return a store whose file is mostly garbage."""
    store = Store(path, sync_mode, compaction_bytes_min=10_000)
    for number in range(2000):
        store.append([Put("kv", b"%04d" % (number % 50), b"value %d" % number)])
        if number % 100 == 99:
            store.sync()
    return store


def test_compaction_is_due_when_the_file_is_large_and_mostly_garbage(path: Path) -> None:
    store = Store(path, compaction_bytes_min=10_000)
    for number in range(500):
        store.append([Put("kv", b"%04d" % number, b"live")])
    store.sync()
    assert store.stored_bytes < 10_000
    assert not store.compaction_due
    commit(store, Put("kv", b"long", bytes(10_000)))
    assert not store.compaction_due
    commit(store, Erase("kv", b"", None))
    assert store.compaction_due
    store.close()


@pytest.mark.parametrize("sync_mode", ["always", "off"])
def test_compaction_keeps_what_is_live_and_what_is_written_meanwhile(
    path: Path, sync_mode: str
) -> None:
    store = overwritten(path, sync_mode)
    before = store.stored_bytes
    store.append([Put("kv", b"0001", b"appended before, synced after")])
    store.begin_compaction()
    store.append([Put("kv", b"0002", b"meanwhile"), Put("new", b"k", b"v")])
    assert not store.compact_step()
    store.sync()
    store.append([Erase("kv", b"0003", b"0005")])
    store.sync()
    while not store.compact_step():
        pass
    commit(store, Put("kv", b"0007", b"afterwards"))
    assert store.stored_bytes < before / 5
    assert path.stat().st_size == store.stored_bytes
    expected = contents(store)
    assert len(expected["kv"]) == 48
    store.abandon()
    again = Store(path)
    assert contents(again) == expected
    assert again.get("kv", b"0001") == b"appended before, synced after"
    assert again.get("kv", b"0002") == b"meanwhile"
    assert again.get("kv", b"0007") == b"afterwards"
    assert again.get("new", b"k") == b"v"
    again.abandon()


def steps_until_done(store: Store) -> Iterator[None]:
    done = False
    while not done:
        yield
        done = store.compact_step()
    yield


def test_a_crash_at_any_step_of_compaction_loses_nothing_that_was_synced(tmp_path: Path) -> None:
    steps = 0
    while True:
        folder = tmp_path / str(steps)
        folder.mkdir()
        path = folder / "store.log"
        store = overwritten(path)
        commit(store, Put("log", b"large", bytes(600_000)))
        expected = contents(store)
        store.begin_compaction()
        course = steps_until_done(store)
        finished = False
        for _ in range(steps + 1):
            finished = next(course, "end") == "end"
        # A crash: nothing is tidied up, the half-written file stays where it is.
        os.close(store._fd)
        os.close(store._folder_fd)
        assert reopened(path) == expected, f"after {steps} steps"
        assert [each.name for each in folder.iterdir()] == ["store.log"]
        if finished:
            break
        steps += 1
    assert steps > 2


def test_closing_in_the_middle_of_a_compaction_leaves_the_old_log(path: Path) -> None:
    store = overwritten(path)
    expected = contents(store)
    store.begin_compaction()
    store.compact_step()
    store.close()
    assert reopened(path) == expected
    assert [each.name for each in path.parent.iterdir()] == ["store.log"]


def test_the_disk_thread_syncs_between_the_steps_of_a_compaction(path: Path) -> None:
    async def story() -> list[int]:
        store = overwritten(path)
        synced: asyncio.Queue[int] = asyncio.Queue()
        failures: list[BaseException] = []
        disk = DiskThread(store, asyncio.get_running_loop(), synced.put_nowait, failures.append)
        store.begin_compaction()
        disk.compact()
        appended = []
        while disk.compactions == 0 or len(appended) < 5:
            appended.append(store.append([Put("log", b"%d" % len(appended), b"x")]))
            disk.request()
            assert await synced.get() == appended[-1]
        disk.stop()
        store.abandon()
        assert not failures
        return appended

    appended = asyncio.run(asyncio.wait_for(story(), 20))
    assert len(reopened(path)["log"]) == len(appended)
