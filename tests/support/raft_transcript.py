"""Writes down what the nodes of a ``Cluster`` say and tell, to be compared with a recorded file."""

from pathlib import Path

from leader.v1 import raft_pb2
from replication.errors import OperationError
from replication.protocol import Effect, NodeId, Observe, Persist, Put, Reply, Send
from replication.v1 import control_pb2, event_pb2, storage_pb2
from tests.support.raft_cluster import MS, SECOND, Cluster, Envelope

FOLDER = Path(__file__).resolve().parents[1] / "transcripts"

# The details of these say nothing of the story, or are told by what follows.
SILENT_EVENTS = frozenset(("vote_cast",))


class Transcript(Cluster):
    """A cluster that writes down every delivery and what came of it."""

    lines: list[str]

    def say(self, text: str) -> None:
        """Begin a part of the story."""
        self.lines += ["", f"# {text}"]

    def receive(
        self, node: NodeId, sender: NodeId, message: raft_pb2.RaftMessage, flush: bool = True
    ) -> None:
        self._note(f"{sender} -> {node}  {message_words(message)}")
        super().receive(node, sender, message, flush)

    def deliver_all(self, lost: set[NodeId] | None = None) -> None:
        """Deliver until nothing is in flight; what is for or from ``lost`` nodes is lost."""
        away = lost or set()

        def drop(each: Envelope) -> bool:
            if each.sender not in away and each.to not in away:
                return False
            self._note(f"{each.sender} -x {each.to}  {message_words(each.message)}")
            return True

        self.settle(drop)

    def _note(self, text: str) -> None:
        if not hasattr(self, "lines"):
            self.lines = []
        self.lines.append(f"{(self.now_ns - SECOND) // MS:6} ms  {text}")

    def _perform(self, node: NodeId, effects: list[Effect]) -> None:
        for effect in effects:
            words = effect_words(effect)
            if words:
                self._note(f"    {node}  {words}")
        super()._perform(node, effects)


def compare(name: str, transcript: Transcript, rerecord: bool) -> None:
    """Compare with the recorded file, or record it anew."""
    text = "\n".join(transcript.lines).strip() + "\n"
    path = FOLDER / f"{name}.txt"
    if rerecord:
        FOLDER.mkdir(exist_ok=True)
        path.write_text(text)
    assert path.exists(), f"{path.name} was never recorded: pytest --rerecord"
    assert text == path.read_text(), "look at the difference, then record it: pytest --rerecord"


def message_words(message: raft_pb2.RaftMessage) -> str:
    """Return a message in one line: its term and what it is about."""
    kind = message.WhichOneof("kind") or "nothing"
    body = getattr(message, kind)
    words = f"t{message.term} {kind}"
    if isinstance(body, raft_pb2.AppendEntries):
        entries = " ".join(entry_words(data) for data in body.entries) or "heartbeat"
        before = f"after {body.prev_log_index}/t{body.prev_log_term}"
        return f"{words} {before} [{entries}] commit {body.commit_index} round {body.round}"
    if isinstance(body, raft_pb2.AppendEntriesResult):
        if body.success:
            return f"{words} ok up to {body.match_index} round {body.round}"
        return f"{words} no, at most {body.hint_index}/t{body.hint_term} round {body.round}"
    if isinstance(body, raft_pb2.RequestVote):
        pre = "pre-vote " if body.pre_vote else ""
        why = ", asked by the leader" if body.transfer else ""
        last = f"log ends {body.last_log_index}/t{body.last_log_term}"
        return f"{words} {pre}for t{body.campaign_term}, {last}{why}"
    if isinstance(body, raft_pb2.RequestVoteResult):
        pre = "pre-vote " if body.pre_vote else ""
        return f"{words} {pre}for t{body.campaign_term}: {'yes' if body.granted else 'no'}"
    if isinstance(body, raft_pb2.InstallSnapshot):
        what = "chunk" if body.HasField("data") else "asks: how many of"
        count = f"{body.position}/{body.snapshot.chunks}"
        return f"{words} at {body.snapshot.index}/t{body.snapshot.term} {what} {count}"
    if isinstance(body, raft_pb2.InstallSnapshotResult):
        return f"{words} at {body.index}: has {body.received}"
    if isinstance(body, raft_pb2.ReadIndexResult):
        return f"{words} {body.index}"
    return words


def entry_words(data: bytes) -> str:
    """Return an entry in a word or two."""
    entry = raft_pb2.Entry.FromString(data)
    kind = entry.WhichOneof("command")
    if kind is None:
        return f"no-op/t{entry.term}"
    if kind == "configuration":
        return f"{configuration_words(entry.configuration)}/t{entry.term}"
    return f"{kind} {getattr(entry, kind).key}/t{entry.term}"


def configuration_words(
    each: raft_pb2.Configuration | event_pb2.ConfigurationChanged,
) -> str:
    joint = f" with {','.join(each.outgoing)}" if each.outgoing else ""
    learners = f" learners {','.join(each.learners)}" if each.learners else ""
    return f"voters {','.join(each.voters)}{joint}{learners}"


def effect_words(effect: Effect) -> str:
    """Return what a node writes, answers or tells; nothing for what it sends: that is delivered."""
    match effect:
        case Persist(writes):
            parts = []
            for write in writes:
                what = "puts" if isinstance(write, Put) else "erases"
                key = write.key if isinstance(write, Put) else write.start
                parts.append(f"{what} {write.space}:{key_words(key)}")
            return "disk: " + ", ".join(parts)
        case Reply(request_id, result):
            return f"answers request {request_id}: {result_words(result)}"
        case Observe(event):
            kind = event.WhichOneof("kind") or ""
            if kind in SILENT_EVENTS:
                return ""
            if kind == "configuration_changed":
                changed = event.configuration_changed
                state = "committed" if changed.committed else "in force"
                return f"tells {state}: {configuration_words(changed)}"
            fields = str(getattr(event, kind)).replace("\n", " ").strip()
            return f"tells {kind}: {fields}"
        case Send():
            return ""
    return ""


def key_words(key: bytes) -> str:
    """Return a key as text, or as the numbers that it holds."""
    if key[:1].isalpha():
        return key.decode()
    return (
        "/".join(str(int.from_bytes(part, "big")) for part in (key[:8], key[8:]) if part) or "all"
    )


def result_words(result: object) -> str:
    if isinstance(result, OperationError):
        return f"{result.reason} {result.message}"
    if isinstance(result, control_pb2.CommandResponse):
        return result.words
    if isinstance(result, storage_pb2.GetResponse):
        values = ", ".join(each.value.decode() for each in result.versions)
        return f"read {values or 'nothing'} at {result.served.log_index}"
    served = getattr(result, "served", None)
    assert isinstance(served, storage_pb2.Served)
    return f"ok at {served.log_index}"
