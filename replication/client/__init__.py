"""What a client does: which node it asks, when it asks again, and what it knows at the end.

- ``session`` decides the next of its ``steps`` (pure). One ``Session`` is one client: a single
  thread of operations. The load driver performs it on real nodes and the simulation in virtual
  time, so both sides of a comparison and both ways of running it share one retry policy.
- ``suspicion`` is what it knows of silent nodes, ``updates`` what it writes having read (pure).
- ``command`` decides whom an operator's command goes to (pure).
- ``reading_back`` says who reads which key when all is healed (pure).
- ``requests`` builds the protobuf request of a planned operation and reads a response back into
  the history (pure).
- ``grpc_client`` performs attempts over gRPC, by unary calls or on one ``Pipeline`` stream a node.

The package imports none of them here: the pure part must not bring gRPC with it.
"""

import os

# Nodes that go away are our daily bread: gRPC is not to report each of them on the terminal. It
# reads this once, when it is first imported.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
