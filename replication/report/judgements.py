"""Verdicts, expectations, coverage and witnesses in words."""

from replication.analysis.findings import (
    Coverage,
    ExpectationResult,
    Finding,
    RunFindings,
    SideFindings,
    Verdict,
    Witness,
)
from replication.report import formats
from replication.report.model import (
    Cell,
    ExpectationText,
    Judgement,
    Row,
    Section,
    WitnessText,
)
from replication.report.witness_picture import drawing

EXPECTATION_MARKS = {
    Verdict.VALID: "✔ met",
    Verdict.VIOLATED: "✘ not met",
    Verdict.UNKNOWN: "? not judged",
}
_OPERATIONS_SHOWN_MAX = 8


def sections(run: RunFindings, expected: list[ExpectationText]) -> list[Section]:
    """Return the verdict lines and the expectation lines of the side-by-side table."""
    found = [Section("verdicts", "Verdicts", _verdict_rows(run), _VERDICTS_ABOUT)]
    rungs = _ladder_rows(run)
    if rungs:
        found.append(Section("ladder", "Consistency ladder", rungs, _LADDER_ABOUT))
    if expected:
        found.append(Section("expectations", "Expectations", _expectation_rows(expected)))
    return found


_VERDICTS_ABOUT = (
    "PASS and FAIL judge what a side promises. A check marked ○ is no promise of that side: "
    "it informs and fails nothing. UNKNOWN is never a pass."
)


_LADDER_ABOUT = (
    "How consistent each side was, whatever it promises: convergent, the four session guarantees, "
    "causal, sequential, linearizable. What held below is implied by what held above."
)


def _ladder_rows(run: RunFindings) -> list[Row]:
    """Return the strongest rung that held and the weakest that broke, where there are rungs."""
    ladders = {name: side.ladder for name, side in run.sides.items() if side.ladder.rungs}
    if not ladders:
        return []
    held = {name: Cell(each.strongest or "none") for name, each in ladders.items()}
    broke = {name: Cell(each.broke or "none") for name, each in ladders.items()}
    return [Row("Strongest that held", held), Row("First that broke", broke)]


def _verdict_rows(run: RunFindings) -> list[Row]:
    titles: dict[str, str] = {}
    for side in run.sides.values():
        for check, finding in side.findings.items():
            titles.setdefault(check, formats.sentence(finding.title))
    return [
        Row(
            label=title,
            cells={
                name: _verdict_cell(side.findings[check])
                for name, side in run.sides.items()
                if check in side.findings
            },
        )
        for check, title in titles.items()
    ]


def _verdict_cell(finding: Finding) -> Cell:
    mark = formats.verdict_mark(finding.verdict, finding.promised)
    if finding.verdict is Verdict.VIOLATED:
        amount = max(finding.violations, len(finding.witnesses))
        detail = f", {formats.plural(amount, 'violation')}" if amount else ""
    else:
        detail = f", {formats.count(finding.coverage.judged)} judged"
    return Cell(mark + detail, finding.verdict, finding.promised)


def expectations(run: RunFindings) -> list[ExpectationText]:
    """Return the expectations in the order of the scenario."""
    return [_expectation(each) for each in run.expectations]


def _expectation(result: ExpectationResult) -> ExpectationText:
    return ExpectationText(
        place=formats.sentence(result.place),
        side=formats.sentence(result.side),
        words=formats.sentence(result.words),
        verdict=result.verdict,
        mark=EXPECTATION_MARKS[result.verdict],
        observed=formats.sentence(result.observed),
    )


def _expectation_rows(expected: list[ExpectationText]) -> list[Row]:
    """Join the two sides' lines where both are asked for the same."""
    rows: list[Row] = []
    for each in expected:
        observed = f": {each.observed}" if each.observed else ""
        cell = Cell(f"{each.mark}{observed}", each.verdict)
        for row in rows:
            if row.label == each.words and each.side not in row.cells:
                row.cells[each.side] = cell
                break
        else:
            rows.append(Row(each.words, {each.side: cell}))
    return rows


def judgements(run: RunFindings) -> list[Judgement]:
    """Return every check of every side in full, broken promises first."""
    found = [
        _judgement(name, side, finding)
        for name, side in run.sides.items()
        for finding in side.findings.values()
    ]
    return sorted(found, key=_urgency)


def _urgency(judgement: Judgement) -> int:
    """Return 0 for a broken promise, then what could not be shown, then what was not promised."""
    if judgement.verdict is Verdict.VALID:
        return 3
    if not judgement.promised:
        return 2
    return 0 if judgement.verdict is Verdict.VIOLATED else 1


def _judgement(name: str, side: SideFindings, finding: Finding) -> Judgement:
    shown = len(finding.witnesses)
    hidden = finding.violations - shown
    more = f"and {formats.plural(hidden, 'further violation')}" if shown and hidden > 0 else ""
    return Judgement(
        side=formats.sentence(name),
        check=formats.sentence(finding.check),
        title=formats.sentence(finding.title),
        mark=formats.verdict_mark(finding.verdict, finding.promised),
        verdict=finding.verdict,
        promised=finding.promised,
        summary=formats.sentence(finding.summary),
        coverage=_coverage(finding.coverage),
        notes=[formats.sentence(note) for note in finding.coverage.notes],
        witnesses=[
            _witness(f"witness-{name}-{finding.check}-{number}", side, witness)
            for number, witness in enumerate(finding.witnesses, 1)
        ],
        more=more,
        seconds=finding.seconds,
    )


def _witness(anchor: str, side: SideFindings, witness: Witness) -> WitnessText:
    places = []
    if witness.key is not None:
        places.append(f"key {formats.key_text(witness.key)}")
    if witness.at_ns is not None:
        places.append(f"at {formats.moment(witness.at_ns, side.load_start_ns)}")
    if witness.operations:
        listed = ", ".join(str(each) for each in witness.operations[:_OPERATIONS_SHOWN_MAX])
        rest = ", …" if len(witness.operations) > _OPERATIONS_SHOWN_MAX else ""
        places.append(f"operations {listed}{rest}")
    origin = side.load_start_ns
    return WitnessText(
        anchor="".join(each if each.isalnum() or each == "-" else "-" for each in anchor),
        words=formats.sentence(witness.words),
        place="; ".join(places),
        at_s=None if witness.at_ns is None else (witness.at_ns - origin) / formats.NS_PER_S,
        causes=[formats.sentence(cause) for cause in witness.causes],
        drawing="" if witness.picture is None else drawing(side, witness.picture),
    )


def _coverage(coverage: Coverage) -> list[str]:
    found = [formats.plural(coverage.judged, "operation") + " judged"]
    if coverage.keys:
        found.append(formats.plural(coverage.keys, "key"))
    for amounts in (coverage.by_outcome, coverage.by_kind):
        if amounts:
            found.append(
                ", ".join(f"{formats.count(amount)} {name}" for name, amount in amounts.items())
            )
    found.extend(
        f"{formats.count(amount)} acknowledged while fault {fault} lasted"
        for fault, amount in coverage.by_fault.items()
    )
    found.extend(
        f"{formats.count(amount)} of clients under {formats.sentence(side)}"
        for side, amount in coverage.by_side.items()
    )
    if coverage.smallest:
        found.append(coverage.smallest)
    return found
