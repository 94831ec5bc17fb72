"""Leader-based and leaderless replication side by side: same work, same faults, measured.

    from replication import compare, load_scenario

    findings = compare(load_scenario("leader-crash"), seed=7)
    print(findings.verdict, findings.sides["leader"].failovers[0].write_outage_ns / 1e6)

A scenario becomes a Plan, a Plan is executed into a History, a History is analysed into findings,
findings are rendered into a report. No arrow runs backwards.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from replication.api import (
        analyse,
        check,
        check_run,
        compare,
        list_scenarios,
        load_scenario,
        run,
        simulate,
    )
    from replication.errors import ConfigError, ReplicationError

__all__ = [
    "ConfigError",
    "ReplicationError",
    "analyse",
    "check",
    "check_run",
    "compare",
    "list_scenarios",
    "load_scenario",
    "run",
    "simulate",
]


def __getattr__(name: str) -> Any:
    # Node processes import this package five at a time; they must not pay for the analysis.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from replication import api, errors

    return getattr(errors if name.endswith("Error") else api, name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
