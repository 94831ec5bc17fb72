"""``python -m replication.host CONFIG.json`` runs one node; see ``replication.host.config``."""

import sys

from replication.host.config import EXIT_CONFIG
from replication.host.main import run_and_exit

if len(sys.argv) != 2:
    print("usage: python -m replication.host CONFIG.json", file=sys.stderr)
    sys.exit(EXIT_CONFIG)
run_and_exit(sys.argv[1])
