"""How numbers and foreign text are written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.analysis.findings import Verdict
from replication.report import formats, svg


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (None, "\N{EN DASH}"),
        (0, "0 ms"),
        (850, "0.850 µs"),
        (412_000, "412 µs"),
        (999_499, "999 µs"),
        (999_500, "1.00 ms"),
        (2_519_951, "2.52 ms"),
        (347_000_000, "347 ms"),
        (999_600_000, "1.00 s"),
        (1_940_000_000, "1.94 s"),
        (119_000_000_000, "119 s"),
        (125_400_000_000, "2 min 05 s"),
        (-347_000_000, "-347 ms"),
    ],
)
def test_a_duration_has_three_digits_and_the_unit_of_its_size(
    nanoseconds: int | None, text: str
) -> None:
    assert formats.duration_ns(nanoseconds) == text


def test_a_setting_is_written_as_somebody_wrote_it() -> None:
    assert formats.setting_duration(30_000_000) == "30 ms"
    assert formats.setting_duration(1_500_000_000) == "1.5 s"


@pytest.mark.parametrize(
    ("part", "text"),
    [
        (None, "\N{EN DASH}"),
        (0.0, "0 %"),
        (1.0, "100 %"),
        (0.99999, ">99.99 %"),
        (0.00001, "<0.01 %"),
        (0.9979, "99.79 %"),
        (0.856, "85.6 %"),
        (0.0343, "3.43 %"),
    ],
)
def test_a_share_never_rounds_to_all_or_none(part: float | None, text: str) -> None:
    assert formats.share(part) == text


@pytest.mark.parametrize(
    ("base", "other", "words"),
    [
        (347.0, 9.0, "39\N{MULTIPLICATION SIGN} shorter"),
        (2.0, 5.0, "2.5\N{MULTIPLICATION SIGN} longer"),
        (100.0, 107.0, "1.07\N{MULTIPLICATION SIGN} longer"),
        (100.0, 102.0, "about the same"),
        (5.0, 5.0, "the same"),
        (0.0, 5.0, ""),
        (5.0, 0.0, ""),
        (None, 5.0, ""),
    ],
)
def test_a_comparison_makes_no_ratio_with_zero_or_nothing(
    base: float | None, other: float | None, words: str
) -> None:
    assert formats.comparison(base, other, "longer", "shorter") == words


def test_bytes_and_rates_keep_their_units() -> None:
    assert formats.byte_count(812.4) == "812 B"
    assert formats.byte_count(1480) == "1.45 KiB"
    assert formats.rate(339.2) == "339/s"
    assert formats.rate(None) == formats.number(None) == formats.count(None) == formats.DASH


@given(st.text())
def test_foreign_text_becomes_printable_and_encodable(text: str) -> None:
    shown = formats.printable(text)
    assert shown.isprintable()
    shown.encode("utf-8")
    if text.isprintable():
        assert shown == text


def test_a_huge_key_is_shortened_and_its_length_told() -> None:
    shown = formats.key_text("k" * 1024)
    assert shown == "k" * formats.KEY_CHARACTERS_MAX + "… (1,024 characters)"
    assert len(formats.value_text("v" * 1_000_000)) < 80


def test_an_unpromised_verdict_is_never_called_a_failure() -> None:
    assert formats.verdict_mark(Verdict.VIOLATED) == "✘ FAIL"
    assert formats.verdict_mark(Verdict.VIOLATED, promised=False) == "○ not held"


@given(st.floats(1e-6, 1e12), st.integers(2, 12))  # an axis asks for two ticks at least
def test_ticks_are_round_and_cover_the_range(value: float, about: int) -> None:
    top = svg.nice_ceiling(value, about)
    assert top >= value * 0.9999
    ticks = svg.Linear(0.0, top, 0.0, 100.0).ticks(about)
    assert ticks[0] == 0
    assert 2 <= len(ticks) <= about * 3 + 2


def test_scales_keep_what_is_outside_at_the_edge() -> None:
    linear = svg.Linear(0.0, 10.0, 100.0, 200.0)
    assert [linear.at(value) for value in (-5, 0, 5, 99)] == [100, 100, 150, 200]
    logarithmic = svg.Log(0.1, 1000.0, 400.0, 0.0)
    assert logarithmic.at(10.0) == pytest.approx(200.0)
    assert logarithmic.at(0.0) == pytest.approx(400.0)
    assert logarithmic.ticks() == pytest.approx([0.1, 1, 10, 100, 1000])
    assert svg.log_range([]) == (1.0, 100.0)
    assert svg.log_range([0.0, 3.0]) == (1.0, 100.0)
