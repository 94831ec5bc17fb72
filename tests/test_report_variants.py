"""The table of all variants: a column for each run of a side, one for a side that all share."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from replication.analysis.expect import measured_words
from replication.protocol import Family
from replication.report import variants
from tests.support.findings_sample import leader_crash as sample


@pytest.mark.parametrize("varied", list(Family))
def test_every_variant_has_a_column_and_the_shared_side_one(varied: Family) -> None:
    first = replace(sample(), name="story:one")
    changed = {varied.value: sample().sides[varied]}
    second = replace(sample(), name="story:two", sides=changed)
    shared = next(each.value for each in Family if each is not varied)
    text = variants.markdown_table([first, second])
    heads = next(line for line in text.splitlines() if line.startswith("|"))
    titles = [head.strip() for head in heads.split("|")[2:-1]]
    assert [title.partition(",")[0] for title in titles] == ["one", "two", shared]
    assert titles[0].partition(", ")[2] == first.sides[varied].title
    stream = io.StringIO()
    variants.print_table(Console(file=stream, width=160), [first, second])
    assert "writes p99" in stream.getvalue()
    lines = [line for line in text.splitlines() if line.startswith("| Acknowledged writes kept")]
    assert len(lines) == 1


@pytest.mark.parametrize(("width", "tables"), [(160, 1), (80, 2)])
def test_columns_that_do_not_fit_make_a_table_of_their_own(width: int, tables: int) -> None:
    runs = [replace(sample(), name=f"story:{each}") for each in ("one", "two", "three")]
    stream = io.StringIO()
    variants.print_table(Console(file=stream, width=width), runs)
    lines = stream.getvalue().splitlines()
    assert {line[-1] for line in lines if line[0] == "│"} == {"│"}  # nothing is cut off
    assert sum("writes p99" in line for line in lines) == tables
    assert sum("not promised" in line for line in lines) == 1


def test_a_figure_that_no_side_has_gets_no_row() -> None:
    run = sample()
    only = {"leaderless": run.sides["leaderless"]}
    runs = [replace(run, name=f"story:{each}", sides=only) for each in ("one", "two")]
    text = variants.markdown_table(runs)
    assert "old leader" not in text
    assert "| stale reads |" in text


def test_a_measure_has_its_unit() -> None:
    assert measured_words("availability.writes.longest_outage_ns", 312_000_000) == "312 ms"
    assert measured_words("handoffs.0.during.p90_ms", 228.384) == "228 ms"
    assert measured_words("handoffs.0.refused_count", 223) == "223"
    assert measured_words("snapshots.0.bytes", 1_250_800) == "1,250,800"
