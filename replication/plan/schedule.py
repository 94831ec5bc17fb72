"""When the nemesis does what. Used by real runs and by the simulation alike."""

from dataclasses import dataclass
from enum import StrEnum

from replication.plan.model import PlannedFault
from replication.plan.plan import Plan
from replication.protocol import Family


class Action(StrEnum):
    """What is done about a fault. At the same time, what ends goes first."""

    HEAL = "heal"
    INJECT = "inject"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing for the nemesis to do, ``at_ns`` after the start of the load."""

    at_ns: int
    action: Action
    fault: PlannedFault


def schedule(plan: Plan, family: Family) -> tuple[Step, ...]:
    """Return every step for the side of ``family``, in the order in which it is due.

    Every fault is injected once and healed once, at the latest at the end of the load. What is
    momentary (a restart, a command) has nothing to heal.
    """
    faults = [fault for fault in plan.faults if family in fault.targets]
    steps = [Step(fault.at_ns, Action.INJECT, fault) for fault in faults]
    for fault in faults:
        if not fault.kind.is_momentary:
            until_ns = plan.timing.duration_ns if fault.until_ns is None else fault.until_ns
            steps.append(Step(until_ns, Action.HEAL, fault))
    return tuple(
        sorted(
            steps, key=lambda step: (step.at_ns, step.action is Action.INJECT, step.fault.number)
        )
    )
