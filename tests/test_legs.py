"""Delays found at several places, thinned evenly, and none of the time while a fault lasted."""

from replication.legs import (
    SAMPLES_MAX,
    LegDelays,
    Thinned,
    fault_windows,
    merged,
    undisturbed,
)
from replication.v1 import event_pb2
from tests.support.histories import Script, at

FIELDS = {"write": "link_faults_changed.faults", "read": "node_stopping.reason"}
COPY = event_pb2.Event(
    link_faults_changed=event_pb2.LinkFaultsChanged(faults=[event_pb2.LinkFault()])
)
QUESTION = event_pb2.Event(node_stopping=event_pb2.NodeStopping(reason="why"))


def thinned(count: int, first: int = 0) -> Thinned:
    found = Thinned()
    for number in range(first, first + count):
        found.add(number, number + 1)
    return found


def test_above_the_bound_what_is_kept_is_evenly_spread() -> None:
    found = thinned(3 * SAMPLES_MAX)
    assert found.stride == 4
    assert found.spans == [(number, number + 1) for number in range(0, 3 * SAMPLES_MAX, 4)]


def test_places_are_merged_in_order_of_time_and_weigh_alike() -> None:
    busy, idle = thinned(SAMPLES_MAX + 1), thinned(100, first=50_000)
    spans = merged([{"write": idle, "read": thinned(2)}, {"write": busy}])
    assert list(spans) == ["write", "read"]
    assert len(spans["read"]) == 2
    assert spans["write"] == sorted(spans["write"])
    assert sum(begin >= 50_000 for begin, _ in spans["write"]) == 50
    many = merged([{"write": thinned(SAMPLES_MAX, first)} for first in (0, 10**6, 2 * 10**6)])
    assert SAMPLES_MAX // 2 < len(many["write"]) <= SAMPLES_MAX
    assert merged([]) == {}


def test_a_copy_counts_from_leaving_and_a_question_from_its_decision() -> None:
    delays = LegDelays(FIELDS)
    for message in (COPY, QUESTION, event_pb2.Event()):
        delays.message(message, 10, 30, 100)
    assert delays.found["write"].spans == [(30, 100)]
    assert delays.found["read"].spans == [(10, 100)]
    assert delays.found["queue"].spans == []
    assert [list(delays.travelled(each)) for each in (COPY, QUESTION)] == [["write"], ["read"]]


def test_what_a_node_takes_in_order_ends_when_it_was_sent_and_queues_from_there() -> None:
    delays = LegDelays(FIELDS)
    delays.message(COPY, 10, 30, 100, 40)
    delays.message(QUESTION, 10, 30, 100, 50)
    assert delays.found["write"].spans == [(30, 40)]
    assert delays.found["read"].spans == [(10, 50)]
    assert delays.found["queue"].spans == [(40, 100), (50, 100)]
    delays = LegDelays({"response": "node_stopping.reason"})
    delays.message(QUESTION, 10, 30, 100, 40)
    assert delays.found["response"].spans == [(10, 100)], "it is done something about"
    assert delays.found["queue"].spans == []


def test_what_was_on_its_way_while_a_fault_lasted_is_left_out() -> None:
    spans = {"write": [(0, 5), (90, 110), (150, 160), (250, 800), (310, 317)], "read": []}
    assert undisturbed(spans, [(100, 300)]) == {"write": [5, 7]}
    assert undisturbed(spans, [(0, 900)]) == {}


def test_a_link_fault_lasts_until_the_last_node_says_that_it_is_over() -> None:
    script = Script()
    script.fault("jitter", ["n1", "n2"], 100, 200)
    script.fault("kill", ["n3"], 400, 500)
    for at_ms, node in ((101, "n1"), (102, "n2"), (203, "n1"), (207, "n2"), (401, "n1")):
        script.event(at_ms, node, "link_faults_changed", faults=[])
    assert fault_windows(script.history) == [(at(100), at(207)), (at(400), at(500))]
