"""report.html: one file that needs no network and no script."""

from dataclasses import dataclass
from functools import lru_cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from replication.analysis.findings import RunFindings, Verdict
from replication.report import (
    divergence,
    failover_picture,
    figure,
    formats,
    lanes,
    panels,
    space_time,
    svg,
    visibility,
    waterfall,
)
from replication.report.glossary import GLOSSARY
from replication.report.model import Cell, Judgement, Summary

_KIND_WORDS = ("get", "put", "delete", "compare-and-set")


@dataclass(frozen=True, slots=True)
class Swatch:
    """One entry of a legend."""

    drawing: Markup
    words: str


def page(run: RunFindings, summary: Summary) -> str:
    """Return the page. Everything that came from outside is escaped by the template."""
    drawing, marks = figure.figure(run, summary)
    return _environment().get_template("report.html").render(
        summary=summary,
        figure=Markup(drawing),
        marks=marks,
        waterfalls=[
            (title, Markup(steps)) for title, steps in waterfall.waterfalls(run, summary)
        ],
        failover_pictures=[
            _pictured(each) for each in failover_picture.drawings(run, summary)
        ],
        divergence=Markup(divergence.drawing(run, summary)),
        space_times=[_pictured(each) for each in space_time.drawings(run, summary)],
        contents=_contents(summary),
        visibility=Markup(visibility.drawing(run, summary)),
        legends=[_outcome_legend(), _kind_legend(run), _role_legend(run)],
        first_violation=_first_violation(summary.judgements),
        glossary=GLOSSARY,
        dash=formats.DASH,
    )  # fmt: skip


def _contents(summary: Summary) -> list[tuple[str, str]]:
    """Return (anchor, words) of the sections that there are."""
    return [
        ("glance", "side by side" if summary.note_title else "at a glance"),
        ("timeline", "what happened"),
        ("failover", "failover"),
        ("conflicts", "conflicts"),
        *([("freshness", "freshness")] if summary.freshness else []),
        ("convergence", "convergence"),
        ("findings", "findings"),
        ("measures", "every measure"),
        ("trust", "trust"),
        ("settings", "settings"),
        ("words", "words"),
    ]


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("replication.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["verdict_class"] = verdict_class
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return environment


def verdict_class(item: Cell | Judgement | None) -> str:
    """Return the style class that colours a cell or a judgement."""
    if item is None or item.verdict is None:
        return ""
    return f"v-{item.verdict}" if item.promised else "v-unpromised"


def _first_violation(judgements: list[Judgement]) -> tuple[str, str] | None:
    """Return (anchor, words) of the earliest witness, of broken promises first."""
    found = [
        (not judgement.promised, witness.at_s is None, witness.at_s or 0.0, witness.anchor)
        for judgement in judgements
        if judgement.verdict is Verdict.VIOLATED
        for witness in judgement.witnesses
    ]
    if not found:
        return None
    unpromised, _, _, anchor = min(found)
    return anchor, "Jump to the first violation" + (" (of no promise)" if unpromised else "")


@dataclass(frozen=True, slots=True)
class Pictured:
    """A large picture with its legend."""

    title: str
    drawing: Markup
    legend: list[Swatch]
    note: str


def _pictured(found: failover_picture.Drawing) -> Pictured:
    legend = [_swatch(*lanes.mark_key(kind)) for kind in found.kinds]
    return Pictured(found.title, Markup(found.drawing), [*_operation_legend(), *legend], found.note)


def _operation_legend() -> list[Swatch]:
    return [
        *(
            _swatch(
                svg.rect(1, 6 - height / 2, 20, height, "op ok", rx=2),
                words,
            )
            for height, words in ((lanes.BAR_HEIGHTS["get"], "read"), (lanes.WRITE_HEIGHT, "write"))
        ),
        _swatch(svg.rect(1, 1.5, 20, 9, "op unknown", rx=2), "unknown"),
        _swatch(
            svg.rect(1, 1.5, 20, 9, "op fail", rx=2) + svg.rect(1, 1.5, 20, 9, "hatched", rx=2),
            "fail",
        ),
        _swatch(svg.path(["M9 1.5l4 4.5l-4 4.5"], "turn"), "turned to another node"),
    ]


def _swatch(content: str, words: str) -> Swatch:
    drawing = svg.element("svg", content, viewBox="0 0 22 12", class_="swatch", aria_hidden="true")
    return Swatch(Markup(drawing), words)


def _outcome_legend() -> list[Swatch]:
    found = []
    for outcome in ("ok", "unknown", "fail"):
        box = svg.rect(1, 1, 20, 10, f"bar {outcome}", rx=2)
        if outcome == "fail":
            box += svg.rect(1, 1, 20, 10, "hatched", rx=2)
        found.append(_swatch(box, outcome))
    return found


def _kind_legend(run: RunFindings) -> list[Swatch]:
    present = {point.kind for side in run.sides.values() for point in side.latency_points}
    return [
        _swatch(
            svg.element(
                "g",
                svg.path([panels.shape(kind, 0, 0)], f"{panels.shape_class(kind)} key"),
                transform="translate(11 6) scale(1.6)",
            ),
            kind,
        )
        for kind in _KIND_WORDS
        if kind in present
    ]


def _role_legend(run: RunFindings) -> list[Swatch]:
    present = {period.role for side in run.sides.values() for period in side.roles}
    return [
        _swatch(svg.rect(1, 1, 20, 10, f"role {role}", rx=2), role)
        for role in panels.ROLES
        if role in present
    ]
