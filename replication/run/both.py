"""Both sides of a comparison, one after the other, with the same operations and the same faults."""

from collections.abc import Sequence
from pathlib import Path

from replication.history import History
from replication.history_files import write_history
from replication.plan.plan import Plan
from replication.protocol import Family
from replication.run.execute import Tell, execute

ORDER = (Family.LEADER, Family.LEADERLESS)


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
