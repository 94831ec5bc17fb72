"""When the nemesis does what. Used by real runs and by the simulation alike."""

from dataclasses import dataclass
from enum import StrEnum

from replication.plan.model import FaultKind, PlannedFault
from replication.plan.plan import Plan


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


def schedule(plan: Plan) -> tuple[Step, ...]:
    """Return every step in the order in which it is due.

    Every fault is injected once and healed once, at the latest at the end of the load. A restart
    has nothing to heal: the node comes back by itself.
    """
    steps = [Step(fault.at_ns, Action.INJECT, fault) for fault in plan.faults]
    for fault in plan.faults:
        if fault.kind is not FaultKind.RESTART:
            until_ns = plan.timing.duration_ns if fault.until_ns is None else fault.until_ns
            steps.append(Step(until_ns, Action.HEAL, fault))
    return tuple(
        sorted(
            steps, key=lambda step: (step.at_ns, step.action is Action.INJECT, step.fault.number)
        )
    )
