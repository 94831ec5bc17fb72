"""What reports call the measures that scenarios judge."""

import re

# Without the unit at the end of the path.
_MEASURES = {
    "availability.reads.ok_share": "share of reads acknowledged",
    "availability.reads.longest_outage": "longest time without an acknowledged read",
    "availability.writes.fail": "number of failed writes",
    "availability.writes.ok_share": "share of writes acknowledged",
    "availability.writes.longest_outage": "longest time without an acknowledged write",
    "conflicts.failed_visible": "number of failed writes that became visible",
    "conflicts.repairs.deletes_undone": "number of deletes undone",
    "conflicts.repairs.merkle_keys_synced": "number of keys brought up to date by Merkle trees",
    "conflicts.repairs.taken_for_dead": "number of times that a node was taken for dead",
    "conflicts.sibling_count_max": "most siblings of one key",
    "conflicts.sibling_sets": "number of sibling sets made",
    "conflicts.unknown_visible": "number of unknown writes that took effect",
    "convergence.after_heal": "time from healing to equal replicas",
    "convergence.differing_at_end.count": "number of keys whose replicas differ at the end",
    "convergence.keys": "number of keys whose replicas were compared",
    "failovers.*.elections": "number of elections",
    "failovers.*.read_outage": "read outage",
    "failovers.*.old_leader_returned_after": "time until the old leader was a follower",
    "failovers.*.truncated_acknowledged": "number of acknowledged log entries dropped",
    "failovers.*.truncated_entries": "number of log entries dropped by a returning leader",
    "failovers.*.write_outage": "write outage",
    "failovers.count": "number of failovers",
    "findings.durability.counts.lost": "number of acknowledged writes lost",
    "gossip.count": "number of pieces of news that went round by gossip",
    "gossip.push_pull_ratio": "rounds of gossip until all knew, over those of push-pull",
    "gossip.unheard": "number of pieces of news that did not reach all",
    "handoffs.*.during.p90": "90th percentile of the latency while hints are delivered",
    "handoffs.*.refused_count": "number of hints refused for a node that was away",
    "leadership.changes": "number of changes of the leader",
    "leadership.elections": "number of elections",
    "leadership.needless": "number of needless elections",
    "leadership.pre_votes": "number of rounds of pre-votes",
    "leadership.split_votes": "number of split votes",
    "leadership.terms": "number of terms burnt",
    "leases.count": "number of leases that leaders held",
    "member_changes.*.during.p90": "90th percentile of the latency while members change",
    "member_changes.*.duration": "time until the members had changed",
    "operations.unknown": "number of operations of unknown outcome",
    "reads.p50": "median latency of reads",
    "reads.p99": "99th percentile of the latency of reads",
    "snapshots.*.bytes": "bytes of the snapshot that was installed",
    "snapshots.*.duration": "time that the install of a snapshot took",
    "snapshots.*.during.p99": "99th percentile of the latency while a snapshot is installed",
    "snapshots.count": "number of snapshots installed",
    "split_brains.*.lost_count": "number of acknowledged writes lost in a split brain",
    "split_brains.count": "number of times that two leaders acknowledged writes at once",
    "staleness.stale": "number of stale reads",
    "writes.p50": "median latency of writes",
    "writes.p99": "99th percentile of the latency of writes",
}


def measure_words(measure: str) -> str:
    """Return how reports call a measure; its path if it is none of those that scenarios judge."""
    path = measure.removesuffix("_ns").removesuffix("_ms")
    listed = re.fullmatch(r"(\w+)\.(-1|[0-9]+)\.([\w.]+)", path)
    if listed is None:
        return _MEASURES.get(path, measure)
    group, position, name = listed.groups()
    words = _MEASURES.get(f"{group}.*.{name}", measure)
    if words == measure or position == "0":
        return words
    one = group.replace("_", " ").removesuffix("s")
    return f"{words} (last {one})" if position == "-1" else f"{words} ({one} {int(position) + 1})"
