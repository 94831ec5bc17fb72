"""Who was what and when: from role events and faults."""

from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise

from replication.analysis.findings import RolePeriod
from replication.analysis.view import View
from replication.history import FaultRecord

DOWN = "down"
PAUSED = "paused"
DISABLING = ("restart", "pause", "partition")  # besides whatever takes nodes down
_SHOWN_AS = {"pre_candidate": "candidate", "learner": "follower", "unspecified": "follower"}


@dataclass(slots=True)
class Turn:
    """From ``at_ns`` on a node is ``role`` in ``term``, as it says itself."""

    at_ns: int
    role: str
    term: int
    leader: str = ""  # as far as the node knows


@dataclass(slots=True)
class Roles:
    """The turns of every node in order of time; a dead node is ``down``."""

    turns: dict[str, list[Turn]]

    def at(self, node: str, at_ns: int) -> Turn | None:
        """Return what ``node`` was at a moment, None before it told anything."""
        turns = self.turns.get(node, [])
        index = bisect_right(turns, at_ns, key=lambda turn: turn.at_ns)
        return turns[index - 1] if index else None

    def leader_at(self, at_ns: int) -> tuple[str, int] | None:
        """Return the living leader of the highest term and that term, paused or not."""
        claims = [
            (turn.term, node)
            for node in self.turns
            if (turn := self.at(node, at_ns)) and turn.role == "leader"
        ]
        if not claims:
            return None
        term, node = max(claims)
        return node, term

    def elected_after(self, at_ns: int, above_term: int) -> tuple[str, Turn] | None:
        """Return the first turn to leader of a term above ``above_term``, and whose it was."""
        found = [
            (turn.at_ns, node, turn)
            for node, turns in self.turns.items()
            for turn in turns
            if turn.role == "leader" and turn.term > above_term and turn.at_ns > at_ns
        ]
        if not found:
            return None
        _, node, turn = min(found, key=lambda each: each[:2])
        return node, turn


def window_end_ns(view: View, fault: FaultRecord) -> int:
    """Return when the fault was over: healed, or when everything was."""
    return view.history.heal_ns if fault.healed_ns is None else fault.healed_ns


def nodes_on_sides(view: View, fault: FaultRecord) -> set[str]:
    """Return whom a partition divides; a spare or a bridge may be on no side of it."""
    return {node for node in view.history.nodes if any(node in side for side in fault.sides)}


def disables(fault: FaultRecord) -> bool:
    """Return whether nodes under the fault cannot do their work, however well they are."""
    return fault.takes_down or fault.kind in DISABLING


def struck_nodes(view: View, fault: FaultRecord) -> list[str]:
    """Return the nodes that cannot go on as before: of a partition, those without a majority.

    All of them, on a side with leaders, when the fault leaves no majority to anybody.
    """
    if view.history.family == "leader" and _takes_the_majority(view, fault):
        return list(view.history.nodes)
    return _hit(view, fault)


def _takes_the_majority(view: View, fault: FaultRecord) -> bool:
    """Return whether there was a majority of nodes before the fault, and none with it."""
    if not disables(fault) or fault.injected_ns is None:
        return False
    gone: set[str] = set()
    for other in view.history.faults:
        if (
            other is not fault
            and disables(other)
            and not other.momentary
            and other.injected_ns is not None
            and other.injected_ns <= fault.injected_ns < window_end_ns(view, other)
        ):
            gone.update(_hit(view, other))
    size = len(view.history.nodes)
    both = gone.union(_hit(view, fault))
    return 2 * (size - len(gone)) > size >= 2 * (size - len(both))


def _hit(view: View, fault: FaultRecord) -> list[str]:
    if not fault.sides:
        return fault.nodes
    nodes = nodes_on_sides(view, fault)
    apart = [set(side) & nodes for side in fault.sides]
    kept = [side for side in apart if 2 * len(side) > len(nodes)]
    return [node for node in sorted(nodes) if not any(node in side for side in kept)]


