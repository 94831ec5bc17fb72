"""Settings: what is refused, what is promised, and how a scenario file spells them."""

from dataclasses import replace
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from leaderless.dynamo import DynamoSettings, Fanout, Hints, Quorum, ReadRepair, Versions, backend
from leaderless.dynamo.settings import RingChanges
from replication.protocol import check
from replication.v1 import storage_pb2
from tests.support.dynamo_cluster import MS, put

DEFAULT = DynamoSettings()
DIGEST = DynamoSettings(read_fanout=Fanout.DIGEST)


def unchecked(**words: Any) -> DynamoSettings:
    """Return settings as somebody makes them who does not parse a scenario file."""
    return replace(DEFAULT, **words)


def test_defaults_fit_every_cluster_from_three_nodes() -> None:
    for members in (3, 5, 64):
        assert list(DEFAULT.problems(members)) == []


@pytest.mark.parametrize(
    ("settings", "members", "problem"),
    [
        (DEFAULT, 2, "n is 3, expected 1 to 2, the number of members"),
        (replace(DEFAULT, r=4), 5, "r is 4, expected 1 to n = 3"),
        (replace(DEFAULT, w=0), 5, "w is 0, expected 1 to n = 3"),
        (replace(DEFAULT, partitions=4), 5, "partitions is 4, expected 5, the number of members,"),
        (unchecked(versions="vv"), 5, "versions is 'vv', expected one of dvv, version_vector, lww"),
        (unchecked(read_repair="on"), 5, "read_repair is 'on', expected one of off, async"),
        (replace(DEFAULT, read_timeout_ns=0), 5, "read_timeout is 0 ns, expected at least 1 ms"),
        (replace(DEFAULT, suspect_after_ns=MS), 5, "suspect_after is 1000000 ns, expected at"),
        (replace(DEFAULT, pw=4), 5, "pw is 4, expected 0 to n = 3"),
        (unchecked(quorum="loose"), 5, "quorum is 'loose', expected one of strict, sloppy"),
        (replace(DEFAULT, hints=Hints.OFF, quorum=Quorum.SLOPPY), 5, "quorum is sloppy and hints"),
        (replace(DEFAULT, repairs_max=0), 5, "repairs_max is 0, expected at least 1"),
        (
            replace(DEFAULT, hedge_after_ns=MS),
            5,
            "hedge_after is set, expected read_fanout = digest",
        ),
        (replace(DIGEST, hedge_after_ns=1), 5, "hedge_after is 1 ns, expected at least 1 ms"),
        (replace(DIGEST, hedge_percentile=100.0), 5, "hedge_percentile is 100.0, expected 50"),
        (
            replace(DIGEST, hedge_after_ns=MS, hedge_percentile=99.0),
            5,
            "hedge_after and hedge_percentile are both set",
        ),
        (replace(DEFAULT, hints_max=0), 5, "hints_max is 0, expected at least 1"),
        (replace(DEFAULT, hint_window_ns=0), 5, "hint_window is 0 ns, expected at least 1 ms"),
        (replace(DEFAULT, siblings_max=1), 5, "siblings_max is 1, expected at least 2"),
    ],
)
def test_each_problem_names_the_setting_and_its_value(
    settings: DynamoSettings, members: int, problem: str
) -> None:
    (found,) = settings.problems(members)
    assert found.startswith(problem)


def test_all_problems_are_told_at_once() -> None:
    assert len(list(replace(DEFAULT, r=9, w=9, partitions=1, siblings_max=0).problems(5))) == 4


def test_scenario_files_spell_durations_without_the_suffix() -> None:
    adapter = TypeAdapter(DynamoSettings)
    parsed = adapter.validate_python(
        {"heartbeat": 50 * MS, "versions": "lww", "read_repair": "off"}
    )
    assert parsed == replace(
        DEFAULT, heartbeat_ns=50 * MS, versions=Versions.LWW, read_repair=ReadRepair.OFF
    )
    with pytest.raises(ValidationError):
        adapter.validate_python({"hartbeat": 1})


def test_promise_says_what_the_numbers_give() -> None:
    strict = backend.promise(DEFAULT)
    assert "R=2 + W=2 > N=3" in strict
    assert "may be seen and then unseen" in strict
    assert "siblings" in strict
    weak = backend.promise(replace(DEFAULT, r=1, w=1))
    assert "may return stale values (R=1 + W=1 <= N=3)" in weak
    blocking = backend.promise(replace(DEFAULT, read_repair=ReadRepair.BLOCKING))
    assert "no later one unsees" in blocking
    sloppy = backend.promise(replace(DEFAULT, quorum=Quorum.SLOPPY))
    assert "may return stale values" in sloppy
    assert "stand in" in sloppy
    primaries = backend.promise(replace(DEFAULT, quorum=Quorum.SLOPPY, pr=2, pw=2))
    assert "(PR=2 + PW=2 > N=3)" in primaries
    eager = backend.promise(replace(DEFAULT, ring_changes=RingChanges.EAGER))
    assert "while nodes come and go it may ask new ones that have fetched nothing yet" in eager
    assert "come and go" not in strict
    assert "others vanish" in backend.promise(replace(DEFAULT, versions=Versions.LWW))


def test_levels_of_other_families_are_refused_before_the_core() -> None:
    for level in (storage_pb2.CONSISTENCY_LEASE, storage_pb2.CONSISTENCY_LOCAL):
        body = put("acorn", "a1", level=level)
        problem = check(backend, body)
        assert problem is not None
        assert "quorum" in problem
    assert check(backend, put("acorn", "a1", level=storage_pb2.CONSISTENCY_ALL)) is None
