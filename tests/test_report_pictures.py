"""The large pictures of the page: everything in them is drawn, named, and bounded."""

import io
import re
from dataclasses import replace
from itertools import combinations, pairwise
from random import Random
from xml.etree.ElementTree import Element, fromstring

import pytest
from rich.console import Console

from replication.analysis.findings import RunFindings
from replication.analysis.staleness_findings import VisibilityBin
from replication.report import flags, panels, svg
from replication.report.flags import Flag
from replication.report.markdown import markdown
from replication.report.page import page
from replication.report.summary import summarize
from replication.report.terminal import print_summary
from replication.report.visibility import interval
from tests.support import pictures_sample as sample
from tests.support.findings_sample import MS

SVG = re.compile(r"<svg\b.*?</svg>", re.DOTALL)


def rendered(run: RunFindings) -> str:
    return page(run, summarize(run))


def picture(text: str) -> Element:
    """Return the first large picture."""
    inside = text[text.index('<figure class="picture">') :]
    found = [each for each in SVG.findall(inside) if "swatch" not in each]
    return fromstring(found[0])


def classed(drawing: Element, name: str) -> list[Element]:
    return [each for each in drawing.iter() if name in each.get("class", "").split()]


def test_a_failover_is_drawn_with_its_election_once_more() -> None:
    drawing = picture(rendered(sample.leader_crash()))
    assert len(classed(drawing, "leads")) == 2  # in the window, and magnified
    assert len(classed(drawing, "message")) == 3  # one for each vote, where they can be seen
    assert len([each for each in classed(drawing, "message") if "refused" in each.get("class", "")]
               ) == 1  # fmt: skip
    assert len(classed(drawing, "turn")) == 1
    assert {each.get("class") for each in classed(drawing, "op")} == {
        "op ok", "op unknown", "op fail",
    }  # fmt: skip


def test_what_lies_beyond_the_axis_is_not_drawn_at_its_edge() -> None:
    run = sample.leader_crash()
    picture_found = run.sides["leader"].failovers[0].picture
    assert picture_found is not None
    before = len(classed(picture(rendered(run)), "op"))
    picture_found.operations += [sample.operation("c1", 50_000, 50_001)] * 3
    assert len(classed(picture(rendered(run)), "op")) == before


def test_only_the_first_faults_are_drawn_and_the_others_are_counted() -> None:
    run = sample.leader_crash()
    failovers = run.sides["leader"].failovers
    failovers.append(replace(failovers[0], fault=2, picture=None))
    assert "1 further fault not drawn." in rendered(run)


def test_the_words_of_faults_in_one_lane_do_not_overlap() -> None:
    side = sample.leader_crash().sides["leader"]
    (fault,) = side.faults
    side.faults = [
        replace(
            fault,
            number=number + 1,
            words="cut one way: the leader (n4) and others send, and hear nothing"[
                : 20 + 7 * number
            ],
            injected_ns=side.load_start_ns + number * 900 * MS,
            healed_ns=side.load_start_ns + number * 900 * MS + 300 * MS,
        )
        for number in range(7)
    ]
    frame = panels.Frame(side, svg.Linear(0, 8, 200, 1000))
    lanes = panels.fault_lanes(frame)
    assert sorted(each.number for lane in lanes for each in lane) == [1, 2, 3, 4, 5, 6, 7]
    assert 1 < len(lanes) < 7
    for lane in lanes:
        drawn = "".join(panels.fault_labels(frame, [lane], 0))
        texts = re.findall(r'<text x="([\d.]+)"[^>]*class="([^"]+)"[^>]*>([^<]+)<', drawn)
        assert len(texts) == len(lane)
        spans = sorted(
            (float(x) - svg.text_width(words), float(x))
            if class_.endswith("end")
            else (float(x), float(x) + svg.text_width(words))
            for x, class_, words in texts
        )
        assert all(before[1] < after[0] for before, after in pairwise(spans))


def test_a_mark_that_nobody_knows_is_drawn_all_the_same() -> None:
    text = rendered(sample.leader_crash())
    assert "another event" in text
    assert "told by nobody yet in words" in text


def test_every_mark_and_every_operation_has_words_on_hover() -> None:
    drawing = picture(rendered(sample.leader_crash()))
    for name in ("mark", "op"):
        for each in classed(drawing, name):
            assert each.findtext("title"), each.attrib


def test_clients_without_trouble_give_way_and_what_is_left_out_is_said() -> None:
    text = rendered(sample.leader_crash())
    drawing = picture(text)
    names = {each.text for each in classed(drawing, "tick")}
    assert {"c1", "c2", "c3"} <= names
    assert "c29" not in names
    assert "13 further clients without trouble not shown" in text
    assert "only the first 29 of 900 operations shown" in text


def test_hostile_words_stay_words_in_a_picture() -> None:
    text = rendered(sample.leader_crash("</title><script>alert(1)</script>"))
    assert "<script>alert" not in text
    assert picture(text) is not None


def test_page_and_markdown_tell_prediction_and_split_brain_alike() -> None:
    run = sample.leader_crash()
    text, twin = rendered(run), markdown(summarize(run)).replace("\\", "")
    for words in (
        "detected after 335 ms on average, in nine of ten cases between 270 ms and 435 ms; "
        "elected after 354 ms.",
        "Each of 4 nodes waits between 300 ms and 600 ms, so the first of them gives up 360 ms",
        "Then 2 rounds of votes, each taken as the median write before the fault (9.00 ms).",
        "n3, term 3: 12 writes",
        "2: c1:7, c2:9",
        "who lagged, and how many a write waited for",
    ):
        assert words in text
        assert words in twin


