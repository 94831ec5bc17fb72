"""The page: one well-formed file that needs no network, no script, and obeys nobody's markup."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree.ElementTree import Element, fromstring

import pytest

from replication.analysis.findings import RolePeriod, RunFindings
from replication.analysis.gossip_findings import Gossip, Spread
from replication.report import figure, panels
from replication.report.markdown import markdown
from replication.report.page import page
from replication.report.summary import summarize
from tests.support import findings_sample as sample

PAGE_BYTES_MAX = 1_500_000
VOID = {"meta", "br", "hr", "link", "img", "input"}


class Strict(HTMLParser):
    """Checks that tags are balanced and ids unique; collects links and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.note(tag, attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.note(tag, attrs)

    def note(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        for name, value in attrs:
            assert not name.startswith("on"), f"<{tag} {name}> runs a script"
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src", "action", "data", "poster", "srcset"):
                self.targets.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag


def rendered(run: RunFindings) -> str:
    return page(run, summarize(run))


def drawings(text: str) -> list[Element]:
    return [fromstring(each) for each in re.findall(r"<svg\b.*?</svg>", text, re.DOTALL)]


@pytest.fixture(
    params=["leader_crash", "split_writers", "nothing_measured", "hostile"], scope="module"
)
def run(request: pytest.FixtureRequest) -> RunFindings:
    found = getattr(sample, request.param)()
    assert isinstance(found, RunFindings)
    return found


def test_the_page_is_well_formed_and_stays_at_home(run: RunFindings) -> None:
    text = rendered(run)
    parser = Strict()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    assert len(parser.ids) == len(set(parser.ids))
    # Links lead to places in the page itself, and the places exist.
    assert all(target.startswith("#") for target in parser.targets)
    assert {target[1:] for target in parser.targets} <= set(parser.ids)
    assert "http://" not in text
    assert "https://" not in text
    assert "@import" not in text
    assert not re.findall(r"url\((?!#)", text)
    assert parser.scripts == 2  # the page's own: data and reading line


def test_every_drawing_is_well_formed(run: RunFindings) -> None:
    found = drawings(rendered(run))
    assert found[-1] is not None
    figures = [each for each in found if each.get("class") == "figure"]
    assert figures
    for each in figures:
        for element in each.iter("rect"):
            assert float(element.get("width", "-1")) >= 0
            assert float(element.get("height", "-1")) >= 0


def test_hostile_text_is_shown_and_never_obeyed() -> None:
    text = rendered(sample.hostile())
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "k" * 41 not in text
    text.encode("utf-8")


def test_four_thousand_points_a_side_stay_below_the_limit() -> None:
    run = sample.leader_crash()
    assert all(len(side.latency_points) >= 4000 for side in run.sides.values())
    assert len(rendered(run).encode()) < PAGE_BYTES_MAX / 2


def test_a_long_run_joins_its_buckets_to_bars() -> None:
    run = sample.leader_crash()
    for side in run.sides.values():
        side.settle_end_ns = side.measure_start_ns + 36_000 * 100_000_000
        for group in side.availability.values():
            group.buckets = [(30, 1, 2)] * 36_000
    text = rendered(run)
    assert len(text.encode()) < PAGE_BYTES_MAX
    data = json.loads(re.findall(r'id="marks">(.*?)</script>', text)[0])
    assert data["seconds"] == pytest.approx(3.8)
    bars = data["sides"][0]["buckets"]
    assert len(bars) <= panels.BARS_MAX
    assert sum(ok for ok, _, _ in bars) == 2 * 30 * 36_000


def test_both_sides_share_every_axis() -> None:
    run = sample.leader_crash()
    summary = summarize(run)
    _, marks = figure.figure(run, summary)
    first, second = marks["sides"]  # type: ignore[misc]
    offset = second["top"] - first["top"]
    assert offset > 0
    # The same latency at the same time stands at the same place of its side.
    points = {(x, latency): y for x, y, latency, *_ in first["points"]}
    side = run.sides["leaderless"]
    side.latency_points = [replace(each) for each in run.sides["leader"].latency_points]
    _, again = figure.figure(run, summary)
    for x, y, latency, *_ in again["sides"][1]["points"]:  # type: ignore[index]
        assert y - points[x, latency] == pytest.approx(offset, abs=0.11)


def test_a_fault_window_starts_where_its_time_is() -> None:
    run = sample.leader_crash()
    found = next(each for each in drawings(rendered(run)) if each.get("id") == "figure")
    bands = [each for each in found.iter("rect") if each.get("class") == "fault-band"]
    assert len(bands) == 2  # one a side
    span = figure.WIDTH - figure.RIGHT - figure.LEFT
    seconds = 13.4 - 1.23 + 1.23  # the load of the sample to the end of its settling
    expected = figure.LEFT + 4.002 / seconds * span
    for band in bands:
        assert float(band.get("x", "0")) == pytest.approx(expected, abs=0.1)


def test_each_nodes_role_is_drawn_with_the_term_of_its_leader() -> None:
    text = rendered(sample.leader_crash())
    for words in ("leader, term 3", "leader, term 4", ">down<"):
        assert words in text
    found = next(each for each in drawings(text) if each.get("id") == "figure")
    titles = [each.text or "" for each in found.iter("title")]
    assert "n3: down, 4.000 s to 8.240 s" in titles
    assert "n1: candidate, term 4, 4.171 s to 4.200 s" in titles


def test_a_role_period_of_no_length_can_still_be_seen() -> None:
    run = sample.leader_crash()
    moment = sample.FAULT_AT
    run.sides["leader"].roles = [RolePeriod("n1", moment, moment, "candidate", 4)]
    found = next(each for each in drawings(rendered(run)) if each.get("id") == "figure")
    (role,) = [each for each in found.iter("rect") if each.get("class") == "role candidate"]
    assert float(role.get("width", "0")) >= 2


def test_a_fault_without_evidence_looks_different() -> None:
    run = sample.leader_crash()
    run.sides["leader"].faults[0].effective = False
    text = rendered(run)
    assert 'class="fault-bar unproven"' in text
    assert "1. kill the leader (n3) (no evidence)" in text


def test_overlapping_faults_get_lanes_of_their_own() -> None:
    run = sample.leader_crash()
    side = run.sides["leader"]
    side.faults = [replace(side.faults[0], number=number) for number in (1, 2, 3)]
    text = rendered(run)
    found = next(each for each in drawings(text) if each.get("id") == "figure")
    rows = {each.get("y") for each in found.iter("rect") if each.get("class") == "fault-bar"}
    assert len(rows) == 4  # three of the leader's side, one of the other


def test_the_first_violation_is_linked_from_the_top_and_flagged_in_the_figure() -> None:
    text = rendered(sample.split_writers("lww"))
    anchor = "witness-leaderless-durability-1"
    assert f'<a href="#{anchor}">Jump to the first violation</a>' in text
    assert f'id="{anchor}"' in text
    assert text.count(f'href="#{anchor}"') == 2
    assert text.index("Jump to the first violation") < text.index("Side by side")


def test_siblings_are_listed_with_dots_writers_and_values() -> None:
    text = rendered(sample.split_writers())
    table = text[text.index("Concurrent versions and how they ended") :]
    for words in ("n1:91", "c1:401", "left-1", "n5:72", "c4:381", "right-1", "left as siblings"):
        assert f">{words}<" in table
    assert ">c4:382 (unknown)<" in table
    assert ">tombstone<" in table


def test_verdict_seed_and_command_stand_before_everything_else() -> None:
    text = rendered(sample.leader_crash())
    head = text[text.index("<main>") : text.index("Side by side")]
    for words in ("Leader crash", "✔ PASS", "<dd>7</dd>", "compare leader-crash --seed 7"):
        assert words in head


@pytest.mark.parametrize("run", [sample.leader_crash(), sample.nothing_measured()])
def test_every_entry_of_the_contents_leads_to_a_section(run: RunFindings) -> None:
    text = rendered(run)
    inside = text[text.index('<nav class="contents"') : text.index("</nav>")]
    anchors = re.findall(r'href="#([a-z]+)"', inside)
    assert len(anchors) >= 10
    for anchor in anchors:
        assert f'<section id="{anchor}"' in text


def test_of_very_many_nodes_the_first_have_a_row() -> None:
    run = sample.leader_crash()
    for side in run.sides.values():
        side.nodes = [f"n{number}" for number in range(1, 1_001)]
    text = page(run, summarize(run))
    assert text.count("role of the first 51 of 1,000 nodes") == 2
    assert ">n51</text>" in text
    assert ">n52</text>" not in text


def test_rounds_of_gossip_are_told_with_every_piece_of_news() -> None:
    run = sample.leader_crash()
    side = run.sides["leaderless"]
    begun_ns = side.load_start_ns + 1_000_000_000
    spread = Spread("n2", 1, begun_ns, 4, 4, begun_ns + 21_000_000, "n4", 3)
    side.gossip = Gossip(5, 10_000_000, 40, 1, 2.5, 4, 2.38, 1.05, 2.32, [spread])
    for text in (page(run, summarize(run)), markdown(summarize(run))):
        assert "2.50 on average, at most 4; push-pull 2.38, log2 N 2.32" in text
        assert "1 did not reach all" in text
        assert "News that went round by gossip" in text
        assert "1.021 s" in text
