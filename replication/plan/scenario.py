"""A scenario: a file's tables, judged as a whole and compiled into a plan."""

from collections.abc import Callable, Collection, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

from replication.history import OperationKind
from replication.plan import parts
from replication.plan.backends import FindBackend, find_backend
from replication.plan.check import check_room, check_run, check_workload
from replication.plan.check_expectations import Known, read_expectations
from replication.plan.check_faults import check_faults
from replication.plan.document import read_document
from replication.plan.plan import Plan
from replication.plan.problems import Problems
from replication.plan.schema import SEED_MAX, Document
from replication.plan.settings import read_backends
from replication.protocol import Family


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario without mistakes. ``plan`` has the scenario's own seed; see ``make_plan``."""

    name: str
    plan: Plan
    variants: tuple[str, ...] = ()  # names; a scenario that has some is run as each of them

    @property
    def title(self) -> str:
        """What the scenario is about, a few words."""
        return self.plan.title

    @property
    def question(self) -> str:
        """What the scenario asks, one sentence."""
        return self.plan.question


def make_plan(scenario: Scenario, seed: int | None = None) -> Plan:
    """Return the plan of a scenario for a seed; None is the seed that the scenario gives itself.

    Raises ValueError for a seed outside 0 to 2**63 - 1.
    """
    if seed is None:
        return scenario.plan
    if not 0 <= seed <= SEED_MAX:
        raise ValueError(f"seed is {seed}, expected 0 to {SEED_MAX}")
    return replace(scenario.plan, seed=seed)


def read_scenario(
    raw: Mapping[str, Any],
    name: str,
    source: str,
    *,
    find: FindBackend = find_backend,
    known_checks: Collection[str] | None = None,
    measure_problem: Callable[[str], str | None] | None = None,
) -> Scenario:
    """Return the scenario that the tables ``raw`` describe.

    Raises ConfigError with every problem, each as ``source: path: words``. The names of checks and
    measures belong to the analysis: ``measure_problem`` says what is wrong with a path into its
    findings. Where they are None, expectations may name anything.
    """
    problems = Problems(source)
    document = read_document(raw, problems)
    check_run(document, problems)
    check_room(document, problems)
    backends = read_backends(document, problems, find)
    check_workload(document, problems, backends)
    check_faults(document, problems)
    names = [each.name for each in document.variant]
    for index, variant in enumerate(names):
        if variant in names[:index]:
            problems.add(("variant", index, "name"), f'"{variant}" is there already')
    expectations = read_expectations(
        document, problems, backends, Known(known_checks, measure_problem)
    )
    problems.raise_if_any()
    assert document.title is not None
    assert document.question is not None
    plan = Plan(
        name=name,
        title=document.title,
        question=document.question,
        seed=document.run.seed,
        nodes=parts.nodes_of(document),
        clients=parts.clients(document),
        faults=parts.faults(document),
        timing=parts.timing(document),
        sync=document.cluster.sync,
        backends={family: backends[family].choice for family in Family},
        expectations=expectations,
        workload=parts.workload(document),
        scenario=deepcopy(dict(raw)),
        levels=_levels(document),
        replica_counts={
            OperationKind(kind): count for kind, count in document.workload.replicas.items()
        },
        update_kinds=parts.update_kinds(document),
        updates_applied=parts.updates_applied(document),
        spares=parts.spares_of(document),
        regions=tuple(document.cluster.regions),
        families=tuple(Family) if document.run.side is None else (document.run.side,),
    )
    return Scenario(name, plan, tuple(each.name for each in document.variant))


def _levels(document: Document) -> dict[Family, dict[OperationKind, str]]:
    consistency = document.workload.consistency
    return {
        family: {
            OperationKind(kind): level for kind, level in getattr(consistency, family.value).items()
        }
        for family in Family
    }
