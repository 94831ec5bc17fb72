"""From a scenario file to a Plan: everything that can be decided before anything runs.

    scenario.toml ─load─▶ tables ─document─▶ Document ─check─▶ no problems ─parts─▶ Plan

``load`` is the one module that reads files; the rest is pure. Every mistake in a file is gathered
on the way (``problems``) and told at once, each with its place.

While a plan is executed, ``schedule`` says when the nemesis does what, and ``resolve`` turns roles
into nodes at the moment a fault is due. The time of a plan is nanoseconds after the start of the
load.
"""

from replication.plan.backends import FoundBackend, find_backend
from replication.plan.describe import describe
from replication.plan.load import (
    ScenarioSummary,
    find_scenario,
    list_scenarios,
    load_scenario,
    read_plan,
)
from replication.plan.model import (
    BackendChoice,
    ClockFault,
    ClusterView,
    Direction,
    DiskEffect,
    DiskFault,
    Expectation,
    FaultKind,
    LinkRule,
    PartitionShape,
    PlannedClient,
    PlannedFault,
    PlannedOperation,
    ResolvedFault,
    Route,
    Timing,
)
from replication.plan.plan import Plan
from replication.plan.resolve import Unresolvable, resolve
from replication.plan.scenario import Scenario, make_plan, read_scenario
from replication.plan.schedule import Action, Step, schedule
from replication.plan.swarm import json_schema

__all__ = [
    "Action",
    "BackendChoice",
    "ClockFault",
    "ClusterView",
    "Direction",
    "DiskEffect",
    "DiskFault",
    "Expectation",
    "FaultKind",
    "FoundBackend",
    "LinkRule",
    "PartitionShape",
    "Plan",
    "PlannedClient",
    "PlannedFault",
    "PlannedOperation",
    "ResolvedFault",
    "Route",
    "Scenario",
    "ScenarioSummary",
    "Step",
    "Timing",
    "Unresolvable",
    "describe",
    "find_backend",
    "find_scenario",
    "json_schema",
    "list_scenarios",
    "load_scenario",
    "make_plan",
    "read_plan",
    "read_scenario",
    "resolve",
    "schedule",
]
