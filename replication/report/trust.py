"""What to know before trusting the numbers, and the settings behind them."""

from collections.abc import Iterable, Mapping
from typing import Any

from replication.analysis.findings import RunFindings, SideFindings
from replication.history import CPU_SHARE_MAX, SEND_LAG_NS_P99_MAX
from replication.report import formats
from replication.report.model import Cell, Row, Section, TrustMark

LAG_SHARE_MAX = 0.1  # of a latency: below it the driver's lag changes no conclusion
UNSENT_SHARE_MAX = 0.01
SEED_WORDS = (
    "The seed fixes the operations, their intended times and the faults; it does not fix how the "
    "operating system schedules processes, so numbers differ a little from run to run."
)
SIMULATED_SEED_WORDS = (
    "Simulated: virtual time, network and disk. The same seed gives the same run to the last bit; "
    "its durations follow the model, not a machine."
)
ONE_RUN_WORDS = (
    "One run of each side: small differences are noise. Repeat with other seeds before choosing."
)


def trust_marks(run: RunFindings) -> list[TrustMark]:
    """Return the marks, serious ones first."""
    found = [mark for name, side in run.sides.items() for mark in _side_marks(name, side)]
    simulated = [side.simulated for side in run.sides.values()]
    if any(simulated):
        found.append(TrustMark(None, SIMULATED_SEED_WORDS, serious=True))
    if not all(simulated):
        found.append(TrustMark(None, SEED_WORDS, serious=False))
    if len(run.sides) > 1:
        found.append(TrustMark(None, ONE_RUN_WORDS, serious=False))
    return sorted(found, key=lambda mark: not mark.serious)


def _side_marks(name: str, side: SideFindings) -> Iterable[TrustMark]:
    if side.interrupted:
        yield TrustMark(name, "Interrupted: judged on what was recorded until then.", True)
    for problem in side.problems:
        yield TrustMark(name, f"Problem: {formats.sentence(problem)}", True)
    yield from _driver_marks(name, side)
    yield from _fault_marks(name, side)
    for finding in side.findings.values():
        for note in finding.coverage.notes:
            title = formats.sentence(finding.title)
            yield TrustMark(name, f"{title}: {formats.sentence(note)}", False)
    warmup_ns = side.measure_start_ns - side.load_start_ns
    if warmup_ns > 0:
        words = (
            f"The first {formats.setting_duration(warmup_ns)} are warm-up: checked, not measured."
        )
        yield TrustMark(name, words, False)
    if side.thinned:
        yield TrustMark(name, f"Latency plot: {formats.sentence(side.thinned)}", False)


def _driver_marks(name: str, side: SideFindings) -> Iterable[TrustMark]:
    """Say how far the load driver fell behind, and whether that is felt in the latencies."""
    driver = side.driver
    if side.generator_bound:
        busy = driver.cpu_share > CPU_SHARE_MAX
        felt = busy or side.lag_share is None or side.lag_share > LAG_SHARE_MAX
        share = formats.share(side.lag_share)
        verdict = (
            f"latencies are partly its own (up to {share} of them)"
            if felt
            else f"at most {share} of the median or of the p99 of the latencies is its own"
        )
        words = (
            f"Generator-bound: the load driver began 1 of 100 operations over "
            f"{formats.duration_ns(driver.send_lag_ns_p99)} late (limit "
            f"{formats.setting_duration(SEND_LAG_NS_P99_MAX)}; half of them within "
            f"{formats.duration_ns(driver.send_lag_ns_p50)}) and used "
            f"{formats.share(driver.cpu_share)} of a core (limit {CPU_SHARE_MAX:.0%}): {verdict}."
        )
        yield TrustMark(name, words, felt)
    unsent = driver.planned - driver.sent
    if unsent > 0:
        words = (
            f"{formats.count(unsent)} of {formats.plural(driver.planned, 'planned operation')} "
            "were never begun: their clients were still waiting when the load ended."
        )
        yield TrustMark(name, words, unsent > UNSENT_SHARE_MAX * driver.planned)


def _fault_marks(name: str, side: SideFindings) -> Iterable[TrustMark]:
    for fault in side.faults:
        words = f"Fault {fault.number} ({formats.sentence(fault.words)})"
        if fault.problem:
            yield TrustMark(name, f"{words}: {formats.sentence(fault.problem)}", True)
        elif fault.injected_ns is None:
            yield TrustMark(name, f"{words} was not injected.", True)
        elif not fault.effective:
            yield TrustMark(name, f"{words} left no evidence that it took effect.", True)
        else:
            shown = "; ".join(formats.sentence(each) for each in fault.evidence)
            yield TrustMark(name, f"{words} took effect: {shown or 'evidence recorded'}.", False)


def settings_that_differ(run: RunFindings) -> Section:
    """Return a row for every setting that is not the same on both sides."""
    flat = {name: dict(_flat(side.settings)) for name, side in run.sides.items()}
    rows = [
        Row(
            label=formats.sentence(setting),
            cells={
                name: Cell(values[setting]) for name, values in flat.items() if setting in values
            },
            headline=False,
        )
        for setting in _names(flat)
        if not _is_common(setting, flat)
    ]
    title = "Settings that differ" if len(run.sides) > 1 else "Settings"
    return Section("settings", title, rows)


def common_settings(run: RunFindings) -> list[tuple[str, str]]:
    """Return the settings that all sides share."""
    flat = {name: dict(_flat(side.settings)) for name, side in run.sides.items()}
    return [
        (formats.sentence(setting), next(iter(flat.values()))[setting])
        for setting in _names(flat)
        if _is_common(setting, flat)
    ]


def _names(flat: Mapping[str, Mapping[str, str]]) -> list[str]:
    names: list[str] = []
    for values in flat.values():
        names.extend(name for name in values if name not in names)
    return names


def _is_common(setting: str, flat: Mapping[str, Mapping[str, str]]) -> bool:
    if len(flat) < 2:
        return False
    values = [values.get(setting) for values in flat.values()]
    return all(value is not None and value == values[0] for value in values)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Yield (dotted name, text); a name that ends in ``_ns`` is a duration (protocol.Settings)."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif name.endswith("_ns") and isinstance(value, int | float):
            yield prefix + name.removesuffix("_ns"), formats.setting_duration(value)
        elif isinstance(value, bool):
            yield prefix + name, "on" if value else "off"
        elif isinstance(value, list | tuple):
            yield prefix + name, formats.value_text(", ".join(str(each) for each in value))
        else:
            yield prefix + name, formats.value_text(value)
