"""Clusters that outlive the command that started them: ``up``, ``down`` and ``status``.

A detached cluster lives in a folder of its own, usually ``runs/up/NAME``:

    spec.json       what was asked for; the nodes' data belong to it
    cluster.json    where the cluster is, while it is up; readable by its owner alone (the secret)
    supervisor.log  what the owning process has to say
    n1/ n2/ ...     the nodes

The supervisor owns the nodes as a runner does: when it is killed, they end. A ``cluster.json``
whose supervisor is gone is stale: it is recognised by process id and start time, never trusted, and
removed by the next ``up`` or ``down``.
"""

import contextlib
import json
import os
import secrets
import select
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from replication.cluster.launcher import ClusterSpec
from replication.cluster.process import NodeFailed, process_state
from replication.cluster.zygote import child_environment
from replication.errors import ConfigError
from replication.host.settings import build_settings
from replication.plan.model import BackendChoice
from replication.protocol import Family, NodeId, load_backend

SPEC_FILE = "spec.json"
STATE_FILE = "cluster.json"
LOG_FILE = "supervisor.log"
UP_LINE = b"UP\n"
UP_TIMEOUT_S = 40.0
DOWN_TIMEOUT_S = 5.0
POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class Detached:
    """A detached cluster as its state file tells of it."""

    name: str
    folder: Path
    family: Family
    backend: str  # as it was given: "raft"
    endpoints: Mapping[NodeId, str]
    secret: str  # for ``control.Control``
    supervisor_pid: int
    supervisor_started: int  # in ticks since boot: a process id may be used again, not both
    pids: Mapping[NodeId, int]  # of the nodes that run
    starts: int = 0  # how often the nodes that were down have been started again

    @property
    def alive(self) -> bool:
        """Whether the supervisor runs, and is not another process with its number."""
        return (
            process_state(self.supervisor_pid) not in "XZ"
            and start_ticks(self.supervisor_pid) == self.supervisor_started
        )

    def write(self) -> None:
        """Write the state file, all of it or nothing."""
        record = {**asdict(self), "folder": str(self.folder), "family": self.family.value}
        path = self.folder / STATE_FILE
        fresh = path.with_suffix(f".{secrets.token_hex(4)}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w") as stream:
            json.dump(record, stream, indent=2)
        fresh.rename(path)


def up(name: str, spec: ClusterSpec) -> Detached:
    """Start a cluster that stays; return when it serves. ``spec.folder`` is its folder.

    Nodes find what an earlier cluster of the same name and kind has stored. Raises ConfigError when
    that one is still up or was of another kind, NodeFailed when it does not start.
    """
    folder = spec.folder.resolve()
    known = read_state(folder)
    if known is not None and known.alive:
        raise ConfigError([f"{name} is up already, as {known.backend}; stop it first"])
    folder.mkdir(parents=True, exist_ok=True)
    _claim(folder, name, spec)
    (folder / STATE_FILE).unlink(missing_ok=True)
    _start_supervisor(name, folder)
    state = read_state(folder)
    if state is None:
        raise NodeFailed("", f"{name} is gone again; see {folder / LOG_FILE}")
    return state


def down(state: Detached) -> bool:
    """Stop a cluster and wait until it is gone; False when it was gone already (a stale file)."""
    was_alive = state.alive
    if was_alive:
        os.kill(state.supervisor_pid, signal.SIGTERM)
        if not _gone(state, DOWN_TIMEOUT_S):
            # Its nodes go with it: the kernel sees to that.
            os.kill(state.supervisor_pid, signal.SIGKILL)
            _gone(state, DOWN_TIMEOUT_S)
    (state.folder / STATE_FILE).unlink(missing_ok=True)
    return was_alive


def read_state(folder: Path) -> Detached | None:
    """Return the cluster in ``folder``, alive or stale; None when there is no state file.

    Raises ConfigError when the file is not one of ours.
    """
    path = folder / STATE_FILE
    try:
        record = json.loads(path.read_text())
        record["folder"] = Path(record["folder"])
        record["family"] = Family(record["family"])
        return Detached(**record)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError([f"{path}: {error}"]) from None


def list_states(root: Path) -> Iterator[Detached]:
    """Yield the clusters whose folders lie in ``root``, in order of name."""
    for path in sorted(root.glob(f"*/{STATE_FILE}")):
        state = read_state(path.parent)
        if state is not None:
            yield state


def read_spec(folder: Path) -> ClusterSpec:
    """Return what is to be started in ``folder``; raise ConfigError when it cannot be read."""
    path = folder / SPEC_FILE
    try:
        record = json.loads(path.read_text())
        backend = load_backend(record["backend"]["path"])
        settings = build_settings(backend, record["backend"]["settings"], len(record["nodes"]))
        return ClusterSpec(
            nodes=tuple(record["nodes"]),
            backend=BackendChoice(record["backend"]["name"], record["backend"]["path"], settings),
            family=Family(record["family"]),
            folder=folder,
            sync=record["sync"],
            seed=record["seed"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError([f"{path}: {error}"]) from None


def start_ticks(pid: int) -> int | None:
    """Return when a process was started, in clock ticks since boot; None when it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The 22nd field (proc(5)); the second one, in parentheses, may hold anything.
    return int(stat.rpartition(")")[2].split()[19])


def _claim(folder: Path, name: str, spec: ClusterSpec) -> None:
    """Write down what lives here, unless something else does."""
    record: dict[str, Any] = {
        "name": name,
        "family": spec.family.value,
        "backend": asdict(spec.backend),
        "nodes": list(spec.nodes),
        "sync": spec.sync,
        "seed": spec.seed,
    }
    path = folder / SPEC_FILE
    if path.exists():
        before = read_spec(folder)
        if (before.backend.path, before.nodes) != (spec.backend.path, spec.nodes):
            kind = f"{before.backend.name} of {len(before.nodes)} nodes"
            raise ConfigError(
                [f"{folder} holds the data of a cluster of {kind}; remove it or take another name"]
            )
    path.write_text(json.dumps(record, indent=2) + "\n")


def _start_supervisor(name: str, folder: Path) -> None:
    """Start the supervisor and wait for its word that the cluster serves."""
    log = folder / LOG_FILE
    reader, writer = os.pipe()
    try:
        # Not subprocess.Popen, which wants to see the end of what it has started.
        os.posix_spawn(
            sys.executable,
            [sys.executable, "-m", "replication.cluster.supervisor", name, str(folder)],
            dict(child_environment()),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, writer, 1),
                (os.POSIX_SPAWN_OPEN, 2, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            ],
            setsid=True,
        )
    finally:
        os.close(writer)
    with open(reader, "rb", buffering=0) as said:
        ready, _, _ = select.select([said], [], [], UP_TIMEOUT_S)
        if ready and said.read(len(UP_LINE)) == UP_LINE:
            return
    tail = "".join(f"\n    {line}" for line in log.read_text().splitlines()[-5:])
    raise NodeFailed("", f"{name} did not start; see {log}{tail}")


def _gone(state: Detached, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while state.alive:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(state.supervisor_pid, os.WNOHANG)  # when we are the ones who started it
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_S)
    return True