def test_a_conflicting_key_is_drawn_across_clients_and_nodes() -> None:
    drawing = picture(rendered(sample.conflicting_key()))
    names = {each.text for each in classed(drawing, "tick")}
    assert {"c1", "c2", "n1", "n2", "n5"} <= names
    labels = {each.text for each in classed(drawing, "mark-text")}
    assert {"1 earlier → A", "A → B", "{A B}"} <= labels
    assert len(classed(drawing, "served")) == 3
    assert len(classed(drawing, "replica-ring")) == 2


def test_page_and_markdown_tell_the_key_step_by_step() -> None:
    run = sample.conflicting_key()
    text, twin = rendered(run), markdown(summarize(run)).replace("\\", "")
    for words in (
        "k7, the worst key, step by step",
        "A = c1:1 (put ",
        "Chosen because here c1 read a version that had been replaced.",
        "5 hints stored, 4 delivered, 1 expired",
        "4,321 pairs of concurrent writes",
        "vanished: clock skew 2",
    ):
        assert words in text, words
        assert words in twin, words


def test_what_reads_repairs_and_detectors_did_is_told_in_counts() -> None:
    run = sample.conflicting_key()
    run.sides["leaderless"].conflicts.repairs |= {
        "read_bytes": 2048, "digest_reads": 12, "digest_mismatches": 3, "hedged_reads": 7,
        "hedges_won": 2, "tombstones_purged": 9, "deletes_undone": 1, "taken_for_dead": 0,
        "false_suspicions": 4,
    }  # fmt: skip
    twin = markdown(summarize(run)).replace("\\", "")
    for words in (
        "Reads were answered by other replicas with 2.00 KiB; 12 answers asked for as a digest, of "
        "which 3 differed and were asked for in full.",
        "7 reads asked one more replica after a while; 2 of these answers came in time to count.",
        "9 tombstones purged, 1 delete undone by an old copy afterwards.",
        "0 times a node was taken for dead; 4 times one that was suspected or taken for dead was",
    ):
        assert words in twin


def test_what_differed_is_drawn_over_time_with_the_fault() -> None:
    text = rendered(sample.conflicting_key())
    found = next(each for each in SVG.findall(text) if "keys whose replicas differ" in each)
    drawing = fromstring(found)
    assert len(classed(drawing, "stair")) == 2  # keys that differ, open sibling sets
    assert classed(drawing, "fault-band")
    assert "all equal" in found


def test_a_hostile_value_in_a_space_time_picture_stays_a_value() -> None:
    text = rendered(sample.conflicting_key("</svg><script>alert(1)</script>"))
    assert "<script>alert" not in text


def test_the_command_to_repeat_is_never_cut_however_narrow_the_terminal() -> None:
    run = sample.leader_crash()
    run.again = "replication simulate leader-crash --seed 7 " + "--set leader.raft.x=1 " * 9
    stream = io.StringIO()
    print_summary(Console(file=stream, width=60), summarize(run), "runs/" + "deep/" * 30)
    lines = [line.rstrip() for line in stream.getvalue().splitlines()]
    assert f"again:  {run.again.strip()}" in lines
    assert "page:   runs/" + "deep/" * 30 in lines


def test_fresh_reads_are_drawn_and_told_beside_the_prediction() -> None:
    run = sample.partial_quorums()
    text, twin = rendered(run), markdown(summarize(run)).replace("\\", "")
    found = next(each for each in SVG.findall(text) if "share of reads that are fresh" in each)
    drawing = fromstring(found)
    assert len(classed(drawing, "measured")) == 2  # the last bin lies beyond the axis
    assert len(classed(drawing, "predicted")) == 1
    for words in (
        "R=1 and W=1 of N=3 replicas need not overlap",
        "differ by 0.84 percentage points",
        "so few reads would differ by 0.60 percentage points",
        "90.0 %",
    ):
        assert words in text, words
        assert words in twin, words


def test_an_interval_is_narrow_where_there_are_many_reads() -> None:
    few, many = (VisibilityBin(0, 1, reads, reads // 2, None) for reads in (10, 10_000))
    assert interval(few) == pytest.approx((0.2366, 0.7634), abs=1e-4)  # Wilson, by hand
    assert interval(many) == pytest.approx((0.4902, 0.5098), abs=1e-4)
    assert interval(VisibilityBin(0, 1, 30, 30, None))[1] == pytest.approx(1.0)


@pytest.mark.parametrize("seed", range(50))
def test_no_flag_covers_the_words_of_another(seed: int) -> None:
    rng = Random(seed)
    times = [rng.randrange(80, 1028) for _ in range(3)]  # several at one moment are common
    found = [
        Flag(
            float(rng.choice([*times, rng.randrange(80, 1028)])), "w" * rng.randrange(12, 28), *"pa"
        )
        for _ in range(rng.randrange(1, 9))
    ]
    rows = flags.place(found, 1040)
    assert {each.row for each in found} == set(range(rows))
    for one, other in combinations(found, 2):
        (low, high), (other_low, other_high) = one.span, other.span
        assert one.row != other.row or high <= other_low or other_high <= low
        for line, words in ((one, other), (other, one)):
            start, end = words.span
            assert line.row >= words.row or not start < line.x < end, "a line runs through words"
