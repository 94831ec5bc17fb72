"""What happened in a simulation, in words and in order: for failures that were made small."""

from collections.abc import Iterator
from typing import Any

from replication.history import History, NodeEvent, Operation, OperationKind, Outcome, Phase
from replication.simulation.judging import Failure

Moment = tuple[int, str]

MS = 1_000_000


def story(history: History, failure: Failure | None) -> list[str]:
    """Return one line per moment, times in milliseconds after the start of the load."""
    start_ns = history.load_start_ns
    moments = [*_faults(history), *_events(history), *_operations(history)]
    lines = [
        f"{(time_ns - start_ns) / MS:10.1f} ms  {text}"
        for time_ns, text in sorted(moments, key=lambda moment: moment[0])
    ]
    if failure is not None:
        when = "" if failure.time_ns is None else f"{(failure.time_ns - start_ns) / MS:.1f} ms: "
        lines.append(f"{when}{failure.check} is broken. {failure.text}")
    return lines


def _faults(history: History) -> Iterator[Moment]:
    for fault in history.faults:
        evidence = "; ".join(fault.evidence)
        if fault.injected_ns is None:
            yield fault.planned_ns, f"fault {fault.number} was not injected: {fault.problem}"
            continue
        yield fault.injected_ns, f"fault {fault.number}: {fault.words} ({evidence})"
        if fault.healed_ns is not None and fault.healed_ns > fault.injected_ns:
            yield fault.healed_ns, f"fault {fault.number} is healed"


def _events(history: History) -> Iterator[Moment]:
    for event in history.events:
        text = _event_words(event)
        if text is not None:
            yield event.time_ns, f"{event.node} {text}"


def _event_words(event: NodeEvent) -> str | None:
    fields: dict[str, Any] = event.fields
    match event.name:
        case "node_started" if event.time_ns > 0:
            return f"starts with {fields['recovered_records']} records on its disk"
        case "role_changed" if fields["role"] == "leader":
            return f"becomes the leader of term {fields['term']}"
        case "election_started" if not fields["pre_vote"]:
            return f"stands for election in term {fields['term']}"
        case "vote_cast" if fields["granted"] and not fields["pre_vote"]:
            return f"votes for {fields['candidate']} in term {fields['term']}"
        case "log_truncated":
            dropped = ", ".join(fields["write_ids"]) or "no writes"
            return f"drops its log from index {fields['from_index']} on ({dropped})"
        case "snapshot_taken":
            return f"has a snapshot at index {fields['index']} ({fields['bytes']} bytes)"
        case "snapshot_installed":
            size = fields["bytes"]
            return f"installs a snapshot of {fields['sender']} at {fields['index']} ({size} bytes)"
        case "configuration_changed" if not fields["committed"]:
            members = ", ".join((*fields["voters"], *fields["learners"]))
            return f"goes by the configuration at index {fields['index']} ({members})"
        case "leadership_transfer":
            done = "gives up handing" if fields["given_up"] else "hands"
            return f"{done} its leadership of term {fields['term']} over to {fields['to']}"
        case "lease_changed" if not fields["held"]:
            return f"holds no lease any more in term {fields['term']}: {fields['reason']}"
        case "siblings_created":
            writes = ", ".join(version["write_id"] for version in fields["versions"])
            return f"keeps siblings of {fields['key']}: {writes}"
        case "siblings_resolved":
            writes = ", ".join(version["write_id"] for version in fields["dropped"])
            return f"lets {fields['resolved_by']} replace {writes} of {fields['key']}"
        case "version_dropped":
            dropped, winner = fields["dropped"]["write_id"], fields["winner"]["write_id"]
            return f"lets {winner} win over {dropped} of {fields['key']}"
        case "read_repaired":
            writes = ", ".join(fields["write_ids"])
            return f"repairs {fields['key']} at {fields['replica']}, which lacked {writes}"
        case "ring_changed":
            members, coming = ", ".join(fields["members"]), ", ".join(fields["next_members"])
            moving = f", which hand over to {coming}" if coming else ""
            return f"goes by ring {fields['epoch']} of {members}{moving}"
        case "partitions_moved":
            return f"has received {fields['partitions']} partitions with {fields['keys']} keys"
        case "writes_mixed":
            return f"warns: {fields['key']} is written both plainly and by compare-and-set"
        case "proposal_recovered":
            return f"completes {fields['write_id']} of {fields['key']}, which was left half done"
        case "suspicion_raised":
            return f"suspects {fields['peer']} on the word of {fields['by']}"
        case "suspicion_refuted":
            dead = "had been taken for dead" if fields["was_dead"] else "was suspected"
            false = ", falsely" if fields["same_life"] else ""
            return f"hears from {fields['peer']}, which {dead}{false}"
        case "incarnation_learned" if event.node == fields["peer"]:
            return f"hears that it is suspected, and lives in incarnation {fields['incarnation']}"
        case "replica_synced":
            writes = ", ".join(fields["write_ids"]) or "no writes"
            keys = ", ".join(fields["keys"])
            return f"is brought {keys} by anti-entropy with {fields['peer']}: it lacked {writes}"
    return _handoff_words(event.name, fields)


