"""The plan: everything that can be decided before anything runs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from random import Random
from typing import Any

from replication.errors import ConfigError
from replication.history import OperationKind
from replication.plan.backends import FindBackend, find_backend
from replication.plan.model import (
    BackendChoice,
    Expectation,
    LinkRule,
    PlannedClient,
    PlannedFault,
    PlannedOperation,
    Timing,
)
from replication.plan.regions import distances
from replication.plan.streams import stream
from replication.plan.workload import Workload
from replication.protocol import Family, NodeId

FORMAT = 1
_RECORD_KEYS = ("name", "seed", "scenario")


@dataclass(frozen=True, slots=True)
class Plan:
    """What both clusters are put through. Equal scenarios and seeds give equal plans."""

    name: str  # of the scenario: "leader-crash"
    title: str
    question: str
    seed: int
    nodes: tuple[NodeId, ...]  # "n1", "n2" ...: the members at the start
    clients: tuple[PlannedClient, ...]  # "c1", "c2" ...
    faults: tuple[PlannedFault, ...]  # in order of time, numbered from 1
    timing: Timing
    sync: str  # "always": a write is durable before it counts; "off": the page cache will do
    backends: Mapping[Family, BackendChoice]  # both families
    expectations: tuple[Expectation, ...]
    workload: Workload
    scenario: Mapping[str, Any]  # as parsed, overrides applied
    levels: Mapping[Family, Mapping[OperationKind, str]] = field(default_factory=dict)
    replica_counts: Mapping[OperationKind, int] = field(default_factory=dict)
    update_kinds: Mapping[Family, OperationKind] = field(default_factory=dict)  # of updates: put
    updates_applied: tuple[Family, ...] = ()  # whose store applies an update, without a read before
    spares: tuple[NodeId, ...] = ()  # nodes that are no members, until a fault lets them join
    regions: tuple[str, ...] = ()  # to which nodes are dealt in turn; empty: all side by side
    families: tuple[Family, ...] = tuple(Family)  # which sides are run

    def sides(self, asked: Sequence[Family]) -> tuple[Family, ...]:
        """Return which of the sides that were asked for are run; ConfigError if none of them is."""
        found = tuple(family for family in asked if family in self.families)
        if not found:
            raise ConfigError([f"{self.name} is about the {self.families[0].value} side only"])
        return found

    def operations(
        self, client_name: str, family: Family | None = None
    ) -> Iterator[PlannedOperation]:
        """Yield what a client is to do, in order; the same whenever and wherever it is asked.

        Open loops end with the load. Closed loops never end: their caller stops them. With a
        ``family`` each operation carries the consistency and the replica count that the scenario
        asks for on that side; without one it carries neither. Raises ValueError for a name that is
        no client of this plan.
        """
        names = [client.name for client in self.clients]
        operations = self.workload.operations(
            self.seed, names.index(client_name), self.timing.duration_ns
        )
        if family is None:
            return operations
        return self._with_levels(operations, family)

    def _with_levels(
        self, operations: Iterator[PlannedOperation], family: Family
    ) -> Iterator[PlannedOperation]:
        asked = {
            kind: (self.consistency(family, kind), self.replicas(family, kind))
            for kind in OperationKind
        }
        update_kind = self.update_kinds.get(family, OperationKind.PUT)
        if family in self.updates_applied:
            operations = _without_reads_before(operations)
        for operation in operations:
            if operation.update is not None:
                operation = replace(operation, kind=update_kind)
            level, replicas = asked[operation.kind]
            if level is None and replicas == 0:
                yield operation
            else:
                yield replace(operation, consistency=level, replicas=replicas)

    def keys(self) -> tuple[str, ...]:
        """Return every key that an operation may touch: those to read back at the end."""
        return self.workload.key_names()

    def consistency(self, family: Family, kind: OperationKind) -> str | None:
        """Return the level to ask for, lower case without prefix; None: the cluster's default."""
        return self.levels.get(family, {}).get(kind)

    def replicas(self, family: Family, kind: OperationKind) -> int:
        """Return the R of a read or the W of a write to ask for; 0: as the cluster is set."""
        return self.replica_counts.get(kind, 0) if family is Family.LEADERLESS else 0

    def distances(self) -> tuple[LinkRule, ...]:
        """Return what lies between the regions of the cluster, for nodes and clients."""
        homes = {client.name: client.home for client in self.clients}
        return distances(self.regions, (*self.nodes, *self.spares), homes)

    def fault_random(self, fault: PlannedFault) -> Random:
        """Return the generator that resolves the target of ``fault``, on either side."""
        return stream(self.seed, "fault", fault.number)

    def to_json(self, versions: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Return what plan.json holds; ``from_json`` makes an equal plan of it.

        The scenario and the seed are the plan; ``backends`` and ``versions`` are for the reader who
        wants to know later which settings and which software that was.
        """
        return {
            "format": FORMAT,
            "name": self.name,
            "seed": self.seed,
            "scenario": dict(self.scenario),
            "backends": {
                family.value: {
                    "name": choice.name,
                    "path": choice.path,
                    "settings": asdict(choice.settings),
                }
                for family, choice in self.backends.items()
            },
            "versions": dict(versions or {}),
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any], find: FindBackend = find_backend) -> "Plan":
        """Return the plan that ``to_json`` wrote; raise ConfigError when it is none.

        The backends must be installed. Settings that the scenario leaves out take the defaults of
        the installed version.
        """
        # A scenario is read into a plan, so its reader knows this class and not the reverse.
        from replication.plan.scenario import read_scenario

        if record.get("format") != FORMAT:
            raise ConfigError([f"plan.json: format is {record.get('format')!r}, expected {FORMAT}"])
        problems = [f"{key} is missing" for key in _RECORD_KEYS if key not in record]
        name, seed, tables = (record.get(key) for key in _RECORD_KEYS)
        if not problems and not isinstance(tables, dict):
            problems.append("scenario is no table")
        if not problems and not (isinstance(seed, int) and seed >= 0):
            problems.append(f"seed is {seed!r}, expected a whole number from 0")
        if problems or not isinstance(tables, dict) or not isinstance(seed, int):
            raise ConfigError([f"plan.json: {problem}" for problem in problems])
        scenario = read_scenario(record["scenario"], str(name), "plan.json", find=find)
        return replace(scenario.plan, seed=seed)


def _without_reads_before(operations: Iterator[PlannedOperation]) -> Iterator[PlannedOperation]:
    """Yield each update in the place of the read that it was to be built upon."""
    read: PlannedOperation | None = None
    for operation in operations:
        if operation.update is None:
            if read is not None:
                yield read
            read = operation
        else:
            assert read is not None, "an update follows a read (UpdateWorkload)"
            yield replace(operation, due_ns=read.due_ns, applied=True, with_context=False)
            read = None
    if read is not None:
        yield read
