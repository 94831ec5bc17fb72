"""Durations and rates are a number and a unit, and whatever is not says what to write."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.plan.units import DURATION_NS_MAX, duration_ns, duration_text, rate_per_s


@pytest.mark.parametrize(
    ("text", "expected_ns"),
    [
        ("0s", 0),
        ("200ms", 200_000_000),
        ("1.5s", 1_500_000_000),
        ("2m", 120_000_000_000),
        ("1h", 3_600_000_000_000),
        ("7us", 7_000),
        ("3ns", 3),
        (" 1 s ", 1_000_000_000),
        ("0.1s", 100_000_000),  # not 100_000_000.00000001, as a float would have it
    ],
)
def test_durations_are_exact(text: str, expected_ns: int) -> None:
    assert duration_ns(text) == expected_ns


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (5, '5 has no unit, write "5s" or "5ms"'),
        (2.5, '2.5 has no unit, write "2.5s" or "2.5ms"'),
        (True, 'true is not a duration, expected text such as "200ms"'),
        (["1s"], '["1s"] is not a duration, expected text such as "200ms"'),
        ("-1s", '"-1s" is negative, expected 0s or more'),
        (
            "5 sec",
            '"5 sec" is not a duration, '
            'expected a number and a unit (ns, us, ms, s, m, h) such as "200ms"',
        ),
        ("25h", '"25h" is too long, expected at most 24h'),
    ],
)
def test_a_wrong_duration_says_what_to_write(value: object, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        duration_ns(value)
    assert str(caught.value) == words


@given(st.integers(0, DURATION_NS_MAX))
def test_a_duration_survives_being_written_and_read(value_ns: int) -> None:
    assert duration_ns(duration_text(value_ns)) == value_ns


@pytest.mark.parametrize(
    ("value_ns", "text"),
    [
        (0, "0s"),
        (50_000_000, "50ms"),
        (2_500_000_000, "2.5s"),
        (90_000_000_000, "90s"),
        (120_000_000_000, "2m"),
        (20_000_000_000, "20s"),
    ],
)
def test_durations_are_written_as_people_do(value_ns: int, text: str) -> None:
    assert duration_text(value_ns) == text


def test_rates_are_per_second() -> None:
    assert rate_per_s("400/s") == 400
    assert rate_per_s("90/m") == 1.5
    assert rate_per_s("0.5 / s") == 0.5


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (400, '400 has no unit, write "400/s"'),
        ("400", '"400" is not a rate, expected text such as "400/s"'),
        ("0/s", '"0/s" is out of range, expected more than 0 to "1000000/s"'),
        ("-3/s", '"-3/s" is out of range, expected more than 0 to "1000000/s"'),
        (None, 'None is not a rate, expected text such as "400/s"'),
    ],
)
def test_a_wrong_rate_says_what_to_write(value: object, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        rate_per_s(value)
    assert str(caught.value) == words
