"""What a node process is told, and what it says when it serves. Imports nothing heavy.

How a launcher starts a node
    ``python -m replication.host CONFIG.json``, where the file holds ``NodeConfig.to_json()``; or by
    asking a process that has imported everything already (``replication.host.zygote``).

    stdin   Unless ``orphan`` is true: a pipe whose other end only the launcher holds. Its end of
            file stops the node, and on Linux so does the death of the *thread* that started the
            process (PR_SET_PDEATHSIG): start nodes from a thread that lives as long as they should.
    stdout  One line once the node serves: ``READY n1 127.0.0.1:4001`` (see ``ready_line``).
            Nothing else is ever printed there.
    stderr  The node's log, one ``key=value`` line per transition. The launcher keeps it.

    The launcher may hold each port with a socket that is bound with SO_REUSEPORT and never listens:
    the node binds beside it, and connections are refused while the node is down.

How it ends
    SIGTERM: refuses new operations, finishes those in flight for at most 300 ms, syncs its store,
    exits with 0 within half a second. The other exit codes are the ``EXIT_`` constants.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from replication.errors import ConfigError

EXIT_OK = 0
EXIT_CONFIG = 2  # the configuration is wrong, or the address or the folder is taken
EXIT_BUG = 70  # an exception out of the core or the host: the traceback is in the log
EXIT_SYSTEM = 71  # the operating system refused a write or a sync of the store
EXIT_DATA_LOSS = 74  # the store is corrupt: the log says DATA_LOSS

SECRET_METADATA = "replication-secret"

# The largest message on any connection. Clients need it too: siblings of 1 MiB each exceed gRPC's
# own limit of 4 MiB.
MESSAGE_BYTES_MAX = 32 * 1024 * 1024

CONFIG_FILE = "config.json"
STORE_FILE = "store.log"
EVENTS_FILE = "events.jsonl"

ZYGOTE_MESSAGE_MAX = 256  # bytes of what a launcher and a zygote say at once

SYNC_ALWAYS = "always"  # a write is synced to disk before anything that depends on it leaves
SYNC_OFF = "off"  # it is only handed to the operating system: survives kill -9, not power loss

_READY = "READY"


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """One node of one cluster."""

    node: str
    addresses: Mapping[str, str]  # host:port of every node, this one and spares included
    backend: str  # package.module:attribute; a registered name would cost a scan at start-up
    folder: str  # exists; holds the store and the events of this node and nobody else
    secret: str  # demanded by ControlService and PeerService
    settings: Mapping[str, Any] = field(default_factory=dict)  # of the backend, resolved
    sync: str = SYNC_ALWAYS
    seed: int = 0
    bind: str = ""  # host:port to listen on when it differs from the node's address
    orphan: bool = False  # outlive the launcher
    spares: list[str] = field(default_factory=list)  # the nodes that are no members at the start
    stamps: bool = False  # measure how long messages are on their way (``stamps``)

    @property
    def members(self) -> tuple[str, ...]:
        """Return the members at the start, in order of name."""
        return tuple(sorted(name for name in self.addresses if name not in self.spares))

    @property
    def address(self) -> str:
        """Return where peers and clients find this node."""
        return self.addresses[self.node]

    @property
    def peers(self) -> tuple[str, ...]:
        """Return all other nodes, in order of name."""
        return tuple(sorted(name for name in self.addresses if name != self.node))

    def to_json(self) -> str:
        """Return the text of the configuration file."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "NodeConfig":
        """Parse and check a configuration file; raise ConfigError with all that is wrong."""
        try:
            values = json.loads(text)
        except ValueError as error:
            raise ConfigError([f"not JSON: {error}"]) from None
        if not isinstance(values, dict):
            raise ConfigError([f"expected an object, got {type(values).__name__}"])
        problems = list(_problems(values))
        if problems:
            raise ConfigError(problems)
        return cls(**values)


_TYPES: Mapping[str, type] = {
    "node": str,
    "addresses": dict,
    "backend": str,
    "folder": str,
    "secret": str,
    "settings": dict,
    "sync": str,
    "seed": int,
    "bind": str,
    "orphan": bool,
    "spares": list,
    "stamps": bool,
}


def _problems(values: Mapping[str, Any]) -> list[str]:
    known = {each.name for each in fields(NodeConfig)}
    required = ("node", "addresses", "backend", "folder", "secret")
    problems = [f"{name} is not a setting of a node" for name in sorted(values.keys() - known)]
    problems += [f"{name} is missing" for name in required if name not in values]
    for name, expected in _TYPES.items():
        # bool is an int to isinstance, and `seed: true` is surely a mistake.
        if name in values and type(values[name]) is not expected:
            kind = type(values[name]).__name__
            problems.append(f"{name} is of type {kind}, expected {expected.__name__}")
    if problems:
        return problems
    for name in (values["node"], *values.get("spares", ())):
        if name not in values["addresses"]:
            problems.append(f"addresses has no address of {name!r}")
    for name, address in values["addresses"].items():
        if not isinstance(address, str) or not address.rpartition(":")[2].isdigit():
            problems.append(f"addresses.{name} is {address!r}, expected host:port")
    if values.get("sync", SYNC_ALWAYS) not in (SYNC_ALWAYS, SYNC_OFF):
        problems.append(f"sync is {values['sync']!r}, expected {SYNC_ALWAYS!r} or {SYNC_OFF!r}")
    if not values["secret"]:
        problems.append("secret is empty")
    if ":" not in values["backend"]:
        problems.append(f"backend is {values['backend']!r}, expected package.module:attribute")
    return problems


def ready_line(node: str, address: str) -> str:
    """Return what a node prints, line end included, once it serves at ``address``."""
    return f"{_READY} {node} {address}\n"


def parse_ready_line(line: str) -> tuple[str, str] | None:
    """Return the node and the address of a readiness line; None when it is something else."""
    words = line.split()
    return (words[1], words[2]) if len(words) == 3 and words[0] == _READY else None
