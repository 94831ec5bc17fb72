"""junit.xml: a test suite per side, a test case per check and per expectation.

What is violated is a ``failure``. What is unknown is an ``error``: JUnit's word for "could not be
judged", and like exit code 3 it turns the job red; ``skipped`` would show the job as green, and an
unknown is never a pass. Only a check that its side does not promise can be ``skipped``: it was
looked at, it decides nothing, and its message says what was found. Continuous integration shows
the ``message`` attribute in its list and the text of the element on a click.
"""

from collections.abc import Iterable
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from replication.analysis.findings import Verdict
from replication.report.model import ExpectationText, Judgement, SideHead, Summary, headline_lines


def junit_xml(summary: Summary, started_iso: str) -> str:
    """Return the document. ``started_iso`` is the start of the run, ISO 8601."""
    root = Element("testsuites", name=summary.name)
    for head in summary.heads:
        suite = SubElement(
            root, "testsuite", name=f"{summary.name}.{head.side}", timestamp=started_iso
        )
        _properties(suite, summary, head)
        classname = suite.attrib["name"]
        # A run that broke must not look green for want of test cases.
        case = SubElement(
            suite, "testcase", classname=classname, name="run completed", time="0.000"
        )
        _result(case, "error" if head.broken else None, "; ".join(head.broken), head.broken)
        for judgement in summary.judgements:
            if judgement.side == head.side:
                _check(suite, classname, judgement)
        for expectation in summary.expectations:
            if expectation.side == head.side:
                _expectation(suite, classname, expectation)
        lines = [f"promise: {head.promise}", *headline_lines(summary.headlines(), head.side)]
        SubElement(suite, "system-out").text = "\n".join(lines)
        _count(suite, [suite])
    _count(root, root.findall("testsuite"))
    indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def _properties(suite: Element, summary: Summary, head: SideHead) -> None:
    properties = SubElement(suite, "properties")
    pairs = [("backend", head.title), ("seed", summary.seed), ("again", summary.again)]
    for name, value in [*pairs, *summary.versions]:
        SubElement(properties, "property", name=name, value=value)


def _check(suite: Element, classname: str, judgement: Judgement) -> None:
    case = SubElement(
        suite,
        "testcase",
        classname=classname,
        name=judgement.title,
        time=f"{judgement.seconds:.3f}",
    )
    kind = _kind(judgement.verdict, judgement.promised)
    message = judgement.summary
    if not judgement.promised:
        message = f"not promised by this side ({judgement.mark}): {message}"
    _result(case, kind, message, _judgement_lines(judgement))


def _expectation(suite: Element, classname: str, expectation: ExpectationText) -> None:
    name = f"{expectation.place}: {expectation.words}"
    case = SubElement(suite, "testcase", classname=classname, name=name, time="0.000")
    message = f"{expectation.mark}: {expectation.observed}"
    _result(case, _kind(expectation.verdict, promised=True), message, [message])


def _kind(verdict: Verdict, promised: bool) -> str | None:
    if verdict is Verdict.VALID:
        return None
    if not promised:
        return "skipped"
    return "failure" if verdict is Verdict.VIOLATED else "error"


def _result(case: Element, kind: str | None, message: str, lines: Iterable[str]) -> None:
    text = "\n".join(lines)
    if kind is None:
        if text:
            SubElement(case, "system-out").text = text
    elif kind == "skipped":  # holds no text in the common schema
        SubElement(case, kind, message=message)
        SubElement(case, "system-out").text = text
    else:
        SubElement(case, kind, message=message, type=kind).text = text


def _judgement_lines(judgement: Judgement) -> Iterable[str]:
    yield f"{judgement.mark}: {judgement.summary}"
    for witness in judgement.witnesses:
        yield f"witness: {witness.words} [{witness.place}]"
    if judgement.more:
        yield judgement.more
    for note in judgement.notes:
        yield f"note: {note}"
    yield "coverage: " + "; ".join(judgement.coverage)


def _count(element: Element, suites: list[Element]) -> None:
    cases = [case for suite in suites for case in suite.findall("testcase")]
    element.set("tests", str(len(cases)))
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        element.set(attribute, str(sum(case.find(tag) is not None for case in cases)))
    element.set("time", f"{sum(float(case.attrib['time']) for case in cases):.3f}")
