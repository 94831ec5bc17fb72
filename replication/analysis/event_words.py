"""What node events say, in words: one sentence for each kind, for lanes and tooltips."""

from typing import Any

from replication.analysis import words
from replication.history import NodeEvent

_DOTS_MAX = 6


def told(event: NodeEvent) -> str:
    """Return what the node told, without its name; an event that nobody put in words by its name.

    Every renderer shortens, so the beginning carries the message.
    """
    fields = event.fields
    match event.name:
        case "role_changed":
            leader, role = fields.get("leader"), str(fields.get("role", "")).replace("_", "-")
            follows = f", following {leader}" if leader not in (None, "", event.node) else ""
            return f"{role} in term {fields.get('term')}{follows}"
        case "election_started":
            silence = words.milliseconds(int(fields.get("silence_ns") or 0))
            asks = "asks for pre-votes" if fields.get("pre_vote") else "stands"
            return f"{asks} for term {fields.get('term')} after {silence} of silence"
        case "vote_cast":
            vote = "pre-vote" if fields.get("pre_vote") else "vote"
            verb = "grants its" if fields.get("granted") else "refuses its"
            return f"{verb} {vote} for term {fields.get('term')} to {fields.get('candidate')}"
        case "log_truncated":
            entries = int(fields.get("entries") or 0)
            dropped = words.plural(entries, "log entry", "log entries")
            told = [each.get("write_id") for each in fields.get("acknowledged", ())]
            lost = f", acknowledged ones among them: {words.listed(told)}" if told else ""
            return f"drops {dropped} from index {fields.get('from_index')} on{lost}"
        case "replication_changed":
            lag = words.milliseconds(int(fields.get("lag_ns") or 0))
            return (
                f"finds {fields.get('standby')} {fields.get('state')}, "
                f"{words.plural(int(fields.get('lag_entries') or 0), 'record')} and {lag} behind"
            )
        case "acknowledgement_changed":
            count = int(fields.get("standbys") or 0)
            waits = f"waits for {words.plural(count, 'standby')}" if count else "acknowledges alone"
            return f"{waits} from here on: {fields.get('reason')}"
        case "peer_suspected":
            return f"suspects {fields.get('peer')}"
        case "peer_trusted":
            return f"trusts {fields.get('peer')} again"
        case "siblings_created":
            return f"holds siblings {versions(fields.get('versions', ()))}"
        case "siblings_resolved":
            dropped = versions(fields.get("dropped", ()))
            return f"{fields.get('resolved_by')} replaces {dropped}"
        case "version_dropped":
            loser, winner = fields.get("dropped") or {}, fields.get("winner") or {}
            return f"drops {loser.get('write_id')} for {winner.get('write_id')}"
        case "read_repaired":
            lacked = words.listed([str(each) for each in fields.get("write_ids", ())] or ["?"])
            return f"repairs {fields.get('replica')}, which lacked {lacked}"
        case "hint_stored":
            stand_in = "as a stand-in " if fields.get("stand_in") else ""
            return f"keeps a hint {stand_in}for {fields.get('target')}"
        case "hints_delivered":
            hints = words.plural(int(fields.get("hints") or 0), "hint")
            return f"delivers {hints} to {fields.get('target')}"
        case "hint_expired":
            return f"gives up a hint for {fields.get('target')}"
        case "delete_undone":
            return f"takes a deleted version back: {versions([fields.get('version') or {}])}"
        case "lease_changed":
            kept = "holds" if fields.get("held") else "loses"
            reason = f" ({fields['reason']})" if fields.get("reason") else ""
            return f"{kept} the lease of term {fields.get('term')}{reason}"
        case "node_started":
            return "starts"
        case "node_stopping":
            return f"stops: {fields.get('reason')}"
    plain = ", ".join(f"{name} {value}" for name, value in fields.items() if _is_plain(value))
    return f"{event.name.replace('_', ' ')}" + (f": {plain}" if plain else "")


def versions(tellings: list[dict[str, Any]]) -> str:
    """Return the names of versions as an event tells them: write ids with their dots."""
    names = [
        f"{each.get('write_id')}" + (f" ({each['dot']})" if each.get("dot") else "")
        for each in tellings
    ]
    return words.listed(names) if names else "nothing"


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float) and value != "" and value is not False