def roles(view: View) -> Roles:
    """Return the turns of every node; call through ``View.once``."""
    history = view.history
    turns: dict[str, list[Turn]] = {node: [] for node in history.nodes}
    for event in history.events:
        fields = event.fields
        mine = turns.setdefault(event.node, [])
        match event.name:
            case "role_changed":
                role, term = str(fields.get("role", "")), int(fields.get("term") or 0)
                mine.append(Turn(event.time_ns, role, term, str(fields.get("leader") or "")))
            case "node_started":
                mine.append(Turn(event.time_ns, _role_at_start(view), 0))
            case "node_stopping":
                mine.append(Turn(event.time_ns, DOWN, 0))
    for fault in history.faults:
        stops = fault.takes_down or fault.kind == "restart"
        if stops and fault.injected_ns is not None:
            for node in fault.nodes:
                turns.setdefault(node, []).append(Turn(fault.injected_ns, DOWN, 0))
    for mine in turns.values():
        mine.sort(key=lambda turn: turn.at_ns)
        _remember_terms(mine)
    return Roles(turns)


def _role_at_start(view: View) -> str:
    return "follower" if view.history.family == "leader" else "replica"


def _remember_terms(turns: list[Turn]) -> None:
    """A node that stops or starts has told no term: it is still in the one it was in."""
    term = 0
    for turn in turns:
        if turn.term == 0:
            turn.term = term
        term = turn.term


def role_periods(view: View) -> list[RolePeriod]:
    """Return the strip of every node, from the start of the load to the end of settling."""
    history = view.history
    start_ns, end_ns = history.load_start_ns, max(history.settle_end_ns, history.load_end_ns)
    found: list[RolePeriod] = []
    for node in history.nodes:
        strip = _strip(view, node, start_ns, end_ns)
        for fault in history.faults:
            if fault.kind == "pause" and node in fault.nodes and fault.injected_ns is not None:
                strip = _overlaid(strip, fault.injected_ns, window_end_ns(view, fault))
        found += _joined(strip)
    return found


def _strip(view: View, node: str, start_ns: int, end_ns: int) -> list[RolePeriod]:
    turns = view.once(roles).turns.get(node, [])
    role = DOWN if _comes_later(view, turns) else _role_at_start(view)
    current = view.once(roles).at(node, start_ns) or Turn(start_ns, role, 0)
    strip: list[RolePeriod] = []
    begin = start_ns
    for turn in turns:
        if start_ns < turn.at_ns < end_ns:
            strip.append(_period(node, begin, turn.at_ns, current))
            begin, current = turn.at_ns, turn
    strip.append(_period(node, begin, end_ns, current))
    return strip


def _comes_later(view: View, turns: list[Turn]) -> bool:
    """Whether these are of a spare, of which nothing was heard before somebody called for one."""
    called = [
        fault.injected_ns
        for fault in view.history.faults
        if fault.kind in ("join", "replace") and fault.injected_ns is not None
    ]
    return bool(called and turns) and min(called) < turns[0].at_ns


def _period(node: str, start_ns: int, end_ns: int, turn: Turn) -> RolePeriod:
    return RolePeriod(node, start_ns, end_ns, _SHOWN_AS.get(turn.role, turn.role), turn.term)


def _overlaid(strip: list[RolePeriod], start_ns: int, end_ns: int) -> list[RolePeriod]:
    """Return the strip with PAUSED between the two moments; the role before comes back after."""
    found: list[RolePeriod] = []
    for each in strip:
        cuts = sorted(
            {
                each.start_ns,
                each.end_ns,
                *(at for at in (start_ns, end_ns) if each.start_ns < at < each.end_ns),
            }
        )
        for begin, end in pairwise(cuts):
            paused = start_ns <= begin and end <= end_ns
            found.append(
                RolePeriod(each.node, begin, end, PAUSED if paused else each.role, each.term)
            )
    return found


def _joined(strip: list[RolePeriod]) -> list[RolePeriod]:
    """Join neighbours that are the same, and drop those without a duration."""
    found: list[RolePeriod] = []
    for each in strip:
        if each.end_ns <= each.start_ns:
            continue
        if found and (found[-1].role, found[-1].term) == (each.role, each.term):
            found[-1].end_ns = each.end_ns
        else:
            found.append(each)
    return found