def _handoff_words(name: str, fields: dict[str, Any]) -> str | None:
    match name:
        case "hint_stored":
            how = "stands in for" if fields["stand_in"] else "keeps a hint for"
            return f"{how} {fields['target']}: {fields['key']}"
        case "hints_delivered":
            return f"hands {fields['hints']} hints over to {fields['target']}"
        case "hint_expired":
            return f"gives up the hint of {fields['key']} for {fields['target']}"
        case "hint_refused":
            return f"takes no hint of {fields['key']} for {fields['target']}: {fields['reason']}"
        case "siblings_excessive" if fields["refused"]:
            return f"refuses a write of {fields['key']}: it has {fields['siblings']} siblings"
        case "siblings_excessive":
            return f"warns that {fields['key']} has {fields['siblings']} siblings"
        case "tombstone_purged":
            return f"forgets the deleted {fields['key']}"
        case "delete_undone":
            return f"takes {fields['version']['write_id']} of the deleted {fields['key']} for new"
    return None


def _operations(history: History) -> Iterator[Moment]:
    for operation in history.operations:
        words = _asked(operation)
        if operation.complete_ns is None:
            yield operation.invoke_ns, f"{operation.client} asks to {words}; the run ends first"
            continue
        if operation.phase is Phase.FINAL and operation.outcome is Outcome.OK:
            yield operation.complete_ns, f"read back: {operation.key} holds {_seen(operation)}"
            continue
        yield operation.invoke_ns, f"{operation.client} asks to {words}"
        yield operation.complete_ns, f"{operation.client}: {_answered(operation)} ({words})"


def _asked(operation: Operation) -> str:
    name = "" if operation.write_id is None else f" ({operation.write_id})"
    based = f", having read {', '.join(operation.based_on)}" if operation.based_on else ""
    match operation.kind:
        case OperationKind.GET:
            level = f" at level {operation.consistency}" if operation.consistency else ""
            return f"get {operation.key}{level}"
        case OperationKind.DELETE:
            return f"delete {operation.key}{name}{based}"
        case OperationKind.COMPARE_AND_SET:
            expected = "nothing" if operation.expected is None else operation.expected
            return f"set {operation.key} from {expected} to {operation.value}{name}"
        case OperationKind.PUT:
            return f"put {operation.key}{name}{based}"


def _answered(operation: Operation) -> str:
    if operation.outcome is Outcome.OK:
        found = "" if operation.kind.is_write else f": {_seen(operation)}"
        by = f", counting {', '.join(operation.replicas)}" if operation.replicas else ""
        return f"ok from {operation.node}{by}{found}"
    return f"{operation.outcome.value} at {operation.node}: {operation.error}"


def _seen(operation: Operation) -> str:
    if not operation.seen:
        return "nothing"
    return " and ".join(
        f"{each.write_id}{' (deleted)' if each.tombstone else ''}" for each in operation.seen
    )
