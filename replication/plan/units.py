"""Durations and rates as people write them: a number and a unit, in one string."""

import re
from decimal import Decimal

NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_DURATION = re.compile(r"(-?[0-9]+(?:\.[0-9]+)?) ?(ns|us|ms|s|m|h)", re.ASCII)
_RATE = re.compile(r"(-?[0-9]+(?:\.[0-9]+)?) ?/ ?(s|m)", re.ASCII)
_BANDWIDTH = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(B|KB|MB|GB) ?/ ?s", re.ASCII)
BYTES = {"B": 1, "KB": 1_000, "MB": 1_000_000, "GB": 1_000_000_000}
BANDWIDTH_MIN = BYTES["KB"]
BANDWIDTH_MAX = 10 * BYTES["GB"]
DURATION_NS_MAX = 24 * NANOSECONDS["h"]
RATE_PER_S_MAX = 1_000_000.0


def shown(value: object) -> str:
    """Return a value as TOML spells it, cut to a readable length."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        text = f"[{', '.join(shown(each) for each in value)}]"
    else:
        text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def duration_ns(value: object) -> int:
    """Return the nanoseconds of "200ms", "1.5s", "2m"; raise ValueError that says what to write."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f'{shown(value)} has no unit, write "{value}s" or "{value}ms"')
    if not isinstance(value, str):
        raise ValueError(f'{shown(value)} is not a duration, expected text such as "200ms"')
    match = _DURATION.fullmatch(value.strip())
    if match is None:
        units = ", ".join(NANOSECONDS)
        raise ValueError(
            f"{shown(value)} is not a duration, "
            f'expected a number and a unit ({units}) such as "200ms"'
        )
    amount, unit = Decimal(match[1]), match[2]
    if amount < 0:
        raise ValueError(f"{shown(value)} is negative, expected 0s or more")
    found_ns = amount * NANOSECONDS[unit]
    if found_ns > DURATION_NS_MAX:
        raise ValueError(
            f"{shown(value)} is too long, expected at most {duration_text(DURATION_NS_MAX)}"
        )
    return int(found_ns)


def signed_duration_ns(value: object) -> int:
    """Return the nanoseconds of "2s" or "-500ms"; raise ValueError that says what to write."""
    if isinstance(value, str) and value.strip().startswith("-"):
        return -duration_ns(value.strip()[1:])
    return duration_ns(value)


def duration_text(duration_ns: int) -> str:
    """Return a duration as a scenario would write it, such as "2.5s" or "200ms"."""
    unit = next(
        (each for each in ("s", "ms", "us") if duration_ns >= NANOSECONDS[each]),
        "ns" if duration_ns else "s",
    )
    if unit == "s" and duration_ns >= NANOSECONDS["m"] and duration_ns % NANOSECONDS["m"] == 0:
        hours = duration_ns % NANOSECONDS["h"] == 0
        unit = "h" if hours else "m"
    amount = Decimal(duration_ns) / NANOSECONDS[unit]
    return f"{amount.normalize():f}{unit}"


def bandwidth_bytes_per_s(value: object) -> int:
    """Return the bytes per second of "64KB/s"; raise ValueError that says what to write."""
    match = _BANDWIDTH.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f'{shown(value)} is not a bandwidth, expected text such as "64KB/s"')
    found = int(Decimal(match[1]) * BYTES[match[2]])
    if not BANDWIDTH_MIN <= found <= BANDWIDTH_MAX:
        raise ValueError(f'{shown(value)} is out of range, expected "1KB/s" to "10GB/s"')
    return found


def bandwidth_text(bytes_per_s: int) -> str:
    """Return a bandwidth as a scenario would write it, such as "64KB/s"."""
    unit = next((each for each in ("GB", "MB", "KB") if bytes_per_s >= BYTES[each]), "B")
    return f"{(Decimal(bytes_per_s) / BYTES[unit]).normalize():f}{unit}/s"


def rate_per_s(value: object) -> float:
    """Return the operations per second of "400/s"; raise ValueError that says what to write."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f'{shown(value)} has no unit, write "{value}/s"')
    match = _RATE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f'{shown(value)} is not a rate, expected text such as "400/s"')
    rate = float(match[1]) / (60 if match[2] == "m" else 1)
    if not 0 < rate <= RATE_PER_S_MAX:
        raise ValueError(f'{shown(value)} is out of range, expected more than 0 to "1000000/s"')
    return rate
