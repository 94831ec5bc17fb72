"""Both sides of a comparison, one after the other, with the same operations and the same faults."""

from collections.abc import Sequence
from pathlib import Path

from replication.errors import ConfigError
from replication.history import History
from replication.history_files import write_history
from replication.plan.plan import Plan
from replication.plan.schema import NODES_MAX, PROCESSES_MAX
from replication.protocol import Family
from replication.run.execute import Tell, execute

ORDER = (Family.LEADER, Family.LEADERLESS)


def refuse(plan: Plan) -> None:
    """Raise ConfigError if there are more nodes than can be processes of one machine."""
    if len(plan.nodes) > PROCESSES_MAX:
        raise ConfigError(
            [
                f"{plan.name}: {len(plan.nodes):,} nodes are too many processes, expected at most "
                f"{PROCESSES_MAX}; replication simulate has room for {NODES_MAX:,}"
            ]
        )


async def execute_both(
    plan: Plan, folder: Path, tell: Tell | None = None, families: Sequence[Family] = ORDER
) -> dict[Family, History]:
    """Run the leader side, then the leaderless side; return the history of each that was begun.

    What the faults of the first side were resolved to, nodes and times, is what the second side
    gets, unless the scenario names a target for each (design §7). A side that broke or was
    interrupted is the last one. Each side lives in ``folder/FAMILY``; its history is written there
    as soon as it has ended.
    """
    histories: dict[Family, History] = {}
    earlier = None
    for family in families:
        side = folder / family.value
        execution = await execute(plan, family, side, earlier, tell)
        history = histories[family] = execution.history
        write_history(history, side)
        if history.interrupted or history.problems:
            break
        earlier = execution.resolved
    return histories
