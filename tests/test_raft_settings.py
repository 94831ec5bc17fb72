"""What a scenario may set, and what it is told when that does not fit together."""

from dataclasses import replace
from typing import Any

import pytest

from leader.raft import DefaultRead, RaftSettings, backend
from replication.protocol import Family, load_backend
from replication.v1 import storage_pb2


def test_the_defaults_have_no_problem() -> None:
    assert list(RaftSettings().problems(5)) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            {"heartbeat_ns": 150_000_000},
            "election_timeout_min is 300ms, expected at least 3 x heartbeat = 450ms",
        ),
        (
            {"election_timeout_max_ns": 300_000_000},
            "election_timeout_max is 300ms, expected more than election_timeout_min = 300ms",
        ),
        ({"heartbeat_ns": 0}, "heartbeat is 0, expected at least 1"),
        ({"append_entries_max": 0}, "append_entries_max is 0, expected at least 1"),
        ({"append_bytes_max": -1}, "append_bytes_max is -1, expected at least 1"),
        ({"inflight_appends_max": 0}, "inflight_appends_max is 0, expected at least 1"),
        ({"uncommitted_entries_max": 0}, "uncommitted_entries_max is 0, expected at least 1"),
    ],
)
def test_a_clash_names_both_values(change: dict[str, Any], problem: str) -> None:
    assert list(replace(RaftSettings(), **change).problems(3)) == [problem]


def test_all_problems_are_told_at_once() -> None:
    settings = RaftSettings(heartbeat_ns=400_000_000, election_timeout_max_ns=1)
    assert len(list(settings.problems(3))) == 2


def test_the_backend_is_found_by_name_and_says_what_it_offers() -> None:
    assert load_backend("raft") is backend
    assert backend.family is Family.LEADER
    assert backend.single_register
    assert backend.consistencies == {
        storage_pb2.CONSISTENCY_LINEARIZABLE,
        storage_pb2.CONSISTENCY_LEASE,
        storage_pb2.CONSISTENCY_LOCAL,
    }


def test_the_promise_follows_the_default_read() -> None:
    assert "reads may be stale" not in backend.promise(RaftSettings())
    assert "reads may be stale" in backend.promise(RaftSettings(default_read=DefaultRead.LOCAL))
