"""What the nodes did to make replicas equal: read repairs, hints, comparisons of trees.

From the counters that every node gives with its status, summed over the nodes, and from events
where a node tells more than it counts. A name that no backend of this run uses is left out, so a
dash in the report means "not counted" and 0 means "never happened".
"""

from collections.abc import Iterable

from replication.analysis.view import View
from replication.history import NodeEvent

# Counters that are told, in this order, by the names that the backends give them.
_COUNTERS = (
    "stand_ins_asked",
    "digest_reads",
    "digest_mismatches",
    "read_bytes",
    "hedged_reads",
    "hedges_won",
    "blocking_repairs",
    "read_repairs_sent",
    "read_repairs_shed",
    "hints_stored",
    "hints_delivered",
    "hints_expired",
    "hints_refused",
    "hint_bytes",
    "tombstones_purged",
    "deletes_undone",
    "merkle_exchanges",
    "merkle_ranges_compared",
    "merkle_ranges_differing",
    "merkle_keys_differing",
    "merkle_keys_synced",
    "merkle_bytes_sent",
    "merkle_bytes_differing",
    "false_suspicions",
    "stale_rings_refused",
    "transfer_keys",
    "transfer_bytes",
    "ballots_lost",
    "proposals_recovered",
)


def repairs(view: View) -> dict[str, int]:
    """Return counter -> its sum over all nodes, as far as this backend counts it.

    A node that was killed counts anew, so what it had counted before is missing.
    """
    found: dict[str, int] = {}
    for name in _COUNTERS:
        values = [counts[name] for counts in view.history.counters.values() if name in counts]
        if values:
            found[name] = sum(values)
    if "false_suspicions" in found:
        found["taken_for_dead"] = sum(each.name == "peer_suspected" for each in view.history.events)
    healed = sum(_healed(view.history.events))
    if healed or "read_repairs_sent" in found:
        found["versions_healed"] = healed
    return found


def _healed(events: Iterable[NodeEvent]) -> Iterable[int]:
    return (len(event.fields.get("write_ids", ())) for event in events
            if event.name == "read_repaired")  # fmt: skip
