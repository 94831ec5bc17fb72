"""How numbers and foreign text are written, for every renderer: one place, no exceptions.

A measure that is missing is a dash, never a zero. Three significant digits, a thin space nowhere:
all characters survive a pull request, a terminal and a projector.
"""

from datetime import UTC, datetime
from math import floor, log10

from replication.analysis.findings import Verdict

DASH = "\N{EN DASH}"
MULTIPLE = "\N{MULTIPLICATION SIGN}"
KEY_CHARACTERS_MAX = 40
VALUE_CHARACTERS_MAX = 48
SENTENCE_CHARACTERS_MAX = 600
NS_PER_S = 1_000_000_000

WORDS = {Verdict.VALID: "PASS", Verdict.VIOLATED: "FAIL", Verdict.UNKNOWN: "UNKNOWN"}
SYMBOLS = {Verdict.VALID: "✔", Verdict.VIOLATED: "✘", Verdict.UNKNOWN: "?"}
# For a check that this side does not promise: its result informs, it does not fail the run.
UNPROMISED_WORDS = {Verdict.VALID: "held", Verdict.VIOLATED: "not held", Verdict.UNKNOWN: "unknown"}
UNPROMISED_SYMBOL = "○"


def significant(value: float, digits: int = 3) -> str:
    """Return ``value`` with ``digits`` significant digits (more before the point), no exponent."""
    rounded = float(f"{value:.{digits}g}")
    if rounded == 0:
        return "0"
    decimals = digits - 1 - floor(log10(abs(rounded)))
    return f"{value:,.{max(decimals, 0)}f}"


def duration_ns(nanoseconds: float | None) -> str:
    """Return a duration with the unit that suits its size."""
    if nanoseconds is None:
        return DASH
    if nanoseconds < 0:
        return "-" + duration_ns(-nanoseconds)
    if nanoseconds >= 119.5 * NS_PER_S:
        minutes, seconds = divmod(round(nanoseconds / NS_PER_S), 60)
        return f"{minutes:,} min {seconds:02} s"
    if nanoseconds >= 0.9995 * NS_PER_S:
        return f"{significant(nanoseconds / NS_PER_S)} s"
    if nanoseconds >= 999_500 or nanoseconds == 0:
        return f"{significant(nanoseconds / 1_000_000)} ms"
    return f"{significant(nanoseconds / 1_000)} µs"


def duration_ms(milliseconds: float | None) -> str:
    """Return a duration that was measured in milliseconds."""
    return duration_ns(None if milliseconds is None else milliseconds * 1_000_000)


def setting_duration(nanoseconds: int | float) -> str:
    """Return a duration that somebody chose: exactly, without digits that only measures have."""
    for unit, factor in (("s", NS_PER_S), ("ms", 1_000_000), ("µs", 1_000)):
        if nanoseconds >= factor:
            return f"{nanoseconds / factor:.12g} {unit}"
    return f"{nanoseconds:g} ns"


def moment(at_ns: int | None, origin_ns: int) -> str:
    """Return a point in time as seconds after the load began, to the millisecond."""
    return DASH if at_ns is None else f"{(at_ns - origin_ns) / NS_PER_S:.3f} s"


def count(number: int | None) -> str:
    """Return a whole number with its thousands apart."""
    return DASH if number is None else f"{number:,}"


def number(value: float | None) -> str:
    """Return a measure without a unit."""
    return DASH if value is None else significant(value)


def rate(per_second: float | None) -> str:
    """Return something per second."""
    if per_second is None:
        return DASH
    text = count(round(per_second)) if per_second >= 100 else significant(per_second)
    return f"{text}/s"


def share(part: float | None) -> str:
    """Return a share as per cent; 100 % means all of it and 0 % none, never by rounding."""
    if part is None:
        return DASH
    percent = part * 100
    if 0 < percent < 0.01:
        return "<0.01 %"
    if 99.99 < percent < 100:
        return ">99.99 %"
    decimals = 0 if percent in (0, 100) else 1 if 10 <= percent < 99 else 2
    text = f"{percent:.{decimals}f}"
    return f"{text} %"


def byte_count(size: float | None) -> str:
    """Return a number of bytes, in binary units."""
    if size is None:
        return DASH
    for unit, factor in (("MiB", 1024**2), ("KiB", 1024)):
        if size >= factor:
            return f"{significant(size / factor)} {unit}"
    return f"{significant(size)} B" if size % 1 else f"{int(size)} B"


def plural(amount: int, singular: str, many: str | None = None) -> str:
    """Return "1 violation", "3 violations"."""
    return f"{count(amount)} {singular if amount == 1 else many or singular + 's'}"


def shown_of(shown: int, total: int) -> str:
    """Return how much of a list is shown, nothing when it is all of it."""
    return f"The first {count(shown)} of {count(total)}." if total > shown else ""


def comparison(base: float | None, other: float | None, more: str, less: str) -> str:
    """Return what ``other`` is next to ``base``: "2.4 times longer", "about the same", or nothing.

    No ratio is made with zero or with a missing measure. Below a factor of 1.05 the difference of
    two single runs says nothing.
    """
    if base is None or other is None or base < 0 or other < 0:
        return ""
    if base == 0 or other == 0:
        return ""
    if base == other:
        return "the same"
    factor = other / base
    if 1 / 1.05 < factor < 1.05:
        return "about the same"
    ratio, word = (factor, more) if factor > 1 else (1 / factor, less)
    text = f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.1f}" if ratio >= 1.1 else f"{ratio:.2f}"
    return f"{text}{MULTIPLE} {word}"


def utc(unix_ns: int) -> str:
    """Return a Unix time as "2026-11-23 21:55:03 UTC"."""
    return datetime.fromtimestamp(unix_ns // NS_PER_S, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def iso(unix_ns: int) -> str:
    """Return a Unix time as ISO 8601, for machines."""
    return datetime.fromtimestamp(unix_ns // NS_PER_S, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def shortened(text: str, limit: int) -> str:
    """Cut ``text`` to ``limit`` characters and say how long it was."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}… ({count(len(text))} characters)"


def printable(text: str) -> str:
    r"""Escape what could move a cursor, hide or reorder text, or break a file: "\x1b", "\u202e".

    Keys and values are chosen by whoever writes a scenario. XML 1.0 has no way at all to carry most
    control characters, a terminal obeys them, and a lone surrogate cannot be encoded.
    """
    if text.isprintable():
        return text
    return "".join(
        each
        if each.isprintable()
        else each.encode("unicode_escape", "backslashreplace").decode("ascii")
        for each in text
    )


def key_text(key: str) -> str:
    """Return a key as reports show it."""
    return printable(shortened(key, KEY_CHARACTERS_MAX))


def value_text(value: object) -> str:
    """Return a value as reports show it; a missing one is a dash."""
    return DASH if value is None else printable(shortened(str(value), VALUE_CHARACTERS_MAX))


def sentence(text: str) -> str:
    """Return prose that may quote keys and values: white space joined, printable, bounded."""
    return printable(shortened(" ".join(text.split()), SENTENCE_CHARACTERS_MAX))


def verdict_mark(verdict: Verdict, promised: bool = True) -> str:
    """Return symbol and word of a verdict, so that neither colour nor shape is needed alone."""
    if promised:
        return f"{SYMBOLS[verdict]} {WORDS[verdict]}"
    return f"{UNPROMISED_SYMBOL} {UNPROMISED_WORDS[verdict]}"
