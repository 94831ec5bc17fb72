"""What is expected of a run, in words."""

from replication.analysis.expect import measure_problem
from replication.plan import list_scenarios, load_scenario
from replication.plan.describe import expectation_words
from replication.plan.measures import _MEASURES
from replication.plan.model import Expectation
from replication.protocol import Family


def test_every_measure_that_scenarios_judge_has_words() -> None:
    for summary in list_scenarios():
        for expectation in load_scenario(summary.name).plan.expectations:
            words = expectation_words(expectation)
            assert "_" not in words, words


def test_whatever_has_words_can_be_measured() -> None:
    for path in _MEASURES:
        ends = ("", "_ns", "_ms")
        assert any(measure_problem(path.replace("*", "0") + end) is None for end in ends), path


def test_words_of_a_measure_name_the_unit_and_the_failover() -> None:
    place, side = "expect[1]", Family.LEADER

    def words(measure: str, below: float) -> str:
        return expectation_words(Expectation(place, side, measure=measure, below=below))

    assert words("failovers.0.write_outage_ms", 1500) == "write outage is below 1.5s"
    assert words("failovers.1.write_outage_ns", 5) == "write outage (failover 2) is below 5ns"
    assert words("failovers.-1.write_outage_ns", 5) == "write outage (last failover) is below 5ns"
    assert words("failovers.1.terms", 5) == "failovers.1.terms is below 5"
    assert words("writes.p50_ms", 2.5) == "median latency of writes is below 2.5ms"
