"""The one place where findings become words and numbers; every renderer shows what it returns."""

from replication.analysis.findings import RunFindings, SideFindings, Verdict
from replication.report import (
    failover_ledger,
    formats,
    judgements,
    ledgers,
    rows,
    trust,
    visibility,
)
from replication.report.model import ExpectationText, SideHead, Summary


def summarize(run: RunFindings) -> Summary:
    """Return what all renderers say of ``run``."""
    expectations = judgements.expectations(run)
    return Summary(
        name=formats.sentence(run.name),
        title=formats.sentence(run.title),
        question=formats.sentence(run.question),
        seed=str(run.seed),
        started=formats.utc(run.started_unix_ns),
        again=formats.printable(run.again),
        folder=formats.printable(run.folder) if run.folder else None,
        verdict=run.verdict,
        mark=formats.verdict_mark(run.verdict),
        verdict_words=_verdict_words(run, expectations),
        heads=[_head(name, side) for name, side in run.sides.items()],
        sections=[
            *judgements.sections(run, expectations),
            *rows.sections(run),
            trust.settings_that_differ(run),
        ],
        expectations=expectations,
        judgements=judgements.judgements(run),
        failovers=failover_ledger.failovers(run),
        conflicts=ledgers.conflicts(run),
        freshness=visibility.chapters(run),
        convergence=ledgers.convergence(run),
        trust=trust.trust_marks(run),
        common_settings=trust.common_settings(run),
        versions=[
            (formats.sentence(name), formats.sentence(version))
            for name, version in run.versions.items()
        ],
    )


_KEPT = {
    Verdict.VALID: "kept its promises",
    Verdict.VIOLATED: "broke a promise",
    Verdict.UNKNOWN: "could not be judged",
}


def _head(name: str, side: SideFindings) -> SideHead:
    title = formats.sentence(side.title)
    return SideHead(
        side=formats.sentence(name),
        title=title,
        promise=formats.sentence(side.promise),
        verdict=side.verdict,
        kept=f"{title} {_kept(side)}",
        broken=[
            *(["interrupted"] if side.interrupted else []),
            *(formats.sentence(problem) for problem in side.problems),
        ],
    )


def _kept(side: SideFindings) -> str:
    judged = not side.problems and side.findings
    if judged and not any(each.promised for each in side.findings.values()):
        return "promises nothing that is judged here"
    return _KEPT[side.verdict]


def _verdict_words(run: RunFindings, expectations: list[ExpectationText]) -> str:
    met = sum(each.verdict is Verdict.VALID for each in expectations)
    words = [_head(name, side).kept for name, side in run.sides.items()]
    if expectations:
        total = len(expectations)
        words.append(f"{met} of {formats.plural(total, 'expectation')} met")
    text = "; ".join(words)
    return (text or "nothing was judged") + "."
