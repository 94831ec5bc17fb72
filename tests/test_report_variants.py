"""The table of all variants: a column for each run, the leaderless side once."""

import io
from dataclasses import replace

from rich.console import Console

from replication.report import variants
from tests.support.findings_sample import leader_crash as sample


def test_every_variant_has_a_column_and_the_shared_side_one() -> None:
    first = sample()
    second = replace(sample(), name="story:two")
    first = replace(first, name="story:one")
    text = variants.markdown_table([first, second])
    heads = next(line for line in text.splitlines() if line.startswith("|"))
    assert [head.strip().partition(",")[0] for head in heads.split("|")[2:-1]] == [
        "one",
        "two",
        "leaderless",
    ]
    stream = io.StringIO()
    variants.print_table(Console(file=stream, width=160), [first, second])
    assert "of these lost" in stream.getvalue()
    lines = [line for line in text.splitlines() if line.startswith("| durability")]
    assert len(lines) == 1
